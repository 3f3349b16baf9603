//! Owns the form of refusals and failures (RFC 9457). Its texts never contain SQL, hosts or stack traces.

use std::fmt;

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    error::{JsonPayloadError, UrlencodedError},
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde_json::json;

use super::object::in_words;
use crate::{actor::gateway::GatewayError, core::visible::is_visible, store::StoreError};

/// The longest detail, in characters; it may quote the caller's input. Twice what a list of every action of the audit
/// log takes.
const DETAIL_CHARS: usize = 2_000;

/// The authentication scheme for programs (RFC 9110 §11.6.1).
const CHALLENGE: &str = "Bearer realm=\"pulsegate\"";

/// An answer that describes a problem: a stable type for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        // The detail may quote the caller's input, and people read it in logs and terminals.
        let seen = |letter: char| if is_visible(letter) { letter } else { char::REPLACEMENT_CHARACTER };
        let detail = detail.into().chars().take(DETAIL_CHARS).map(seen).collect();
        Self { status, kind, detail, headers: Vec::new() }
    }

    fn unauthorized(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, kind, detail)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 400: the request cannot be understood; `detail` names the place and what is allowed.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// 401: the caller is not signed in.
    pub fn not_signed_in() -> Self {
        Self::unauthorized("not-signed-in", "Sign in, or send a valid token.")
    }

    /// 401: the proxy in front names no user who may sign in here.
    pub fn nobody_named(detail: impl Into<String>) -> Self {
        Self::unauthorized("nobody-named", detail)
    }

    /// 401: wrong credentials; does not reveal which of them is wrong.
    pub fn wrong_credentials() -> Self {
        let detail = "Nobody signs in with this name and password. Try again, or ask your administrator.";
        Self::unauthorized("wrong-credentials", detail)
    }

    /// 401: this token is not valid.
    pub fn wrong_token() -> Self {
        let detail = "This token signs nobody in: it is mistyped, revoked or expired. Ask for a new one.";
        Self::unauthorized("wrong-credentials", detail)
    }

    /// 401: name and password are right, and a code is required too; `detail` says whether one was sent.
    pub fn second_factor(detail: &str) -> Self {
        Self::unauthorized("second-factor", detail)
    }

    /// 403: signed in, but without the second factor that the role requires.
    pub fn second_factor_required() -> Self {
        let detail =
            "Your role asks for a second factor. Turn one on under Account first; until then nothing else works.";
        Self::new(StatusCode::FORBIDDEN, "second-factor-required", detail)
    }

    /// 401: the provider's answer signs nobody in.
    pub fn not_let_in(detail: impl Into<String>) -> Self {
        Self::unauthorized("not-let-in", detail)
    }

    /// 409: it exists already.
    pub fn exists(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "exists", detail)
    }

    /// 409: not possible in the current state.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 403: understood, but not allowed.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: it does not exist, or not for this caller.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 405: the path exists; `allow` lists its methods, as `GET, POST`.
    pub fn method_not_allowed(allow: HeaderValue) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not take this method.")
            .with(header::ALLOW, allow)
    }

    /// 416: none of the bytes asked for is among the `length` that exist.
    pub fn no_such_range(length: u64) -> Self {
        let range = HeaderValue::from_str(&format!("bytes */{length}")).unwrap_or(HeaderValue::from_static(""));
        let detail = format!("There are {length} bytes so far, and none of those asked for is among them.");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "no-such-range", detail).with(header::CONTENT_RANGE, range)
    }

    /// 426: the WebSocket is of another version than that of RFC 6455.
    pub fn websocket_version() -> Self {
        let detail = "This route is a WebSocket of version 13 (RFC 6455).";
        Self::new(StatusCode::UPGRADE_REQUIRED, "websocket-version", detail)
            .with(header::UPGRADE, HeaderValue::from_static("websocket"))
            .with(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
    }

    /// 429: too often or too many; try again after `seconds`.
    pub fn too_many(detail: impl Into<String>, seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", detail).with(header::RETRY_AFTER, seconds.into())
    }

    /// 503: not now; try again after `seconds`.
    pub fn unavailable(detail: impl Into<String>, seconds: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with(header::RETRY_AFTER, seconds.into())
    }

    /// 431: the request's head has more than `most` bytes.
    pub fn long_head(most: usize) -> Self {
        let detail = format!("The head of a request may have {most} bytes at most.");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "long-head", detail)
    }

    /// 500: a bug in the gateway.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The gateway made a mistake. Tell its operator.")
    }

    /// 500: a recording cannot be read.
    pub fn unreadable(why: &str) -> Self {
        let detail = format!("The recording cannot be read: {why}. Tell the gateway's operator.");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Reports a body that is not the expected JSON; the handler of actix's JSON errors.
    pub fn from_json(error: JsonPayloadError, _request: &HttpRequest) -> actix_web::Error {
        match error {
            JsonPayloadError::Deserialize(cause) => {
                Self::bad_request(format!("The body is not valid: {}.", in_words(&cause)))
            }
            JsonPayloadError::ContentType => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Send JSON, with Content-Type: application/json.",
            ),
            JsonPayloadError::Overflow { limit } | JsonPayloadError::OverflowKnownLength { limit, .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!("The body may have {limit} bytes at most."),
            ),
            // The enum is marked non-exhaustive, so a last arm cannot be avoided.
            JsonPayloadError::Payload(_) | JsonPayloadError::Serialize(_) | _ => {
                Self::bad_request("The body could not be read to its end.")
            }
        }
        .into()
    }

    /// Reports a body that is not the expected form; the handler of actix's form errors.
    pub fn from_form(error: UrlencodedError, _request: &HttpRequest) -> actix_web::Error {
        match error {
            UrlencodedError::ContentType => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Send a form, with Content-Type: application/x-www-form-urlencoded.",
            ),
            UrlencodedError::Overflow { limit, .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!("The body may have {limit} bytes at most."),
            ),
            UrlencodedError::Parse(_) => Self::bad_request("The form lacks what is asked for, or cannot be read."),
            _ => Self::bad_request("The body could not be read to its end."),
        }
        .into()
    }

    /// Returns the problem in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for header in self.headers.clone() {
            response.insert_header(header);
        }
        let body = json!({
            "type": format!("/problems/{}", self.kind),
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        response.content_type("application/problem+json").body(body.to_string())
    }
}

