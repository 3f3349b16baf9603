//! The SSH client against real OpenSSH servers, and against scripted ones for what OpenSSH never does.

mod host_keys;
mod link;
mod login;
mod reach;
mod scripted;
