//! The clocks of a session: every deadline, the warnings before an ending, the checkpoints, and the effect of a stall
//! or a sleep of the host on them. Handles the passing of time, not events.

use std::time::{Duration, Instant};

use super::{Effect, LOGIN_LIMIT, Moment, Session, Warning, exit::Exit, limits::MAX_SPAN};
use crate::core::{
    liveness::{Liveness, Verdict},
    record::EndReason,
    stream::AttachNo,
};

/// The time before an ending by the clock at which the user is warned; half the limit if that is shorter.
const WARNING: Duration = Duration::from_secs(60);

impl Session {
    /// Returns when to call [`handle_timeout`](Self::handle_timeout) next; `None` once closed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines().into_iter().map(|(_, at)| at).chain(self.silent_deadlines()).min()
    }

    /// Returns every deadline that ends or changes the session unless an event comes first, soonest first. The loss
    /// of a watcher does neither.
    pub fn deadlines(&self) -> Vec<(&'static str, Instant)> {
        if self.record.is_closed() {
            return Vec::new();
        }
        let mut all: Vec<_> = [
            ("login_limit", self.login_by),
            ("exited", self.exit.as_ref().map(Exit::close_by)),
            ("detached", self.grace_until),
            ("detach_expired", self.reattach_by),
            ("peer_lost", self.peer.as_ref().and_then(Liveness::lost_at)),
            ("idle_timeout", self.idle_limit().map(|limit| self.last_input + limit)),
            ("max_duration", self.limits.max_duration.map(|limit| self.started + limit)),
        ]
        .into_iter()
        .filter_map(|(what, at)| at.map(|at| (what, at)))
        .collect();
        let owners = self.browsers.iter().find(|browser| browser.interactive);
        all.extend(owners.and_then(|browser| browser.watch.lost_at()).map(|at| ("browser_lost", at)));
        all.sort_by_key(|&(_, at)| at);
        all
    }

    /// Returns the deadlines of steps that do not end the session: probes, warnings, checkpoints.
    fn silent_deadlines(&self) -> Vec<Instant> {
        if self.record.is_closed() {
            return Vec::new();
        }
        let watches = self.browsers.iter().map(|browser| &browser.watch).chain(self.peer.as_ref());
        let warning = |from: Instant, limit: Option<Duration>, warned: bool| {
            limit.filter(|_| !warned).map(|limit| from + limit.saturating_sub(notice(limit)))
        };
        let warnings = [
            warning(self.last_input, self.idle_limit(), self.idle_warned),
            warning(self.started, self.limits.max_duration, self.duration_warned),
        ];
        let checkpoint = (self.signs() != self.announced).then_some(self.checkpoint_at);
        watches.filter_map(Liveness::deadline).chain(warnings.into_iter().flatten()).chain(checkpoint).collect()
    }

    /// Processes every deadline that has passed at `now`; calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.record.is_closed() {
            return;
        }
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now.at);
        self.watch_browsers(now);
        if due(self.grace_until) {
            self.grace_until = None;
            self.detach(now, "No browser came.");
        }
        if due(self.login_by) {
            let detail = format!(
                "The login did not finish within {} s. Open a new session to try again.",
                LOGIN_LIMIT.as_secs()
            );
            return self.close(now, EndReason::AuthFailed, now.at, detail);
        }
        if due(self.exit.as_ref().map(Exit::close_by)) {
            return self.close_by_peer(now);
        }
        if let Some(watch) = self.peer.as_mut() {
            match watch.poll(now.at) {
                Some(Verdict::Probe) => self.effects.push_back(Effect::ProbePeer),
                Some(Verdict::Lost) => {
                    let heard = watch.last_heard();
                    let silent = now.at.saturating_duration_since(heard).as_secs();
                    let detail =
                        format!("The SSH server has not answered for {silent} s. The host or the network is down.");
                    return self.close(now, EndReason::PeerLost, heard, detail);
                }
                None => {}
            }
        }
        if due(self.reattach_by) {
            let waited = self.limits.reattach_window.as_secs();
            let detail = format!("No browser came back within {waited} s.");
            return self.close(now, EndReason::DetachExpired, now.at, detail);
        }
        self.watch_clocks(now);
        if self.checkpoint_at <= now.at {
            if self.signs() != self.announced {
                self.announce(now, None);
            }
            self.checkpoint_at = self.limits.next_checkpoint(now);
        }
    }

    /// Returns the limit of human idleness while it applies: before the shell runs there is nothing to type into, and
    /// the login has its own limit.
    fn idle_limit(&self) -> Option<Duration> {
        self.limits.idle_timeout.filter(|_| self.peer.is_some())
    }

    fn watch_clocks(&mut self, now: Moment) {
        if let Some(limit) = self.idle_limit() {
            let end = self.last_input + limit;
            if end <= now.at {
                let detail = format!("Nothing was typed for {} s.", limit.as_secs());
                return self.close(now, EndReason::IdleTimeout, now.at, detail);
            }
            if !self.idle_warned && end <= now.at + notice(limit) {
                self.idle_warned = true;
                self.effects.push_back(Effect::Warn(Warning::Idle(Some(end - now.at))));
            }
        }
        if let Some(limit) = self.limits.max_duration {
            let end = self.started + limit;
            if end <= now.at {
                let detail = format!("The session reached its longest allowed time, {} s.", limit.as_secs());
                return self.close(now, EndReason::MaxDuration, now.at, detail);
            }
            if !self.duration_warned && end <= now.at + notice(limit) {
                self.duration_warned = true;
                self.effects.push_back(Effect::Warn(Warning::MaxDuration(end - now.at)));
            }
        }
    }

    /// Repeats the warnings in force to a browser that comes to the session, or to type.
    pub(super) fn warn_again(&mut self, now: Moment, attach: AttachNo) {
        let left = |from: Instant, limit: Duration| (from + limit).saturating_duration_since(now.at);
        let idle = self.idle_limit().filter(|_| self.idle_warned);
        let total = self.limits.max_duration.filter(|_| self.duration_warned);
        let idle = idle.map(|limit| Warning::Idle(Some(left(self.last_input, limit))));
        let total = total.map(|limit| Warning::MaxDuration(left(self.started, limit)));
        self.effects.extend(idle.into_iter().chain(total).map(|warning| Effect::WarnAgain(attach, warning)));
    }

    /// Extends the waiting deadlines by a stall and restarts the probes, since nothing could be heard meanwhile. Only
    /// the total duration keeps running.
    pub(super) fn forgive(&mut self, now: Moment, lasted: Duration) {
        let lasted = lasted.min(MAX_SPAN);
        let watches = self.browsers.iter_mut().map(|browser| &mut browser.watch).chain(self.peer.as_mut());
        watches.for_each(|watch| watch.void(now.at));
        for deadline in [&mut self.login_by, &mut self.grace_until, &mut self.reattach_by] {
            *deadline = deadline.map(|at| at + lasted);
        }
        self.exit.iter_mut().for_each(|exit| exit.forgive(lasted));
        self.put_off_idleness((self.last_input + lasted).min(now.at));
    }

    /// Counts a sleep of the host in the limits of wall time, but leaves the time of a warning, which nobody could be
    /// given meanwhile. Waiting is not extended by it: nobody could come, and nothing be heard.
    pub(super) fn count_sleep(&mut self, now: Instant, lasted: Duration, awake_until: Instant) {
        let set_back = |from: Instant, limit: Option<Duration>| {
            let spare = limit.map(|limit| (from + limit).saturating_duration_since(now + notice(limit)));
            from.checked_sub(lasted.min(spare.unwrap_or_default())).unwrap_or(from)
        };
        self.started = set_back(self.started, self.limits.max_duration);
        if self.last_input <= awake_until {
            self.last_input = set_back(self.last_input, self.idle_limit());
        }
    }

    /// Counts idleness from `at` on. Withdraws a warning, which is given anew if it is still due.
    pub(super) fn put_off_idleness(&mut self, at: Instant) {
        self.last_input = at;
        if std::mem::take(&mut self.idle_warned) {
            self.effects.push_back(Effect::Warn(Warning::Idle(None)));
        }
    }
}

/// Returns how long before the end of `limit` the user is warned.
fn notice(limit: Duration) -> Duration {
    WARNING.min(limit / 2)
}
