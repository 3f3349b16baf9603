//! `pulsegate target import`: imports the targets that a file describes, and shows them before anything is written.
//! Reads no other file that it names, and no secret.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context, bail};
use serde_json::json;

use super::{Report, ToolContext};
use crate::{
    cli::ImportTargets,
    core::{
        audit::Action,
        import::{Additions, Known, MAX_FILE_BYTES, Plan, Reading, Remark, Step, ansible, plan, ssh_config},
        people::Directory,
        target::{Auth, Target},
        visible::made_visible,
    },
    store::people::{Change, PeopleStore},
};

/// Maximum length of a line of the table, in characters.
const MAX_CHARS_SHOWN: usize = 200;

/// Runs `pulsegate target import`.
pub async fn run(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    directory: &Directory,
    options: ImportTargets,
) -> anyhow::Result<Report> {
    let ImportTargets { ssh_config: config, ansible: inventory, dry_run, skip_bad, tags, username } = options;
    let reading: Reading = match (config, inventory) {
        (Some(path), _) => ssh_config::read(&text(&path)?),
        (None, Some(path)) => ansible::read(&text(&path)?),
        (None, None) => bail!("give --ssh-config FILE or --ansible FILE"),
    };
    let additions = Additions { username, tags };
    let plan = plan(reading, &additions, &directory.targets, |name| known(ctx, name));
    let refused = !plan.mistakes.is_empty() && !skip_bad;
    let mut late = Vec::new();
    if !refused && !dry_run {
        late = written(ctx, store, directory, &plan).await?;
    }
    Ok(report(&plan, refused, dry_run, &late))
}

/// Returns a target of the configuration.
fn known<'a>(ctx: &'a ToolContext, name: &str) -> Option<Known<'a>> {
    let target = ctx.config.targets.iter().find(|target| target.name == name)?;
    let via = target.via.iter().map(String::as_str).collect();
    Some(Known { username: &target.username, port: target.port, via })
}

fn text(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).with_context(|| format!("{shown} is no text"))?;
    if text.len() > MAX_FILE_BYTES {
        bail!("{shown} has more than {MAX_FILE_BYTES} bytes");
    }
    Ok(text)
}

/// Carries out the plan, each target by itself, and returns the names of those that were changed meanwhile.
async fn written(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    directory: &Directory,
    plan: &Plan,
) -> anyhow::Result<Vec<String>> {
    let mut late = Vec::new();
    for step in plan.in_order() {
        let (action, change) = match step {
            Step::Add(public) => {
                (Action::TargetCreate, Change::AddTarget(Target::new(public.clone(), Auth::PROMPT, (ctx.utc)())))
            }
            Step::Change(public) => {
                let Some(before) = directory.targets.get(&public.name) else { continue };
                let after = before.changed(public.clone(), before.auth.clone(), (ctx.utc)());
                (Action::TargetChange, Change::ReplaceTarget(after, before.changed_at))
            }
            Step::Equal(_) => continue,
        };
        let done = store.change(change).await.context(
            "the targets cannot be written; what was written so far stays, and the \
            same import goes on from there",
        )?;
        if done {
            ctx.did(action, step.name(), "Imported.").await;
            if ctx.is_unaudited() {
                bail!(
                    "what was written so far stays, and the same import goes on from there once the log can be written"
                );
            }
        } else {
            late.push(step.name().to_owned());
        }
    }
    Ok(late)
}

fn report(plan: &Plan, refused: bool, dry_run: bool, late: &[String]) -> Report {
    let mut text = String::new();
    let mut names: [Vec<&str>; 3] = Default::default();
    let [added, changed, equal] = &mut names;
    for (line, step, notes) in &plan.steps {
        let (word, what) = match step {
            Step::Add(public) => {
                added.push(&public.name);
                ("add", public.place())
            }
            Step::Change(public) => {
                changed.push(&public.name);
                ("change", public.place())
            }
            Step::Equal(name) => {
                equal.push(name);
                ("equal", String::new())
            }
        };
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
        row(&mut text, word, *line, &format!("{:<24} {what}{notes}", step.name()));
    }
    let remarks = |text: &mut String, word: &str, remarks: &[Remark]| {
        remarks.iter().for_each(|remark| row(text, word, remark.line, &remark.says));
    };
    remarks(&mut text, "skip", &plan.skipped);
    remarks(&mut text, "BAD", &plan.mistakes);
    late.iter().for_each(|name| row(&mut text, "LATE", 0, &format!("{name} was changed meanwhile; import again")));
    let (skipped, bad) = (plan.skipped.len(), plan.mistakes.len());
    let counts = format!(
        "{} to add, {} to change, {} equal, {skipped} skipped, {bad} wrong",
        added.len(),
        changed.len(),
        equal.len()
    );
    let end = match (refused, dry_run) {
        (true, _) => "nothing was written: correct the wrong lines, or give --skip-bad",
        (false, true) => "nothing was written: leave --dry-run out to do it",
        (false, false) => "done",
    };
    text.push_str(&format!("{counts}; {end}"));
    let shown = |remarks: &[Remark]| {
        remarks.iter().map(|remark| json!({ "line": remark.line, "says": remark.says })).collect::<Vec<_>>()
    };
    let written = !refused && !dry_run;
    let json = json!({ "added": added, "changed": changed, "equal": equal, "skipped": shown(&plan.skipped),
        "mistakes": shown(&plan.mistakes), "late": late, "written": written });
    Report { text, json, code: u8::from(refused || !late.is_empty()) }
}

fn row(text: &mut String, word: &str, line: usize, says: &str) {
    let place = if line == 0 { String::new() } else { format!("line {line}") };
    // Text of a file must not move the reader's cursor.
    text.push_str(&format!("{word:<7} {place:<10} {}\n", made_visible(says, MAX_CHARS_SHOWN)));
}
