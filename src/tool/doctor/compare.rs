//! Walks the stores side by side and collects how they differ. Writes nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::plan::{Difference, SessionFacts, StoreAnswer, judge};
use crate::{
    core::record::{Epoch, NodeId, Record, SessionId, UtcMicros},
    store::{
        Journal, ListQuery, LiveStore, Position, RecordStore, Sort, SortKey, StoreError,
        sqlite::{Misfits, SqliteStore},
    },
    tool::progress::Progress,
};

/// Rows per page.
const PAGE: u32 = 500;

/// The stores to compare.
pub struct View<'a> {
    /// The id of this node, whose sessions are compared.
    pub node: &'a NodeId,
    /// This node's own file.
    pub journal: &'a SqliteStore,
    /// The records, if they are another store.
    pub records: Option<&'a dyn RecordStore>,
    /// The live view, if it outlives a gateway.
    pub live: Option<&'a dyn LiveStore>,
    /// Whether the gateway is running.
    pub running: bool,
    /// The limit of retention, if there is one: each store removes sessions that ended before it, in its own time.
    pub retired: Option<UtcMicros>,
}

impl View<'_> {
    /// Whether a record is so old that another store may have removed it already.
    fn is_leaving(&self, record: &Record) -> bool {
        let end = record.end_time.filter(|_| record.is_closed());
        end.is_some_and(|end| self.retired.is_some_and(|before| end < before))
    }
}

/// The result of a comparison.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The number of sessions compared.
    pub sessions: u64,
    /// The sessions on which the stores differ, by kind of difference.
    pub differences: BTreeMap<Difference, Vec<SessionId>>,
}

impl Comparison {
    /// Returns the sessions with one kind of difference.
    pub fn of(&self, kind: Difference) -> &[SessionId] {
        self.differences.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Keeps the differences that both comparisons found: a write that was under way during one of them is done in the
    /// other.
    pub fn lasting(mut self, other: &Self) -> Self {
        for (kind, sessions) in &mut self.differences {
            let again: HashSet<&SessionId> = other.of(*kind).iter().collect();
            sessions.retain(|id| again.contains(id));
        }
        self.differences.retain(|_, sessions| !sessions.is_empty());
        self
    }
}

/// Compares the stores on every session of this node: journal and records in one order, side by side, page by page. If
/// there are no records but the journal, all of its sessions are this node's, under whichever name it served them.
///
/// # Errors
/// The [`StoreError`] of a store that cannot be read.
pub async fn compare(view: &View<'_>, mut progress: Progress) -> Result<Comparison, StoreError> {
    let mut found = Comparison::default();
    let mut live = live_words(view).await?;
    let waiting = waiting(view.journal).await?;
    let mut journal = Walk::new(view.journal, view.records.is_some().then_some(view.node));
    let mut records = view.records.map(|records| Walk::new(records, Some(view.node)));
    let kept = kept_ranks(view).await?;
    let mut own = journal.next().await?;
    let mut other = next(&mut records).await?;
    loop {
        let place = |record: &Record| (record.start_time, record.id);
        // The earlier session of the two is taken first; both, if they are the same.
        let (take_own, take_other) = match (&own, &other) {
            (None, None) => break,
            (Some(own), Some(other)) => (place(own) <= place(other), place(other) <= place(own)),
            (own, other) => (own.is_some(), other.is_some()),
        };
        let one = if take_own { own.take() } else { None };
        let two = if take_other { other.take() } else { None };
        let Some(id) = one.as_ref().or(two.as_ref()).map(|record| record.id) else { break };
        let two = match (two, view.records) {
            // Given to another node by hand, it is on no page of this one.
            (None, Some(records)) if !waiting.contains(&id) => records.get(id).await?,
            (two, _) => two,
        };
        let facts = SessionFacts {
            journal: said(one.as_ref()),
            records: if records.is_some() {
                raised(said(two.as_ref()), kept.get(&id).copied())
            } else {
                StoreAnswer::Unasked
            },
            live: live_said(&mut live, id),
            waiting: waiting.contains(&id),
            same: one.is_none() || two.is_none() || one == two,
            running: view.running,
        };
        let is_whole = one.is_some() && (two.is_some() || records.is_none());
        let only = if is_whole { None } else { one.as_ref().or(two.as_ref()) };
        if !only.is_some_and(|record| view.is_leaving(record)) {
            found.note(id, &facts);
        }
        progress.advance(1);
        if take_own {
            own = journal.next().await?;
        }
        if take_other {
            other = next(&mut records).await?;
        }
    }
    for (id, word) in live.into_iter().flatten() {
        let records = if records.is_some() { StoreAnswer::Nothing } else { StoreAnswer::Unasked };
        let (journal, running) = (StoreAnswer::Nothing, view.running);
        found.note(id, &SessionFacts { journal, records, live: word, waiting: false, same: true, running });
    }
    found.note_misfits(view).await?;
    Ok(found)
}

impl Comparison {
    fn note(&mut self, id: SessionId, facts: &SessionFacts) {
        self.sessions += 1;
        for difference in judge(facts) {
            self.differences.entry(difference).or_default().push(id);
        }
    }

