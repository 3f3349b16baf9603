//! Users, tokens and targets in SQLite. Knows how statements run; their text is in `store/people.rs`.

use futures_util::future::BoxFuture;

use super::{SqliteStore, call::call, failed, rows::Statement};
use crate::{
    core::people::Directory,
    store::{
        StoreError,
        people::{self as rows, Adding, Change, PeopleStore, Seen},
        sql_rows, targets,
    },
};

const ADDING: Adding = Adding {
    user: rows::add_user!("ON CONFLICT DO NOTHING"),
    first: rows::add_first!("", "ON CONFLICT DO NOTHING"),
    token: rows::add_token!("ON CONFLICT DO NOTHING"),
    target: targets::add_target!("ON CONFLICT DO NOTHING"),
};

impl PeopleStore for SqliteStore {
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        call(async move {
            let row = sqlx::query(rows::VERSION).fetch_one(&self.vital_readers).await.map_err(failed)?;
            sql_rows::count(&row, "version")
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<Directory, StoreError>> {
        call(async move {
            // The version first: a change made meanwhile is then read again.
            let version = self.version().await?;
            let users = sqlx::query(rows::USERS).fetch_all(&self.vital_readers).await.map_err(failed)?;
            let tokens = sqlx::query(rows::TOKENS).fetch_all(&self.vital_readers).await.map_err(failed)?;
            let targets = sqlx::query(targets::TARGETS).fetch_all(&self.vital_readers).await.map_err(failed)?;
            rows::directory(version, &users, &tokens, &targets)
        })
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        call(async move {
            let mut transaction = self.begin().await?;
            for statement in rows::statements::<Statement>(&change, &ADDING) {
                transaction.run(statement).await?;
            }
            let found = match rows::outcome::<Statement>(&change) {
                Some(question) => question.fetch_optional(transaction.connection()).await,
                None => Ok(None),
            };
            let found = found.map_err(|error| transaction.failed(error))?;
            let done = rows::is_done(&change, found.as_ref())?;
            transaction.commit().await?;
            Ok(done)
        })
    }

    fn note(&self, seen: Seen) -> BoxFuture<'_, Result<(), StoreError>> {
        call(async move { self.write(rows::note(&seen)).await.map(drop) })
    }
}
