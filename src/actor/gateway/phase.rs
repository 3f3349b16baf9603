//! How a gateway begins to serve and how it ends: the phases of its life, which whoever serves a browser watches, and the
//! two ways to end. Knows no signal and no socket.

use tokio::sync::watch;

use super::{Gateway, GatewayError, Readiness};
use crate::{actor::registry::RegistryMessage, store::StoreError};

/// Where in its life a gateway is: it only goes forward.
///
/// ```text
/// starting ─> ready ─> draining ─> shutting down ─> shut down ─> over
///               └──────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// What earlier lives left open is being closed.
    Starting,
    /// It serves.
    Ready,
    /// It opens nothing any more; what is open goes on.
    Draining,
    /// It ends what is open.
    ShuttingDown,
    /// Everything is closed and stored, and every event of it was told.
    ShutDown,
    /// Whoever is still connected goes now.
    Over,
}

impl Gateway {
    /// Closes what earlier lives of this node left open, then admits sessions. Returns how many were closed.
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

    /// Tells whoever is still connected to go.
    pub fn hang_up(&self) {
        self.enter(Phase::Over);
    }

    /// Its phase, as it changes. Whoever serves a browser holds one for as long.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Returns once nobody holds a [`phase`](Self::phase) any more: every browser has left.
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

    /// Whether the gateway is ready to open sessions.
    pub fn readiness(&self) -> Readiness {
        let reasons = match *self.phase.borrow() {
            Phase::Starting => vec!["starting"],
            Phase::Ready => [self.shared.open_blockers.reasons(), self.unrecorded()].concat(),
            Phase::Draining | Phase::ShuttingDown | Phase::ShutDown | Phase::Over => vec!["draining"],
        };
        Readiness { reasons }
    }

    /// Whether a session may be asked for.
    ///
    /// # Errors
    /// [`GatewayError`], before and after it serves.
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

/// Whoever watches hears of a later phase, and never of an earlier one.
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
