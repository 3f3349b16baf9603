//! The composition root, the only module that knows every other: node → stores → actors → HTTP → shutdown.

use std::{
    fs,
    net::TcpListener,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actix::Arbiter;
use actix_web::{App, HttpServer, dev::Server, middleware, web};
use anyhow::Context;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use crate::{
    actor::{
        self, clock,
        gateway::{FatalExit, Gateway, GatewayDeps},
        stores::Stores,
    },
    cli::{Demo, Tool},
    config::{self, Config, Loaded, Secrets, Unusable},
    core::{
        audit::{Action, Deed},
        record::{Epoch, Incarnation},
    },
    data_dir::{self, succession},
    recording::directory::RecordingDir,
    ssh::RusshConnector,
    store::{
        LiveStore, SharedRecords, audit::WebhookCursorStore, memory::MemoryLive, mysql::MySqlStore,
        people::PeopleStore, redis::RedisLive, sqlite::SqliteStore,
    },
    tool::{self, Report, ToolContext},
    web as http,
};

/// Forbids core dumps.
mod core_dumps;
/// The demo.
mod demo;
/// The limits on open connections.
mod doors;
/// The end of the process.
mod ending;
/// The epoch of the node that begins with this start.
mod epoch;
/// The files that the configuration names.
mod files;
/// The first words on standard output.
mod greeting;
/// The OpenID Connect provider that users sign in with.
mod oidc;
/// Users and tokens.
mod people;
/// The recorder, as the configuration asks for it.
mod recording;
/// Reloads the configuration on SIGHUP.
mod reload;
/// The self-test: a private gateway, tried from its start to its end.
mod selftest;
/// The settings of each layer, made from the configuration.
mod settings;
/// The targets of the configuration, as they are dialled.
mod targets;
/// The listener's certificate.
mod tls;

/// The webhooks that receive the audit log.
mod webhooks;

pub use core_dumps::forbid_core_dumps;
use epoch::Beginning;
use greeting::Greeting;
use reload::Reload;
use tls::Certificate;

/// Time for the head of a connection's first request, after which the gateway answers that it took too long. All other
/// limits: `web/connections.rs`.
const HEAD_LIMIT: Duration = Duration::from_secs(8);

/// Bytes gathered for one write while more is ready, two full frames of output: each write wakes the reader, which
/// costs more than the copy. Twice as much did not speed up a flood of output.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// Connections that may wait to be accepted: a thousand browsers that come back at once are not turned away.
const ACCEPT_QUEUE: i32 = 4_096;

/// The inputs of a run, besides the configuration.
struct Plan {
    listener: TcpListener,
    loaded: Loaded,
    /// The line of the demo's playground among the known hosts.
    demo: Option<String>,
}

/// Serves until SIGTERM or SIGINT, then shuts down.
///
/// # Errors
/// Anything that keeps it from serving, as a sentence that says what to do.
pub fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let listen = loaded.config.server.listen;
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("cannot listen on {listen}; is another gateway running there? See server.listen"))?;
    block_on(run(loaded.config.clone(), Plan { listener, loaded, demo: None }))
}

/// Serves with an SSH target of its own and prints a link that signs in once.
///
/// # Errors
/// As [`serve`].
pub fn demo(loaded: Loaded, options: Demo) -> anyhow::Result<()> {
    block_on(demo::serve(loaded, options))
}

/// Runs one of the operator's tools.
///
/// # Errors
/// Anything that kept the tool from its work, as a sentence that says what to do.
pub fn look_after(loaded: Loaded, json: bool, tool: Tool) -> anyhow::Result<Report> {
    let Loaded { config, secrets, warnings, .. } = loaded;
    let unaudited = AtomicBool::new(false);
    let ctx = ToolContext { config, secrets, warnings, json, utc: clock::utc, clock: clock::since_start, unaudited };
    block_on(tool::run(&ctx, tool))
}

/// Tries a private gateway from its start to its end.
///
/// # Errors
/// If no temporary folder can be created.
pub fn selftest() -> anyhow::Result<Report> {
    block_on(selftest::run())
}

/// Looks into the files that the configuration names; returns those that cannot be used.
pub fn unusable(config: &Config) -> Vec<Unusable> {
    block_on(files::unusable(config))
}

/// Runs `work` to its end on this thread. Here, and not in the binary: a future is compiled where it is polled, and the
/// binary would compile what the library has no use for itself, with each of its builds.
///
/// Whatever is still under way then is dropped within the runtime: sqlx panics where a query is dropped outside of one.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let system = actix::System::new();
    let (outcome, runtime) = system.block_on(async { (work.await, Handle::current()) });
    let _entered = runtime.enter();
    drop(system);
    outcome
}

