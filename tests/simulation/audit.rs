//! Checks continuously that what the gateways report and what the stores hold is true: I1, I2, I7, I11. Knows the
//! deadline of each.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use pulsegate::{
    actor::gateway::{Gateway, GatewayError, Listing},
    core::record::{Authority, EndReason, Record, SessionId, Status, Transition},
    store::ListQuery,
};
use tokio::time::Instant;

use crate::{
    failpoints::KINDS,
    host::Host,
    log::Log,
    stores::{live::Server, records::Rows, way::LATEST},
    truth::{Condition, LOST, Life, SERVING, Token},
    witness::{Confusion, Shared, is_note},
};

/// Deadline for both stores to agree, and for a listing to follow.
const SECOND: Duration = Duration::from_secs(1);

/// Deadline for a dead node to be shown as lost (`docs/design.md` §2: 1.5 s), plus the latency of the simulated way to
/// the view.
const LABEL: Duration = Duration::from_millis(1_600);

/// Deadline if the dead node's way to the live view was disturbed before, so that its lease decides: three renewals,
/// and the reading; its last writes may also arrive late and count as signs of life.
const LABEL_BY_LEASE: Duration = Duration::from_millis(4_100 + LATEST);

/// Additional time for what was disturbed.
const AFTER: Duration = Duration::from_secs(5);

/// Whether an event is a close that its own node did not observe (`Record::rank`: the authority ranks above the
/// version).
fn is_concluded(event: &Transition) -> bool {
    event.status == Status::Closed && (event.rank >> 48) & 3 == Authority::Inferred as u64
}

/// Whether the records have an event as the journal has it. An end that the owner wrote to the live view in time and not
/// to the records is taken over from there by the node that fenced it, which says so; it is no earlier than its session
/// began, however far the owner's clock was set back.
fn is_same(told: &Transition, event: &Transition) -> bool {
    let taken_over = told.detail.ends_with("the live view remembered it.");
    told == event
        || taken_over && *told == Transition { detail: told.detail.clone(), at: told.at.max(event.at), ..event.clone() }
}

/// Returns every open session that a gateway lists.
async fn open(gateway: Gateway) -> Result<Listing, GatewayError> {
    let mut query = ListQuery {
        statuses: vec![Status::Connecting, Status::Active, Status::Detached, Status::Lost],
        limit: 500,
        ..ListQuery::default()
    };
    let mut whole = gateway.list(query.clone()).await?;
    while whole.next.is_some() {
        query.after = whole.next;
        let page = gateway.list(query.clone()).await?;
        whole.sessions.extend(page.sessions);
        whole.degraded.extend(page.degraded);
        whole.next = page.next;
    }
    Ok(whole)
}

/// The auditor.
pub struct Auditor {
    /// All hosts.
    pub hosts: Vec<Rc<Host>>,
    /// The shared records, if they are not the journals.
    pub records: Option<Rows>,
    /// The live view's server.
    pub live: Server,
    /// The true state of all sessions.
    pub truth: Shared,
    /// The log of the run.
    pub log: Log,
    /// Sessions that died and were not found in time.
    pub missed: Cell<u64>,
    /// Listings that were judged.
    pub judged: Cell<u64>,
    /// Listings without an answer: the host was down or died meanwhile, or could read no store.
    pub unanswered: Cell<u64>,
    /// Sessions that the records rejected and that their gateway reported as dead letters.
    pub named: Cell<u64>,
}

impl Auditor {
    /// Returns the rows of the records of a host's sessions.
    fn rows(&self, host: usize) -> &Rows {
        self.records.as_ref().unwrap_or(&self.hosts[host].journal)
    }

    /// Returns the session whose writes the records reject.
    fn rejected(&self) -> Option<SessionId> {
        self.records.as_ref().and_then(|rows| rows.table().rejected)
    }

