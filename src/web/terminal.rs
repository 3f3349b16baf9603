//! The terminal's socket: one actor per WebSocket, the only file that uses actix-web-actors. Translates frames; makes
//! no decisions about sessions. While its browser does not read, it is not polled at all, so no session waits for it.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use actix_http::{
    body::BoxBody,
    ws::{Item, OpCode},
};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{CloseCode, CloseReason, Message, ProtocolError, WebsocketContext, WsResponseBuilder};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{
    audit::Visitor,
    auth::Caller,
    error::Problem,
    fragments::{Fragments, Joined},
    frame_gate::{FrameGate, Refusal},
    handshake, origin,
    outlet::{Body, Outlet},
    protocol::{self, BrowserFrame, Fault, GatewayFrame, MAX_FRAME, Mode, SUBPROTOCOL},
    resizes::{self, Resizes},
    state::State,
    terminal_access::{Guard, TerminalAccess},
};
use crate::{
    actor::{
        clock,
        gateway::{Gateway, Phase},
        mailbox::Mailbox,
        session::{self, Attach, Intent, SessionMessage},
        wire::{InputKind, InputMessage, Seen, SocketCloser, SocketSide},
    },
    core::{control::Turn, record::SessionId, session::Loss, stream::AttachNo},
    ssh::Size,
};

/// Attaching to the session.
mod attaching;
/// Control: the right to type.
mod control;
/// The session's messages, as frames.
mod frames;

use control::{ControlFrame, Typing};

/// The longest wait for a browser's first frame.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of input buffered for a target that takes none; a browser that sends more ignores `input_ack` (the page sends
/// 64 KiB).
const MAX_BACKLOG_BYTES: usize = 1024 * 1024;

/// Bytes of it passed on at once: an SSH packet.
const CHUNK_BYTES: usize = 32 * 1024;

/// A ping that makes the socket panic, so that a test can observe the effect.
#[cfg(test)]
pub(super) const FAIL: &[u8] = b"fail";

/// `GET /api/v1/sessions/{id}/terminal`: upgrades to a WebSocket.
pub async fn terminal(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
    id: web::Path<String>,
    caller: Caller,
) -> Result<HttpResponse, actix_web::Error> {
    origin::check(&request, &caller.user)?;
    handshake::check(&request)?;
    let id: SessionId = id.parse().map_err(|_| Problem::not_found("No session has this id."))?;
    let session = state.gateway.find(id).await.map_err(Problem::from)?;
    let (too_large, outlet) = (Refusal::default(), Outlet::default());
    let payload = FrameGate::new(payload, too_large.clone());
    let socket = TerminalSocket {
        gateway: state.gateway.clone(),
        id,
        visitor: Visitor::of(&request, &state, &caller),
        access: TerminalAccess::new(state, caller, session.as_ref()),
        closer: request.conn_data::<SocketCloser>().cloned().unwrap_or(SocketCloser(None)),
        too_large,
        outlet: outlet.clone(),
        attached: None,
        fragments: Fragments::default(),
        phase: Phase::Starting,
        lease_warned: false,
        backlog: BytesMut::new(),
        resizes: Resizes::default(),
        waiting_for_room: false,
        loss: Loss::Broken,
    };
    let response =
        WsResponseBuilder::new(socket, &request, payload).protocols(&[SUBPROTOCOL]).frame_size(MAX_FRAME).start()?;
    Ok(response.map_body(|_, actor| BoxBody::new(Body::new(actor, outlet))))
}

/// One browser's socket.
struct TerminalSocket {
    gateway: Gateway,
    id: SessionId,
    access: TerminalAccess,
    visitor: Visitor,
    closer: SocketCloser,
    too_large: Refusal,
    outlet: Outlet,
    attached: Option<Ends>,
    fragments: Fragments,
    /// The gateway's phase last sent to the browser.
    phase: Phase,
    /// Whether the browser was warned that the gateway's lease runs out.
    lease_warned: bool,
    /// Input that the session's channel had no room for.
    backlog: BytesMut,
    resizes: Resizes,
    waiting_for_room: bool,
    /// The cause of its end, as far as it is known.
    loss: Loss,
}

/// The socket's ends of the wire.
struct Ends {
    attach: AttachNo,
    interactive: bool,
    typing: Typing,
    input: mpsc::Sender<InputMessage>,
    side: Arc<SocketSide>,
    session: Mailbox<SessionMessage>,
    /// The guard of the owner's access.
    _guard: Option<Guard>,
}

type Ctx = WebsocketContext<TerminalSocket>;

impl TerminalSocket {
    fn send(&self, frame: &GatewayFrame<'_>) {
        match serde_json::to_string(frame) {
            Ok(text) => self.outlet.say(OpCode::Text, text),
            Err(error) => tracing::error!(%error, "a frame could not be written as JSON"),
        }
    }

