//! A record store, and a journal, over a table that outlives its nodes and a way with faults. Knows no session.

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::{BoxFuture, FutureExt};
use pulsegate::{
    core::record::{Epoch, Incarnation, NodeId, Record, SessionId, Transition, UtcMicros},
    store::{
        Command, Excerpt, Journal, Lease, Leftovers, ListQuery, Node, Page, Position, RecordStore, SharedRecords,
        StoreError, Write,
    },
};
use secrecy::SecretBox;
use tokio::time::Instant;

use super::{
    table::{Table, Watch},
    way::Way,
};

/// The rows of a store: of a server, or of the disk of a host that may die.
#[derive(Clone)]
pub struct Rows {
    name: &'static str,
    table: Arc<Mutex<Table>>,
    watch: Option<Arc<dyn Watch>>,
}

impl Rows {
    /// Returns the rows of the store called `name`.
    pub fn new(name: &'static str, table: Table, watch: Option<Arc<dyn Watch>>) -> Self {
        Self { name, table: Arc::new(Mutex::new(table)), watch }
    }

    /// Locks the table, without a way.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics under this lock")
    }
}

/// The rows as one node reaches them: its records, or its journal.
#[derive(Clone)]
pub struct Remote {
    rows: Rows,
    way: Way,
    /// Whether the disk acknowledges before it has written, which takes as long again.
    hasty: bool,
}

impl Remote {
    /// Reaches `rows` on `way`.
    pub fn new(rows: Rows, way: Way) -> Self {
        Self { rows, way, hasty: false }
    }

    /// Makes it acknowledge what a power cut can still undo.
    pub fn hasty(self) -> Self {
        Self { hasty: true, ..self }
    }

    /// Sends a read.
    fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Table) -> Result<T, StoreError> + Send + Clone + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.send(self.way.clone(), question)
    }

    /// Sends a write.
    fn tell<T: Send + 'static>(
        &self,
        deed: impl Fn(&mut Table) -> Result<T, StoreError> + Send + Clone + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.send(self.way.writing(), deed)
    }

    /// Sends a write that must not be done twice.
    fn tell_once<T: Send + 'static>(
        &self,
        deed: impl Fn(&mut Table) -> Result<T, StoreError> + Send + Clone + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.send(self.way.once(), deed)
    }

    fn send<T: Send + 'static>(
        &self,
        way: Way,
        request: impl Fn(&mut Table) -> Result<T, StoreError> + Send + Clone + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let rows = self.rows.clone();
        async move { way.carry(move || request(&mut rows.table())).await }.boxed()
    }
}

impl RecordStore for Remote {
    fn apply(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (rows, batch) = (self.rows.clone(), Arc::new(batch));
        let deed = move || {
            let mut table = rows.table();
            if table.rejects(&batch) {
                return Err(StoreError::Rejected("a value does not fit".to_owned()));
            }
            table.apply(rows.name, &batch, rows.watch.as_deref());
            Ok(())
        };
        if self.hasty {
            let way = self.way.clone();
            // On the node, so that it is lost with it.
            tokio::task::spawn_local(async move { way.carry(deed).await });
            return async { Ok(()) }.boxed();
        }
        let way = self.way.writing();
        async move { way.carry(deed).await }.boxed()
    }

    fn begin_epoch(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        after: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        self.tell_once(move |table| Ok(table.begin_epoch(node.clone(), incarnation.clone(), after, now)))
    }

    fn renew_lease(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        epoch: Epoch,
        now: UtcMicros,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let lease = Lease { epoch, incarnation, renewed_at: now };
        let (rows, way, sent, owner) = (self.rows.clone(), self.way.once(), Instant::now(), node.clone());
        let renewal = move || {
            rows.table().renew_lease(node.clone(), lease.clone())?;
            if let Some(watch) = &rows.watch {
                watch.moved(rows.name, &node);
            }
            Ok(())
        };
        async move {
            way.carry(renewal).await?;
            if let Some(watch) = &self.rows.watch {
                watch.granted(self.rows.name, &owner, sent);
            }
            Ok(())
        }
        .boxed()
    }

    fn closed_before(&self, before: UtcMicros, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.ask(move |table| Ok(table.closed_before(before, limit)))
    }

    fn delete_closed(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tell_once(move |table| {
            table.delete_closed(&ids);
            Ok(())
        })
    }

    fn lease(&self, node: NodeId) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        self.ask(move |table| Ok(table.lease(&node)))
    }

    fn open_of(
        &self,
        node: NodeId,
        epoch: Epoch,
        after: Option<Position>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.ask(move |table| Ok(table.open_of(&node, epoch, after, limit)))
    }

    fn find_many(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.ask(move |table| Ok(ids.iter().filter_map(|id| table.record(*id).cloned()).collect()))
    }

    fn get(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.ask(move |table| Ok(table.record(id).cloned()))
    }

    fn history(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        self.ask(move |table| Ok(table.history(id).to_vec()))
    }

    fn excerpt(&self, id: SessionId) -> BoxFuture<'_, Result<Excerpt, StoreError>> {
        self.ask(move |table| Ok(table.excerpt(id)))
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.ask(move |table| Ok(table.list(&query)))
    }
}

impl SharedRecords for Remote {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, StoreError>> {
        self.ask(|table| Ok(table.nodes()))
    }

    fn fence(&self, node: NodeId, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (rows, way) = (self.rows.clone(), self.way.once());
        let fencing = move || {
            let mut table = rows.table();
            let held = table.held();
            let fenced = table.fence(&node, &lease);
            if let Some(watch) = rows.watch.as_ref().filter(|_| fenced) {
                watch.fenced(rows.name, &held);
            }
            Ok(fenced)
        };
        async move { way.carry(fencing).await }.boxed()
    }

    fn release_lease(&self, node: NodeId, incarnation: Incarnation) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tell(move |table| {
            table.release_lease(&node, &incarnation);
            Ok(())
        })
    }

    fn send_command(&self, node: NodeId, command: Command, now: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tell(move |table| {
            table.send_command(node.clone(), command.clone(), now);
            Ok(())
        })
    }

    fn take_commands(&self, node: NodeId) -> BoxFuture<'_, Result<Vec<Command>, StoreError>> {
        self.tell_once(move |table| Ok(table.take_commands(&node)))
    }

    fn remove_gone(&self, gone: Leftovers) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.ask(move |table| Ok(table.remove_gone(&gone)))
    }

    fn view_key(&self, proposed: [u8; 32]) -> BoxFuture<'_, Result<SecretBox<[u8; 32]>, StoreError>> {
        self.tell(move |table| Ok(SecretBox::new(Box::new(table.view_key(proposed)))))
    }
}

impl Journal for Remote {
    fn outbox_page(&self, after: Option<SessionId>, limit: u32) -> BoxFuture<'_, Result<Vec<Write>, StoreError>> {
        self.ask(move |table| Ok(table.outbox_page(after, limit)))
    }

    fn history_page(
        &self,
        id: SessionId,
        after: Option<(u64, u64)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Transition>, StoreError>> {
        self.ask(move |table| Ok(table.history_page(id, after, limit)))
    }

    fn outbox_remove(&self, settled: Vec<(SessionId, u64)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tell(move |table| {
            table.outbox_remove(&settled);
            Ok(())
        })
    }

    fn unsettled(&self, ids: Vec<SessionId>) -> BoxFuture<'_, Result<Vec<SessionId>, StoreError>> {
        self.ask(move |table| Ok(table.unsettled(&ids)))
    }

    fn outbox_len(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.ask(move |table| Ok(table.outbox_len()))
    }
}
