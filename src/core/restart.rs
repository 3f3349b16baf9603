//! Decides when a failed actor is restarted and when it is given up: OTP's restart types and its intensity within a
//! period (Erlang/OTP, `supervisor`). Knows no actor.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The policy on which endings are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Always restarted.
    Permanent,
    /// Restarted after a failure only.
    Transient,
    /// Never restarted: for an actor whose work the requester can request again, such as a test of a target, were that
    /// an actor. No child of a gateway is temporary.
    Temporary,
}

/// The way an actor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It finished its work.
    Normal,
    /// It panicked.
    Failure,
}

/// The decision on an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start it again.
    Restart,
    /// It failed too often: escalate.
    GiveUp,
    /// It was meant to end.
    Forget,
}

/// The recent restarts of one actor.
#[derive(Debug, Clone)]
pub struct Restarts {
    policy: Policy,
    intensity: usize,
    period: Duration,
    recent: VecDeque<Instant>,
    total: u64,
}

impl Restarts {
    /// Returns a policy that allows `intensity` restarts within any `period`.
    pub fn new(policy: Policy, intensity: usize, period: Duration) -> Self {
        Self { policy, intensity, period, recent: VecDeque::new(), total: 0 }
    }

    /// Decides on an ending at `now`, and counts the restart if there is one.
    pub fn decide(&mut self, now: Instant, ending: Ending) -> Decision {
        match (self.policy, ending) {
            (Policy::Temporary, Ending::Normal | Ending::Failure) | (Policy::Transient, Ending::Normal) => {
                Decision::Forget
            }
            (Policy::Permanent, Ending::Normal | Ending::Failure) | (Policy::Transient, Ending::Failure) => {
                while self.recent.front().is_some_and(|&at| now.duration_since(at) > self.period) {
                    self.recent.pop_front();
                }
                if self.recent.len() >= self.intensity {
                    return Decision::GiveUp;
                }
                self.recent.push_back(now);
                self.total += 1;
                Decision::Restart
            }
        }
    }

    /// Returns the restarts so far.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_answers_each_ending() {
        let now = Instant::now();
        for (policy, ending, decision) in [
            (Policy::Permanent, Ending::Normal, Decision::Restart),
            (Policy::Permanent, Ending::Failure, Decision::Restart),
            (Policy::Transient, Ending::Normal, Decision::Forget),
            (Policy::Transient, Ending::Failure, Decision::Restart),
            (Policy::Temporary, Ending::Normal, Decision::Forget),
            (Policy::Temporary, Ending::Failure, Decision::Forget),
        ] {
            assert_eq!(Restarts::new(policy, 1, Duration::from_secs(1)).decide(now, ending), decision);
        }
    }

    #[test]
    fn gives_up_beyond_the_intensity_and_forgives_after_the_period() {
        let base = Instant::now();
        let mut restarts = Restarts::new(Policy::Permanent, 3, Duration::from_secs(5));
        for second in 0..3 {
            let at = base + Duration::from_secs(second);
            assert_eq!(restarts.decide(at, Ending::Failure), Decision::Restart);
        }
        assert_eq!(restarts.decide(base + Duration::from_secs(4), Ending::Failure), Decision::GiveUp);
        assert_eq!(restarts.decide(base + Duration::from_secs(6), Ending::Failure), Decision::Restart);
        assert_eq!(restarts.total(), 4);
    }
}
