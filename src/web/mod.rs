//! HTTP: what the world sees of the gateway. Each resource has a file; `routes` lists every route there is. Asks the actors
//! through [`crate::actor::gateway::Gateway`]; a terminal's socket speaks with its session and the wire. Calls no store, opens no
//! SSH connection (it may name the values of both) and reads no clock but the actors'.

/// Who one is, one's password.
pub mod account;
/// `GET /api/v1/actors`.
pub mod actors;
/// The embedded web UI.
pub mod assets;
/// `GET /api/v1/audit`.
pub mod audit;
/// Who is calling.
pub mod auth;
/// Where a request comes from, behind proxies or not.
pub mod client;
/// How many connections there may be, and for how long.
pub mod connections;
/// The gateway's cookies.
mod cookies;
/// A way to end a connection that nobody polls.
pub mod descriptor;
/// The browsers that one is signed in with.
pub mod devices;
/// How many places one user may have dialled by hand.
mod dial_limit;
/// The interface in OpenAPI: `/api/openapi.json`, and `/api/docs` for people.
pub mod docs;
/// Whether an answer is as the document says; shared with the tests of the whole gateway.
#[cfg(test)]
#[path = "../../tests/integration/support/documented.rs"]
mod documented;
/// Problems as RFC 9457 tells them.
pub mod error;
/// `GET /api/v1/events`: transitions as they happen.
pub mod events;
/// How metrics are written.
mod exposition;
/// What it costs when something of this room fails.
#[cfg(test)]
mod failing;
/// What the tests of this room share.
#[cfg(test)]
mod fixture;
/// What the audit log hears of pages of other origins.
mod foreign;
/// Text messages that come in pieces.
mod fragments;
/// How long a WebSocket frame may be, judged by its header.
mod frame_gate;
/// Anything at all, into what reads it.
#[cfg(test)]
mod fuzz;
/// The gateway's own public keys.
pub mod gateway_key;
/// Headers that every answer carries.
pub mod headers;
/// `/healthz` and `/readyz`.
pub mod health;
/// Which host keys are trusted.
pub mod host_keys;
/// One-time links that sign in.
pub mod links;
/// The query of a listing: filters, order, cursor.
pub mod listing;
/// Signing in and out.
pub mod login;
/// `GET /metrics`.
pub mod metrics;
/// The gateways that share the stores.
pub mod nodes;
/// JSON that must be an object.
mod object;
/// Signing in with an OpenID Connect provider.
pub mod oidc;
/// The body that opens a session, and what it may say.
pub mod opening;
/// Which pages may talk to the gateway, and under which names it answers.
pub mod origin;
/// A socket's way out.
mod outlet;
/// Pages of the session list that still hold.
pub mod pages;
/// What the operating system says of this process.
pub mod process;
/// The frames of the terminal WebSocket.
pub mod protocol;
/// `GET /api/v1/sessions/{id}/recording`.
pub mod recording;
/// How often a browser's resizes are handed on.
mod resizes;
/// The route table.
pub mod routes;
/// One-time codes beside the password.
pub mod second_factor;
/// Secrets made here, and their digests.
pub mod secret;
/// Sessions: create, list, get, delete, why.
pub mod sessions;
/// Links with which somebody becomes the first admin, or sets their password.
pub mod setup;
/// What every handler holds on to: the gateway, the settings, the sign-ins.
pub mod state;
/// `GET /api/v1/stores`.
pub mod stores;
/// What a client may offer to speak at the terminal.
mod subprotocol;
/// `/api/v1/targets`.
pub mod targets;
/// The terminal's socket.
pub mod terminal;
/// Whether a browser at a terminal still may be there.
mod terminal_access;
/// How often a wrong token or password may be tried.
pub mod throttle;
/// Tokens of users.
pub mod tokens;
/// Targets tried out.
pub mod trials;
/// Whom a proxy in front names.
pub mod user_header;
/// `/api/v1/users`.
pub mod users;
/// Sessions and times as JSON shows them.
pub mod view;
/// Whom the audit log is told to.
pub mod webhooks;
