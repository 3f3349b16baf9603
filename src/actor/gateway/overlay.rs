//! What the records say of sessions, overlaid with what is known sooner: by this node's registry of its own, by the
//! live view of those of other nodes. The one place for a list, a single session and its evidence. Judges no node.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use tokio::time::timeout_at;

use super::{
    Gateway, GatewayError, Listing,
    elsewhere::{Shown, patience, patiently},
    unreadable,
};
use crate::{
    actor::{
        clock,
        registry::RegistryMessage,
        stores::{LIVE, RECORDS},
    },
    core::record::{NodeId, Record, SessionId, Status},
    store::{ListQuery, Page, SortKey, StoreError},
};

/// Store pages read for one listing at most: if a label decides, a page may hold few rows that match.
const MAX_READS: usize = 20;

/// The statuses of an open session in a store.
pub(super) const OPEN: [Status; 3] = [Status::Connecting, Status::Active, Status::Detached];

/// What the live view shows beside a page of the records.
#[derive(Default)]
struct Beside {
    /// The open sessions of other nodes.
    open: Shown,
    /// What it remembers of the page's sessions that are not among them.
    remembered: HashMap<SessionId, Record>,
}

impl Beside {
    fn of(&self, id: SessionId) -> Option<&Record> {
        self.remembered.get(&id).or_else(|| self.open.get(&id))
    }
}

/// A session that is not open on this node.
pub(super) struct Known {
    /// The session, as the records and the live view know it together.
    pub session: Record,
    /// Whether the records were not asked or did not answer in time.
    pub unread: bool,
}

