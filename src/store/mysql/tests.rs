//! The promises of a store on MySQL or MariaDB beyond the suite of all stores, against a real server: outages, replaced
//! connections, deadlocks, and a schema that goes both ways.

use std::{sync::Mutex, time::Instant};

use super::*;
use crate::{
    core::record::{Authority, Status},
    store::{
        conformance::{self, people::sign_ins::sign_in, record, write},
        mysql::fixture::{self, Database, Mariadb, is_here},
        people::PeopleStore,
        sign_ins::SignInStore,
    },
};

#[cfg(test)]
mod newer;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod switchover;
#[cfg(test)]
mod waiting;

async fn fresh() -> (MySqlStore, Database) {
    let database = Database::empty().await;
    (database.store(), database)
}

fn started() -> Option<()> {
    is_here().then_some(())
}

fn fresh_one(_: &()) -> impl Future<Output = (MySqlStore, Database)> + Send + use<> {
    fresh()
}

conformance::record_store_promises!(started, fresh_one);
conformance::retiring_store_promises!(started, fresh_one);
conformance::shared_record_promises!(started, fresh_one);
conformance::people_promises!(started, fresh_one);

fn active(n: u8, version: u64) -> Write {
    write(record(n, version, Authority::Observed, Status::Active))
}

/// Starts a server of the test's own, with the schema in its database `records`.
async fn own_server() -> Mariadb {
    let server = Mariadb::start(&[]).unwrap();
    server.sql("CREATE DATABASE records").unwrap();
    fixture::store(&server, "records").migrate(true, |_| {}).await.unwrap();
    server
}

#[tokio::test]
async fn a_statement_prepared_for_short_values_carries_long_ones() {
    if !is_here() {
        return;
    }
    let (store, _keep) = fresh().await;
    let short = Record { username: "a".into(), ..record(1, 1, Authority::Observed, Status::Connecting) };
    store.apply(vec![write(short)]).await.unwrap();
    let mut long = record(2, 2, Authority::Observed, Status::Closed);
    (long.username, long.target) = ("ü".repeat(255), "ж".repeat(512));
    long.recording = Some("r".repeat(1024));
    let mut long = write(long);
    long.transitions[0].detail = "d".repeat(10_000);
    store.apply(vec![long.clone()]).await.unwrap();
    assert_eq!(store.history(long.record.id).await.unwrap(), long.transitions);
    assert_eq!(store.get(long.record.id).await.unwrap(), Some(long.record));
}

