//! The sign-ins by cookie: the records keep them for every gateway; those used here lately are in memory, so that a
//! request costs no query; others are read on demand. The end of a sign-in counts as a change of the users, which every
//! gateway polls for; a sign-in that is being read when ends arrive is read once more, so that an answer from before
//! its end cannot restore it. Knows no HTTP and no secret.

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
        sign_ins::{Leaving, MAX_DIGESTS, is_mark, marks_of},
    },
};

/// The sign-ins in memory, and the changes that the records still lack.
mod table;

use table::Table;

/// Maximum sign-ins in memory: about 6 MiB. Beyond it, the least recently used are read again on their next use.
const AT_HAND: usize = 10_000;

/// Maximum concurrent reads of sign-ins: requests with forged cookies must not keep the store from its work.
const MAX_CONCURRENT_READS: usize = 4;

/// Time a request waits for its sign-in to be read, before the user is asked to try again.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// Maximum reads of a sign-in while others end concurrently.
const MAX_READ_ATTEMPTS: usize = 5;

/// Interval at which the last use of a sign-in is stored.
const LAST_SEEN_INTERVAL: Duration = Duration::from_secs(60);

/// Last uses stored in one transaction.
const LAST_SEEN_BATCH: usize = 100;

/// Maximum time from a question to a provider about a sign-in to its record.
const BEING_MADE: Duration = Duration::from_secs(60);

/// Maximum devices of one user that are shown.
const MAX_DEVICES_SHOWN: u32 = 200;

/// Time for which an expired sign-in is kept in the records: longer than any gateway takes to learn of its end.
const KEPT_ON: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum rows removed at once, once a minute.
const CLEANUP_ROWS: u32 = 500;

/// The SHA-256 of a cookie's secret.
pub type Digest = [u8; 32];

/// A moment by two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time since a fixed moment, by which expiry is decided.
    pub at: Duration,
    /// Wall-clock time, which is stored.
    pub utc: UtcMicros,
}

impl Now {
    fn before(self, span: Duration) -> UtcMicros {
        UtcMicros(self.utc.0.saturating_sub(micros(span)))
    }
}

/// The current state of a sign-in, shared with its holders.
#[derive(Debug, Default)]
struct Fate {
    over: bool,
    /// The sign-in as last read.
    newest: Option<Arc<SignIn>>,
}

/// A sign-in in memory.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The sign-in as the records had it.
    pub kept: Arc<SignIn>,
    over: Arc<watch::Sender<Fate>>,
}

impl SignedIn {
    /// Returns the sign-in as last read from the records, which may be newer than `kept`.
    pub fn newest(&self) -> Arc<SignIn> {
        self.over.borrow().newest.clone().unwrap_or_else(|| self.kept.clone())
    }

    /// Returns once the sign-in was ended; never for one that only expires.
    pub async fn signed_out(&self) {
        if self.over.subscribe().wait_for(|fate| fate.over).await.is_err() {
            // It holds the sender itself, so this is never reached; waiting for ever is correct either way.
            std::future::pending::<()>().await;
        }
    }
}

/// A handle to the sign-ins: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct SignIns(Arc<Inner>);

struct Inner {
    /// The store; `None` if the sign-ins are in memory only.
    store: Option<Arc<dyn PeopleStore>>,
    table: Mutex<Table>,
    reads: Semaphore,
    /// Held while last uses are stored, so that a slow store does not get them twice.
    writing: tokio::sync::Mutex<()>,
}

