//! Users and tokens in SQLite. Knows the statements' parameters; whether somebody may do something is decided elsewhere.

use futures_util::future::BoxFuture;

use super::{SqliteStore, Transaction, failed, rows::Statement, sign_ins, targets::change_target};
use crate::{
    core::{
        people::{Directory, Token, User},
        record::UtcMicros,
    },
    store::{
        StoreError,
        people::{self as rows, Change, PeopleStore, Seen},
        sql_rows, targets,
    },
};

impl PeopleStore for SqliteStore {
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let row = sqlx::query(rows::VERSION).fetch_one(self.readers()).await.map_err(failed)?;
            sql_rows::count(&row, "version")
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<Directory, StoreError>> {
        Box::pin(async move {
            // The version first: what changes meanwhile is read again.
            let version = self.version().await?;
            let users = sqlx::query(rows::USERS).fetch_all(self.readers()).await.map_err(failed)?;
            let tokens = sqlx::query(rows::TOKENS).fetch_all(self.readers()).await.map_err(failed)?;
            let targets = sqlx::query(targets::TARGETS).fetch_all(self.readers()).await.map_err(failed)?;
            rows::directory(version, &users, &tokens, &targets)
        })
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            // First: what ends with the change is noted with the new version.
            transaction.run(sqlx::query(rows::COUNT_UP)).await?;
            let done = apply(&mut transaction, change).await?;
            transaction.commit().await?;
            Ok(done)
        })
    }

    fn note(&self, seen: Seen) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            for (sql, times) in [(rows::SIGNED_IN, seen.users), (rows::USED, seen.tokens)] {
                for (who, at) in times {
                    transaction.run(sqlx::query(sql).bind(at.0).bind(who).bind(at.0)).await?;
                }
            }
            transaction.commit().await
        })
    }
}

async fn apply(transaction: &mut Transaction<'_>, change: Change) -> Result<bool, StoreError> {
    let user = match change {
        Change::Add(user) => {
            transaction.run(remove_orphans(&user)).await?;
            transaction.run(add_user(&user)).await?;
            user
        }
        Change::AddFirst(user) => {
            transaction.run(remove_orphans(&user)).await?;
            transaction.run(add_first(&user)).await?;
            user
        }
        Change::Replace(user, before) => {
            transaction.run(replace_user(&user, before)).await?;
            transaction.run(sign_ins::end_unfit(&user)).await?;
            user
        }
        Change::Remove(name) => {
            transaction.run(sign_ins::end_all(&name)).await?;
            transaction.run(sqlx::query(rows::REMOVE_TOKENS_OF).bind(name.clone())).await?;
            return Ok(transaction.run(sqlx::query(rows::REMOVE_USER).bind(name)).await? == 1);
        }
        Change::AddToken(token) => {
            transaction.run(add_token(token)).await?;
            return Ok(true);
        }
        Change::RemoveToken(id) => {
            transaction.run(sign_ins::end_of_token(&id)).await?;
            return Ok(transaction.run(sqlx::query(rows::REMOVE_TOKEN).bind(id)).await? == 1);
        }
        Change::AddTarget(_) | Change::ReplaceTarget(..) | Change::RemoveTarget(_) => {
            return change_target(transaction, change).await;
        }
    };
    let query = sqlx::query(rows::ONE_USER).bind(user.name.clone());
    let found = query.fetch_optional(transaction.connection()).await.map_err(|error| transaction.failed(error))?;
    rows::is_written(found.as_ref(), &user)
}

fn remove_orphans(user: &User) -> Statement {
    sqlx::query(rows::REMOVE_ORPHANS).bind(user.name.clone()).bind(user.name.clone())
}

fn add_user(user: &User) -> Statement {
    whole(sqlx::query(rows::add_user!("ON CONFLICT DO NOTHING")), user)
}

fn add_first(user: &User) -> Statement {
    whole(sqlx::query(rows::add_first!("", "ON CONFLICT DO NOTHING")), user)
}

/// Binds all of a user.
fn whole(query: Statement, user: &User) -> Statement {
    let query = query.bind(user.name.clone()).bind(user.role.as_str()).bind(rows::list(&user.grants));
    let query = query.bind(i64::from(user.disabled)).bind(user.password_hash.clone());
    let query = query.bind(rows::optional(user.second_factor.as_ref())).bind(rows::optional(user.enrolment.as_ref()));
    let query = query.bind(rows::optional(user.invitation.as_ref())).bind(rows::optional(user.identity.as_ref()));
    query.bind(user.created_at.0).bind(user.changed_at.0).bind(user.last_sign_in_at.map(|at| at.0))
}

fn replace_user(user: &User, before: UtcMicros) -> Statement {
    let query = sqlx::query(rows::REPLACE_USER).bind(user.role.as_str()).bind(rows::list(&user.grants));
    let query = query.bind(i64::from(user.disabled)).bind(user.password_hash.clone());
    let query = query.bind(rows::optional(user.second_factor.as_ref())).bind(rows::optional(user.enrolment.as_ref()));
    let query = query.bind(rows::optional(user.invitation.as_ref())).bind(rows::optional(user.identity.as_ref()));
    let query = query.bind(user.changed_at.0);
    query.bind(user.name.clone()).bind(before.0)
}

fn add_token(token: Token) -> Statement {
    let query = sqlx::query(rows::add_token!("ON CONFLICT DO NOTHING"))
        .bind(token.id)
        .bind(token.name)
        .bind(token.user)
        .bind(token.digest);
    let query = query.bind(token.scopes.map(|scopes| rows::list(&scopes))).bind(token.created_at.0);
    query.bind(token.expires_at.map(|at| at.0)).bind(token.last_used_at.map(|at| at.0))
}
