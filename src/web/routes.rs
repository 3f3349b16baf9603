//! The route table: every path the gateway answers, its method and its access. A path that is not listed here does not
//! exist; all others are left to the UI's files.

use actix_web::{
    Resource, Route,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderValue},
    middleware::{Next, from_fn},
    web::{self, ServiceConfig},
};

use super::{
    account, actors, assets, audit,
    auth::{self, Proof},
    devices, docs,
    error::Problem,
    events, gateway_key, headers, health, host_keys, login, metrics, nodes, oidc, origin, recording, second_factor,
    sessions, setup, stores, targets, terminal, tokens, trials, users, webhooks,
};
use crate::core::people::Right;

/// The largest body: an open with a long password is far smaller.
const BODY_BYTES: usize = 64 * 1024;

/// The callers that a route admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everyone, under any host name: load balancers ask by address.
    Probe,
    /// Everyone.
    Anyone,
    /// Signed-in users, even without the second factor that their role requires.
    Enrolling,
    /// Signed-in users; the handler decides what they see.
    SignedIn,
    /// Callers with this right.
    With(Right),
}

/// One line of the table. Lines with the same path are adjacent and share their access. A query is refused unless the
/// handler reads it, or whoever asks adds one of their own: load balancers to a probe, a provider to the page.
pub(super) struct Line {
    pub(super) access: Access,
    pub(super) method: Method,
    pub(super) path: &'static str,
    route: Route,
}

pub(super) fn table() -> Vec<Line> {
    use Access::{Anyone, Enrolling, Probe, SignedIn, With};
    let queried = |access, method, path, route| Line { access, method, path, route };
    let line = |access, method, path, route: Route| queried(access, method, path, route.wrap(from_fn(refuse_query)));
    vec![
        queried(Probe, Method::GET, "/healthz", web::to(health::alive)),
        queried(Probe, Method::HEAD, "/healthz", web::to(health::alive)),
        queried(Probe, Method::GET, "/readyz", web::to(health::ready)),
        queried(Probe, Method::HEAD, "/readyz", web::to(health::ready)),
        queried(Anyone, Method::GET, "/login", web::to(login::link)),
        queried(Anyone, Method::GET, oidc::PATH, web::to(assets::index)),
        line(Anyone, Method::GET, "/api/v1/login", web::to(oidc::ways)),
        line(Anyone, Method::POST, "/api/v1/login", web::to(login::login)),
        line(Anyone, Method::POST, "/api/v1/login/oidc", web::to(oidc::begin)),
        line(Anyone, Method::POST, "/api/v1/login/oidc/finish", web::to(oidc::finish)),
        line(Anyone, Method::POST, "/api/v1/setup", web::to(setup::setup)),
        line(Enrolling, Method::POST, "/api/v1/logout", web::to(login::logout)),
        line(Anyone, Method::POST, "/api/v1/logout/oidc", web::to(oidc::logout)),
        line(Enrolling, Method::GET, "/api/v1/me", web::to(account::me)),
        line(Enrolling, Method::POST, "/api/v1/me/totp", web::to(second_factor::begin)),
        line(Enrolling, Method::DELETE, "/api/v1/me/totp", web::to(second_factor::remove)),
        line(Enrolling, Method::POST, "/api/v1/me/totp/confirm", web::to(second_factor::confirm)),
        line(SignedIn, Method::POST, "/api/v1/me/password", web::to(account::password)),
        queried(SignedIn, Method::GET, "/api/v1/tokens", web::to(tokens::list)),
        line(SignedIn, Method::POST, "/api/v1/tokens", web::to(tokens::create)),
        line(SignedIn, Method::DELETE, "/api/v1/tokens/{id}", web::to(tokens::remove)),
        line(SignedIn, Method::GET, "/api/v1/devices", web::to(devices::list)),
        line(SignedIn, Method::DELETE, "/api/v1/devices", web::to(devices::remove_all)),
        line(SignedIn, Method::DELETE, "/api/v1/devices/{id}", web::to(devices::remove)),
        line(With(Right::Manage), Method::GET, "/api/v1/users", web::to(users::list)),
        line(With(Right::Manage), Method::POST, "/api/v1/users", web::to(users::create)),
        line(With(Right::Manage), Method::PATCH, "/api/v1/users/{name}", web::to(users::change)),
        line(With(Right::Manage), Method::DELETE, "/api/v1/users/{name}", web::to(users::remove)),
        line(With(Right::Manage), Method::POST, "/api/v1/users/{name}/link", web::to(setup::link)),
        queried(SignedIn, Method::GET, "/api/v1/sessions", web::to(sessions::list)),
        line(SignedIn, Method::POST, "/api/v1/sessions", web::to(sessions::create)),
        line(SignedIn, Method::GET, "/api/v1/sessions/{id}", web::to(sessions::get)),
        line(SignedIn, Method::DELETE, "/api/v1/sessions/{id}", web::to(sessions::delete)),
        line(SignedIn, Method::GET, "/api/v1/sessions/{id}/why", web::to(sessions::why)),
        line(SignedIn, Method::GET, "/api/v1/sessions/{id}/terminal", web::to(terminal::terminal)),
        line(SignedIn, Method::GET, "/api/v1/sessions/{id}/recording", web::to(recording::recording)),
        line(SignedIn, Method::HEAD, "/api/v1/sessions/{id}/recording", web::to(recording::recording)),
        line(SignedIn, Method::GET, "/api/v1/events", web::to(events::events)),
        line(SignedIn, Method::GET, "/api/v1/targets", web::to(targets::targets)),
        line(SignedIn, Method::POST, "/api/v1/targets", web::to(targets::create)),
        line(With(Right::Manage), Method::PATCH, "/api/v1/targets/{name}", web::to(targets::change)),
        line(With(Right::Manage), Method::DELETE, "/api/v1/targets/{name}", web::to(targets::remove)),
        line(SignedIn, Method::POST, "/api/v1/targets/{name}/test", web::to(trials::test)),
        line(With(Right::Manage), Method::GET, "/api/v1/gateway-key", web::to(gateway_key::gateway_key)),
        line(With(Right::Observe), Method::GET, "/api/v1/actors", web::to(actors::actors)),
        line(SignedIn, Method::GET, "/api/v1/nodes", web::to(nodes::nodes)),
        line(With(Right::Observe), Method::GET, "/api/v1/stores", web::to(stores::stores)),
        line(With(Right::Terminate), Method::POST, "/api/v1/stores/sweep", web::to(stores::sweep)),
        queried(With(Right::Observe), Method::GET, "/api/v1/host-keys", web::to(host_keys::list)),
        line(With(Right::Trust), Method::DELETE, "/api/v1/host-keys/{id}", web::to(host_keys::forget)),
        line(With(Right::Trust), Method::DELETE, "/api/v1/host-keys/waiting/{id}", web::to(host_keys::dismiss)),
        line(With(Right::Trust), Method::POST, "/api/v1/host-keys/waiting/{id}/accept", web::to(host_keys::accept)),
        queried(With(Right::Audit), Method::GET, "/api/v1/audit", web::to(audit::audit)),
        line(With(Right::Audit), Method::GET, "/api/v1/webhooks", web::to(webhooks::webhooks)),
        line(With(Right::Observe), Method::GET, "/metrics", web::to(metrics::metrics)),
        line(With(Right::Observe), Method::HEAD, "/metrics", web::to(metrics::metrics)),
        line(SignedIn, Method::GET, "/api/openapi.json", web::to(docs::document)),
        line(SignedIn, Method::GET, "/api/docs", web::to(docs::page)),
    ]
}

