//! The registry's shutdown: ends every session, then releases this node's lease in the records. Knows no reason for it.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::oneshot;

use super::{RegistryActor, outbox::Records, sink::Sink};
use crate::core::record::{EndReason, SessionId};

impl RegistryActor {
    /// Ends every session; `reply` is sent once all of it is durable.
    pub(super) fn shut_down(&mut self, reply: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        self.shutting_down.push(reply);
        let mut open: Vec<SessionId> = self.index.keys().copied().collect();
        open.sort_unstable();
        for id in open {
            self.end(id, EndReason::Shutdown, "The gateway was shut down.".into(), ctx);
        }
        self.answer_shutdown(ctx);
    }

    /// Replies to the callers of the shutdown once no session is open and every store that answers has all writes;
    /// releases the node's lease before.
    pub(super) fn answer_shutdown(&mut self, ctx: &mut Context<Self>) {
        let done = |sink: &Sink, unread: bool| sink.ledger.is_empty() && !unread || !sink.is_up();
        let recorded = |records: &Records| done(&records.sink, records.is_unread());
        let others = done(&self.view.sink, false) && self.records.as_ref().is_none_or(recorded);
        if self.shutting_down.is_empty() || !self.index.is_empty() || !self.journal.ledger.is_empty() || !others {
            return;
        }
        let asking = std::mem::take(&mut self.shutting_down);
        let (records, settings) = (self.stores.records.clone(), self.settings.clone());
        // Sessions still in the outbox are open in the records: the node has not left before these have their close.
        let told = |records: &Records| records.sink.ledger.is_empty() && !records.is_unread();
        let whole = self.records.as_ref().is_none_or(told);
        let leaving = async move {
            if let Some(records) = records.filter(|_| whole)
                && let Err(error) = records.release_lease(settings.node.clone(), settings.incarnation.clone()).await
            {
                tracing::warn!(%error, "the records could not be told that this node left; its next start tells them");
            }
            asking
        };
        ctx.spawn(leaving.into_actor(self).map(|asking, _, _| {
            for reply in asking {
                if reply.send(()).is_err() {
                    tracing::debug!("nobody waits for the shutdown any more");
                }
            }
        }));
    }
}
