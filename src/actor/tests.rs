//! Tests of the actors' promises, with a real SQLite store and a scripted target: nothing acknowledged is lost, failed
//! actors are restarted in place, and users do not notice.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use house::{BROWSER, House, eventually, read, request};

use super::{
    clock,
    gateway::{Ended, GatewayError, OpenSession},
    registry::RegistryMessage,
    session::{Attach, AttachError, Attached, Intent, SessionMessage},
    supervisor::SupervisorMessage,
    wire::{InputKind, InputMessage, ToSocket},
};
use crate::{
    core::{
        record::{EndReason, ExitStatus, Record, Status},
        session::Loss,
        stream::UNATTENDED,
    },
    ssh::LinkEvent,
    store::{ListQuery, LiveStore, RecordStore},
};

#[cfg(test)]
mod backlog;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod fences;
#[cfg(test)]
mod gated;
#[cfg(test)]
mod hanging;
#[cfg(test)]
pub mod house;
#[cfg(test)]
mod leaving;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod overlay;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod typing;
#[cfg(test)]
mod unreadable;
#[cfg(test)]
mod watchers;

async fn type_in(attached: &Attached, text: &'static str) {
    attached.ends.side.typed(text.as_bytes());
    let kind = InputKind::Bytes(Bytes::from_static(text.as_bytes()));
    let (attach, turn) = (attached.ends.attach, attached.ends.hold.turn);
    let message = InputMessage { attach, turn, at: clock::instant(), kind };
    attached.ends.input.send(message).await.unwrap();
}

#[actix_rt::test]
async fn an_open_is_acknowledged_only_once_it_is_durable() {
    let house = House::new().await;
    let closed_gate = house.records.gate.acquire().await.unwrap();
    let gateway = house.gateway.clone();
    let opening = actix::spawn(async move { gateway.open(request()).await });
    eventually(async || house.gateway.observations().meters.registry.handled_total() >= 2).await;
    assert!(!opening.is_finished(), "acknowledged before it was durable");
    drop(closed_gate);
    let id = opening.await.unwrap().unwrap().id;
    assert!(house.records.store.get(id).await.unwrap().is_some());
}

#[actix_rt::test]
async fn a_journal_that_hangs_is_called_slow_before_it_answers() {
    let house = House::new().await;
    let hanging = house.records.renewals.acquire().await.unwrap();
    eventually(async || house.gateway.readiness().await.reasons == ["journal slow"]).await;
    drop(hanging);
    eventually(async || house.gateway.readiness().await.reasons.is_empty()).await;
}

#[actix_rt::test]
async fn one_session_too_many_is_refused_and_none_is_ended_for_it() {
    let house = House::new().await;
    let open = |count, username: &'static str| {
        let gateway = house.gateway.clone();
        let one = move |_| {
            let (gateway, request) = (gateway.clone(), OpenSession { username: username.to_owned(), ..request() });
            async move { gateway.open(request).await }
        };
        join_all((0..count).map(one))
    };
    assert!(open(1_200, "ada").await.iter().all(Result::is_ok));
    let refused = open(1, "ada").await;
    assert!(matches!(refused[..], [Err(GatewayError::TooManyOfUser { max: 1_200 })]), "{refused:?}");
    assert!(open(800, "bob").await.iter().all(Result::is_ok));
    let refused = open(1, "eve").await;
    assert!(matches!(refused[..], [Err(GatewayError::TooMany { max: 2_000 })]), "{refused:?}");
    let open = house.gateway.census().await.unwrap().iter().map(|(_, count)| count).sum::<u64>();
    assert_eq!(open, 2_000);
}

#[actix_rt::test]
async fn a_trial_is_admitted_as_a_session_is_and_leaves_none() {
    let house = House::new().await;
    let found = house.gateway.try_out(request()).await.unwrap();
    assert!(found.iter().all(|found| found.failure.is_none()), "{found:?}");
    let dialled = house.targets.0.lock().unwrap().last().unwrap().clone();
    assert!(dialled.closed.load(Ordering::Relaxed), "it hangs up");
    assert_eq!(house.gateway.open_here().await.unwrap(), 0);

    let open = |_| house.gateway.open(request());
    assert!(join_all((0..1_200).map(open)).await.iter().all(Result::is_ok));
    let refused = house.gateway.try_out(request()).await;
    assert!(matches!(refused, Err(GatewayError::TooManyOfUser { max: 1_200 })), "{refused:?}");
    house.gateway.drain();
    let other = OpenSession { username: "bob".to_owned(), ..request() };
    let refused = house.gateway.try_out(other).await;
    assert!(matches!(refused, Err(GatewayError::Draining)), "{refused:?}");
}

