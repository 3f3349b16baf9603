//! Talks to other systems over HTTP. Knows no session and no store; its callers decide when to send, and what follows
//! from an answer.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use awc::Connector;
use futures_util::future::LocalBoxFuture;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::core::webhook::{Answer, Message};

/// OpenID Connect providers.
pub mod provider;

/// Maximum time for a receiver's answer, including the connection.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Maximum time for the connection, within that.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// A sender of messages.
pub trait Post {
    /// Sends one message and returns the receiver's answer. Call on a thread that runs actix.
    fn post(&self, url: &str, message: Message) -> LocalBoxFuture<'static, Answer>;
}

/// The sender over HTTP/1.1 and HTTP/2, with the certificates that the system trusts. Follows no redirect: a signed
/// message goes only where it was meant to go.
#[derive(Debug, Clone, Copy)]
pub struct HttpPost;

/// The TLS configuration, read once: the system's certificates are some hundred files.
static TLS: LazyLock<Option<Arc<ClientConfig>>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, errors = found.errors.len(), "the system's certificates were read");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
});

impl Post for HttpPost {
    fn post(&self, url: &str, message: Message) -> LocalBoxFuture<'static, Answer> {
        let url = url.to_owned();
        Box::pin(async move {
            let request = client(ANSWERS_WITHIN)
                .post(url)
                .insert_header(("content-type", "application/json"))
                .insert_header(("webhook-id", message.id))
                .insert_header(("webhook-timestamp", message.timestamp.to_string()))
                .insert_header(("webhook-signature", message.signature));
            match request.send_body(message.body).await {
                Ok(response) => Answer::of(response.status().as_u16()),
                // The error may quote the address, in which some receivers have their secret.
                Err(error) => Answer::Away(kind(&error).to_owned()),
            }
        })
    }
}

/// Returns the gateway's HTTP client, for a thread that runs actix. Follows no redirect.
fn client(answers_within: Duration) -> awc::Client {
    let mut connector = Connector::new().timeout(CONNECTS_WITHIN).handshake_timeout(CONNECTS_WITHIN);
    if let Some(tls) = TLS.as_ref() {
        connector = connector.rustls_0_23(tls.clone());
    }
    let builder = awc::Client::builder().connector(connector).timeout(answers_within).disable_redirects();
    builder.add_default_header(("user-agent", concat!("pulsegate/", env!("CARGO_PKG_VERSION")))).finish()
}

fn kind(error: &awc::error::SendRequestError) -> &'static str {
    use awc::error::{ConnectError, SendRequestError};
    match error {
        SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout) => "it did not answer in time",
        SendRequestError::Connect(ConnectError::Resolver(_) | ConnectError::NoRecords) => "its name is not known",
        SendRequestError::Connect(_) => "it cannot be reached, or its certificate is not trusted",
        SendRequestError::Url(_) => "its address is no URL",
        _ => "the connection broke before it answered",
    }
}
