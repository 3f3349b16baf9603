//! Reads the file and the environment, merges them, and reads the result over the defaults. Knows no key by name and no
//! rule.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::config::{ConfigError, Map, Source, Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Config, ConfigErrors, Unusable,
    block::Setting,
    mistake::{Place, Report, unknown},
    rules, yaml,
};
use crate::core::seal::Seals;

/// The file that is read when none is named.
pub const DEFAULT_PATH: &str = "config.yaml";

/// The prefix of every key in the environment. A service of this name in Kubernetes sets `PULSEGATE_PORT` and the
/// like; the second underscore keeps them apart.
const PREFIX: &str = "PULSEGATE__";

/// The admin token's variable.
const ADMIN_TOKEN: &str = "PULSEGATE_ADMIN_TOKEN";

/// The fewest characters of an admin token.
const ADMIN_TOKEN_MIN: usize = 32;

/// The variable of the keys that seal credentials; without it they lie in the data directory.
const SEAL_KEY: &str = "PULSEGATE_SEAL_KEY";

/// A configuration without mistakes, and its sources.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The value of every key.
    pub config: Config,
    /// The secrets, which are read from the environment alone.
    pub secrets: Secrets,
    /// The file that was read; `None`: there was none and the defaults hold.
    pub file: Option<PathBuf>,
    /// The file that was asked for; `None`: `./config.yaml`, if there is one.
    pub named: Option<PathBuf>,
    /// Sentences about what lies open and may be meant, as in a container: files with secrets that others may read, a
    /// sign-in by header that every program of this machine can send.
    pub warnings: Vec<String>,
}

/// Secrets of the environment; they have no key in YAML, where they would be left lying about.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `PULSEGATE_ADMIN_TOKEN`, at least 32 characters.
    pub admin_token: Option<SecretString>,
    /// `PULSEGATE_SEAL_KEY`.
    pub seals: Option<Arc<Seals>>,
}

impl Config {
    /// Reads the file at `path`, or `./config.yaml` if there is one, and the environment over it.
    ///
    /// # Errors
    /// Every mistake of both at once. When the file cannot be read or is not YAML, the checks that depend on it are
    /// skipped.
    pub fn load(path: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, ConfigErrors> {
        Self::check(path, env, |_| Vec::new())
    }

    /// As [`load`](Self::load), and with what `look_into` finds wrong inside the files that the configuration names.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        look_into: impl FnOnce(&Self) -> Vec<Unusable>,
    ) -> Result<Loaded, ConfigErrors> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let mut report = Report::new(file.display().to_string());
        let (tree, found) = match fs::read_to_string(file) {
            Ok(text) => (yaml::parse_file(&text, &mut report), true),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => {
                (Some(ValueKind::Nil.into()), false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report.mistake("", format!("{}; where no file is named the defaults hold", cannot_read(&error)));
                (None, false)
            }
            Err(error) => {
                report.mistake("", cannot_read(&error));
                (None, false)
            }
        };
        // The file is read by itself too: a value that the environment replaces may be wrong all the same. A mistake in
        // any other value is then found twice, which the report ignores.
        let of_file = tree.as_ref().and_then(|tree| Self::read(tree.clone(), "", &mut report));
        if of_file.is_some_and(|config| rules::holds_secret(&config))
            && let Some(exposed) = rules::exposed(file)
        {
            report.warn(exposed);
        }
        let mut variables: BTreeMap<String, String> = env.into_iter().collect();
        let overrides = read_environment(&mut variables, &mut report);
        let admin_token = read_admin_token(&mut variables, &mut report);
        let seals = read_seals(&mut variables, &mut report);
        let config = tree.map(|tree| read_merged(tree, overrides, &mut report)).unwrap_or_default();
        look_into(&config).into_iter().for_each(|file| report.unusable(file));
        let warnings = report.finish()?;
        let (file, named) = (found.then(|| file.to_owned()), path.map(Path::to_owned));
        Ok(Loaded { config, secrets: Secrets { admin_token, seals }, file, named, warnings })
    }

    /// Returns the keys whose values differ in `other`, as `session.idle_timeout`.
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        Setting::differing(self, other, "", &mut keys);
        keys
    }

    /// Returns the path of the known_hosts file: the configured one, else `known_hosts` in `node.data_dir`.
    pub fn known_hosts_path(&self) -> PathBuf {
        self.ssh.known_hosts.clone().unwrap_or_else(|| self.node.data_dir.join("known_hosts"))
    }
}

