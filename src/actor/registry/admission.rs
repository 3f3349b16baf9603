//! Admission of sessions, and their assignment to the actors that run them. Opens are refused while a store cannot take
//! them; closes never are.

use std::sync::Arc;

use actix::Context;
use tokio::sync::oneshot;

use super::{Claim, Entry, Place, RegistryActor, flush::Waiter};
use crate::{
    actor::{
        clock::{self, Beat},
        gateway::{GatewayError, OpenSession},
        mailbox::Mailbox,
        session::SessionMessage,
        stores::OpenBlocker,
    },
    core::{
        lease::RENEWAL,
        ledger::Priority,
        record::{EndReason, Record, SessionId},
    },
    store::Write,
};

/// Checks, one a second, that find a session without an actor before it is closed: a new session is dialled within a
/// second.
const MAX_UNATTENDED_CHECKS: u32 = 10;

impl RegistryActor {
    /// Admits a session and makes its record durable, or replies with the reason for its refusal.
    pub(super) fn open(
        &mut self,
        record: Record,
        request: Box<OpenSession>,
        reply: oneshot::Sender<Result<Record, GatewayError>>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(refusal) = self.admits(&record.username) {
            if reply.send(Err(refusal)).is_err() {
                tracing::debug!("who was refused a session has left");
            }
            return;
        }
        // Indexed and queued in one step: a registry that failed in between would count a session that is never written
        // or ended.
        let now = clock::instant();
        *self.per_user.entry(record.username.clone()).or_default() += 1;
        let (durable, place) = (None, Place::Waiting(request));
        let entry =
            Entry { record: record.clone(), durable, whole: true, changed: 0, recorded: 0, place, unattended: 0 };
        self.index.insert(record.id, entry);
        let transitions = vec![record.transition(record.start_time, "Opened.".into())];
        self.queue(now, Priority::Lifecycle, Write { record, transitions }, Some(Waiter::Opened(reply)));
        self.flush(ctx);
    }

    /// Checks whether one more session of `username` is admitted now; the error is the reason for a refusal.
    pub(super) fn admits(&self, username: &str) -> Result<(), GatewayError> {
        let of_user = self.per_user.get(username).copied().unwrap_or(0);
        let (max, max_user) = (self.settings.max_sessions, self.settings.max_per_user);
        if !self.shutting_down.is_empty() {
            Err(GatewayError::Draining)
        } else if self.index.len() >= max as usize {
            Err(GatewayError::TooMany { max })
        } else if of_user >= max_user {
            Err(GatewayError::TooManyOfUser { max: max_user })
        } else if self.is_fenced() {
            Err(GatewayError::LeaseLost)
        } else if !self.shared.open_blockers.is_empty() {
            Err(GatewayError::Store)
        } else {
            Ok(())
        }
    }

    /// Refuses opens while the journal's disk has room for closes only.
    pub(super) fn watch_room(&self) {
        self.shared.open_blockers.set(OpenBlocker::DiskFull, !self.stores.journal.has_room_for_opens());
    }

    /// Gives a waiting session to the caller, or returns the mailbox of the actor that runs it.
    pub(super) fn claim(&mut self, id: SessionId, mailbox: Mailbox<SessionMessage>, beat: Arc<Beat>) -> Claim {
        let Some(entry) = self.index.get_mut(&id).filter(|entry| !entry.record.is_closed()) else {
            return Claim::NotOpen;
        };
        match &entry.place {
            Place::Running { mailbox, .. } => Claim::Placed(mailbox.clone()),
            Place::Waiting(_) => match std::mem::replace(&mut entry.place, Place::Running { mailbox, beat }) {
                Place::Waiting(request) => Claim::Yours(request, Box::new(entry.record.clone())),
                Place::Running { .. } => Claim::NotOpen,
            },
        }
    }

    /// Takes back a session that was given to a caller that had left.
    pub(super) fn unclaim(&mut self, id: SessionId, claim: Claim) {
        if let (Claim::Yours(request, _), Some(entry)) = (claim, self.index.get_mut(&id)) {
            entry.place = Place::Waiting(request);
        }
    }

    /// Closes sessions without an actor after [`MAX_UNATTENDED_CHECKS`]: the caller that was to start one has gone, or
    /// its actor ended without an announcement.
    pub(super) fn close_unattended(&mut self, ctx: &mut Context<Self>) {
        let now = clock::instant();
        let since = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        // After a stall the checks come all at once, and no other actor had a turn between them.
        if since < RENEWAL / 2 {
            return;
        }
        let mut left = Vec::new();
        for (id, entry) in self.index.iter_mut().filter(|(_, entry)| !entry.record.is_closed()) {
            entry.unattended = if entry.is_attended() { 0 } else { entry.unattended + 1 };
            if entry.unattended >= MAX_UNATTENDED_CHECKS {
                left.push(*id);
            }
        }
        left.sort_unstable();
        for id in left {
            tracing::error!(session_id = %id, "no actor runs this session; it is closed");
            self.close_without_actor(id, EndReason::ActorFailed, "Nobody ran it any more.".to_owned(), None, ctx);
        }
    }
}
