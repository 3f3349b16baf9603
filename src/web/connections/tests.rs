//! Tests with real connections to a real server with one handler, with limits small enough to wait for.

use std::{net::SocketAddr, time::Instant};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, middleware::from_fn, web};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits { total: 100, per_address: 100, shared: vec![], patience: SHORT }
}

/// Answers `GET /` at once, `GET /slow` with a body that takes three times the patience.
fn serve(limits: Limits) -> (SocketAddr, ServerHandle, Arc<Connections>) {
    let connections = Connections::new(limits);
    let doors = connections.clone();
    let slow = || async {
        let rest = stream::once(async {
            timeout(3 * SHORT, std::future::pending::<()>()).await.unwrap_err();
            Ok::<_, Error>(Bytes::from_static(b"-late"))
        });
        HttpResponse::Ok().streaming(stream::iter([Ok(Bytes::from_static(b"early"))]).chain(rest))
    };
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(hold))
            .route("/", web::get().to(|| async { "here" }))
            .route("/slow", web::get().to(slow))
            .route("/", web::post().to(|body: String| async move { body }))
    });
    let server = server.on_connect(move |connection, data| doors.meet(connection, data));
    let server = server.workers(1).disable_signals().shutdown_timeout(0);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = server.listen(listener).unwrap().run();
    let handle = server.handle();
    rt::spawn(server);
    (addr, handle, connections)
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"))
}

/// Reads until the connection ends, however it ends, and returns what came.
async fn rest(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let ended = within("the end of a connection", stream.read_to_end(&mut heard)).await;
    let text = String::from_utf8_lossy(&heard).into_owned();
    if let Err(error) = ended {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{text}");
    }
    text
}

async fn hears(stream: &mut TcpStream, end: &str) {
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) {
        heard.push(within(end, stream.read_u8()).await.unwrap());
    }
}

async fn connect(addr: SocketAddr) -> TcpStream {
    within("a connection", TcpStream::connect(addr)).await.unwrap()
}

/// Sends `text` over and over, one byte at a time, until the server answers or closes; returns how long that was.
async fn dribble(stream: &mut TcpStream, text: &[u8]) -> Duration {
    let begun = Instant::now();
    for byte in text.iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        if timeout(SHORT / 8, stream.read_u8()).await.is_ok() {
            break;
        }
        assert!(begun.elapsed() < LONG, "nobody minds");
    }
    begun.elapsed()
}

#[actix_rt::test]
async fn a_head_that_never_ends_is_cut_whichever_request_it_belongs_to() {
    let (addr, server, _) = serve(limits());
    let mut stream = connect(addr).await;
    dribble(&mut stream, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;

    let mut stream = connect(addr).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    hears(&mut stream, "here").await;
    stream.write_all(b"GET /").await.unwrap();
    dribble(&mut stream, b"a").await;

    let mut silent = connect(addr).await;
    assert_eq!(rest(&mut silent).await, "");
    server.stop(false).await;
}

#[actix_rt::test]
async fn an_answer_that_takes_its_time_is_not_cut() {
    let (addr, server, _) = serve(limits());
    let mut stream = connect(addr).await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    hears(&mut stream, "-late\r\n0\r\n\r\n").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    hears(&mut stream, "here").await;
    server.stop(false).await;
}

#[actix_rt::test]
async fn one_address_too_many_is_told_so_and_has_room_again_when_another_leaves() {
    let (addr, server, connections) = serve(Limits { per_address: 2, patience: LONG, ..limits() });
    let ask = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut first, mut second) = (connect(addr).await, connect(addr).await);
    for stream in [&mut first, &mut second] {
        stream.write_all(ask).await.unwrap();
        hears(stream, "here").await;
    }
    let mut third = connect(addr).await;
    third.write_all(ask).await.unwrap();
    let refusal = rest(&mut third).await;
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    assert!(refusal.contains("\r\nretry-after: 10\r\n") && refusal.contains("/problems/unavailable"), "{refusal}");
    let mut silent = connect(addr).await;
    assert_eq!(rest(&mut silent).await, "", "cut long before its patience");

    drop(first);
    within("a free place", async {
        while connections.held().total > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut fourth = connect(addr).await;
    fourth.write_all(ask).await.unwrap();
    hears(&mut fourth, "here").await;
    server.stop(false).await;
}

#[actix_rt::test]
async fn places_are_counted_by_network_and_freed() {
    let shared = vec!["192.0.2.0/24".parse().unwrap()];
    let connections = Connections::new(Limits { total: 6, per_address: 2, shared, patience: LONG });
    let seat = |ip: &str| connections.seat(ip.parse().unwrap());
    let (a, b, c) = (seat("2001:db8::1"), seat("2001:db8::2"), seat("2001:db8::3"));
    assert_eq!((a.1, b.1, c.1), (Room::Yes, Room::Yes, Room::ToSaySo), "one customer's network counts as one");
    let proxied = [seat("192.0.2.1"), seat("192.0.2.1"), seat("::ffff:192.0.2.1")];
    assert!(proxied.iter().all(|(_, room)| *room == Room::Yes), "a proxy stands for many");
    assert_eq!(seat("198.51.100.1").1, Room::ToSaySo, "and there is a limit for everybody");
    drop(proxied);
    assert_eq!(seat("198.51.100.1").1, Room::Yes);
    let crowd: Vec<_> = (0..2 + MAX_REFUSALS + 1).map(|_| seat("198.51.100.9")).collect();
    assert_eq!(crowd.last().unwrap().1, Room::No, "nobody listens to so many refusals");
    drop((a, b, c, crowd));
    assert!(connections.held().total == 0 && connections.held().addresses.is_empty());
}

#[actix_rt::test]
async fn a_body_that_does_not_come_is_an_error_in_time() {
    let begun = Instant::now();
    let mut body = Box::pin(in_time(stream::pending().boxed_local(), SHORT));
    assert!(matches!(within("an error", body.next()).await, Some(Err(PayloadError::Io(_)))));
    assert!(begun.elapsed() >= SHORT);
    let whole = stream::iter([Ok(Bytes::from_static(b"all"))]).boxed_local();
    let whole: Vec<_> = in_time(whole, LONG).collect().await;
    assert!(matches!(&whole[..], [Ok(bytes)] if bytes == "all"));
}

#[actix_rt::test]
async fn a_long_head_is_refused_and_ends_its_connection() {
    let (addr, server, _) = serve(limits());
    for (field, status) in [(HEAD_BYTES - 100, "200"), (HEAD_BYTES + 1, "431")] {
        let mut stream = connect(addr).await;
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "a".repeat(field));
        stream.write_all(head.as_bytes()).await.unwrap();
        let told = rest(&mut stream).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
    }
    server.stop(false).await;
}
