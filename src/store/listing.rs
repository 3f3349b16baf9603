//! Queries of listings: filters, order, and a page of the answer. Knows no store.

use std::{collections::HashMap, net::IpAddr};

use crate::core::record::{EndReason, NodeId, Record, SessionId, Status, UtcMicros};

/// The filters, order and page of a listing. `None` and empty mean: any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ListQuery {
    /// Any of these statuses.
    pub statuses: Vec<Status>,
    /// Exactly this user.
    pub user: Option<String>,
    /// Exactly this target.
    pub target: Option<String>,
    /// Exactly this node.
    pub node: Option<NodeId>,
    /// Exactly this address.
    pub client_ip: Option<IpAddr>,
    /// Exactly this end reason.
    pub reason: Option<EndReason>,
    /// Started at or after this time.
    pub since: Option<UtcMicros>,
    /// Started before this time.
    pub until: Option<UtcMicros>,
    /// A part of the user, target, target address or id, in any case (of ASCII letters at least); `%` and `_` are
    /// ordinary characters.
    pub text: Option<String>,
    /// The order; ties are broken by the id in the same direction.
    pub sort: Sort,
    /// Rows of the page, 1 … [`LONGEST_PAGE`]; a store uses the nearest value in this range.
    pub limit: u32,
    /// End of the page before: only rows after this position.
    pub after: Option<Position>,
}

impl ListQuery {
    /// Whether the query matches `record`, on any page.
    pub fn matches(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let contains = |text: &str| {
            let (id, text) = (record.id.to_string(), text.to_ascii_lowercase());
            let mut fields = [&record.username, &record.target, &record.target_addr, &id].into_iter();
            fields.any(|field| field.to_ascii_lowercase().contains(&text))
        };
        (self.statuses.is_empty() || self.statuses.contains(&record.status))
            && is(&self.user, &record.username)
            && is(&self.target, &record.target)
            && self.node.as_ref().is_none_or(|node| *node == record.node)
            && self.client_ip.is_none_or(|ip| ip == record.client_ip)
            && self.reason.is_none_or(|reason| Some(reason) == record.end_reason)
            && self.since.is_none_or(|since| record.start_time >= since)
            && self.until.is_none_or(|until| record.start_time < until)
            && self.text.as_deref().is_none_or(contains)
    }

    /// Returns the rows of the page, brought into the allowed range.
    pub fn page_length(&self) -> usize {
        self.limit.clamp(1, LONGEST_PAGE) as usize
    }

    /// Whether only open sessions are asked for.
    pub fn asks_for_open_only(&self) -> bool {
        !self.statuses.is_empty() && !self.statuses.contains(&Status::Closed)
    }

    /// Whether open sessions are asked for.
    pub fn asks_for_open(&self) -> bool {
        self.statuses.is_empty() || self.statuses.iter().any(|status| *status != Status::Closed)
    }

    /// Cuts the page out of `records`, which hold at least every match.
    pub fn page(&self, records: impl IntoIterator<Item = Record>) -> Page {
        self.arrange(records.into_iter().filter(|record| self.matches(record)), [None, None])
    }

    /// Makes a page of matches that two pages brought, in their order. It reaches as far as both do: behind the end of
    /// the shorter one, the rows of that one are not known.
    pub fn arrange(&self, matches: impl IntoIterator<Item = Record>, ends: [Option<Position>; 2]) -> Page {
        let ends = ends.into_iter().flatten();
        let end = if self.sort.ascending { ends.min() } else { ends.max() };
        let mut records: Vec<Record> = matches.into_iter().filter(|record| self.spans(end, record)).collect();
        records.sort_by_key(|record| self.sort.position(record));
        if !self.sort.ascending {
            records.reverse();
        }
        let mut page = self.cut(records);
        page.next = page.next.or(end);
        page
    }

    /// Whether a record has its place behind the page before, and not behind `end`.
    pub fn spans(&self, end: Option<Position>, record: &Record) -> bool {
        let at = self.sort.position(record);
        let is_behind = |other: Position| if self.sort.ascending { at > other } else { at < other };
        self.after.is_none_or(is_behind) && !end.is_some_and(is_behind)
    }

