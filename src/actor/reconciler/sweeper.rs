//! One sweep: reads the stores node by node, and hands the registry what is to be repaired. Knows no pace.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    Fix, Named, Sweep,
    answers::{Answer, Question},
};
use crate::{
    actor::{
        Settings, clock,
        mailbox::Mailbox,
        nodes::Snapshot,
        registry::{RegistryMessage, Stood, SweepSnapshot},
        stores::Stores,
    },
    core::{
        neighbours::Standing,
        reconcile::{Action, Owner, Sighting, plan},
        record::{Epoch, NodeId, Record, SessionId},
    },
    store::StoreError,
};

/// Repairs per message to the registry, which handles other messages between two of them.
const REPAIRS_PER_MESSAGE: usize = 50;

/// Maximum differences that a report lists; all are counted.
const MAX_NAMED: usize = 100;

/// The dependencies of a sweep.
#[derive(Clone)]
pub struct Sweeper {
    /// What the registry is set to.
    pub settings: Arc<Settings>,
    /// All stores.
    pub stores: Stores,
    /// It repairs.
    pub registry: Mailbox<RegistryMessage>,
    /// The other nodes, as they were seen last.
    pub seen: watch::Receiver<Arc<Snapshot>>,
}

/// A sweep as the stores allowed it.
pub struct Swept {
    /// Its result.
    pub sweep: Sweep,
    /// The slowest answer of a store.
    pub slowest: Duration,
    /// Why a node was not compared, if one was not.
    pub unread: Option<StoreError>,
}

impl Sweeper {
    /// Runs one sweep. What cannot be read of one node keeps nothing from the others. The snapshot of the actors comes
    /// first: the registry checks again before a repair, and so tells differences from sessions that began or ended
    /// meanwhile.
    pub async fn sweep(
        &self,
        rows: u32,
        turn: u32,
        settled: &BTreeMap<NodeId, Epoch>,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        let (mut slowest, mut unread) = (Duration::ZERO, None);
        let (reply, snapshot) = oneshot::channel();
        let gone = || StoreError::Unavailable("the registry does not answer".into());
        self.registry.deliver(RegistryMessage::SweepSnapshot(reply)).await.map_err(|_| gone())?;
        let snapshot = snapshot.await.map_err(|_| gone())?;
        let mut sweep = Sweep::default();
        if !snapshot.recovered {
            // The sessions of earlier epochs are still being closed.
            return Ok(Swept { sweep, slowest, unread });
        }
        let next = Epoch(self.settings.epoch.0.saturating_add(1));
        let own = (self.settings.node.clone(), next, Standing::Serving);
        let others = self.seen.borrow().over(turn as usize, settled);
        let mut fixes = Vec::new();
        for (node, epoch, standing) in std::iter::once(own).chain(others) {
            let serving = (node == self.settings.node).then_some(&snapshot.serving);
            let (question, before) = (Question { node: &node, epoch, standing, serving, rows, turn }, sweep.sessions);
            match self.compare(question, &snapshot, &mut sweep, &mut slowest).await {
                Ok(found) => {
                    fixes.extend(found);
                    if serving.is_none() {
                        sweep.over.push((node, epoch, sweep.sessions == before));
                    }
                }
                Err(error) => {
                    // The other nodes' sessions are in the same stores.
                    let is_away = matches!(error, StoreError::Unavailable(_));
                    unread.get_or_insert(error);
                    if is_away {
                        break;
                    }
                }
            }
        }
        for part in fixes.chunks(REPAIRS_PER_MESSAGE) {
            let (reply, standing) = oneshot::channel();
            let handle = snapshot.handle.clone();
            let mend = RegistryMessage::Mend { fixes: part.to_vec(), handle, dry_run, reply };
            self.registry.deliver(mend).await.map_err(|_| gone())?;
            sweep.standing.extend(standing.await.map_err(|_| gone())?);
        }
        for Stood { id, action, mends } in &sweep.standing {
            *sweep.differences.entry(action.as_str()).or_default() += 1;
            sweep.mended += u64::from(!dry_run && *mends);
            if sweep.named.len() < MAX_NAMED {
                sweep.named.push(Named { id: *id, action: *action });
            }
        }
        Ok(Swept { sweep, slowest, unread })
    }

