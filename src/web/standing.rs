//! Owns whether a browser at a terminal may be there, when it comes and while it stays. Knows no socket.

use std::time::Duration;

use actix_web::web;
use tokio::task::JoinHandle;

use super::{
    auth::{self, Caller, Via},
    protocol::Fault,
    state::State,
};
use crate::{
    actor::gateway::Gateway,
    core::{
        people::Right,
        record::{EndReason, Record, SessionId},
    },
};

/// How long after a failure a session is ended again.
const AGAIN: Duration = Duration::from_millis(200);

/// Watches over an owner at their terminal until it is dropped.
pub struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who is at a terminal, and whose it is.
#[derive(Clone)]
pub struct Standing {
    state: web::Data<State>,
    caller: Caller,
    /// The owner of the session; `None` for one that nobody knows.
    owner: Option<String>,
}

impl Standing {
    /// `caller` at the terminal of `session`, as far as it is known.
    pub fn new(state: web::Data<State>, caller: Caller, session: Option<&Record>) -> Self {
        Self { state, caller, owner: session.map(|record| record.username.clone()) }
    }

    /// Why they may not attach, as the fault and a sentence; `None` if they may. What one may not see is not there.
    pub fn objection(&self, interactive: bool) -> Option<(Fault, String)> {
        let unknown = || Some((Fault::NoSuchSession, "No such session is known. Open a new one.".to_owned()));
        let Some(caller) = self.caller.now(&self.state) else {
            return Some((Fault::SignIn, "You are no longer signed in.".to_owned()));
        };
        let Some(owner) = self.owner.as_deref() else { return unknown() };
        let is_own = *caller.user == *owner;
        if !is_own && !caller.has(Right::Observe) && !caller.has(Right::Watch) {
            return unknown();
        }
        if !is_own && interactive {
            return Some((Fault::NotYours, format!("This session belongs to {owner}: you cannot type in it.")));
        }
        let needed = match (is_own, interactive) {
            (true, false) => return None,
            (true, true) => Right::Open,
            (false, _) => Right::Watch,
        };
        caller.need(needed).err().map(|problem| (Fault::NotYours, problem.detail().to_owned()))
    }

    /// Returns once they may no longer be here, with the reason. A sign-in that only fades while its terminal is in use is no
    /// reason: live shells are not cut by it.
    pub async fn lost(self) -> String {
        match &self.caller.via {
            Via::Gateway => self.taken_away().await,
            Via::Cookie(_, sign_in) => tokio::select! {
                () = sign_in.signed_out() => {
                    let directory = self.state.gateway.people().directory();
                    directory.absence(&self.caller.user).unwrap_or_else(|| format!("{} signed out", self.caller.user))
                }
                why = self.taken_away() => why,
            },
            Via::Token(_) | Via::Header => self.taken_away().await,
        }
    }

    /// Ends the session once its owner may no longer be here. Not of the socket's own work, which rests while its browser does not
    /// read.
    pub fn guard(self, gateway: Gateway, id: SessionId) -> Guard {
        Guard(actix_web::rt::spawn(async move {
            let why = self.lost().await;
            while let Err(error) = gateway.end(id, EndReason::Revoked, why.clone()).await {
                tracing::warn!(session_id = %id, %error, "a session cannot be taken away yet");
                tokio::time::sleep(AGAIN).await;
            }
        }))
    }

    fn is_owners(&self) -> bool {
        self.owner.as_deref() == Some(&*self.caller.user)
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
                Via::Cookie(cookie, sign_in) if !sign_in.holds(auth::stamp(&directory, user)) => {
                    // Whoever changed it in this very browser stays.
                    let now = self.state.sign_ins.find(self.state.now(), cookie);
                    if now.is_none_or(|now| !now.holds(auth::stamp(&directory, user))) {
                        return format!("the password of {user} was changed");
                    }
                }
                Via::Gateway | Via::Cookie(..) | Via::Token(_) | Via::Header => {}
            }
            if !self.is_owners() && !directory.reach(user).is_some_and(|reach| reach.role.rights().has(Right::Watch)) {
                return format!("{user} may no longer look on");
            }
            if changes.changed().await.is_err() {
                // The gateway outlives its sockets.
                std::future::pending::<()>().await;
            }
        }
    }
}
