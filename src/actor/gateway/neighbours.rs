//! What the gateway says of the sessions of other nodes, and asks of those nodes. Judges nobody: labels come from who watches
//! them.

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

/// How long another node has to end a session: its own link may take a while to close.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const CONFIRM_EVERY: Duration = Duration::from_millis(20);

/// Readings of one listing at most: where a label decides, a page of the store may hold few rows that match.
const MAX_READS: usize = 20;

/// Rows of one reading where all are read.
const PAGE_ROWS: u32 = 500;

/// What a store calls a session that is not over.
const OPEN: [Status; 3] = [Status::Connecting, Status::Active, Status::Detached];

impl Gateway {
    /// Lists from the records, with what this node knows better, and with the labels of lost nodes.
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
            // What changed between the two readings no longer answers the question.
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

    /// Labels what belongs to a lost node.
    pub(super) fn label(&self, records: &mut [Record]) {
        let (now, seen) = (clock::instant(), self.seen.borrow().clone());
        records.iter_mut().for_each(|record| seen.label(now, record));
    }

    /// Every open session, in no order: as the live view has them, or where that is away those that are served here, and what the
    /// records have of the others. Unreadable at once where both are known to be away.
    pub(super) async fn open_everywhere(&self) -> Result<Vec<Record>, GatewayError> {
        // Who asks a view that is known to be away waits for nothing.
        if self.is_up(LIVE) {
            match self.stores.live.open().await {
                Ok(open) => return Ok(open),
                Err(error) => tracing::debug!(%error, "the live view cannot be read; the records can"),
            }
        }
        // Nor does who asks records that are known to be.
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

    /// A session that is not open here.
    pub(super) async fn find_elsewhere(&self, id: SessionId) -> Result<Option<Record>, GatewayError> {
        let mut found = self.known(id).await?;
        if let Some(record) = &mut found {
            self.label(std::slice::from_mut(record));
        }
        Ok(found)
    }

    /// A session as the records have it; where they are away, as the live view shows it, unless it is known here to be over.
    async fn known(&self, id: SessionId) -> Result<Option<Record>, GatewayError> {
        let unsure = self.are_records_away() && !self.is_over_here(id).await;
        if unsure && let Some(shown) = self.shown(id).await {
            return Ok(Some(shown));
        }
        match self.stores.get(id, self.records_behind()).await {
            Ok(found) => Ok(found),
            // The view was asked.
            Err(error) if unsure => Err(unreadable(error)),
            Err(error) => self.shown(id).await.map(Some).ok_or_else(|| unreadable(error)),
        }
    }

    /// Whether the own journal has its end, behind which nothing comes.
    async fn is_over_here(&self, id: SessionId) -> bool {
        self.stores.journal.get(id).await.ok().flatten().is_some_and(|own| own.is_closed())
    }

    /// Whether there are records, known not to answer: those that hang would say so only once nobody waits any more.
    fn are_records_away(&self) -> bool {
        self.stores.records.is_some() && !self.is_up(RECORDS)
    }

    /// A session of another node, as the live view shows it, or remembers its end. Each node that was seen is asked for the one;
    /// the whole view is read for what may be of a node that was not.
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

    /// Has the node that serves a session end it, and returns once it has.
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

    /// Through the live view, which is quick; through the records where that is away.
    async fn ask_to_end(&self, node: &NodeId, command: Command) -> Result<(), StoreError> {
        match (self.stores.live.send_command(node.clone(), command.clone()).await, &self.stores.records) {
            (Err(error), Some(records)) => {
                tracing::debug!(%node, %error, "the live view carries no command; the records do");
                records.send_command(node.clone(), command, clock::utc()).await
            }
            (sent, _) => sent,
        }
    }

    /// It is closed in the records, or where those are away the live view was told so. That it is in neither proves nothing.
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

    /// How much in the live view was passed over, since no node of these records wrote it.
    pub fn forgeries(&self) -> u64 {
        self.stores.live.forgeries()
    }

    /// Says what is known of every node that shares the stores, this one first.
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

/// The question as a store can answer it: it knows no lost session, only open ones.
fn stored(mut query: ListQuery) -> ListQuery {
    if query.statuses.contains(&Status::Lost) {
        query
            .statuses
            .extend(OPEN.iter().filter(|status| !query.statuses.contains(status)).copied().collect::<Vec<_>>());
    }
    query
}
