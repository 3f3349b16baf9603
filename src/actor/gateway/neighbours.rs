//! The sessions of other nodes, and the requests to those nodes. Judges no node: the labels come from `NodesActor`,
//! which watches them.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Ended, Gateway, GatewayError, NodeReport, overlay::OPEN, unreadable};
use crate::{
    actor::{
        clock,
        reconciler::{ReconcilerMessage, Sweep},
        registry::RegistryMessage,
        stores::{LIVE, RECORDS},
    },
    core::{
        neighbours::Standing,
        record::{EndReason, NodeId, Record, SessionId, UtcMicros},
    },
    store::{Command, ListQuery, StoreError},
};

/// Time another node has to end a session: its link to the target may take a while to close.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// Time after which an end that was asked for through the live view and is not confirmed is asked for through the records
/// too: its node may be cut off from the view alone. It looks there once a second.
const RECORDS_AFTER: Duration = Duration::from_secs(1);

/// Interval at which the end is checked for.
const CONFIRM_EVERY: Duration = Duration::from_millis(20);

/// Time for which a count of all open sessions waits for the records: with the live view's own 2 s less than a scrape
/// of metrics takes at most (10 s unless set otherwise, Prometheus's `scrape_timeout`).
const COUNT_WITHIN: Duration = Duration::from_secs(3);

/// Rows per page when all open sessions are read.
const PAGE_ROWS: u32 = 500;

impl Gateway {
    /// Labels the sessions of lost nodes as lost.
    pub(super) fn label(&self, records: &mut [Record]) {
        let (now, seen) = (clock::instant(), self.seen.borrow().clone());
        records.iter_mut().for_each(|record| seen.label(now, record));
    }

    /// Returns every open session, in no order: from the live view, or if that is down this node's own and those of
    /// other nodes from the records. Fails with `Unreadable` if neither answers in time, at once if that is known.
    pub(super) async fn open_everywhere(&self) -> Result<Vec<Record>, GatewayError> {
        // A live view that is known to be down is not asked: the answer would only be a timeout.
        if self.is_up(LIVE) {
            match self.stores.live.open().await {
                Ok(open) => return Ok(open),
                Err(error) => tracing::debug!(%error, "the live view cannot be read; the records can"),
            }
        }
        // The same for records that are known to be down.
        if self.are_records_away() {
            return Err(GatewayError::Unreadable);
        }
        let own = self.ask(RegistryMessage::OpenHere).await?;
        let late = |_| Err(GatewayError::Unreadable);
        tokio::time::timeout(COUNT_WITHIN, self.with_those_elsewhere(own)).await.unwrap_or_else(late)
    }

    /// Adds the open sessions of other nodes as the records have them.
    async fn with_those_elsewhere(&self, mut open: Vec<Record>) -> Result<Vec<Record>, GatewayError> {
        let Some(records) = &self.stores.records else { return Ok(open) };
        let mut query = ListQuery { statuses: OPEN.to_vec(), limit: PAGE_ROWS, ..ListQuery::default() };
        loop {
            let page = records.list(query.clone()).await.map_err(unreadable)?;
            open.extend(page.records.into_iter().filter(|record| record.node != *self.node()));
            query.after = page.next;
            if query.after.is_none() {
                return Ok(open);
            }
        }
    }

    /// The name of this gateway's node.
    pub fn node(&self) -> &NodeId {
        &self.deps.settings.node
    }

    /// The most sessions of one user that are open at once here.
    pub fn max_per_user(&self) -> u32 {
        self.deps.settings.max_per_user
    }

    /// Finds a session that is not open on this node.
    pub(super) async fn find_elsewhere(&self, id: SessionId) -> Result<Option<Record>, GatewayError> {
        let mut found = self.known(id).await?.map(|known| known.session);
        self.label(found.as_mut_slice());
        Ok(found)
    }

    /// Whether separate records exist and are known to be down: a store that hangs would report it only after the
    /// caller has given up.
    pub(super) fn are_records_away(&self) -> bool {
        self.stores.records.is_some() && !self.is_up(RECORDS)
    }

    /// Asks the node that serves a session to end it, and returns once it has.
    pub(super) async fn end_elsewhere(
        &self,
        id: SessionId,
        reason: EndReason,
        detail: String,
    ) -> Result<Ended, GatewayError> {
        let found = self.known(id).await?.map(|known| known.session);
        let own = &self.deps.settings.node;
        let Some(node) = found.filter(|record| !record.is_closed() && record.node != *own).map(|record| record.node)
        else {
            return Ok(Ended::NotOpen);
        };
        let command = Command { session: id, reason, detail };
        let by_view = self.stores.live.send_command(node.clone(), command.clone()).await;
        if let Err(error) = &by_view {
            tracing::debug!(%node, %error, "the live view carries no command; the records do");
            self.ask_through_records(&node, command.clone()).await.map_err(unreadable)?;
        }
        // Beside the confirmation, which may come while the records do not answer. Whoever gets both ends it once.
        let asking_again = async {
            tokio::time::sleep(RECORDS_AFTER).await;
            if by_view.is_ok()
                && let Err(error) = self.ask_through_records(&node, command).await
            {
                tracing::debug!(%node, %error, "the records carry no command either");
            }
            std::future::pending::<()>().await;
        };
        let confirmed = async {
            tokio::select! { biased; () = self.closed_there(&node, id) => {} () = asking_again => {} }
        };
        match tokio::time::timeout(CONFIRM_WITHIN, confirmed).await {
            Ok(()) => Ok(Ended::There),
            Err(_) => Err(GatewayError::Unconfirmed { node }),
        }
    }