impl SignIns {
    /// Creates a handle to the sign-ins of `store`.
    pub fn new(store: Option<Arc<dyn PeopleStore>>) -> Self {
        let (table, reads, writing) =
            (Mutex::new(Table::new()), Semaphore::new(MAX_CONCURRENT_READS), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { store, table, reads, writing }))
    }

    /// Returns the sign-in of this cookie if it is in memory, and extends its life.
    pub fn find(&self, now: Now, cookie: &Digest) -> Option<SignedIn> {
        let mut table = self.table();
        let entry = table.at_hand.get_mut(now.at, cookie)?;
        entry.until = (now.at + IDLE_TIMEOUT).min(entry.value.ends);
        entry.value.used = entry.value.used.max(now.utc);
        Some(SignedIn { kept: entry.value.kept.clone(), over: entry.value.over.clone() })
    }

    /// Loads the sign-in of this cookie unless one that `fits` is in memory, and returns whether there is a valid one.
    ///
    /// # Errors
    /// [`StoreError`] if it has to be read and cannot be.
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
                // A concurrent request with the same cookie may have loaded it.
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

    /// Stores a new sign-in. It is loaded into memory on its first use.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be stored; the cookie is not valid then.
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

    /// Invalidates a cookie: here at once, and on every gateway once the records have it.
    ///
    /// # Errors
    /// [`StoreError`] if the records could not be written; it is retried as long as this process lives.
    pub async fn sign_out(&self, now: Now, cookie: &Digest) -> Result<(), StoreError> {
        let Some(store) = &self.0.store else {
            self.end_here(now, &[*cookie]);
            return Ok(());
        };
        self.table().untold.insert(now.at, *cookie, (), MAX_LIFETIME);
        self.end_here(now, &[*cookie]);
        store.end(Leaving::One(*cookie)).await?;
        self.table().untold.take(now.at, cookie);
        Ok(())
    }

    /// Invalidates every cookie that `leaving` covers.
    ///
    /// # Errors
    /// [`StoreError`] if the records could not be written; only the cookies in memory are invalid then, and writing
    /// these is retried.
    pub async fn sign_out_all(&self, now: Now, leaving: Leaving) -> Result<(), StoreError> {
        let marks = leaving.marks();
        self.end_here(now, &marks);
        let told = match &self.0.store {
            Some(store) => tell(store.as_ref(), now, marks, leaving.clone()).await,
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
        self.end_here(now, &taken);
        told
    }

    /// Whether a sign-in that was just stored ended at the provider since that was `asked` (monotonic): the end, on
    /// whatever gateway it was heard of, may have come too early to cover it. Ask once the ends are read anew.
    pub fn is_over(&self, now: Now, made: &SignIn, asked: Duration) -> bool {
        let mut table = self.table();
        let since = |mark: &Digest| table.over_there.get_mut(now.at, mark).is_some_and(|entry| entry.value >= asked);
        marks_of(made).iter().any(since)
    }

    /// Lets a sign-in accept the next password stamp beside its own, so that it survives its own change of the
    /// password.
    ///
    /// # Errors
    /// [`StoreError`] if that could not be stored.
    pub async fn expect_stamp(&self, cookie: &Digest, own: String, next: String) -> Result<(), StoreError> {
        match &self.0.store {
            Some(store) => store.expect_stamp(*cookie, own, next).await,
            None => Ok(()),
        }
    }

    /// Returns the browsers that `user` is signed in with, on any gateway, newest first.
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

    /// Reads the changes of the sign-ins in memory since version `before` of the users, so that the remaining ones
    /// match `directory`, and returns those that have ended.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read; the caller then asks again from the same version on.
    pub(super) async fn ended_since(&self, before: u64, directory: &Directory) -> Result<Vec<Digest>, StoreError> {
        let Some(store) = &self.0.store else { return Ok(Vec::new()) };
        let known: Vec<(Digest, Arc<SignIn>)> = {
            let table = self.table();
            table.at_hand.iter(Duration::ZERO).map(|(cookie, entry)| (*cookie, entry.kept.clone())).collect()
        };
        // Records restored from an older copy count from its version.
        let before = if directory.version < before { 0 } else { before };
        let mut ended = store.ended_since(before).await?;
        let mut stamps = HashMap::new();
        let mut holds = |kept: &SignIn| {
            let Some(user) = directory.users.get(&kept.user) else { return true };
            kept.holds(stamps.entry(kept.user.clone()).or_insert_with(|| stamp(&user.password_hash)))
        };
        // The password may have been changed in this very browser, perhaps through another gateway: the records have
        // the stamp that it accepts now.
        let changed = known.into_iter().filter(|(_, kept)| !holds(kept)).map(|(cookie, _)| cookie);
        let changed: Vec<Digest> = changed.filter(|cookie| !ended.contains(cookie)).collect();
        for some in changed.chunks(MAX_DIGESTS) {
            let found = store.sign_ins(some.to_vec()).await?;
            let mut table = self.table();
            for cookie in some {
                match found.iter().find(|kept| kept.digest == *cookie) {
                    Some(kept) if holds(kept) => table.renew(kept),
                    // Or made by a release that does not know sign-ins, which leaves them as they are.
                    Some(_) | None => ended.push(*cookie),
                }
            }
        }
        Ok(ended)
    }

    /// Ends here the sign-ins that have ended in the records, and keeps the marks among them for those being made.
    pub(super) fn end_here(&self, now: Now, ended: &[Digest]) {
        let mut table = self.table();
        // Reads that are under way are repeated.
        table.ends += 1;
        for mark in ended.iter().filter(|digest| is_mark(digest)) {
            table.over_there.insert(now.at, *mark, now.at, BEING_MADE);
        }
        for cookie in ended {
            table.at_hand.take(Duration::ZERO, cookie);
            if let Some(over) = table.over.remove(cookie) {
                over.send_modify(|fate| fate.over = true);
            }
        }
    }

    /// Stores the last uses, and the ends that the records missed while they were down.
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

    /// Removes some expired sign-ins from the records.
    pub(super) async fn forget(&self, now: Now) {
        let Some(store) = &self.0.store else { return };
        if let Err(error) = store.forget(now.before(IDLE_TIMEOUT + MAX_WRITE_LAG + KEPT_ON), CLEANUP_ROWS).await {
            tracing::debug!(%error, "old sign-ins could not be removed; it is tried again");
        }
    }

    /// Locks the table; a poisoned lock is no error, since every change of the table is one call.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores an end. The marks come first: a sign-in that is stored before them is ended, and one that is stored later finds
/// them.
async fn tell(store: &dyn PeopleStore, now: Now, marks: Vec<Digest>, leaving: Leaving) -> Result<(), StoreError> {
    if !marks.is_empty() {
        store.note_over(marks, now.utc).await?;
    }
    store.end(leaving).await
}

#[cfg(test)]
mod tests;
