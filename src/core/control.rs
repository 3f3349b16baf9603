//! Control of a session: its owner types, or a guest whom the owner or the policy allows. Owns requests, grants and
//! returns, and the turns that separate input typed under one typist from input typed under the next. Knows no socket,
//! no right and no byte.
//!
//! ```text
//!            grant, force                     socket cut
//! owner types ───────────> guest types <──────────────────> guest away
//!      ^                        │ taken back, given back,        │ not back in time,
//!      └────────────────────────┴ left, right lost ──────────────┘ or any of these
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::stream::AttachNo;

#[cfg(test)]
mod tests;
/// Policies, answers, turns, pages, requests.
mod words;

pub use words::{Answer, Page, Request, TakeOver, Turn};

/// The time a request waits for its answer: long enough to finish a command and look up.
pub const REQUEST_LIFE: Duration = Duration::from_secs(60);

/// The time a guest whose socket was cut keeps control: a live page reconnects sooner.
pub const GUEST_GRACE: Duration = Duration::from_secs(10);

/// The time until a user whose request was refused or not answered may ask again.
pub const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Most open requests at once: more names than an owner can compare.
pub const MAX_REQUESTS: usize = 8;

/// Most ended requests that are remembered, so that their users do not ask again too soon.
const MAX_ENDED: usize = 64;

/// An event that control processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A page of the owner attached to type; it replaces the one before.
    OwnerCame {
        /// The page.
        page: Page,
        /// Whether the page knows that control can move.
        control_aware: bool,
    },
    /// A watcher's page attached; that of a guest who was cut off continues to type.
    WatcherCame(Page),
    /// A socket was lost.
    Gone {
        /// The socket's attachment.
        attach: AttachNo,
        /// Whether its page said that it leaves; otherwise it may reconnect.
        left: bool,
    },
    /// A watcher asks for control.
    Asked(Page),
    /// The owner's page answers a request.
    Answered {
        /// The page that answers; only the owner's page may.
        by: AttachNo,
        /// The request's id.
        request: u64,
        /// Whether the guest may type.
        granted: bool,
    },
    /// A watcher takes control without asking.
    Forced(Page),
    /// The owner's page takes control back.
    TookBack(AttachNo),
    /// A guest's page gives control back.
    GaveBack(AttachNo),
    /// The user of a page may no longer type here.
    Unfit {
        /// The page.
        attach: AttachNo,
        /// The reason, as a part of a sentence.
        why: String,
    },
    /// The host did not run for this long, so deadlines move by as much.
    Stalled(Duration),
}

/// An action for the caller to carry out; effects are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Control moved; the sentence says how.
    Moved(String),
    /// The open requests changed.
    Requests,
    /// Notify a page of the outcome of its request.
    Tell(AttachNo, Answer, String),
    /// Add an entry to the session's history.
    Note(String),
}

#[derive(Debug, Clone)]
struct Guest {
    page: Page,
    /// The time at which control returns unless the page that was cut off reconnects.
    back_by: Option<Instant>,
}

/// Control over typing in one session.
#[derive(Debug)]
pub struct Control {
    policy: TakeOver,
    /// The owner's page, even after its socket is lost: input it sent before still counts.
    owner: Page,
    guest: Option<Guest>,
    turn: Turn,
    requests: Vec<Request>,
    last_request: u64,
    /// The users whose requests ended without a grant, and when.
    ended: VecDeque<(String, Instant)>,
    effects: VecDeque<Effect>,
}

impl Control {
    /// Returns the control of a session whose owner types and has no page yet.
    pub fn new(policy: TakeOver, owner: &str) -> Self {
        Self {
            policy,
            owner: Page { attach: AttachNo(0), name: owner.to_owned(), client: String::new() },
            guest: None,
            turn: Turn::default(),
            requests: Vec::new(),
            last_request: 0,
            ended: VecDeque::new(),
            effects: VecDeque::new(),
        }
    }

    /// Returns the policy on who may take over from the owner.
    pub fn policy(&self) -> TakeOver {
        self.policy
    }

    /// Returns the one page whose input and terminal sizes count.
    pub fn typist(&self) -> &Page {
        self.guest.as_ref().map_or(&self.owner, |guest| &guest.page)
    }

    /// Returns the owner's page.
    pub fn owner(&self) -> &Page {
        &self.owner
    }

