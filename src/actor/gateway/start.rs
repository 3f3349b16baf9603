//! A gateway's dependencies, and the start and supervision of its single actors.

use std::{sync::Arc, time::Duration};

use actix::{AsyncContext, Context};
use tokio::sync::watch;

use super::{Gateway, Phase, elsewhere::Elsewhere, pulse::Pulse, recorded::Recorded};
use crate::{
    actor::{
        SessionDeps, Settings, activity_queue,
        audit::{self, Audit},
        child::{Child, ChildSpec, supervise},
        mailbox::Mailbox,
        nodes::{self, NodesActor},
        observe::Observations,
        people::{self, People, PeopleActor},
        reconciler::{self, ReconcilerActor},
        registry::{self, RegistryActor},
        stalls::StallDetector,
        stores::Stores,
        supervisor::{self, SupervisorActor},
        webhooks::{self, WebhookDeliveries, Webhooks},
    },
    core::restart::{Policy, Restarts},
    ssh::Connector,
};

/// The gateway's dependencies.
pub struct GatewayDeps {
    /// The actors' settings.
    pub settings: Settings,
    /// The stores.
    pub stores: Stores,
    /// The directory of users and their rights.
    pub people: People,
    /// The webhooks that receive the audit log, if any are configured.
    pub webhooks: Option<Webhooks>,
    /// The connector that dials targets.
    pub connector: Arc<dyn Connector + Send + Sync>,
    /// The callback for a fatal state: the process must exit, and its next start cleans up.
    pub on_fatal_exit: Arc<dyn Fn(FatalExit) + Send + Sync>,
}

/// The reason why the process must exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FatalExit {
    /// An essential actor failed too often.
    #[error("an actor failed too often; the next start closes what is open")]
    ActorFailed,
    /// Another gateway holds this node's lease.
    #[error(
        "another gateway has taken this node's right to serve, and every session was ended; start it again to serve anew"
    )]
    Fenced,
}

/// Restarts of a single actor within a period before the process gives up (OTP's `intensity` and `period`).
const INTENSITY: (usize, Duration) = (5, Duration::from_secs(10));

impl Gateway {
    /// Starts the registry and the supervisor on the calling thread, the core arbiter.
    pub fn start(gateway_deps: GatewayDeps) -> Self {
        let GatewayDeps { settings, stores, people, webhooks, connector, on_fatal_exit } = gateway_deps;
        let (settings, observations) = (Arc::new(settings), Observations::default());
        let supervisor_context = Context::<SupervisorActor>::new();
        let registry_context = Context::<RegistryActor>::new();
        let meters = &observations.meters;
        let supervisor = Mailbox::new(supervisor_context.address().recipient(), meters.supervisor.clone());
        let registry = Mailbox::new(registry_context.address().recipient(), meters.registry.clone());
        let permanent = |actor| {
            let child = Child { actor, id: String::from(actor) };
            let restarts = Restarts::new(Policy::Permanent, INTENSITY.0, INTENSITY.1);
            let (supervisor, on_fatal_exit) = (supervisor.clone(), on_fatal_exit.clone());
            let given_up = Box::new(move || on_fatal_exit(FatalExit::ActorFailed));
            ChildSpec { child, restarts, supervisor, session: None, given_up }
        };
        let actor = SupervisorActor::new(observations.clone());
        supervise(permanent(supervisor::KIND), supervisor_context, actor);
        let (activity, marks) = activity_queue::activity_queue();
        let fenced: Arc<dyn Fn() + Send + Sync> = {
            let on_fatal_exit = on_fatal_exit.clone();
            Arc::new(move || on_fatal_exit(FatalExit::Fenced))
        };
        let (audit, actor) = Audit::new(stores.audit.clone(), observations.meters.audit.clone());
        supervise(permanent(audit::KIND), Context::new(), actor);
        let (seeing, seen) = watch::channel(Arc::default());
        let (others, heard) = (seen.clone(), observations.clone());
        let actor = RegistryActor::new(settings.clone(), stores.clone(), marks, others, heard, audit.clone(), fenced);
        let shared = actor.shared();
        supervise(permanent(registry::KIND), registry_context, actor);
        StallDetector::current(&observations);
        if let Some(records) = stores.records.clone() {
            let (settings, registry) = (settings.clone(), registry.clone());
            let actor = NodesActor::new(settings, stores.clone(), records, registry, &observations, seeing);
            supervise(permanent(nodes::KIND), Context::new(), actor);
        }
        let context = Context::<ReconcilerActor>::new();
        let sweeps = Mailbox::new(context.address().recipient(), observations.meters.reconciler.clone());
        let (told, heard) = (registry.clone(), observations.clone());
        let actor = ReconcilerActor::new(settings.clone(), stores.clone(), told, seen.clone(), heard);
        supervise(permanent(reconciler::KIND), context, actor);
        let actor = PeopleActor::new(people.clone(), registry.clone());
        supervise(permanent(people::KIND), Context::new(), actor);
        let deliveries = WebhookDeliveries::new(webhooks);
        for actor in deliveries.actors(&settings.node, &stores.audit, &audit, &observations) {
            let child = Child { actor: webhooks::KIND, id: actor.name().to_owned() };
            // Beyond its intensity this webhook alone receives nothing more.
            let spec = ChildSpec { child, given_up: Box::new(|| {}), ..permanent(webhooks::KIND) };
            supervise(spec, Context::new(), actor);
        }
        let deps = SessionDeps { settings, connector, registry, supervisor, observations, activity, audit };
        let (phase, _) = watch::channel(Phase::Starting);
        let (elsewhere, recorded, pulse) = (Elsewhere::default(), Recorded::default(), Pulse::default());
        Self { deps, stores, people, shared, phase, reconciler: sweeps, seen, elsewhere, recorded, pulse, deliveries }
    }
}
