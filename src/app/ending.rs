//! How the process learns that it is to end, and how it ends: by a signal, or after `pulsegate drain`. Knows no store.
//!
//! The command comes over a Unix socket in the data directory. Whoever may write there may stop the gateway anyhow, so it
//! asks for no token and no certificate, works whatever the listener is, and a command that reaches it has reached the
//! gateway of this very folder. One line of JSON each way: `{"drain_ms":28800000}`, then `{"sessions":3}` whenever that
//! changes, and the end of the stream when the process begins to stop; or `{"deed":{…}}`, what another command has done, and
//! then `{"noted":true}` once the audit log has it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::reload::Reload;
use crate::{
    actor::{
        clock,
        gateway::{Gateway, Phase},
    },
    core::audit::{Action, Deed},
    data_dir,
};

/// How long the whole end may take, as far as the last entry of the audit log: the contract's 15 s, less what it takes to exit.
const END_LIMIT: Duration = Duration::from_secs(14);

/// How long it may take to close everything; what is not closed then is closed by the next start.
const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(10);

/// How long browsers may take to leave, once they were told, before they are told again and then cut off.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often open sessions are counted while the gateway waits for their end.
const COUNT: Duration = Duration::from_millis(250);

/// Operators who drain at a time.
const CALLERS: usize = 8;

/// The longest command, and how long it may take to come.
const COMMAND: (u64, Duration) = (8 * 1_024, Duration::from_secs(5));

/// What can be asked of a running gateway.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    /// Open nothing any more, and stop once nothing is open, or after so many milliseconds.
    DrainMs(u64),
    /// Tell the audit log what was done on the command line.
    Deed(Told),
}

/// What was done on the command line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    action: Action,
    subject: String,
    detail: String,
}

/// When an operator wants the gateway to stop at the latest; `None` while nobody does.
pub type Deadline = watch::Receiver<Option<Instant>>;

/// Hears operators at the socket in `data_dir`, whose lock this process holds. Where there can be no socket the gateway
/// serves all the same.
pub fn hear_operators(data_dir: &Path, gateway: &Gateway) -> Deadline {
    let (told, deadline) = watch::channel(None);
    match listen(data_dir) {
        Ok(listener) => drop(actix::spawn(accept(listener, gateway.clone(), told))),
        Err(error) => tracing::warn!(%error, "`pulsegate drain` will not reach this gateway; SIGTERM does"),
    }
    deadline
}

fn listen(data_dir: &Path) -> std::io::Result<UnixListener> {
    let path = data_dir.join(data_dir::CONTROL);
    // Left by a process that is gone: this one holds the lock.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, gateway: Gateway, told: watch::Sender<Option<Instant>>) {
    let (callers, told) = (Arc::new(Semaphore::new(CALLERS)), Arc::new(told));
    loop {
        let (Ok((stream, _)), Ok(permit)) = (listener.accept().await, callers.clone().acquire_owned().await) else {
            sleep(COUNT).await;
            continue;
        };
        let (gateway, told) = (gateway.clone(), told.clone());
        actix::spawn(async move {
            if let Err(error) = serve(stream, &gateway, &told).await {
                tracing::debug!(%error, "an operator left");
            }
            drop(permit);
        });
    }
}

/// Takes one command.
async fn serve(stream: UnixStream, gateway: &Gateway, told: &watch::Sender<Option<Instant>>) -> std::io::Result<()> {
    // The folder may be open to more people than its owner; who may stop the process by a signal may do it here.
    let (uid, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if uid != own && uid != 0 {
        tracing::warn!(uid, "somebody else than the gateway's owner was refused at its control socket");
        return Ok(());
    }
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    timeout(COMMAND.1, BufReader::new(reading.take(COMMAND.0)).read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Command::DrainMs(limit)) => drain_by(uid, Duration::from_millis(limit), gateway, told, &mut writing).await,
        Ok(Command::Deed(Told { action, subject, detail })) => {
            let noted = gateway.audit().record(Deed::of_tool(uid, action, subject, &detail)).await;
            let answer =
                noted.map_or_else(|error| json!({ "error": error.to_string() }), |()| json!({ "noted": true }));
            answer_with(&mut writing, &answer).await
        }
        Err(error) => answer_with(&mut writing, &json!({ "error": error.to_string() })).await,
    }
}

