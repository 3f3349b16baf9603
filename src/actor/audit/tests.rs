//! Tests of the queue to the audit log while the log is slow or refuses writes.

use std::sync::{Mutex, atomic::AtomicBool};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    actor::{
        child::{Child, ChildSpec, supervise},
        mailbox::Mailbox,
        observe::Observations,
        supervisor::{SupervisorActor, SupervisorMessage},
    },
    core::{
        audit::Entry,
        restart::{Policy, Restarts},
    },
    store::audit::MemoryAudit,
};

/// A log that accepts one write per permit, and refuses writes on request.
#[derive(Clone)]
struct Gate {
    log: MemoryAudit,
    permits: Arc<Semaphore>,
    refuses: Arc<Mutex<bool>>,
    /// Whether the next write panics.
    panics: Arc<AtomicBool>,
}

impl Gate {
    fn new(permits: usize) -> Self {
        let permits = Arc::new(Semaphore::new(permits));
        Self { log: MemoryAudit::default(), permits, refuses: Arc::default(), panics: Arc::default() }
    }

    async fn all(&self) -> Vec<Deed> {
        let page = self.log.entries(AuditQuery { limit: 5_000, ..AuditQuery::default() }).await.unwrap();
        page.entries.into_iter().rev().map(|entry| entry.deed).collect()
    }

    async fn eventually(&self, count: usize) {
        let reached = async {
            while self.all().await.len() < count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), reached).await.unwrap();
    }
}

impl AuditLog for Gate {
    fn append(&self, deeds: Vec<(UtcMicros, Deed)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.permits.acquire().await.unwrap().forget();
            assert!(!self.panics.swap(false, Ordering::AcqRel), "asked to");
            let refuses = *self.refuses.lock().unwrap();
            if refuses { Err(StoreError::Unavailable("no room".into())) } else { self.log.append(deeds).await }
        })
    }

    fn entries(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        self.log.entries(query)
    }

    fn after(&self, sequence: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.log.after(sequence, limit)
    }
}

fn deed(n: usize) -> Deed {
    Deed::of_gateway(Action::StoreSweep, n, "Told by a test.")
}

/// Runs a future on a paused clock, in a local set on which actix can spawn.
async fn in_a_place<T>(future: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(future).await
}

#[tokio::test(start_paused = true)]
async fn what_is_told_together_is_written_with_one_commit_in_its_order() {
    in_a_place(async {
        let gate = Gate::new(1);
        let audit = Audit::start(Arc::new(gate.clone()));
        (0..100).for_each(|n| audit.note(deed(n)));
        gate.eventually(100).await;
        assert!(gate.all().await.iter().enumerate().all(|(n, told)| *told == deed(n)));
        assert_eq!(gate.permits.available_permits(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn entries_that_found_no_room_are_counted_and_the_log_says_how_many() {
    in_a_place(async {
        let gate = Gate::new(0);
        let audit = Audit::start(Arc::new(gate.clone()));
        let told = QUEUE_CAPACITY + 500;
        (0..told).for_each(|n| audit.note(deed(n)));
        assert_eq!(audit.record(deed(0)).await, Err(GatewayError::Unaudited), "nothing is done unseen");
        gate.permits.add_permits(1_000);
        gate.eventually(QUEUE_CAPACITY + 1).await;
        let all = gate.all().await;
        let lost: Vec<&Deed> = all.iter().filter(|deed| deed.action == Action::AuditLost).collect();
        assert_eq!((lost.len(), lost[0].subject.as_str()), (1, "500"));
        let kept: Vec<&Deed> = all.iter().filter(|deed| deed.action != Action::AuditLost).collect();
        assert!(kept.iter().enumerate().all(|(n, told)| **told == deed(n)) && kept.len() == QUEUE_CAPACITY);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_act_that_cannot_be_recorded_is_refused_and_a_note_waits() {
    in_a_place(async {
        let gate = Gate::new(1_000);
        *gate.refuses.lock().unwrap() = true;
        let audit = Audit::start(Arc::new(gate.clone()));
        audit.note(deed(1));
        assert_eq!(audit.record(deed(2)).await, Err(GatewayError::Unaudited));
        *gate.refuses.lock().unwrap() = false;
        gate.eventually(1).await;
        assert_eq!(audit.record(deed(3)).await, Ok(()));
        assert_eq!(gate.all().await, [deed(1), deed(3)]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_takes_too_long_is_refused() {
    in_a_place(async {
        let gate = Gate::new(0);
        let audit = Audit::start(Arc::new(gate.clone()));
        assert_eq!(audit.record(deed(1)).await, Err(GatewayError::Unaudited));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_made_visible_before_it_is_kept() {
    in_a_place(async {
        let gate = Gate::new(1);
        let audit = Audit::start(Arc::new(gate.clone()));
        let hostile = "a\"]\n<13>1 - forged\u{202e}";
        audit.record(Deed::refused(Action::SignIn, hostile, [192, 0, 2, 7].into(), hostile, hostile)).await.unwrap();
        let shown = "a\"]\\u{a}<13>1 - forged\\u{202e}";
        let kept = gate.all().await.remove(0);
        assert_eq!([kept.actor, kept.subject, kept.detail], [shown, shown, shown]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_fails_is_restarted_and_counted_and_what_waits_is_written() {
    in_a_place(async {
        let (gate, observations) = (Gate::new(1_000), Observations::default());
        gate.panics.store(true, Ordering::Release);
        let context = Context::<SupervisorActor>::new();
        let supervisor = Mailbox::new(context.address().recipient(), observations.meters.supervisor.clone());
        context.run(SupervisorActor::new(observations.clone()));
        let (audit, actor) = Audit::new(Arc::new(gate.clone()), observations.meters.audit.clone());
        let child = Child { actor: KIND, id: KIND.into() };
        let restarts = Restarts::new(Policy::Permanent, 5, Duration::from_secs(10));
        let given_up = Box::new(|| panic!("it was given up"));
        let spec = ChildSpec { child, restarts, supervisor: supervisor.clone(), session: None, given_up };
        supervise(spec, Context::new(), actor);
        (0..QUEUE_CAPACITY + 3).for_each(|n| audit.note(deed(n)));
        assert_eq!(observations.meters.audit.depth(), QUEUE_CAPACITY as u64);
        gate.eventually(QUEUE_CAPACITY + 1).await;
        let all = gate.all().await;
        let lost: Vec<_> = all.iter().filter(|deed| deed.action == Action::AuditLost).collect();
        assert_eq!((all.len(), lost.len(), lost[0].subject.as_str()), (QUEUE_CAPACITY + 1, 1, "3"));
        assert_eq!(audit.record(deed(0)).await, Ok(()));
        let (reply, report) = oneshot::channel();
        assert!(supervisor.tell(SupervisorMessage::Report(reply)).is_ok());
        let told = report.await.unwrap().children.remove(0);
        assert_eq!((told.actor, told.alive, told.restarts, told.mailbox_depth), (KIND, true, 1, Some(0)));
        assert_eq!(told.last_failure.as_deref(), Some("asked to"));
    })
    .await;
}
