//! This node's right to serve, as the records grant it: who reads it sees when it was renewed last and when it ends.
//! Ends no session.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    actor::clock,
    core::{
        lease::{RENEWAL, Tenure},
        neighbours::Standing,
        record::{BootTime, UtcMicros},
    },
};

/// The age of the newest granted renewal from which renewals count as missed: the next two did not come.
const MISSED: Duration = Duration::from_secs(3);

/// This node's lease in the records, as far as they granted it; empty if nodes do not share them.
#[derive(Debug, Clone, Default)]
pub struct OwnLease {
    tenure: Option<Tenure>,
    renewed_at: Option<UtcMicros>,
    /// When the right ends, once that is near.
    ending: Option<BootTime>,
}

impl OwnLease {
    /// Returns the newest granted renewal, as the records have it.
    pub fn renewed_at(&self) -> Option<UtcMicros> {
        self.renewed_at
    }

    /// Returns the time since the newest granted renewal was sent, or since the start.
    pub fn silent(&self) -> Option<Duration> {
        self.tenure.as_ref().map(|tenure| tenure.silent(clock::boottime()))
    }

    /// Returns the time until this node ends its sessions if no renewal is granted; `None` if it never has to.
    pub fn left(&self) -> Option<Duration> {
        self.tenure.as_ref().map(|tenure| tenure.left(clock::boottime()))
    }

    /// Returns the same once the end is near.
    pub fn notice(&self) -> Option<Duration> {
        self.ending.and_then(|_| self.left())
    }

    /// Returns the node's standing by its own lease: *fenced* while it may not serve.
    pub fn standing(&self) -> Standing {
        if self.is_over() { Standing::Fenced } else { Standing::Serving }
    }

    fn is_over(&self) -> bool {
        self.tenure.as_ref().is_some_and(|tenure| tenure.is_over(clock::boottime()))
    }
}