    /// I7: an ended session is closed in every store in time. I2: no event is missing.
    pub fn look(&self) {
        let now = Instant::now();
        let mut shown: Option<BTreeSet<SessionId>> = None;
        let mut truth = self.truth.look();
        let (hosts, rejected) = (truth.hosts.clone(), self.rejected());
        let since = now.checked_sub(AFTER + SECOND).unwrap_or(now);
        let calm = truth.feeds.iter().zip(&hosts).enumerate().filter(|(_, (_, host))| host.is_calm(since));
        for (number, (feed, _)) in calm {
            if let Some(id) = feed.overdue(since) {
                self.log.broken(&format!("I2 host {number}: an event of {id} is missing"));
            }
        }
        for (token, life) in truth.lives().filter(|(_, life)| !life.settled) {
            let (Some(id), Some((due, bound))) = (life.id, life.due()) else { continue };
            let Some(condition) = hosts.get(life.host) else { continue };
            let disturbed = condition.disturbed.filter(|until| *until + bound > due.checked_sub(bound).unwrap_or(due));
            let late = match disturbed {
                Some(until) => due.max(until + bound) + SECOND + AFTER,
                None => due + SECOND,
            };
            // Batches with a row that the records reject are halved until it is alone.
            let late = if rejected.is_some() { late + SECOND } else { late };
            // What died with its host, or was due while that was dead, is found by its next start.
            let late = condition.risen.map_or(late, |at| late.max(at + SECOND));
            if !condition.up || now <= late {
                continue;
            }
            let shown = shown.get_or_insert_with(|| self.live.open().iter().map(|record| record.id).collect());
            let journal = self.hosts[life.host].journal.table().known(id).cloned();
            let records = self.rows(life.host).table().known(id).cloned();
            if journal.is_none() && life.opened.is_none() {
                // The open was refused and never written.
                life.settled = true;
                continue;
            }
            let closed = |record: &Option<Record>| record.as_ref().is_some_and(Record::is_closed);
            let recorded = closed(&records) || rejected == Some(id);
            let (over, is_shown) = (closed(&journal) && recorded, shown.contains(&id));
            // The write may have arrived late, at a view that had forgotten the close: the next sweep removes it.
            let late = |forgot: Instant| now <= forgot + Duration::from_millis(LATEST) + AFTER + SECOND;
            if over && is_shown && self.live.forgot().is_some_and(late) {
                continue;
            }
            if over && !is_shown {
                life.settled = true;
            } else {
                life.settled = true;
                self.missed.set(self.missed.get() + 1);
                let word = |record: &Option<Record>| record.as_ref().map(|record| record.status);
                self.log.broken(&format!(
                    "I7 session {token} was due {:?} ago: journal {:?}, records {:?}, shown {}, host {condition:?}, {life:?}",
                    now - due,
                    word(&journal),
                    word(&records),
                    is_shown
                ));
            }
        }
    }

    /// I11: a listing contradicts nothing that was true during the whole second before it.
    pub async fn list(&self, host: &Rc<Host>) {
        let asked = Instant::now();
        let Some(Ok(listing)) = host.run(open).await else {
            return self.unanswered.set(self.unanswered.get() + 1);
        };
        self.judged.set(self.judged.get() + 1);
        self.judge(host, &listing, asked);
    }

    fn judge(&self, host: &Host, listing: &Listing, asked: Instant) {
        let before = asked.checked_sub(SECOND).unwrap_or(asked);
        let listed: BTreeMap<SessionId, Status> =
            listing.sessions.iter().map(|record| (record.id, record.status)).collect();
        let (mut truth, mut labels) = (self.truth.look(), Vec::new());
        let (hosts, rejected) = (truth.hosts.clone(), self.rejected());
        for (token, life) in truth.lives() {
            // For a session that the records reject, listings show what the records have.
            let Some(id) = life.id.filter(|id| rejected != Some(*id)) else { continue };
            let own = life.host == host.number;
            if !own {
                labels.extend(self.judge_label(host, *token, listed.get(&id), &hosts, life.host, asked));
                let whole = listing.degraded.is_empty() && hosts[host.number].is_calm(before);
                // An end that only the live view has is an end.
                let missing = life.closed.is_none() && !listed.contains_key(&id);
                if whole && missing && self.stands_of_the_dead(id, &hosts[life.host], before) {
                    self.log.broken(&format!("I11 host {} does not list session {token} of a dead node", host.number));
                }
            }
            // Of other hosts' sessions it knows what the records know.
            let calm = hosts.get(life.host).is_some_and(|owner| owner.is_calm(before));
            if !(own || calm && listing.degraded.is_empty()) {
                continue;
            }
            // A stopped host cannot list what it has not received yet.
            if hosts.get(host.number).is_some_and(|here| here.stalled.is_some_and(|until| until >= before)) {
                continue;
            }
            let closed = life.closed.as_ref().map(|(at, _)| *at);
            // The owner cannot know what others concluded while it was cut off, nor that its disk has what it did not confirm.
            let concluded = life.closed.as_ref().is_some_and(|(_, record)| record.authority == Authority::Inferred);
            let journal = if host.records.is_some() { "journal" } else { "records" };
            let unheard = own && (concluded || listing.degraded.contains(&journal));
            if listed.contains_key(&id) && !unheard && closed.is_some_and(|at| at < before) {
                self.log.broken(&format!("I11 host {} lists session {token} as open, it is closed", host.number));
            }
            let opened = life.opened.is_some_and(|at| at < before) && closed.is_none() && host.is_up();
            let here = life.causes.iter().all(|(cause, _)| *cause != EndReason::NodeLost);
            if opened && here && !listed.contains_key(&id) {
                self.log.broken(&format!("I11 host {} does not list session {token}, it is open", host.number));
            }
        }
        labels.into_iter().for_each(|label| truth.count(label));
    }

