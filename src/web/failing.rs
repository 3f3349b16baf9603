//! Tests the effect of failures in this module: a failing terminal socket loses its page, whose session goes on and
//! takes it back; a failing handler loses its connection. And of a target that takes no input: who types is there all the
//! same. And of pages that want too much. Over real connections, all on one thread.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_http::ws::{Frame, Message, ProtocolError};
use actix_web::{
    App, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::header::AUTHORIZATION,
    rt,
    web::{self, Data},
};
use awc::Client;
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    auth::ADMIN,
    fixture::{TOKEN, settings},
    protocol::SUBPROTOCOL,
    routes,
    state::{MAX_ATTACHES, State},
    terminal::FAIL,
};
use crate::{
    actor::{
        clock,
        gateway::OpenSession,
        tests::house::{House, Target, eventually, hurried, request},
    },
    core::record::{SessionId, Status, UtcMicros},
    ssh::LinkEvent,
};

/// Shorter than an unanswered ping takes: within it, a session knows of a failure only if it was notified.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);

/// A gateway and its HTTP server.
struct Site {
    house: House,
    addr: SocketAddr,
    server: ServerHandle,
    client: Client,
}

async fn fails() -> HttpResponse {
    panic!("asked to")
}

impl Site {
    async fn new() -> Self {
        Self::over(House::new().await)
    }

