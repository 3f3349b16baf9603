//! The subprotocols that a client may offer. Does not know sockets.

use actix_web::{HttpRequest, http::header::SEC_WEBSOCKET_PROTOCOL};

use super::{error::Problem, protocol::SUBPROTOCOL};

/// Admits clients that offer ours, or none at all, as `curl` does.
///
/// # Errors
/// 400 to a client that offers only others: a browser would close the socket without a word (RFC 6455 §4.1).
pub fn check(request: &HttpRequest) -> Result<(), Problem> {
    let lists = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut offered = lists.flat_map(|list| list.to_str().unwrap_or_default().split(',')).map(str::trim).peekable();
    if offered.peek().is_none() || offered.any(|name| name == SUBPROTOCOL) {
        return Ok(());
    }
    Err(Problem::bad_request(format!("This route speaks the subprotocol {SUBPROTOCOL}. Offer it, or none.")))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn who_offers_other_subprotocols_only_is_told_ours() {
        let offers = |list: &str| {
            check(&TestRequest::default().insert_header(("sec-websocket-protocol", list)).to_http_request())
        };
        assert_eq!(check(&TestRequest::default().to_http_request()), Ok(()));
        for list in ["pulsegate.v1", "pulsegate.v2, pulsegate.v1"] {
            assert_eq!(offers(list), Ok(()), "{list}");
        }
        for list in ["", "pulsegate.v2", "mqtt, pulsegate.v10"] {
            assert!(offers(list).is_err_and(|problem| problem.detail().contains("pulsegate.v1")), "{list}");
        }
    }
}
