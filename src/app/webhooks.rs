//! The webhooks of the configuration, which receive the audit log.

use std::{fs, sync::Arc};

use secrecy::SecretString;

use crate::{
    actor::webhooks::Webhooks,
    config::{self, Config, Unusable},
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
    let hooks = config.webhooks.iter().enumerate().map(|(index, told)| hook(index, told));
    let hooks = hooks.collect::<Result<Vec<_>, _>>()?;
    for hook in &hooks {
        cursors.position(&hook.name).await?;
    }
    let show = http::audit::shown;
    Ok((!hooks.is_empty()).then(|| Webhooks { hooks, cursors, post: Arc::new(HttpPost), show }))
}

/// Reads the secret of the webhook at this place of the configuration.
///
/// # Errors
/// If it cannot be read or is too short.
pub fn hook(index: usize, told: &config::Webhook) -> Result<Hook, Unusable> {
    let file = told.secret_file.display();
    let unusable = |why| Unusable { key: format!("webhooks[{index}].secret_file"), why };
    let text = fs::read_to_string(&told.secret_file);
    let text = text.map_err(|error| unusable(format!("{file} cannot be read: {error}")))?;
    let secret = text.lines().next().unwrap_or_default().trim();
    if secret.chars().count() < MIN_SECRET_CHARS {
        return Err(unusable(format!("the first line of {file} must have at least {MIN_SECRET_CHARS} characters")));
    }
    Ok(Hook {
        name: told.name.clone(),
        url: told.url.as_str().to_owned(),
        secret: SecretString::from(secret),
        actions: told.actions.clone(),
    })
}
