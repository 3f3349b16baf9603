//! Sign-ins in SQLite. Knows the statements' parameters; whether one is good is decided elsewhere.

use futures_util::future::BoxFuture;
use sqlx::QueryBuilder;

use super::{SqliteStore, failed, rows::Statement};
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

const FORGET: &str = "DELETE FROM sign_ins WHERE digest IN \
    (SELECT digest FROM sign_ins WHERE last_seen_at < ? ORDER BY last_seen_at LIMIT ?)";

impl SignInStore for SqliteStore {
    fn add_sign_in(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let query = sqlx::query(add_sign_in!("ON CONFLICT DO NOTHING"));
            let mut transaction = self.begin().await?;
            transaction.run(bind_sign_in!(query, sign_in)).await?;
            transaction.commit().await
        })
    }

    fn sign_ins(&self, digests: Vec<[u8; 32]>) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        Box::pin(async move {
            let mut sql = QueryBuilder::new(rows::SOME);
            let mut list = sql.separated(", ");
            digests.iter().for_each(|digest| {
                list.push_bind(rows::hex(digest));
            });
            sql.push(")");
            let found = sql.build().fetch_all(self.readers()).await.map_err(failed)?;
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
        let query = sqlx::query(rows::OF_USER).bind(user.to_owned()).bind(seen.0).bind(now.0).bind(limit);
        Box::pin(async move {
            let found = query.fetch_all(self.readers()).await.map_err(failed)?;
            found.iter().map(rows::sign_in).collect()
        })
    }

    fn end(&self, leaving: Leaving) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            transaction.run(sqlx::query(people::COUNT_UP)).await?;
            transaction.run(end_of!(&leaving)).await?;
            transaction.commit().await
        })
    }

    fn ended_since(&self, version: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, StoreError>> {
        Box::pin(async move {
            let query = sqlx::query(rows::ENDED).bind(sql_rows::integer(version));
            let found = query.fetch_all(self.readers()).await.map_err(failed)?;
            found.iter().map(rows::digest).collect()
        })
    }

    fn expect_stamp(&self, digest: [u8; 32], own: String, next: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            transaction.run(sqlx::query(rows::EXPECT).bind(own).bind(next).bind(rows::hex(&digest))).await?;
            transaction.commit().await
        })
    }

    fn note_use(&self, used: Vec<([u8; 32], UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            for (digest, at) in used {
                transaction.run(sqlx::query(rows::NOTE).bind(at.0).bind(rows::hex(&digest)).bind(at.0)).await?;
            }
            transaction.commit().await
        })
    }

    fn forget(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let gone = transaction.run(sqlx::query(FORGET).bind(before.0).bind(limit)).await?;
            transaction.commit().await?;
            Ok(gone)
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
