//! The position of each webhook in the audit log, in the journal's file beside that log. Sends nothing.

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteRow;

use super::{SqliteStore, call::call, failed, rows};
use crate::{
    core::record::UtcMicros,
    store::{
        StoreError,
        audit::{DeadLetter, WebhookCursorStore},
        sql_rows::{Columns, count, word},
    },
};

pub(super) const BEGIN: &str = "INSERT INTO webhooks (name, position) \
    VALUES (?1, coalesce((SELECT max(sequence) FROM audit_log), 0)) ON CONFLICT (name) DO NOTHING";

pub(super) const POSITION: &str = "SELECT position FROM webhooks WHERE name = ?1";

pub(super) const ADVANCE: &str = "UPDATE webhooks SET position = ?2 WHERE name = ?1 AND position < ?2";

const INSERT_DEAD_LETTER: &str =
    "INSERT OR IGNORE INTO webhook_dead_letters (webhook, first, last, at, error) VALUES (?1, ?2, ?3, ?4, ?5)";

pub(super) const DEAD: &str =
    "SELECT first, last, at, error FROM webhook_dead_letters WHERE webhook = ?1 ORDER BY first DESC LIMIT ?2";

impl WebhookCursorStore for SqliteStore {
    fn position(&self, webhook: &str) -> BoxFuture<'_, Result<u64, StoreError>> {
        let webhook = webhook.to_owned();
        call(async move {
            let mut transaction = self.begin().await?;
            transaction.run(sqlx::query(BEGIN).bind(webhook.clone())).await?;
            let row = sqlx::query(POSITION).bind(webhook).fetch_one(transaction.connection()).await;
            let position = count(&row.map_err(|error| transaction.failed(error))?, "position")?;
            transaction.commit().await?;
            Ok(position)
        })
    }

    fn advance(&self, webhook: &str, position: u64, dead: Option<DeadLetter>) -> BoxFuture<'_, Result<(), StoreError>> {
        let webhook = webhook.to_owned();
        call(async move {
            let mut transaction = self.begin().await?;
            if let Some(dead) = dead {
                let insert = sqlx::query(INSERT_DEAD_LETTER).bind(webhook.clone()).bind(rows::integer(dead.first));
                let insert = insert.bind(rows::integer(dead.last)).bind(dead.at.0).bind(dead.error);
                transaction.run(insert).await?;
            }
            transaction.run(sqlx::query(ADVANCE).bind(webhook).bind(rows::integer(position))).await?;
            transaction.commit().await
        })
    }

    fn dead_letters(&self, webhook: &str, limit: u32) -> BoxFuture<'_, Result<Vec<DeadLetter>, StoreError>> {
        let webhook = webhook.to_owned();
        call(async move {
            let found = sqlx::query(DEAD).bind(webhook).bind(i64::from(limit)).fetch_all(&self.readers).await;
            found.map_err(failed)?.iter().map(dead_letter).collect()
        })
    }
}

fn dead_letter(row: &SqliteRow) -> Result<DeadLetter, StoreError> {
    let at = row.number("at")?.map(UtcMicros).ok_or_else(rows::unreadable)?;
    Ok(DeadLetter { first: count(row, "first")?, last: count(row, "last")?, at, error: word(row, "error")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::audit::{Action, Deed},
        store::audit::AuditLog,
    };

    #[tokio::test]
    async fn a_webhook_begins_behind_what_there_is_and_never_goes_back() {
        let dir = tempfile::TempDir::new().unwrap();
        let store = SqliteStore::open(&dir.path().join("j.db")).await.unwrap();
        let deed = || (UtcMicros(1), Deed::of_gateway(Action::GatewayStart, "n", "Began."));
        store.append(vec![deed(), deed()]).await.unwrap();
        assert_eq!(store.position("siem").await.unwrap(), 2);
        store.append(vec![deed(), deed(), deed()]).await.unwrap();
        assert_eq!(store.position("siem").await.unwrap(), 2);
        let numbers = |entries: Vec<_>| {
            entries.iter().map(|entry: &crate::core::audit::Entry| entry.sequence).collect::<Vec<_>>()
        };
        assert_eq!(numbers(store.after(2, 2).await.unwrap()), [3, 4]);
        let dead = DeadLetter { first: 3, last: 4, at: UtcMicros(5), error: "status 400".into() };
        store.advance("siem", 4, Some(dead.clone())).await.unwrap();
        store.advance("siem", 4, Some(dead.clone())).await.unwrap();
        store.advance("siem", 3, None).await.unwrap();
        assert_eq!(store.position("siem").await.unwrap(), 4);
        assert_eq!(store.dead_letters("siem", 10).await.unwrap(), [dead]);
        assert!(store.dead_letters("other", 10).await.unwrap().is_empty());
    }
}