#[tokio::test]
async fn a_value_too_long_for_its_column_is_rejected_and_nothing_of_its_batch_stays() {
    if !is_here() {
        return;
    }
    let (store, _keep) = fresh().await;
    let long = Record { username: "u".repeat(256), ..record(2, 1, Authority::Observed, Status::Active) };
    let rejected = store.apply(vec![active(1, 1), write(long)]).await;
    assert!(matches!(rejected, Err(StoreError::Rejected(_))), "{rejected:?}");
    assert_eq!(store.get(active(1, 1).record.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_long_history_is_written_in_transactions_of_its_own_before_its_record() {
    if !is_here() {
        return;
    }
    let (store, _keep) = fresh().await;
    let step = |version| record(1, version, Authority::Observed, Status::Active).transition(UtcMicros(1), "a".into());
    let transitions: Vec<Transition> = (1..).take(2 * TRANSITIONS + 1).map(step).collect();
    let Write { record, .. } = active(1, 9_000);
    let long = Write { record: Record { username: "u".repeat(256), ..record.clone() }, transitions };
    // Its record is not accepted, so the last transaction leaves nothing.
    assert!(matches!(store.apply(vec![long.clone()]).await, Err(StoreError::Rejected(_))));
    assert_eq!(store.get(record.id).await.unwrap(), None);
    assert_eq!(store.history(record.id).await.unwrap(), long.transitions[..=TRANSITIONS]);
    let mended = Write { record, ..long };
    store.apply(vec![mended.clone()]).await.unwrap();
    assert_eq!(store.history(mended.record.id).await.unwrap(), mended.transitions);
    assert_eq!(store.get(mended.record.id).await.unwrap(), Some(mended.record));
}

#[tokio::test]
async fn listings_that_take_every_connection_hold_up_no_right() {
    if !is_here() {
        return;
    }
    let (store, _keep) = fresh().await;
    store.add_sign_in(sign_in(1, "ada")).await.unwrap();
    let listings = (0..READERS).map(|_| store.readers.run(|| vec![sqlx::query("SELECT SLEEP(10)")]));
    let rights = async {
        PeopleStore::read(&store).await.unwrap();
        assert_eq!(store.sign_ins(vec![[1; 32]]).await.unwrap(), [sign_in(1, "ada")]);
        assert_eq!(store.ended_since(0).await.unwrap().len(), 0);
        assert_eq!(store.lease(NodeId("a".into())).await.unwrap(), None);
    };
    tokio::select! {
        biased;
        _ = futures_util::future::join_all(listings) => panic!("the rights waited for the listings"),
        () = rights => {}
    }
}

#[tokio::test]
async fn starts_at_the_same_time_get_different_epochs() {
    if !is_here() {
        return;
    }
    let (store, _keep) = fresh().await;
    let begin = |n: u8| store.begin_epoch(NodeId("a".into()), Incarnation::new([n; 16]), Epoch(0), UtcMicros(1));
    let begun = futures_util::future::try_join_all((0..12).map(begin)).await.unwrap();
    let mut epochs: Vec<_> = begun.into_iter().map(|epoch| epoch.0).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_loser_of_a_deadlock_wins_the_next_time() {
    if !is_here() {
        return;
    }
    // Its own server, so that no other test's waiting is taken for this store's.
    let server = own_server().await;
    let store = fixture::store(&server, "records");
    let all: Vec<_> = (0..50).map(|n| active(n, 1)).collect();
    store.apply(all.clone()).await.unwrap();
    // The other one holds all rows but the first, so it has more to undo and the server prefers it.
    let (mut other, mut watch) =
        (fixture::connection(&server, "records").await, fixture::connection(&server, "records").await);
    let first = all[0].record.id.to_string();
    let update = |rows: &'static str| sqlx::query(rows).bind(first.clone());
    sqlx::raw_sql("START TRANSACTION").execute(&mut other).await.unwrap();
    let but_first = update("UPDATE session_records SET bytes_in = 7 WHERE session_id > ?");
    but_first.execute(&mut other).await.unwrap();
    let in_a_circle = async {
        let waits = "SELECT variable_name FROM information_schema.global_status \
            WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value > 0";
        while sqlx::query(waits).fetch_all(&mut watch).await.unwrap().is_empty() {}
        let first = update("UPDATE session_records SET bytes_in = 7 WHERE session_id = ?");
        first.execute(&mut other).await.unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        Ok(())
    };
    let newer: Vec<_> = (0..50).map(|n| active(n, 2)).collect();
    tokio::try_join!(store.apply(newer.clone()), in_a_circle).unwrap();
    for Write { record, .. } in newer {
        assert_eq!(store.get(record.id).await.unwrap(), Some(record));
    }
    assert_eq!(server.sql("SHOW STATUS LIKE 'Innodb_deadlocks'").unwrap(), "Innodb_deadlocks\t1");
}

#[tokio::test]
async fn connections_that_were_cut_are_replaced_unnoticed() {
    if !is_here() {
        return;
    }
    let (store, database) = fresh().await;
    store.apply(vec![active(1, 1)]).await.unwrap();
    store.get(active(1, 1).record.id).await.unwrap();
    let own = format!("SELECT id FROM information_schema.processlist WHERE db = '{}'", database.name());
    let ids = fixture::server().sql(&own).unwrap();
    assert_eq!(ids.lines().count(), 2, "one that wrote and one that read: {ids}");
    for id in ids.lines() {
        fixture::server().sql(&format!("KILL {id}")).unwrap();
    }
    store.apply(vec![active(1, 2)]).await.unwrap();
    assert_eq!(store.get(active(1, 2).record.id).await.unwrap(), Some(active(1, 2).record));
}

#[tokio::test]
async fn a_store_outlives_its_server() {
    if !is_here() {
        return;
    }
    let mut server = own_server().await;
    let store = fixture::store(&server, "records");
    store.apply(vec![active(1, 1)]).await.unwrap();
    server.kill();
    let begun = Instant::now();
    let late = fixture::store(&server, "records");
    for store in [&store, &late] {
        for error in [
            store.apply(vec![active(2, 1)]).await.unwrap_err(),
            store.open_of(NodeId("a".into()), Epoch(1), None, 1).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
            assert!(!error.to_string().contains("127.0.0.1"), "{error}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "whoever refuses is not asked for long");
    server.start_again().unwrap();
    for store in [store, late] {
        store.apply(vec![active(2, 1)]).await.unwrap();
        assert_eq!(store.get(active(1, 1).record.id).await.unwrap(), Some(active(1, 1).record));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_in_time_and_comes_back() {
    if !is_here() {
        return;
    }
    let server = own_server().await;
    let patience = Duration::from_millis(300);
    let options = options(&server.url("records").parse().unwrap());
    let store = MySqlStore::with_patience(options, patience, patience);
    // Such a short patience may end on a busy machine without any freeze.
    let writes = async |version| while store.apply(vec![active(1, version)]).await.is_err() {};
    writes(1).await;
    server.freeze().unwrap();
    let begun = Instant::now();
    let (written, found) = tokio::join!(store.apply(vec![active(1, 2)]), store.get(active(1, 1).record.id));
    assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    assert!(begun.elapsed() < WRITES_WITHIN);
    server.thaw().unwrap();
    tokio::time::timeout(WRITES_WITHIN, writes(3)).await.unwrap();
    let found = loop {
        if let Ok(found) = store.get(active(1, 3).record.id).await {
            break found;
        }
    };
    assert_eq!(found, Some(active(1, 3).record));
}

#[tokio::test]
async fn the_schema_goes_up_and_down_step_by_step() {
    if !is_here() {
        return;
    }
    let (store, database) = fresh().await;
    let taken = async |store: &MySqlStore| store.schema().await.unwrap().iter().filter(|(_, taken)| *taken).count();
    assert_eq!(taken(&store).await, STEPS.len());
    for step in STEPS.iter().rev() {
        assert_eq!(store.migrate_down(false).await.unwrap().unwrap().version, step.version);
        assert_eq!(taken(&store).await, step.version as usize - 1);
    }
    assert!(store.migrate_down(true).await.unwrap().is_none());
    let missing = store.apply(vec![active(1, 1)]).await.unwrap_err().to_string();
    assert_eq!(missing, "the store refused: the schema is not of this release: run `pulsegate migrate`");
    let mut told = vec![];
    store.migrate(false, |step| told.push(step.name)).await.unwrap();
    assert_eq!(told, STEPS.map(|step| step.name));
    store.migrate(true, |step| panic!("{} was taken twice", step.name)).await.unwrap();
    store.apply(vec![active(1, 1)]).await.unwrap();

    let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES";
    let newer = |values: &str| fixture::server().sql(&format!("USE {}; {insert} {values}", database.name()));
    newer("(99, 'tomorrow', true, '', 1)").unwrap();
    let refused = store.migrate(true, |_| {}).await.unwrap_err().to_string();
    assert!(refused.contains("newer release"), "{refused}");
    let undo = format!("DELETE FROM {}._sqlx_migrations WHERE version = 99", database.name());
    fixture::server().sql(&undo).unwrap();
}

#[tokio::test]
async fn of_gateways_that_start_together_one_after_the_other_takes_the_steps() {
    if !is_here() {
        return;
    }
    fixture::server().sql("CREATE DATABASE together").unwrap();
    let told = Mutex::new(vec![]);
    let starts = (0..4).map(|_| async {
        let store = fixture::store(fixture::server(), "together");
        store.migrate(true, |step| told.lock().unwrap().push(step.version)).await
    });
    let taken = futures_util::future::join_all(starts).await;
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    assert_eq!(*told.lock().unwrap(), STEPS.map(|step| step.version));
    fixture::server().sql("DROP DATABASE together").unwrap();
}

#[tokio::test]
async fn only_without_the_lock_is_a_step_taken_while_another_process_has_it() {
    if !is_here() {
        return;
    }
    let (store, database) = fresh().await;
    let step = store.migrate_down(true).await.unwrap().unwrap();
    let (mut other, mut watch) = (database.connection().await, database.connection().await);
    let got: Option<i64> = sqlx::query_scalar(steps::LOCK).fetch_one(&mut other).await.unwrap();
    assert_eq!(got, Some(1));
    let mut told = vec![];
    let beside = async {
        let waits = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User lock'";
        while sqlx::query(waits).fetch_all(&mut watch).await.unwrap().is_empty() {}
        let taking = database.store();
        let taking = taking.migrate(false, |step| told.push(step.version));
        tokio::time::timeout(Duration::from_secs(60), taking).await.unwrap().unwrap();
        sqlx::raw_sql("DO RELEASE_ALL_LOCKS()").execute(&mut other).await.unwrap();
        Ok(())
    };
    let waiting = store.migrate(true, |step| panic!("{} was taken with the lock", step.name));
    tokio::try_join!(waiting, beside).unwrap();
    assert_eq!(told, [step.version]);
}

#[tokio::test]
async fn whoever_found_the_server_down_brings_the_schema_once_it_is_up() {
    if !is_here() {
        return;
    }
    fixture::server().sql("CREATE DATABASE late").unwrap();
    let store = fixture::store(fixture::server(), "late");
    waiting::catches_up(&store).await;
    assert!(store.schema().await.unwrap().iter().all(|(_, taken)| *taken));
    fixture::server().sql("DROP DATABASE late").unwrap();
}

#[tokio::test]
async fn errors_never_carry_sql_or_hosts() {
    if !is_here() {
        return;
    }
    let (store, _keep) = fresh().await;
    for sql in ["SELECT nothing FROM nowhere", "INSERT INTO nodes VALUES ()", "SELEC"] {
        let error = store.readers.run(|| vec![sqlx::query(sql)]).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(_)), "{error}");
        let said = error.to_string();
        assert!(["SELEC", "nothing", "nodes", "nowhere"].iter().all(|word| !said.contains(word)), "{said}");
    }
    let nowhere = fixture::store(fixture::server(), "no_such").schema().await.unwrap_err().to_string();
    assert_eq!(nowhere, "the store refused: there is no database of this name");
}

/// The driver parses URLs too, and users write the forms that it accepts.
#[test]
fn an_address_leads_where_its_url_leads() {
    let told = |options: MySqlConnectOptions| {
        let password = options.to_url_lossy().password().map(str::to_owned);
        let (host, socket) = (options.get_host().to_owned(), options.get_socket().cloned());
        let (user, database) = (options.get_username().to_owned(), options.get_database().map(str::to_owned));
        (host, options.get_port(), socket, user, password, database)
    };
    for url in [
        "mysql://db.example/records",
        "mysql://ann@db.example:3307/records?ssl-mode=PREFERRED",
        "mysql://ann:s3cret@127.0.0.1/records?charset=latin1&timezone=%2B08:00",
        "mysql://ann:@127.0.0.1/records",
        "mysql://ann:p%40s%3As%2F%25@db.example/records",
        "mysql://ann:p@s:s%w%@db.example/records",
        "mysql://:s3cret@db.example/rec%6Frds",
        "mysql:///records?socket=/run/mysqld/mysqld.sock",
        "mysql://ann@localhost/records?socket=%2Frun%2Fmy%20sql.sock&sslmode=disabled",
    ] {
        assert_eq!(told(options(&url.parse().unwrap())), told(url.parse().unwrap()), "{url}");
    }
}
