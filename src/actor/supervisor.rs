//! The table of supervised actors, with their restarts and failures for the operator. The restarts themselves happen
//! where the actors run (`child`). Knows no session's state.

use std::collections::{BTreeMap, HashMap};

use actix::{Actor, Context, Handler, Supervised};
use tokio::sync::oneshot;

use super::{
    child::Child,
    mailbox::{Envelope, Mailbox, Meter},
    observe::{ActorsReport, ChildReport, KINDS, KindReport, Observations},
    session::{self, SessionMessage},
};
use crate::core::restart::Decision;

/// A message to the supervisor.
pub enum SupervisorMessage {
    /// An actor was started; sessions give their mailbox, so that they can be asked to announce themselves.
    Started {
        /// The actor.
        child: Child,
        /// The session's mailbox; `None` for other actors.
        session: Option<Mailbox<SessionMessage>>,
    },
    /// An actor panicked.
    Failed {
        /// The actor.
        child: Child,
        /// The panic message.
        failure: String,
        /// The decision about a restart.
        decision: Decision,
        /// Its restarts so far, including this one: a report that arrives twice counts once.
        restarts: u64,
    },
    /// An actor has ended for good.
    Ended {
        /// The actor.
        child: Child,
    },
    /// Asks for the supervision tree.
    Report(oneshot::Sender<ActorsReport>),
    /// Makes the supervisor panic, to test its restart.
    #[cfg(test)]
    Panic,
}

/// The table's entry of one child.
#[derive(Default)]
struct Entry {
    alive: bool,
    restarts: u64,
    last_failure: Option<String>,
    session: Option<Mailbox<SessionMessage>>,
}

/// The totals of one kind, including ended children.
#[derive(Default)]
struct Kind {
    restarts: u64,
    last_failure: Option<String>,
}

/// The supervisor.
pub struct SupervisorActor {
    observations: Observations,
    children: HashMap<Child, Entry>,
    kinds: BTreeMap<&'static str, Kind>,
}

impl SupervisorActor {
    /// Creates a supervisor with an empty table.
    pub fn new(observations: Observations) -> Self {
        Self { observations, children: HashMap::new(), kinds: BTreeMap::new() }
    }

    fn failed(&mut self, child: Child, failure: String, decision: Decision, restarts: u64) {
        let kind = self.kinds.entry(child.actor).or_default();
        kind.last_failure = Some(failure.clone());
        let registry = child.actor == super::registry::KIND;
        let entry = self.children.entry(child.clone()).or_default();
        entry.last_failure = Some(failure);
        if decision != Decision::Restart {
            entry.alive = false;
            return;
        }
        let more = restarts.saturating_sub(entry.restarts);
        entry.restarts += more;
        kind.restarts += more;
        self.observations.actor_restarts.get_or_create(&[("actor", child.actor)]).inc_by(more);
        if registry {
            self.ask_sessions_to_announce();
        }
    }

    /// Asks every session to announce itself, from which a restarted registry fills its index.
    fn ask_sessions_to_announce(&self) {
        let mut sessions: Vec<_> =
            self.children.iter().filter_map(|(child, entry)| Some((child, entry.session.clone()?))).collect();
        sessions.sort_by_key(|(child, _)| *child);
        for (_, session) in sessions {
            session::post(&session, SessionMessage::AnnounceAgain);
        }
    }

