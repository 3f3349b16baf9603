//! Sign-ins in MySQL and MariaDB. Knows the statements' parameters; whether one is good is decided elsewhere.

use futures_util::future::BoxFuture;
use sqlx::QueryBuilder;

use super::{MySqlStore, lane::Statement, statement};
use crate::{
    core::{
        people::{SignIn, User},
        record::UtcMicros,
    },
    store::{
        StoreError, people,
        sign_ins::{self as rows, Leaving, SignInStore, add_sign_in, bind_sign_in, bind_unfit, end_of},
        sql_rows,
    },
};

/// The server's own limit of a DELETE, since it takes none within a list.
const FORGET: &str = "DELETE FROM sign_ins WHERE last_seen_at < ? ORDER BY last_seen_at LIMIT ?";

const OLD: &str = "SELECT COUNT(*) AS old FROM (SELECT 1 FROM sign_ins WHERE last_seen_at < ? ORDER BY last_seen_at LIMIT ?) AS found";

impl SignInStore for MySqlStore {
    fn add_sign_in(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let add = || {
                let query = sqlx::query(add_sign_in!("ON DUPLICATE KEY UPDATE digest = sign_ins.digest"));
                vec![bind_sign_in!(query, sign_in.clone())]
            };
            self.writers.run(add).await.map(drop)
        })
    }

    fn sign_ins(&self, digests: Vec<[u8; 32]>) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        Box::pin(async move {
            if digests.is_empty() {
                return Ok(Vec::new());
            }
            let some = || {
                let mut sql = QueryBuilder::new(rows::SOME);
                let mut list = sql.separated(", ");
                digests.iter().for_each(|digest| {
                    list.push_bind(rows::hex(digest));
                });
                sql.push(")");
                vec![statement(sql)]
            };
            self.readers.run(some).await?.iter().map(rows::sign_in).collect()
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
            let all = || vec![sqlx::query(rows::OF_USER).bind(user.clone()).bind(seen.0).bind(now.0).bind(limit)];
            self.readers.run(all).await?.iter().map(rows::sign_in).collect()
        })
    }

    fn end(&self, leaving: Leaving) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let end = || vec![sqlx::query(people::COUNT_UP), end_of!(&leaving)];
            self.writers.run(end).await.map(drop)
        })
    }

    fn ended_since(&self, version: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, StoreError>> {
        Box::pin(async move {
            let ended = || vec![sqlx::query(rows::ENDED).bind(sql_rows::integer(version))];
            self.readers.run(ended).await?.iter().map(rows::digest).collect()
        })
    }

    fn expect_stamp(&self, digest: [u8; 32], own: String, next: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let expect =
                || vec![sqlx::query(rows::EXPECT).bind(own.clone()).bind(next.clone()).bind(rows::hex(&digest))];
            self.writers.run(expect).await.map(drop)
        })
    }

    fn note_use(&self, used: Vec<([u8; 32], UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let note = |(digest, at): &([u8; 32], UtcMicros)| {
                sqlx::query(rows::NOTE).bind(at.0).bind(rows::hex(digest)).bind(at.0)
            };
            self.writers.run(|| used.iter().map(note).collect()).await.map(drop)
        })
    }

    fn forget(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let found = self.readers.run(|| vec![sqlx::query(OLD).bind(before.0).bind(limit)]).await?;
            let old = sql_rows::count(found.first().ok_or_else(sql_rows::unreadable)?, "old")?;
            if old > 0 {
                self.writers.run(|| vec![sqlx::query(FORGET).bind(before.0).bind(limit)]).await?;
            }
            Ok(old)
        })
    }
}

pub(super) fn end_all(user: &str) -> Statement {
    sqlx::query(rows::END_ALL).bind(user.to_owned())
}

pub(super) fn end_of_token(id: &str) -> Statement {
    sqlx::query(rows::END_OF_TOKEN).bind(id.to_owned()).bind(id.to_owned())
}

/// Ends what this user may no longer have, after they were written.
pub(super) fn end_unfit(user: &User) -> Statement {
    bind_unfit!(sqlx::query(rows::END_UNFIT), user)
}
