//! Decides whether a browser may be at a terminal, when it attaches and while it stays. Does not know sockets.

use std::time::Duration;

use actix_web::web;
use tokio::task::JoinHandle;

use super::{
    auth::{Caller, Via},
    protocol::Fault,
    state::State,
};
use crate::{
    actor::{
        mailbox::Mailbox,
        session::{
            self, SessionMessage,
            control::{ControlCommand, ControlMessage},
        },
    },
    core::{
        people::{Right, SignIn},
        record::{Record, SessionId},
        stream::AttachNo,
    },
};

/// The interval at which the time of day, which may be set, is read while a token's end is awaited.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Watches the access of an owner or a guest at a terminal until it is dropped.
pub struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Notifies a session that the user of `attach` may no longer type in it.
pub fn is_unfit(session: &Mailbox<SessionMessage>, attach: AttachNo, why: String) {
    session::post(session, SessionMessage::Control(ControlMessage { attach, command: ControlCommand::Unfit { why } }));
}

/// The caller at a terminal, and the terminal's owner.
#[derive(Clone)]
pub struct TerminalAccess {
    state: web::Data<State>,
    caller: Caller,
    /// The owner of the session and its target; `None` for an unknown session.
    owner: Option<String>,
    target: String,
    /// Whether the session is their own.
    is_own: bool,
}

impl TerminalAccess {
    /// `caller` at the terminal of `session`, if the session is known.
    pub fn new(state: web::Data<State>, caller: Caller, session: Option<&Record>) -> Self {
        let target = session.map_or(String::new(), |record| record.target.clone());
        let is_own = session.is_some_and(|record| caller.owns(record));
        Self { state, caller, owner: session.map(|record| record.username.clone()), target, is_own }
    }

    /// Returns why the user may not type in this session even if the owner grants it, as a part of a sentence; `None`
    /// if they may. The owner's own watching pages need no grant: they attach anew to type.
    pub fn unfit(&self) -> Option<String> {
        let user = &*self.caller.user;
        if self.is_own {
            return Some("it is your own session: open it to type".to_owned());
        }
        if self.caller.must_enrol(&self.state) {
            return Some(factorless(user));
        }
        let Some(caller) = self.caller.now(&self.state) else { return Some(format!("{user} is no longer signed in")) };
        let lacking = [Right::Watch, Right::Open, Right::Control].into_iter().find(|right| !caller.has(*right));
        match lacking {
            Some(right) => Some(format!("{user} lacks the right {}", right.as_str())),
            None => self.state.gateway.people().objection_to(user, &self.target),
        }
    }

    /// Whether they may accept host keys for everybody, as of now.
    pub fn trusts(&self) -> bool {
        self.caller.now(&self.state).is_some_and(|caller| caller.has(Right::Trust))
    }

    /// Returns the audit log's name of the session.
    pub fn subject(&self) -> String {
        format!("The session of {} on {}", self.owner.as_deref().unwrap_or_default(), self.target)
    }

    /// Withdraws control from a guest once they may no longer have it.
    pub fn watch_guest(self, session: Mailbox<SessionMessage>, attach: AttachNo) -> Guard {
        Guard(actix_web::rt::spawn(async move {
            let why = tokio::select! {
                why = self.clone().lost() => why,
                why = self.becomes_unfit() => why,
            };
            is_unfit(&session, attach, why);
        }))
    }