    /// Compares all sessions of one node that were opened before an epoch.
    async fn compare(
        &self,
        question: Question<'_>,
        snapshot: &SweepSnapshot,
        sweep: &mut Sweep,
        slowest: &mut Duration,
    ) -> Result<Vec<Fix>, StoreError> {
        let (serving, own, standing) = (question.serving, question.serving.is_some(), question.standing);
        let answers = question.ask(&self.stores, slowest).await?;
        let mut ids: Vec<SessionId> = answers.live.keys().chain(answers.records.keys()).copied().collect();
        ids.extend(serving.into_iter().flat_map(HashMap::keys));
        ids.sort_unstable();
        ids.dedup();
        sweep.sessions += ids.len() as u64;
        let mut fixes = Vec::new();
        for id in ids {
            let (live, records) = (answers.live.get(&id), answers.records.get(&id));
            let read = [live, records].map(|answer| answer.and_then(Answer::record));
            let born = read.iter().flatten().next().map(|record| record.epoch);
            let owner = match born {
                _ if !own => Owner::Other(standing),
                Some(born) if born < self.settings.epoch => Owner::Earlier,
                Some(_) | None => Owner::Own { fenced: snapshot.fenced },
            };
            let actor = serving.and_then(|serving| serving.get(&id)).copied();
            let sighting = Sighting { owner, actor, live: Answer::summary(live), records: Answer::summary(records) };
            for action in plan(&sighting) {
                fixes.push(self.fix(action, id, read[1].or(read[0]), own).await?);
            }
        }
        self.hear(question.node, &mut fixes, slowest).await?;
        for fix in &mut fixes {
            if answers.kept.get(&fix.id).is_some_and(|rank| fix.is_refused_at(*rank)) {
                fix.action = Action::AlarmContradiction;
            }
        }
        Ok(fixes)
    }

    /// Notes what the live view knows of the sessions that are to be closed as lost: the end, if that did not reach the
    /// records, of another node's also a concluded one; else later versions, which may not have either, and the last
    /// beat, which a rank does not show.
    async fn hear(&self, node: &NodeId, fixes: &mut [Fix], slowest: &mut Duration) -> Result<(), StoreError> {
        let lost = fixes.iter().filter(|fix| matches!(fix.action, Action::Infer | Action::CloseEarlier));
        let ids: Vec<SessionId> = lost.map(|fix| fix.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let shown = timed(slowest, self.stores.live.find_many_of(node.clone(), ids)).await?;
        let mut known: HashMap<SessionId, Record> = shown.into_iter().map(|record| (record.id, record)).collect();
        let now = clock::utc();
        for fix in fixes {
            let (Some(record), Some(shown)) = (&mut fix.record, known.remove(&fix.id)) else { continue };
            if fix.action == Action::Infer && shown.is_closed() {
                *record = shown;
            } else if !record.is_closed() {
                record.learn_from(&shown, now);
            }
        }
        Ok(())
    }

    async fn fix(&self, action: Action, id: SessionId, shown: Option<&Record>, own: bool) -> Result<Fix, StoreError> {
        let mut fix = Fix { action, id, record: shown.cloned(), history: Vec::new() };
        let from_journal = matches!(action, Action::Rewrite | Action::CloseStray | Action::CloseEarlier);
        if own && from_journal {
            let known = self.stores.journal.get(id).await?;
            fix.history = self.stores.journal.history(id).await?;
            fix.record = known.or(fix.record);
        }
        Ok(fix)
    }
}

pub(super) async fn timed<T>(slowest: &mut Duration, question: impl Future<Output = T>) -> T {
    let since = clock::instant();
    let answer = question.await;
    *slowest = (*slowest).max(clock::instant().saturating_duration_since(since));
    answer
}
