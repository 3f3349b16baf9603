//! A gateway on records with the schema of a newer release: one step ahead is as good as its own, two are refused.

use super::*;
use crate::{
    core::record::EndReason,
    store::{
        Command, SharedRecords,
        conformance::people::{sign_ins::sign_in, user},
        people::{Change, PeopleStore, Seen},
        sign_ins::{Leaving, SignInStore},
    },
};

/// Tables with a column of the next release, to which this one gives no value.
const ADDED: [&str; 3] = ["session_records", "session_events", "nodes"];

/// A database one step ahead; reverted when it is dropped.
struct Ahead(Database);

impl Ahead {
    /// Notes a step as applied, as another release does.
    fn take(&self, step: usize) {
        self.note(step, true);
    }

    /// Notes a step as begun or as applied.
    fn note(&self, step: usize, success: bool) {
        let columns = "version, description, success, checksum, execution_time";
        let row = format!(
            "REPLACE INTO {}._sqlx_migrations ({columns}) VALUES ({step}, 'later', {success}, '', 1)",
            self.0.name()
        );
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
    assert_eq!(store.schema().await.unwrap_err().to_string(), up, "the tools look before they write");
}

#[tokio::test]
async fn a_start_waits_for_the_step_that_a_newer_release_takes_and_one_that_broke_off_is_told() {
    if !is_here() {
        return;
    }
    let ahead = Ahead(Database::empty().await);
    let (mut other, mut watch) = (ahead.0.connection().await, ahead.0.connection().await);
    let got: Option<i64> = sqlx::query_scalar(steps::LOCK).fetch_one(&mut other).await.unwrap();
    assert_eq!(got, Some(1));
    ahead.note(STEPS.len() + 1, false);
    ahead.alter("ADD COLUMN later VARCHAR(64) NULL");
    let beside = async {
        let waits = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User lock'";
        while sqlx::query(waits).fetch_all(&mut watch).await.unwrap().is_empty() {}
        ahead.take(STEPS.len() + 1);
        sqlx::raw_sql("DO RELEASE_ALL_LOCKS()").execute(&mut other).await.unwrap();
        Ok(())
    };
    let store = ahead.0.store();
    let waiting = store.migrate(true, |step| panic!("{} was taken twice", step.name));
    tokio::try_join!(waiting, beside).unwrap();

    ahead.note(STEPS.len() + 1, false);
    let broken = ahead.0.store().migrate(true, |_| {}).await.unwrap_err().to_string();
    assert!(broken.contains(&format!("step {} of the schema broke off", STEPS.len() + 1)), "{broken}");
}

fn command() -> Command {
    Command { session: active(1, 1).record.id, reason: EndReason::Terminated, detail: String::new() }
}

/// Writes what a write of each kind needs in order to have something to do.
async fn prepare(store: &MySqlStore) {
    store.apply(vec![write(record(2, 2, Authority::Observed, Status::Closed))]).await.unwrap();
    store.send_command(NodeId("node-a".into()), command(), UtcMicros(1)).await.unwrap();
    store.add_sign_in(sign_in(1, "ada")).await.unwrap();
}

/// Makes one write of each kind, the renewal of the lease last.
async fn writes(store: &MySqlStore) -> Vec<(&'static str, Result<(), StoreError>)> {
    let (node, start) = (|| NodeId("node-a".into()), || Incarnation::new([7; 16]));
    let lease = Lease { epoch: Epoch(9), incarnation: start(), renewed_at: UtcMicros(1) };
    let closed = record(2, 2, Authority::Observed, Status::Closed).id;
    let seen = Seen { users: [("ada".to_owned(), UtcMicros(15))].into(), ..Seen::default() };
    vec![
        ("apply", store.apply(vec![active(1, 1)]).await),
        ("begin_epoch", store.begin_epoch(node(), start(), Epoch(0), UtcMicros(1)).await.map(drop)),
        ("delete_closed", store.delete_closed(vec![closed]).await),
        ("fence", store.fence(node(), lease).await.map(drop)),
        ("send_command", store.send_command(node(), command(), UtcMicros(1)).await),
        ("take_commands", store.take_commands(node()).await.map(drop)),
        ("view_key", store.view_key([7; 32]).await.map(drop)),
        ("change", store.change(Change::Add(user("ada"))).await.map(drop)),
        ("note", store.note(seen).await),
        ("add_sign_in", store.add_sign_in(sign_in(2, "ada")).await),
        ("end", store.end(Leaving::AllOf("ada".to_owned())).await),
        ("note_over", store.note_over(vec![[1; 32]], UtcMicros(20)).await),
        ("expect_stamp", store.expect_stamp([1; 32], "own".to_owned(), "next".to_owned()).await),
        ("note_use", store.note_use(vec![([1; 32], UtcMicros(30))]).await),
        ("forget", store.forget(UtcMicros(i64::MAX), 9).await.map(drop)),
        ("release_lease", store.release_lease(node(), start()).await),
        ("renew_lease", store.renew_lease(node(), start(), Epoch(1), UtcMicros(2)).await),
    ]
}

#[tokio::test]
async fn whoever_comes_back_to_a_newer_schema_is_refused_alike_by_every_write_until_it_fits() {
    if !is_here() {
        return;
    }
    let (store, database) = fresh().await;
    prepare(&store).await;
    let alter = |sql: &str| fixture::server().sql(&format!("USE {}; {sql}", database.name())).unwrap();
    alter(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'tomorrow', true, '', 1)",
    );
    // At first nobody has renewed the lease, and so looked at the schema.
    for _ in 0..2 {
        for (name, done) in writes(&store).await {
            let refused = done.unwrap_err().to_string();
            assert!(refused.contains("its step 99; start this gateway with that release"), "{name}: {refused}");
        }
    }
    assert_eq!(store.get(active(1, 1).record.id).await.unwrap(), None);
    alter("DELETE FROM _sqlx_migrations WHERE version = 99");
    store.renew_lease(NodeId("node-b".into()), Incarnation::new([7; 16]), Epoch(1), UtcMicros(1)).await.unwrap();
    for (name, done) in writes(&store).await {
        assert!(done.is_ok(), "{name}: {done:?}");
    }
}
