//! What a client must ask for to get a WebSocket, and the subprotocols that it may offer. Does not know sockets.

use actix_http::ws::{HandshakeError, verify_handshake};
use actix_web::{HttpRequest, http::header::SEC_WEBSOCKET_PROTOCOL};

use super::{error::Problem, protocol::SUBPROTOCOL};

/// Admits clients that ask for a WebSocket as RFC 6455 §4.2.1 says, and offer our subprotocol, or none at all, as
/// `curl` does.
///
/// # Errors
/// 426 to a client of another version; else 400, also to one that offers only other subprotocols: a browser would close
/// the socket without a word (§4.1).
pub fn check(request: &HttpRequest) -> Result<(), Problem> {
    verify_handshake(request.head()).map_err(|error| match error {
        HandshakeError::UnsupportedVersion => Problem::websocket_version(),
        HandshakeError::BadWebsocketKey => Problem::bad_request("Sec-WebSocket-Key must be 16 bytes in base64."),
        HandshakeError::GetMethodRequired
        | HandshakeError::NoWebsocketUpgrade
        | HandshakeError::NoConnectionUpgrade
        | HandshakeError::NoVersionHeader => {
            Problem::bad_request("This route is a WebSocket: the request must ask for the upgrade.")
        }
    })?;
    let lists = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut offered = lists.flat_map(|list| list.to_str().unwrap_or_default().split(',')).map(str::trim).peekable();
    if offered.peek().is_none() || offered.any(|name| name == SUBPROTOCOL) {
        return Ok(());
    }
    Err(Problem::bad_request(format!("This route speaks the subprotocol {SUBPROTOCOL}. Offer it, or none.")))
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, test::TestRequest};

    use super::*;

    /// The sample key of RFC 6455 §1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// Checks a request whose headers are these, in place of those of a browser.
    fn asks(instead: &[(&'static str, &'static str)]) -> Result<(), Problem> {
        let browser = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        let headers = browser.iter().chain(instead);
        let request = headers.fold(TestRequest::default(), |request, header| request.insert_header(*header));
        check(&request.to_http_request())
    }

    #[test]
    fn who_offers_other_subprotocols_only_is_told_ours() {
        let offers = |list| asks(&[("sec-websocket-protocol", list)]);
        assert_eq!(asks(&[]), Ok(()));
        for list in ["pulsegate.v1", "pulsegate.v2, pulsegate.v1"] {
            assert_eq!(offers(list), Ok(()), "{list}");
        }
        for list in ["", "pulsegate.v2", "mqtt, pulsegate.v10"] {
            assert!(offers(list).is_err_and(|problem| problem.detail().contains("pulsegate.v1")), "{list}");
        }
    }

    #[test]
    fn only_a_whole_request_of_version_13_is_upgraded() {
        for (name, value, status) in [
            ("sec-websocket-version", "8", 426),
            ("sec-websocket-version", "14", 426),
            ("sec-websocket-key", "", 400),
            ("sec-websocket-key", "abc", 400),
            ("upgrade", "h2c", 400),
            ("connection", "keep-alive", 400),
        ] {
            let refused = asks(&[(name, value)]).unwrap_err();
            assert_eq!(refused.status_code().as_u16(), status, "{name}: {value}");
        }
        let told = asks(&[("sec-websocket-version", "8")]).unwrap_err().error_response();
        assert_eq!(told.headers().get("sec-websocket-version").unwrap(), "13");
        assert_eq!(told.headers().get("upgrade").unwrap(), "websocket");
    }
}
