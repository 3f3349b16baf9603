//! The one timer of an actor, which it may arm again at any time. Not `run_later` and `cancel_future`: actix keeps
//! cancellations from the turn in which an actor failed across its restart, but numbers handles from the beginning
//! again, so that the first timer of the restarted actor is taken for the cancelled one and never rings (actix 0.13,
//! `ContextParts`).

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{self, Poll, Waker},
    time::Instant,
};

use actix::{Actor, ActorFuture, AsyncContext, Context};
use tokio::time::Sleep;

use super::clock;

/// The timer of one actor.
#[derive(Debug, Default)]
pub struct Alarm(Rc<Setting>);

#[derive(Debug, Default)]
struct Setting {
    at: Cell<Option<Instant>>,
    /// The actor's waker, for arming after the timer was polled in this turn.
    actor: RefCell<Option<Waker>>,
}

impl Alarm {
    /// Starts a timer that calls `ring` whenever it is due. To be called in `started`, which runs at a restart too; the
    /// timer is not armed afterwards.
    pub fn start<A>(&mut self, ctx: &mut Context<A>, ring: fn(&mut A, &mut Context<A>))
    where
        A: Actor<Context = Context<A>>,
    {
        self.0 = Rc::default();
        let sleep = Box::pin(tokio::time::sleep_until(tokio::time::Instant::now()));
        ctx.spawn(Ringing { setting: self.0.clone(), sleep, armed: None, ring });
    }

    /// Arms the timer for this time instead of any other; `None` disarms it.
    pub fn set(&self, at: Option<Instant>) {
        if self.0.at.replace(at) != at
            && let Some(actor) = self.0.actor.take()
        {
            actor.wake();
        }
    }

    /// Arms the timer for this time, unless it rings earlier anyway.
    pub fn ring_by(&self, at: Instant) {
        if self.0.at.get().is_none_or(|sooner| at < sooner) {
            self.set(Some(at));
        }
    }
}

/// The future that waits and rings.
struct Ringing<A: Actor> {
    setting: Rc<Setting>,
    sleep: Pin<Box<Sleep>>,
    /// The time that `sleep` waits for.
    armed: Option<Instant>,
    ring: fn(&mut A, &mut A::Context),
}

impl<A: Actor> ActorFuture<A> for Ringing<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, actor: &mut A, ctx: &mut A::Context, task: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // Times armed from here on, also by `ring`, are seen below.
        this.setting.actor.take();
        while let Some(at) = this.setting.at.get() {
            if this.armed != Some(at) {
                let wait = at.saturating_duration_since(clock::instant());
                this.sleep.as_mut().reset(tokio::time::Instant::now() + wait);
                this.armed = Some(at);
            }
            if this.sleep.as_mut().poll(task).is_pending() {
                break;
            }
            this.armed = None;
            this.setting.at.set(None);
            (this.ring)(actor, ctx);
        }
        this.setting.actor.replace(Some(task.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix::Supervised;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        actor::{
            child::{Child, ChildSpec, supervise},
            mailbox::Mailbox,
            observe::Observations,
            supervisor::SupervisorActor,
        },
        core::restart::{Policy, Restarts},
    };

    /// Arms its timer twice, fails in the same turn, and counts its rings once it is back.
    struct Clumsy {
        alarm: Alarm,
        has_failed: bool,
        rings: mpsc::UnboundedSender<()>,
    }

    impl Actor for Clumsy {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            self.alarm.start(ctx, |actor, _| {
                actor.rings.send(()).unwrap();
            });
            self.alarm.ring_by(clock::instant() + Duration::from_secs(10));
            if !std::mem::replace(&mut self.has_failed, true) {
                self.alarm.ring_by(clock::instant() + Duration::from_secs(1));
                panic!("asked to");
            }
        }
    }

    impl Supervised for Clumsy {}

    #[actix_rt::test]
    async fn an_actor_that_failed_as_it_armed_its_timer_is_woken_once_it_is_back() {
        tokio::time::pause();
        let meter = Observations::default().meters.supervisor.clone();
        let supervisor = Mailbox::new(Context::<SupervisorActor>::new().address().recipient(), meter);
        let (rings, mut heard) = mpsc::unbounded_channel();
        let clumsy = Clumsy { alarm: Alarm::default(), has_failed: false, rings };
        let child = Child { actor: "clumsy", id: "clumsy".into() };
        let restarts = Restarts::new(Policy::Permanent, 5, Duration::from_secs(10));
        let spec = ChildSpec { child, restarts, supervisor, session: None, given_up: Box::new(|| panic!("given up")) };
        let begun = tokio::time::Instant::now();
        supervise(spec, Context::new(), clumsy);
        tokio::time::timeout(Duration::from_secs(60), heard.recv()).await.unwrap().unwrap();
        assert_eq!(begun.elapsed().as_secs(), 10, "what it armed before it failed rings no more");
        assert!(tokio::time::timeout(Duration::from_secs(60), heard.recv()).await.is_err(), "once");
    }

    #[actix_rt::test]
    async fn the_soonest_time_counts_and_none_is_never() {
        struct Ticker(Alarm, mpsc::UnboundedSender<()>);
        impl Actor for Ticker {
            type Context = Context<Self>;
            fn started(&mut self, ctx: &mut Self::Context) {
                self.0.start(ctx, |ticker, _| ticker.1.send(()).unwrap());
                let after = |secs| clock::instant() + Duration::from_secs(secs);
                self.0.ring_by(after(5));
                self.0.ring_by(after(7));
                self.0.ring_by(after(3));
                // Behind the timer's own place in a turn: it has to be woken.
                ctx.run_later(Duration::from_secs(20), move |ticker, _| ticker.0.set(Some(after(1))));
                ctx.run_later(Duration::from_secs(40), move |ticker, _| ticker.0.set(Some(after(10))));
                ctx.run_later(Duration::from_secs(45), |ticker, _| ticker.0.set(None));
            }
        }
        tokio::time::pause();
        let (rings, mut heard) = mpsc::unbounded_channel();
        let begun = tokio::time::Instant::now();
        let address = Ticker(Alarm::default(), rings).start();
        let mut at = Vec::new();
        while let Ok(Some(())) = tokio::time::timeout(Duration::from_secs(60), heard.recv()).await {
            at.push(begun.elapsed().as_secs());
        }
        assert_eq!(at, [3, 21]);
        drop(address);
    }
}