async fn run(config: Config, plan: Plan) -> anyhow::Result<()> {
    data_dir::make_private(&config.node.data_dir)?;
    let lock = data_dir::lock(&config.node.data_dir).await?;
    // Not sooner: until then they may be another gateway's.
    if let Some(playground) = &plan.demo {
        demo::introduce(&config.known_hosts_path(), playground)?;
    }
    for says in &plan.loaded.warnings {
        tracing::warn!(%says, "the configuration leaves something open");
    }
    let outcome = live(config, plan, &lock).await;
    // Not sooner: the next holder of the lock relies on this process serving nobody any more.
    drop(lock);
    outcome
}

/// Runs one start of the node, from its epoch to the end of its shutdown.
async fn live(config: Config, plan: Plan, lock: &fs::File) -> anyhow::Result<()> {
    let data_dir = &config.node.data_dir;
    let node = data_dir::node_id(data_dir, config.node.id.as_deref())?;
    let incarnation = Incarnation::new(rand::random());
    let over = succession::follow(lock, &incarnation);
    let beginning = Beginning { node: node.clone(), incarnation: incarnation.clone(), over };
    let Opened { stores, people, cursors, epoch } = open_stores(&config, beginning).await?;
    let Secrets { admin_token, seals } = plan.loaded.secrets.clone();
    let people = people::people(people, &config);
    let seals = seals.map_or_else(|| data_dir::seal_keys(data_dir).map(Arc::new), Ok)?;
    let recording_dir = RecordingDir::new(data_dir, Some(seals.clone()));
    let ssh = settings::ssh(&config);
    let (exit_sender, mut fatal) = watch::channel(None::<FatalExit>);
    let gateway_deps = GatewayDeps {
        settings: actor::Settings {
            recorder: recording::recorder(&config, recording_dir.clone())?,
            ..settings::actors(&config, node.clone(), incarnation, epoch, recording_dir)
        },
        stores,
        people: people.clone(),
        webhooks: webhooks::webhooks(&config, cursors).await?,
        connector: Arc::new(RusshConnector::new(ssh.clone())),
        on_fatal_exit: Arc::new(move |why| exit_sender.send_modify(|first| *first = first.or(Some(why)))),
    };
    let gateway = begin(gateway_deps).await?;
    // Before the recovery, which may take longer than a command waits for its entry in the audit log.
    let deadline = ending::hear_operators(data_dir, &gateway);
    let recovering = actix::spawn(recover(gateway.clone()));
    let is_new = people::read(&people, &seals, plan.demo.is_some() || admin_token.is_some()).await?;
    let addr = plan.listener.local_addr()?;
    rustix::net::listen(&plan.listener, ACCEPT_QUEUE)?;
    let settings = http::state::Settings {
        oidc: oidc::oidc(&config)?,
        ..settings::web(&config, addr.ip(), admin_token, seals, plan.demo.is_some(), ssh.host_keys)
    };
    let state = web::Data::new(http::state::State::new(gateway.clone(), settings));
    warm(&state);
    let link = plan.demo.is_some().then(|| state.issue_link(http::auth::ADMIN));
    let link = link.or_else(|| is_new.then(|| state.issue_setup()));
    let certificate = Certificate::open(&config)?;
    let server = server(&config, plan.listener, state, certificate.as_ref())?;
    let handle = server.handle();
    let serving = actix::spawn(server);
    let closed = recovering.await??;
    tracing::info!(node = %node, epoch = epoch.0, %addr, closed_orphans = closed, "ready");
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let begun = format!("Epoch {}, release {}.", epoch.0, env!("CARGO_PKG_VERSION"));
    gateway.audit().note(Deed::of_gateway(Action::GatewayStart, &node, &begun));
    let reload = Reload::new(plan.loaded, config.clone(), certificate.clone());
    let own_certificate = certificate.as_ref().filter(|_| config.server.tls.self_signed);
    let greeting = Greeting {
        public_url: config.server.public_url.as_ref().map(|origin| origin.as_str()),
        scheme,
        listens: addr,
        link,
        fingerprint: own_certificate.map(|certificate| certificate.fingerprint()),
        is_new,
    };
    greeting.print();
    let outcome = tokio::select! {
        outcome = ending::until_told_to_stop(&gateway, reload) => outcome,
        () = ending::drained(deadline, &gateway) => Ok(()),
        why = fatal.wait_for(Option::is_some) => Err(why.ok().and_then(|why| *why).unwrap_or(FatalExit::ActorFailed).into()),
    };
    let ended = outcome.as_ref().map_or_else(|error| format!("{error:#}."), |()| "In order.".to_owned());
    ending::end(&gateway, &handle, Deed::of_gateway(Action::GatewayStop, &node, &ended)).await;
    serving.await??;
    outcome
}

