//! `pulsegate key`: the public keys of the gateway, to be put on its targets. Shows no secret.

use serde_json::json;

use super::{Report, ToolContext};
use crate::{cli::Key, data_dir, ssh::OwnKeys};

/// Prints a key, which is made if there is none yet.
pub fn run(ctx: &ToolContext, options: &Key) -> anyhow::Result<Report> {
    let folder = &ctx.config.node.data_dir;
    data_dir::make_private(folder)?;
    let keys = OwnKeys::new(folder);
    let line = if options.ca { keys.trusted_authority()? } else { keys.authorized_key()? };
    Ok(Report { json: json!({ "key": line }), text: line, code: 0 })
}