    fn fail(&mut self, fault: Fault, message: &str, ctx: &mut Ctx) {
        let (code, close) = fault.code();
        self.loss = Loss::Refused(code);
        self.send(&GatewayFrame::Error { code, message });
        self.hang_up(CloseCode::Other(close), ctx);
    }

    fn hang_up(&self, code: CloseCode, ctx: &mut Ctx) {
        self.outlet.close(Some(CloseReason { code, description: None }));
        ctx.stop();
    }

    fn text(&mut self, text: &[u8], ctx: &mut Ctx) {
        let frame = match protocol::read(text) {
            Ok(frame) => frame,
            Err(error) => {
                return self.fail(Fault::Protocol, &format!("This is no frame of {SUBPROTOCOL}: {error}."), ctx);
            }
        };
        match (frame, &self.attached) {
            (BrowserFrame::Attach { cols, rows, mode, client_id, output_offset, screen, control, again, .. }, None) => {
                let (interactive, closer) = (mode == Mode::Interactive, self.closer.clone());
                let seen = Seen { offset: output_offset, draws: screen };
                let size = protocol::client(&client_id).and_then(|()| protocol::size(cols, rows));
                match (size, self.access.objection(interactive)) {
                    (Err(message), _) => self.fail(Fault::Protocol, &message, ctx),
                    (Ok(_), Some((fault, message))) => self.fail(fault, &message, ctx),
                    (Ok(size), None) => {
                        let user = self.visitor.user.to_string();
                        let intent = if again { Intent::Reconnect } else { Intent::Open };
                        let control_aware = control && screen;
                        let request =
                            Attach { intent, interactive, user, client_id, seen, control_aware, size, closer };
                        self.attach(request, ctx);
                    }
                }
            }
            (BrowserFrame::Attach { .. }, Some(_)) => {
                self.fail(Fault::Protocol, "This socket is attached already.", ctx)
            }
            (_, None) => self.fail(Fault::Protocol, "The first frame must be attach.", ctx),
            (BrowserFrame::Ack { output_offset }, Some(ends)) => ends.side.ack(output_offset),
            (BrowserFrame::Resize { cols, rows }, Some(ends)) => {
                let in_control = ends.typing.turn().is_some();
                match protocol::size(cols, rows) {
                    Err(message) => self.fail(Fault::Protocol, &message, ctx),
                    Ok(size) if in_control => self.resize(size, ctx),
                    Ok(_) => {}
                }
            }
            (BrowserFrame::Answer { id, values }, Some(ends)) => {
                let (attach, trusts) = (ends.attach, self.access.trusts());
                self.passes_on(SessionMessage::Answer { attach, trusts, id, values }, ctx);
            }
            (BrowserFrame::Stay {}, Some(ends)) => {
                let attach = ends.attach;
                self.passes_on(SessionMessage::Stay(attach), ctx);
            }
            (BrowserFrame::Close {}, Some(ends)) => {
                let attach = ends.attach;
                self.passes_on(SessionMessage::UserClose(attach), ctx);
            }
            (BrowserFrame::RequestControl {}, Some(_)) => self.acts(ControlFrame::Ask, ctx),
            (BrowserFrame::TakeControl {}, Some(_)) => self.acts(ControlFrame::Take, ctx),
            (BrowserFrame::ReturnControl {}, Some(_)) => self.acts(ControlFrame::Return, ctx),
            (BrowserFrame::GrantControl { id }, Some(_)) => self.acts(ControlFrame::Answer(id, true), ctx),
            (BrowserFrame::RefuseControl { id }, Some(_)) => self.acts(ControlFrame::Answer(id, false), ctx),
            (BrowserFrame::Typing { turn }, Some(_)) => self.takes_turn(Turn(turn)),
        }
    }

    /// Passes on the size of the page in control, which sets the terminal's.
    fn resize(&mut self, size: Size, ctx: &mut Ctx) {
        if self.resizes.tell(size) {
            ctx.run_later(resizes::WINDOW, |socket, ctx| {
                socket.resizes.turn();
                socket.push_input(ctx);
            });
        }
        self.push_input(ctx);
    }

    fn typed(&mut self, bytes: &Bytes, ctx: &mut Ctx) {
        match &self.attached {
            None => self.fail(Fault::Protocol, "The first frame must be attach.", ctx),
            Some(ends) if !ends.interactive && !ends.typing.control_aware => {
                self.fail(Fault::Protocol, "A watcher cannot type.", ctx);
            }
            Some(ends) if ends.typing.turn().is_none() => self.refuses_input(),
            Some(_) if self.backlog.len() + bytes.len() > MAX_BACKLOG_BYTES => {
                let message = "The target takes no input and too much is waiting. Wait for input_ack.";
                self.fail(Fault::TooMany, message, ctx);
            }
            Some(ends) => {
                ends.side.typed(bytes);
                self.backlog.extend_from_slice(bytes);
                self.push_input(ctx);
            }
        }
    }