/// Closes the sessions of earlier starts; returns their number. Beside the reading of the users, of which it needs
/// nothing: slow records are asked by both for long.
async fn recover(gateway: Gateway) -> anyhow::Result<u64> {
    gateway.recover().await.context("sessions of an earlier start could not be closed")
}

/// The opened stores, and the epoch of this node that begins in them.
struct Opened {
    stores: Stores,
    people: Arc<dyn PeopleStore>,
    cursors: Arc<dyn WebhookCursorStore>,
    epoch: Epoch,
}

/// Computes the gateway's own stamp in the background: that takes as long as checking a password, and nobody's first
/// request should wait for it.
fn warm(state: &web::Data<http::state::State>) {
    let state = state.clone();
    tokio::task::spawn_blocking(move || drop(state.own_stamp()));
}

/// Builds the HTTP server, ready to run.
fn server(
    config: &Config,
    listener: TcpListener,
    state: web::Data<http::state::State>,
    certificate: Option<&Arc<Certificate>>,
) -> anyhow::Result<Server> {
    let doors = doors::open(config);
    let hold = || middleware::from_fn(http::connections::hold);
    let app = move || App::new().app_data(state.clone()).wrap(hold()).configure(http::routes::configure);
    let server = HttpServer::new(app)
        .on_connect(move |connection, data| doors.meet(connection, data))
        .client_request_timeout(HEAD_LIMIT)
        // Nagle's algorithm holds a key's echo back until the browser's delayed acknowledgement, 40 ms.
        .tcp_nodelay(true)
        .h1_write_buffer_size(WRITE_BUFFER_BYTES)
        .shutdown_timeout(1)
        .disable_signals();
    let server = match certificate {
        Some(certificate) => server.listen_rustls_0_23(listener, certificate.server()?)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

/// Starts the actors on a thread of their own, which ends with the process and not sooner: a stopped one would drop its
/// work, and an sqlx connection that is dropped where no runtime is left panics.
async fn begin(gateway_deps: GatewayDeps) -> anyhow::Result<Gateway> {
    let core = Arbiter::new();
    let (started, gateway) = oneshot::channel();
    core.spawn(async move {
        // The receiver waits just below.
        started.send(Gateway::start(gateway_deps)).ok();
    });
    gateway.await.context("the core thread did not start")
}

/// Opens the stores that the configuration names and begins this node's next epoch in them. The journal must work; the
/// others may be down and catch up later.
async fn open_stores(config: &Config, beginning: Beginning) -> anyhow::Result<Opened> {
    let journal = SqliteStore::open(&config.node.data_dir.join(data_dir::DATABASE)).await?;
    let journal = journal.keep_reserve(&config.node.data_dir.join(data_dir::RESERVE)).await;
    let (journal, records) = match &config.store.records {
        config::Records::Sqlite => (journal.without_outbox().await?, None),
        config::Records::MySql(address) => {
            let records = MySqlStore::new(address).serving_for(config.node.serve_for());
            (journal.keep_outbox().await?, Some(records.ageing_by(clock::boottime)))
        }
    };
    let view = match &config.store.live {
        config::Live::Memory => None,
        config::Live::Redis(address) => Some(address),
    };
    let epoch = beginning.begin(records.as_ref(), &journal, view).await?;
    let people = people::store(records.as_ref(), &journal);
    let records = records.map(|records| Arc::new(records) as Arc<dyn SharedRecords>);
    let live: Arc<dyn LiveStore> = match view {
        None => Arc::new(MemoryLive::default()),
        Some(address) => Arc::new(RedisLive::new(address, beginning.node, epoch, records.clone())?),
    };
    let (audit, cursors) = (Arc::new(journal.clone()), Arc::new(journal.clone()));
    Ok(Opened { stores: Stores { journal: Arc::new(journal), records, live, audit }, people, cursors, epoch })
}

/// Returns the exit status of a failure, by `sysexits.h`: 70 (software) where an actor failed beyond repair, 75
/// (temporary) where another gateway took over and the next start should be tried at once; 1 for everything else.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<FatalExit>() {
        Some(FatalExit::ActorFailed) => 70,
        Some(FatalExit::Fenced) => 75,
        None => 1,
    }
}

#[cfg(test)]
mod tests;
