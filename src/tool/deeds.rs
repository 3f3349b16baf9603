//! Writes command-line actions to the audit log of this data directory: through the gateway that runs on it, or
//! directly if none does. Knows the gateway only by its control socket and its lock.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::{Context, anyhow, bail};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{sleep, timeout},
};

use super::{ToolContext, stores};
use crate::{
    console,
    core::audit::{Action, Deed},
    data_dir,
    store::audit::AuditLog,
};

/// Maximum time for the gateway to write an entry, and for the tries to reach one where something holds the lock.
const NOTED_WITHIN: Duration = Duration::from_secs(10);

/// Time between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The gateway's answer once the audit log has the entry.
const NOTED: &str = r#"{"noted":true}"#;

impl ToolContext {
    /// Writes an action to the audit log. It has been done by then: if the log cannot be written, that is said, and the
    /// call fails once its report is printed, which may be the only place of a secret.
    pub(super) async fn did(&self, action: Action, subject: &str, detail: &str) {
        self.judge(action, subject, self.note(action, subject, detail).await);
    }

    /// As [`did`](Self::did), by a tool that holds the data directory's lock.
    pub(super) async fn did_under_lock(&self, action: Action, subject: &str, detail: &str) {
        self.judge(action, subject, self.write_down(action, subject, detail).await);
    }

    /// Whether an action of this call is in no audit log.
    pub(super) fn is_unaudited(&self) -> bool {
        self.unaudited.load(Ordering::Relaxed)
    }

    fn judge(&self, action: Action, subject: &str, noted: anyhow::Result<()>) {
        if let Err(error) = noted {
            self.unaudited.store(true, Ordering::Relaxed);
            let says = format!("{action} of {subject} is done, but it is in no audit log: {error:#}");
            console::complain(&says, self.json);
        }
    }

    async fn write_down(&self, action: Action, subject: &str, detail: &str) -> anyhow::Result<()> {
        let deed = Deed::of_tool(rustix::process::geteuid().as_raw(), action, subject, detail).bounded();
        let journal = stores::journal(self, &self.database()).await?;
        journal.append(vec![((self.utc)(), deed)]).await.context("the journal cannot be written")
    }

    async fn note(&self, action: Action, subject: &str, detail: &str) -> anyhow::Result<()> {
        let folder = &self.config.node.data_dir;
        data_dir::make_private(folder)?;
        let line = format!("{}\n", json!({ "deed": { "action": action, "subject": subject, "detail": detail } }));
        let begun = (self.clock)();
        loop {
            if let Some(_lock) = data_dir::try_lock(folder)? {
                return self.write_down(action, subject, detail).await;
            }
            let unheard = match timeout(NOTED_WITHIN, self.ask_gateway(&line)).await {
                Ok(Ok(answer)) if answer == NOTED => return Ok(()),
                // One that starts, or whose disk is busy, may write it a moment later.
                Ok(Ok(answer)) => anyhow!("the gateway says {answer}"),
                Ok(Err(error)) => error,
                Err(_) => bail!("the gateway takes too long"),
            };
            if (self.clock)().saturating_sub(begun) >= NOTED_WITHIN {
                return Err(unheard);
            }
            // Another command holds the lock for a moment, or a gateway that starts or stops does.
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Returns the gateway's answer; the error if there is no gateway, or it went without one.
    async fn ask_gateway(&self, line: &str) -> anyhow::Result<String> {
        let socket = self.config.node.data_dir.join(data_dir::CONTROL);
        let stream = UnixStream::connect(&socket).await;
        let stream = stream.with_context(|| format!("the gateway cannot be reached at {}", socket.display()))?;
        let (reading, mut writing) = stream.into_split();
        writing.write_all(line.as_bytes()).await?;
        let answer = BufReader::new(reading).lines().next_line().await?;
        answer.context("the gateway did not take it; are you its owner?")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tokio::net::UnixListener;

    use super::*;
    use crate::{
        cli::{CreateToken, TokenCommand, Tool},
        store::{audit::AuditQuery, sqlite::SqliteStore},
        tool::{self, tests::context},
    };

    #[tokio::test]
    async fn an_act_is_written_once_another_command_has_let_go_of_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let ctx = context(folder.path(), || Duration::ZERO);
        let held = data_dir::try_lock(folder.path()).unwrap().unwrap();
        // The first look finds the lock held, and no gateway.
        tokio::join!(ctx.did(Action::UserCreate, "ada", "Added."), async move { drop(held) });
        assert!(!ctx.is_unaudited());
        let log = SqliteStore::look(&ctx.database()).await.unwrap();
        let log = log.entries(AuditQuery { limit: 9, ..AuditQuery::default() }).await.unwrap().entries;
        let told: Vec<_> = log.iter().map(|entry| (entry.deed.action, entry.deed.subject.as_str())).collect();
        assert_eq!(told, [(Action::UserCreate, "ada")]);
    }

    #[tokio::test]
    async fn a_gateway_that_could_not_write_an_act_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let ctx = context(folder.path(), || Duration::ZERO);
        let _held = data_dir::try_lock(folder.path()).unwrap().unwrap();
        let control = UnixListener::bind(folder.path().join(data_dir::CONTROL)).unwrap();
        let gateway = async {
            for answer in [r#"{"error":"the audit log cannot be written"}"#, NOTED] {
                let (mut stream, _) = control.accept().await.unwrap();
                BufReader::new(&mut stream).read_line(&mut String::new()).await.unwrap();
                stream.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ctx.did(Action::UserCreate, "ada", "Added.") => assert!(!ctx.is_unaudited()),
            () = gateway => {}
        }
    }

    #[tokio::test]
    async fn an_act_that_is_in_no_log_is_reported_and_its_command_fails() {
        static MINUTES: AtomicU64 = AtomicU64::new(0);
        let folder = tempfile::tempdir().unwrap();
        let ctx = context(folder.path(), || Duration::from_secs(60 * MINUTES.fetch_add(1, Ordering::Relaxed)));
        let _held = data_dir::try_lock(folder.path()).unwrap().unwrap();
        let (user, name) = ("admin".to_owned(), "ci".to_owned());
        let create = TokenCommand::Create(CreateToken { user, name, scopes: Vec::new(), expires: None });
        let report = tool::run(&ctx, Tool::Token(create)).await.unwrap();
        assert_eq!(report.code, 1);
        assert!(report.text.starts_with("pgt_"), "its secret is shown this once: {}", report.text);
    }
}
