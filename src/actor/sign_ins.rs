//! Who is signed in by a cookie: the records keep it for every gateway, and what came by here of late is at hand, so that a request costs
//! no question. What is not at hand is asked for. What ends counts as a change of the users, which every gateway looks for; one that is
//! read while somebody looks is read once more, lest an answer from before its end put it back. Knows no HTTP and no secret.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    core::{
        people::{Directory, IDLE_TIMEOUT, MAX_LIFETIME, MAX_WRITE_LAG, SignIn, stamp},
        record::{UtcMicros, micros},
    },
    store::{
        StoreError,
        people::PeopleStore,
        sign_ins::{Leaving, MAX_DIGESTS},
    },
};

/// What is at hand, and what the records do not know yet.
mod table;

use table::Table;

/// About 6 MiB. Beyond it, who was away longest is asked for again.
const AT_HAND: usize = 10_000;

/// Sign-ins that are read at once: what comes with cookies that nobody made never keeps the store from its work.
const MAX_CONCURRENT_READS: usize = 4;

/// How long somebody waits for their sign-in to be read, before they are told to try again.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// How often one is read that others end things beside.
const MAX_READ_ATTEMPTS: usize = 5;

/// How often it is written down that one was used.
const LAST_SEEN_INTERVAL: Duration = Duration::from_secs(60);

/// Uses that are written down in one transaction.
const LAST_SEEN_BATCH: usize = 100;

/// How long a sign-in with a provider may take here from the provider's word to the records.
const BEING_MADE: Duration = Duration::from_secs(60);

/// Devices of one user that are shown.
const MAX_DEVICES_SHOWN: u32 = 200;

/// How long one is kept that nobody could use any more: longer than any gateway takes to hear of its end.
const KEPT_ON: Duration = Duration::from_secs(24 * 60 * 60);

/// Rows that are removed at once, a minute.
const CLEANUP_ROWS: u32 = 500;

/// The SHA-256 of a cookie's secret.
pub type Digest = [u8; 32];

/// A moment: by the clock that decides, since some fixed moment, and by the one that is written down.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The first.
    pub at: Duration,
    /// The second.
    pub utc: UtcMicros,
}

impl Now {
    fn before(self, span: Duration) -> UtcMicros {
        UtcMicros(self.utc.0.saturating_sub(micros(span)))
    }
}

/// What became of a sign-in, for whoever holds one.
#[derive(Debug, Default)]
struct Fate {
    over: bool,
    /// As it was read last.
    newest: Option<Arc<SignIn>>,
}

/// A sign-in that is at hand.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// As the records have it.
    pub kept: Arc<SignIn>,
    over: Arc<watch::Sender<Fate>>,
}

impl SignedIn {
    /// As the records had it when they were asked last, which may be later than it was found.
    pub fn newest(&self) -> Arc<SignIn> {
        self.over.borrow().newest.clone().unwrap_or_else(|| self.kept.clone())
    }

    /// Returns once somebody ended it; one that fades never does.
    pub async fn signed_out(&self) {
        if self.over.subscribe().wait_for(|fate| fate.over).await.is_err() {
            // It holds the sender itself, so this is never reached; waiting on is right either way.
            std::future::pending::<()>().await;
        }
    }
}

/// A handle: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct SignIns(Arc<Inner>);

struct Inner {
    /// `None`: what is at hand is all there is.
    store: Option<Arc<dyn PeopleStore>>,
    table: Mutex<Table>,
    reads: Semaphore,
    /// Held while uses are written down, so that a slow store does not find them twice.
    writing: tokio::sync::Mutex<()>,
}

