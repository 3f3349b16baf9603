//! The sessions of other nodes, and the requests to those nodes. Judges no node: the labels come from `NodesActor`,
//! which watches them.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Ended, Gateway, GatewayError, Listing, NodeReport, unreadable};
use crate::{
    actor::{
        clock,
        reconciler::{ReconcilerMessage, Sweep},
        registry::RegistryMessage,
        stores::{LIVE, RECORDS},
    },
    core::{
        neighbours::Standing,
        record::{EndReason, NodeId, Record, SessionId, Status},
    },
    store::{Command, ListQuery, StoreError},
};

/// Time another node has to end a session: its link to the target may take a while to close.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// Interval at which the end is checked for.
const CONFIRM_EVERY: Duration = Duration::from_millis(20);

/// Store pages read for one listing at most: if a label decides, a page may hold few rows that match.
const MAX_READS: usize = 20;

/// Rows per page when all open sessions are read.
const PAGE_ROWS: u32 = 500;

/// The statuses of an open session in a store.
const OPEN: [Status; 3] = [Status::Connecting, Status::Active, Status::Detached];

impl Gateway {
    /// Lists from the records, updated with this node's newer state and with the labels of lost nodes.
    pub(super) async fn list_all(&self, query: ListQuery) -> Result<Listing, GatewayError> {
        let statuses = query.statuses.clone();
        let mut query = stored(query);
        let (mut sessions, mut unasked, wanted) = (Vec::new(), None, query.limit.max(1) as usize);
        for _ in 0..MAX_READS {
            let (page, away) = self.stores.list(query.clone(), self.records_behind()).await.map_err(unreadable)?;
            unasked = unasked.or(away);
            let records = page.records;
            let mut fresh = self.ask(|reply| RegistryMessage::Refresh { records, reply }).await?;
            self.label(&mut fresh);
            // A record that changed between the two reads may no longer match the query.
            sessions
                .extend(fresh.into_iter().filter(|record| statuses.is_empty() || statuses.contains(&record.status)));
            query.after = page.next;
            query.limit = u32::try_from(wanted - sessions.len().min(wanted)).unwrap_or(1);
            if query.after.is_none() || query.limit == 0 {
                break;
            }
        }
        Ok(Listing { sessions, next: query.after, as_of: clock::utc(), degraded: self.degraded(unasked) })
    }

    /// Labels the sessions of lost nodes as lost.
    pub(super) fn label(&self, records: &mut [Record]) {
        let (now, seen) = (clock::instant(), self.seen.borrow().clone());
        records.iter_mut().for_each(|record| seen.label(now, record));
    }

    /// Returns every open session, in no order: from the live view, or if that is down this node's own and those of
    /// other nodes from the records. Fails at once with `Unreadable` if both are known to be down.
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
        let mut open = self.ask(RegistryMessage::OpenHere).await?;
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

    /// Finds a session that is not open on this node.
    pub(super) async fn find_elsewhere(&self, id: SessionId) -> Result<Option<Record>, GatewayError> {
        let mut found = self.known(id).await?;
        if let Some(record) = &mut found {
            self.label(std::slice::from_mut(record));
        }
        Ok(found)
    }

    /// Reads a session from the records; if they are down, from the live view, unless this node knows that it is over.
    async fn known(&self, id: SessionId) -> Result<Option<Record>, GatewayError> {
        let unsure = self.are_records_away() && !self.is_over_here(id).await;
        if unsure && let Some(shown) = self.shown(id).await {
            return Ok(Some(shown));
        }
        match self.stores.get(id, self.records_behind()).await {
            Ok(found) => Ok(found),
            // The live view was asked already.
            Err(error) if unsure => Err(unreadable(error)),
            Err(error) => self.shown(id).await.map(Some).ok_or_else(|| unreadable(error)),
        }
    }

    /// Whether this node's journal has its close, which is final.
    async fn is_over_here(&self, id: SessionId) -> bool {
        self.stores.journal.get(id).await.ok().flatten().is_some_and(|own| own.is_closed())
    }

