//! Audit entries about a target's host key, and about channels that a target opens unasked. Knows no key and no
//! channel.

use std::net::IpAddr;

use tokio::sync::{mpsc, oneshot};

use crate::{
    actor::{SessionDeps, audit::Audit, gateway::OpenSession},
    core::{
        audit::{Action, Deed},
        record::EndReason,
    },
    ssh::{ConnectError, DialEvent},
};

/// Writes the audit entries of one dial.
pub(in crate::actor) struct DialAudit {
    audit: Audit,
    caller: String,
    client_ip: IpAddr,
    target: String,
}

impl DialAudit {
    pub(in crate::actor) fn new(deps: &SessionDeps, request: &OpenSession) -> Self {
        let OpenSession { username, client_ip, to, .. } = request;
        Self { audit: deps.audit.clone(), caller: username.clone(), client_ip: *client_ip, target: to.name.clone() }
    }

    /// Records that the key of `host` is accepted, and lets the dial proceed once the entry is durable.
    pub(in crate::actor) fn trusts(&self, host: &str, detail: &str, proceed: oneshot::Sender<()>) {
        let deed = Deed::done(Action::HostKeyAccept, &self.caller, self.client_ip, host, detail);
        let audit = self.audit.clone();
        actix::spawn(async move {
            match audit.record(deed).await {
                // The dial may have been given up meanwhile.
                Ok(()) => drop(proceed.send(())),
                Err(error) => tracing::warn!(%error, "a host key is not accepted: the audit log cannot be written"),
            }
        });
    }

    /// Notes a channel that the target, or the jump host `hop`, opened unasked.
    pub(in crate::actor) fn unasked(&self, hop: Option<&str>, kind: &str) {
        let at = hop.map(|hop| format!(", at the jump host {hop}")).unwrap_or_default();
        let detail = format!("A channel of the kind {kind} that nobody asked for{at}.");
        self.audit.note(Deed::refused(Action::ChannelRefused, &self.caller, self.client_ip, &self.target, &detail));
    }

    /// Notes channels opened unasked while the link lives, until its last part is gone.
    pub(super) async fn listens(self, mut heard: mpsc::Receiver<DialEvent>) {
        while let Some(event) = heard.recv().await {
            if let DialEvent::Unasked { hop, kind } = event {
                self.unasked(hop.as_deref(), kind);
            }
        }
    }

    /// Notes a host key that was not accepted; ignores other failures.
    pub(in crate::actor) fn failed(&self, error: &ConnectError) {
        if error.reason() == EndReason::HostKeyRejected {
            let (action, why) = (Action::HostKeyRefused, error.to_string());
            self.audit.note(Deed::refused(action, &self.caller, self.client_ip, &self.target, &why));
        }
    }
}
