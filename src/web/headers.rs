//! Owns the headers that every response carries, whichever handler made it. Does not know routes.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
    middleware::Next,
};

/// Nothing from other origins, no inline script, no framing. xterm.js sets styles inline.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // A one-time link must not leak in a `Referer`.
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// Adds the headers; a response that says nothing about caching is not to be stored. A middleware.
pub async fn secure(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = next.call(request).await?;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, value);
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_page_runs_only_scripts_of_ours_and_stands_in_no_frame() {
        let directives = POLICY.split("; ").map(|directive| directive.split_once(' ').unwrap());
        let directives: BTreeMap<&str, &str> = directives.collect();
        assert_eq!(directives["default-src"], "'self'");
        assert_eq!(directives["frame-ancestors"], "'none'");
        assert_eq!(directives["base-uri"], "'none'");
        let wider = ["script-src", "script-src-elem", "script-src-attr", "worker-src", "connect-src", "object-src"];
        assert!(wider.iter().all(|name| !directives.contains_key(name)), "{POLICY}");
    }
}
