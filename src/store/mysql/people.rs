//! Users, tokens and targets in MySQL and MariaDB. Knows how statements run; their text is in `store/people.rs`.

use futures_util::future::BoxFuture;

use super::{MySqlStore, lane::Statement};
use crate::{
    core::people::Directory,
    store::{
        StoreError,
        people::{self as rows, Adding, Change, PeopleStore, Seen},
        sql_rows, targets,
    },
};

const ADDING: Adding = Adding {
    user: rows::add_user!("ON DUPLICATE KEY UPDATE name = users.name"),
    first: rows::add_first!("FROM DUAL", "ON DUPLICATE KEY UPDATE name = users.name"),
    token: rows::add_token!("ON DUPLICATE KEY UPDATE name = tokens.name"),
    target: targets::add_target!("ON DUPLICATE KEY UPDATE name = targets.name"),
};

impl PeopleStore for MySqlStore {
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let found = self.vital_readers.run(|| vec![sqlx::query(rows::VERSION)]).await?;
            sql_rows::count(found.first().ok_or_else(sql_rows::unreadable)?, "version")
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<Directory, StoreError>> {
        Box::pin(async move {
            // The version first: a change made meanwhile is then read again.
            let version = self.version().await?;
            let users = self.vital_readers.run(|| vec![sqlx::query(rows::USERS)]).await?;
            let tokens = self.vital_readers.run(|| vec![sqlx::query(rows::TOKENS)]).await?;
            let targets = self.vital_readers.run(|| vec![sqlx::query(targets::TARGETS)]).await?;
            rows::directory(version, &users, &tokens, &targets)
        })
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let work = || {
                let mut work: Vec<Statement> = rows::statements(&change, &ADDING);
                work.extend(rows::outcome::<Statement>(&change));
                work
            };
            rows::is_done(&change, self.write(work).await?.first())
        })
    }

    fn note(&self, seen: Seen) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.write(|| rows::note(&seen)).await.map(drop) })
    }
}
