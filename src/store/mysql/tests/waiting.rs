//! A gateway that serves while steps of the schema are taken elsewhere: its lease is renewed, and nothing waits for ever.

use sqlx::{MySqlConnection, mysql::MySqlPoolOptions};
use tokio::time::timeout;

use super::*;

/// Time in which everything here is done.
const LIMIT: Duration = Duration::from_secs(30);

/// Takes the lock of the steps in the database of `connection`, as another process does.
async fn hold(connection: &mut MySqlConnection) {
    let got: Option<i64> = sqlx::query_scalar(steps::LOCK).fetch_one(connection).await.unwrap();
    assert_eq!(got, Some(1));
}

async fn renew(store: &MySqlStore) -> Result<(), StoreError> {
    let renewal = store.renew_lease(NodeId("node-a".into()), Incarnation::new([7; 16]), Epoch(1), UtcMicros(1));
    timeout(2 * WRITES_WITHIN, renewal).await.expect("the renewal waits for the steps")
}

fn fits(store: &MySqlStore) -> bool {
    matches!(*store.known.lock().unwrap(), Known::Fits)
}

/// Renews the lease until the schema fits, and then writes.
pub async fn catches_up(store: &MySqlStore) {
    let catching_up = async {
        while !fits(store) {
            // The first may come before the steps are taken.
            renew(store).await.ok();
        }
    };
    timeout(LIMIT, catching_up).await.unwrap();
    renew(store).await.unwrap();
    store.apply(vec![active(1, 1)]).await.unwrap();
}

#[tokio::test]
async fn a_lease_is_renewed_while_another_process_takes_a_step() {
    if !is_here() {
        return;
    }
    let (store, database) = fresh().await;
    store.migrate_down(true).await.unwrap().unwrap();
    let mut other = database.connection().await;
    hold(&mut other).await;
    for _ in 0..3 {
        renew(&store).await.unwrap();
    }
    assert!(!fits(&store) && store.schema().await.unwrap().iter().any(|(_, taken)| !taken));
    drop(other);
    catches_up(&store).await;
    assert!(store.schema().await.unwrap().iter().all(|(_, taken)| *taken));
}

#[tokio::test]
async fn what_a_schema_cannot_take_before_its_steps_is_no_refusal() {
    if !is_here() {
        return;
    }
    fixture::server().sql("CREATE DATABASE waiting").unwrap();
    let store = fixture::store(fixture::server(), "waiting");
    let mut other = fixture::connection(fixture::server(), "waiting").await;
    hold(&mut other).await;
    for written in [renew(&store).await, store.apply(vec![active(1, 1)]).await] {
        let said = written.unwrap_err().to_string();
        assert_eq!(said, "the store is unavailable: a step of the schema is being taken");
    }
    drop(other);
    catches_up(&store).await;
    fixture::server().sql("DROP DATABASE waiting").unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_asked_for_the_lock_for_ever() {
    if !is_here() {
        return;
    }
    let database = Database::empty().await;
    let options = options(&fixture::server().url(database.name()).parse().unwrap());
    let pool = MySqlPoolOptions::new().max_connections(1).connect_with(options.set_names(true)).await.unwrap();
    let mut other = database.connection().await;
    hold(&mut other).await;
    // The server answers after ten seconds only.
    let asked = timeout(WRITES_WITHIN, steps::locked(&pool, Duration::from_millis(200))).await.unwrap();
    assert!(matches!(asked, Err(StoreError::Unavailable(_))), "{:?}", asked.err());
}
