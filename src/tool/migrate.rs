//! `pulsegate migrate`: applies the steps of the schema, and reverts them. Knows no SQL of its own: the steps hold it.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::json;

use super::{Report, ToolContext, nodes, plural, progress::Progress, stores};
use crate::{
    cli::Migrate,
    console,
    store::{
        Journal,
        mysql::MySqlStore,
        schema::Step,
        sqlite::{self, SqliteStore},
    },
};

/// The step from which on the records tell whether a gateway serves on them.
const LEASES: i64 = 5;

/// A store with a schema.
enum Place {
    /// The file in the data directory.
    File,
    /// The server.
    Server(Box<MySqlStore>),
}

/// A step and whether it was applied.
type Taken = (Step, bool);

/// Runs `pulsegate migrate`.
pub async fn run(ctx: &ToolContext, options: &Migrate) -> anyhow::Result<Report> {
    let mut places = vec![Place::File];
    places.extend(stores::records(ctx).map(|records| Place::Server(Box::new(records))));
    if options.status {
        return status(ctx, &places).await;
    }
    if options.down {
        refuse_newer(&places).await?;
    }
    if options.dry_run {
        return dry_run(ctx, &places, options.down).await;
    }
    if options.down { down(ctx, &places, options).await } else { up(ctx, &places, options).await }
}

impl Place {
    fn name(&self, ctx: &ToolContext) -> String {
        match self {
            Self::File => ctx.database().display().to_string(),
            Self::Server(_) => "the MySQL records".to_owned(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::File => "sqlite",
            Self::Server(_) => "mysql",
        }
    }

    async fn schema(&self, ctx: &ToolContext) -> anyhow::Result<Vec<Taken>> {
        match self {
            Self::File if !ctx.database().exists() => Ok(sqlite::STEPS.map(|step| (step, false)).to_vec()),
            Self::File => Ok(SqliteStore::look(&ctx.database()).await?.schema().await?),
            Self::Server(server) => server.schema().await.context("store.records"),
        }
    }

    async fn migrate(&self, ctx: &ToolContext, lock: bool, tell: impl FnMut(&Step)) -> anyhow::Result<()> {
        match self {
            Self::File => Ok(SqliteStore::migrate(&ctx.database(), tell).await?),
            Self::Server(server) => server.migrate(lock, tell).await.context("store.records"),
        }
    }

    async fn migrate_down(&self, ctx: &ToolContext, lock: bool) -> anyhow::Result<Option<Step>> {
        match self {
            Self::File => Ok(SqliteStore::migrate_down(&ctx.database()).await?),
            Self::Server(server) => server.migrate_down(lock).await.context("store.records"),
        }
    }
}

async fn status(ctx: &ToolContext, places: &[Place]) -> anyhow::Result<Report> {
    let (mut text, mut stores, mut pending) = (Vec::new(), Vec::new(), 0);
    for place in places {
        let schema = place.schema(ctx).await?;
        text.push(format!("{} ({})", place.name(ctx), place.kind()));
        text.extend(schema.iter().map(|(step, taken)| {
            format!("  {:04}  {:<8} {}", step.version, if *taken { "taken" } else { "pending" }, step.name)
        }));
        pending += schema.iter().filter(|(_, taken)| !taken).count();
        let steps = schema.iter().map(|(step, taken)| json!({"step": step.version, "name": step.name, "taken": taken}));
        stores.push(json!({"store": place.kind(), "steps": steps.collect::<Vec<_>>()}));
    }
    text.push(match pending {
        0 => "up to date".to_owned(),
        _ => format!("{pending} pending: `pulsegate migrate` takes them"),
    });
    Ok(Report { text: text.join("\n"), json: json!({"stores": stores, "pending": pending}), code: 0 })
}

async fn dry_run(ctx: &ToolContext, places: &[Place], down: bool) -> anyhow::Result<Report> {
    let (mut text, mut stores) = (Vec::new(), Vec::new());
    for place in places {
        let schema = place.schema(ctx).await?;
        let would: Vec<(Step, &str)> = if down {
            let newest = schema.into_iter().rev().find(|(_, taken)| *taken);
            newest.into_iter().map(|(step, _)| (step, step.down)).collect()
        } else {
            schema.into_iter().filter(|(_, taken)| !taken).map(|(step, _)| (step, step.up)).collect()
        };
        text.push(format!("-- {} ({}): {} to run", place.name(ctx), place.kind(), plural(would.len() as u64, "step")));
        for (step, sql) in &would {
            text.push(format!("-- step {:04}, {}\n{}", step.version, step.name, sql.trim_end()));
        }
        let steps = would.iter().map(|(step, sql)| json!({"step": step.version, "name": step.name, "sql": sql}));
        stores.push(json!({"store": place.kind(), "steps": steps.collect::<Vec<_>>()}));
    }
    Ok(Report { text: text.join("\n"), json: json!({"stores": stores}), code: 0 })
}

async fn up(ctx: &ToolContext, places: &[Place], options: &Migrate) -> anyhow::Result<Report> {
    crate::data_dir::make_private(&ctx.config.node.data_dir)?;
    let _lock = ctx.lock().await?;
    let (mut text, mut taken) = (Vec::new(), Vec::new());
    for place in places {
        let pending = place.schema(ctx).await?.iter().filter(|(_, taken)| !taken).count();
        let mut progress = Progress::new(place.kind(), pending as u64, ctx.clock);
        let tell = |step: &Step| {
            progress.advance(1);
            text.push(format!("{}: took step {:04}, {}", place.kind(), step.version, step.name));
            taken.push(json!({"store": place.kind(), "step": step.version, "name": step.name}));
        };
        place.migrate(ctx, !options.no_lock, tell).await?;
    }
    if text.is_empty() {
        text.push("up to date: nothing to do".to_owned());
    }
    Ok(Report { text: text.join("\n"), json: json!({"taken": taken}), code: 0 })
}

async fn down(ctx: &ToolContext, places: &[Place], options: &Migrate) -> anyhow::Result<Report> {
    let _lock = ctx.lock().await?;
    let mut newest = Vec::new();
    for place in places {
        if let Some((step, _)) = place.schema(ctx).await?.into_iter().rev().find(|(_, taken)| *taken) {
            newest.push((place, step));
        }
    }
    // The stores number their steps alike: only those that have the newest one revert it.
    let last = newest.iter().map(|(_, step)| step.version).max();
    newest.retain(|(_, step)| Some(step.version) == last);
    if newest.is_empty() {
        return Ok(Report { text: "no step was taken".to_owned(), json: json!({"taken_back": []}), code: 0 });
    }
    for (place, step) in &newest {
        let (name, lost) = (place.name(ctx), loses(step));
        console::mention(&format!("{name}: step {:04}, {}, goes, and with it {lost}", step.version, step.name));
        if matches!(place, Place::File) && step.down.contains("outbox") {
            refuse_to_forget(ctx).await?;
        }
        if let Place::Server(server) = place
            && step.version >= LEASES
        {
            refuse_under_others(server).await?;
        }
    }
    if !options.yes && !is_confirmed()? {
        let text = "nothing was changed: say `--yes`, or answer `yes` on a terminal".to_owned();
        return Ok(Report { json: json!({"error": text}), text, code: 2 });
    }
    let (mut text, mut back) = (Vec::new(), Vec::new());
    for (place, _) in newest {
        if let Some(step) = place.migrate_down(ctx, !options.no_lock).await? {
            text.push(format!("{}: took back step {:04}, {}", place.kind(), step.version, step.name));
            back.push(json!({"store": place.kind(), "step": step.version, "name": step.name, "lost": loses(&step)}));
        }
    }
    Ok(Report { text: text.join("\n"), json: json!({"taken_back": back}), code: 0 })
}

/// Refuses while records have a step of a newer release, before the file loses one: the stores number their steps alike.
async fn refuse_newer(places: &[Place]) -> anyhow::Result<()> {
    for place in places {
        if let Place::Server(server) = place
            && let Some(step) = server.ahead().await.context("store.records")?
        {
            bail!(
                "the records have step {step} of a newer release: only that one can take it back; nothing was changed"
            );
        }
    }
    Ok(())
}

/// Refuses while another gateway serves on the same records: the lock of the data directory stops none but its own.
async fn refuse_under_others(server: &MySqlStore) -> anyhow::Result<()> {
    let serving = nodes::serving(server).await?;
    if !serving.is_empty() {
        let names = serving.iter().map(|node| node.0.as_str()).collect::<Vec<_>>().join(", ");
        bail!(
            "gateways serve on the same records: {names}; stop each of them (SIGTERM, or `pulsegate drain`); nothing was changed"
        );
    }
    Ok(())
}

/// Refuses while the outbox holds writes for the records, which are nowhere else.
async fn refuse_to_forget(ctx: &ToolContext) -> anyhow::Result<()> {
    let waiting = SqliteStore::look(&ctx.database()).await?.outbox_len().await?;
    if waiting > 0 {
        bail!(
            "{} have yet to reach the records and stand in the outbox alone: run `pulsegate doctor --repair` first",
            plural(waiting, "session")
        );
    }
    Ok(())
}

fn is_confirmed() -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    std::io::stderr().write_all(b"Take it back? Only `yes` does: ")?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Returns the data that is lost when a step is reverted, derived from its statements.
fn loses(step: &Step) -> String {
    let code = step.down.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join(" ");
    let lost =
        code.split(';').filter_map(|statement| match statement.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["DROP", "TABLE", table] => Some(format!("the table {table} with all its rows")),
            ["ALTER", "TABLE", table, "DROP", "COLUMN", column] => Some(format!("the column {table}.{column}")),
            ["DROP", "INDEX", index, ..] => Some(format!("the index {index}")),
            _ => None,
        });
    let lost: Vec<String> = lost.collect();
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}

