//! `pulsegate selftest`: tries a gateway of its own, from its start to its end, as a browser and an operator see it.
//! Touches no other gateway, and no file outside its temporary folder.

use std::{fmt::Write as _, fs, path::PathBuf, sync::atomic::AtomicBool, time::Duration};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    actor::clock,
    cli::{Tool, Verify},
    config::{Config, Secrets},
    core::record::{EndReason, Record, SessionId},
    data_dir,
    store::{RecordStore, sqlite::SqliteStore},
    tool::{self, Report, ToolContext},
};

/// The gateway under test, as a process.
mod host;
/// A browser's page.
mod page;
/// A signed-in user.
mod visitor;

use host::Host;
use page::Page;
use visitor::Visitor;

/// Maximum time for one step: the start of a gateway is the longest, a second on a small machine.
const STEP_WITHIN: Duration = Duration::from_secs(15);

/// Maximum time until a change is listed: until it is durable, which depends on the disk.
const LISTED_WITHIN: Duration = Duration::from_secs(2);

/// Time between two reads of the list.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One step that was tried.
struct Step {
    name: &'static str,
    took: Duration,
    /// The error, if it failed.
    error: Option<String>,
}

/// The steps so far, in order.
#[derive(Default)]
struct Course(Vec<Step>);

/// A temporary folder; dropping it removes it with everything in it.
struct Folder(PathBuf);

/// Runs the self-test. Reports the time of each step, and ends with the first that fails.
///
/// # Errors
/// If no temporary folder can be created.
pub async fn run() -> anyhow::Result<Report> {
    let folder = Folder::make()?;
    let mut course = Course::default();
    // The course holds the error.
    let passed = walk(&folder, &mut course).await.is_ok();
    Ok(course.report(passed))
}

async fn walk(folder: &Folder, course: &mut Course) -> anyhow::Result<()> {
    let host = course.take("a gateway starts, with a target of its own", Host::start(&folder.0)).await?;
    let visitor = course.take("a one-time link signs in", Visitor::sign_in(&host.link)).await?;
    let id = course.take("a session opens", visitor.opens()).await?;
    let mut page = Page::default();
    course.take("its terminal attaches", attaches(&visitor, &mut page, &id)).await?;
    course.take("what is typed is answered", page.runs("echo here", "here")).await?;
    course.take("the target takes a new size", resizes(&mut page)).await?;
    course.take("after a cut everything goes on at the byte", comes_back(&visitor, &mut page, &id)).await?;
    course.take("the list shows it", lists(&visitor, &id)).await?;
    course.take("it is ended, and its page hears why", ends(&visitor, &mut page, &id)).await?;
    course.take("the gateway stops", host.stop()).await?;
    let record = course.take("the store says why it ended", stored(folder, &id)).await?;
    course.take("its recording is whole", recorded(folder, record)).await
}

async fn attaches(visitor: &Visitor, page: &mut Page, id: &str) -> anyhow::Result<()> {
    visitor.attaches(page, id).await?;
    page.sees("$ ").await
}

async fn resizes(page: &mut Page) -> anyhow::Result<()> {
    page.says(&json!({ "type": "resize", "cols": 100, "rows": 30 })).await?;
    page.runs("size", "100×30").await
}

/// Checks that input typed just before the cut is answered after it, and that nothing is shown twice.
async fn comes_back(visitor: &Visitor, page: &mut Page, id: &str) -> anyhow::Result<()> {
    page.types("echo still here\r").await?;
    page.cut();
    visitor.attaches(page, id).await?;
    page.sees("\nstill here\r\n").await
}

/// Checks that the session is listed as active again, once that is durable.
async fn lists(visitor: &Visitor, id: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let listing = visitor.asks("GET", "/api/v1/sessions?status=active", None).await?;
        let items = listing.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if items.iter().any(|item| item.get("id").and_then(Value::as_str) == Some(id)) {
            return Ok(());
        }
        ensure!(begun.elapsed() < LISTED_WITHIN, "the list of active sessions lacks {id}: {listing}");
        sleep(POLL_INTERVAL).await;
    }
}

