//! Decides whether a silent peer is lost. It is probed each interval, whatever else comes from it; silence is judged by
//! the probes since the last byte, each of which has its full window after an interval of silence. Knows neither who
//! the peer is nor how it is probed.
//!
//! ```text
//! while bytes come:   probe ──interval──> probe ──interval──> probe …
//! since the last one: heard ──interval──window──> probe 2 … ──window──> lost
//!                              └ probe 1 comes by here
//! ```

use std::time::{Duration, Instant};

/// The divisor of the interval by which a first probe may come early. Of the usual 5 s that is 100 ms, from one tick of
/// the timers to the next, so that a peer that is due at the next tick is probed at this one; it adds 2 % of probes at
/// most.
const LEEWAY_DIVISOR: u32 = 50;

/// The rule by which a peer is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The time between two probes of a peer that is heard, and the silence before the window of the first unanswered
    /// one begins.
    pub interval: Duration,
    /// The time each probe may stay unanswered.
    pub window: Duration,
    /// Unanswered probes after which the peer is lost, at least 1.
    pub probes: u32,
}

/// The step that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the peer a probe.
    Probe,
    /// The peer is lost: every probe had its window and not one byte came.
    Lost,
}

/// The watch over one peer.
#[derive(Debug, Clone)]
pub struct Liveness {
    rule: Rule,
    last_heard: Instant,
    /// Probes sent since the last byte.
    sent: u32,
    /// The time to judge or to probe; `None` while suspended, and after the verdict.
    due: Option<Instant>,
    /// The time the last probe was sent, or the watch began.
    asked: Instant,
    /// The time to look whether something was heard, in which case the next probe is due.
    look_at: Instant,
    /// The time to probe a peer that is not judged; only while suspended.
    speak_at: Option<Instant>,
}

impl Liveness {
    /// Starts watching a peer that has just been heard.
    pub fn new(now: Instant, rule: Rule) -> Self {
        let due = now + rule.interval;
        Self { rule, last_heard: now, sent: 0, due: Some(due), asked: now, look_at: due, speak_at: None }
    }

    /// Notes a byte that came at `at`. One older than the last byte known changes nothing. The next probe comes an
    /// interval after the last one all the same: the peer may judge this side by them.
    pub fn heard(&mut self, at: Instant) {
        if at <= self.last_heard {
            return;
        }
        self.last_heard = at;
        self.sent = 0;
        if self.due.is_some() {
            // A byte from before the last probe, told late, is no answer to it.
            self.due = Some(self.asked.min(at) + self.rule.interval);
        }
    }