    /// Returns the page at the beginning of `records`; one record more than the page means that another page follows.
    pub(super) fn cut(&self, mut records: Vec<Record>) -> Page {
        let limit = self.page_length();
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|last| self.sort.position(last));
        Page { records, next }
    }

    /// Merges the same page of two stores: of one session the higher rank counts.
    pub fn merge(&self, one: Page, other: Page) -> Page {
        let mut joined: HashMap<SessionId, Record> = HashMap::new();
        for record in one.records.into_iter().chain(other.records) {
            let record = match joined.remove(&record.id) {
                Some(known) => known.join(record),
                None => record,
            };
            joined.insert(record.id, record);
        }
        self.arrange(joined.into_values().filter(|record| self.matches(record)), [one.next, other.next])
    }
}

/// The most rows one page may have (contract §5).
pub const LONGEST_PAGE: u32 = 500;

/// The order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sort {
    /// The column to sort by.
    pub by: SortKey,
    /// Whether the smallest (oldest) comes first.
    pub ascending: bool,
}

impl Sort {
    /// Returns the position of `record` in this order.
    pub fn position(self, record: &Record) -> Position {
        let key = match self.by {
            SortKey::StartTime => Some(record.start_time),
            SortKey::LastSeenAt => record.last_seen_at,
            SortKey::EndTime => record.end_time,
        };
        Position { key: key.map_or(i64::MIN, |at| at.0), id: record.id }
    }
}

/// The order of [`RecordStore::open_of`](super::RecordStore::open_of).
pub const OLDEST_FIRST: Sort = Sort { by: SortKey::StartTime, ascending: true };

/// The columns a listing can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SortKey {
    /// The start of the session.
    #[default]
    StartTime,
    /// Its last sign of life; unknown counts as oldest.
    LastSeenAt,
    /// Its end; unknown counts as oldest.
    EndTime,
}

/// The position of a row in an order: the sort column's value (unknown is `i64::MIN`) and the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Microseconds, or `i64::MIN` for unknown.
    pub key: i64,
    /// The row's id.
    pub id: SessionId,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The rows, in the order asked for.
    pub records: Vec<Record>,
    /// Pass it as [`ListQuery::after`] for the next page; `None` at the end.
    pub next: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::record::Authority, store::conformance};

    #[test]
    fn a_page_has_between_one_and_five_hundred_rows() {
        let length = |limit| ListQuery { limit, ..ListQuery::default() }.page_length();
        assert_eq!([length(0), length(1), length(500), length(u32::MAX)], [1, 1, 500, 500]);
    }

    #[test]
    fn pages_of_two_stores_miss_nothing_that_only_one_of_them_knows() {
        let row = |n, status| conformance::record(n, u64::from(n), Authority::Observed, status);
        let everybodys: Vec<Record> = (1..=30).map(|n| row(n, Status::Active)).collect();
        // The newer half of the odd ones belongs to this node, which has closed some that the other store still shows.
        let closed = |n: u8| n.is_multiple_of(5);
        let own = (16..=30).filter(|n| n % 2 == 1);
        let own: Vec<Record> = own
            .map(|n| Record { version: 100, ..row(n, if closed(n) { Status::Closed } else { Status::Active }) })
            .collect();
        for ascending in [false, true] {
            for limit in 1..=12 {
                let sort = Sort { by: SortKey::StartTime, ascending };
                let mut query = ListQuery { statuses: vec![Status::Active], limit, sort, ..ListQuery::default() };
                let mut seen = Vec::new();
                for _ in 0..100 {
                    let (shown, mut own_page) = (query.page(everybodys.clone()), query.page(own.clone()));
                    let is_shown = |own: &&Record| shown.records.iter().any(|shown| shown.id == own.id);
                    own_page.records.extend(own.iter().filter(is_shown).cloned());
                    let page = query.merge(shown, own_page);
                    seen.extend(page.records.iter().map(|record| record.id));
                    query.after = page.next;
                    if query.after.is_none() {
                        break;
                    }
                }
                let is_open = |record: &&Record| own.iter().all(|own| own.id != record.id || !own.is_closed());
                let mut open: Vec<SessionId> = everybodys.iter().filter(is_open).map(|record| record.id).collect();
                if !ascending {
                    open.reverse();
                }
                assert_eq!(seen, open, "{limit} a page, ascending: {ascending}");
            }
        }
    }
}