/// Returns the environment of this process, for [`Config::load`]. Bytes that are not UTF-8 become replacement
/// characters.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

fn cannot_read(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// Merges the layers, reads every key, and checks the rules.
fn read_merged(tree: Value, overrides: Vec<(String, String)>, report: &mut Report) -> Config {
    // The merge reads a dot in a top-level key as a path; one level down a key is only a key.
    const ROOT: &str = "root";
    let file = Layer(Map::from([(ROOT.to_owned(), tree)]));
    let merged = overrides
        .into_iter()
        .try_fold(::config::Config::builder().add_source(file), |builder, (key, text)| {
            builder.set_override(format!("{ROOT}.{key}"), text)
        })
        .and_then(|builder| builder.build()?.get::<Value>(ROOT));
    let config = match merged {
        Ok(merged) => Config::read(merged, "", report).unwrap_or_default(),
        Err(error) => {
            report.mistake("", error.to_string());
            return Config::default();
        }
    };
    rules::check(&config, report);
    config
}

/// A layer that is already a tree.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Takes every key that a variable sets, as text; no type is guessed, so `00123e5` stays as it is.
fn read_environment(variables: &mut BTreeMap<String, String>, report: &mut Report) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    Config::keys("", &mut keys);
    let names: Vec<String> = keys.iter().map(|key| variable_of(key)).collect();
    let mut overrides = Vec::new();
    for (key, name) in keys.into_iter().zip(&names) {
        if let Some((source, text)) = take_variable(variables, name, &key, report) {
            report.set_place(&key, Place { source, key: None, value: None });
            overrides.push((key, text));
        }
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in variables.keys().filter(|name| name.starts_with(PREFIX)) {
        report.add(name.clone(), None, "", unknown_variable(name, &known));
    }
    overrides
}

/// Returns the sentence about a variable that sets no key. The known ones are in capitals.
fn unknown_variable(name: &str, known: &[&str]) -> String {
    let name = name.to_uppercase();
    let name = name.trim_end_matches("_FILE");
    match known.iter().find(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with("__"))) {
        Some(key) => format!("is a block; set each of its keys by itself, as {key}"),
        None => unknown(name, known),
    }
}

/// Returns the variable that sets a key: `PULSEGATE__SECTION__KEY`.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Takes a variable's text, or the text of the file that the variable with `_FILE` appended names; returns it with the
/// name of the variable that was used.
fn take_variable(
    variables: &mut BTreeMap<String, String>,
    name: &str,
    key: &str,
    report: &mut Report,
) -> Option<(String, String)> {
    let by_file = format!("{name}_FILE");
    match (variables.remove(name), variables.remove(&by_file)) {
        (Some(_), Some(_)) => {
            report.add(by_file, None, key, format!("must not be set together with {name}"));
            None
        }
        (Some(text), None) => Some((name.to_owned(), text)),
        (None, Some(path)) => match fs::read_to_string(&path) {
            Ok(text) => {
                if let Some(exposed) = rules::exposed(path.as_ref()) {
                    report.warn(format!("{by_file}: {exposed}"));
                }
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Some((by_file, text.strip_suffix('\r').unwrap_or(text).to_owned()))
            }
            Err(error) => {
                report.add(by_file, None, key, format!("names a file that {}", cannot_read(&error)));
                None
            }
        },
        (None, None) => None,
    }
}

fn read_admin_token(variables: &mut BTreeMap<String, String>, report: &mut Report) -> Option<SecretString> {
    let (source, token) = take_variable(variables, ADMIN_TOKEN, "", report)?;
    let token = SecretString::from(token);
    if token.expose_secret().chars().count() < ADMIN_TOKEN_MIN {
        report.add(source, None, "", format!("must have at least {ADMIN_TOKEN_MIN} characters"));
        return None;
    }
    Some(token)
}

fn read_seals(variables: &mut BTreeMap<String, String>, report: &mut Report) -> Option<Arc<Seals>> {
    let (source, keys) = take_variable(variables, SEAL_KEY, "", report)?;
    let seals = Seals::parse(&keys.into()).map_err(|error| report.add(source, None, "", error.to_string()));
    seals.ok().map(Arc::new)
}
