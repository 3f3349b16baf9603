//! Limits the connections, in total and per address, and how long one may be held without a complete request. A
//! connection without a request in progress only costs resources. Does not know the meaning of requests.

use std::{
    any::Any,
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::AsFd,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    Error, HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::Method,
    middleware::Next,
    rt::{self, net::TcpStream},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{error::Problem, throttle::network};
use crate::actor::wire::SocketCloser;

/// How long a connection may be held without a request in progress. actix closes a kept-alive one after 5 s, and stops
/// checking once the next head has begun: such a head may take the rest.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(9);

/// How long a connection beyond the limit may take to send the request that is refused with a 503.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections beyond the limit that receive a 503; further ones are cut without an answer.
const MAX_REFUSALS: usize = 64;

/// The largest head of a request, in bytes of its names and values: a browser's has 1 to 2 thousand.
const HEAD_BYTES: usize = 32 * 1024;

/// When a refused caller may try again, in seconds: by then idle connections have been closed.
const RETRY_AFTER: u64 = 10;

/// The limits of connections, in number and time.
#[derive(Debug)]
pub struct Limits {
    /// Connections in total.
    pub total: usize,
    /// Connections of one address, or of one IPv6 /64.
    pub per_address: usize,
    /// Peers that stand for many clients: exempt from `per_address`.
    pub shared: Vec<IpNet>,
    /// See [`IDLE_TIMEOUT`].
    pub patience: Duration,
}

/// All open connections; one per process.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    addresses: HashMap<IpAddr, usize>,
}

/// The state kept in a connection's own data.
struct Place {
    /// Requests in progress.
    requests: watch::Sender<usize>,
    /// Whether it is within the limits.
    admitted: bool,
    _seat: Seat,
}

/// A counted connection; dropping it frees the place.
#[derive(Debug)]
struct Seat {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    /// Creates an empty table.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, held: Mutex::default() })
    }

    /// Counts a new connection and watches it. Pass it to `HttpServer::on_connect`.
    pub fn meet(self: &Arc<Self>, connection: &dyn Any, data: &mut Extensions) {
        let Some(stream) = tcp(connection) else { return };
        keep(stream, data);
        let (Ok(peer), Some(closer)) = (stream.peer_addr(), data.get::<SocketCloser>().cloned()) else { return };
        let address = peer.ip();
        let (seat, room) = self.seat(address);
        if room == Room::No {
            tracing::debug!(%address, "a connection was cut: there are too many");
            closer.close();
        }
        let admitted = room == Room::Yes;
        let (requests, watched) = watch::channel(0);
        let patience = if admitted { self.limits.patience } else { REFUSAL_TIMEOUT.min(self.limits.patience) };
        rt::spawn(cut_when_idle(watched, patience, closer));
        data.insert(Place { requests, admitted, _seat: seat });
    }

    fn seat(self: &Arc<Self>, address: IpAddr) -> (Seat, Room) {
        let is_shared = self.limits.shared.iter().any(|network| network.contains(&address.to_canonical()));
        let address = network(address);
        let mut held = self.held();
        held.total += 1;
        let total = held.total;
        let of_address = held.addresses.entry(address).or_default();
        *of_address += 1;
        let fits = total <= self.limits.total && (is_shared || *of_address <= self.limits.per_address);
        let is_told = total <= self.limits.total.saturating_add(MAX_REFUSALS)
            && (is_shared || *of_address <= self.limits.per_address.saturating_add(MAX_REFUSALS));
        let room = match (fits, is_told) {
            (true, _) => Room::Yes,
            (false, true) => Room::ToSaySo,
            (false, false) => Room::No,
        };
        drop(held);
        (Seat { connections: self.clone(), address }, room)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is room for one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Yes,
    ToSaySo,
    No,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.connections.held();
        held.total = held.total.saturating_sub(1);
        if let Some(count) = held.addresses.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.addresses.remove(&self.address);
            }
        }
    }
}

/// Returns the TCP stream of a new connection, which may speak TLS.
fn tcp(connection: &dyn Any) -> Option<&TcpStream> {
    let plain = connection.downcast_ref::<TcpStream>();
    let tls = connection.downcast_ref::<actix_tls::accept::rustls_0_23::TlsStream<TcpStream>>();
    plain.or_else(|| tls.map(|tls| tls.get_ref().0))
}

/// Keeps a handle that shuts down a connection's descriptor: a socket that nobody polls receives no message.
fn keep(stream: &TcpStream, data: &mut Extensions) {
    match stream.as_fd().try_clone_to_owned() {
        Ok(fd) => {
            data.insert(SocketCloser(Some(Arc::new(fd))));
        }
        Err(error) => tracing::warn!(%error, "a connection's descriptor could not be kept: too many open files?"),
    }
}

/// Closes a connection once it has had no request in progress for as long as `patience`; ends with the connection.
async fn cut_when_idle(mut requests: watch::Receiver<usize>, patience: Duration, closer: SocketCloser) {
    loop {
        let is_busy = *requests.borrow_and_update() > 0;
        let changed = if is_busy {
            requests.changed().await
        } else {
            match timeout(patience, requests.changed()).await {
                Ok(changed) => changed,
                Err(_) => return closer.close(),
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Counts a request as in progress until its response is sent, bounds its head and the time its body takes, and refuses
/// it if its connection is beyond the limits. A middleware, the outermost.
pub async fn hold(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let (under_way, admitted) = match request.conn_data::<Place>() {
        Some(place) => (Some(UnderWay::new(place.requests.clone())), place.admitted),
        None => (None, true),
    };
    let is_long = head_bytes(&request) > HEAD_BYTES;
    let mut response = if is_long {
        request.error_response(Problem::long_head(HEAD_BYTES))
    } else if admitted {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let body = in_time(request.take_payload(), IDLE_TIMEOUT);
            request.set_payload(Payload::Stream { payload: Box::pin(body) });
        }
        next.call(request).await?.map_into_boxed_body()
    } else {
        let full = Problem::unavailable("The gateway has as many connections as it may.", RETRY_AFTER);
        request.error_response(full)
    };
    if is_long || !admitted {
        response.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| Answer { body, _under_way: under_way }))
}

fn head_bytes(request: &ServiceRequest) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    fields.sum::<usize>() + request.uri().path_and_query().map_or(0, |path| path.as_str().len())
}

/// A body that ends with an error once it has taken longer than `limit`.
fn in_time<S>(mut body: S, limit: Duration) -> impl Stream<Item = Result<Bytes, PayloadError>> + use<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let mut late = Box::pin(sleep(limit));
    stream::poll_fn(move |cx| {
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))));
        }
        body.poll_next_unpin(cx)
    })
}

/// A request in progress on a connection, until it is dropped.
struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn new(requests: watch::Sender<usize>) -> Self {
        requests.send_modify(|count| *count += 1);
        Self(requests)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// The body of a response: its request is in progress until the body is sent.
struct Answer {
    body: BoxBody,
    _under_way: Option<UnderWay>,
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

#[cfg(test)]
#[path = "connections/tests.rs"]
mod tests;
