//! The actor of one SSH session: turns messages and one timer into events of the pure [`Session`], and carries out its
//! effects. Stops itself. Touches no bytes: those pass beside it, over the [`Wire`].
//!
//! [`Session`]: crate::core::session::Session
//! [`Wire`]: crate::actor::wire::Wire

use std::{rc::Rc, time::Duration};

use actix::{Actor, ActorContext, Context, Handler, Supervised};
use tokio::sync::oneshot;

use super::{
    SessionDeps,
    alarm::Alarm,
    clock,
    mailbox::{Envelope, Mailbox},
    pump::LinkNews,
    registry::{Announcement, RegistryMessage},
    stalls::{StallDetector, Stalls},
    wire::{ToSocket, Viewer, Wire},
};
use crate::core::{
    record::{EndReason, Record},
    session::{Effect, Event, Loss, Moment, Session},
    stream::AttachNo,
};

/// The attachment of browsers.
mod attach;
/// The start of a session's actor, the dial, and the close after its last failure.
mod birth;
/// The transfer of control between the pages of a session.
pub mod control;
/// The audit entries about host keys and channels opened unasked.
mod dial_audit;
/// The evidence behind a session's state.
mod evidence;
/// The session's messages.
mod message;
/// The start and end of a session's recording.
mod recording;
pub use attach::{Attach, AttachError, Attached, Intent};
pub(super) use birth::{mailbox, start};
pub(super) use dial_audit::DialAudit;
pub use message::{SessionMessage, post};

/// The actor's kind, as in metrics.
pub const KIND: &str = "session";

/// Delay before a close that the registry lost in a failure is announced again: longer than its restart takes.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(50);

/// The actor of one session.
pub struct SessionActor {
    session: Session,
    /// The record as last announced, from which a restarted actor goes on.
    last_record: Record,
    wire: Rc<Wire>,
    mailbox: Mailbox<SessionMessage>,
    timer: Alarm,
    detector: Rc<StallDetector>,
    /// The thread's stalls that the session has handled.
    stalled: Stalls,
    deps: SessionDeps,
}

impl SessionActor {
    /// Handles one event, after the state kept beside the actor and before the timeouts, and carries out the effects.
    fn handle_event(&mut self, event: Option<Event>, ctx: &mut Context<Self>) {
        let now = clock::now();
        self.look_around(now);
        if let Some(event) = event {
            self.session.handle(now, event);
        }
        self.session.handle_timeout(now);
        self.wire.control.borrow_mut().handle_timeout(now.at);
        self.wire.watchers.borrow_mut().handle_timeout(now.at);
        if self.last_record.is_closed() {
            // The close is on its way into the journal. Nothing else is announced before it is there.
            return self.arm();
        }
        self.note_watchers(now);
        self.carry_control(now);
        self.carry_out(ctx);
        // A browser that was dropped by an effect may have had control.
        if !self.last_record.is_closed() && self.carry_control(now) {
            self.carry_out(ctx);
        }
        self.arm();
    }

    /// Reads the state kept beside the actor into events: signs of life, the paused output, and stalls of the thread,
    /// which void what a timeout would prove.
    fn look_around(&mut self, now: Moment) {
        self.hear_browsers(now);
        self.session.handle(now, Event::Activity(self.wire.beat.read()));
        self.session.handle(now, if self.wire.paused.get() { Event::OutputPaused } else { Event::OutputResumed });
        let stalled = self.detector.stalled();
        if stalled > self.stalled {
            let lasted = stalled.missed.saturating_sub(self.stalled.missed);
            if let Some(awake_until) = stalled.awake_until {
                let slept = stalled.slept.saturating_sub(self.stalled.slept);
                self.session.handle(now, Event::Slept { lasted: slept, awake_until });
            }
            self.stalled = stalled;
            self.session.handle(now, Event::Stalled { lasted });
            self.wire.control.borrow_mut().handle(now.at, control::Event::Stalled(lasted));
            self.wire.watchers.borrow_mut().stalled(lasted);
        }
    }

    /// Notes in the history the watchers who came and left.
    fn note_watchers(&mut self, now: Moment) {
        let notes: Vec<_> = std::iter::from_fn(|| self.wire.watchers.borrow_mut().poll_effect()).collect();
        for detail in notes {
            self.session.handle(now, Event::Noted { detail });
        }
    }

