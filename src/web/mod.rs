//! HTTP: the public interface of the gateway. Each resource has a file; `routes` lists all routes. Asks the actors
//! through [`crate::actor::gateway::Gateway`]; a terminal's socket speaks with its session and the wire. Calls no
//! store, opens no SSH connection (it may name the values of both) and reads no clock but the actors'.

/// The caller's account and password.
mod account;
/// `GET /api/v1/actors`.
mod actors;
/// The embedded web UI.
mod assets;
/// `GET /api/v1/audit`.
pub mod audit;
/// Authentication and rights of callers.
pub mod auth;
/// The address a request comes from, behind proxies or not.
mod client;
/// Limits on connections, in number and time.
pub mod connections;
/// The gateway's cookies.
mod cookies;
/// The browsers that the caller is signed in with.
mod devices;
/// Limits on the places one user may dial by hand.
mod dial_limit;
/// The interface in OpenAPI: `/api/openapi.json`, and `/api/docs` for people.
mod docs;
/// A check of responses against the document; shared with the tests of the whole gateway.
#[cfg(test)]
#[path = "../../tests/integration/support/documented.rs"]
mod documented;
/// Problems in the form of RFC 9457.
mod error;
/// `GET /api/v1/events`: transitions as they happen.
mod events;
/// The text formats of metrics.
mod exposition;
/// The effect of failures in this module.
#[cfg(test)]
mod failing;
/// Shared fixtures of this module's tests.
#[cfg(test)]
mod fixture;
/// Limits on the audit entries about pages of other origins.
mod foreign;
/// Text messages in fragments.
mod fragments;
/// A limit on the length of WebSocket frames, judged by their headers.
mod frame_gate;
/// Random input for the parsers.
#[cfg(test)]
mod fuzz;
/// The gateway's own public keys.
mod gateway_key;
/// The upgrade to a WebSocket, and its subprotocols.
mod handshake;
/// Headers that every response carries.
mod headers;
/// `/healthz` and `/readyz`.
mod health;
/// The trusted host keys.
mod host_keys;
/// One-time links that sign in.
mod links;
/// The query of a listing: filters, order, cursor.
mod listing;
/// Signing in and out.
mod login;
/// `GET /metrics`.
mod metrics;
/// The gateways that share the stores.
mod nodes;
/// JSON that must be an object.
mod object;
/// Signing in with an OpenID Connect provider.
mod oidc;
/// The body that opens a session, and its validation.
mod opening;
/// The origins that may talk to the gateway, and the host names it answers under.
mod origin;
/// A socket's outgoing frames.
mod outlet;
/// Cached pages of the session list.
mod pages;
/// The operating system's figures of this process.
mod process;
/// The frames of the terminal WebSocket.
mod protocol;
/// `GET /api/v1/sessions/{id}/recording`.
mod recording;
/// Limits on the audit entries about refused opens.
mod refused_opens;
/// A limit on the rate of a browser's resizes.
mod resizes;
/// The route table.
pub mod routes;
/// One-time codes in addition to the password.
mod second_factor;
/// Generated secrets, and their digests.
mod secret;
/// Sessions: create, list, get, delete, why.
mod sessions;
/// Links by which a user becomes the first admin, or sets their password.
mod setup;
/// The shared state of all handlers: the gateway, the settings, the sign-ins.
pub mod state;
/// `GET /api/v1/stores`.
mod stores;
/// `/api/v1/targets`.
mod targets;
/// The terminal's socket.
mod terminal;
/// Whether a browser may be at a terminal.
mod terminal_access;
/// Limits on how often anything may happen.
mod throttle;
/// Tokens of users.
mod tokens;
/// What the audit log was told within the hour.
mod told;
/// Tests of targets.
mod trials;
/// The user whom a proxy in front names.
mod user_header;
/// `/api/v1/users`.
mod users;
/// Sessions and times as JSON shows them.
mod view;
/// The webhooks of the audit log.
mod webhooks;
