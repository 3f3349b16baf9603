//! The answers of the live view and the records about sessions. A session that is open at the rank served here is not
//! read further, except in the live view, where each is read in its turn: a rank does not show whether an entry was
//! altered there.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{Stores, timed};
use crate::{
    core::{
        neighbours::Standing,
        reconcile::StoreAnswer,
        record::{Epoch, NodeId, Record, SessionId},
    },
    store::{IDS_PER_QUERY, Position, RecordStore, StoreError},
};

/// Number of sweeps in which each session is read once in the live view.
const TURNS: u32 = 12;

/// One store's answer about one session.
pub enum Answer {
    /// The session is open at this rank, which is known here.
    AsKnown(u64),
    /// The whole record.
    Whole(Box<Record>),
}

impl Answer {
    /// Returns the record, if it was read.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::AsKnown(_) => None,
            Self::Whole(record) => Some(record),
        }
    }

    /// Converts the answer of either store into the one that [`plan`](crate::core::reconcile::plan) compares.
    pub fn summary(answer: Option<&Self>) -> StoreAnswer {
        match answer {
            None => StoreAnswer::Nothing,
            Some(Self::AsKnown(rank)) => StoreAnswer::Version { rank: *rank, closed: false },
            Some(Self::Whole(record)) => StoreAnswer::Version { rank: record.rank(), closed: record.is_closed() },
        }
    }
}

/// The answers of both stores, by session.
#[derive(Default)]
pub struct Answers {
    /// The live view's answers.
    pub live: HashMap<SessionId, Answer>,
    /// The records' answers.
    pub records: HashMap<SessionId, Answer>,
    /// The ranks of the records' open rows that were read, as stored: they decide which write replaces one, whatever
    /// else was edited in it.
    pub kept: HashMap<SessionId, u64>,
}

/// A query to the stores about the sessions of one node.
pub struct Question<'a> {
    /// The node.
    pub node: &'a NodeId,
    /// The epoch before which the sessions were opened.
    pub epoch: Epoch,
    /// The node's standing.
    pub standing: Standing,
    /// The ranks of the sessions open here; `None` for another node.
    pub serving: Option<&'a HashMap<SessionId, u64>>,
    /// Rows per page.
    pub rows: u32,
    /// Number of sweeps so far.
    pub turn: u32,
}

impl Question<'_> {
    fn is_as_known(&self, id: SessionId, rank: u64) -> bool {
        self.serving.and_then(|serving| serving.get(&id)).is_some_and(|known| *known == rank)
    }

    /// Whether a session is read in this sweep: the last bits of an id are random, so each turn takes an equal share.
    fn is_its_turn(&self, id: SessionId) -> bool {
        id.bits() % u128::from(TURNS) == u128::from(self.turn % TURNS)
    }

    /// Reads all open sessions of the node, and further ones that the other store or this node knows. Raises `slowest`
    /// to the slowest answer.
    pub async fn ask(&self, stores: &Stores, slowest: &mut Duration) -> Result<Answers, StoreError> {
        let mut answers = Answers { live: self.ask_live(stores, slowest).await?, ..Answers::default() };
        let records: &dyn RecordStore = match &stores.records {
            Some(records) => records.as_ref(),
            None => stores.journal.as_ref(),
        };
        let mut after = None::<Position>;
        loop {
            let page = timed(slowest, records.ranks_of(self.node.clone(), self.epoch, after, self.rows)).await?;
            after = page.last().map(|(position, _)| *position);
            let whole = page.len() < self.rows as usize;
            for (Position { id, .. }, rank) in page {
                if self.is_as_known(id, rank) {
                    answers.records.insert(id, Answer::AsKnown(rank));
                } else {
                    answers.kept.insert(id, rank);
                }
            }
            if whole {
                break;
            }
        }
        let serving = self.serving.into_iter().flat_map(HashMap::keys);
        let mut unread: HashSet<SessionId> = answers.kept.keys().copied().collect();
        unread.extend(answers.live.keys().chain(serving).filter(|id| !answers.records.contains_key(id)));
        let unread: Vec<_> = unread.into_iter().collect();
        for ids in unread.chunks(IDS_PER_QUERY) {
            let found = timed(slowest, records.find_many(ids.to_vec())).await?;
            answers.records.extend(found.into_iter().map(whole));
        }
        Ok(answers)
    }

    async fn ask_live(
        &self,
        stores: &Stores,
        slowest: &mut Duration,
    ) -> Result<HashMap<SessionId, Answer>, StoreError> {
        let (mut answers, mut unread) = (HashMap::new(), Vec::new());
        for (id, rank) in timed(slowest, stores.live.ranks_of(self.node.clone())).await? {
            if self.is_as_known(id, rank) && !self.is_its_turn(id) {
                answers.insert(id, Answer::AsKnown(rank));
            } else {
                unread.push(id);
            }
        }
        if !unread.is_empty() {
            let found = timed(slowest, stores.live.find_many_of(self.node.clone(), unread)).await?;
            // What ended since the ranks were read is no longer shown.
            let is_shown = |record: &Record| !record.is_closed() && record.epoch < self.epoch;
            answers.extend(found.into_iter().filter(is_shown).map(whole));
        }
        Ok(answers)
    }
}