    /// Whether separate records exist and are known to be down: a store that hangs would report it only after the
    /// caller has given up.
    fn are_records_away(&self) -> bool {
        self.stores.records.is_some() && !self.is_up(RECORDS)
    }

    /// Returns a session of another node as the live view shows it, or remembers its end. The view is asked per known
    /// node first, and read as a whole for a session of a node not seen yet.
    pub(super) async fn shown(&self, id: SessionId) -> Option<Record> {
        let seen = self.seen.borrow().clone();
        for (node, ..) in seen.states(clock::instant()) {
            if let Some(shown) = self.stores.live.one_of(node.clone(), id).await.ok()? {
                return Some(shown);
            }
        }
        let open = self.stores.live.open().await.ok()?;
        open.into_iter().find(|shown| shown.id == id && shown.node != *self.node())
    }

    /// Asks the node that serves a session to end it, and returns once it has.
    pub(super) async fn end_elsewhere(
        &self,
        id: SessionId,
        reason: EndReason,
        detail: String,
    ) -> Result<Ended, GatewayError> {
        let found = self.known(id).await?;
        let own = &self.deps.settings.node;
        let Some(node) = found.filter(|record| !record.is_closed() && record.node != *own).map(|record| record.node)
        else {
            return Ok(Ended::NotOpen);
        };
        self.ask_to_end(&node, Command { session: id, reason, detail }).await.map_err(unreadable)?;
        let closed = async {
            while !self.is_closed_there(&node, id).await {
                tokio::time::sleep(CONFIRM_EVERY).await;
            }
        };
        match tokio::time::timeout(CONFIRM_WITHIN, closed).await {
            Ok(()) => Ok(Ended::There),
            Err(_) => Err(GatewayError::Unconfirmed { node }),
        }
    }

    /// Sends the command through the live view, which is quick, or through the records if the view is down.
    async fn ask_to_end(&self, node: &NodeId, command: Command) -> Result<(), StoreError> {
        match (self.stores.live.send_command(node.clone(), command.clone()).await, &self.stores.records) {
            (Err(error), Some(records)) => {
                tracing::debug!(%node, %error, "the live view carries no command; the records do");
                records.send_command(node.clone(), command, clock::utc()).await
            }
            (sent, _) => sent,
        }
    }

    /// Whether the records have the close, or if those are down the live view has it. Its absence from both proves
    /// nothing.
    async fn is_closed_there(&self, node: &NodeId, id: SessionId) -> bool {
        if self.are_records_away()
            && let Ok(is_closed) = self.stores.live.is_closed(node.clone(), id).await
        {
            return is_closed;
        }
        let recorded = match &self.stores.records {
            Some(records) => records.get(id).await,
            None => Ok(None),
        };
        match recorded {
            Ok(record) => record.is_some_and(|record| record.is_closed()),
            Err(_) => self.stores.live.is_closed(node.clone(), id).await.unwrap_or(false),
        }
    }

    /// Returns how many entries of the live view were ignored because no node of these records wrote them.
    pub fn forgeries(&self) -> u64 {
        self.stores.live.forgeries()
    }

    /// Returns a report on every node that shares the stores, this one first.
    pub async fn nodes(&self) -> Vec<NodeReport> {
        let (now, settings, seen) = (clock::instant(), &self.deps.settings, self.seen.borrow().clone());
        let open = self.open_everywhere().await.ok();
        let count =
            |node: &NodeId| open.as_ref().map(|open| open.iter().filter(|one| one.node == *node).count() as u64);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let lease = self.stores.journal.lease(settings.node.clone()).await.ok().flatten();
        let own = NodeReport {
            id: settings.node.clone(),
            own: true,
            standing: Standing::Serving.as_str(),
            epoch: Some(settings.epoch),
            started_at: Some(settings.started_at),
            renewed_at: lease.map(|lease| lease.renewed_at),
            silent_ms: 0,
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

/// Rewrites a query for a store, which knows no lost sessions, only open ones.
fn stored(mut query: ListQuery) -> ListQuery {
    if query.statuses.contains(&Status::Lost) {
        query
            .statuses
            .extend(OPEN.iter().filter(|status| !query.statuses.contains(status)).copied().collect::<Vec<_>>());
    }
    query
}
