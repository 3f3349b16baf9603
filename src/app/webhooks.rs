//! The webhooks of the configuration, which receive the audit log.

use std::{fs, sync::Arc};

use anyhow::{Context, ensure};
use secrecy::SecretString;

use crate::{
    actor::webhooks::Webhooks,
    config::{self, Config},
    core::webhook::{Hook, MIN_SECRET_CHARS},
    notify::HttpPost,
    store::audit::WebhookCursorStore,
    web as http,
};

/// Reads the secrets of all webhooks; `None` if there are none. A new webhook begins with the next entry that this
/// start writes.
///
/// # Errors
/// If a secret cannot be read or is too short, or the journal cannot be written.
pub async fn webhooks(config: &Config, cursors: Arc<dyn WebhookCursorStore>) -> anyhow::Result<Option<Webhooks>> {
    let hooks = config.webhooks.iter().map(hook).collect::<anyhow::Result<Vec<_>>>()?;
    for hook in &hooks {
        cursors.position(&hook.name).await?;
    }
    let show = http::audit::shown;
    Ok((!hooks.is_empty()).then(|| Webhooks { hooks, cursors, post: Arc::new(HttpPost), show }))
}

fn hook(told: &config::Webhook) -> anyhow::Result<Hook> {
    let (name, file) = (told.name.clone(), told.secret_file.display());
    let text =
        fs::read_to_string(&told.secret_file).with_context(|| format!("webhook {name}: {file} cannot be read"))?;
    let secret = text.lines().next().unwrap_or_default().trim();
    let enough = secret.chars().count() >= MIN_SECRET_CHARS;
    ensure!(enough, "webhook {name}: the first line of {file} must have at least {MIN_SECRET_CHARS} characters");
    Ok(Hook {
        name,
        url: told.url.as_str().to_owned(),
        secret: SecretString::from(secret),
        actions: told.actions.clone(),
    })
}