    async fn becomes_unfit(&self) -> String {
        let mut changes = self.state.gateway.people().changes();
        loop {
            changes.borrow_and_update();
            if let Some(why) = self.unfit() {
                return why;
            }
            if changes.changed().await.is_err() {
                // The gateway outlives its sockets.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns why the user may not attach, as the fault and a sentence; `None` if they may. A session they may not see
    /// does not exist for them.
    pub fn objection(&self, interactive: bool) -> Option<(Fault, String)> {
        let unknown = || Some((Fault::NoSuchSession, "No such session is known. Open a new one.".to_owned()));
        let Some(caller) = self.caller.now(&self.state) else {
            return Some((Fault::SignIn, "You are no longer signed in.".to_owned()));
        };
        let Some(owner) = self.owner.as_deref() else { return unknown() };
        if !self.is_own && !caller.has(Right::Observe) && !caller.has(Right::Watch) {
            return unknown();
        }
        if !self.is_own && interactive {
            return Some((Fault::NotYours, format!("This session belongs to {owner}: you cannot type in it.")));
        }
        let needed = match (self.is_own, interactive) {
            (true, false) => return None,
            (true, true) => Right::Open,
            (false, _) => Right::Watch,
        };
        caller.need(needed).err().map(|problem| (Fault::NotYours, problem.detail().to_owned()))
    }

    /// Returns the state that all handlers share.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Counts an attach of the user to the session `id`; or returns how long they have to wait, after too many.
    pub fn attach_wait(&self, id: SessionId) -> Option<Duration> {
        // No user name contains a NUL.
        let (now, place) = (self.state.now(), format!("{}\0{id}", self.caller.user));
        let wait = self.state.attaches.wait(now, &place);
        if wait.is_none() {
            self.state.attaches.note(now, &place);
        }
        wait
    }

    /// Returns once the user may no longer be here, with the reason. A sign-in or a token that merely expires while its
    /// own terminal is in use is no reason: live shells are not cut by it. In another user's terminal, the expiry of a
    /// token is one.
    pub async fn lost(self) -> String {
        match &self.caller.via {
            Via::Gateway | Via::Header => self.taken_away().await,
            Via::Cookie(_, sign_in) => tokio::select! {
                () = sign_in.signed_out() => self.why_signed_out(&sign_in.newest()),
                why = self.taken_away() => why,
                why = self.expired() => why,
            },
            Via::Token(_) => tokio::select! {
                why = self.taken_away() => why,
                why = self.expired() => why,
            },
        }
    }

    /// Returns once the token has expired that gave access to another user's terminal, even if it was traded for a
    /// cookie.
    async fn expired(&self) -> String {
        let token = match &self.caller.via {
            Via::Token(token) => Some((**token).clone()),
            Via::Cookie(_, sign_in) => {
                let directory = self.state.gateway.people().directory();
                sign_in.kept.token.as_ref().and_then(|id| directory.tokens.get(id).cloned())
            }
            Via::Gateway | Via::Header => None,
        };
        let Some((token, end)) = token.and_then(|token| token.expires_at.map(|end| (token, end))) else {
            return std::future::pending().await;
        };
        if self.is_own {
            return std::future::pending().await;
        }
        loop {
            let left = end.0.saturating_sub((self.state.settings.utc)().0);
            if left <= 0 {
                return format!("the token {:?} of {} has expired", token.name, self.caller.user);
            }
            tokio::time::sleep(Duration::from_micros(left.unsigned_abs()).min(RECHECK_INTERVAL)).await;
        }
    }

    /// Notifies the session once its owner may no longer be here: it ends, unless it is open in another browser of
    /// theirs by then. A task apart from the socket, which rests while its browser does not read.
    pub fn guard(self, session: Mailbox<SessionMessage>, attach: AttachNo) -> Guard {
        Guard(actix_web::rt::spawn(async move {
            let why = self.lost().await;
            session::post(&session, SessionMessage::Revoked { attach, why });
        }))
    }

    /// Returns what ended the sign-in that gave access.
    fn why_signed_out(&self, kept: &SignIn) -> String {
        let (user, directory) = (&*self.caller.user, self.state.gateway.people().directory());
        if let Some(why) = directory.absence(user) {
            return why;
        }
        match &kept.token {
            Some(token) if !directory.tokens.contains_key(token) => {
                format!("the token that {user} signed in with was revoked")
            }
            _ if self.state.stamp(&directory, user).is_none_or(|stamp| !kept.holds(&stamp)) => {
                format!("the password of {user} was changed")
            }
            _ => format!("{user} signed out"),
        }
    }

    /// Whether the session is their own.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    async fn taken_away(&self) -> String {
        let mut changes = self.state.gateway.people().changes();
        loop {
            let directory = changes.borrow_and_update().clone();
            let user = &*self.caller.user;
            if let Some(why) = directory.absence(user) {
                return why;
            }
            match &self.caller.via {
                Via::Token(token) if !directory.tokens.contains_key(&token.id) => {
                    return format!("the token {:?} of {user} was revoked", token.name);
                }
                Via::Gateway | Via::Cookie(..) | Via::Token(_) | Via::Header => {}
            }
            if !self.is_own && !directory.access(user).is_some_and(|access| access.role.rights().has(Right::Watch)) {
                return format!("{user} may no longer look on");
            }
            if !self.is_own && self.caller.must_enrol(&self.state) {
                return factorless(user);
            }
            if changes.changed().await.is_err() {
                // The gateway outlives its sockets.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn factorless(user: &str) -> String {
    format!("{user} must turn on a second factor first")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::core::{
        people::{Role, token_digest},
        record::{UtcMicros, micros},
    };
    use crate::web::{
        auth,
        fixture::{BRIEF, START, caller, record, settings, sign_in_with, state_with},
        secret,
        state::Settings,
    };

    const FACTORLESS: &str = "operator must turn on a second factor first";

    thread_local! {
        static BEGAN: tokio::time::Instant = tokio::time::Instant::now();
    }

    #[actix_rt::test]
    async fn a_token_that_expires_takes_its_watcher_along_and_leaves_shells_alone() {
        tokio::time::pause();
        BEGAN.with(|_| ());
        let utc = || UtcMicros(START.0 + micros(BEGAN.with(|began| began.elapsed())));
        let state = state_with(Settings { utc, ..settings() });
        let directory = state.gateway.people().directory();
        let by_token = |token: &str| auth::by_token(&state, &directory, &token_digest(token)).unwrap();
        let stamp = state.stamp(&directory, "operator").unwrap();
        let traded = secret::digest(&sign_in_with(&state, "operator", stamp, Some("brief")));
        let traded = auth::by_cookie(&state, &directory, traded).unwrap();
        let callers = [by_token("pgt_brief"), traded];
        let endless = by_token("pgt_whole");
        let lost = async |caller: &Caller, owner: &str| {
            let record = Record { username: owner.to_owned(), ..record() };
            let access = TerminalAccess::new(state.clone(), caller.clone(), Some(&record));
            tokio::time::timeout(BRIEF * 2, access.lost()).await
        };
        let [why, same] = [lost(&callers[0], "ada").await, lost(&callers[1], "ada").await].map(Result::unwrap);
        assert_eq!((why.as_str(), &same), ("the token \"to brief\" of operator has expired", &why));
        let late = utc().0 - START.0 - micros(BRIEF);
        assert!((0..1_000_000).contains(&late), "neither before nor long after: {late} µs");
        for caller in &callers {
            assert!(lost(caller, "operator").await.is_err(), "a shell of one's own goes on");
        }
        assert!(lost(&endless, "ada").await.is_err());
    }

    #[actix_rt::test]
    async fn who_must_have_a_second_factor_looks_on_no_longer_without_and_keeps_their_own_shell() {
        let state = state_with(Settings { require_totp: vec![Role::Operator], ..settings() });
        let access = |owner: &str| {
            let record = Record { username: owner.to_owned(), ..record() };
            TerminalAccess::new(state.clone(), caller(&state, "operator").0, Some(&record))
        };
        let why = access("ada").lost().now_or_never();
        assert_eq!((why.as_deref(), access("ada").unfit().as_deref()), (Some(FACTORLESS), Some(FACTORLESS)));
        assert_eq!(access("operator").lost().now_or_never(), None);
    }

    #[actix_rt::test]
    async fn only_who_may_look_on_type_for_others_and_open_the_target_is_fit_to_be_a_guest() {
        let state = state_with(settings());
        let unfit = |user: &str, record: &Record| {
            let caller = caller(&state, user).0;
            TerminalAccess::new(state.clone(), caller, Some(record)).unfit()
        };
        let theirs = record();
        for (user, fit) in [("viewer", false), ("user", false), ("operator", true), ("auditor", false), ("admin", true)]
        {
            assert_eq!(unfit(user, &theirs).is_none(), fit, "{user}");
        }
        let removed = Record { target: "gone".into(), ..record() };
        let why = unfit("operator", &removed).unwrap();
        assert!(why.contains("gone was removed"), "{why}");
        let directory = state.gateway.people().directory();
        for (token, lacks) in [("pgt_open", "watch"), ("pgt_observe", "watch"), ("pgt_look", "control")] {
            let token = auth::by_token(&state, &directory, &token_digest(token)).unwrap();
            let why = TerminalAccess::new(state.clone(), token, Some(&theirs)).unfit().unwrap();
            assert_eq!(why, format!("operator lacks the right {lacks}"), "a token may what its scopes say");
        }
        let own = Record { username: "operator".into(), ..record() };
        assert!(unfit("operator", &own).unwrap().contains("your own session"));
    }
}
