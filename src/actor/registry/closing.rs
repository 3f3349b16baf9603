//! Ends sessions: by their actors, or in the place of one that is gone.

use actix::Context;

use super::{RegistryActor, entry::Place, flush::Waiter, message::Announcement};
use crate::{
    actor::{
        clock,
        session::{self, SessionMessage},
    },
    core::{
        ledger::Priority,
        record::{EndReason, Record, SessionId},
        session::{Effect, Event, Session},
    },
};

impl RegistryActor {
    /// Closes a session that has no actor; an end that is on its way already stays. A session that is over drops the
    /// `waiter`.
    pub(super) fn close_without_actor(
        &mut self,
        id: SessionId,
        reason: EndReason,
        detail: String,
        waiter: Option<Waiter>,
        ctx: &mut Context<Self>,
    ) {
        let Some(record) = self.index.get(&id).map(|entry| entry.record.clone()) else { return };
        let closing = self.closing(&record, reason, detail);
        let announcement = closing.unwrap_or(Announcement { record, transition: None });
        self.announce(Priority::of(&announcement.record), announcement, waiter, ctx);
    }

    /// Returns the announcement that a session's actor would make at this ending, with the activity up to now; `None` if
    /// the session is closed.
    pub(super) fn closing(&self, record: &Record, reason: EndReason, detail: String) -> Option<Announcement> {
        let now = clock::now();
        let mut session = Session::adopt(now, now.at, record.clone(), self.settings.limits);
        if let Some(Place::Running { beat, .. }) = self.index.get(&record.id).map(|entry| &entry.place) {
            session.handle(now, Event::Activity(beat.read()));
        }
        session.handle(now, Event::End { reason, detail });
        std::iter::from_fn(|| session.poll_effect()).find_map(|effect| match effect {
            Effect::Announce(record, transition) => Some(Announcement { record: *record, transition }),
            _ => None,
        })
    }

    pub(super) fn end(&mut self, id: SessionId, reason: EndReason, detail: String, ctx: &mut Context<Self>) -> bool {
        let Some(entry) = self.index.get(&id).filter(|entry| !entry.record.is_closed()) else {
            return false;
        };
        match &entry.place {
            Place::Running { mailbox, .. } if mailbox.is_connected() => {
                session::post(mailbox, SessionMessage::End { reason, detail });
            }
            Place::Running { .. } | Place::Waiting(_) => self.close_without_actor(id, reason, detail, None, ctx),
        }
        true
    }
}
