//! Tests of one reader's stream of events, whose session events are made by hand.

use actix_web::ResponseError;
use futures_util::StreamExt;

use super::*;
use crate::web::fixture::{caller, record, settings, state_with};

fn event(sequence: u64) -> SessionEvent {
    SessionEvent { sequence, session: record(), detail: "a\nb".to_owned() }
}

fn feed(at: u64, backlog: Vec<SessionEvent>, gap: bool) -> (broadcast::Sender<SessionEvent>, Feed) {
    let (sender, live) = broadcast::channel(2);
    let state = state_with(settings());
    let caller = caller(&state, "admin").0;
    let seat = state.event_streams.seat(&caller.user).unwrap();
    (sender, Feed::new(state, caller, seat, Subscription { at, backlog, gap, live }))
}

async fn told(feed: Feed) -> Vec<String> {
    let mut heads = Vec::new();
    let mut frames = Box::pin(feed.into_stream());
    while let Some(Ok(frame)) = frames.next().await {
        let text = String::from_utf8(frame.to_vec()).unwrap();
        assert!(text.ends_with("\n\n") && !text.trim_end().contains("\n\n"), "one frame: {text:?}");
        let head = text.lines().take(2).collect::<Vec<_>>().join(" ");
        heads.push(head.trim().to_owned());
    }
    heads
}

#[actix_rt::test]
async fn others_sessions_are_told_to_nobody_who_may_not_observe() {
    for (who, told_of) in [("viewer", "event: session id: 1"), ("user", "id: 1")] {
        let (sender, mut feed) = feed(0, vec![], false);
        feed.caller = caller(&feed.state, who).0;
        sender.send(event(1)).unwrap();
        drop(sender);
        assert_eq!(told(feed).await, [": open", "id: 0", told_of], "{who}");
    }
}

#[test]
fn one_user_does_not_take_the_event_streams_of_all() {
    let streams = Arc::<Streams>::default();
    let seat = |user: &str| streams.seat(&user.into()).map_err(|problem| problem.status_code().as_u16());
    let mut ada: Vec<Seat> = (0..OF_ONE).map(|_| seat("ada").unwrap()).collect();
    assert_eq!(seat("ada").unwrap_err(), 429);
    assert!(seat("bob").is_ok(), "others have theirs");
    ada.pop();
    ada.push(seat("ada").unwrap());
    let others: Vec<Seat> = (OF_ONE..OF_ALL).map(|number| seat(&format!("u{number}")).unwrap()).collect();
    assert_eq!((seat("ada").unwrap_err(), seat("bob").unwrap_err()), (429, 503));
    drop((ada, others));
    assert!(streams.open().is_empty(), "nothing is kept of who reads no more");
}

#[actix_rt::test]
async fn the_backlog_comes_before_what_is_new() {
    let (sender, feed) = feed(6, vec![event(7)], false);
    sender.send(event(8)).unwrap();
    drop(sender);
    assert_eq!(told(feed).await, [": open", "id: 6", "event: session id: 7", "event: session id: 8"]);
}

#[actix_rt::test]
async fn a_gap_is_said_and_a_snapshot_told_before_the_backlog() {
    let (sender, feed) = feed(6, vec![event(7)], true);
    drop(sender);
    let told = told(feed).await;
    assert_eq!(told, [": open", "event: gap data: {}", "event: snapshot id: 6", "event: session id: 7"]);
}

#[actix_rt::test]
async fn lagging_behind_is_a_gap() {
    let (sender, feed) = feed(0, vec![], false);
    for sequence in 1..=5 {
        sender.send(event(sequence)).unwrap();
    }
    drop(sender);
    let told = told(feed).await;
    let behind = ["event: snapshot id: 3", "event: session id: 4", "event: session id: 5"];
    assert_eq!(told, [[": open", "id: 0", "event: gap data: {}"], behind].concat());
}

#[actix_rt::test]
async fn what_is_missing_for_all_among_what_one_missed_is_one_gap() {
    let (sender, feed) = feed(0, vec![], false);
    for sequence in [1, 50, 51, 52] {
        sender.send(event(sequence)).unwrap();
    }
    drop(sender);
    let behind = ["event: snapshot id: 50", "event: session id: 51", "event: session id: 52"];
    assert_eq!(told(feed).await, [[": open", "id: 0", "event: gap data: {}"], behind].concat());
}

#[actix_rt::test]
async fn what_is_missing_for_all_is_a_gap_in_its_place() {
    let (sender, feed) = feed(6, vec![event(7), event(10)], false);
    sender.send(event(11)).unwrap();
    sender.send(event(20)).unwrap();
    drop(sender);
    let backlog = [": open", "id: 6", "event: session id: 7", "event: gap data: {}", "event: snapshot id: 9"];
    let live = ["event: session id: 10", "event: session id: 11", "event: gap data: {}", "event: snapshot id: 19"];
    assert_eq!(told(feed).await, [&backlog[..], &live, &["event: session id: 20"]].concat());
}

#[actix_rt::test]
async fn silence_is_broken() {
    let (_sender, mut feed) = feed(0, vec![], false);
    assert_eq!(feed.keep_alive, Duration::from_secs(15));
    feed.keep_alive = Duration::from_millis(1);
    let mut frames = Box::pin(feed.into_stream());
    frames.next().await;
    frames.next().await;
    assert_eq!(frames.next().await.unwrap().unwrap(), ": still here\n\n");
}

#[actix_rt::test]
async fn the_end_of_the_gateway_is_told_behind_everything_else() {
    let (sender, feed) = feed(0, vec![], false);
    let gateway = feed.state.gateway.clone();
    sender.send(event(1)).unwrap();
    sender.send(event(2)).unwrap();
    gateway.hang_up();
    let told = told(feed).await;
    assert_eq!(
        told,
        [": open", "id: 0", "event: session id: 1", "event: session id: 2", "event: end data: {\"code\":\"restart\"}"]
    );
    gateway.deserted().await;
}

#[actix_rt::test]
async fn a_stream_ends_with_the_sign_in_of_its_reader() {
    let (sender, mut feed) = feed(0, vec![], false);
    let (caller, cookie) = caller(&feed.state, "viewer");
    feed.caller = caller;
    sender.send(event(1)).unwrap();
    feed.state.sign_ins().sign_out(feed.state.times(), &cookie).await.unwrap();
    assert_eq!(told(feed).await, [": open", "id: 0"]);
}