#[actix_rt::test]
async fn a_target_is_dialled_in_the_size_of_its_first_browser() {
    let house = House::new().await;
    let (_id, _attached, target) = house.active().await;
    assert_eq!(target.size, BROWSER);
}

#[actix_rt::test]
async fn a_close_is_durable_before_the_browser_is_told() {
    let house = House::new().await;
    let (id, mut attached, target) = house.active().await;
    let closed_gate = house.records.gate.acquire().await.unwrap();
    target.says.send(LinkEvent::Output(Bytes::from_static(b"bye"))).unwrap();
    target.says.send(LinkEvent::Exited(ExitStatus::Code(3))).unwrap();
    target.says.send(LinkEvent::Closed).unwrap();
    read(&mut attached, b"bye").await;
    eventually(async || target.closed.load(Ordering::Relaxed)).await;
    let again = SessionMessage::End { reason: EndReason::Terminated, detail: "once more".into() };
    attached.session.tell(again).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), attached.ends.frames.recv()).await;
    assert!(early.is_err(), "told before it was durable: {early:?}");
    drop(closed_gate);
    let last = read(&mut attached, b"").await;
    assert!(matches!(last, Some(ToSocket::Closed { reason: EndReason::Exited, exit_status: Some(3), .. })), "{last:?}");
    let stored = house.records.store.get(id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.exit_status), (Status::Closed, Some(3)));
    eventually(async || house.live.open().await.unwrap().is_empty()).await;
}

#[actix_rt::test]
async fn a_browser_that_left_leaves_nothing_behind() {
    let house = House::new().await;
    let (_id, mut attached, _target) = house.active().await;
    attached.session.tell(SessionMessage::SocketLost(attached.ends.attach, Loss::Broken)).unwrap();
    // Its forwarder holds the other end, the socket's descriptor and the whole wire.
    house::hurried(async { while attached.ends.frames.recv().await.is_some() {} }).await;
}

#[actix_rt::test]
async fn who_signs_out_where_the_shell_was_open_does_not_end_it_where_it_is() {
    let house = House::new().await;
    let (id, before, _target) = house.active().await;
    let revoked = |attach| SessionMessage::Revoked { attach, why: "ada signed out".into() };
    let mut now = house.attach(id).await;
    now.session.deliver(revoked(before.ends.attach)).await.unwrap();
    assert_eq!(house.find(id).await.status, Status::Active);
    // Its socket may be closed or stuck: this is the page at which the shell was open last.
    now.session.deliver(SessionMessage::SocketLost(now.ends.attach, Loss::Stuck)).await.unwrap();
    now.session.deliver(revoked(now.ends.attach)).await.unwrap();
    house::hurried(async { while now.ends.frames.recv().await.is_some() {} }).await;
    eventually(async || house.find(id).await.end_reason == Some(EndReason::Revoked)).await;
}

#[actix_rt::test]
async fn a_page_that_comes_back_by_itself_throws_no_other_page_out() {
    let house = House::new().await;
    let (id, _attached, _target) = house.active().await;
    let comes_back = async |client: &str| {
        let request = Attach { intent: Intent::Reconnect, client_id: client.to_owned(), ..House::page() };
        house.gateway.attach(id, request).await
    };
    assert_eq!(comes_back("other").await.unwrap_err(), AttachError::Elsewhere);
    let here = comes_back("page").await.expect("its own place, before its old socket is known to be gone");
    assert_eq!(comes_back("other").await.unwrap_err(), AttachError::Elsewhere);
    here.session.tell(SessionMessage::SocketLost(here.ends.attach, Loss::Broken)).unwrap();
    eventually(async || house.find(id).await.status == Status::Detached).await;
    comes_back("other").await.expect("nobody is thrown out");
}

