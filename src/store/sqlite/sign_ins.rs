//! Sign-ins in SQLite. Knows how statements run; their text is in `store/sign_ins.rs`.

use std::iter::once;

use futures_util::future::BoxFuture;
use sqlx::{QueryBuilder, Sqlite};

use super::{SqliteStore, call::call, failed, rows::Statement};
use crate::{
    core::{people::SignIn, record::UtcMicros},
    store::{
        StoreError, people,
        sign_ins::{self as rows, Leaving, SignInStore, add_sign_in, note_over},
    },
};

pub(super) const NOTE_OVER: &str = note_over!("ON CONFLICT (digest) DO UPDATE SET ended = excluded.ended");

pub(super) const FORGET: &str = "DELETE FROM sign_ins WHERE digest IN \
    (SELECT digest FROM sign_ins WHERE last_seen_at < ? ORDER BY last_seen_at LIMIT ?)";

impl SignInStore for SqliteStore {
    fn add_sign_in(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move {
            let add = rows::add(add_sign_in!("ON CONFLICT DO NOTHING"), sign_in);
            self.write(vec![add]).await.map(drop)
        })
    }

    fn sign_ins(&self, digests: Vec<[u8; 32]>) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        let mut some: QueryBuilder<Sqlite> = rows::some(&digests);
        call(async move {
            let found = some.build().fetch_all(&self.vital_readers).await.map_err(failed)?;
            found.iter().map(rows::sign_in).collect()
        })
    }

    fn sign_ins_of(
        &self,
        user: &str,
        seen: UtcMicros,
        now: UtcMicros,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        let all: Statement = rows::of_user(user, seen, now, limit);
        call(async move {
            let found = all.fetch_all(&self.vital_readers).await.map_err(failed)?;
            found.iter().map(rows::sign_in).collect()
        })
    }

    fn note_over(&self, marks: Vec<[u8; 32]>, at: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        let notes = marks.iter().map(|mark| rows::note_mark(NOTE_OVER, mark, at));
        let work = once(people::count_up()).chain(notes).collect();
        call(async move { self.write(work).await.map(drop) })
    }

    fn end(&self, leaving: Leaving) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move { self.write(vec![people::count_up(), rows::end(&leaving)]).await.map(drop) })
    }

    fn ended_since(&self, version: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, StoreError>> {
        call(async move {
            let ended: Statement = rows::ended_since(version);
            let found = ended.fetch_all(&self.vital_readers).await.map_err(failed)?;
            found.iter().map(rows::digest).collect()
        })
    }

    fn expect_stamp(&self, digest: [u8; 32], own: String, next: String) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move { self.write(vec![rows::expect_stamp(&digest, own, next)]).await.map(drop) })
    }

    fn note_use(&self, used: Vec<([u8; 32], UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move { self.write(used.iter().map(rows::note_use).collect()).await.map(drop) })
    }

    fn forget(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        call(async move { self.write(vec![sqlx::query(FORGET).bind(before.0).bind(limit)]).await })
    }
}
