//! `pulsegate seal`: makes a new key and seals everything anew with it, in the records and in this gateway's
//! recordings. May be killed at any moment: a key that opens a row stays until the last row is sealed anew, each row is
//! changed by itself, and the next call goes on where this one ended. Also finds for `doctor` the rows and recordings
//! that this gateway cannot open.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{Report, ToolContext, people::open_under_lock};
use crate::{
    cli::SealCommand,
    config::Records,
    core::{
        audit::Action,
        people::{Directory, SecondFactor, User},
        record::UtcMicros,
        seal::{SealKey, Seals, Unopened},
        target::{Auth, Sealed, Target},
        totp,
    },
    data_dir,
    recording::directory::RecordingDir,
    store::people::{Change, PeopleStore},
};

/// Maximum number of passes over the rows: a row that changes meanwhile is checked again, since a gateway that has not
/// yet seen the new key may have sealed it.
const MAX_PASSES: usize = 5;

/// Maximum number of older keys: a file with more than sixteen keys is not read.
const MAX_OLDER_KEYS: usize = 15;

/// Makes the change that replaces a sealed text.
type Again = Box<dyn Fn(String, UtcMicros) -> Change + Send + Sync>;

/// A sealed secret of the records.
pub struct Kept {
    /// Its description, for people.
    pub what: String,
    place: String,
    text: String,
    again: Again,
}

impl Kept {
    /// Returns why it does not open with these keys; `None` if it does.
    pub fn unopened(&self, seals: &Seals) -> Option<Unopened> {
        seals.open(&self.place, &self.text).err()
    }
}

/// Returns all sealed secrets of the records, table by table; a second factor that is being turned on only while it
/// still can be.
pub fn kept(directory: &Directory, now: UtcMicros) -> Vec<Kept> {
    let targets = directory.targets.values().filter_map(of_target);
    let users = directory.users.values();
    let enrolments = users.clone().filter_map(|user| of_enrolment(user, now));
    targets.chain(users.filter_map(of_second_factor)).chain(enrolments).collect()
}

fn of_second_factor(user: &User) -> Option<Kept> {
    let (user, factor) = (user.clone(), user.second_factor.clone()?);
    Some(Kept {
        what: format!("the second factor of {}", user.name),
        place: totp::place(&user.name),
        text: factor.sealed.clone(),
        again: Box::new(move |sealed, now| {
            let second_factor = Some(SecondFactor { sealed, ..factor.clone() });
            let changed_at = user.next_change(now);
            Change::Replace(User { second_factor, changed_at, ..user.clone() }, user.changed_at)
        }),
    })
}

fn of_enrolment(user: &User, now: UtcMicros) -> Option<Kept> {
    let enrolment = user.enrolment.clone().filter(|enrolment| enrolment.waits(now))?;
    let user = user.clone();
    Some(Kept {
        what: format!("the second factor that {} is turning on", user.name),
        place: totp::place(&user.name),
        text: enrolment.sealed.clone(),
        again: Box::new(move |sealed, now| {
            let enrolment = Some(enrolment.clone().sealed_anew(sealed));
            let changed_at = user.next_change(now);
            Change::Replace(User { enrolment, changed_at, ..user.clone() }, user.changed_at)
        }),
    })
}

fn of_target(target: &Target) -> Option<Kept> {
    let (target, kind) = (target.clone(), target.auth.kind);
    let text = target.auth.sealed.clone()?.0;
    Some(Kept {
        what: format!("the {kind} of the target {}", target.public.name),
        place: target.public.seal_context(kind),
        text,
        again: Box::new(move |text, now| {
            let auth = Auth { kind, sealed: Some(Sealed(text)) };
            Change::ReplaceTarget(target.changed(target.public.clone(), auth, now), target.changed_at)
        }),
    })
}

/// Runs `pulsegate seal`.
pub async fn run(ctx: &ToolContext, command: SealCommand) -> anyhow::Result<Report> {
    // A running gateway would go on sealing with the key it knows.
    let _lock = ctx.lock().await?;
    let store = open_under_lock(ctx).await?;
    let seals = ctx.seals()?;
    match command {
        SealCommand::Rotate => rotate(ctx, &*store, seals).await,
        SealCommand::Forget => {
            forget(ctx, &*store, &seals).await?;
            let id = seals.keys().next().map(SealKey::id);
            Ok(Report { text: "the older keys are gone".to_owned(), json: json!({ "key": id }), code: 0 })
        }
    }
}

