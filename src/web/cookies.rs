//! Owns the names of the gateway's cookies, and how they are set and read. Does not know sign-ins.

use actix_web::{
    HttpRequest,
    cookie::{Cookie, SameSite},
    http::header::COOKIE,
};

use super::{client, secret, state::Settings};

/// A cookie's name over plain HTTP, and its name over TLS: with the prefix that neither another host of the same site
/// nor anybody who alters plain HTTP traffic can set (RFC 6265bis §4.1.3.2).
pub type Name = (&'static str, &'static str);

/// The cookie of a signed-in browser.
pub const SESSION: Name = ("pulsegate", "__Host-pulsegate");

/// The cookie of a browser that is signing in with a provider.
pub const OIDC: Name = ("pulsegate-oidc", "__Host-pulsegate-oidc");

/// Whether cookies are restricted to TLS: the browser speaks it, or reaches the gateway by it.
fn is_secure(request: &HttpRequest, settings: &Settings) -> bool {
    let told = settings.public_url.as_ref().is_some_and(|url| url.starts_with("https://"));
    told || client::is_https(request, settings)
}

/// Returns the cookie's name for this browser. A cookie under its other name is ignored.
pub fn name(request: &HttpRequest, settings: &Settings, (plain, secure): Name) -> &'static str {
    if is_secure(request, settings) { secure } else { plain }
}

/// Makes a cookie that scripts cannot read and that is not sent with requests from other sites.
pub fn make(request: &HttpRequest, settings: &Settings, of: Name, value: String) -> Cookie<'static> {
    Cookie::build(name(request, settings, of), value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(is_secure(request, settings))
        .finish()
}

/// Returns the secret in the request's cookie, if it could be one of ours. The header is read as it was sent: a name
/// spelled otherwise (`%5f_Host-`, a space that only Unicode knows) is a different name to a browser, which does not
/// enforce the prefix on it.
pub fn read<'a>(request: &'a HttpRequest, settings: &Settings, of: Name) -> Option<&'a str> {
    let name = name(request, settings, of);
    let lines = request.headers().get_all(COOKIE).filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
    let pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='));
    pairs.filter(|(named, _)| *named == name).map(|(_, value)| value).next().filter(|value| secret::is_one(value))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::web::fixture::settings;

    const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn request(headers: &[(&'static str, String)]) -> HttpRequest {
        let request = TestRequest::default().peer_addr("10.0.0.1:1".parse().unwrap());
        headers.iter().fold(request, |request, header| request.append_header(header.clone())).to_http_request()
    }

    fn secure() -> [(Settings, HttpRequest); 3] {
        let public_url = Some("https://gw.example".to_owned());
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        [
            (Settings { tls: true, ..settings() }, request(&[])),
            (Settings { public_url, ..settings() }, request(&[])),
            (Settings { trusted_proxies, ..settings() }, request(&[("x-forwarded-proto", "https".to_owned())])),
        ]
    }

    #[test]
    fn where_the_browser_speaks_tls_a_cookie_is_its_hosts_own() {
        for (settings, request) in secure() {
            let made = make(&request, &settings, SESSION, SECRET.to_owned()).to_string();
            assert_eq!(made, format!("__Host-pulsegate={SECRET}; HttpOnly; SameSite=Strict; Secure; Path=/"));
        }
        let public_url = Some("http://gw.example".to_owned());
        let settings = Settings { public_url, ..settings() };
        let made = make(&request(&[]), &settings, SESSION, SECRET.to_owned()).to_string();
        assert_eq!(made, format!("pulsegate={SECRET}; HttpOnly; SameSite=Strict; Path=/"));
    }

    #[test]
    fn a_cookie_that_another_host_could_have_set_is_nobodys() {
        let settings = Settings { tls: true, ..settings() };
        let is_read = |settings: &Settings, line: String| {
            read(&request(&[("cookie", line)]), settings, SESSION).map(|secret| secret == SECRET)
        };
        let told = |name: &str| is_read(&settings, format!("a=b;\t{name}={SECRET}; {name}=x"));
        assert_eq!(told("__Host-pulsegate"), Some(true), "the first counts");
        for other in [
            "pulsegate",
            "__host-pulsegate",
            "%5F_Host-pulsegate",
            "__Host-pulsegate%20",
            "\u{2003}__Host-pulsegate",
            "\u{85}__Host-pulsegate",
            "__Host-pulsegate ",
        ] {
            assert_eq!(told(other), None, "{other:?}");
        }
        assert_eq!(is_read(&settings, "__Host-pulsegate=short".to_owned()), None);
        let plain = super::super::fixture::settings();
        assert_eq!(is_read(&plain, format!("pulsegate={SECRET}")), Some(true));
        assert_eq!(is_read(&plain, format!("__Host-pulsegate={SECRET}")), None);
        let two = request(&[("cookie", "a=b".to_owned()), ("cookie", format!("pulsegate={SECRET}"))]);
        assert!(read(&two, &plain, SESSION).is_some());
    }
}
