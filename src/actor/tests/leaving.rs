//! Tests of callers that leave before the answer, as when a page is closed or a connection breaks: the work that was
//! begun is completed.

use std::pin::pin;

use actix::{Actor, Context, Handler};
use futures_util::poll;
use tokio::sync::oneshot;

use super::house::{House, eventually, request};
use crate::{
    actor::{
        clock::Beat,
        mailbox::{Envelope, Mailbox, Meter},
        registry::{Claim, RegistryMessage},
        session::{self, SessionActor},
    },
    core::record::{EndReason, SessionId, Status},
    store::ListQuery,
};

/// Maximum polls of a future before it is dropped.
const POLLS: usize = 12;

/// Passes all messages on to the registry except the first claim, as if the registry failed while handling it.
struct FailsOnce {
    registry: Mailbox<RegistryMessage>,
    failed: bool,
}

impl Actor for FailsOnce {
    type Context = Context<Self>;
}

impl Handler<Envelope<RegistryMessage>> for FailsOnce {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<RegistryMessage>, _: &mut Context<Self>) {
        let (message, _handling) = envelope.open();
        if matches!(message, RegistryMessage::Claim { .. }) && !std::mem::replace(&mut self.failed, true) {
            return;
        }
        assert!(self.registry.tell(message).is_ok());
    }
}

/// Polls `asking` this often, with a turn for all other tasks in between, and drops it.
async fn leave_after<T>(polls: usize, asking: impl Future<Output = T>) {
    let mut asking = pin!(asking);
    for _ in 0..polls {
        if poll!(&mut asking).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn open_sessions(house: &House) -> Vec<SessionId> {
    let query =
        ListQuery { statuses: vec![Status::Connecting, Status::Active, Status::Detached], ..ListQuery::default() };
    let page = house.gateway.list(ListQuery { limit: 500, ..query }).await.unwrap();
    page.sessions.iter().map(|record| record.id).collect()
}

/// Claims a session whose actor never starts.
async fn claim_and_vanish(house: &House, id: SessionId, hear: bool) {
    let deps = &house.gateway.deps;
    let context = Context::<SessionActor>::new();
    let (mailbox, beat) = (session::mailbox(&context, deps), Beat::new(id, deps.activity.clone()).into());
    let (reply, answer) = oneshot::channel();
    let answer = hear.then_some(answer);
    deps.registry.deliver(RegistryMessage::Claim { id, mailbox, beat, reply }).await.ok();
    if let Some(answer) = answer {
        assert!(matches!(answer.await.unwrap(), Claim::Yours(..)));
    }
}

#[actix_rt::test]
async fn a_session_whose_opener_left_is_dialled_all_the_same() {
    let house = House::new().await;
    for polls in 1..POLLS {
        leave_after(polls, house.gateway.open(request())).await;
    }
    eventually(async || open_sessions(&house).await.len() == POLLS - 1).await;
    let dialled = || house.targets.0.lock().unwrap().len();
    eventually(async || dialled() == POLLS - 1).await;
}

#[actix_rt::test]
async fn a_session_whose_browser_left_while_it_attached_can_be_attached_to_and_ended() {
    let house = House::new().await;
    for polls in 1..POLLS {
        let id = house.open().await;
        leave_after(polls, house.gateway.attach(id, House::page())).await;
        let attached = house.gateway.attach(id, House::page()).await;
        assert!(attached.is_ok(), "after {polls} polls: {:?}", attached.err());
        house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
        eventually(async || house.find(id).await.is_closed()).await;
    }
}

#[actix_rt::test]
async fn what_was_given_to_somebody_who_had_left_is_given_to_the_next() {
    let house = House::new().await;
    let id = house.open().await;
    claim_and_vanish(&house, id, false).await;
    house.attach(id).await;
    eventually(async || house.find(id).await.status == Status::Active).await;
}

#[actix_rt::test]
async fn a_session_that_nobody_runs_is_ended_when_asked_and_by_itself() {
    let house = House::new().await;
    let (asked, left) = (house.open().await, house.open().await);
    claim_and_vanish(&house, asked, true).await;
    claim_and_vanish(&house, left, true).await;
    house.gateway.end(asked, EndReason::Terminated, "ended by a test".into()).await.unwrap();
    eventually(async || house.find(asked).await.is_closed()).await;
    assert_eq!(house.find(asked).await.end_reason, Some(EndReason::Terminated));
    eventually(async || house.find(left).await.is_closed()).await;
    assert_eq!(house.find(left).await.end_reason, Some(EndReason::ActorFailed));
}

#[actix_rt::test]
async fn a_session_that_could_not_be_placed_is_placed_later() {
    let house = House::new().await;
    let mut gateway = house.gateway.clone();
    let between = FailsOnce { registry: gateway.deps.registry.clone(), failed: false };
    gateway.deps.registry = Mailbox::new(between.start().recipient(), Meter::new(16));
    let id = gateway.open(request()).await.unwrap().id;
    eventually(async || house.find(id).await.status == Status::Active).await;
}

#[actix_rt::test]
async fn looks_that_come_all_at_once_are_one_look() {
    let house = House::new().await;
    let id = house.open().await;
    claim_and_vanish(&house, id, true).await;
    for _ in 0..20 {
        assert!(house.gateway.deps.registry.deliver(RegistryMessage::CloseUnattended).await.is_ok());
    }
    assert!(!house.find(id).await.is_closed());
}