    /// Whether the records have a session open whose node was dead so long before that nothing of it was on its way.
    fn stands_of_the_dead(&self, id: SessionId, owner: &Condition, before: Instant) -> bool {
        let is_dead = owner.dead.is_some_and(|at| at + Duration::from_millis(LATEST) < before);
        let is_open = |rows: &Rows| rows.table().known(id).is_some_and(|row| !row.is_closed());
        is_dead && self.records.as_ref().is_some_and(is_open)
    }

    /// I11: a dead node is soon shown as lost, a live one never.
    fn judge_label(
        &self,
        host: &Host,
        token: Token,
        listed: Option<&Status>,
        hosts: &[Condition],
        owner: usize,
        asked: Instant,
    ) -> Option<&'static str> {
        let (status, here, there) = (listed?, hosts.get(host.number)?, hosts.get(owner)?);
        let calm = |one: &Condition| one.is_calm(asked) && one.risen.is_none_or(|at| at + LABEL < asked);
        let dead = there.dead.is_some_and(|since| {
            let troubled = there.disturbed.is_some_and(|until| until + SECOND >= since);
            asked.saturating_duration_since(since) > if troubled { LABEL_BY_LEASE } else { LABEL }
        });
        let is_lost = *status == Status::Lost;
        match (calm(here), dead && !self.hosts[owner].is_starting(), calm(there)) {
            (true, true, _) => {
                if !is_lost {
                    let number = host.number;
                    self.log.broken(&format!("I11 host {number} shows session {token} of a dead node as {status}"));
                }
                Some(LOST)
            }
            (true, false, true) => {
                if is_lost {
                    let number = host.number;
                    self.log.broken(&format!("I11 host {number} shows session {token} of a living node as lost"));
                }
                Some(SERVING)
            }
            _ => None,
        }
    }

    /// Every restart is counted, by the kind of actor.
    pub async fn count(&self, host: &Rc<Host>) {
        let failed = || KINDS.map(|kind| host.failpoints.restarts(kind));
        let before = failed();
        // A very recent failure may not be reported yet.
        let told = |last: Option<Instant>| last.is_none_or(|at| at.elapsed() > SECOND);
        let report = host.run(|gateway| async move { gateway.actors().await });
        let Some(Ok(report)) = report.await else { return };
        if before != failed() || !before.iter().all(|(_, last)| told(*last)) || host.is_frozen() {
            return;
        }
        for (kind, (restarts, _)) in KINDS.into_iter().zip(before) {
            let counted = report.kinds.iter().find(|report| report.actor == kind).map(|report| report.restarts);
            if counted != Some(restarts) {
                let (number, tree) = (host.number, &report.children);
                self.log
                    .broken(&format!("host {number}: {restarts} restarts of {kind}, counted {counted:?}: {tree:?}"));
            }
        }
    }

    /// A session that the records rejected is listed by id in the dead letters of its gateway.
    pub async fn name(&self) {
        let (Some(id), Some(records)) = (self.rejected(), &self.records) else { return };
        let host = self.truth.look().lives().find_map(|(_, life)| (life.id == Some(id)).then_some(life.host));
        let Some(host) = host.map(|host| self.hosts[host].clone()) else { return };
        let said = |rows: &Rows| rows.table().known(id).map(|record| (record.status, record.end_time));
        if said(records) == said(&host.journal) {
            return;
        }
        let Some(Ok(stores)) = host.run(|gateway| async move { gateway.stores().await }).await else { return };
        let told = stores.iter().filter(|store| store.store == "records");
        if told.flat_map(|store| &store.dead_letters).any(|letter| letter.id == id) {
            self.named.set(self.named.get() + 1);
        } else {
            self.log.broken(&format!("I1 host {}: {id} was rejected and is named nowhere", host.number));
        }
    }

    /// Once all faults are over: every store holds the same, once.
    pub fn close_the_books(&self) -> Confusion {
        let mut confusion = Confusion { missed: self.missed.get(), named: self.named.get(), ..Confusion::default() };
        let mut shown: BTreeSet<SessionId> = self.live.open().iter().map(|record| record.id).collect();
        let mut open = BTreeSet::new();
        let mut truth = self.truth.look();
        let (now, rejected) = (Instant::now(), self.rejected());
        for (token, life) in truth.lives() {
            let Some(id) = life.id else { continue };
            if life.closed.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) < SECOND) {
                // The stores still have time for it.
                shown.remove(&id);
                continue;
            }
            let records = self.records.as_ref().filter(|_| rejected != Some(id));
            self.compare(*token, life, id, records);
            let journal = self.hosts[life.host].journal.table();
            confusion.retired += u64::from(journal.record(id).is_none() && journal.known(id).is_some());
            let Some(record) = journal.known(id) else { continue };
            if !record.is_closed() {
                open.insert(id);
            }
            match record.is_closed() {
                true if record.end_reason == Some(EndReason::IdleTimeout) => confusion.idled += 1,
                true if record.end_reason == Some(EndReason::MaxDuration) => confusion.aged += 1,
                true if life.causes.is_empty() && life.due().is_none() => {}
                true => confusion.found += 1,
                false => confusion.spared += 1,
            }
        }
        if shown != open {
            let (more, less): (Vec<_>, Vec<_>) = (shown.difference(&open).collect(), open.difference(&shown).collect());
            self.log.broken(&format!("I7 the live view shows {more:?} too many and lacks {less:?}"));
        }
        confusion
    }

    /// Compares what a host's journal has of a session with what was acknowledged, and with the records.
    fn compare(&self, token: Token, life: &Life, id: SessionId, records: Option<&Rows>) {
        let journal = self.hosts[life.host].journal.table();
        let (own, events) = (journal.known(id).cloned(), journal.known_history(id));
        drop(journal);
        if life.opened.is_some() && own.is_none() {
            return self.log.broken(&format!("I1 session {token} was acknowledged and is in no journal"));
        }
        let closes = events.iter().filter(|event| event.status == Status::Closed).count();
        let opens = events.iter().filter(|event| event.status == Status::Connecting && !is_note(event)).count();
        if let Some(own) = &own
            && (opens != 1 || closes != usize::from(own.is_closed()))
        {
            self.log.broken(&format!("I2 session {token} has {opens} open and {closes} close events: {events:?}"));
        }
        let Some(records) = records else { return };
        let table = records.table();
        // An open session may have signs of life in flight.
        let settled = |record: &Record| (record.status, record.is_closed().then(|| record.clone()));
        if table.known(id).map(settled) != own.as_ref().map(settled) {
            self.log.broken(&format!("I7 session {token}: {own:?} is {:?} in the records", table.known(id)));
        }
        // Another node's conclusion while the owner was silent is kept beside what the owner observed.
        let told = |event: &&Transition| !is_concluded(event) || events.contains(*event);
        let told: Vec<Transition> = table.known_history(id).iter().filter(told).cloned().collect();
        if told.len() != events.len() || !told.iter().zip(&events).all(|(told, event)| is_same(told, event)) {
            self.log.broken(&format!("I2 session {token}: {events:?} is {told:?} in the records"));
        }
    }
}
