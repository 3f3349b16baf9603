//! A conventional polling watcher, in a process of its own: a heartbeat per session, a scan of all open ones, and a
//! search for stale rows, in sequence. Knows nothing but its tables.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use sqlx::{Connection, MySqlConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::{MissedTickBehavior, interval},
};

use crate::process::Kept;

/// Interval between two passes.
const PASS: Duration = Duration::from_secs(5);

/// Age at which an untouched row counts as dead, in seconds: longer than any pass takes.
const STALE: i64 = 15;

/// The line it prints after its first pass.
const READY: &str = "ready";

/// Starts a watcher on an empty database and an empty Redis; dropping it stops it.
pub fn start(records: &str, view: SocketAddr, sessions: usize) -> Result<Kept> {
    let (kept, line) = Kept::start_own(&["poller", records, &view.to_string(), &sessions.to_string()])?;
    ensure!(line == READY, "the poller said {line:?}");
    Ok(kept)
}

/// Runs in the watcher's process: pass after pass, until one fails.
pub async fn serve(records: &str, view: SocketAddr, sessions: usize) -> Result<Infallible> {
    let (rows, view) = (MySqlConnection::connect(records).await?, BufStream::new(TcpStream::connect(view).await?));
    let mut poller = Poller { rows, view };
    poller.fill(sessions).await?;
    let mut passes = interval(PASS);
    passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    passes.tick().await;
    poller.pass(sessions).await?;
    println!("{READY}");
    loop {
        passes.tick().await;
        poller.pass(sessions).await?;
    }
}

struct Poller {
    rows: MySqlConnection,
    view: BufStream<TcpStream>,
}

impl Poller {
    async fn fill(&mut self, sessions: usize) -> Result<()> {
        let table = "CREATE TABLE sessions (session_id CHAR(36) PRIMARY KEY, username VARCHAR(64) NOT NULL, \
                     target VARCHAR(64) NOT NULL, status VARCHAR(16) NOT NULL, updated_at BIGINT NOT NULL, \
                     KEY by_status (status))";
        sqlx::query(table).execute(&mut self.rows).await?;
        for nth in 0..sessions {
            let insert = "INSERT INTO sessions VALUES (?, 'admin', 'playground', 'active', UNIX_TIMESTAMP())";
            sqlx::query(insert).bind(id(nth)).execute(&mut self.rows).await?;
        }
        Ok(())
    }

    /// One pass over all sessions.
    async fn pass(&mut self, sessions: usize) -> Result<()> {
        for nth in 0..sessions {
            let beat = "UPDATE sessions SET updated_at = UNIX_TIMESTAMP() WHERE session_id = ?";
            sqlx::query(beat).bind(id(nth)).execute(&mut self.rows).await?;
            self.tell_view(&format!("SET session:{} active EX {STALE}", id(nth))).await?;
        }
        let scan = "SELECT session_id, username, target, status, updated_at FROM sessions WHERE status = 'active'";
        let open = sqlx::query_as::<_, (String, String, String, String, i64)>(scan).fetch_all(&mut self.rows).await?;
        let stale = "SELECT session_id FROM sessions WHERE status = 'active' AND updated_at < UNIX_TIMESTAMP() - ?";
        let stale = sqlx::query_as::<_, (String,)>(stale).bind(STALE).fetch_all(&mut self.rows).await?;
        ensure!(open.len() == sessions && stale.is_empty(), "{} sessions, {} stale", open.len(), stale.len());
        Ok(())
    }

    async fn tell_view(&mut self, command: &str) -> Result<()> {
        self.view.write_all(format!("{command}\r\n").as_bytes()).await?;
        self.view.flush().await?;
        let mut answer = String::new();
        self.view.read_line(&mut answer).await?;
        ensure!(answer.starts_with('+'), "Redis answered {answer}");
        Ok(())
    }
}

/// Returns a session id of the same length as the gateway's.
fn id(nth: usize) -> String {
    format!("{nth:036}")
}
