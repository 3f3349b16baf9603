//! Decides which origins may talk to the gateway, and under which names it answers. Does not know users.

use actix_web::{
    Error, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        header::{HOST, HeaderName, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
};

use super::{
    client,
    error::Problem,
    foreign,
    state::{Settings, State},
};
use crate::core::audit::ANONYMOUS;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that comes neither from a page of our own origin nor from an allowed one, regardless of the
/// caller. A foreign, `null` or missing Origin is a 403, which is audited as refused to `who`; the comparison is exact:
/// scheme, host and port.
pub fn check(request: &HttpRequest, who: &str) -> Result<(), Problem> {
    let told = single(request, &ORIGIN)?;
    match told {
        Some(origin) if is_ours(request, origin)? => Ok(()),
        Some(_) | None => {
            foreign::note(request, who, told)?;
            Err(refused())
        }
    }
}

/// Refuses a change that a foreign page could have sent with the cookie of `who`. A browser that sends no Origin must
/// at least declare the page as ours (Fetch Metadata, `Sec-Fetch-Site`).
pub fn check_change(request: &HttpRequest, who: &str) -> Result<(), Problem> {
    let vouched = single(request, &SEC_FETCH_SITE)? == Some("same-origin");
    match single(request, &ORIGIN)? {
        None if vouched => Ok(()),
        Some(_) | None => check(request, who),
    }
}

/// Refuses requests from a foreign page; a program, which sends no Origin, passes.
pub fn check_if_told(request: &HttpRequest) -> Result<(), Problem> {
    if request.headers().contains_key(ORIGIN) { check(request, ANONYMOUS) } else { Ok(()) }
}

/// Returns the origin under which the browser reached the gateway. At the name of an https public URL it speaks TLS,
/// even if the proxy in front does not say so.
pub fn own(request: &HttpRequest) -> Result<String, Problem> {
    let (settings, authority) = (&State::of(request)?.settings, authority(request)?);
    let public = settings.public_url.as_deref().filter(|url| url.starts_with("https://"));
    let by_tls = public.is_some_and(|url| is_at(url, host_of(&authority))) || client::is_https(request, settings);
    let scheme = if by_tls { "https" } else { "http" };
    Ok(format!("{scheme}://{authority}").to_ascii_lowercase())
}

/// Answers only under our own names, so that a page cannot reach the gateway through a name of its own that it resolves
/// to this address (DNS rebinding). A middleware.
pub async fn refuse_unknown_hosts(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match check_host(request.request()) {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_left_body),
        Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
    }
}

fn check_host(request: &HttpRequest) -> Result<(), Problem> {
    let settings = &State::of(request)?.settings;
    let authority = authority(request)?;
    if is_our_name(host_of(&authority), settings) {
        return Ok(());
    }
    Err(Problem::forbidden(
        "The gateway does not answer under this host name. Its operator can allow it in server.allowed_origins.",
    ))
}

fn is_our_name(host: &str, settings: &Settings) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if settings.allowed_origins.iter().any(|origin| is_at(origin, host)) {
        return true;
    }
    // For what runs on this machine, whatever name the others use.
    if settings.listen.is_loopback() {
        return ["localhost", "127.0.0.1", "::1"].iter().any(|name| name.eq_ignore_ascii_case(bare));
    }
    // No name of this gateway is configured.
    settings.allowed_origins.is_empty() || bare.parse() == Ok(settings.listen)
}

/// Whether an origin is at this host, on whatever port.
fn is_at(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").and_then(|(_, authority)| authority.parse::<Authority>().ok());
    authority.is_some_and(|authority| host_of(&authority).eq_ignore_ascii_case(host))
}

fn is_ours(request: &HttpRequest, origin: &str) -> Result<bool, Problem> {
    let settings = &State::of(request)?.settings;
    Ok(origin == own(request)? || settings.allowed_origins.iter().any(|allowed| allowed == origin))
}