    fn over(house: House) -> Self {
        let state = Data::new(State::new(house.gateway.clone(), settings()));
        let app = move || {
            App::new().app_data(state.clone()).route("/fails", web::head().to(fails)).configure(routes::configure)
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(0);
        let server = server.listen(listener).unwrap().run();
        let handle = server.handle();
        rt::spawn(server);
        Self { house, addr, server: handle, client: Client::new() }
    }

    /// A session with its page and its target.
    async fn active(&self) -> (SessionId, impl Page, Target) {
        let opened = self.house.gateway.open(OpenSession { username: ADMIN.to_owned(), ..request() });
        let id = opened.await.unwrap().id;
        let page = self.attach(id, None).await;
        eventually(async || self.house.find(id).await.status == Status::Active).await;
        let target = self.house.targets.0.lock().unwrap().last().unwrap().clone();
        (id, page, target)
    }

    /// Attaches a page: a new one, or one that was shown so many bytes.
    async fn attach(&self, id: SessionId, shown: Option<usize>) -> impl Page {
        self.attach_as(id, json!({"mode": "interactive", "client_id": "page", "output_offset": shown})).await
    }

    /// Attaches a page that says this of itself.
    async fn attach_as(&self, id: SessionId, attach: Value) -> impl Page {
        let mut page = self.connect_as(id, attach).await;
        hears(&mut page, "\"type\":\"attached\"").await;
        page
    }

    /// Connects such a page, whatever it is answered.
    async fn connect_as(&self, id: SessionId, mut attach: Value) -> impl Page {
        let origin = format!("http://{}", self.addr);
        let upgrade = self.client.ws(format!("{origin}/api/v1/sessions/{id}/terminal")).origin(origin);
        let upgrade = upgrade.set_header(AUTHORIZATION, format!("Bearer {TOKEN}")).protocols([SUBPROTOCOL]);
        let (_, mut page) = hurried(upgrade.connect()).await.unwrap();
        (attach["type"], attach["cols"], attach["rows"]) = ("attach".into(), 80.into(), 24.into());
        page.send(Message::Text(attach.to_string().into())).await.unwrap();
        page
    }
}

/// A browser's end of a socket.
trait Page: Stream<Item = Result<Frame, ProtocolError>> + Sink<Message, Error = ProtocolError> + Unpin {}

impl<S> Page for S where S: Stream<Item = Result<Frame, ProtocolError>> + Sink<Message, Error = ProtocolError> + Unpin {}

/// Reads frames until one contains `wanted`.
async fn hears(page: &mut impl Page, wanted: &str) {
    loop {
        match hurried(page.next()).await.expect("the socket goes on").unwrap() {
            Frame::Text(bytes) | Frame::Binary(bytes) if String::from_utf8_lossy(&bytes).contains(wanted) => return,
            Frame::Ping(payload) => page.send(Message::Pong(payload)).await.unwrap(),
            Frame::Close(reason) => panic!("closed: {reason:?}"),
            Frame::Text(_) | Frame::Binary(_) | Frame::Continuation(_) | Frame::Pong(_) => {}
        }
    }
}

fn says(target: &Target, text: &'static str) {
    target.says.send(LinkEvent::Output(Bytes::from_static(text.as_bytes()))).unwrap();
}

/// Reads the head of a response; empty if the connection ends instead.
async fn asks(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = hurried(stream.read_u8()).await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

#[actix_rt::test]
async fn a_socket_that_fails_leaves_its_session_detached_and_to_be_taken_up_again() {
    let site = Site::new().await;
    let (_other, mut neighbour, heard_there) = site.active().await;
    let (id, mut page, target) = site.active().await;
    says(&target, "before");
    hears(&mut page, "before").await;
    page.send(Message::Ping(Bytes::from_static(FAIL))).await.unwrap();
    hurried(async { while let Some(Ok(_)) = page.next().await {} }).await;
    let detached = eventually(async || site.house.find(id).await.status == Status::Detached);
    tokio::time::timeout(NOTICE_TIMEOUT, detached).await.expect("nobody told the session");

    says(&target, "meanwhile");
    let mut page = site.attach(id, Some("before".len())).await;
    hears(&mut page, "meanwhile").await;
    eventually(async || site.house.find(id).await.status == Status::Active).await;
    says(&heard_there, "nothing happened");
    hears(&mut neighbour, "nothing happened").await;
    site.server.stop(false).await;
}

#[actix_rt::test]
async fn a_handler_that_fails_costs_its_own_connection_and_no_other() {
    let site = Site::new().await;
    let (id, mut page, target) = site.active().await;
    let connect = async || hurried(TcpStream::connect(site.addr)).await.unwrap();
    let (mut neighbour, mut failing) = (connect().await, connect().await);
    assert!(asks(&mut neighbour, "/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(asks(&mut failing, "/healthz").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(asks(&mut failing, "/fails").await, "");
    assert!(asks(&mut neighbour, "/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(asks(&mut connect().await, "/healthz").await.starts_with("HTTP/1.1 200 "));
    says(&target, "still here");
    hears(&mut page, "still here").await;
    assert_eq!(site.house.find(id).await.status, Status::Active);
    site.server.stop(false).await;
}

#[actix_rt::test]
async fn a_page_that_wants_something_without_end_is_closed() {
    let site = Site::new().await;
    let (id, _page, _target) = site.active().await;
    for (mode, frame) in [
        ("interactive", r#"{"type":"stay"}"#),
        ("interactive", r#"{"type":"answer","id":1,"values":["nobody asked"]}"#),
        ("observe", r#"{"type":"close"}"#),
    ] {
        let mut page = site.attach_as(id, json!({"mode": mode, "client_id": "page"})).await;
        // Twenty are passed on.
        for _ in 0..=20 {
            page.send(Message::Text(frame.into())).await.unwrap();
        }
        hears(&mut page, "\"code\":\"too_many\"").await;
    }
    assert!(!site.house.find(id).await.is_closed());
    site.server.stop(false).await;
}

#[actix_rt::test]
async fn who_attaches_again_and_again_waits_at_that_session() {
    let site = Site::new().await;
    let (id, _page, _target) = site.active().await;
    for _ in 1..MAX_ATTACHES {
        drop(site.attach(id, None).await);
    }
    let mut page = site.connect_as(id, json!({"mode": "interactive", "client_id": "page"})).await;
    hears(&mut page, "\"code\":\"too_many\"").await;
    let (_other, _page, _target) = site.active().await;
    site.server.stop(false).await;
}

#[actix_rt::test]
async fn who_types_into_a_target_that_takes_nothing_is_there_and_who_looks_on_is_not() {
    let site = Site::over(House::deaf().await);
    let (id, mut page, _target) = site.active().await;
    let watcher = json!({"mode": "observe", "client_id": "watcher", "screen": true, "control": true});
    let mut watcher = site.attach_as(id, watcher).await;
    watcher.send(Message::Binary(Bytes::from_static(b"x"))).await.unwrap();
    hears(&mut watcher, "\"type\":\"input_refused\"").await;
    let typed_at = async || site.house.find(id).await.last_input_at;
    assert_eq!(typed_at().await, None);

    page.send(Message::Binary(Bytes::from_static(b"a paste that is never taken"))).await.unwrap();
    eventually(async || typed_at().await.is_some()).await;
    let later = UtcMicros(clock::utc().0 + 20_000);
    eventually(async || clock::utc() > later).await;
    page.send(Message::Binary(Bytes::from_static(b"\x03"))).await.unwrap();
    eventually(async || typed_at().await > Some(later)).await;
    site.server.stop(false).await;
}