/// Returns a number with its noun: `1 step`, `2 steps`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mysql;

    #[test]
    fn what_a_step_back_loses_is_read_off_its_statements() {
        let lost: Vec<String> = sqlite::STEPS.iter().map(loses).collect();
        assert_eq!(
            lost,
            [
                "the table session_records with all its rows",
                "the table session_events with all its rows",
                "the table nodes with all its rows",
                "the table outbox with all its rows, the column nodes.incarnation, the column session_events.chain_hash",
                "the table node_commands with all its rows, the column nodes.serve_for, the column nodes.holder",
                "the table people_version with all its rows, the table tokens with all its rows, the table users with all its rows",
                "the table audit_log with all its rows",
                "the column users.invitation, the column users.second_factor",
                "the table targets with all its rows",
                "the table webhook_dead_letters with all its rows, the table webhooks with all its rows",
                "the table view_key with all its rows",
                "the column users.identity",
                "the column targets.via",
                "the table sign_ins with all its rows",
                "the column users.enrolment",
                "the index idx_sign_ins_session, the column sign_ins.provider_session",
                "the index idx_tokens_user",
            ]
        );
    }

    #[test]
    fn every_statement_of_a_step_back_is_understood() {
        for step in sqlite::STEPS.iter().chain(&mysql::STEPS) {
            let statements = step.down.matches(';').count();
            assert_eq!(loses(step).split(", ").count(), statements, "{}: {}", step.version, loses(step));
        }
    }
}
