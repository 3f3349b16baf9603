//! The phases of a gateway's life, which every handler of a browser watches, and the two ways to end: draining and
//! shutting down. Knows no signal and no socket.

use tokio::sync::watch;

use super::{Gateway, GatewayError, Readiness};
use crate::{actor::registry::RegistryMessage, store::StoreError};

/// The phase of a gateway's life: it only moves forward.
///
/// ```text
/// starting ─> ready ─> draining ─> shutting down ─> shut down ─> over
///               └──────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It closes the sessions that earlier epochs of this node left open.
    Starting,
    /// It serves.
    Ready,
    /// It opens no more sessions; those that are open go on.
    Draining,
    /// It ends the sessions that are open.
    ShuttingDown,
    /// Every session is closed and stored, and every event of it was published.
    ShutDown,
    /// It disconnects the browsers that are still connected.
    Over,
}

impl Gateway {
    /// Closes the sessions that earlier epochs of this node left open, then admits new ones. Returns the number closed.
    ///
    /// # Errors
    /// [`StoreError`] if the records could not be read or written; the gateway stays unready.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        let gone = || StoreError::Unavailable("the registry failed during recovery".into());
        let closed = self.ask(RegistryMessage::Recover).await.map_err(|_| gone())??;
        self.enter(Phase::Ready);
        Ok(closed)
    }

    /// Admits no more sessions; those that are open go on until they end by themselves.
    pub fn drain(&self) {
        self.enter(Phase::Draining);
    }

    /// Admits no more sessions, ends those that are open as `shutdown`, and returns once all of it is durable.
    ///
    /// # Errors
    /// [`GatewayError`] if the registry cannot answer: the next start closes what is open.
    pub async fn shut_down(&self) -> Result<(), GatewayError> {
        self.enter(Phase::ShuttingDown);
        let answer = self.ask(RegistryMessage::ShutDown).await;
        self.enter(Phase::ShutDown);
        answer
    }

    /// Disconnects the browsers that are still connected.
    pub fn hang_up(&self) {
        self.enter(Phase::Over);
    }

    /// Returns a receiver of the phase. Every handler of a browser holds one while it serves.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns once no [`phase`](Self::phase) receiver is left: every browser has disconnected.
    pub async fn deserted(&self) {
        self.phase.closed().await;
    }

    /// Counts the open sessions of this node.
    ///
    /// # Errors
    /// [`GatewayError`] if the registry cannot answer.
    pub async fn open_here(&self) -> Result<usize, GatewayError> {
        self.ask(RegistryMessage::Count).await
    }

    /// Whether the gateway is ready to open sessions; takes as long as the registry's answer, a second at most.
    pub async fn readiness(&self) -> Readiness {
        let phase = *self.phase.borrow();
        let reasons = match phase {
            Phase::Starting => vec!["starting"],
            Phase::Ready => {
                let unanswered = self.unanswered().await;
                [self.shared.open_blockers.reasons(), self.unrecorded(), unanswered].concat()
            }
            Phase::Draining | Phase::ShuttingDown | Phase::ShutDown | Phase::Over => vec!["draining"],
        };
        Readiness { reasons }
    }

    /// Checks whether sessions may be opened in this phase.
    ///
    /// # Errors
    /// [`GatewayError::NotReady`] before it serves, [`GatewayError::Draining`] after.
    pub(super) fn admits(&self) -> Result<(), GatewayError> {
        match *self.phase.borrow() {
            Phase::Starting => Err(GatewayError::NotReady),
            Phase::Ready => Ok(()),
            Phase::Draining | Phase::ShuttingDown | Phase::ShutDown | Phase::Over => Err(GatewayError::Draining),
        }
    }

    fn enter(&self, phase: Phase) {
        enter(&self.phase, phase);
    }
}

/// Moves to `phase` and notifies the watchers, unless it is not later than the current one.
fn enter(life: &watch::Sender<Phase>, phase: Phase) {
    life.send_if_modified(|now| {
        let later = phase > *now;
        *now = (*now).max(phase);
        later
    });
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::{Phase, enter};

    #[test]
    fn a_gateway_that_drains_does_not_come_back() {
        let (life, seen) = watch::channel(Phase::Starting);
        for (entered, expected) in [
            (Phase::Ready, Phase::Ready),
            (Phase::Draining, Phase::Draining),
            (Phase::Ready, Phase::Draining),
            (Phase::ShuttingDown, Phase::ShuttingDown),
            (Phase::Draining, Phase::ShuttingDown),
            (Phase::ShutDown, Phase::ShutDown),
            (Phase::Over, Phase::Over),
        ] {
            enter(&life, entered);
            assert_eq!(*seen.borrow(), expected, "after {entered:?}");
        }
    }
}