async fn rotate(ctx: &ToolContext, store: &dyn PeopleStore, seals: Arc<Seals>) -> anyhow::Result<Report> {
    let directory = store.read().await.context("the sealed secrets cannot be read")?;
    let now = (ctx.utc)();
    let mut closed = closed(&directory, &seals, now);
    let way_out = |says| format!("{says} (move it out of the recordings if its key is lost)");
    closed.extend(locked(&recording_dir(ctx, &seals))?.map(way_out));
    if !closed.is_empty() {
        bail!("not begun, since this gateway could not open all of it: {}", closed.join("; "));
    }
    let is_ours = ctx.secrets.seals.is_none();
    let waits = kept(&directory, now).iter().any(|kept| !seals.is_current(&kept.text));
    let waits = waits || !outdated(&recording_dir(ctx, &seals))?.is_empty();
    let keys: Vec<SealKey> = seals.keys().map(again).collect::<Result<_, _>>()?;
    let seals = match (is_ours, waits) {
        // An operator put a key before the others, or a call was killed: the new key is not in use everywhere yet, so
        // that is finished first.
        (_, true) => seals,
        (false, false) => bail!(
            "everything is sealed with the first key of PULSEGATE_SEAL_KEY: put a new one (`openssl rand -hex 32`) on a line \
             before it, and run this again"
        ),
        (true, false) => {
            if keys.len() >= MAX_OLDER_KEYS {
                bail!("there are {} older keys: run `pulsegate seal forget` first", keys.len());
            }
            let seals = Arc::new(Seals::new(SealKey::new(rand::random()), keys));
            data_dir::keep_seal_keys(&ctx.config.node.data_dir, &seals)?;
            seals
        }
    };
    let shared = matches!(ctx.config.store.records, Records::MySql(_));
    let sealed = seal_all(ctx, store, &seals, is_ours && !shared).await;
    let id = seals.keys().next().map(SealKey::id).unwrap_or_default();
    let told = match &sealed {
        Ok(sealed) => format!("{sealed} sealed anew with this key."),
        Err(_) => "Broken off; what was sealed anew before stays.".to_owned(),
    };
    ctx.did_under_lock(Action::SealRotate, &id, &told).await;
    let sealed = sealed?;
    let file = ctx.config.node.data_dir.join(data_dir::SEAL_KEYS);
    let next = match (is_ours, shared) {
        (true, false) => format!(
            "keep a copy of {} elsewhere, and the older one for as long as backups with encrypted recordings of before: no backup holds it",
            file.display()
        ),
        (true, true) => format!(
            "copy {} to the same place on every other gateway of these records and restart each: one that lacks the key opens none \
             of it. Once all have it, run `pulsegate seal forget` on each: it seals that gateway's own recordings anew and drops the older \
             keys. Keep a copy elsewhere, and the older one for as long as backups with encrypted recordings of before: no backup holds it",
            file.display()
        ),
        (false, _) => {
            "give every gateway of these records the same lines and restart it, and run this where recordings are \
                       encrypted; once all have them, the first line alone is enough"
                .to_owned()
        }
    };
    Ok(Report {
        text: format!("{sealed} sealed with the key {id}\n{next}"),
        json: json!({ "key": id, "sealed": sealed }),
        code: 0,
    })
}

/// Seals everything anew, `alone` also without the older keys from then on; returns the number of secrets and
/// recordings.
async fn seal_all(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    seals: &Arc<Seals>,
    alone: bool,
) -> anyhow::Result<usize> {
    let sealed = seal_again(ctx, store, seals).await? + seal_recordings(&recording_dir(ctx, seals))?;
    if alone {
        forget(ctx, store, seals).await?;
    }
    Ok(sealed)
}

/// Removes the keys that open nothing any more.
async fn forget(ctx: &ToolContext, store: &dyn PeopleStore, seals: &Arc<Seals>) -> anyhow::Result<()> {
    if ctx.secrets.seals.is_some() {
        bail!("the keys come from PULSEGATE_SEAL_KEY: take the older lines out there");
    }
    let directory = store.read().await.context("the sealed secrets cannot be read")?;
    if let Some(old) = kept(&directory, (ctx.utc)()).into_iter().find(|kept| !seals.is_current(&kept.text)) {
        bail!("{} is sealed with an older key: run `pulsegate seal rotate`", old.what);
    }
    let recording_dir = recording_dir(ctx, seals);
    seal_recordings(&recording_dir)?;
    recording_dir
        .sync()
        .with_context(|| format!("cannot make {} safe on the disk", recording_dir.folder().display()))?;
    let first = seals.keys().next().map(again).transpose()?.context("there is no key")?;
    data_dir::keep_seal_keys(&ctx.config.node.data_dir, &Seals::new(first, Vec::new()))
}