fn whole(record: Record) -> (SessionId, Answer) {
    (record.id, Answer::Whole(Box::new(record)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        core::record::{Authority, Status, UtcMicros, Write},
        store::{LiveStore, audit::MemoryAudit, conformance, memory::MemoryLive, sqlite::SqliteStore},
    };

    fn open(n: u8) -> Record {
        let id = SessionId::new(UtcMicros(1_700_000_000_000_000 + 1_000 * i64::from(n)), [n; 10]);
        Record { id, start_time: UtcMicros(n.into()), ..conformance::record(1, 1, Authority::Observed, Status::Active) }
    }

    /// The ids of what was read whole, in order.
    fn read(answers: &HashMap<SessionId, Answer>) -> Vec<SessionId> {
        let mut ids: Vec<_> = answers.values().filter_map(Answer::record).map(|record| record.id).collect();
        ids.sort_unstable();
        ids
    }

    #[tokio::test]
    async fn what_stands_as_known_is_read_in_its_turn_and_what_does_not_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(SqliteStore::open(&folder.path().join("records.db")).await.unwrap());
        let live = Arc::new(MemoryLive::default());
        let audit = Arc::new(MemoryAudit::default());
        let stores = Stores { journal: journal.clone(), records: None, live: live.clone(), audit };
        let sessions: Vec<_> = (0..60).map(open).collect();
        let writes = sessions.iter().map(|record| Write { record: record.clone(), transitions: vec![] });
        journal.apply(writes.collect()).await.unwrap();
        live.apply(sessions.clone()).await.unwrap();

        let mut serving: HashMap<_, _> = sessions.iter().map(|record| (record.id, record.rank())).collect();
        let (node, epoch) = (sessions[0].node.clone(), Epoch(sessions[0].epoch.0 + 1));
        let ask = async |serving: Option<&HashMap<SessionId, u64>>, turn| {
            let question = Question { node: &node, epoch, standing: Standing::Serving, serving, rows: 7, turn };
            let mut slowest = Duration::ZERO;
            question.ask(&stores, &mut slowest).await.unwrap()
        };
        let mut in_turn = Vec::new();
        for turn in 5..5 + TURNS {
            let answers = ask(Some(&serving), turn).await;
            assert_eq!((answers.live.len(), answers.records.len()), (60, 60));
            assert_eq!(read(&answers.records), []);
            in_turn.extend(read(&answers.live));
        }
        in_turn.sort_unstable();
        assert_eq!(in_turn, sessions.iter().map(|record| record.id).collect::<Vec<_>>(), "each once");

        // One that is known in another rank, one that is not served, one that no store knows.
        let unknown = open(99).id;
        serving.insert(sessions[0].id, sessions[0].rank() + 1);
        serving.remove(&sessions[1].id);
        serving.insert(unknown, 1);
        let answers = ask(Some(&serving), 0).await;
        for unlike in &sessions[..2] {
            for answers in [&answers.live, &answers.records] {
                assert_eq!(answers[&unlike.id].record().map(Record::rank), Some(unlike.rank()));
            }
        }
        assert!(!answers.live.contains_key(&unknown) && !answers.records.contains_key(&unknown));

        // Of another node everything is read.
        let answers = ask(None, 0).await;
        assert_eq!((read(&answers.live).len(), read(&answers.records).len()), (60, 60));
    }
}