/// Adds every route to an app that holds a [`State`](super::state::State) in [`web::Data`]. The last one answers what
/// asks for no path, as `OPTIONS *` does.
pub fn configure(cfg: &mut ServiceConfig) {
    let (probes, rest): (Vec<_>, Vec<_>) = table().into_iter().partition(|line| line.access == Access::Probe);
    let rest = web::scope("")
        .wrap(from_fn(origin::refuse_unknown_hosts))
        .configure(|cfg| add(cfg, rest))
        .service(web::scope("/api").wrap(from_fn(signed_in)).default_service(web::to(no_such_route)))
        .default_service(web::to(assets::serve));
    let all = web::scope("").wrap(from_fn(headers::secure)).configure(|cfg| add(cfg, probes)).service(rest);
    cfg.app_data(web::JsonConfig::default().limit(BODY_BYTES).error_handler(Problem::from_json))
        .app_data(web::FormConfig::default().limit(BODY_BYTES).error_handler(Problem::from_form))
        .service(all)
        .default_service(web::to(no_such_route).wrap(from_fn(headers::secure)));
}

/// Refuses a query, which would be passed over: who asks for a part of a list must not take the whole for it. A
/// middleware.
async fn refuse_query(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if request.query_string().is_empty() {
        return next.call(request).await;
    }
    Ok(request.error_response(Problem::bad_request("This route takes no query.")))
}

async fn no_such_route() -> Result<String, Problem> {
    Err(Problem::not_found("There is no such route."))
}

/// Adds one resource per path; a method that is not among its lines is a 405.
fn add(cfg: &mut ServiceConfig, lines: Vec<Line>) {
    let mut lines = lines.into_iter().peekable();
    while let Some(Line { access, method, path, route }) = lines.next() {
        let mut methods = vec![method.to_string()];
        let mut resource = web::resource(path).route(route.method(method));
        while let Some(line) = lines.next_if(|line| line.path == path) {
            methods.push(line.method.to_string());
            resource = resource.route(line.route.method(line.method));
        }
        add_resource(cfg, access, with_405(resource, &methods));
    }
}

fn with_405(resource: Resource, methods: &[String]) -> Resource {
    let allow = HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static(""));
    resource.default_service(web::to(move || {
        let allow = allow.clone();
        async { Err::<String, _>(Problem::method_not_allowed(allow)) }
    }))
}

fn add_resource(cfg: &mut ServiceConfig, access: Access, resource: Resource) {
    match access {
        Access::Enrolling => guarded(cfg, Proof::Begun, None, resource),
        Access::SignedIn => guarded(cfg, Proof::Whole, None, resource),
        Access::With(right) => guarded(cfg, Proof::Whole, Some(right), resource),
        Access::Probe | Access::Anyone => {
            cfg.service(resource);
        }
    }
}

fn guarded(cfg: &mut ServiceConfig, proof: Proof, right: Option<Right>, resource: Resource) {
    let guard = move |request: ServiceRequest, next: Next<BoxBody>| auth::guard(proof, right, request, next);
    cfg.service(resource.wrap(from_fn(guard)));
}

async fn signed_in(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    auth::guard(Proof::Whole, None, request, next).await
}

#[cfg(test)]
mod tests;
