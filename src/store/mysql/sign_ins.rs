//! Sign-ins in MySQL and MariaDB. Knows how statements run; their text is in `store/sign_ins.rs`.

use std::iter::once;

use futures_util::future::BoxFuture;

use super::{MySqlStore, statement};
use crate::{
    core::{people::SignIn, record::UtcMicros},
    store::{
        StoreError, people,
        sign_ins::{self as rows, Leaving, SignInStore, add_sign_in, note_over},
        sql_rows,
    },
};

pub(super) const NOTE_OVER: &str = note_over!("ON DUPLICATE KEY UPDATE ended = people_version.version");

/// Uses the server's own LIMIT of a DELETE, since it accepts none within a list.
pub(super) const FORGET: &str = "DELETE FROM sign_ins WHERE last_seen_at < ? ORDER BY last_seen_at LIMIT ?";

pub(super) const OLD: &str = "SELECT COUNT(*) AS old FROM (SELECT 1 FROM sign_ins WHERE last_seen_at < ? ORDER BY last_seen_at LIMIT ?) AS found";

impl SignInStore for MySqlStore {
    fn add_sign_in(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let sql = add_sign_in!("ON DUPLICATE KEY UPDATE digest = sign_ins.digest");
            self.write(|| vec![rows::add(sql, sign_in.clone())]).await.map(drop)
        })
    }

    fn sign_ins(&self, digests: Vec<[u8; 32]>) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        Box::pin(async move {
            if digests.is_empty() {
                return Ok(Vec::new());
            }
            self.vital_readers.run(|| vec![statement(rows::some(&digests))]).await?.iter().map(rows::sign_in).collect()
        })
    }

    fn sign_ins_of(
        &self,
        user: &str,
        seen: UtcMicros,
        now: UtcMicros,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        let user = user.to_owned();
        Box::pin(async move {
            let found = self.vital_readers.run(|| vec![rows::of_user(&user, seen, now, limit)]).await?;
            found.iter().map(rows::sign_in).collect()
        })
    }

    fn note_over(&self, marks: Vec<[u8; 32]>, at: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let note = |mark: &[u8; 32]| rows::note_mark(NOTE_OVER, mark, at);
            self.write(|| once(people::count_up()).chain(marks.iter().map(note)).collect()).await.map(drop)
        })
    }

    fn end(&self, leaving: Leaving) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.write(|| vec![people::count_up(), rows::end(&leaving)]).await.map(drop) })
    }

    fn ended_since(&self, version: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, StoreError>> {
        Box::pin(async move {
            let found = self.vital_readers.run(|| vec![rows::ended_since(version)]).await?;
            found.iter().map(rows::digest).collect()
        })
    }

    fn expect_stamp(&self, digest: [u8; 32], own: String, next: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let expect = || vec![rows::expect_stamp(&digest, own.clone(), next.clone())];
            self.write(expect).await.map(drop)
        })
    }

    fn note_use(&self, used: Vec<([u8; 32], UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.write(|| used.iter().map(rows::note_use).collect()).await.map(drop) })
    }

    fn forget(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let found = self.vital_readers.run(|| vec![sqlx::query(OLD).bind(before.0).bind(limit)]).await?;
            let old = sql_rows::count(found.first().ok_or_else(sql_rows::unreadable)?, "old")?;
            if old > 0 {
                self.write(|| vec![sqlx::query(FORGET).bind(before.0).bind(limit)]).await?;
            }
            Ok(old)
        })
    }
}
