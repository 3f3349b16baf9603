//! A gateway on records with the schema of a newer release: one step ahead is as good as its own, two are refused.

use super::*;

/// Tables with a column of the next release, to which this one gives no value.
const ADDED: [&str; 3] = ["session_records", "session_events", "nodes"];

/// A database one step ahead; reverted when it is dropped.
struct Ahead(Database);

impl Ahead {
    /// Notes a step as applied, as another release does.
    fn take(&self, step: usize) {
        let columns = "version, description, success, checksum, execution_time";
        let row =
            format!("INSERT INTO {}._sqlx_migrations ({columns}) VALUES ({step}, 'later', true, '', 1)", self.0.name());
        fixture::server().sql(&row).unwrap();
    }

    fn alter(&self, change: &str) {
        let alter = |table| format!("ALTER TABLE {}.{table} {change};", self.0.name());
        fixture::server().sql(&ADDED.map(alter).concat()).unwrap();
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.alter("DROP COLUMN later");
        let forget = format!("DELETE FROM {}._sqlx_migrations WHERE version > {}", self.0.name(), STEPS.len());
        fixture::server().sql(&forget).unwrap();
    }
}

/// Returns a store of this release that starts there.
async fn behind() -> (MySqlStore, Ahead) {
    let ahead = Ahead(Database::empty().await);
    ahead.alter("ADD COLUMN later VARCHAR(64) NULL");
    ahead.take(STEPS.len() + 1);
    let store = ahead.0.store();
    store.migrate(true, |step| panic!("{} was taken twice", step.name)).await.unwrap();
    (store, ahead)
}

fn behind_one(_: &()) -> impl Future<Output = (MySqlStore, Ahead)> + Send + use<> {
    behind()
}

conformance::record_store_promises!(started, behind_one);
conformance::shared_record_promises!(started, behind_one);

#[tokio::test]
async fn a_step_that_is_not_known_is_not_taken_back_and_a_second_one_is_refused() {
    if !is_here() {
        return;
    }
    let (store, ahead) = behind().await;
    let down = store.migrate_down(true).await.unwrap_err().to_string();
    assert!(down.contains("newer release"), "{down}");
    ahead.take(STEPS.len() + 2);
    let up = store.migrate(true, |_| {}).await.unwrap_err().to_string();
    assert!(up.contains("newer release"), "{up}");
}