    /// Reports the browsers' last signs of life to the session. Called before a browser is disconnected, which discards
    /// its own.
    fn hear_browsers(&mut self, now: Moment) {
        for viewer in self.wire.viewers() {
            if let Some(at) = viewer.side.heard.last() {
                self.session.handle(now, Event::BrowserHeard { attach: viewer.attach, at });
            }
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::PingBrowser(attach) => self.with_viewer(attach, |viewer| viewer.send(ToSocket::Ping)),
                Effect::DropBrowser(attach) => {
                    self.with_viewer(attach, |viewer| viewer.closer.close());
                    self.wire.detach(attach);
                }
                Effect::Supersede(attach) => {
                    self.with_viewer(attach, |viewer| viewer.finish(ToSocket::Superseded));
                    self.wire.detach(attach);
                }
                Effect::ProbePeer => {
                    if let Some(control) = self.wire.link_control.borrow().as_ref() {
                        self.wire.beat.ask();
                        control.probe();
                    }
                }
                Effect::Warn(warning) => self.wire.tell_all(|| ToSocket::Warn(warning)),
                Effect::WarnAgain(attach, warning) => {
                    self.with_viewer(attach, |viewer| viewer.send(ToSocket::Warn(warning)));
                }
                Effect::CloseLink => self.wire.close_link(),
                Effect::Announce(mut record, transition) => {
                    let (closed, is_new) = (record.is_closed(), record.status != self.last_record.status);
                    record.controlled_by = self.wire.control.borrow().guest().filter(|_| !closed).map(str::to_owned);
                    if let Some(transition) = transition.as_ref().filter(|_| is_new && !closed) {
                        let (status, detail) = (transition.status.as_str(), &transition.detail);
                        self.wire.tell_all(|| ToSocket::Status { status, detail: detail.clone() });
                    }
                    self.last_record = (*record).clone();
                    self.announce(Announcement { record: *record, transition }, closed);
                    if closed {
                        // The rest waits until the close is durable: `CloseSettled` goes on from here.
                        return;
                    }
                }
                Effect::Finish { message } => self.finish(message, ctx),
            }
        }
    }

    fn with_viewer(&self, attach: AttachNo, act: impl FnOnce(&Viewer)) {
        if let Some(viewer) = self.wire.viewer(attach) {
            act(&viewer);
        }
    }

    /// Announces a change. A close is announced until it is durable, even if the registry fails meanwhile.
    fn announce(&self, mut announcement: Announcement, closed: bool) {
        let (registry, audit, own) = (self.deps.registry.clone(), self.deps.audit.clone(), self.mailbox.clone());
        let (id, wire) = (announcement.record.id, closed.then(|| self.wire.clone()));
        actix::spawn(async move {
            if let (Some(wire), Some(transition)) = (wire, &mut announcement.transition) {
                transition.detail += &recording::seal(&wire, &audit, id).await;
            }
            let message = |durable| RegistryMessage::Announce { announcement: announcement.clone(), durable };
            if !closed {
                if registry.insist(|| message(None)).await.is_err() {
                    tracing::error!(session_id = %id, "a change of a session is not stored: the registry does not answer");
                }
                return;
            }
            loop {
                let (durable, settled) = oneshot::channel();
                if registry.deliver(message(Some(durable))).await.is_ok() && settled.await.is_ok() {
                    break;
                }
                tokio::time::sleep(ANNOUNCE_AGAIN).await;
            }
            post(&own, SessionMessage::CloseSettled);
        });
    }

    fn finish(&mut self, message: String, ctx: &mut Context<Self>) {
        let record = self.session.record();
        let (reason, exit_status) = (record.end_reason.unwrap_or(EndReason::ActorFailed), record.exit_status);
        for viewer in self.wire.viewers() {
            viewer.finish(ToSocket::Closed { reason, exit_status, message: message.clone() });
        }
        ctx.stop();
    }

    /// Arms the one timer for the next deadline; an earlier ring is kept, since every ring reads the clocks again.
    fn arm(&self) {
        let others = [self.wire.control.borrow().poll_timeout(), self.wire.watchers.borrow().poll_timeout()];
        let next = self.session.poll_timeout().map(|next| others.into_iter().flatten().fold(next, Ord::min));
        match next {
            Some(next) => self.timer.ring_by(clock::tick_after(next)),
            None => self.timer.set(None),
        }
    }

    fn is_owners(&self, attach: AttachNo) -> bool {
        self.wire.control.borrow().owner().attach == attach
    }

    /// Whether it is the owner's page, or that of the guest who types in their stead.
    fn has_a_say(&self, attach: AttachNo) -> bool {
        self.is_owners(attach) || self.wire.control.borrow().typist().attach == attach
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.deps.observations.meters.session.capacity());
        self.timer.start(ctx, |actor, ctx| actor.handle_event(None, ctx));
        self.handle_event(None, ctx);
    }
}

