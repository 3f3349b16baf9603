//! `/api/v1/login/oidc`: signing in with an OpenID Connect provider. `under_way` holds the state of pending sign-ins,
//! `admission` decides who is admitted.
//!
//! The page starts a sign-in and goes to the address it receives; the provider sends the browser back to `/oidc`, which
//! is the page again, and the page sends the parameters it came back with. So every request that needs a cookie is the
//! page's own: both cookies are `SameSite=Strict`, and no response of this gateway redirects anywhere.

use std::{net::IpAddr, time::Duration};

use actix_web::{HttpRequest, HttpResponse, Responder, cookie::time, http::header::ORIGIN, web};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::{
    client, cookies,
    error::Problem,
    login::{self, Proven, Vouched},
    object::Body,
    origin, secret,
    state::{Oidc, State},
    throttle::Throttle,
};
use crate::core::{
    audit::{ANONYMOUS, Action, Deed},
    people::{How, User, provider_session, stamp},
};

/// The users of the provider who are admitted.
mod admission;
/// The address at which users sign out at the provider.
mod end_session;
/// Ends the sign-ins that the provider reports as ended.
mod logout;
/// The reasons why a sign-in fails.
mod refusal;
/// Pending sign-ins.
mod under_way;

pub use end_session::end_session;
pub use logout::logout;
use refusal::Refusal;
pub use under_way::UnderWay;

/// How long a user may take at the provider.
const SIGN_IN_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The path the provider sends browsers back to: the page.
pub const PATH: &str = "/oidc";

/// `GET /api/v1/login`: the ways to sign in besides passwords and tokens.
pub async fn ways(state: web::Data<State>) -> impl Responder {
    let provider = state.settings.oidc.as_ref().map(|oidc| json!({ "name": oidc.name }));
    web::Json(json!({ "provider": provider }))
}

/// `POST /api/v1/login/oidc`: begins a sign-in, 200 with the address for the browser to open.
pub async fn begin(request: HttpRequest) -> Result<HttpResponse, Problem> {
    origin::check_if_told(&request)?;
    let state = State::of(&request)?;
    let oidc = configured(state)?;
    let redirect = way_back(&request, state, oidc)?;
    let (now, address) = (state.now(), client::client_ip(&request, &state.settings));
    one_more(&state.under_way.begun, now, address, "were begun")?;
    let endpoints = match oidc.provider.endpoints(now).await {
        Ok(endpoints) => endpoints,
        Err(failure) => return Err(refuse(&request, state, oidc, Refusal::Failed(failure))),
    };
    // A browser that is already signing in keeps its cookie, so that it can do so in two tabs.
    let browser = browser(&request, state).map_or_else(secret::fresh, str::to_owned);
    let begun = under_way::begin((state.settings.utc)(), rand::random(), &browser, redirect);
    let (secret, flow) = begun.ok_or_else(Problem::internal)?;
    let url = flow.address(oidc.provider.client(), &endpoints, &secret);
    let mut cookie = cookies::make(&request, &state.settings, cookies::OIDC, browser);
    cookie.set_max_age(time::Duration::new(SIGN_IN_LIFETIME.as_secs().try_into().unwrap_or(0), 0));
    Ok(HttpResponse::Ok().cookie(cookie).json(json!({ "url": url })))
}

/// The parameters the browser came back with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Returned {
    state: String,
    code: Option<SecretString>,
    iss: Option<String>,
    error: Option<String>,
}