    /// Returns the guest who types in the owner's stead.
    pub fn guest(&self) -> Option<&str> {
        self.guest.as_ref().map(|guest| guest.page.name.as_str())
    }

    /// Returns the current turn.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// Whether input from this socket in this turn counts.
    pub fn types(&self, attach: AttachNo, turn: Turn) -> bool {
        self.typist().attach == attach && self.turn == turn
    }

    /// Returns the open requests, oldest first.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Removes and returns the next effect to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let back_by = self.guest.as_ref().and_then(|guest| guest.back_by);
        self.requests.iter().map(|request| request.ends_at).chain(back_by).min()
    }

    /// Processes an event.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::OwnerCame { page, control_aware } => {
                // Input that another page of the owner still holds unsent is older than anything typed on this one.
                let is_another = !self.owner.client.is_empty() && self.owner.client != page.client;
                if is_another && self.guest.is_none() {
                    self.turn.0 += 1;
                }
                self.owner = page;
                if !control_aware {
                    self.take_back();
                }
            }
            Event::WatcherCame(page) => self.resume(page),
            Event::Gone { attach, left } => self.lose(now, attach, left),
            Event::Asked(page) => self.ask(now, page),
            Event::Answered { by, request, granted } => self.answer(now, by, request, granted),
            Event::Forced(page) => self.force(page),
            Event::TookBack(attach) if attach == self.owner.attach => self.take_back(),
            Event::GaveBack(attach) if self.is_guest(attach) => {
                let owner = self.owner.name.clone();
                self.hand_back(|guest| format!("{guest} gave control back to {owner}."));
            }
            Event::TookBack(_) | Event::GaveBack(_) => {}
            Event::Unfit { attach, why } => {
                self.end_request(
                    now,
                    |request| request.page.attach == attach,
                    |name| format!("{name} may not: {why}."),
                );
                if self.is_guest(attach) {
                    self.hand_back(|guest| format!("{guest} may no longer type: {why}."));
                }
            }
            Event::Stalled(lasted) => {
                self.requests.iter_mut().for_each(|request| request.ends_at += lasted);
                let back_by = self.guest.iter_mut().filter_map(|guest| guest.back_by.as_mut());
                back_by.for_each(|back_by| *back_by += lasted);
            }
        }
    }

    /// Processes every deadline that has passed at `now`; calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(at) = self.requests.iter().position(|request| request.ends_at <= now) {
            let page = self.forget(now, at);
            let waited = REQUEST_LIFE.as_secs();
            let message = format!("{} did not answer within {waited} s.", self.owner.name);
            self.effects.push_back(Effect::Note(format!("control_refused: {} asked: {message}", page.name)));
            self.effects.push_back(Effect::Tell(page.attach, Answer::Expired, message));
        }
        if self.guest.as_ref().and_then(|guest| guest.back_by).is_some_and(|back_by| back_by <= now) {
            let waited = GUEST_GRACE.as_secs();
            self.hand_back(|guest| format!("{guest} was cut off and did not come back within {waited} s."));
        }
    }

    fn is_guest(&self, attach: AttachNo) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.page.attach == attach)
    }

    /// Takes back a guest's page that reconnects, perhaps before its old socket is known to be lost.
    fn resume(&mut self, page: Page) {
        let same = |guest: &&mut Guest| guest.page.name == page.name && guest.page.client == page.client;
        if let Some(guest) = self.guest.as_mut().filter(same) {
            (guest.page, guest.back_by) = (page, None);
        }
    }

    fn lose(&mut self, now: Instant, attach: AttachNo, left: bool) {
        self.end_request(now, |request| request.page.attach == attach, |name| format!("{name} left before an answer."));
        match self.guest.as_mut().filter(|guest| guest.page.attach == attach) {
            None => {}
            Some(_) if left => self.hand_back(|guest| format!("{guest} left.")),
            Some(guest) => guest.back_by = Some(now + GUEST_GRACE),
        }
    }

    fn ask(&mut self, now: Instant, page: Page) {
        let (attach, owner) = (page.attach, self.owner.name.clone());
        if self.is_guest(attach) {
            return;
        }
        if let Some(refusal) = self.refusal(now, &page) {
            return self.effects.push_back(Effect::Tell(attach, Answer::Refused, refusal));
        }
        self.last_request += 1;
        self.effects
            .push_back(Effect::Note(format!("control_requested: {} asks {owner} to let them type.", page.name)));
        let message = format!("{owner} is asked to let you type.");
        self.effects.push_back(Effect::Tell(attach, Answer::Waiting, message));
        self.requests.push(Request { id: self.last_request, page, ends_at: now + REQUEST_LIFE });
        self.effects.push_back(Effect::Requests);
    }

    /// Returns why a user may not ask now.
    fn refusal(&self, now: Instant, page: &Page) -> Option<String> {
        if self.policy == TakeOver::Never {
            return Some("On this gateway nobody types in the sessions of others.".to_owned());
        }
        if self.requests.iter().any(|request| request.page.name == page.name) {
            return Some(format!("You have asked already: {} has not answered yet.", self.owner.name));
        }
        if self.requests.len() >= MAX_REQUESTS {
            return Some(format!("{MAX_REQUESTS} others wait for an answer. Ask again later."));
        }
        let again = self.ended.iter().rev().find(|(name, _)| *name == page.name).map(|(_, at)| *at + ASK_AGAIN);
        let wait = again.filter(|again| *again > now)?.saturating_duration_since(now);
        Some(format!("You asked a moment ago. Ask again in {} s.", wait.as_secs() + 1))
    }

    fn answer(&mut self, now: Instant, by: AttachNo, request: u64, granted: bool) {
        let at = self.requests.iter().position(|open| open.id == request);
        let Some(at) = at.filter(|_| by == self.owner.attach) else { return };
        let owner = self.owner.name.clone();
        if granted {
            let page = self.requests.remove(at).page;
            self.effects.push_back(Effect::Requests);
            return self.hand_to(page, |guest| format!("control_granted: {owner} lets {guest} type."));
        }
        let page = self.forget(now, at);
        let message = format!("{owner} does not let you type.");
        self.effects.push_back(Effect::Note(format!("control_refused: {owner} does not let {} type.", page.name)));
        self.effects.push_back(Effect::Tell(page.attach, Answer::Refused, message));
    }

    fn force(&mut self, page: Page) {
        match self.policy {
            TakeOver::Force => {
                self.requests.retain(|request| request.page.name != page.name);
                self.effects.push_back(Effect::Requests);
                let owner = self.owner.name.clone();
                self.hand_to(page, |guest| format!("control_taken: {guest} took control of the session of {owner}."));
            }
            TakeOver::Request | TakeOver::Never => {
                let message = "On this gateway nobody takes control without being let.".to_owned();
                self.effects.push_back(Effect::Tell(page.attach, Answer::Refused, message));
            }
        }
    }

    fn hand_to(&mut self, page: Page, note: impl FnOnce(&str) -> String) {
        if self.is_guest(page.attach) {
            return;
        }
        let note = note(&page.name);
        self.guest = Some(Guest { page, back_by: None });
        self.moved(note);
    }

    fn take_back(&mut self) {
        let owner = self.owner.name.clone();
        self.hand_back(|guest| format!("{owner} took control back from {guest}."));
    }

    /// Returns control to the owner, if a guest has it.
    fn hand_back(&mut self, sentence: impl FnOnce(&str) -> String) {
        if let Some(guest) = self.guest.take() {
            self.moved(format!("control_returned: {}", sentence(&guest.page.name)));
        }
    }

    fn moved(&mut self, note: String) {
        self.turn.0 += 1;
        let sentence = note.split_once(": ").map_or(note.as_str(), |(_, sentence)| sentence).to_owned();
        self.effects.push_back(Effect::Note(note));
        self.effects.push_back(Effect::Moved(sentence));
    }

    /// Ends a request that was not granted; its user may not ask again at once.
    fn forget(&mut self, now: Instant, at: usize) -> Page {
        let page = self.requests.remove(at).page;
        self.ended.push_back((page.name.clone(), now));
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
        self.effects.push_back(Effect::Requests);
        page
    }

    fn end_request(&mut self, now: Instant, which: impl Fn(&Request) -> bool, why: impl Fn(&str) -> String) {
        if let Some(at) = self.requests.iter().position(which) {
            let page = self.forget(now, at);
            let why = why(&page.name);
            self.effects.push_back(Effect::Note(format!("control_refused: {why}")));
            self.effects.push_back(Effect::Tell(page.attach, Answer::Refused, why));
        }
    }
}