    /// Notes on which sessions the journal contradicts itself.
    async fn note_misfits(&mut self, view: &View<'_>) -> Result<(), StoreError> {
        let Misfits { ended_otherwise, reopened, mut rowless } = view.journal.misfits().await?;
        if view.retired.is_some() {
            // A session leaves before its events do.
            rowless.clear();
        }
        let found = [
            (Difference::EndedOtherwise, ended_otherwise),
            (Difference::Reopened, reopened),
            (Difference::Rowless, rowless),
        ];
        self.differences.extend(found.into_iter().filter(|(_, sessions)| !sessions.is_empty()));
        Ok(())
    }
}

fn said(record: Option<&Record>) -> StoreAnswer {
    record
        .map_or(StoreAnswer::Nothing, |record| StoreAnswer::Version { rank: record.rank(), closed: record.is_closed() })
}

/// Raises an answer to the rank that its row kept.
fn raised(said: StoreAnswer, kept: Option<u64>) -> StoreAnswer {
    match said {
        StoreAnswer::Version { rank, closed } => StoreAnswer::Version { rank: kept.unwrap_or(0).max(rank), closed },
        StoreAnswer::Nothing | StoreAnswer::Unasked => said,
    }
}

/// Returns the ranks of the records' open rows as they are stored, which decide what replaces them: a row that was
/// edited by hand kept that of what it was.
async fn kept_ranks(view: &View<'_>) -> Result<HashMap<SessionId, u64>, StoreError> {
    let (mut kept, mut after) = (HashMap::new(), None::<Position>);
    let Some(records) = view.records else { return Ok(kept) };
    loop {
        let page = records.ranks_of(view.node.clone(), Epoch(u64::MAX), after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(kept) };
        after = Some(*last);
        kept.extend(page.iter().map(|(position, rank)| (position.id, *rank)));
    }
}

/// Returns the live view's sessions of this node; `None` if it is not to be compared.
async fn live_words(view: &View<'_>) -> Result<Option<HashMap<SessionId, StoreAnswer>>, StoreError> {
    let Some(live) = view.live else { return Ok(None) };
    let shown = live.open().await?.into_iter().filter(|record| record.node == *view.node);
    Ok(Some(shown.map(|record| (record.id, said(Some(&record)))).collect()))
}

fn live_said(live: &mut Option<HashMap<SessionId, StoreAnswer>>, id: SessionId) -> StoreAnswer {
    live.as_mut().map_or(StoreAnswer::Unasked, |live| live.remove(&id).unwrap_or(StoreAnswer::Nothing))
}

async fn waiting(journal: &SqliteStore) -> Result<HashSet<SessionId>, StoreError> {
    let (mut waiting, mut after) = (HashSet::new(), None);
    loop {
        let page = journal.outbox_page(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(waiting) };
        after = Some(last.record.id);
        waiting.extend(page.iter().map(|write| write.record.id));
    }
}

async fn next(walk: &mut Option<Walk<'_>>) -> Result<Option<Record>, StoreError> {
    match walk {
        Some(walk) => walk.next().await,
        None => Ok(None),
    }
}

/// Iterates over one store's sessions, of one node or all, by start: that never changes, so that two stores return them
/// in one order.
struct Walk<'a> {
    store: &'a dyn RecordStore,
    node: Option<&'a NodeId>,
    page: VecDeque<Record>,
    after: Option<Position>,
    ended: bool,
}

impl<'a> Walk<'a> {
    fn new(store: &'a dyn RecordStore, node: Option<&'a NodeId>) -> Self {
        Self { store, node, page: VecDeque::new(), after: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Record>, StoreError> {
        while self.page.is_empty() && !self.ended {
            let sort = Sort { by: SortKey::StartTime, ascending: true };
            let (node, limit, after) = (self.node.cloned(), PAGE, self.after);
            let page = self.store.list(ListQuery { node, limit, after, sort, ..ListQuery::default() }).await?;
            self.page = page.records.into();
            self.after = page.next;
            self.ended = page.next.is_none();
        }
        Ok(self.page.pop_front())
    }
}