async fn ends(visitor: &Visitor, page: &mut Page, id: &str) -> anyhow::Result<()> {
    visitor.asks("DELETE", &format!("/api/v1/sessions/{id}"), None).await?;
    let closed = page.hears("closed").await?;
    let reason = closed.get("reason").and_then(Value::as_str);
    ensure!(reason == Some(EndReason::Terminated.as_str()), "the page heard another reason: {closed}");
    Ok(())
}

async fn stored(folder: &Folder, id: &str) -> anyhow::Result<Record> {
    let id: SessionId = id.parse().context("the gateway gave no session id")?;
    let store = SqliteStore::look(&folder.data_dir().join(data_dir::DATABASE)).await?;
    match store.get(id).await? {
        Some(record) if record.end_reason == Some(EndReason::Terminated) => Ok(record),
        Some(record) => bail!("it is {}, and ended as {:?}", record.status.as_str(), record.end_reason),
        None => bail!("the store does not know it"),
    }
}

async fn recorded(folder: &Folder, record: Record) -> anyhow::Result<()> {
    let place = record.recording.context("it was not recorded")?;
    let mut config = Config::default();
    config.node.data_dir = folder.data_dir();
    let file = folder.data_dir().join(place);
    let ctx = ToolContext {
        config,
        secrets: Secrets::default(),
        warnings: Vec::new(),
        json: true,
        utc: clock::utc,
        clock: clock::since_start,
        unaudited: AtomicBool::new(false),
    };
    let verdict = tool::run(&ctx, Tool::Verify(Verify { file })).await?;
    ensure!(verdict.code == 0 && verdict.json.get("sealed").is_some_and(Value::is_string), "{}", verdict.text);
    Ok(())
}

impl Course {
    /// Takes one step, and notes its result.
    async fn take<T>(
        &mut self,
        name: &'static str,
        step: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        let outcome = match timeout(STEP_WITHIN, step).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("it took longer than {} s", STEP_WITHIN.as_secs())),
        };
        let error = outcome.as_ref().err().map(|error| format!("{error:#}"));
        self.0.push(Step { name, took: begun.elapsed(), error });
        outcome
    }

    fn report(&self, passed: bool) -> Report {
        let mut text = String::new();
        for Step { name, took, error } in &self.0 {
            let (word, why) = error.as_ref().map_or(("ok", String::new()), |error| ("FAILED", format!(": {error}")));
            // Writing to a string does not fail.
            writeln!(text, "{word:<6} {:>6} ms  {name}{why}", took.as_millis()).unwrap_or_default();
        }
        let end = if passed { "everything works" } else { "this gateway does not work here" };
        let steps: Vec<Value> = self.0.iter().map(Step::json).collect();
        let json = json!({ "passed": passed, "steps": steps });
        Report { text: text + end, json, code: u8::from(!passed) }
    }
}

impl Step {
    fn json(&self) -> Value {
        let ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        json!({ "step": self.name, "ok": self.error.is_none(), "ms": ms, "error": self.error })
    }
}

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let name = format!("pulsegate-selftest-{}-{}", std::process::id(), clock::utc().0);
        let folder = Self(std::env::temp_dir().join(name));
        data_dir::make_private(&folder.data_dir())?;
        Ok(folder)
    }

    /// Returns the data directory of its gateway.
    fn data_dir(&self) -> PathBuf {
        self.0.join(host::DATA_DIR)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "the selftest's folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_step_that_fails_is_told_with_its_reason() {
        let mut course = Course::default();
        course.take("begins", async { Ok(()) }).await.unwrap();
        let failed: anyhow::Result<()> = course.take("goes on", async { bail!("it is tired") }).await;
        assert!(failed.is_err());
        let Report { text, json, code } = course.report(false);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("ok ") && lines[0].ends_with("ms  begins"), "{text}");
        assert!(lines[1].starts_with("FAILED ") && lines[1].ends_with("goes on: it is tired"), "{text}");
        assert_eq!((&json["passed"], &json["steps"][1]["error"], code), (&json!(false), &json!("it is tired"), 1));
    }
}
