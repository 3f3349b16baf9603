//! Users and tokens in MySQL and MariaDB. Knows the statements' parameters; whether somebody may do something is decided elsewhere.

use futures_util::future::BoxFuture;

use super::{MySqlStore, lane::Statement, sign_ins, targets::target_statements};
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

impl PeopleStore for MySqlStore {
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let found = self.readers.run(|| vec![sqlx::query(rows::VERSION)]).await?;
            sql_rows::count(found.first().ok_or_else(sql_rows::unreadable)?, "version")
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<Directory, StoreError>> {
        Box::pin(async move {
            // The version first: what changes meanwhile is read again.
            let version = self.version().await?;
            let users = self.readers.run(|| vec![sqlx::query(rows::USERS)]).await?;
            let tokens = self.readers.run(|| vec![sqlx::query(rows::TOKENS)]).await?;
            let targets = self.readers.run(|| vec![sqlx::query(targets::TARGETS)]).await?;
            rows::directory(version, &users, &tokens, &targets)
        })
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let found = self.writers.run(|| statements(&change)).await?;
            match &change {
                Change::Add(user) | Change::AddFirst(user) | Change::Replace(user, _) => {
                    rows::is_written(found.first(), user)
                }
                Change::AddTarget(target) | Change::ReplaceTarget(target, _) => {
                    targets::is_written(found.first(), target)
                }
                Change::Remove(_) | Change::AddToken(_) | Change::RemoveToken(_) | Change::RemoveTarget(_) => Ok(true),
            }
        })
    }

    fn note(&self, seen: Seen) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let users = seen.users.into_iter().map(|(who, at)| (rows::SIGNED_IN, who, at.0));
            let tokens = seen.tokens.into_iter().map(|(who, at)| (rows::USED, who, at.0));
            let times: Vec<_> = users.chain(tokens).collect();
            let note =
                |(sql, who, at): &(&'static str, String, i64)| sqlx::query(*sql).bind(*at).bind(who.clone()).bind(*at);
            let work = || times.iter().map(note).collect();
            self.writers.run(work).await.map(drop)
        })
    }
}

/// What a change is, and at the end the user or target as it is then: a repetition finds its own work done.
fn statements(change: &Change) -> Vec<Statement> {
    let mut work = vec![sqlx::query(rows::COUNT_UP)];
    let user = match change {
        Change::Add(user) => {
            work.push(remove_orphans(user));
            work.push(add_user(user));
            user
        }
        Change::AddFirst(user) => {
            work.push(remove_orphans(user));
            work.push(add_first(user));
            user
        }
        Change::Replace(user, before) => {
            work.push(replace_user(user, *before));
            work.push(sign_ins::end_unfit(user));
            user
        }
        Change::Remove(name) => {
            work.push(sign_ins::end_all(name));
            work.push(sqlx::query(rows::REMOVE_TOKENS_OF).bind(name.clone()));
            work.push(sqlx::query(rows::REMOVE_USER).bind(name.clone()));
            return work;
        }
        Change::AddToken(token) => {
            work.push(add_token(token.clone()));
            return work;
        }
        Change::RemoveToken(id) => {
            work.push(sign_ins::end_of_token(id));
            work.push(sqlx::query(rows::REMOVE_TOKEN).bind(id.clone()));
            return work;
        }
        Change::AddTarget(_) | Change::ReplaceTarget(..) | Change::RemoveTarget(_) => {
            work.extend(target_statements(change));
            return work;
        }
    };
    work.push(sqlx::query(rows::ONE_USER).bind(user.name.clone()));
    work
}

fn remove_orphans(user: &User) -> Statement {
    sqlx::query(rows::REMOVE_ORPHANS).bind(user.name.clone()).bind(user.name.clone())
}

fn add_user(user: &User) -> Statement {
    whole(sqlx::query(rows::add_user!("ON DUPLICATE KEY UPDATE name = users.name")), user)
}

fn add_first(user: &User) -> Statement {
    whole(sqlx::query(rows::add_first!("FROM DUAL", "ON DUPLICATE KEY UPDATE name = users.name")), user)
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
    let query = sqlx::query(rows::add_token!("ON DUPLICATE KEY UPDATE name = tokens.name"))
        .bind(token.id)
        .bind(token.name)
        .bind(token.user)
        .bind(token.digest);
    let query = query.bind(token.scopes.map(|scopes| rows::list(&scopes))).bind(token.created_at.0);
    query.bind(token.expires_at.map(|at| at.0)).bind(token.last_used_at.map(|at| at.0))
}