/// Seals anew everything that is not sealed with the first key, and returns the number of secrets and recordings.
async fn seal_again(ctx: &ToolContext, store: &dyn PeopleStore, seals: &Seals) -> anyhow::Result<usize> {
    let mut sealed = 0;
    for _ in 0..MAX_PASSES {
        let directory = store.read().await.context("the sealed secrets cannot be read")?;
        let kept = kept(&directory, (ctx.utc)());
        let old: Vec<Kept> = kept.into_iter().filter(|kept| !seals.is_current(&kept.text)).collect();
        if old.is_empty() {
            return Ok(sealed);
        }
        for kept in old {
            let secret = seals.open(&kept.place, &kept.text).with_context(|| kept.what.clone())?;
            let text = seals.seal(rand::random(), &kept.place, &secret).context("it is too long to be sealed")?;
            let change = (kept.again)(text, (ctx.utc)());
            sealed +=
                usize::from(store.change(change).await.with_context(|| format!("{} cannot be written", kept.what))?);
        }
    }
    bail!("the sealed secrets kept changing meanwhile; every key was kept: run this again")
}

fn recording_dir(ctx: &ToolContext, seals: &Arc<Seals>) -> RecordingDir {
    RecordingDir::new(&ctx.config.node.data_dir, Some(seals.clone()))
}

fn outdated(recording_dir: &RecordingDir) -> anyhow::Result<Vec<PathBuf>> {
    recording_dir.outdated().with_context(|| format!("cannot look through {}", recording_dir.folder().display()))
}

/// Seals anew the keys of this gateway's recordings that are not sealed with the first key, and returns their number.
fn seal_recordings(recording_dir: &RecordingDir) -> anyhow::Result<usize> {
    let old = outdated(recording_dir)?;
    for path in &old {
        recording_dir.seal_again(path).with_context(|| path.display().to_string())?;
    }
    Ok(old.len())
}

