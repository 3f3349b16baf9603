//! The users' rights as this gateway knows them: a copy of the store's directory, read again within a quarter of a
//! second after any gateway or command changed it, and kept while the store is down. Ends sessions of users who have
//! lost the right to them, and sign-ins that were ended elsewhere. Knows no HTTP and no password.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use tokio::sync::{oneshot, watch};

use super::{
    clock,
    mailbox::Mailbox,
    registry::RegistryMessage,
    sign_ins::{Now, SignIns},
};
use crate::{
    core::{
        people::{CatalogueEntry, Directory, objection},
        record::{EndReason, Record},
    },
    store::{
        StoreError,
        people::{Change, PeopleStore, Seen},
    },
};

/// The actor's kind, as in metrics.
pub const KIND: &str = "people";

/// Interval at which changes of the directory are looked for: a withdrawn right ends within a second, with time to
/// spare.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Interval at which the last uses of users and tokens are stored.
const LAST_SEEN_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which a few old sign-ins are removed.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(60);

/// Polls after a change at which sessions are checked against it again: one may have been opening when the change came.
const RECHECKS: u8 = 8;

/// A handle to the directory: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct People(Arc<Inner>);

struct Inner {
    store: Option<Arc<dyn PeopleStore>>,
    catalogue: Vec<CatalogueEntry>,
    directory: watch::Sender<Arc<Directory>>,
    /// Held while the store is read, so that an older reading never replaces a newer one.
    reading: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
    sign_ins: SignIns,
}

impl Default for People {
    /// An empty directory for ever: only the holder of the gateway's own token has rights.
    fn default() -> Self {
        Self::new(None, Vec::new())
    }
}

impl People {
    /// Creates the handle to the users of `store`, and the catalogue of targets that they may open.
    pub fn new(store: Option<Arc<dyn PeopleStore>>, catalogue: Vec<CatalogueEntry>) -> Self {
        let (directory, reading) = (watch::Sender::default(), tokio::sync::Mutex::default());
        let (seen, sign_ins) = (Mutex::default(), SignIns::new(store.clone()));
        Self(Arc::new(Inner { store, catalogue, directory, reading, seen, sign_ins }))
    }

    /// Returns the directory as last read; of version 0 before the first reading.
    pub fn directory(&self) -> Arc<Directory> {
        self.0.directory.borrow().clone()
    }

    /// The sign-ins by cookie.
    pub fn sign_ins(&self) -> &SignIns {
        &self.0.sign_ins
    }

    /// Whether the store has been read since the start.
    pub fn are_known(&self) -> bool {
        self.0.store.is_none() || self.directory().version > 0
    }

    /// Returns a receiver of the directory's changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Directory>> {
        self.0.directory.subscribe()
    }

    /// Makes a change durable and returns whether it was made; it then applies on this gateway at once.
    ///
    /// # Errors
    /// [`StoreError`] if the store is down; the change may have been made all the same, which a later reading shows.
    pub async fn change(&self, change: Change) -> Result<bool, StoreError> {
        let Some(store) = &self.0.store else {
            return Err(StoreError::Unavailable("this gateway keeps no users".into()));
        };
        let done = store.change(change).await?;
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "the users could not be read again after a change; it takes effect with the next reading");
        }
        Ok(done)
    }

    /// Reads the store again if its directory changed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read; the last copy stays.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let Some(store) = &self.0.store else { return Ok(()) };
        let _reading = self.0.reading.lock().await;
        let before = self.directory().version;
        if store.version().await? != before {
            let directory = Arc::new(store.read().await?);
            let ended = self.0.sign_ins.ended_since(before, &directory).await?;
            // The directory first: a holder notified of the end of a sign-in finds the reason there.
            self.0.directory.send_replace(directory);
            self.0.sign_ins.end_here(now(), &ended);
        }
        Ok(())
    }

    /// Notes that a user signed in now.
    pub fn saw_user(&self, name: &str) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.users.insert(name.to_owned(), clock::utc());
    }

    /// Notes that a token was used now.
    pub fn saw_token(&self, id: &str) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.tokens.get_mut(id) {
            Some(at) => *at = clock::utc(),
            None => drop(seen.tokens.insert(id.to_owned(), clock::utc())),
        }
    }

    /// Returns the last uses of users and tokens that are not in the directory yet.
    pub fn seen(&self) -> Seen {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn write_down(&self) {
        self.0.sign_ins.write_down(now()).await;
        let Some(store) = &self.0.store else { return };
        let seen = std::mem::take(&mut *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner));
        if seen != Seen::default()
            && let Err(error) = store.note(seen).await
        {
            // The time of a last use is not worth a retry.
            tracing::debug!(%error, "who was seen could not be written down");
        }
    }

    /// Returns the reason why `user` may not open `target`, as a part of a sentence; `None` if they may.
    pub fn objection_to(&self, user: &str, target: &str) -> Option<String> {
        objection(&self.directory(), &self.0.catalogue, user, target)
    }

    fn objection(&self, directory: &Directory, record: &Record) -> Option<String> {
        objection(directory, &self.0.catalogue, &record.username, &record.target)
    }
}

