//! Keeps a handle that shuts down a connection's descriptor: a socket that nobody polls receives no message. Does not
//! know requests.

use std::{any::Any, os::fd::AsFd, sync::Arc};

use actix_web::{dev::Extensions, rt::net::TcpStream};

use crate::actor::wire::SocketCloser;

/// Keeps the descriptor of a new connection. Pass it to `HttpServer::on_connect`.
pub fn keep(connection: &dyn Any, data: &mut Extensions) {
    let plain = connection.downcast_ref::<TcpStream>();
    let tls = connection.downcast_ref::<actix_tls::accept::rustls_0_23::TlsStream<TcpStream>>();
    let Some(stream) = plain.or_else(|| tls.map(|tls| tls.get_ref().0)) else { return };
    match stream.as_fd().try_clone_to_owned() {
        Ok(fd) => {
            data.insert(SocketCloser(Some(Arc::new(fd))));
        }
        Err(error) => tracing::warn!(%error, "a connection's descriptor could not be kept: too many open files?"),
    }
}