    /// Passes on input; bytes without room wait and are joined with those that follow.
    fn push_input(&mut self, ctx: &mut Ctx) {
        let Some(ends) = self.attached.as_ref().filter(|_| !self.waiting_for_room) else { return };
        let Some(turn) = ends.typing.turn() else { return };
        let (attach, input) = (ends.attach, ends.input.clone());
        loop {
            // In pieces: the session bounds its queue by their number.
            let length = self.backlog.len().min(CHUNK_BYTES);
            let typed = (length > 0).then(|| InputKind::Bytes(self.backlog.split_to(length).freeze()));
            let Some(kind) = typed.or_else(|| self.resizes.due().map(InputKind::Resize)) else { return };
            match input.try_send(InputMessage { attach, turn, at: clock::instant(), kind }) {
                Ok(()) => {}
                // The session has ended; its last frame is on the way.
                Err(mpsc::error::TrySendError::Closed(_)) => return,
                Err(mpsc::error::TrySendError::Full(message)) => {
                    match message.kind {
                        InputKind::Bytes(bytes) => {
                            let rest = std::mem::replace(&mut self.backlog, BytesMut::from(bytes.as_ref()));
                            self.backlog.unsplit(rest);
                        }
                        InputKind::Resize(size) => self.resizes.give_back(size),
                    }
                    break;
                }
            }
        }
        self.waiting_for_room = true;
        let room = async move { input.reserve().await.is_ok() };
        ctx.spawn(room.into_actor(self).map(|_, socket, ctx| {
            socket.waiting_for_room = false;
            socket.push_input(ctx);
        }));
    }

    fn fragment(&mut self, item: Item, ctx: &mut Ctx) {
        match self.fragments.take(item) {
            Joined::More => {}
            Joined::Text(text) => self.text(&text, ctx),
            Joined::Bytes(bytes) => self.typed(&bytes, ctx),
            Joined::TooLarge => self.fail_too_large(ctx),
            Joined::Nested => self.fail(Fault::Protocol, "A message began inside another.", ctx),
            Joined::NotBegun => self.fail(Fault::Protocol, "A fragment continues no message.", ctx),
        }
    }

    fn fail_too_large(&mut self, ctx: &mut Ctx) {
        self.fail(Fault::FrameTooLarge, &format!("A frame has at most {MAX_FRAME} bytes. Send less at a time."), ctx);
    }
}

impl Actor for TerminalSocket {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        self.watch(self.gateway.phase(), ctx);
        self.watch_lease(self.gateway.lease(), ctx);
        ctx.run_later(ATTACH_WITHIN, |socket, ctx| {
            if socket.attached.is_none() {
                let message = format!("The first frame did not come within {} s.", ATTACH_WITHIN.as_secs());
                socket.fail(Fault::SlowToAttach, &message, ctx);
            }
        });
    }

    fn stopped(&mut self, _: &mut Ctx) {
        if let Some(ends) = self.attached.take() {
            session::post(&ends.session, SessionMessage::SocketLost(ends.attach, self.loss));
        }
    }
}

/// The browser's frames.
impl StreamHandler<Result<Message, ProtocolError>> for TerminalSocket {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Ctx) {
        if let Some(ends) = &self.attached {
            if matches!(message, Ok(Message::Pong(_))) {
                ends.side.pong.touch();
            }
            ends.side.heard.touch();
        }
        match message {
            Ok(Message::Binary(bytes)) => self.typed(&bytes, ctx),
            Ok(Message::Text(text)) => self.text(text.as_bytes(), ctx),
            Ok(Message::Continuation(item)) => self.fragment(item, ctx),
            #[cfg(test)]
            Ok(Message::Ping(payload)) if payload == FAIL => panic!("asked to"),
            Ok(Message::Ping(payload)) => self.outlet.say(OpCode::Pong, payload),
            Ok(Message::Pong(_)) => {
                self.gateway.observations().heartbeats.inc();
            }
            Ok(Message::Close(reason)) => {
                let left = |reason: &CloseReason| matches!(reason.code, CloseCode::Normal | CloseCode::Away);
                if reason.as_ref().is_some_and(left) {
                    self.loss = Loss::Left;
                }
                self.outlet.close(reason);
                ctx.stop();
            }
            Ok(Message::Nop) => {}
            Err(_) if self.too_large.is_given() => self.fail_too_large(ctx),
            // Invalid UTF-8 or reserved bits are reported as an I/O error too; a broken connection only ends the
            // stream.
            Err(error) => self.fail(Fault::Protocol, &format!("This is no WebSocket frame: {error}."), ctx),
        }
    }
}