fn now() -> Now {
    Now { at: clock::since_start(), utc: clock::utc() }
}

/// The actor. After a failure it reads the directory again.
pub struct PeopleActor {
    people: People,
    registry: Mailbox<RegistryMessage>,
    /// The version that every session was last checked against, and how often.
    enforced: (u64, u8),
    busy: bool,
    failing: bool,
}

impl PeopleActor {
    /// Creates the actor that keeps `people` current and ends sessions through the registry.
    pub fn new(people: People, registry: Mailbox<RegistryMessage>) -> Self {
        Self { people, registry, enforced: (0, 0), busy: false, failing: false }
    }

    fn begin(&self, ctx: &mut Context<Self>) {
        ctx.run_interval(POLL_INTERVAL, |actor, ctx| actor.look(ctx));
        ctx.run_interval(LAST_SEEN_INTERVAL, |actor, ctx| {
            let people = actor.people.clone();
            ctx.spawn(async move { people.write_down().await }.into_actor(actor));
        });
        ctx.run_interval(CLEANUP_INTERVAL, |actor, ctx| {
            let sign_ins = actor.people.sign_ins().clone();
            ctx.spawn(async move { sign_ins.forget(now()).await }.into_actor(actor));
        });
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.busy, true) {
            return;
        }
        let people = self.people.clone();
        let looking = async move { people.refresh().await };
        ctx.spawn(looking.into_actor(self).map(|outcome, actor, ctx| {
            actor.busy = false;
            match outcome {
                Ok(()) => actor.failing = false,
                Err(error) if !std::mem::replace(&mut actor.failing, true) => {
                    tracing::warn!(%error, "the users cannot be read; their rights as last read stay in force");
                }
                Err(_) => {}
            }
            actor.enforce(ctx);
        }));
    }

    /// Ends the sessions that their users may no longer have.
    fn enforce(&mut self, ctx: &mut Context<Self>) {
        let directory = self.people.directory();
        if directory.version != self.enforced.0 {
            self.enforced = (directory.version, RECHECKS);
        }
        if directory.version == 0 || self.enforced.1 == 0 {
            return;
        }
        self.enforced.1 -= 1;
        let (people, registry) = (self.people.clone(), self.registry.clone());
        let enforcing = async move {
            let (reply, open) = oneshot::channel();
            if registry.deliver(RegistryMessage::AdmittedHere(reply)).await.is_err() {
                return false;
            }
            let Ok(open) = open.await else { return false };
            for record in open {
                let Some(detail) = people.objection(&directory, &record) else { continue };
                tracing::info!(session_id = %record.id, user = record.username, detail, "a session is ended: its user may no longer have it");
                let (reply, _) = oneshot::channel();
                let end = RegistryMessage::End { id: record.id, reason: EndReason::Revoked, detail, reply };
                if registry.deliver(end).await.is_err() {
                    return false;
                }
            }
            true
        };
        ctx.spawn(enforcing.into_actor(self).map(|whole, actor, _| {
            // If the registry is restarting, the next poll asks it again.
            actor.enforced.1 = if whole { actor.enforced.1 } else { RECHECKS };
        }));
    }
}

impl Actor for PeopleActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Supervised for PeopleActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        (self.busy, self.enforced) = (false, (0, 0));
    }
}
