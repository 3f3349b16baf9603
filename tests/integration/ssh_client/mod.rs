//! The SSH client against real OpenSSH servers, and against scripted ones for what OpenSSH never does.

mod hops;
mod host_keys;
mod link;
mod login;
mod own_keys;
mod reach;
mod scripted;
