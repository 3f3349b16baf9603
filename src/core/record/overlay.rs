//! A session as the records and the live view know it together. Knows neither store.

use super::{Durable, Record};

impl Record {
    /// Joins what the records have of another node's session with what the live view shows of it. The higher rank wins;
    /// while the session is open, its last sign of life is the newer one, and its watchers and guest are those of the
    /// view, which alone has them. What the records lack is durable in the journal of its node.
    pub fn overlaid(recorded: Option<Self>, shown: Option<Self>) -> Option<Self> {
        match (recorded, shown) {
            (Some(recorded), Some(shown)) if shown.rank() <= recorded.rank() => {
                if recorded.is_closed() {
                    return Some(recorded);
                }
                let last_seen_at = recorded.last_seen_at.max(shown.last_seen_at);
                let Self { watchers, controlled_by, .. } = shown;
                Some(Self { last_seen_at, watchers, controlled_by, ..recorded })
            }
            (_, Some(shown)) => Some(Self { durable: Durable::Journal, ..shown }),
            (recorded, None) => recorded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{EndReason, Status, UtcMicros, fixture::opened};

    fn active(version: u64, seen: i64) -> Record {
        Record { version, status: Status::Active, last_seen_at: Some(UtcMicros(seen)), ..opened(UtcMicros(5)) }
    }

    fn closed(version: u64, seen: i64) -> Record {
        let mut record = active(version, seen);
        record.close(EndReason::Exited, UtcMicros(seen), UtcMicros(seen));
        record
    }

    fn watched(record: Record) -> Record {
        Record { watchers: 2, controlled_by: Some("otto".into()), ..record }
    }

    fn overlaid(recorded: &Record, shown: &Record) -> Record {
        Record::overlaid(Some(recorded.clone()), Some(shown.clone())).unwrap()
    }

    #[test]
    fn an_open_session_has_its_last_beat_its_watchers_and_its_guest() {
        // The view has the same version, or an older or a newer one.
        for (version, durable) in [(3, Durable::Records), (2, Durable::Records), (4, Durable::Journal)] {
            let found = overlaid(&active(3, 7), &watched(active(version, 9)));
            assert_eq!(found, Record { durable, ..watched(active(version.max(3), 9)) });
        }
        let behind = overlaid(&active(3, 9), &watched(active(3, 7)));
        assert_eq!(behind.last_seen_at, Some(UtcMicros(9)), "no sign of life is taken back");
    }

    #[test]
    fn an_end_that_one_of_them_knows_is_the_end() {
        assert_eq!(overlaid(&closed(3, 7), &watched(active(9, 9))), closed(3, 7));
        let ended = overlaid(&active(9, 7), &closed(10, 9));
        assert_eq!(ended, Record { durable: Durable::Journal, ..closed(10, 9) });
        assert_eq!(overlaid(&closed(3, 7), &watched(closed(3, 9))), closed(3, 7), "as the records tell it");
    }

    #[test]
    fn what_only_one_of_them_knows_is_as_it_says() {
        let journal = Record { durable: Durable::Journal, ..active(3, 7) };
        assert_eq!(Record::overlaid(None, Some(active(3, 7))), Some(journal));
        assert_eq!(Record::overlaid(Some(active(3, 7)), None), Some(active(3, 7)));
        assert_eq!(Record::overlaid(None, None), None);
    }
}
