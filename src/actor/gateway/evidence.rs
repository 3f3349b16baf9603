//! The evidence behind a session's status: from its actor, or for a session of another node from the stores and that
//! node's signs of life. Decides nothing.

use std::time::{Duration, Instant};

use tokio::{sync::oneshot, time::timeout_at};

use super::{Gateway, GatewayError, elsewhere, overlay::Known, proof, unreadable};
use crate::{
    actor::{clock, registry::RegistryMessage, session::SessionMessage},
    core::{
        lease::patience,
        neighbours::{NeighbourState, Standing},
        record::{Epoch, Record, SessionId, UtcMicros},
    },
    store::{Excerpt, StoreError},
};

/// The evidence behind a session's status.
#[derive(Debug, Clone)]
pub struct Why {
    /// The session's current record.
    pub session: Record,
    /// Its status, and what that rests on, in a few sentences.
    pub proof: String,
    /// The gateway that serves or served it; `None` if nothing is known of that gateway.
    pub owner: Option<Owner>,
    /// When the owner's page, attached or the last that was, gave its last sign of life (pong or byte).
    pub browser_heard_at: Option<UtcMicros>,
    /// When that page last answered a ping.
    pub last_pong_at: Option<UtcMicros>,
    /// When any page of those who look on, a guest's among them, gave its last sign of life.
    pub watchers_heard_at: Option<UtcMicros>,
    /// When the last byte came from the target's connection, keepalive replies included.
    pub peer_heard_at: Option<UtcMicros>,
    /// When the target last answered a keepalive: its first byte after one, whatever that carries.
    pub last_reply_at: Option<UtcMicros>,
    /// When the user last typed.
    pub last_input_at: Option<UtcMicros>,
    /// When the last byte went to the target, typed or sent by a terminal itself.
    pub last_byte_in_at: Option<UtcMicros>,
    /// When the terminal last produced output.
    pub last_output_at: Option<UtcMicros>,
    /// Every deadline that is armed now, soonest first; empty when closed.
    pub deadlines: Vec<Deadline>,
    /// Its transitions, oldest first.
    pub history: Excerpt,
}

/// One armed deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// The event at the deadline: `browser_lost`, `peer_lost`, `detach_expired`, `idle_timeout` or `max_duration`;
    /// `fenced` unless this node renews its lease; for a session of another node `owner_lost` (it is shown as lost) or
    /// `owner_fenced` (it is closed), unless that node gives a sign of life.
    pub what: &'static str,
    /// Milliseconds from now.
    pub left_ms: u64,
}

/// The gateway that serves a session, by its lease and its signs of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Whether it is this gateway.
    pub own: bool,
    /// Its standing: serving, lost, left or fenced; this gateway's is fenced while it may not serve.
    pub standing: Standing,
    /// Its epoch, if known: a session that was opened in an earlier one is over.
    pub epoch: Option<Epoch>,
    /// The newest renewal of its lease, by its own wall clock; this gateway's only once it was granted.
    pub renewed_at: Option<UtcMicros>,
    /// Milliseconds since this node saw its last sign of life; for itself since its newest granted renewal was sent.
    pub silent_ms: u64,
    /// Milliseconds for which it may serve without renewing its lease; `None` if unlimited or unknown.
    pub serve_for_ms: Option<u64>,
}

impl Gateway {
    /// Returns the evidence behind a session's state; `None` for an unknown id.
    ///
    /// # Errors
    /// [`GatewayError`] if the registry or the records cannot answer.
    pub async fn why(&self, id: SessionId) -> Result<Option<Why>, GatewayError> {
        let found = self.ask(|reply| RegistryMessage::Find { id, reply }).await?;
        let Some(found) = found else { return self.why_elsewhere(id).await };
        let mut why = None;
        if let Some(mailbox) = found.mailbox {
            let (reply, answer) = oneshot::channel();
            if mailbox.deliver(SessionMessage::Why(reply)).await.is_ok() {
                why = answer.await.ok();
            }
        }
        let mut why = why.unwrap_or_else(|| Why::of_record(found.record.clone()));
        // The actor knows of a change of control before the record does.
        why.session = Record { controlled_by: why.session.controlled_by, ..found.record };
        let history = self.history(&why.session, false).await?;
        why.owner = self.owner(&why.session).await;
        let lapses = self.shared.lease.borrow().left().filter(|_| !why.session.is_closed());
        why.deadlines.extend(lapses.map(|left| Deadline { what: "fenced", left_ms: millis(left) }));
        why.deadlines.sort_by_key(|deadline| deadline.left_ms);
        Ok(Some(why.proven(history, |why| proof::here(why, clock::utc()))))
    }