impl From<StoreError> for Problem {
    /// For the stores of people and targets; the caller can try again.
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "users and targets cannot be read or written");
        Self::unavailable("The store of users and targets does not answer. Try again in a moment.", 5)
    }
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        let words = error.to_string();
        match error {
            GatewayError::TooManyOfUser { .. } => Self::too_many(words, 5),
            GatewayError::TooMany { .. } | GatewayError::Draining => Self::unavailable(words, 5),
            GatewayError::Unconfirmed { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, "unconfirmed", words),
            GatewayError::NotReady
            | GatewayError::Overloaded
            | GatewayError::Store
            | GatewayError::LeaseLost
            | GatewayError::Unreadable
            | GatewayError::Unaudited
            | GatewayError::Failed => Self::unavailable(words, 1),
        }
    }
}

/// Quotes a caller's input safely: at most 64 characters, none of them a control character.
pub fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_can_neither_move_a_cursor_nor_turn_the_text_around() {
        let problem = Problem::bad_request(format!("a\r\n\x1b[2J\0\u{9b}\u{202e}b{}", "x".repeat(10_000)));
        assert!(problem.detail().chars().all(is_visible), "{:?}", problem.detail());
        assert_eq!(problem.detail().chars().count(), DETAIL_CHARS);
    }

    #[test]
    fn who_asks_beyond_the_end_is_told_where_it_is() {
        let response = Problem::no_such_range(10).error_response();
        assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(response.headers().get(header::CONTENT_RANGE).unwrap(), "bytes */10");
    }
}