    /// Returns when to note what was heard and to poll next; `None` after the verdict.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.map(|due| due.min(self.look_at)).or(self.speak_at)
    }

    /// Returns when [`Verdict::Lost`] comes if nothing is heard and every poll is in time; `None` while suspended.
    pub fn lost_at(&self) -> Option<Instant> {
        let left = self.rule.probes.saturating_sub(self.sent);
        self.due.map(|due| self.window_from(due) + self.rule.window * left)
    }

    /// Returns when the window of a probe that is sent at `due` begins: after an interval of silence at the earliest.
    fn window_from(&self, due: Instant) -> Instant {
        due.max(self.last_heard + self.rule.interval)
    }

    /// Returns the step that is due, once; calling it early is harmless. The first probe may come slightly early, so
    /// that two peers due at nearly the same time are probed together.
    pub fn poll(&mut self, now: Instant) -> Option<Verdict> {
        let Some(due) = self.due else { return self.speak(now) };
        let early = if self.sent == 0 { self.rule.interval / LEEWAY_DIVISOR } else { Duration::ZERO };
        if due > now + early {
            if self.look_at <= now {
                self.look_at = now + self.rule.interval;
            }
            return None;
        }
        if self.sent >= self.rule.probes {
            self.due = None;
            return Some(Verdict::Lost);
        }
        // A probe that was sent early has its whole window all the same.
        self.due = Some(self.window_from(due.max(now)) + self.rule.window);
        self.sent += 1;
        (self.asked, self.look_at) = (now, now + self.rule.interval);
        Some(Verdict::Probe)
    }

    /// Voids the open probes: this host was stalled, so their windows prove nothing. The peer is probed again at once.
    pub fn void(&mut self, now: Instant) {
        if self.due.is_some() {
            self.sent = 0;
            self.due = Some(now);
        }
    }

    /// Stops judging, since the peer's bytes are not being read. The probes go on, one an interval, since the peer may
    /// judge this side: a server whose own probes are not answered takes any byte for a sign of life (sshd_config,
    /// `ClientAliveInterval`). Harmless while suspended.
    pub fn suspend(&mut self) {
        if self.due.take().is_some() {
            self.sent = 0;
            // Counted from the last probe, so that a peer that is suspended again and again is still probed.
            self.speak_at = Some(self.asked + self.rule.interval);
        }
    }

    /// Resumes judging, from the beginning. Harmless while not suspended.
    pub fn resume(&mut self, now: Instant) {
        if self.speak_at.take().is_some() {
            self.look_at = now + self.rule.interval;
            self.due = Some(self.look_at);
        }
    }

    /// Returns the probe of a suspended watch, which counts towards no verdict.
    fn speak(&mut self, now: Instant) -> Option<Verdict> {
        self.speak_at.filter(|at| *at <= now)?;
        self.asked = now;
        self.speak_at = Some(now + self.rule.interval);
        Some(Verdict::Probe)
    }

    /// Returns when the last known byte came.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: Rule = Rule { interval: Duration::from_secs(5), window: Duration::from_secs(4), probes: 2 };

    fn at(base: Instant, seconds: u64) -> Instant {
        base + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_peer_is_lost_after_every_probe_had_its_window() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        assert_eq!(watch.poll(at(base, 4)), None);
        assert_eq!(watch.poll(at(base, 5)), Some(Verdict::Probe));
        assert_eq!(watch.poll(at(base, 8)), None);
        assert_eq!(watch.poll(at(base, 9)), Some(Verdict::Probe));
        assert_eq!(watch.poll(at(base, 12)), None);
        assert_eq!(watch.poll(at(base, 13)), Some(Verdict::Lost));
        assert_eq!(watch.poll(at(base, 99)), None, "a verdict is given once");
    }

    #[test]
    fn the_first_question_may_come_a_little_early_and_the_verdict_never() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        let before = |seconds, millis| at(base, seconds) - Duration::from_millis(millis);
        assert_eq!(watch.poll(before(5, 101)), None);
        assert_eq!(watch.poll(before(5, 100)), Some(Verdict::Probe));
        assert_eq!(watch.poll(before(9, 1)), None);
        assert_eq!(watch.poll(at(base, 9)), Some(Verdict::Probe));
        assert_eq!(watch.poll(before(13, 1)), None);
        assert_eq!(watch.poll(at(base, 13)), Some(Verdict::Lost));
    }

    #[test]
    fn one_byte_clears_every_probe() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        watch.poll(at(base, 5));
        watch.poll(at(base, 9));
        watch.heard(at(base, 12));
        assert_eq!(watch.lost_at(), Some(at(base, 25)));
        assert_eq!(watch.deadline(), Some(at(base, 14)));
        assert_eq!(watch.poll(at(base, 14)), Some(Verdict::Probe));
        assert_eq!(watch.lost_at(), Some(at(base, 25)));
    }

    #[test]
    fn a_peer_that_is_heard_all_the_time_is_probed_each_interval() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        let mut asked = Vec::new();
        for second in 0..30 {
            watch.heard(at(base, second));
            assert_eq!(watch.lost_at(), Some(at(base, second + 13)));
            asked.extend(watch.poll(at(base, second)).map(|_| second));
        }
        assert_eq!(asked, [5, 10, 15, 20, 25]);
    }

    #[test]
    fn so_is_one_of_which_is_known_only_when_something_is_due() {
        let base = Instant::now();
        for window in [4, 27] {
            let mut watch = Liveness::new(base, Rule { window: Duration::from_secs(window), ..RULE });
            let (mut now, mut asked) = (base, Vec::new());
            while now < at(base, 25) {
                now = watch.deadline().unwrap();
                watch.heard(now - Duration::from_millis(100));
                asked.extend(watch.poll(now).map(|_| now.duration_since(base).as_secs()));
            }
            assert_eq!(asked, [5, 10, 15, 20, 25], "{window}");
        }
    }

    #[test]
    fn a_probe_soon_after_a_byte_brings_no_earlier_verdict() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        watch.heard(at(base, 4));
        assert_eq!(watch.poll(at(base, 5)), Some(Verdict::Probe));
        for seconds in [12, 16] {
            assert_eq!(watch.poll(at(base, seconds)), None);
            assert_eq!(
                watch.poll(at(base, seconds + 1)),
                Some(if seconds == 12 { Verdict::Probe } else { Verdict::Lost })
            );
        }
    }

    #[test]
    fn a_stall_voids_open_probes() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        watch.poll(at(base, 5));
        watch.poll(at(base, 9));
        watch.void(at(base, 70));
        assert_eq!(watch.poll(at(base, 70)), Some(Verdict::Probe), "the peer is asked anew");
        assert_eq!(watch.poll(at(base, 73)), None, "and has a full window again");
        assert_eq!(watch.poll(at(base, 74)), Some(Verdict::Probe));
        assert_eq!(watch.poll(at(base, 78)), Some(Verdict::Lost));
    }

    #[test]
    fn a_suspended_watch_gives_no_verdict() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        watch.poll(at(base, 5));
        watch.suspend();
        assert_eq!(watch.lost_at(), None);
        for seconds in (500..600).step_by(5) {
            assert_eq!(watch.poll(at(base, seconds)), Some(Verdict::Probe));
        }
        watch.heard(at(base, 596));
        assert_eq!(watch.lost_at(), None, "a byte does not resume the watch");
        watch.resume(at(base, 600));
        assert_eq!(watch.lost_at(), Some(at(base, 613)), "no probe of before counts");
        assert_eq!(watch.poll(at(base, 605) - Duration::from_millis(100)), Some(Verdict::Probe));
        assert_eq!(watch.lost_at(), Some(at(base, 613)), "asked early, it has its whole window");
    }

    #[test]
    fn a_suspended_watch_speaks_once_an_interval_however_often_it_is_resumed() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        let mut asked = Vec::new();
        for second in 0..30 {
            watch.suspend();
            watch.suspend();
            asked.extend(watch.poll(at(base, second)).map(|_| second));
            watch.heard(at(base, second));
            watch.resume(at(base, second));
            assert_eq!(watch.poll(at(base, second)), None);
        }
        assert_eq!(asked, [5, 10, 15, 20, 25]);
    }

    #[test]
    fn after_the_verdict_nothing_is_asked() {
        let base = Instant::now();
        let mut watch = Liveness::new(base, RULE);
        for seconds in [5, 9, 13] {
            watch.poll(at(base, seconds));
        }
        watch.suspend();
        watch.resume(at(base, 14));
        assert_eq!((watch.deadline(), watch.poll(at(base, 99))), (None, None));
    }

    proptest! {
        /// I5: between the last byte and the verdict lie `interval + probes × window`; since a stall, if there was one
        /// later, `probes` probes had their windows.
        #[test]
        fn no_verdict_without_proof(steps in prop::collection::vec((0u8..4, 0u64..6), 1..200)) {
            let mut now = Instant::now();
            let mut watch = Liveness::new(now, RULE);
            let (mut quiet_since, mut probes) = (now, 0);
            for (kind, wait) in steps {
                now += Duration::from_secs(wait);
                match kind {
                    0 => { if now > watch.last_heard() { quiet_since = now; probes = 0; } watch.heard(now) }
                    1 => { quiet_since = now; probes = 0; watch.void(now) }
                    _ => match watch.poll(now) {
                        Some(Verdict::Probe) => probes += 1,
                        Some(Verdict::Lost) => {
                            prop_assert!(now - quiet_since >= RULE.window * RULE.probes);
                            prop_assert!(now - watch.last_heard() >= RULE.interval + RULE.window * RULE.probes);
                            prop_assert_eq!(probes, RULE.probes);
                            break;
                        }
                        None => {}
                    },
                }
            }
        }
    }
}
