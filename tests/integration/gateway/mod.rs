//! The whole gateway from outside: the real binary over real HTTP, WebSockets, SSH servers and signals.

mod audit;
mod backup;
mod bad_http;
mod bad_input;
mod crash;
mod disk;
mod drain;
mod first_contact;
mod host_keys;
mod hostile_target;
mod lifecycle;
mod liveness;
mod oidc;
pub mod people;
mod recording;
mod resume;
mod retention;
mod screens;
pub mod second_factor;
mod secrets;
mod setup;
mod targets;
mod terminal;
mod tls;
mod tools;
mod user_header;
mod webhooks;
