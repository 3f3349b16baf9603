//! `pulsegate drain`: asks the gateway of this data directory to stop once its sessions have ended, and waits for it.
//! Knows the gateway only by its control socket and its lock.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::{Report, ToolContext, plural};
use crate::{cli::Drain, console, data_dir};

/// Maximum time for the process to end once it stops: its own limits, and some more.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Time between two checks whether the process is gone.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A message of the gateway.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum DrainReply {
    /// The number of open sessions.
    Sessions(u64),
    /// The command was refused.
    Error(String),
}

/// Drains the gateway and reports how many sessions ended by themselves.
pub async fn run(ctx: &ToolContext, options: &Drain) -> anyhow::Result<Report> {
    let folder = &ctx.config.node.data_dir;
    if !folder.is_dir() || !data_dir::is_locked(folder)? {
        bail!("no gateway is running on {}; is this its configuration?", folder.display());
    }
    let socket = folder.join(data_dir::CONTROL);
    let stream = UnixStream::connect(&socket).await.with_context(|| {
        format!("the gateway cannot be reached at {}; SIGTERM ends it, and every session at once", socket.display())
    })?;
    let (reading, mut writing) = stream.into_split();
    let limit = u64::try_from(options.max.as_millis()).context("--max is too long")?;
    writing.write_all(format!("{}\n", json!({ "drain_ms": limit })).as_bytes()).await?;
    let mut lines = BufReader::new(reading).lines();
    let (mut first, mut left) = (None, None);
    // A gateway that dies meanwhile ends the stream as one that stops does.
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line).context("the gateway sent an unknown message")? {
            DrainReply::Sessions(open) => {
                first = first.or(Some(open));
                left = Some(open);
                if !ctx.json {
                    console::mention(&format!("{} left", plural(open, "session")));
                }
            }
            DrainReply::Error(error) => bail!("the gateway refused: {error}"),
        }
    }
    let (Some(first), Some(left)) = (first, left) else {
        bail!("the gateway did not take the command; are you its owner? See its log");
    };
    let stopped = stops(ctx).await?;
    let outcome = if stopped { "the gateway has stopped" } else { "the gateway still runs" };
    let ended = first.saturating_sub(left);
    Ok(Report {
        text: format!("{} ended by themselves, {left} left at the end; {outcome}", plural(ended, "session")),
        json: json!({ "ended": ended, "left": left, "stopped": stopped }),
        code: u8::from(!stopped),
    })
}

/// Whether the process releases its folder in time.
async fn stops(ctx: &ToolContext) -> anyhow::Result<bool> {
    let begun = (ctx.clock)();
    while (ctx.clock)().saturating_sub(begun) < GONE_WITHIN {
        if !data_dir::is_locked(&ctx.config.node.data_dir)? {
            return Ok(true);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(false)
}