#[actix_rt::test]
async fn a_write_that_failed_is_repeated_until_it_is_durable() {
    let house = House::new().await;
    let (id, mut attached, _target) = house.active().await;
    house.records.failures.store(3, Ordering::Relaxed);
    assert_eq!(house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap(), Ended::Here);
    let last = read(&mut attached, b"").await;
    assert!(matches!(last, Some(ToSocket::Closed { reason: EndReason::Terminated, .. })), "{last:?}");
    assert!(house.records.store.get(id).await.unwrap().unwrap().is_closed());
}

#[actix_rt::test]
async fn an_open_whose_record_failed_is_refused_and_leaves_no_ghost() {
    let house = House::new().await;
    house.records.failures.store(1, Ordering::Relaxed);
    assert!(house.gateway.open(request()).await.is_err());
    eventually(async || {
        let page = house.records.store.list(ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
        page.records.len() == 1 && page.records.iter().all(Record::is_closed)
    })
    .await;
    // The record is there before the registry hears so, and until then it admits nobody.
    eventually(async || house.gateway.readiness().await.reasons.is_empty()).await;
    house.open().await;
}

#[actix_rt::test]
async fn while_the_journal_fails_an_open_is_refused_before_it_leaves_a_trace() {
    let house = House::new().await;
    house.records.failures.store(1_000, Ordering::Relaxed);
    assert!(house.gateway.open(request()).await.is_err());
    eventually(async || !house.gateway.readiness().await.reasons.is_empty()).await;
    for _ in 0..5 {
        assert!(matches!(house.gateway.open(request()).await, Err(GatewayError::Store)));
    }
    house.records.failures.store(0, Ordering::Relaxed);
    eventually(async || house.gateway.readiness().await.reasons.is_empty()).await;
    house.open().await;
    let page = house.records.store.list(ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
    assert_eq!(page.records.len(), 2, "the first, which may have been written, and the last: {:?}", page.records);
}

#[actix_rt::test]
async fn a_slow_commit_hinders_no_longer_than_the_next_quick_one_though_nobody_is_served() {
    let house = House::new().await;
    let (id, _attached, target) = house.active().await;
    let closed_gate = house.records.gate.acquire().await.unwrap();
    let closed_at = Instant::now();
    target.says.send(LinkEvent::Closed).unwrap();
    eventually(async || closed_at.elapsed() > Duration::from_millis(1_500)).await;
    drop(closed_gate);
    eventually(async || house.records.store.get(id).await.unwrap().unwrap().is_closed()).await;
    eventually(async || house.gateway.open(request()).await.is_ok()).await;
}

#[actix_rt::test]
async fn a_failed_session_goes_on_with_its_shell_and_its_browser() {
    let house = House::new().await;
    let (id, mut attached, target) = house.active().await;
    target.says.send(LinkEvent::Output(Bytes::from_static(b"before"))).unwrap();
    read(&mut attached, b"before").await;
    attached.session.tell(SessionMessage::Panic).unwrap();
    eventually(async || house.restarts("session").await == 1).await;
    target.says.send(LinkEvent::Output(Bytes::from_static(b"after"))).unwrap();
    read(&mut attached, b"after").await;
    type_in(&attached, "still here").await;
    eventually(async || target.heard.lock().unwrap().ends_with(b"still here")).await;
    assert_eq!(house.find(id).await.status, Status::Active, "nobody noticed");
    let statuses: Vec<_> = house.records.store.history(id).await.unwrap().into_iter().map(|at| at.status).collect();
    assert_eq!(statuses, [Status::Connecting, Status::Active]);
}

#[actix_rt::test]
async fn a_flood_that_nobody_watches_is_held_to_its_pace_and_no_longer() {
    let house = House::new().await;
    let (id, attached, target) = house.active().await;
    let share = || {
        let piece = Bytes::from(vec![b'y'; 1024]);
        (0..UNATTENDED / 1024).for_each(|_| target.says.send(LinkEvent::Output(piece.clone())).unwrap());
    };
    let held = || target.held.load(Ordering::Relaxed);
    attached.session.tell(SessionMessage::SocketLost(attached.ends.attach, Loss::Broken)).unwrap();
    eventually(async || house.find(id).await.status == Status::Detached).await;
    share();
    eventually(async || held()).await;
    eventually(async || !held()).await;
    share();
    eventually(async || held()).await;
    let _attached = house.attach(id).await;
    let back = Instant::now();
    eventually(async || !held()).await;
    assert!(back.elapsed() < Duration::from_millis(500), "who comes back does not wait for a second to end");
}

#[actix_rt::test]
async fn a_failed_registry_comes_back_with_nothing_missing() {
    let house = House::new().await;
    let (id, mut attached, _target) = house.active().await;
    let waiting = house.open().await;
    // The failure comes between a close and its commit.
    let closed_gate = house.records.gate.acquire().await.unwrap();
    house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    assert!(house.gateway.deps.registry.tell(RegistryMessage::Panic).is_ok());
    drop(closed_gate);
    let last = read(&mut attached, b"").await;
    assert!(matches!(last, Some(ToSocket::Closed { .. })), "{last:?}");
    assert!(house.records.store.get(id).await.unwrap().unwrap().is_closed());
    eventually(async || house.restarts("registry").await == 1).await;
    assert_eq!(house.find(waiting).await.id, waiting);
    house.attach(waiting).await;
    assert!(!house.fatal_exit.load(Ordering::Relaxed));
}

#[actix_rt::test]
async fn a_registry_that_fails_again_and_again_ends_the_process() {
    let house = House::new().await;
    for _ in 0..6 {
        house.gateway.deps.registry.tell(RegistryMessage::Panic).ok();
    }
    eventually(async || house.fatal_exit.load(Ordering::Relaxed)).await;
}

#[actix_rt::test]
async fn a_failed_supervisor_comes_back_with_its_table() {
    let house = House::new().await;
    let (_, _attached, _) = house.active().await;
    assert!(house.gateway.deps.supervisor.tell(SupervisorMessage::Panic).is_ok());
    eventually(async || house.restarts("supervisor").await == 1).await;
    let report = house.gateway.actors().await.unwrap();
    assert_eq!(report.kinds.iter().find(|kind| kind.actor == "session").unwrap().alive, 1);
}

#[actix_rt::test]
async fn three_hundred_of_a_thousand_sessions_fail_at_once_and_all_go_on() {
    let house = House::new().await;
    let mut sessions = Vec::new();
    for _ in 0..1_000 {
        let id = house.open().await;
        sessions.push((id, house.gateway.place(id, None).await.unwrap().unwrap()));
    }
    for (_, session) in sessions.iter().take(300) {
        session.tell(SessionMessage::Panic).unwrap();
    }
    eventually(async || house.restarts("session").await == 300).await;
    let census = house.gateway.census().await.unwrap();
    assert_eq!(census.iter().map(|(_, count)| count).sum::<u64>(), 1_000);
    house.gateway.shut_down().await.unwrap();
    assert!(house.live.open().await.unwrap().is_empty());
    let open = ListQuery { statuses: vec![Status::Active, Status::Connecting], limit: 500, ..ListQuery::default() };
    assert!(house.records.store.list(open).await.unwrap().records.is_empty());
}

#[actix_rt::test]
async fn a_shutdown_refuses_opens_and_closes_what_nobody_runs_yet() {
    let house = House::new().await;
    let id = house.open().await;
    house.gateway.shut_down().await.unwrap();
    assert_eq!(house.find(id).await.end_reason, Some(EndReason::Shutdown));
    assert!(house.gateway.open(request()).await.is_err());
    assert_eq!(house.gateway.readiness().await.reasons, ["draining"]);
}

#[actix_rt::test]
async fn an_event_of_another_process_is_no_place_in_this_one() {
    let house = House::new().await;
    let first = house.gateway.subscribe(None).await.unwrap().at;
    house.open().await;
    let now = house.gateway.subscribe(None).await.unwrap().at;
    assert!(now > first);
    let from = async |after| {
        let told = house.gateway.subscribe(Some(after)).await.unwrap();
        (told.at, told.gap, told.backlog.len() as u64)
    };
    assert_eq!(from(first).await, (first, false, now - first));
    assert_eq!(from(now).await, (now, false, 0));
    for elsewhere in [0, first - 1, now + 1, u64::MAX] {
        assert_eq!(from(elsewhere).await, (now, true, 0), "{elsewhere}");
    }
}