impl Gateway {
    /// Lists from the records, updated with the newer state of this node's sessions and of those in the live view, and
    /// with the labels of lost nodes.
    pub(super) async fn list_all(&self, query: ListQuery) -> Result<Listing, GatewayError> {
        let (as_of, statuses) = (clock::utc(), query.statuses.clone());
        let mut query = stored(query);
        let (mut sessions, wanted, mut unasked) = (Vec::new(), query.limit.max(1) as usize, Vec::<&'static str>::new());
        for _ in 0..MAX_READS {
            // Before they are read: what they lack then is looked for in the journal.
            let behind = self.records_behind();
            let recorded = self.recorded_page(&query, &mut unasked).await;
            let unread = recorded.is_none();
            let page = self.stores.list(query.clone(), recorded, behind).await.map_err(unreadable)?;
            let mut page = self.current(&query, page, unread, &mut unasked).await?;
            self.label(&mut page.records);
            // A record that changed between the two reads may no longer match the query.
            let matches = |record: &Record| statuses.is_empty() || statuses.contains(&record.status);
            sessions.extend(page.records.into_iter().filter(matches));
            query.after = page.next;
            query.limit = u32::try_from(wanted - sessions.len().min(wanted)).unwrap_or(1);
            if query.after.is_none() || query.limit == 0 {
                break;
            }
        }
        Ok(Listing { sessions, next: query.after, as_of, degraded: self.degraded(&unasked) })
    }

    /// Returns a page of the records if they are another store than the journal; `None` and their name in `unasked` if
    /// they could not be read, or not soon enough.
    async fn recorded_page(&self, query: &ListQuery, unasked: &mut Vec<&'static str>) -> Option<Page> {
        let records = self.stores.records.as_ref()?;
        // Those that failed for one page of a list are not waited for again.
        if unasked.contains(&RECORDS) {
            return None;
        }
        let page = self.recorded.page(&self.deps.observations.tasks, records, query).await;
        if page.is_none() {
            unasked.push(RECORDS);
        }
        page
    }

    /// Returns a page of the records, which were `unread` if the journal answered for them, as it is now. Each session
    /// has its place by what is shown of it: one that has moved since it was stored is moved, and one that the records
    /// lack is added. An end that only the live view has moves nothing: the row keeps its place until the records have
    /// it, so that it is on one page. Adds the stores that could not be asked to `unasked`.
    async fn current(
        &self,
        query: &ListQuery,
        Page { records, next }: Page,
        unread: bool,
        unasked: &mut Vec<&'static str>,
    ) -> Result<Page, GatewayError> {
        let shared = self.stores.records.is_some() && query.asks_for_open();
        // Only in this order a session moves while it is open.
        let moves = query.sort.by == SortKey::LastSeenAt && query.asks_for_open();
        let beside = if shared { self.shown_beside(&records, unasked).await } else { Beside::default() };
        let listed: HashSet<SessionId> = records.iter().map(|record| record.id).collect();
        let is_missing =
            |record: &&Record| !listed.contains(&record.id) && query.spans(next, record) && query.matches(record);
        let missing = beside.open.values().filter(is_missing).cloned();
        let more = query.arrange(missing, [None, None]);
        let added = self.confirmed(more.records, unread, unasked).await;
        // This node's own at last: the stores may have taken their time.
        let records = self.ask(|reply| RegistryMessage::Refresh { records, reply }).await?;
        if !shared && !moves {
            return Ok(Page { records, next });
        }
        let own = if moves { self.ask(RegistryMessage::OpenHere).await? } else { Vec::new() };
        let own = own.into_iter().filter(|record| is_missing(&record));
        let mut ends: HashMap<SessionId, Record> = HashMap::new();
        let overlaid = |record: Record| {
            let shown = beside.of(record.id).cloned();
            if !record.is_closed() && shown.as_ref().is_some_and(Record::is_closed) {
                ends.extend(Record::overlaid(Some(record.clone()), shown).map(|end| (end.id, end)));
                return Some(record);
            }
            Record::overlaid(Some(record), shown)
        };
        let records: Vec<Record> = records.into_iter().filter_map(overlaid).collect();
        let mut page = query.arrange(records.into_iter().chain(added).chain(own), [next, more.next]);
        for record in &mut page.records {
            if let Some(end) = ends.remove(&record.id) {
                *record = end;
            }
        }
        Ok(page)
    }

    /// Returns what the live view shows of other nodes' sessions, and what it remembers of those of these records that
    /// are open in the records and not in the view.
    async fn shown_beside(&self, records: &[Record], unasked: &mut Vec<&'static str>) -> Beside {
        // A view that answers too late for one page of a list is not waited for again.
        if unasked.contains(&LIVE) {
            return Beside::default();
        }
        let until = patience();
        let open = if self.is_up(LIVE) { self.shown_elsewhere(until).await } else { None };
        let Some(open) = open else {
            unasked.push(LIVE);
            return Beside::default();
        };
        let mut missing: BTreeMap<&NodeId, Vec<SessionId>> = BTreeMap::new();
        let others = records.iter().filter(|record| !record.is_closed() && record.node != *self.node());
        for record in others.filter(|record| !open.contains_key(&record.id)) {
            missing.entry(&record.node).or_default().push(record.id);
        }
        let mut remembered = HashMap::new();
        for (node, ids) in missing {
            let Some(found) = patiently(until, self.stores.live.find_many_of(node.clone(), ids)).await else {
                unasked.push(LIVE);
                break;
            };
            remembered.extend(found.into_iter().map(|record| (record.id, record)));
        }
        Beside { open, remembered }
    }

    /// Returns sessions that a page of the records lacks as the records have them, unless these cannot be read: they
    /// may be over there, or be on another page of theirs. What only a dead node showed is left out.
    async fn confirmed(&self, more: Vec<Record>, unread: bool, unasked: &mut Vec<&'static str>) -> Vec<Record> {
        let ids: Vec<SessionId> = more.iter().filter(|_| !unread).map(|record| record.id).collect();
        let late = |_| Err(StoreError::Unavailable("they take too long".to_owned()));
        let recorded = timeout_at(patience().into(), self.stores.recorded(&ids)).await.unwrap_or_else(late);
        let mut recorded = recorded.unwrap_or_else(|error| {
            self.recorded.failed(&error);
            unasked.push(RECORDS);
            HashMap::new()
        });
        let confirmed = |record: Record| match recorded.remove(&record.id) {
            None if self.is_over_there(&record) => None,
            known => Record::overlaid(known, Some(record)),
        };
        more.into_iter().filter_map(confirmed).collect()
    }

    /// Returns a session that is not open on this node, unless neither the records nor the live view know it.
    pub(super) async fn known(&self, id: SessionId) -> Result<Option<Known>, GatewayError> {
        let told = |shown: Record| Record::overlaid(None, Some(shown)).map(|session| Known { session, unread: true });
        let apart = self.stores.records.is_some() && self.is_up(LIVE);
        let unsure = self.are_records_away() && !self.is_over_here(id).await;
        if unsure && let Some(shown) = self.shown(id).await {
            return Ok(told(shown));
        }
        let recorded = tokio::select! {
            biased;
            recorded = self.stores.get(id, self.records_behind()) => recorded,
            Some(shown) = self.shown_meanwhile(id), if apart && !unsure => return Ok(told(shown)),
        };
        let recorded = match recorded {
            Ok(recorded) => recorded,
            // The live view was asked already.
            Err(error) if unsure => return Err(unreadable(error)),
            Err(error) => return self.shown(id).await.map(told).ok_or_else(|| unreadable(error)),
        };
        let shown = match &recorded {
            _ if unsure || !apart => None,
            Some(record) if record.is_closed() || record.node == *self.node() => None,
            Some(record) => patiently(patience(), self.stores.live.one_of(record.node.clone(), id)).await.flatten(),
            None => self.believed(id).await,
        };
        Ok(Record::overlaid(recorded, shown).map(|session| Known { session, unread: false }))
    }

    /// Whether a session's node is certainly dead: what it showed and the records never had is over, and nobody knows
    /// its end.
    fn is_over_there(&self, session: &Record) -> bool {
        self.seen.borrow().is_over(&session.node, session.epoch)
    }

    /// Whether this node's journal has its close, which is final.
    async fn is_over_here(&self, id: SessionId) -> bool {
        self.stores.journal.get(id).await.ok().flatten().is_some_and(|own| own.is_closed())
    }

    /// Returns the same as [`believed`](Self::believed), once the records have had their time: they may hang for long
    /// before they are known to be away.
    async fn shown_meanwhile(&self, id: SessionId) -> Option<Record> {
        tokio::time::sleep_until(patience().into()).await;
        self.believed(id).await
    }

    /// Returns a session of another node as the live view [shows](Self::shown) it, unless only a dead node showed it.
    async fn believed(&self, id: SessionId) -> Option<Record> {
        self.shown(id).await.filter(|shown| shown.is_closed() || !self.is_over_there(shown))
    }

    /// Returns a session of another node as the live view shows it, or remembers its end. The view is asked per known
    /// node first, and read as a whole for a session of a node not seen yet.
    async fn shown(&self, id: SessionId) -> Option<Record> {
        let (seen, until) = (self.seen.borrow().clone(), patience());
        for (node, ..) in seen.states(clock::instant()) {
            if let Some(shown) = patiently(until, self.stores.live.one_of(node.clone(), id)).await? {
                return Some(shown);
            }
        }
        self.shown_elsewhere(until).await?.get(&id).cloned()
    }

    /// Returns what the live view shows of the other nodes' sessions; `None` if it cannot be read in time.
    async fn shown_elsewhere(&self, until: Instant) -> Option<Shown> {
        let tasks = &self.deps.observations.tasks;
        self.elsewhere.shown(tasks, &self.stores.live, self.node(), until).await
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