impl SignIns {
    /// Those that `store` keeps.
    pub fn new(store: Option<Arc<dyn PeopleStore>>) -> Self {
        let (table, reads, writing) =
            (Mutex::new(Table::new()), Semaphore::new(MAX_CONCURRENT_READS), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { store, table, reads, writing }))
    }

    /// Returns who holds this cookie if that is at hand, and lets it live on.
    pub fn find(&self, now: Now, cookie: &Digest) -> Option<SignedIn> {
        let mut table = self.table();
        let entry = table.at_hand.get_mut(now.at, cookie)?;
        entry.until = (now.at + IDLE_TIMEOUT).min(entry.value.ends);
        entry.value.used = entry.value.used.max(now.utc);
        Some(SignedIn { kept: entry.value.kept.clone(), over: entry.value.over.clone() })
    }

    /// Has a sign-in at hand that `fits`, reading it if it must, and returns whether there is one that lasts.
    ///
    /// # Errors
    /// [`StoreError`] if it must be read, and cannot be.
    pub async fn fetch(&self, now: Now, cookie: &Digest, fits: impl Fn(&SignIn) -> bool) -> Result<bool, StoreError> {
        let Some(store) = &self.0.store else { return Ok(false) };
        if self.table().untold.get_mut(now.at, cookie).is_some() {
            return Ok(false);
        }
        let is_here = || self.table().at_hand.get_mut(now.at, cookie).is_some_and(|entry| fits(&entry.value.kept));
        let reading = async {
            let closed = |_| StoreError::Unavailable("nobody reads sign-ins any more".into());
            let _permit = self.0.reads.acquire().await.map_err(closed)?;
            for _ in 0..MAX_READ_ATTEMPTS {
                // Somebody with the same cookie may have been quicker.
                if is_here() {
                    return Ok(true);
                }
                let ends = self.table().ends;
                let found = store.sign_ins(vec![*cookie]).await?.pop();
                let mut table = self.table();
                if table.ends == ends {
                    return Ok(table.take_up(now, cookie, found));
                }
            }
            Err(StoreError::Unavailable("others sign out all the time".into()))
        };
        let late = |_| Err(StoreError::Unavailable("it did not answer in time".into()));
        timeout(READ_WITHIN, reading).await.unwrap_or_else(late)
    }

    /// Keeps a new sign-in. It is at hand once it is used.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be kept; then nobody is signed in by it.
    pub async fn sign_in(&self, now: Now, new: SignIn) -> Result<(), StoreError> {
        match &self.0.store {
            Some(store) => store.add_sign_in(new).await,
            None => {
                let digest = new.digest;
                self.table().take_up(now, &digest, Some(new));
                Ok(())
            }
        }
    }

    /// Makes a cookie worthless: here at once, and everywhere once the records know.
    ///
    /// # Errors
    /// [`StoreError`] if they could not be told; it is tried again until they are, as long as this process lives.
    pub async fn sign_out(&self, now: Now, cookie: &Digest) -> Result<(), StoreError> {
        let Some(store) = &self.0.store else {
            self.end_here(&[*cookie]);
            return Ok(());
        };
        self.table().untold.insert(now.at, *cookie, (), MAX_LIFETIME);
        self.end_here(&[*cookie]);
        store.end(Leaving::One(*cookie)).await?;
        self.table().untold.take(now.at, cookie);
        Ok(())
    }

    /// Makes every cookie worthless that `leaving` takes.
    ///
    /// # Errors
    /// [`StoreError`] if the records could not be told; then only those are that are at hand, and it is tried again to tell of them.
    pub async fn sign_out_all(&self, now: Now, leaving: Leaving) -> Result<(), StoreError> {
        if let Leaving::Session(session) | Leaving::ByProvider { session: Some(session), .. } = &leaving {
            self.table().over_there.insert(now.at, session.clone(), (), BEING_MADE);
        }
        let told = match &self.0.store {
            Some(store) => store.end(leaving.clone()).await,
            None => Ok(()),
        };
        let taken: Vec<Digest> = {
            let table = self.table();
            let taken = table.at_hand.iter(now.at).filter(|(_, entry)| leaving.takes(&entry.kept));
            taken.map(|(cookie, _)| *cookie).collect()
        };
        if told.is_err() {
            let mut table = self.table();
            taken.iter().for_each(|cookie| table.untold.insert(now.at, *cookie, (), MAX_LIFETIME));
        }
        self.end_here(&taken);
        told
    }

    /// Whether this session at a provider ended a moment ago: a sign-in that was being made on it may have been kept after its end, which
    /// took it for none of its own.
    pub fn is_over(&self, now: Now, session: &str) -> bool {
        self.table().over_there.get_mut(now.at, &session.to_owned()).is_some()
    }

    /// Lets a sign-in hold on to a stamp that is about to come, its own change of the password, beside the one it has.
    ///
    /// # Errors
    /// [`StoreError`] if that could not be kept.
    pub async fn expect_stamp(&self, cookie: &Digest, own: String, next: String) -> Result<(), StoreError> {
        match &self.0.store {
            Some(store) => store.expect_stamp(*cookie, own, next).await,
            None => Ok(()),
        }
    }

    /// The browsers that `user` is signed in with, on whatever gateway; the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn devices(&self, now: Now, user: &str) -> Result<Vec<SignIn>, StoreError> {
        let mut found = match &self.0.store {
            Some(store) => {
                store.sign_ins_of(user, now.before(IDLE_TIMEOUT + MAX_WRITE_LAG), now.utc, MAX_DEVICES_SHOWN).await?
            }
            None => {
                let table = self.table();
                let theirs = table.at_hand.iter(now.at).filter(|(_, entry)| entry.kept.user == user);
                theirs.map(|(_, entry)| SignIn::clone(&entry.kept)).collect()
            }
        };
        found.sort_by_key(|sign_in| std::cmp::Reverse(sign_in.made_at));
        let mut table = self.table();
        found.retain(|sign_in| table.untold.get_mut(now.at, &sign_in.digest).is_none());
        for sign_in in &mut found {
            if let Some(entry) = table.at_hand.get_mut(now.at, &sign_in.digest) {
                sign_in.last_seen_at = sign_in.last_seen_at.max(entry.value.used);
            }
        }
        Ok(found)
    }

    /// Reads what became of those at hand since the users were of version `before`, so that what stays holds on to what `directory`
    /// says, and returns what has ended.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read; it is to be asked again then, from the same version on.
    pub(super) async fn ended_since(&self, before: u64, directory: &Directory) -> Result<Vec<Digest>, StoreError> {
        let Some(store) = &self.0.store else { return Ok(Vec::new()) };
        let known: Vec<(Digest, Arc<SignIn>)> = {
            let table = self.table();
            table.at_hand.iter(Duration::ZERO).map(|(cookie, entry)| (*cookie, entry.kept.clone())).collect()
        };
        // Records that an older copy took the place of count from there.
        let before = if directory.version < before { 0 } else { before };
        let mut ended = store.ended_since(before).await?;
        let mut stamps = HashMap::new();
        let mut holds = |kept: &SignIn| {
            let Some(user) = directory.users.get(&kept.user) else { return true };
            kept.holds(stamps.entry(kept.user.clone()).or_insert_with(|| stamp(&user.password_hash)))
        };
        // A password that was changed in this very browser, perhaps by another gateway: the records know what it holds on to now.
        let changed = known.into_iter().filter(|(_, kept)| !holds(kept)).map(|(cookie, _)| cookie);
        let changed: Vec<Digest> = changed.filter(|cookie| !ended.contains(cookie)).collect();
        for some in changed.chunks(MAX_DIGESTS) {
            let found = store.sign_ins(some.to_vec()).await?;
            let mut table = self.table();
            for cookie in some {
                match found.iter().find(|kept| kept.digest == *cookie) {
                    Some(kept) if holds(kept) => table.renew(kept),
                    // Or of a release that does not know of sign-ins, which leaves them as they are.
                    Some(_) | None => ended.push(*cookie),
                }
            }
        }
        Ok(ended)
    }

    /// Ends what the records say has ended.
    pub(super) fn end_here(&self, ended: &[Digest]) {
        let mut table = self.table();
        // Whatever is being read at this moment is read again.
        table.ends += 1;
        for cookie in ended {
            table.at_hand.take(Duration::ZERO, cookie);
            if let Some(over) = table.over.remove(cookie) {
                over.send_modify(|fate| fate.over = true);
            }
        }
    }

    /// Writes down what was used, and tells what was ended while the records were away.
    pub(super) async fn write_down(&self, now: Now) {
        let (Some(store), Ok(_alone)) = (&self.0.store, self.0.writing.try_lock()) else { return };
        let (used, untold) = self.table().unwritten(now);
        for cookie in untold {
            match store.end(Leaving::One(cookie)).await {
                Ok(()) => drop(self.table().untold.take(now.at, &cookie)),
                Err(_) => return,
            }
        }
        for some in used.chunks(LAST_SEEN_BATCH) {
            if let Err(error) = store.note_use(some.to_vec()).await {
                tracing::debug!(%error, "who used their sign-in could not be written down yet");
                return;
            }
            let mut table = self.table();
            for (cookie, at) in some {
                if let Some(entry) = table.at_hand.get_mut(now.at, cookie) {
                    entry.value.noted = *at;
                }
            }
        }
    }

    /// Removes some of those from the records that nobody could use any more.
    pub(super) async fn forget(&self, now: Now) {
        let Some(store) = &self.0.store else { return };
        if let Err(error) = store.forget(now.before(IDLE_TIMEOUT + MAX_WRITE_LAG + KEPT_ON), CLEANUP_ROWS).await {
            tracing::debug!(%error, "old sign-ins could not be removed; it is tried again");
        }
    }

    /// A panic elsewhere leaves the table whole: every change of it is one call.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
