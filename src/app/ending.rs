//! How the process learns that it is to end, and how it ends: by a signal, or after `pulsegate drain`. Knows no store.
//!
//! Commands come over a Unix socket in the data directory. A user who may write there may stop the gateway anyhow, so
//! the socket needs no token and no certificate, works whatever the listener is, and a command that reaches it has
//! reached the gateway of this very folder. One line of JSON each way: `{"drain_ms":28800000}`, then `{"sessions":3}`
//! whenever that changes, and the end of the stream when the process begins to stop; or `{"deed":{…}}`, an action of
//! another command, and then `{"noted":true}` once the audit log has it.

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

/// Maximum time for the whole end, up to the last entry of the audit log: the contract's 15 s, less the time to exit.
const END_LIMIT: Duration = Duration::from_secs(14);

/// How long it may take to close everything; what is not closed then is closed by the next start.
const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(10);

/// Maximum time for browsers to leave once they were notified; then they are notified again, and after the same time
/// cut off.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two counts of open sessions while the gateway waits for their end.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum number of simultaneous callers at the control socket.
const MAX_CALLERS: usize = 8;

/// Maximum length of a command in bytes, and maximum time for it to arrive.
const COMMAND: (u64, Duration) = (8 * 1_024, Duration::from_secs(5));

/// A command to a running gateway.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    /// Open no more sessions, and stop once none is open, or after this number of milliseconds.
    DrainMs(u64),
    /// Write a command-line action to the audit log.
    Deed(ToolAction),
}

/// An action on the command line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolAction {
    action: Action,
    subject: String,
    detail: String,
}

/// The latest time at which an operator wants the gateway to stop; `None` without a drain.
pub type Deadline = watch::Receiver<Option<Instant>>;

/// Listens for operators at the socket in `data_dir`, whose lock this process holds. If the socket cannot be created
/// the gateway serves all the same.
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
    // An existing socket was left by a process that is gone: this one holds the lock.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, gateway: Gateway, told: watch::Sender<Option<Instant>>) {
    let (callers, told) = (Arc::new(Semaphore::new(MAX_CALLERS)), Arc::new(told));
    loop {
        let (Ok((stream, _)), Ok(permit)) = (listener.accept().await, callers.clone().acquire_owned().await) else {
            sleep(COUNT_INTERVAL).await;
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

/// Serves one command.
async fn serve(stream: UnixStream, gateway: &Gateway, told: &watch::Sender<Option<Instant>>) -> std::io::Result<()> {
    // The folder may be open to other users than its owner; only those who may stop the process by a signal may do it
    // here.
    let (uid, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if uid != own && uid != 0 {
        tracing::warn!(uid, "a user other than the gateway's owner was refused at its control socket");
        return Ok(());
    }
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    timeout(COMMAND.1, BufReader::new(reading.take(COMMAND.0)).read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Command::DrainMs(limit)) => drain_by(uid, Duration::from_millis(limit), gateway, told, &mut writing).await,
        Ok(Command::Deed(ToolAction { action, subject, detail })) => {
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

/// Drains, and reports the number of open sessions until the process begins to stop.
async fn drain_by(
    uid: u32,
    limit: Duration,
    gateway: &Gateway,
    told: &watch::Sender<Option<Instant>>,
    writing: &mut OwnedWriteHalf,
) -> std::io::Result<()> {
    tracing::info!(?limit, "draining: no session is opened any more; those that are open may go on for `limit`");
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
        sleep(COUNT_INTERVAL).await;
    }
    Ok(())
}

/// Returns once a drain is through: nothing is open any more, or its time is up.
pub async fn drained(mut deadline: Deadline, gateway: &Gateway) {
    loop {
        let Some(until) = *deadline.borrow_and_update() else {
            if deadline.changed().await.is_err() {
                // No operator can ask for a drain.
                std::future::pending::<()>().await;
            }
            continue;
        };
        tokio::select! {
            () = sleep_until(until) => return tracing::info!("the drain's limit has passed; open sessions are ended"),
            () = nothing_open(gateway) => return tracing::info!("every session has ended by itself"),
            // The latest command counts.
            Ok(()) = deadline.changed() => {}
        }
    }
}

async fn nothing_open(gateway: &Gateway) {
    while gateway.open_here().await != Ok(0) {
        sleep(COUNT_INTERVAL).await;
    }
    // The report to the operator counts as often, and must report the last one, too.
    sleep(2 * COUNT_INTERVAL).await;
}

/// Returns at SIGTERM or SIGINT; reloads the configuration at each SIGHUP.
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

/// Ends everything, and writes the `stop` to the audit log: if its disk hangs, waits for as long as there is time.
pub async fn end(gateway: &Gateway, server: &ServerHandle, stop: Deed) {
    let until: Instant = (clock::instant() + END_LIMIT).into();
    shut_down(gateway, server).await;
    if !matches!(timeout_at(until, gateway.audit().record(stop)).await, Ok(Ok(()))) {
        tracing::error!("this stop could not be written to the audit log");
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
    if timeout(FAREWELL_TIMEOUT, gateway.deserted()).await.is_err() {
        gateway.hang_up();
        if timeout(FAREWELL_TIMEOUT, gateway.deserted()).await.is_err() {
            tracing::info!("browsers that did not leave are cut off");
        }
    }
    server.stop(true).await;
}
