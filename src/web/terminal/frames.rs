//! Messages of a session, and of the gateway whose end or whose lease's end is near, as frames to a browser. Does not
//! know the browser's frames.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use actix_http::ws::{CloseCode, OpCode};

use tokio::sync::watch;

use super::{Ctx, TerminalSocket, control::control_request_view};
use crate::{
    actor::{gateway::Phase, registry::OwnLease, wire::ToSocket},
    core::{record::EndReason, session::Warning, stream::Picture},
    ssh::Size,
    web::protocol::{self, DRAINING, Fault, GatewayFrame, STOPPING},
};

impl TerminalSocket {
    /// Watches the gateway's last phases: notifies the page once that the gateway will stop, and closes the socket at
    /// the latest when it does. An attached page receives the end of its session first.
    pub(super) fn watch(&mut self, mut phase: watch::Receiver<Phase>, ctx: &mut Ctx) {
        let told = self.phase;
        let next = async move {
            // The gateway outlives its sockets.
            let now = phase.wait_for(|now| *now > told.max(Phase::Ready)).await.map_or(Phase::Over, |now| *now);
            (now, phase)
        };
        ctx.spawn(next.into_actor(self).map(|(now, phase), socket, ctx| {
            socket.phase = now;
            match now {
                Phase::Draining if socket.attached.is_some() => socket.send(&DRAINING),
                // A page that is not attached yet is notified after `attached`.
                Phase::Starting | Phase::Ready | Phase::Draining => {}
                Phase::ShuttingDown | Phase::ShutDown if socket.attached.is_some() => {}
                Phase::ShuttingDown | Phase::ShutDown | Phase::Over => {
                    return socket.fail(Fault::Restart, STOPPING, ctx);
                }
            }
            socket.watch(phase, ctx);
        }));
    }

    /// Watches the gateway's lease: warns the attached page when it runs out soon, and tells it when that is put off.
    pub(super) fn watch_lease(&self, mut lease: watch::Receiver<OwnLease>, ctx: &mut Ctx) {
        let next = async move { lease.changed().await.is_ok().then_some(lease) };
        ctx.spawn(next.into_actor(self).map(|lease, socket, ctx| {
            // A page that is not attached yet is warned after `attached`.
            if socket.attached.is_some() {
                socket.warn_of_lease();
            }
            if let Some(lease) = lease {
                socket.watch_lease(lease, ctx);
            }
        }));
    }

    /// Tells the page when every session ends unless the gateway's lease is renewed, or that this is put off.
    pub(super) fn warn_of_lease(&mut self) {
        let left = self.gateway.lease().borrow().notice();
        let was_warned = std::mem::replace(&mut self.lease_warned, left.is_some());
        if left.is_some() || was_warned {
            self.send(&GatewayFrame::LeaseWarning { closes_in_ms: left.map(millis) });
        }
    }

    /// Pings the page, which its browser answers. A page cannot see that, and over HTTP one that looks on cannot learn
    /// whether its own socket was given up, so it gets a frame besides.
    fn ping(&self) {
        self.outlet.say(OpCode::Ping, b"");
        if self.attached.as_ref().is_some_and(|ends| !ends.interactive && ends.typing.control_aware) {
            self.send(&GatewayFrame::Alive);
        }
    }

    /// Warns of an ending by the clock, or withdraws that.
    fn warn(&self, warning: Warning) {
        self.send(&match warning {
            Warning::Idle(left) => GatewayFrame::IdleWarning { closes_in_ms: left.map(millis) },
            Warning::MaxDuration(left) => GatewayFrame::DurationWarning { closes_in_ms: millis(left) },
        });
    }

    /// Reports that the session is over. One that ended with its gateway may be opened anew once that is back.
    pub(super) fn closed(&mut self, reason: EndReason, exit_status: Option<u32>, message: &str, ctx: &mut Ctx) {
        self.send(&GatewayFrame::Closed { reason, exit_status, message });
        let restarts = reason == EndReason::Shutdown && *self.gateway.phase().borrow() >= Phase::ShuttingDown;
        self.hang_up(if restarts { CloseCode::Restart } else { CloseCode::Normal }, ctx);
    }
}

fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

impl StreamHandler<ToSocket> for TerminalSocket {
    fn handle(&mut self, frame: ToSocket, ctx: &mut Ctx) {
        match frame {
            ToSocket::Output(bytes) => self.outlet.output(bytes),
            ToSocket::Redraw(Picture { offset: output_offset, bytes, lost: lost_bytes }) => {
                self.send(&GatewayFrame::Screen { output_offset, screen_bytes: bytes.len(), lost_bytes });
                self.outlet.output(bytes);
            }
            ToSocket::Watchers(names) => self.send(&GatewayFrame::Watchers { names: &names }),
            ToSocket::Control(hold) => self.control_moved(&hold),
            ToSocket::Requests(asking) => {
                let items = asking.iter().map(control_request_view).collect();
                self.send(&GatewayFrame::ControlRequests { items });
            }
            ToSocket::Answer(outcome, message) => {
                self.send(&GatewayFrame::ControlAnswer { outcome, message: &message });
            }
            ToSocket::Size(Size { cols, rows }) => self.send(&GatewayFrame::Size { cols, rows }),
            ToSocket::InputAck(input_offset) => self.send(&GatewayFrame::InputAck { input_offset }),
            ToSocket::Status { status, detail } => self.send(&GatewayFrame::Status { status, detail: &detail }),
            ToSocket::Ask(id, prompt) => self.send(&protocol::prompt(id, &prompt)),
            ToSocket::Warn(warning) => self.warn(warning),
            ToSocket::Ping => self.ping(),
            ToSocket::Closed { reason, exit_status, message } => self.closed(reason, exit_status, &message, ctx),
            ToSocket::Superseded => self.fail(Fault::Superseded, "The session was opened in another window.", ctx),
            ToSocket::TakenOver(sentence) => {
                let message = format!("{sentence} Open the session anew to take control back.");
                self.fail(Fault::Superseded, &message, ctx);
            }
            ToSocket::FellBehind => {
                self.fail(Fault::TooMany, "This window is too slow for the session's output. Attach again.", ctx);
            }
            ToSocket::BadAck(beyond) => {
                self.fail(Fault::Protocol, &format!("The acknowledged output is wrong: {beyond}."), ctx);
            }
        }
    }
}
