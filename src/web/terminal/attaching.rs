//! Attaches a socket to its session, or tells its page why it cannot. Does not know the frames that follow.

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use bytes::Bytes;
use futures_util::stream;

use super::{
    Ctx, Ends, TerminalSocket,
    control::{Typing, held},
};
use crate::{
    actor::{
        gateway::{GatewayError, Phase},
        session::{Attach, AttachError, Attached},
    },
    core::{
        audit::Action,
        record::{NodeId, Record},
    },
    web::{
        protocol::{DRAINING, Fault, GatewayFrame},
        state::{ATTACH_WINDOW, MAX_ATTACHES},
        terminal_access,
        view::session_json,
    },
};

impl TerminalSocket {
    /// Attaches; frames that arrive before that is done wait.
    pub(super) fn attach(&mut self, request: Attach, ctx: &mut Ctx) {
        let (gateway, id) = (self.gateway.clone(), self.id);
        if let Some(wait) = self.access.attach_wait(id) {
            let (within, again) = (ATTACH_WINDOW.as_secs(), wait.as_secs() + 1);
            let message = format!("You attached {MAX_ATTACHES} times within {within} s. Attach again in {again} s.");
            return self.fail(Fault::TooMany, &message, ctx);
        }
        let (interactive, control_aware) = (request.interactive, request.control_aware);
        let new = request.seen.offset.is_none();
        let attaching = async move {
            let outcome = gateway.attach(id, request).await;
            let ended = match &outcome {
                Err(AttachError::NotOpen) => gateway.find(id).await,
                Ok(_) | Err(_) => Ok(None),
            };
            (outcome, ended)
        };
        ctx.wait(attaching.into_actor(self).map(move |(outcome, ended), socket, ctx| match outcome {
            Ok(attached) => socket.attached(attached, (interactive, control_aware), new, ctx),
            Err(error @ AttachError::Offset(_)) => socket.fail(Fault::Protocol, &error.to_string(), ctx),
            Err(error @ AttachError::Elsewhere) => socket.fail(Fault::Superseded, &error.to_string(), ctx),
            Err(AttachError::NotOpen) => match ended {
                Ok(Some(Record { end_reason: Some(reason), exit_status, .. })) => {
                    socket.closed(reason, exit_status, "This session has ended.", ctx);
                }
                Ok(Some(open)) => {
                    let (fault, message) = not_here(&open, socket.gateway.node());
                    socket.fail(fault, &message, ctx);
                }
                Ok(None) => socket.fail(Fault::NoSuchSession, "No such session is known. Open a new one.", ctx),
                Err(error) => socket.fail(Fault::Failed, &error.to_string(), ctx),
            },
            Err(AttachError::Gateway(error @ GatewayError::Overloaded)) => {
                socket.fail(Fault::TooMany, &error.to_string(), ctx);
            }
            Err(AttachError::Gateway(error)) => socket.fail(Fault::Failed, &error.to_string(), ctx),
        }));
    }

    fn attached(&mut self, attached: Attached, (interactive, control_aware): (bool, bool), new: bool, ctx: &mut Ctx) {
        let Attached { record, ends, window, ping_interval, session } = attached;
        ends.side.heard.touch();
        if !self.access.is_own() {
            self.visitor.looks_at(self.access.state(), Action::SessionAttach, &record);
        }
        let typing = Typing::new(interactive, control_aware, ends.take_over, &ends.hold);
        let may = self.may(&typing);
        self.send(&GatewayFrame::Attached {
            session: Box::new(session_json(&record)),
            output_offset: ends.start.offset,
            input_offset: ends.input_offset,
            output_window: window,
            ping_interval_ms: u64::try_from(ping_interval.as_millis()).unwrap_or(u64::MAX),
            resumed: !new,
            lost_bytes: ends.start.lost,
            cols: ends.size.cols,
            rows: ends.size.rows,
            screen_bytes: ends.picture.as_ref().map_or(0, Bytes::len),
            control: control_aware.then(|| held(&ends.hold, may)),
        });
        if let Some(picture) = ends.picture {
            self.outlet.output(picture);
        }
        if self.phase == Phase::Draining {
            self.send(&DRAINING);
        }
        self.warn_of_lease();
        let mut frames = ends.frames;
        ctx.add_stream(stream::poll_fn(move |cx| frames.poll_recv(cx)));
        let access = self.access.clone();
        let guard = interactive.then(|| access.clone().guard(session.clone(), ends.attach));
        if !interactive {
            let (session, attach) = (session.clone(), ends.attach);
            ctx.spawn(access.lost().into_actor(self).map(move |why, socket, ctx| {
                // Sent before the session learns that the socket is gone: a guest who was only cut off would keep
                // control for a while.
                terminal_access::is_unfit(&session, attach, why.clone());
                socket.fail(Fault::SignIn, &format!("You may no longer look on: {why}."), ctx);
            }));
        }
        let (attach, input, side) = (ends.attach, ends.input, ends.side);
        self.attached = Some(Ends { attach, interactive, typing, input, side, session, _guard: guard });
        self.watches_guest();
    }
}

/// Returns why a session that is not closed cannot be attached to here.
fn not_here(open: &Record, own: &NodeId) -> (Fault, String) {
    if open.node == *own {
        // Its end is on its way into the journal; the reason is known once it is there.
        return (Fault::Failed, "This session is just ending. Try again.".to_owned());
    }
    let node = &open.node;
    let message = format!(
        "The gateway {node} serves this session, and its terminal opens only there. Go to the address of {node}, or try again \
         where one address leads to several gateways."
    );
    (Fault::Misdirected, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::fixture::record;

    #[test]
    fn who_comes_to_the_wrong_gateway_is_told_the_right_one() {
        let open = record();
        let (fault, message) = not_here(&open, &NodeId("gw-2".to_owned()));
        assert_eq!(fault, Fault::Misdirected);
        assert!(message.starts_with("The gateway gw-1 serves this session"), "{message}");
        assert_eq!(not_here(&open, &open.node).0, Fault::Failed);
    }
}