/// `POST /api/v1/login/oidc/finish`: signs in the user whom the provider names, 204.
pub async fn finish(request: HttpRequest, body: Body<Returned>) -> Result<HttpResponse, Problem> {
    origin::check_if_told(&request)?;
    let state = State::of(&request)?;
    let oidc = configured(state)?;
    let returned = (way_back(&request, state, oidc)?, body.into_inner());
    let (now, address) = (state.now(), client::client_ip(&request, &state.settings));
    if let Some(wait) = state.throttle.wait(now, &address) {
        return Err(login::too_many_passwords(wait));
    }
    // Every outcome is audited, and anybody can forge a cookie with a matching state.
    one_more(&state.under_way.returned, now, address, "came back")?;
    let (user, session) = match who(&request, state, oidc, returned).await {
        Ok(found) => found,
        Err(refusal) => return Err(refuse(&request, state, oidc, refusal)),
    };
    state.gateway.people().saw_user(&user.name);
    let proven = Proven {
        user: user.name.as_str().into(),
        stamp: stamp(&user.password_hash),
        how: How::Oidc,
        told: format!("with {} (oidc)", oidc.name),
        token: None,
        provider: Some(Vouched {
            session: session.map(|session| provider_session(&oidc.provider.client().issuer, &session)),
            asked: now,
        }),
    };
    let cookie = login::sign_in(&request, proven).await?;
    Ok(HttpResponse::NoContent().cookie(cookie).finish())
}

/// Counts one more sign-in of an address; 429 if there are too many.
fn one_more(of: &Throttle<IpAddr>, now: Duration, address: IpAddr, what: &str) -> Result<(), Problem> {
    if let Some(wait) = of.wait(now, &address) {
        let detail = format!("Too many sign-ins {what} from your address. Try again in a minute.");
        return Err(Problem::too_many(detail, wait.as_secs() + 1));
    }
    of.note(now, &address);
    Ok(())
}

/// Returns the user whom the provider signs in, and its own name for that sign-in, from the parameters that came back
/// to `redirect`.
async fn who(
    request: &HttpRequest,
    state: &State,
    oidc: &Oidc,
    (redirect, returned): (String, Returned),
) -> Result<(User, Option<String>), Refusal> {
    let now = state.now();
    let flow = state.under_way.take(state.times(), &returned.state, browser(request, state), redirect);
    let flow = flow.ok_or(Refusal::NotUnderWay)?;
    let issuer = &oidc.provider.client().issuer;
    if returned.iss.as_ref().is_some_and(|named| named != issuer) {
        return Err(Refusal::Another);
    }
    if let Some(error) = returned.error {
        return Err(Refusal::ProviderError(error));
    }
    let endpoints = oidc.provider.endpoints(now).await.map_err(Refusal::Failed)?;
    if endpoints.names_itself && returned.iss.is_none() {
        return Err(Refusal::Another);
    }
    let code = returned.code.ok_or(Refusal::NotUnderWay)?;
    let times = (now, (state.settings.utc)());
    let told = oidc.provider.told(times, &flow, &code, &oidc.rules).await.map_err(Refusal::Failed)?;
    let user = admission::admit(request, state, oidc, &told).await?;
    Ok((user, told.session().map(str::to_owned)))
}

/// Audits a failed sign-in, counts it if it may have been a guess, and returns the answer to the user.
fn refuse(request: &HttpRequest, state: &State, oidc: &Oidc, refusal: Refusal) -> Problem {
    let address = client::client_ip(request, &state.settings);
    if refusal.counts() {
        state.throttle.note(state.now(), &address);
    }
    let detail = format!("With {} (oidc): {}", oidc.name, refusal.for_the_log());
    let deed = Deed::refused(Action::SignIn, ANONYMOUS, address, refusal.user(), &detail);
    state.gateway.audit().note(deed);
    refusal.problem(&oidc.name)
}

fn configured(state: &State) -> Result<&Oidc, Problem> {
    let none = || Problem::not_found("This gateway signs nobody in with a provider. Use a name and a password.");
    state.settings.oidc.as_ref().ok_or_else(none)
}

/// Returns the address the browser comes back to.
fn way_back(request: &HttpRequest, state: &State, oidc: &Oidc) -> Result<String, Problem> {
    Ok(format!("{}{PATH}", home(request, state, oidc)?))
}

