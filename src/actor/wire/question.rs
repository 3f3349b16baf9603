//! The prompt that waits for the user who types, and its answer. Knows no target.

use secrecy::SecretString;
use tokio::sync::oneshot;

use super::{ToSocket, Wire};
use crate::ssh::{Prompt, PromptKind};

/// A prompt that waits for its answer.
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) prompt: Prompt,
    reply: oneshot::Sender<Vec<SecretString>>,
}

impl Wire {
    /// Sends a prompt to the user who types, now or once they attach.
    pub(in crate::actor) fn ask(&self, prompt: Prompt, reply: oneshot::Sender<Vec<SecretString>>) {
        let id = self.last_prompt.get() + 1;
        self.last_prompt.set(id);
        for viewer in self.viewers.borrow().iter().filter(|viewer| viewer.kind.interactive) {
            viewer.send(ToSocket::Ask(id, prompt.clone()));
        }
        self.pending.replace(Some(Pending { id, prompt, reply }));
    }

    /// Passes an answer on, or withdraws the prompt if the user may not answer it. Returns whether it fits the one that
    /// waits.
    pub(in crate::actor) fn answer(&self, id: u64, values: Vec<SecretString>, trusts: bool) -> bool {
        let fits = |pending: &mut Pending| pending.id == id && pending.prompt.fields.len() == values.len();
        let Some(pending) = self.pending.borrow_mut().take_if(fits) else {
            return false;
        };
        let may = trusts || pending.prompt.kind != PromptKind::SharedHostKey;
        if may && pending.reply.send(values).is_err() {
            tracing::debug!("the question was withdrawn before its answer came");
        }
        true
    }

    /// Withdraws the waiting prompt, if any.
    pub(in crate::actor) fn forget_question(&self) {
        self.pending.replace(None);
    }
}
