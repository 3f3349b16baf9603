//! The browsers of a session: how they attach, how each is watched, and what follows when one is lost. At most one of
//! them types; the others are watchers. Knows no socket.

use std::time::Instant;

use super::{Effect, Moment, Session};
use crate::core::{
    liveness::{Liveness, Verdict},
    record::Status,
    stream::AttachNo,
};

#[derive(Debug, Clone)]
pub(super) struct Browser {
    pub attach: AttachNo,
    pub interactive: bool,
    pub watch: Liveness,
}

impl Session {
    pub(super) fn attach(&mut self, now: Moment, attach: AttachNo, interactive: bool) {
        if interactive && let Some(at) = self.browsers.iter().position(|browser| browser.interactive) {
            let old = self.browsers.swap_remove(at);
            self.effects.push_back(Effect::Supersede(old.attach));
        }
        self.browsers.push(Browser { attach, interactive, watch: Liveness::new(now.at, self.limits.browser) });
        self.browser_heard = self.browser_heard.max(Some(now.at));
        self.warn_again(now, attach);
        if !interactive {
            self.count_watchers(now);
            return;
        }
        self.reattach_by = None;
        self.grace_until = None;
        match self.record.status {
            Status::Detached | Status::Lost => self.enter(now, Status::Active, "A browser came back.".into()),
            Status::Connecting | Status::Active | Status::Closed => {}
        }
    }

    pub(super) fn hear_browser(&mut self, attach: AttachNo, at: Instant) {
        if let Some(browser) = self.browsers.iter_mut().find(|browser| browser.attach == attach) {
            browser.watch.heard(at);
            self.browser_heard = self.browser_heard.max(Some(at));
        }
    }

    pub(super) fn lose_browser(&mut self, now: Moment, attach: AttachNo, why: &str) {
        let Some(at) = self.browsers.iter().position(|browser| browser.attach == attach) else {
            return;
        };
        if !self.browsers.swap_remove(at).interactive {
            self.count_watchers(now);
            return;
        }
        match self.record.status {
            Status::Connecting => self.reattach_by = Some(now.at + self.limits.reattach_window),
            Status::Active => self.detach(now, why),
            Status::Detached | Status::Lost | Status::Closed => {}
        }
    }

    /// Brings the next checkpoint forward to now, since users see the number of watchers.
    fn count_watchers(&mut self, now: Moment) {
        self.checkpoint_at = now.at;
    }

    pub(super) fn detach(&mut self, now: Moment, why: &str) {
        self.reattach_by = Some(now.at + self.limits.reattach_window);
        self.enter(now, Status::Detached, why.to_owned());
    }

    pub(super) fn watch_browsers(&mut self, now: Moment) {
        let verdicts: Vec<_> = self
            .browsers
            .iter_mut()
            .filter_map(|browser| browser.watch.poll(now.at).map(|verdict| (browser.attach, verdict)))
            .collect();
        for (attach, verdict) in verdicts {
            match verdict {
                Verdict::Probe => self.effects.push_back(Effect::PingBrowser(attach)),
                Verdict::Lost => {
                    self.effects.push_back(Effect::DropBrowser(attach));
                    self.lose_browser(now, attach, "The browser has not answered its pings.");
                }
            }
        }
    }
}