    fn report(&self) -> ActorsReport {
        let meters = &self.observations.meters;
        let kinds: [(&'static str, &Meter); KINDS.len()] = [
            (super::session::KIND, &meters.session),
            (super::registry::KIND, &meters.registry),
            (KIND, &meters.supervisor),
            (super::reconciler::KIND, &meters.reconciler),
            (super::nodes::KIND, &meters.nodes),
            (super::people::KIND, &meters.people),
            (super::audit::KIND, &meters.audit),
            (super::webhooks::KIND, &meters.webhook),
        ];
        let alive =
            |actor: &str| self.children.iter().filter(|(child, entry)| child.actor == actor && entry.alive).count();
        let kinds = kinds.map(|(actor, meter)| {
            let kind = self.kinds.get(actor);
            KindReport {
                actor,
                alive: alive(actor) as u64,
                restarts: kind.map_or(0, |kind| kind.restarts),
                last_failure: kind.and_then(|kind| kind.last_failure.clone()),
                mailbox_depth: meter.depth(),
                mailbox_capacity: meter.capacity() as u64,
                handled_total: meter.handled_total(),
                handle_ms: meter.handle_times(),
                wait_ms: meter.wait_times(),
            }
        });
        let noteworthy = |child: &Child, entry: &Entry| child.actor != super::session::KIND || entry.restarts > 0;
        let noted = self.children.iter().filter(|(child, entry)| noteworthy(child, entry));
        let mut children: Vec<_> = noted.map(|(child, entry)| child_report(child, entry, &kinds)).collect();
        children.sort_by(|a, b| (a.actor, &a.id).cmp(&(b.actor, &b.id)));
        ActorsReport { kinds: kinds.into(), children, arbiters: self.observations.lags.report() }
    }
}

/// Returns the report of one actor; one that is the only one of its kind has its kind's meter.
fn child_report(child: &Child, entry: &Entry, kinds: &[KindReport]) -> ChildReport {
    let is_alone = ![super::session::KIND, super::webhooks::KIND].contains(&child.actor);
    let own = kinds.iter().find(|kind| is_alone && kind.actor == child.actor);
    ChildReport {
        actor: child.actor,
        id: child.id.clone(),
        alive: entry.alive,
        restarts: entry.restarts,
        last_failure: entry.last_failure.clone(),
        mailbox_depth: own.map(|kind| kind.mailbox_depth),
        mailbox_capacity: own.map(|kind| kind.mailbox_capacity),
        handled_total: own.map(|kind| kind.handled_total),
        handle_ms: own.map(|kind| kind.handle_ms),
        wait_ms: own.map(|kind| kind.wait_ms),
    }
}

/// The actor's kind, as in metrics.
pub const KIND: &str = "supervisor";

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.observations.meters.supervisor.capacity());
        let own = Child { actor: KIND, id: KIND.to_owned() };
        self.children.entry(own).or_default().alive = true;
    }
}

impl Supervised for SupervisorActor {}

impl Handler<Envelope<SupervisorMessage>> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<SupervisorMessage>, _: &mut Self::Context) {
        let (message, _handling) = envelope.open();
        match message {
            SupervisorMessage::Started { child, session } => {
                let entry = self.children.entry(child).or_default();
                entry.alive = true;
                entry.session = session;
            }
            SupervisorMessage::Failed { child, failure, decision, restarts } => {
                self.failed(child, failure, decision, restarts);
            }
            SupervisorMessage::Ended { child } => {
                self.children.remove(&child);
            }
            SupervisorMessage::Report(reply) => {
                if reply.send(self.report()).is_err() {
                    tracing::debug!("who asked for the actors' report has left");
                }
            }
            #[cfg(test)]
            SupervisorMessage::Panic => panic!("asked to"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::{registry, webhooks};

    #[test]
    fn every_kind_of_actor_is_reported_before_any_runs() {
        let report = SupervisorActor::new(Observations::default()).report();
        let told: Vec<_> = report.kinds.iter().map(|kind| (kind.actor, kind.alive, kind.mailbox_depth)).collect();
        assert_eq!(told, KINDS.map(|kind| (kind, 0_u64, 0_u64)));
    }

    #[test]
    fn an_actor_that_is_the_only_one_of_its_kind_is_metered() {
        let observations = Observations::default();
        let capacity = observations.meters.registry.capacity() as u64;
        let mut supervisor = SupervisorActor::new(observations);
        for (actor, id) in [(registry::KIND, "registry"), (webhooks::KIND, "chat")] {
            supervisor.children.insert(Child { actor, id: id.to_owned() }, Entry::default());
        }
        let told = supervisor.report().children;
        let capacities: Vec<_> = told.iter().map(|child| (&*child.id, child.mailbox_capacity)).collect();
        assert_eq!(capacities, [("registry", Some(capacity)), ("chat", None)], "all webhooks share one meter");
        assert!(told.iter().all(|child| child.mailbox_capacity.is_some() == child.wait_ms.is_some()));
    }
}
