//! A socket's part in control: the turn of its input, and the requests its page may make and how often. Decides about
//! rights; the session decides about control.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};

use super::{Ctx, TerminalSocket};
use crate::{
    actor::{
        session::{
            self, SessionMessage,
            control::{ControlCommand, ControlMessage},
        },
        wire::{ControlRequest, Hold},
    },
    core::{
        audit::Action,
        control::{TakeOver, Turn},
    },
    web::{
        protocol::{ControlOption, ControlRequestView, Fault, GatewayFrame, Held},
        terminal_access::Guard,
    },
};

/// Frames that want something of the session, per page and [`WINDOW`]: more than a user clicks. Each may be a line in the
/// history, and waits where no mailbox bounds it.
const MAX_WISHES: u8 = 20;

/// The window in which they are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// A page's request about control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlFrame {
    /// To ask the owner for control.
    Ask,
    /// To take control now.
    Take,
    /// To give control back.
    Return,
    /// To answer another user's request.
    Answer(u64, bool),
}

/// Whether a page types, and in which turn.
pub struct Typing {
    /// Whether the page supports changes of control.
    pub control_aware: bool,
    is_owners: bool,
    take_over: TakeOver,
    /// The turn in which the session lets it type.
    given: Option<Turn>,
    /// The turn its input belongs to, as it declared: input it sent before belongs to another one.
    taken: Option<Turn>,
    /// Whether it was notified that its input is not delivered.
    refused: bool,
    /// Frames in this window that want something of the session; `None` while no window is open.
    wishes: Option<u8>,
    /// The guard of a guest's access.
    guard: Option<Guard>,
    /// Whether the audit log has an entry that it takes control.
    is_audited: bool,
}

impl Typing {
    /// Creates the state of a page that attaches now. A new socket has no input of an earlier turn on its way.
    pub fn new(is_owners: bool, control_aware: bool, take_over: TakeOver, hold: &Hold) -> Self {
        let given = hold.typing.then_some(hold.turn);
        let (refused, wishes, guard, is_audited) = (false, None, None, false);
        Self { control_aware, is_owners, take_over, given, taken: given, refused, wishes, guard, is_audited }
    }

    /// Returns the turn its input belongs to; `None` while it does not type.
    pub fn turn(&self) -> Option<Turn> {
        self.taken
    }

    /// Returns why its input is not delivered.
    fn refusal(&self) -> &'static str {
        match self.given {
            None => "Another page types in this session: what you type is not delivered.",
            Some(_) => "This page is to say first in which turn it types: what it sent before that is not delivered.",
        }
    }

    /// Records that control moved.
    fn moved(&mut self, hold: &Hold) {
        self.given = hold.typing.then_some(hold.turn);
        if self.taken != self.given {
            (self.taken, self.refused) = (None, false);
        }
    }

    /// Takes the page's declaration that it types in `turn`; one of an older turn than the page was given is ignored.
    fn take(&mut self, turn: Turn) {
        self.taken = self.given.filter(|given| *given == turn).or(self.taken);
    }
}

/// Returns the state of control, as a page receives it.
pub fn held(hold: &Hold, may: ControlOption) -> Held<'_> {
    let Hold { turn, typing, guest, input_offset, message } = hold;
    Held { turn: turn.0, typing: *typing, name: guest.as_deref(), may, input_offset: *input_offset, message }
}

/// Returns a request for control, as the owner's page receives it.
pub fn control_request_view(asking: &ControlRequest) -> ControlRequestView<'_> {
    let ends_in_ms = u64::try_from(asking.ends_in.as_millis()).unwrap_or(u64::MAX);
    ControlRequestView { id: asking.id, name: &asking.name, ends_in_ms }
}

impl TerminalSocket {
    /// Returns how this page can get control.
    pub(super) fn may(&self, typing: &Typing) -> ControlOption {
        match (typing.is_owners, typing.take_over) {
            (true, _) => ControlOption::Take,
            (false, TakeOver::Never) => ControlOption::None,
            (false, _) if self.access.unfit().is_some() => ControlOption::None,
            (false, TakeOver::Request) => ControlOption::Ask,
            (false, TakeOver::Force) => ControlOption::Take,
        }
    }

    /// Notifies the page that control moved. Buffered input of an earlier turn is dropped; the offset of its input that
    /// was taken tells the page which.
    pub(super) fn control_moved(&mut self, hold: &Hold) {
        let Some(ends) = self.attached.as_mut() else { return };
        ends.typing.moved(hold);
        if ends.typing.turn().is_none() {
            self.backlog.clear();
        }
        if let Some(ends) = &self.attached {
            self.send(&GatewayFrame::Control(held(hold, self.may(&ends.typing))));
        }
        self.watches_guest();
    }

    /// Guards a guest's access for as long as they type, and has it audited.
    pub(super) fn watches_guest(&mut self) {
        let (access, id) = (self.access.clone(), self.id);
        let Some(ends) = self.attached.as_mut().filter(|ends| !ends.interactive) else { return };
        let (attach, session) = (ends.attach, ends.session.clone());
        let typing = &mut ends.typing;
        match (typing.given, &typing.guard) {
            (None, _) => (typing.guard, typing.is_audited) = (None, false),
            (Some(_), Some(_)) => {}
            (Some(_), None) => {
                let subject = access.subject();
                typing.guard = Some(access.watch_guest(session, attach));
                if !std::mem::replace(&mut typing.is_audited, true) {
                    let detail = format!("{subject}: types there.");
                    self.gateway.audit().note(self.visitor.did(Action::SessionControl, id, &detail));
                }
            }
        }
    }