/// Describes the recordings that this gateway cannot open: the first of them with the reason, and the number of others;
/// `None` if there is none.
pub fn locked(recording_dir: &RecordingDir) -> anyhow::Result<Option<String>> {
    let locked =
        recording_dir.locked().with_context(|| format!("cannot look through {}", recording_dir.folder().display()))?;
    let more = match locked.len() {
        0 | 1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    Ok(locked.first().map(|(path, why)| format!("{}{more}: {why}", path.display())))
}

/// Returns the secrets that this gateway cannot open, each with the reason.
pub fn closed(directory: &Directory, seals: &Seals, now: UtcMicros) -> Vec<String> {
    let told = |kept: Kept| kept.unopened(seals).map(|unopened| format!("{}: {unopened}", kept.what));
    kept(directory, now).into_iter().filter_map(told).collect()
}

fn again(key: &SealKey) -> anyhow::Result<SealKey> {
    Ok(key.spelled().expose_secret().parse()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    use tokio::sync::Notify;

    use super::*;
    use crate::{
        core::people::{Enrolment, Role},
        recording::{Policy, RecordingHeader, Settings, recorder::Recorder},
        store::{
            audit::{AuditLog, AuditQuery},
            sqlite::SqliteStore,
        },
        tool::tests::context,
    };

    fn recording_dir(folder: &tempfile::TempDir, keys: &[u8]) -> RecordingDir {
        let mut keys: Vec<_> = keys.iter().map(|key| SealKey::new([*key; 32])).collect();
        let older = keys.split_off(1);
        RecordingDir::new(folder.path(), keys.pop().map(|first| Arc::new(Seals::new(first, older))))
    }

    #[tokio::test]
    async fn the_key_of_each_recording_is_sealed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            recording_dir: recording_dir(&folder, &[1]),
            encrypt: true,
            policy: Policy::BestEffort,
            targets: Vec::new(),
            input: false,
            max_size: 1 << 20,
            compress: false,
            retention: None,
            utc: || UtcMicros(0),
            clock: || Duration::ZERO,
        };
        let recorder = Recorder::start(settings).unwrap();
        let header = || RecordingHeader {
            session: "s".into(),
            username: "ada".into(),
            target: "web-1".into(),
            term: "xterm".into(),
            cols: 80,
            rows: 24,
        };
        for name in ["recordings/a.cast", "recordings/b.cast"] {
            let sender = recorder.open(name.into(), header(), Arc::new(Notify::new())).await.unwrap();
            sender.output(&Bytes::from_static(b"shown"));
            sender.seal().await.unwrap().unwrap();
        }
        let both = recording_dir(&folder, &[2, 1]);
        assert_eq!(outdated(&both).unwrap().len(), 2);
        assert_eq!(seal_recordings(&both).unwrap(), 2);
        assert_eq!((outdated(&both).unwrap().len(), seal_recordings(&both).unwrap()), (0, 0));
        assert_eq!(locked(&recording_dir(&folder, &[2])).unwrap(), None);
        let said = locked(&recording_dir(&folder, &[1])).unwrap().unwrap();
        assert!(said.contains("a.cast (and 1 more): the recording is encrypted: it was sealed with the key"), "{said}");
        assert!(outdated(&RecordingDir::new(&folder.path().join("none"), None)).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_rotation_that_breaks_off_is_told_to_the_audit_log() {
        let folder = tempfile::tempdir().unwrap();
        let ctx = context(folder.path(), || Duration::ZERO);
        let old = ctx.seals().unwrap();
        let sealed = old.seal([1; 12], &totp::place("ada"), &"secret".into()).unwrap();
        let factor = SecondFactor { sealed, step: 8, recovery: vec!["digest".to_owned()], mark: 1 };
        let user = User::new("ada".to_owned(), Role::User, Vec::new(), String::new(), UtcMicros(10));
        let store = SqliteStore::open(&ctx.database()).await.unwrap();
        assert!(store.change(Change::Add(User { second_factor: Some(factor), ..user })).await.unwrap());
        let mut file = SqliteConnectOptions::new().filename(ctx.database()).connect().await.unwrap();
        let refuse = "CREATE TRIGGER no BEFORE UPDATE ON users BEGIN SELECT RAISE(ABORT, 'no'); END";
        sqlx::query(refuse).execute(&mut file).await.unwrap();

        rotate(&ctx, &store, old.clone()).await.unwrap_err();
        let new = ctx.seals().unwrap().keys().next().map(SealKey::id).unwrap();
        assert_ne!(Some(&new), old.keys().next().map(SealKey::id).as_ref(), "a new key is in use");
        let log = store.entries(AuditQuery { limit: 9, ..AuditQuery::default() }).await.unwrap().entries;
        let told: Vec<_> = log.iter().map(|entry| (entry.deed.action, entry.deed.subject.as_str())).collect();
        assert_eq!(told, [(Action::SealRotate, new.as_str())]);
        assert!(log[0].deed.detail.contains(": Broken off;"), "{}", log[0].deed.detail);
    }

    #[test]
    fn a_second_factor_is_sealed_anew_for_its_user() {
        let old = Seals::new(SealKey::new([1; 32]), Vec::new());
        let sealed = old.seal([1; 12], &totp::place("ada"), &"secret".into()).unwrap();
        let factor = SecondFactor { sealed, step: 8, recovery: vec!["digest".to_owned()], mark: 1 };
        let user = User::new("ada".to_owned(), Role::User, Vec::new(), String::new(), UtcMicros(10));
        let user = User { second_factor: Some(factor.clone()), ..user };
        let users = [("ada".to_owned(), user.clone()), ("bob".to_owned(), User { second_factor: None, ..user })].into();
        let [kept] = kept(&Directory { users, ..Directory::default() }, UtcMicros(5)).try_into().ok().unwrap();
        assert_eq!((kept.what.as_str(), kept.unopened(&old)), ("the second factor of ada", None));
        let Change::Replace(changed, before) = (kept.again)("anew".to_owned(), UtcMicros(5)) else {
            panic!("no change")
        };
        assert_eq!(before, UtcMicros(10));
        assert!(changed.changed_at > before);
        assert_eq!(changed.second_factor, Some(SecondFactor { sealed: "anew".to_owned(), ..factor }));
    }

    #[test]
    fn a_second_factor_that_is_being_turned_on_is_sealed_anew_while_it_waits() {
        let begun = UtcMicros(10);
        let user = User::new("ada".to_owned(), Role::User, Vec::new(), String::new(), begun);
        let user = User { enrolment: Some(Enrolment::new("sealed".to_owned(), begun)), ..user };
        let directory = Directory { users: [("ada".to_owned(), user)].into(), ..Directory::default() };
        let [found] = kept(&directory, begun).try_into().ok().unwrap();
        assert_eq!((found.place, found.text.as_str()), (totp::place("ada"), "sealed"));
        let Change::Replace(changed, before) = (found.again)("anew".to_owned(), UtcMicros(50)) else {
            panic!("no change")
        };
        assert_eq!((before, changed.changed_at), (begun, UtcMicros(50)));
        assert_eq!(changed.enrolment, Some(Enrolment::new("anew".to_owned(), begun)), "for as long as it was good");
        assert!(kept(&directory, UtcMicros(i64::MAX)).is_empty(), "what is void hinders nobody");
    }
}