    async fn ask_through_records(&self, node: &NodeId, command: Command) -> Result<(), StoreError> {
        match &self.stores.records {
            Some(records) => records.send_command(node.clone(), command, clock::utc()).await,
            None => Err(StoreError::Refused("no other node reads these records".into())),
        }
    }

    /// Waits until the records have the close, or the live view has it: its node may not reach the records. Neither is
    /// waited for to ask the other, since it may hang. Its absence from both proves nothing.
    async fn closed_there(&self, node: &NodeId, id: SessionId) {
        let recorded = async || match &self.stores.records {
            Some(records) => records.get(id).await.ok().flatten().is_some_and(|record| record.is_closed()),
            None => false,
        };
        let shown = async || self.stores.live.is_closed(node.clone(), id).await.unwrap_or(false);
        tokio::select! {
            biased;
            () = until(recorded) => {}
            () = until(shown) => {}
        }
    }

    /// Returns how many entries of the live view were ignored because no node of these records wrote them.
    pub fn forgeries(&self) -> u64 {
        self.stores.live.forgeries()
    }

    /// Returns a report on every node that shares the stores, this one first.
    pub async fn nodes(&self) -> Vec<NodeReport> {
        let open = self.open_everywhere().await.ok();
        let (now, settings, seen) = (clock::instant(), &self.deps.settings, self.seen.borrow().clone());
        let count =
            |node: &NodeId| open.as_ref().map(|open| open.iter().filter(|one| one.node == *node).count() as u64);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let (standing, renewed_at, silent) = self.own_lease().await;
        let own = NodeReport {
            id: settings.node.clone(),
            own: true,
            standing: standing.as_str(),
            epoch: Some(settings.epoch),
            started_at: Some(settings.started_at),
            renewed_at,
            silent_ms: millis(silent),
            serve_for_ms: self.stores.records.is_some().then(|| millis(settings.serve_for)),
            sessions: count(&settings.node),
        };
        let others = seen.states(now).map(|(node, standing, state)| NodeReport {
            id: node.clone(),
            own: false,
            standing: standing.as_str(),
            epoch: state.node.as_ref().map(|node| node.lease.epoch),
            started_at: state.node.as_ref().map(|node| node.started_at),
            renewed_at: state.node.as_ref().map(|node| node.lease.renewed_at),
            silent_ms: millis(now.saturating_duration_since(state.moved)),
            serve_for_ms: state.node.as_ref().map(|node| millis(node.serve_for)),
            sessions: count(node),
        });
        std::iter::once(own).chain(others).collect()
    }

    /// Returns every node that shares the stores with its standing, this one first. Asks no store.
    pub fn standings(&self) -> Vec<(NodeId, Standing)> {
        let (now, seen) = (clock::instant(), self.seen.borrow().clone());
        let others = seen.states(now).map(|(node, standing, _)| (node.clone(), standing));
        std::iter::once((self.node().clone(), self.shared.lease.borrow().standing())).chain(others).collect()
    }

    /// Returns this node's standing, its newest renewal, and the time since then: where nodes share the records by what
    /// these granted, since its journal notes every renewal.
    pub(super) async fn own_lease(&self) -> (Standing, Option<UtcMicros>, Duration) {
        let lease = self.shared.lease.borrow().clone();
        if let Some(silent) = lease.silent() {
            return (lease.standing(), lease.renewed_at(), silent);
        }
        let noted = self.stores.journal.lease(self.node().clone()).await.ok().flatten();
        (Standing::Serving, noted.map(|noted| noted.renewed_at), Duration::ZERO)
    }

    /// Compares actors and stores now; a dry run changes nothing.
    ///
    /// # Errors
    /// [`GatewayError::Unreadable`] if a store cannot be read, [`GatewayError::Failed`] if the reconciler cannot answer.
    pub async fn sweep(&self, dry_run: bool) -> Result<Sweep, GatewayError> {
        let (reply, swept) = oneshot::channel();
        let message = ReconcilerMessage::Sweep { dry_run, reply };
        self.reconciler.tell(message).map_err(|_| GatewayError::Overloaded)?;
        swept.await.map_err(|_| GatewayError::Failed)?.map_err(unreadable)
    }
}

/// Waits until a store says so.
async fn until(said: impl AsyncFn() -> bool) {
    while !said().await {
        tokio::time::sleep(CONFIRM_EVERY).await;
    }
}
