//! The evidence behind a session's state: the last signs of life, the armed deadlines, the guest in control. Changes
//! nothing.

use std::time::Instant;

use super::SessionActor;
use crate::{
    actor::{
        clock,
        gateway::{Deadline, Why},
    },
    core::record::Record,
    store::Excerpt,
};

impl SessionActor {
    /// Returns the current evidence behind the session's state.
    pub(super) fn why(&mut self) -> Why {
        let now = clock::now();
        self.look_around(now);
        let stamp = |at: Option<Instant>| at.map(|at| now.utc_of(at));
        let (beat, page) = (&self.wire.beat, self.wire.owner_side.borrow());
        let others = self.wire.viewers().into_iter().filter(|viewer| !viewer.kind.interactive);
        let watchers = others.filter_map(|viewer| viewer.side.heard.last()).max();
        let left = |at: Instant| u64::try_from(at.saturating_duration_since(now.at).as_millis()).unwrap_or(u64::MAX);
        let controlled_by = self.wire.control.borrow().guest().map(str::to_owned);
        Why {
            session: Record { controlled_by, ..self.session.record().clone() },
            // The gateway fills in the proof and the owner.
            proof: String::new(),
            owner: None,
            browser_heard_at: stamp(page.heard.last()),
            last_pong_at: stamp(page.pong.last()),
            watchers_heard_at: stamp(watchers),
            peer_heard_at: stamp(beat.peer.last()),
            last_reply_at: stamp(beat.reply.last()),
            last_input_at: stamp(beat.input.last()),
            last_byte_in_at: stamp(beat.sent.last()),
            last_output_at: stamp(beat.output.last()),
            deadlines: self
                .session
                .deadlines()
                .into_iter()
                .map(|(what, at)| Deadline { what, left_ms: left(at) })
                .collect(),
            history: Excerpt::default(),
        }
    }
}