/// Returns the address under which the browser reaches the gateway.
fn home(request: &HttpRequest, state: &State, oidc: &Oidc) -> Result<String, Problem> {
    let Some(url) = &state.settings.public_url else { return origin::own(request) };
    let page = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok());
    // The browser would come back to a page without its cookie.
    if page.is_some_and(|page| page != url) {
        return Err(Problem::conflict(format!("To sign in with {}, open {url} first.", oidc.name)));
    }
    Ok(url.clone())
}

/// Returns the value of the cookie that binds a browser to its sign-ins.
fn browser<'a>(request: &'a HttpRequest, state: &State) -> Option<&'a str> {
    cookies::read(request, &state.settings, cookies::OIDC)
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, cookie::Cookie, test::TestRequest};

    use super::*;
    use crate::{
        core::{
            oidc::{Rules, provider::Client, token::IdToken},
            people::Role,
        },
        notify::provider::Provider,
        store::{audit::AuditQuery, sign_ins::Leaving},
        web::fixture::{settings, state_with},
        web::state::Settings,
    };

    fn oidc() -> Oidc {
        let client = Client {
            issuer: "https://id.example".to_owned(),
            id: "gw".to_owned(),
            secret: "s".into(),
            scopes: vec!["openid".to_owned()],
        };
        let rules = Rules {
            user_claim: None,
            groups_claim: "groups".to_owned(),
            roles: vec![("ops".to_owned(), Role::User)],
            default_role: None,
        };
        let provider = Provider::new(client, settings().clock);
        Oidc { name: "Example ID".to_owned(), provider, rules, sign_out_at_provider: false }
    }

    fn known_as(url: &str) -> Settings {
        Settings { allowed_origins: vec![url.to_owned()], public_url: Some(url.to_owned()), ..settings() }
    }

    fn told(subject: &str, name: &str) -> IdToken {
        let claims = json!({ "preferred_username": name, "groups": ["ops"] });
        IdToken { subject: subject.to_owned(), claims: claims.as_object().cloned().unwrap_or_default() }
    }

    #[actix_rt::test]
    async fn nobody_is_taken_over_by_the_name_that_a_provider_gives() {
        let (state, oidc) = (state_with(settings()), oidc());
        let request = TestRequest::default().app_data(state.clone()).to_http_request();
        let outcome = admission::admit(&request, &state, &oidc, &told("1", "Viewer")).await;
        assert!(matches!(&outcome, Err(Refusal::Taken { user }) if user == "viewer"), "{outcome:?}");
        let nobody = IdToken { claims: crate::core::oidc::Claims::new(), ..told("1", "") };
        let outcome = admission::admit(&request, &state, &oidc, &nobody).await;
        assert!(matches!(&outcome, Err(Refusal::InNoGroup { user }) if user.is_empty()), "{outcome:?}");
    }

    #[actix_rt::test]
    async fn an_answer_that_names_another_provider_signs_nobody_in() {
        let (state, oidc) = (state_with(settings()), oidc());
        let request = TestRequest::default().app_data(state.clone());
        let cookie = secret::fresh();
        let request =
            request.insert_header(("host", "localhost:8022")).cookie(Cookie::new(cookies::OIDC.0, cookie.clone()));
        let request = request.to_http_request();
        let comes_back = async |iss: Option<&str>| {
            let now = (state.settings.utc)();
            let (returned, _) = under_way::begin(now, rand::random(), &cookie, String::new()).unwrap();
            let error = Some("access_denied".to_owned());
            let returned = Returned { state: returned, code: None, iss: iss.map(str::to_owned), error };
            who(&request, &state, &oidc, (String::new(), returned)).await
        };
        assert!(matches!(comes_back(Some("https://another.example")).await, Err(Refusal::Another)));
        assert!(matches!(comes_back(Some("https://id.example")).await, Err(Refusal::ProviderError(_))));
        assert!(matches!(comes_back(None).await, Err(Refusal::ProviderError(_))));
    }

    #[actix_rt::test]
    async fn who_makes_up_their_own_way_back_does_not_fill_the_audit_log() {
        let state = state_with(Settings { oidc: Some(oidc()), ..known_as("https://gw.example") });
        let comes_back = async |origin: &str| {
            let cookie = secret::fresh();
            let (begun, _) = under_way::begin((state.settings.utc)(), rand::random(), &cookie, String::new()).unwrap();
            let request = TestRequest::default().app_data(state.clone()).insert_header(("host", "localhost:8022"));
            let request = request.insert_header(("origin", origin)).cookie(Cookie::new(cookies::OIDC.1, cookie));
            let returned = Returned { state: begun, code: None, iss: None, error: Some("x".to_owned()) };
            let finished = finish(request.to_http_request(), Body(returned)).await;
            finished.map_or_else(|problem| problem.status_code().as_u16(), |answer| answer.status().as_u16())
        };
        for _ in 0..100 {
            assert_eq!(comes_back("http://localhost:8022").await, 409, "not where the gateway is known");
        }
        for _ in 0..60 {
            assert_eq!(comes_back("https://gw.example").await, 401);
        }
        assert_eq!(comes_back("https://gw.example").await, 429);
        // Written after all entries queued before it.
        let audit = state.gateway.audit();
        audit.record(Deed::of_gateway(Action::StoreSweep, "", "Told by a test.")).await.unwrap();
        let entries = audit.list(AuditQuery { limit: 500, ..AuditQuery::default() }).await.unwrap().entries;
        assert_eq!(entries.iter().filter(|entry| entry.deed.action == Action::SignIn).count(), 60);
    }

    #[actix_rt::test]
    async fn a_browser_comes_back_to_where_the_gateway_is_known_and_nowhere_else() {
        let home = |settings: Settings, origin: &'static str| {
            let state = state_with(settings);
            let request = TestRequest::default().app_data(state.clone()).insert_header(("host", "localhost:8022"));
            let request = request.insert_header(("origin", origin)).to_http_request();
            home(&request, &state, &oidc()).map_err(|problem| problem.status_code().as_u16())
        };
        let known = || known_as("https://gw.example");
        assert_eq!(home(settings(), "http://localhost:8022"), Ok("http://localhost:8022".to_owned()));
        assert_eq!(home(known(), "https://gw.example"), Ok("https://gw.example".to_owned()));
        assert_eq!(home(known(), "http://localhost:8022"), Err(409));
    }

    #[actix_rt::test]
    async fn a_sign_in_that_ended_at_the_provider_while_it_was_made_is_none() {
        let state = state_with(settings());
        let [ended, other] = ["s1", "s2"].map(|name| provider_session("https://id.example", name));
        state.sign_ins().sign_out_all(state.times(), Leaving::Session(ended.clone())).await.unwrap();
        let request = TestRequest::default().app_data(state.clone()).to_http_request();
        let makes = async |session: &String, asked| {
            let (user, stamp) = ("viewer", state.stamp(&state.gateway.people().directory(), "viewer").unwrap());
            let (told, provider) =
                ("with a provider".to_owned(), Some(Vouched { session: Some(session.clone()), asked }));
            let proven = Proven { user: user.into(), stamp, how: How::Oidc, told, token: None, provider };
            login::sign_in(&request, proven).await.map(drop).map_err(|problem| problem.status_code().as_u16())
        };
        let now = state.now();
        assert_eq!(makes(&ended, now).await, Err(401));
        assert_eq!(makes(&other, now).await, Ok(()));
        let (user, until) = ("viewer".to_owned(), state.times().utc);
        let all = Leaving::ByProvider { user, session: None, until };
        state.sign_ins().sign_out_all(state.times(), all).await.unwrap();
        assert_eq!(makes(&other, now).await, Err(401));
        assert_eq!(makes(&other, now + Duration::from_secs(1)).await, Ok(()), "they signed in anew");
    }
}
