//! Secrets in files of the gateway: private keys, passwords. Never reveals their directories.

use std::path::Path;

use russh::keys::{self, PrivateKey};
use secrecy::{ExposeSecret, SecretString};

use super::{
    ConnectError, Credential, Prompt, PromptField, PromptKind,
    auth::MAX_ATTEMPTS,
    person::{Person, clean_line},
};

/// Reads the file of a credential as a login would, as far as no user has to be asked.
///
/// # Errors
/// If a login could not use it.
pub async fn try_file(credential: &Credential) -> Result<(), ConnectError> {
    match credential {
        Credential::KeyFile(path) => without_passphrase(path, &read_secret(path).await?).await.map(drop),
        Credential::PasswordFile(path) => first_line(path).await.map(drop),
        Credential::Password(_)
        | Credential::SealedPassword(_)
        | Credential::SealedKey(_)
        | Credential::Agent
        | Credential::GatewayKey
        | Credential::Certificate
        | Credential::Prompt => Ok(()),
    }
}

/// Reads a private key, asking for its passphrase if it has one; `None` if the user does not know it.
pub(super) async fn private_key(path: &Path, person: &Person) -> Result<Option<PrivateKey>, ConnectError> {
    let text = read_secret(path).await?;
    if let Some(key) = without_passphrase(path, &text).await? {
        return Ok(Some(key));
    }
    for attempt in 0..MAX_ATTEMPTS {
        let prompt = Prompt {
            kind: PromptKind::Password,
            title: format!("Key {}", file_name(path)),
            text: if attempt == 0 { String::new() } else { "That was not the passphrase.".to_owned() },
            fields: vec![PromptField { label: "Passphrase:".to_owned(), echo: false }],
        };
        let Some(answers) = person.ask(prompt).await else { return Ok(None) };
        match decode(&text, answers.into_iter().next()).await {
            Ok(key) => return Ok(Some(key)),
            Err(error) => tracing::debug!(%error, "passphrase not accepted"),
        }
    }
    Ok(None)
}

/// Decodes a private key; `None` if it needs a passphrase.
async fn without_passphrase(path: &Path, text: &SecretString) -> Result<Option<PrivateKey>, ConnectError> {
    if is_encrypted(text.expose_secret()) {
        return Ok(None);
    }
    match decode(text, None).await {
        Ok(key) => Ok(Some(key)),
        Err(keys::Error::KeyIsEncrypted) => Ok(None),
        Err(error) => Err(unusable(path, &format!("is no private key that can be read ({error})"))),
    }
}

/// Whether a key file states that it needs a passphrase; OpenSSH's own format shows it only once decoded.
fn is_encrypted(text: &str) -> bool {
    text.contains("BEGIN ENCRYPTED PRIVATE KEY")
        || text.contains("Proc-Type: 4,ENCRYPTED")
        || (text.starts_with("PuTTY-User-Key-File-") && !text.contains("\nEncryption: none"))
}

/// Decodes a key away from the sessions' thread: bcrypt and Argon2 take their time on purpose.
async fn decode(text: &SecretString, passphrase: Option<SecretString>) -> Result<PrivateKey, keys::Error> {
    let text = text.clone();
    let decoded = tokio::task::spawn_blocking(move || {
        keys::decode_secret_key(text.expose_secret(), passphrase.as_ref().map(ExposeSecret::expose_secret))
    });
    decoded.await.unwrap_or(Err(keys::Error::CouldNotReadKey))
}

/// Reads the password on the first line of a file.
pub(super) async fn first_line(path: &Path) -> Result<SecretString, ConnectError> {
    let text = read_secret(path).await?;
    match text.expose_secret().lines().next() {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line)),
        _ => Err(unusable(path, "has an empty first line")),
    }
}

async fn read_secret(path: &Path) -> Result<SecretString, ConnectError> {
    let text = tokio::fs::read_to_string(path).await;
    text.map(SecretString::from).map_err(|error| unusable(path, &format!("cannot be read ({error})")))
}

/// Returns the error for an unusable file, named without its directory, which stays private.
fn unusable(path: &Path, what: &str) -> ConnectError {
    ConnectError::Credential { cause: format!("the file {} {what}", file_name(path)) }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| clean_line(&name.to_string_lossy()))
}