    /// Returns the evidence for a session that is not open on this node, from the stores.
    async fn why_elsewhere(&self, id: SessionId) -> Result<Option<Why>, GatewayError> {
        let Some(Known { session, unread }) = self.known(id).await? else { return Ok(None) };
        let mut why = Why::of_record(session);
        let history = self.history(&why.session, unread).await?;
        self.label(std::slice::from_mut(&mut why.session));
        why.owner = self.owner(&why.session).await;
        if !why.session.is_closed() {
            why.deadlines = self.deadlines_of_owner(&why.session);
        }
        Ok(Some(why.proven(history, |why| proof::elsewhere(&why.session, why.owner.as_ref(), unread))))
    }

    /// Returns a session's history; `None` if it cannot be read, or not soon: only of a session that is over, and that
    /// the records answered for, is it waited for long.
    async fn history(&self, session: &Record, unread: bool) -> Result<Option<Excerpt>, GatewayError> {
        let asked = self.stores.excerpt(session.id);
        let hurries = unread || !session.is_closed();
        let told = if hurries { timeout_at(elsewhere::patience().into(), asked).await.ok() } else { Some(asked.await) };
        match told {
            Some(Ok(history)) => Ok(Some(history)),
            None | Some(Err(StoreError::Unavailable(_))) => Ok(None),
            Some(Err(error)) => Err(unreadable(error)),
        }
    }

    async fn owner(&self, session: &Record) -> Option<Owner> {
        let (now, settings, seen) = (clock::instant(), &self.deps.settings, self.seen.borrow().clone());
        if session.node == settings.node {
            let (standing, renewed_at, silent) = self.own_lease().await;
            return Some(Owner {
                own: true,
                standing,
                epoch: Some(settings.epoch),
                renewed_at,
                silent_ms: millis(silent),
                serve_for_ms: self.stores.records.is_some().then(|| millis(settings.serve_for)),
            });
        }
        let (_, standing, state) = seen.states(now).find(|(node, ..)| **node == session.node)?;
        Some(Owner {
            own: false,
            standing,
            epoch: state.node.as_ref().map(|node| node.lease.epoch),
            renewed_at: state.node.as_ref().map(|node| node.lease.renewed_at),
            silent_ms: millis(now.saturating_duration_since(state.moved)),
            serve_for_ms: state.node.as_ref().map(|node| millis(node.serve_for)),
        })
    }

    /// Returns the deadlines that apply to a session while its own node is silent.
    fn deadlines_of_owner(&self, session: &Record) -> Vec<Deadline> {
        let (now, seen) = (clock::instant(), self.seen.borrow().clone());
        let state = seen.states(now).find(|(node, ..)| **node == session.node);
        state.map_or_else(Vec::new, |(_, standing, state)| deadlines(now, standing, state))
    }
}

impl Why {
    /// Adds the history and the proof, which says so where there is none.
    fn proven(mut self, history: Option<Excerpt>, proof: impl FnOnce(&Self) -> String) -> Self {
        let is_unread = history.is_none();
        self.history = history.unwrap_or_default();
        self.proof = proof(&self);
        if is_unread {
            self.proof.push_str(proof::NO_HISTORY);
        }
        self
    }

    /// The evidence that a record alone gives, for a session that no actor of this node runs.
    pub(super) fn of_record(session: Record) -> Self {
        Self {
            proof: String::new(),
            owner: None,
            browser_heard_at: None,
            last_pong_at: None,
            watchers_heard_at: None,
            // Not the last sign of life, which may be the browser's.
            peer_heard_at: None,
            last_reply_at: None,
            last_input_at: session.last_input_at,
            last_byte_in_at: None,
            last_output_at: None,
            deadlines: Vec::new(),
            history: Excerpt::default(),
            session,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn deadlines(now: Instant, standing: Standing, state: &NeighbourState) -> Vec<Deadline> {
    let left = |at: Instant| millis(at.saturating_duration_since(now));
    let lost = match standing {
        Standing::Serving => state.lost_from,
        Standing::Lost | Standing::Left | Standing::Fenced => None,
    };
    let fenced = match (standing, &state.node) {
        (Standing::Serving | Standing::Lost, Some(node)) => state.moved.checked_add(patience(node.serve_for)),
        (Standing::Serving | Standing::Lost | Standing::Left | Standing::Fenced, _) => None,
    };
    let armed = [("owner_lost", lost), ("owner_fenced", fenced)];
    armed.into_iter().filter_map(|(what, at)| at.map(|at| Deadline { what, left_ms: left(at) })).collect()
}