async fn answer_with(writing: &mut OwnedWriteHalf, answer: &Value) -> std::io::Result<()> {
    writing.write_all(format!("{answer}\n").as_bytes()).await
}

/// Drains, and tells how far that has come until the process begins to stop.
async fn drain_by(
    uid: u32,
    limit: Duration,
    gateway: &Gateway,
    told: &watch::Sender<Option<Instant>>,
    writing: &mut OwnedWriteHalf,
) -> std::io::Result<()> {
    tracing::info!(?limit, "told to drain: no session is opened any more, what is open goes on until then");
    let how = format!("at the latest in {} s.", limit.as_secs());
    gateway.audit().note(Deed::of_tool(uid, Action::GatewayDrain, "", &how));
    gateway.drain();
    told.send_replace(Some((clock::instant() + limit).into()));
    let mut last = None;
    while *gateway.phase().borrow() < Phase::ShuttingDown {
        let open = gateway.open_here().await.ok();
        if open.is_some() && open != last {
            last = open;
            answer_with(writing, &json!({ "sessions": open })).await?;
        }
        sleep(COUNT).await;
    }
    Ok(())
}

/// Returns once a drain is through: nothing is open any more, or its time is up.
pub async fn drained(mut deadline: Deadline, gateway: &Gateway) {
    loop {
        let Some(until) = *deadline.borrow_and_update() else {
            if deadline.changed().await.is_err() {
                // Nobody can ask.
                std::future::pending::<()>().await;
            }
            continue;
        };
        tokio::select! {
            () = sleep_until(until) => return tracing::info!("the time of the drain is up"),
            () = nothing_open(gateway) => return tracing::info!("every session has ended by itself"),
            // The latest word counts.
            Ok(()) = deadline.changed() => {}
        }
    }
}

async fn nothing_open(gateway: &Gateway) {
    while gateway.open_here().await != Ok(0) {
        sleep(COUNT).await;
    }
    // Whoever is told how many are left counts as often, and is to hear of the last one, too.
    sleep(2 * COUNT).await;
}

/// Returns once a signal says so; reads the configuration again at each SIGHUP.
pub async fn until_told_to_stop(gateway: &Gateway, mut reload: Reload) -> anyhow::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => gateway.audit().note(reload.again()),
        }
    }
}

/// Ends everything, and tells the audit log of the `stop`: where its disk hangs, for as long as there is time.
pub async fn end(gateway: &Gateway, server: &ServerHandle, stop: Deed) {
    let until: Instant = (clock::instant() + END_LIMIT).into();
    shut_down(gateway, server).await;
    if !matches!(timeout_at(until, gateway.audit().record(stop)).await, Ok(Ok(()))) {
        tracing::error!("the audit log does not tell of this stop");
    }
}

/// Ends every session as `shutdown`, stores it, and says goodbye to every browser.
async fn shut_down(gateway: &Gateway, server: &ServerHandle) {
    tracing::info!("shutting down");
    match timeout(SHUT_DOWN_LIMIT, gateway.shut_down()).await {
        Ok(Ok(())) => tracing::info!("every session is closed and stored"),
        Ok(Err(error)) => tracing::error!(%error, "the shutdown failed; the next start closes what is open"),
        Err(_) => tracing::error!("the shutdown took too long; the next start closes what is open"),
    }
    if timeout(GOODBYE, gateway.deserted()).await.is_err() {
        gateway.hang_up();
        if timeout(GOODBYE, gateway.deserted()).await.is_err() {
            tracing::info!("browsers that did not take their goodbye are cut off");
        }
    }
    server.stop(true).await;
}