/// The lease with what is to be done about it: what the log says, and the callback for when another node has taken it.
pub(in crate::actor::registry) struct Right {
    /// Wakes its receivers when the end comes near, or is put off.
    lease: watch::Sender<OwnLease>,
    /// Whether the log says that renewals are missed.
    missed: bool,
    fenced: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Right {
    /// Begins the right to serve for `serve_for` without a renewal; a single node, with `None`, cannot lose it.
    pub(in crate::actor::registry) fn new(serve_for: Option<Duration>, fenced: Arc<dyn Fn() + Send + Sync>) -> Self {
        let tenure = serve_for.map(|serve_for| Tenure::new(clock::boottime(), serve_for));
        let lease = watch::Sender::new(OwnLease { tenure, ..OwnLease::default() });
        Self { lease, missed: false, fenced: Some(fenced) }
    }

    /// Returns the lease for its readers.
    pub(in crate::actor::registry) fn lease(&self) -> watch::Sender<OwnLease> {
        self.lease.clone()
    }

    /// Notes that a renewal was granted that was sent at `sent`, with the wall time `at`.
    pub(super) fn grant(&self, sent: BootTime, at: UtcMicros) {
        self.change(|lease, tenure| {
            tenure.granted(sent);
            lease.renewed_at = Some(at);
        });
    }

    pub(super) fn refuse(&self) {
        self.change(|_, tenure| tenure.refused());
    }

    pub(super) fn is_over(&self) -> bool {
        self.lease.borrow().is_over()
    }

    pub(super) fn is_refused(&self) -> bool {
        self.lease.borrow().tenure.as_ref().is_some_and(Tenure::is_refused)
    }

    /// Tells the log once that renewals are missed and once that they are granted again; wakes the readers when the end
    /// comes near, and when that is put off. `open` is the number of sessions that would end.
    pub(super) fn watch(&mut self, open: usize) {
        let now = clock::boottime();
        let Some(tenure) = self.lease.borrow().tenure.clone() else { return };
        let (silent, left) = (tenure.silent(now), tenure.left(now));
        // Renewals that are slow, and granted each, do not take turns with such as are missed.
        let missed = silent >= if self.missed { RENEWAL } else { MISSED };
        if std::mem::replace(&mut self.missed, missed) != missed && !left.is_zero() {
            let (silent_s, ends_in_s) = (silent.as_secs(), left.as_secs());
            if missed {
                tracing::warn!(
                    silent_s,
                    ends_in_s,
                    open,
                    "the records do not renew this node's lease: every session ends when its time is up"
                );
            } else {
                tracing::info!(open, "the records renew this node's lease again");
            }
        }
        // What is over is told with the end of each session.
        let ending = tenure.ending(now);
        if left.is_zero() {
            return;
        }
        let news = self.lease.send_if_modified(|lease| std::mem::replace(&mut lease.ending, ending) != ending);
        if news && ending.is_some() {
            let ends_in_s = left.as_secs();
            tracing::warn!(ends_in_s, open, "this node's lease runs out soon: the terminals are told");
        }
    }

    /// Runs the `fenced` callback, once, if the right was refused: the process must exit. Called when every session has
    /// ended.
    pub(super) fn fall(&mut self) {
        if self.is_refused()
            && let Some(fenced) = self.fenced.take()
        {
            fenced();
        }
    }

    /// Changes the lease of a node that has one. Wakes nobody: the readers look when they need to.
    fn change(&self, change: impl FnOnce(&mut OwnLease, &mut Tenure)) {
        self.lease.send_if_modified(|lease| {
            if let Some(mut tenure) = lease.tenure.take() {
                change(lease, &mut tenure);
                lease.tenure = Some(tenure);
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::actor::world::World;

    const SERVE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn the_readers_are_woken_when_the_end_comes_near_and_when_it_is_put_off() {
        let world = World::new(UtcMicros(7), 1);
        let mut right = world.enter(|| Right::new(Some(SERVE), Arc::new(|| {})));
        let mut seen = right.lease().subscribe();
        let mut look = |right: &mut Right| {
            right.watch(1);
            let woken = seen.has_changed().unwrap();
            (woken, right.missed, seen.borrow_and_update().notice().map(|left| left.as_secs()))
        };
        for (advanced, renews, expected) in [
            (0, true, (false, false, None)),
            (2, false, (false, false, None)),
            (1, false, (false, true, None)),
            (16, false, (false, true, None)),
            (1, false, (true, true, Some(10))),
            (4, false, (false, true, Some(6))),
            (0, true, (true, false, None)),
            (20, false, (true, true, Some(10))),
            // Over: nothing more is told, until it begins anew.
            (10, false, (false, true, Some(0))),
            (0, true, (true, false, None)),
        ] {
            advance(Duration::from_secs(advanced)).await;
            let looked = world.enter(|| {
                if renews {
                    right.grant(clock::boottime(), clock::utc());
                }
                look(&mut right)
            });
            assert_eq!(looked, expected, "{advanced} {renews}");
        }
        let at = world.enter(clock::utc);
        advance(Duration::from_secs(2)).await;
        let lease = right.lease().borrow().clone();
        let told = world.enter(|| (lease.renewed_at(), lease.silent(), lease.left(), lease.standing()));
        let (silent, left) = (Duration::from_secs(2), Duration::from_secs(28));
        assert_eq!(told, (Some(at), Some(silent), Some(left), Standing::Serving));
        world.enter(|| right.refuse());
        assert_eq!(world.enter(|| right.lease().borrow().standing()), Standing::Fenced);
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_that_are_slow_and_granted_each_are_not_told_time_and_again() {
        let world = World::new(UtcMicros(7), 1);
        let mut right = world.enter(|| Right::new(Some(SERVE), Arc::new(|| {})));
        let mut told = 0;
        for _ in 0..20 {
            let sent = world.enter(clock::boottime);
            let before = right.missed;
            // Two looks while it is on its way, and one at its answer.
            for _ in 0..2 {
                advance(Duration::from_secs(1)).await;
                world.enter(|| right.watch(0));
            }
            world.enter(|| {
                right.grant(sent, clock::utc());
                right.watch(0);
            });
            told += usize::from(right.missed != before);
        }
        assert_eq!(told, 1);
    }
}