impl Supervised for SessionActor {
    /// Goes on from the last announced record and from the browsers and the exit status that the wire still has.
    fn restarting(&mut self, _: &mut Self::Context) {
        let now = clock::now();
        self.session = Session::adopt(now, self.session.started(), self.last_record.clone(), self.deps.settings.limits);
        for viewer in self.wire.viewers() {
            let (attach, interactive) = (viewer.attach, viewer.kind.interactive);
            self.session.handle(now, Event::Attached { attach, interactive });
        }
        if let Some(status) = self.wire.exit.borrow().clone() {
            self.session.handle(now, Event::Exited(status));
        }
        if self.last_record.is_closed() {
            self.announce(Announcement { record: self.last_record.clone(), transition: None }, true);
        }
    }
}

impl Handler<Envelope<SessionMessage>> for SessionActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<SessionMessage>, ctx: &mut Self::Context) {
        let (message, _handling) = envelope.open();
        let event = match message {
            SessionMessage::Attach { request, reply } => {
                let answer = self.attach(request, ctx);
                if let Err(Ok(attached)) = reply.send(answer) {
                    // The socket closed while it was being attached.
                    let (attach, how) = (attached.ends.attach, Loss::Broken);
                    self.wire.detach(attach);
                    self.handle_event(Some(Event::SocketLost { attach, how }), ctx);
                }
                return;
            }
            SessionMessage::Control(act) => return self.control(act, ctx),
            SessionMessage::SocketLost(attach, how) => {
                self.hear_browsers(clock::now());
                if how == Loss::Stuck {
                    self.with_viewer(attach, |viewer| viewer.closer.close());
                }
                if how == Loss::Left {
                    self.wire.leave(attach);
                } else {
                    self.wire.detach(attach);
                }
                Event::SocketLost { attach, how }
            }
            SessionMessage::Answer { attach, trusts, id, values } => {
                if self.is_owners(attach) && !self.wire.answer(id, values, trusts) {
                    tracing::debug!(session_id = %self.last_record.id, "an answer fitted no question");
                }
                return;
            }
            SessionMessage::Stay(attach) if self.has_a_say(attach) => Event::Stay,
            SessionMessage::UserClose(attach) if self.is_owners(attach) => {
                Event::End { reason: EndReason::UserClosed, detail: "The user closed the terminal.".into() }
            }
            SessionMessage::Revoked { attach, why } if self.is_owners(attach) => {
                Event::End { reason: EndReason::Revoked, detail: why }
            }
            SessionMessage::Stay(_) | SessionMessage::UserClose(_) | SessionMessage::Revoked { .. } => return,
            SessionMessage::End { reason, detail } => Event::End { reason, detail },
            SessionMessage::Connected { addr } => Event::Connected { addr },
            SessionMessage::ConnectFailed { reason, detail } => Event::ConnectFailed { reason, detail },
            SessionMessage::Link(LinkNews::Exited(status)) => Event::Exited(status),
            SessionMessage::Link(LinkNews::Closed) => Event::PeerClosed,
            SessionMessage::Link(LinkNews::Flow) => return self.handle_event(None, ctx),
            SessionMessage::CloseSettled => return self.settle(ctx),
            SessionMessage::AnnounceAgain => {
                let announcement = Announcement { record: self.last_record.clone(), transition: None };
                return self.announce_whole(announcement);
            }
            SessionMessage::Why(reply) => {
                if reply.send(self.why()).is_err() {
                    tracing::debug!("who asked why has left");
                }
                return;
            }
            #[cfg(test)]
            SessionMessage::Panic => panic!("asked to"),
        };
        self.handle_event(Some(event), ctx);
    }
}

impl SessionActor {
    /// Finishes after the close became durable. A restarted actor has no effects left and finishes by its record.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        self.carry_out(ctx);
        if self.session.record().is_closed() {
            self.finish("The session has ended.".to_owned(), ctx);
        }
    }

    /// Announces everything that the registry's index needs: the session's mailbox, its signs of life, its record.
    fn announce_whole(&self, announcement: Announcement) {
        let (registry, mailbox, beat) = (self.deps.registry.clone(), self.mailbox.clone(), self.wire.beat.clone());
        let id = announcement.record.id;
        let request = move || {
            let (announcement, mailbox, beat) = (announcement.clone(), mailbox.clone(), beat.clone());
            RegistryMessage::Adopt { announcement, mailbox, beat }
        };
        actix::spawn(async move {
            if registry.insist(request).await.is_err() {
                tracing::error!(session_id = %id, "a change of a session is not stored: the registry does not answer");
            }
        });
    }
}
