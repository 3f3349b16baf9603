//! Writes command-line actions to the audit log of this data directory: through the gateway that runs on it, or
//! directly if none does. Knows the gateway only by its control socket and its lock.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::{ToolContext, stores};
use crate::{
    console,
    core::audit::{Action, Deed},
    data_dir,
    store::audit::AuditLog,
};

/// Maximum time for the gateway to write an entry.
const NOTED_WITHIN: Duration = Duration::from_secs(10);

impl ToolContext {
    /// Writes an action to the audit log. It has been done by then, so that a log that cannot be reached is only a
    /// warning: a user who may run this command could change the log's file as well.
    pub(super) async fn did(&self, action: Action, subject: &str, detail: &str) {
        warn(self.note(action, subject, detail).await);
    }

    /// As [`did`](Self::did), by a tool that holds the data directory's lock.
    pub(super) async fn did_under_lock(&self, action: Action, subject: &str, detail: &str) {
        warn(self.write_down(action, subject, detail).await);
    }

    async fn write_down(&self, action: Action, subject: &str, detail: &str) -> anyhow::Result<()> {
        let deed = Deed::of_tool(rustix::process::geteuid().as_raw(), action, subject, detail).bounded();
        let journal = stores::journal(self, &self.database()).await?;
        journal.append(vec![((self.utc)(), deed)]).await.context("the journal cannot be written")
    }

    async fn note(&self, action: Action, subject: &str, detail: &str) -> anyhow::Result<()> {
        let folder = &self.config.node.data_dir;
        if !folder.is_dir() {
            bail!("there is no data directory {} here", folder.display());
        }
        if let Some(_lock) = data_dir::try_lock(folder)? {
            return self.write_down(action, subject, detail).await;
        }
        let line = json!({ "deed": { "action": action, "subject": subject, "detail": detail } });
        timeout(NOTED_WITHIN, self.ask_gateway(&format!("{line}\n"))).await.context("the gateway takes too long")?
    }

    async fn ask_gateway(&self, line: &str) -> anyhow::Result<()> {
        let socket = self.config.node.data_dir.join(data_dir::CONTROL);
        let stream = UnixStream::connect(&socket).await;
        let stream = stream.with_context(|| format!("the gateway cannot be reached at {}", socket.display()))?;
        let (reading, mut writing) = stream.into_split();
        writing.write_all(line.as_bytes()).await?;
        let answer = BufReader::new(reading).lines().next_line().await?;
        match answer.as_deref() {
            Some(r#"{"noted":true}"#) => Ok(()),
            Some(said) => bail!("the gateway says {said}"),
            None => bail!("the gateway did not take it; are you its owner?"),
        }
    }
}

fn warn(noted: anyhow::Result<()>) {
    if let Err(error) = noted {
        console::mention(&format!("warning: this is in no audit log: {error:#}"));
    }
}