    /// Records that the page types in `turn` from here on.
    pub(super) fn takes_turn(&mut self, turn: Turn) {
        if let Some(ends) = self.attached.as_mut() {
            ends.typing.take(turn);
        }
    }

    /// Notifies the page, once until control moves, that its input is not delivered.
    pub(super) fn refuses_input(&mut self) {
        let Some(ends) = self.attached.as_mut() else { return };
        if !std::mem::replace(&mut ends.typing.refused, true) {
            let message = ends.typing.refusal();
            self.send(&GatewayFrame::InputRefused { message });
        }
    }

    /// Counts a frame that wants something of the session, and returns whether it may go on: one too many closes the
    /// socket.
    fn counts_wish(&mut self, ctx: &mut Ctx) -> bool {
        let Some(ends) = self.attached.as_mut() else { return false };
        let wishes = ends.typing.wishes.get_or_insert_with(|| {
            ctx.run_later(WINDOW, |socket, _| {
                if let Some(ends) = socket.attached.as_mut() {
                    ends.typing.wishes = None;
                }
            });
            0
        });
        *wishes += 1;
        let is_one_too_many = *wishes > MAX_WISHES;
        if is_one_too_many {
            let within = WINDOW.as_secs();
            let message = format!("More than {MAX_WISHES} wishes within {within} s. Attach again.");
            self.fail(Fault::TooMany, &message, ctx);
        }
        !is_one_too_many
    }

    /// Passes on an answer, a wish to stay or an end: the session knows of whom it takes which.
    pub(super) fn passes_on(&mut self, message: SessionMessage, ctx: &mut Ctx) {
        let may_go_on = self.counts_wish(ctx);
        if let Some(ends) = self.attached.as_ref().filter(|_| may_go_on) {
            session::post(&ends.session, message);
        }
    }

    /// Passes on the page's request, if the user may make it.
    pub(super) fn acts(&mut self, frame: ControlFrame, ctx: &mut Ctx) {
        if !self.counts_wish(ctx) {
            return;
        }
        let Some(ends) = &self.attached else { return };
        let (is_owners, take_over) = (ends.typing.is_owners, ends.typing.take_over);
        let unfit = |socket: &Self| socket.access.unfit().map(|why| format!("You may not type here: {why}."));
        match frame {
            ControlFrame::Return => self.tells_session(ControlCommand::GiveBack),
            ControlFrame::Answer(request, granted) => self.tells_session(ControlCommand::Answer { request, granted }),
            ControlFrame::Take if is_owners => self.tells_session(ControlCommand::TakeBack),
            ControlFrame::Ask | ControlFrame::Take => match (unfit(self), frame) {
                (Some(why), _) => self.tells_session(ControlCommand::Refused { why }),
                (None, ControlFrame::Take) if take_over == TakeOver::Force => self.forces(ctx),
                // The session refuses it, with a sentence.
                (None, ControlFrame::Take) => self.tells_session(ControlCommand::Force),
                (None, ControlFrame::Ask | ControlFrame::Return | ControlFrame::Answer(..)) => {
                    self.tells_session(ControlCommand::Ask)
                }
            },
        }
    }

    /// Takes control without asking, once the audit log has the entry.
    fn forces(&mut self, ctx: &mut Ctx) {
        let detail = format!("{}: takes control without asking.", self.access.subject());
        let deed = self.visitor.did(Action::SessionControl, self.id, &detail);
        let audit = self.gateway.audit().clone();
        let recording = async move { audit.record(deed).await };
        ctx.wait(recording.into_actor(self).map(|recorded, socket, _| {
            let command = match recorded {
                Ok(()) => ControlCommand::Force,
                Err(error) => ControlCommand::Refused { why: error.to_string() },
            };
            if let Some(ends) = socket.attached.as_mut().filter(|_| matches!(command, ControlCommand::Force)) {
                ends.typing.is_audited = true;
            }
            socket.tells_session(command);
        }));
    }

    fn tells_session(&self, command: ControlCommand) {
        if let Some(ends) = &self.attached {
            session::post(&ends.session, SessionMessage::Control(ControlMessage { attach: ends.attach, command }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(turn: u64, typing: bool) -> Hold {
        Hold { turn: Turn(turn), typing, guest: None, input_offset: 0, message: String::new() }
    }

    fn typing(now: &Hold) -> Typing {
        Typing::new(false, true, TakeOver::Request, now)
    }

    #[test]
    fn what_is_on_its_way_when_control_comes_back_is_of_no_turn() {
        let mut page = typing(&hold(1, true));
        assert_eq!(page.turn(), Some(Turn(1)), "a new socket has nothing on its way");
        page.moved(&hold(2, false));
        assert_eq!(page.turn(), None);
        page.take(Turn(2));
        assert_eq!(page.turn(), None, "it was not given");
        assert!(page.refusal().starts_with("Another page types"));
        page.moved(&hold(3, true));
        assert_eq!(page.turn(), None, "it has not said that it knows");
        assert!(page.refusal().starts_with("This page is to say"), "nobody else types");
        page.take(Turn(1));
        assert_eq!(page.turn(), None, "that was an earlier turn");
        page.take(Turn(3));
        assert_eq!(page.turn(), Some(Turn(3)));
        page.take(Turn(1));
        assert_eq!(page.turn(), Some(Turn(3)), "one that comes late changes nothing");
    }

    #[test]
    fn a_turn_that_was_taken_between_two_of_its_own_is_noticed() {
        let mut page = typing(&hold(1, true));
        page.moved(&hold(3, true));
        assert_eq!(page.turn(), None);
        page.take(Turn(3));
        page.moved(&hold(3, true));
        assert_eq!(page.turn(), Some(Turn(3)), "told again, it goes on");
    }
}