/// Returns the name and port the request was sent to. HTTP/2 sends it in the URI, HTTP/1.1 in `Host`; if both are
/// present they must agree.
fn authority(request: &HttpRequest) -> Result<Authority, Problem> {
    let host = single(request, &HOST)?.map(str::parse::<Authority>).transpose();
    let host = host.map_err(|_| Problem::bad_request("The Host header is not a host name with an optional port."))?;
    let told = match (request.uri().authority(), host) {
        (Some(uri), Some(host)) if *uri != host => None,
        (Some(uri), Some(_) | None) => Some(uri.clone()),
        (None, host) => host,
    };
    let told = told.filter(|authority| !authority.as_str().contains('@'));
    told.ok_or_else(|| Problem::bad_request("The request must name one host."))
}

fn host_of(authority: &Authority) -> &str {
    authority.host().trim_end_matches('.')
}

/// Returns a header's only value; a repeated or unreadable one is a 400.
fn single<'a>(request: &'a HttpRequest, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(name);
    let wrong = || Problem::bad_request(format!("The header {name} must be there once, in ASCII."));
    let first = values.next().map(|value| value.to_str().map_err(|_| wrong())).transpose()?;
    if values.next().is_some() { Err(wrong()) } else { Ok(first) }
}

fn refused() -> Problem {
    Problem::forbidden("Only pages of this gateway, or of an origin in server.allowed_origins, may do this.")
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, test::TestRequest};

    use super::*;
    use crate::{
        core::audit::{Action, Deed, Entry, Outcome},
        store::audit::AuditQuery,
        web::fixture::{settings, state_with},
    };

    fn request(settings: Settings, headers: &[(&'static str, &'static str)]) -> HttpRequest {
        let request = TestRequest::default().app_data(state_with(settings));
        headers.iter().fold(request, |request, header| request.append_header(*header)).to_http_request()
    }

    fn public() -> Settings {
        Settings {
            listen: "192.0.2.1".parse().unwrap(),
            allowed_origins: vec!["https://gw.example".to_owned()],
            tls: true,
            ..settings()
        }
    }

    fn status(result: Result<(), Problem>) -> u16 {
        result.map_or_else(|problem| problem.status_code().as_u16(), |()| 200)
    }

    #[actix_rt::test]
    async fn an_origin_is_compared_exactly() {
        for (origin, expected) in [
            ("https://gw.example", 200),
            ("https://192.0.2.1:8022", 200),
            ("http://gw.example", 403),
            ("https://gw.example:8443", 403),
            ("https://gw.example.evil.com", 403),
            ("https://evilgw.example", 403),
            ("https://gw.example/", 403),
            ("http://192.0.2.1:8022", 403),
            ("https://192.0.2.1:80", 403),
            ("https://192.0.2.1", 403),
            ("null", 403),
            ("", 403),
        ] {
            let request = request(public(), &[("host", "192.0.2.1:8022"), ("origin", origin)]);
            assert_eq!(status(check(&request, "ada")), expected, "{origin}");
        }
    }

    #[actix_rt::test]
    async fn the_public_url_tells_its_scheme_where_the_proxy_does_not() {
        let behind = |url: &str| Settings {
            allowed_origins: vec![url.to_owned()],
            public_url: Some(url.to_owned()),
            ..settings()
        };
        for (url, host, origin, expected) in [
            ("https://gw.example", "gw.example", "https://gw.example", 200),
            ("https://gw.example", "gw.example", "http://gw.example", 403),
            ("https://gw.example", "GW.example.", "http://gw.example.", 403),
            ("https://gw.example", "gw.example:8022", "http://gw.example:8022", 403),
            ("https://gw.example", "127.0.0.1:8022", "http://127.0.0.1:8022", 200),
            ("http://gw.example", "gw.example", "http://gw.example", 200),
        ] {
            let request = request(behind(url), &[("host", host), ("origin", origin)]);
            assert_eq!(status(check(&request, "ada")), expected, "{url} {host} {origin}");
        }
    }

    #[actix_rt::test]
    async fn a_missing_or_repeated_origin_is_refused() {
        let host = ("host", "gw.example");
        assert_eq!(status(check(&request(public(), &[host]), "ada")), 403);
        let twice = [host, ("origin", "https://gw.example"), ("origin", "https://evil.example")];
        assert_eq!(status(check(&request(public(), &twice), "ada")), 400);
    }

    #[actix_rt::test]
    async fn a_change_without_origin_needs_the_browser_to_vouch() {
        let host = ("host", "gw.example");
        let check = |headers: &[_]| status(check_change(&request(public(), headers), "ada"));
        assert_eq!(check(&[host]), 403);
        for (site, expected) in [("same-origin", 200), ("same-site", 403), ("cross-site", 403), ("none", 403)] {
            assert_eq!(check(&[host, ("sec-fetch-site", site)]), expected, "{site}");
        }
        let liar = [host, ("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(check(&liar), 403);
    }

    #[actix_rt::test]
    async fn the_audit_log_hears_of_a_foreign_origin() {
        let state = state_with(public());
        let ask = |origin: Option<&'static str>| {
            let request = TestRequest::with_uri("/api/v1/sessions?secret=1").app_data(state.clone());
            let request = request.append_header(("host", "gw.example"));
            let headers = origin.map(|origin| ("origin", origin));
            headers.into_iter().fold(request, TestRequest::append_header).to_http_request()
        };
        assert_eq!(status(check(&ask(None), "ada")), 403);
        assert_eq!(status(check(&ask(Some("https://gw.example")), "bob")), 200);
        assert_eq!(status(check_if_told(&ask(Some("https://evil.example")))), 403);
        // Written after all entries queued before it.
        let audit = state.gateway.audit();
        audit.record(Deed::of_gateway(Action::StoreSweep, "", "Told by a test.")).await.unwrap();
        let entries = audit.list(AuditQuery { limit: 10, ..AuditQuery::default() }).await.unwrap().entries;
        let heard = |place: usize| {
            let Entry { deed, .. } = &entries[place];
            (deed.action, deed.outcome, deed.actor.as_str(), deed.subject.as_str(), deed.detail.as_str())
        };
        let (action, refused) = (Action::OriginRefused, Outcome::Refused);
        let detail = "GET /api/v1/sessions was refused to a page of another origin.";
        assert_eq!(heard(1), (action, refused, ANONYMOUS, "https://evil.example", detail));
        assert_eq!(heard(2), (action, refused, "ada", "no origin", detail));
        assert_eq!(entries.len(), 3, "what is ours is not told");
    }

    #[actix_rt::test]
    async fn a_loopback_listener_answers_under_loopback_names_only() {
        for (host, expected) in [
            ("localhost:8022", 200),
            ("LOCALHOST", 200),
            ("127.0.0.1:8022", 200),
            ("[::1]:8022", 200),
            ("evil.example:8022", 403),
            ("localhost.evil.example", 403),
            ("2130706433", 403),
            ("0x7f.1", 403),
            ("user@localhost", 400),
            ("local host", 400),
        ] {
            assert_eq!(status(check_host(&request(settings(), &[("host", host)]))), expected, "{host}");
        }
        assert_eq!(status(check_host(&request(settings(), &[]))), 400, "no host");
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(check_host(&request(settings(), &twice))), 400);
    }

    #[actix_rt::test]
    async fn a_loopback_listener_behind_a_proxy_answers_under_its_public_name_too() {
        let url = "https://gw.example".to_owned();
        let public = || Settings { allowed_origins: vec![url.clone()], public_url: Some(url.clone()), ..settings() };
        for (host, expected) in [("gw.example", 200), ("localhost:8022", 200), ("evil.example", 403)] {
            assert_eq!(status(check_host(&request(public(), &[("host", host)]))), expected, "{host}");
        }
    }

    #[actix_rt::test]
    async fn a_public_listener_answers_under_its_address_and_the_allowed_names() {
        for (host, expected) in
            [("gw.example", 200), ("192.0.2.1:8022", 200), ("localhost", 403), ("evil.example", 403)]
        {
            assert_eq!(status(check_host(&request(public(), &[("host", host)]))), expected, "{host}");
        }
        let unnamed = || Settings { allowed_origins: vec![], ..public() };
        assert_eq!(status(check_host(&request(unnamed(), &[("host", "whatever.example")]))), 200);
    }
}
