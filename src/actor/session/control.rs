//! The transfer of control between the pages of a session: their requests go to [`Control`], its effects to the pages
//! and the history.
//!
//! [`Control`]: crate::core::control::Control

use actix::Context;

use super::SessionActor;
use crate::{
    actor::{clock, wire::ToSocket},
    core::{
        control::{Answer, Effect, Page},
        record::Status,
        session::{self, Loss, Moment},
        stream::AttachNo,
    },
};

pub(in crate::actor) use crate::core::control::Event;

/// A page's message about control.
#[derive(Debug, Clone)]
pub struct ControlMessage {
    /// The page's attachment.
    pub attach: AttachNo,
    /// The action.
    pub command: ControlCommand,
}

/// An action on control. The user's right to it was checked before.
#[derive(Debug, Clone)]
pub enum ControlCommand {
    /// A watcher asks for control.
    Ask,
    /// A watcher takes control without asking.
    Force,
    /// The owner takes control back.
    TakeBack,
    /// A guest gives control back.
    GiveBack,
    /// The owner answers a request.
    Answer {
        /// The request's id.
        request: u64,
        /// Whether the owner grants it.
        granted: bool,
    },
    /// The page's user may no longer type in this session.
    Unfit {
        /// The reason, as a part of a sentence.
        why: String,
    },
    /// A watcher has no right to control.
    Refused {
        /// The reason, as a sentence.
        why: String,
    },
}

impl SessionActor {
    /// Handles a page's message about control.
    pub(super) fn control(&mut self, ControlMessage { attach, command }: ControlMessage, ctx: &mut Context<Self>) {
        let Some(viewer) = self.wire.viewer(attach).filter(|viewer| viewer.kind.control_aware) else { return };
        let page = || Page { attach, name: viewer.user.clone(), client: viewer.client.clone() };
        let is_early = self.session.record().status == Status::Connecting;
        let event = match command {
            ControlCommand::Ask | ControlCommand::Force if is_early || viewer.kind.interactive => {
                let why = "Nobody but the owner types before the shell runs.".to_owned();
                return viewer.send(ToSocket::Answer(Answer::Refused, why));
            }
            ControlCommand::Ask => Event::Asked(page()),
            ControlCommand::Force => Event::Forced(page()),
            ControlCommand::TakeBack => Event::TookBack(attach),
            ControlCommand::GiveBack => Event::GaveBack(attach),
            ControlCommand::Answer { request, granted } => Event::Answered { by: attach, request, granted },
            ControlCommand::Unfit { why } => Event::Unfit { attach, why },
            ControlCommand::Refused { why } => return viewer.send(ToSocket::Answer(Answer::Refused, why)),
        };
        self.wire.control.borrow_mut().handle(clock::instant(), event);
        self.handle_event(None, ctx);
    }

    /// Carries out the effects of a change of control; returns whether there were any and the session is not over.
    pub(super) fn carry_control(&mut self, now: Moment) -> bool {
        let mut any = false;
        loop {
            let effect = self.wire.control.borrow_mut().poll_effect();
            let Some(effect) = effect else { break };
            any = true;
            match effect {
                Effect::Moved(message) => {
                    self.wire.control_moved(&message);
                    self.supersede_who_knows_nothing(now);
                    let attach = self.wire.control.borrow().typist().attach;
                    self.session.handle(now, session::Event::ControlMoved { attach });
                }
                Effect::Requests => self.wire.tell_requests(),
                Effect::Tell(attach, answer, message) => {
                    self.with_viewer(attach, |viewer| viewer.send(ToSocket::Answer(answer, message)));
                }
                Effect::Note(detail) => self.session.handle(now, session::Event::Noted { detail }),
            }
        }
        any && !self.session.record().is_closed()
    }

    /// Supersedes an owner's page that does not support the transfer of control once a guest types: its input would be
    /// lost.
    fn supersede_who_knows_nothing(&mut self, now: Moment) {
        let (owner, typist) = {
            let control = self.wire.control.borrow();
            (control.owner().attach, control.typist().attach)
        };
        if let Some(viewer) = self.wire.viewer(owner).filter(|viewer| owner != typist && !viewer.kind.control_aware) {
            viewer.finish(ToSocket::Superseded);
            self.wire.detach(owner);
            self.session.handle(now, session::Event::SocketLost { attach: owner, how: Loss::TakenOver });
        }
    }
}
