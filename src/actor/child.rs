//! Runs one supervised actor: restarts it in place after a panic, so that its address and the waiting messages survive,
//! and reports its exit. `actix::Supervisor` does neither after a panic.

use std::{any::Any, future::poll_fn, panic::AssertUnwindSafe, pin::pin, rc::Rc};

use actix::{Actor, AsyncContext, Context, Supervised};
use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::{clock, mailbox::Mailbox, session::SessionMessage, supervisor::SupervisorMessage, world};
use crate::core::restart::{Decision, Ending, Restarts};

/// The identity of a supervised actor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Child {
    /// The actor's kind, as in metrics.
    pub actor: &'static str,
    /// The actor's id: a session id, a webhook's name, or the kind again for a single actor.
    pub id: String,
}

/// The supervision of one child (OTP's child specification).
pub struct ChildSpec {
    /// The child's identity.
    pub child: Child,
    /// The restart policy, with the recent restarts.
    pub restarts: Restarts,
    /// The supervisor, which is notified of the start, each failure and the end.
    pub supervisor: Mailbox<SupervisorMessage>,
    /// The mailbox of a session, for the supervisor; `None` for other actors.
    pub session: Option<Mailbox<SessionMessage>>,
    /// The callback for an actor that failed beyond its intensity.
    pub given_up: Box<dyn FnOnce()>,
}

/// Starts `actor` in `context` on this thread and keeps it running.
pub fn supervise<A>(spec: ChildSpec, context: Context<A>, actor: A)
where
    A: Actor<Context = Context<A>> + Supervised,
{
    let ChildSpec { child, mut restarts, supervisor, session, given_up } = spec;
    let address = context.address();
    let mut running = context.into_future(actor);
    let mut reports = Reports { supervisor, last: None };
    let born = child.clone();
    reports.tell(move || SupervisorMessage::Started { child: born.clone(), session: session.clone() });
    actix::spawn(async move {
        // actix does not restart a context without an address, and some actors have no other address that is kept.
        let _address = address;
        let (who, mut revive) = (Rc::new(child.clone()), false);
        loop {
            // A restart calls `restarting` and then `started`, as at the first time.
            let ending = {
                let mut turn = pin!(async {
                    if revive && !running.restart() {
                        return;
                    }
                    (&mut running).await;
                });
                let acting = poll_fn(|cx| world::act(&who, || turn.as_mut().poll(cx)));
                AssertUnwindSafe(acting).catch_unwind().await
            };
            let decision = match &ending {
                Ok(()) => restarts.decide(clock::instant(), Ending::Normal),
                Err(_) => restarts.decide(clock::instant(), Ending::Failure),
            };
            if let Err(panic) = ending {
                let failure = text(panic.as_ref());
                tracing::error!(actor = child.actor, id = child.id, failure, ?decision, "an actor failed");
                let (failed, total) = (child.clone(), restarts.total());
                reports.tell(move || {
                    let (child, failure) = (failed.clone(), failure.clone());
                    SupervisorMessage::Failed { child, failure, decision, restarts: total }
                });
            }
            match decision {
                Decision::Restart => revive = true,
                Decision::GiveUp => {
                    given_up();
                    break;
                }
                Decision::Forget => break,
            }
        }
        reports.tell(move || SupervisorMessage::Ended { child: child.clone() });
    });
}

/// The reports on one child to the supervisor: sent one after the other, each until it was handled.
struct Reports {
    supervisor: Mailbox<SupervisorMessage>,
    last: Option<JoinHandle<()>>,
}

impl Reports {
    /// Sends a report without waiting: the child may be the supervisor itself, which is not running at this moment.
    fn tell(&mut self, report: impl Fn() -> SupervisorMessage + 'static) {
        let (supervisor, before) = (self.supervisor.clone(), self.last.take());
        self.last = Some(actix::spawn(async move {
            if let Some(before) = before {
                // This report is sent whatever became of the one before.
                before.await.ok();
            }
            if supervisor.insist(report).await.is_err() {
                tracing::debug!("the supervisor was not there for a report");
            }
        }));
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc, time::Duration};

    use super::*;
    use crate::{
        actor::{observe::Observations, supervisor::SupervisorActor},
        core::restart::Policy,
    };

    /// Fails once, shortly after it began.
    struct Lonely {
        restarts: Rc<Cell<u32>>,
    }

    impl Actor for Lonely {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.run_later(Duration::ZERO, |_, _| panic!("asked to"));
        }
    }

    impl Supervised for Lonely {
        fn restarting(&mut self, ctx: &mut Self::Context) {
            self.restarts.set(self.restarts.get() + 1);
            ctx.run_interval(Duration::from_secs(1), |_, _| {});
        }
    }

    #[actix_rt::test]
    async fn an_actor_that_nobody_addresses_is_restarted() {
        let (restarted, gave_up) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let meter = Observations::default().meters.supervisor.clone();
        let supervisor = Mailbox::new(Context::<SupervisorActor>::new().address().recipient(), meter);
        let (lonely, given_up) = (Lonely { restarts: restarted.clone() }, gave_up.clone());
        let child = Child { actor: "lonely", id: "lonely".into() };
        let restarts = Restarts::new(Policy::Permanent, 5, Duration::from_secs(10));
        let given_up = Box::new(move || given_up.set(true));
        supervise(ChildSpec { child, restarts, supervisor, session: None, given_up }, Context::new(), lonely);
        let eventually = async {
            while restarted.get() == 0 && !gave_up.get() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), eventually).await.unwrap();
        assert_eq!((restarted.get(), gave_up.get()), (1, false));
    }
}
