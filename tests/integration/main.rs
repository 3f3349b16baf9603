//! Tests that need real counterparts (servers, stores, browsers' protocols): one binary, so that it links once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cluster;
mod gateway;
mod ssh_client;
mod support;
