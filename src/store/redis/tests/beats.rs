//! Beats in a real Redis: their cost, and that sessions whose beats were lost are listed again. Knows the keys.

use super::*;

#[test]
fn a_thousand_beats_are_one_command() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        let beats = |count: u8| (0..count).map(|n| (record(n, 1, 1, Status::Active).id, UtcMicros(i64::MAX / 4096)));
        view.apply((0..250).map(|n| record(n, 1, 1, Status::Active)).collect()).await.unwrap();
        for count in [1, 250_u8] {
            server.ask(&["CONFIG RESETSTAT"]);
            view.beat(beats(count).cycle().take(usize::from(count) * 4).collect()).await.unwrap();
            let stats = server.ask(&["INFO commandstats"]);
            let commands = stats.lines().filter(|line| line.starts_with("cmdstat_") && !line.contains("|resetstat"));
            let commands: Vec<_> = commands.filter_map(|line| line.split(",usec").next()).collect();
            assert_eq!(commands, ["cmdstat_zadd:calls=1"], "{stats}");
        }
    });
}

#[test]
fn of_an_end_that_is_remembered_the_later_sign_of_life_stays() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        let end = conformance::record(1, 2, Authority::Inferred, Status::Closed);
        let after = |by: i64| end.end_time.map(|at| UtcMicros(at.0 + by));
        let concluded = |(seen, noticed)| Record {
            last_seen_at: after(seen),
            end_time: after(seen),
            detected_at: after(noticed),
            ..end.clone()
        };
        for (told, stays) in [((1, 5), (1, 5)), ((0, 1), (1, 5)), ((1, 9), (1, 5)), ((1, 4), (1, 4)), ((2, 9), (2, 9))]
        {
            view.apply(vec![concluded(told)]).await.unwrap();
            let remembered = view.find_many_of(end.node.clone(), vec![end.id]).await.unwrap();
            assert_eq!(remembered, [concluded(stays)], "after {told:?}");
        }
    });
}

#[test]
fn beats_that_are_lost_alone_come_back_with_what_is_told_again() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (old, new) = (view(&server.url(), 1), view(&server.url(), 2));
        let (open, closed) = (record(1, 1, 1, Status::Active), record(2, 1, 2, Status::Closed));
        let told = vec![open.clone(), record(2, 1, 1, Status::Active), closed];
        let loses_beats = || server.ask(&[&format!("DEL {}", key_of_beats(&open))]);
        old.apply(told.clone()).await.unwrap();
        loses_beats();
        assert_eq!(listed(&old).await, []);
        old.apply(told.clone()).await.unwrap();
        assert_eq!(listed(&old).await, std::slice::from_ref(&open), "what is closed stays closed");
        let seen = UtcMicros(open.start_time.0 + 60_000_000);
        old.beat(vec![(open.id, seen)]).await.unwrap();
        old.apply(told.clone()).await.unwrap();
        let beaten = Record { last_seen_at: Some(seen), ..open.clone() };
        assert_eq!(listed(&old).await, [beaten], "a beat that is there stays");
        // A session that a fence ended is not listed again.
        let next = record(3, 2, 1, Status::Active);
        new.apply(vec![next.clone()]).await.unwrap();
        loses_beats();
        for hand in [&old, &new] {
            hand.apply(told.clone()).await.unwrap();
            hand.apply(vec![next.clone()]).await.unwrap();
            assert_eq!(listed(&new).await, std::slice::from_ref(&next));
        }
    });
}
