//! The fault schedule: which hosts, disks, stores, ways and clocks fail, when and for how long. Reports to the truth
//! what each fault disturbs. Knows no session.

use std::{rc::Rc, time::Duration};

use futures_util::future::join_all;
use pulsegate::core::record::{EndReason, SessionId};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    failpoints::KINDS,
    host::Host,
    log::Log,
    stores::{
        dice::Dice,
        live::Server,
        way::{Odds, State, Way},
    },
    witness::Shared,
};

/// Recovery time after an outage: the longest backoff, a renewal that wakes it, and a second to converge.
const RECOVERY: Duration = Duration::from_secs(6);

/// Shortest stall that is certainly noticed: a thread checks the clock once a second and notices a delay of half of
/// that. In a shorter stall the host was running for most of every window.
const STALL: Duration = Duration::from_millis(1_500);

/// Concurrent requests of a flood: more than the registry's mailbox holds.
const FLOOD: usize = 20_000;

/// Ten years, in microseconds.
const DECADE: i64 = 10 * 365 * 86_400 * 1_000_000;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Kill −9 at once.
    Kill,
    /// Kill −9 before or after one of the next commits.
    KillAtStep,
    /// SIGSTOP, or a busy host: nothing on it runs for a while.
    Freeze,
    /// The host is suspended and does not know for how long.
    Suspend,
    /// The wall clock jumps.
    Jump,
    /// The wall clock drifts.
    Drift,
    /// The disk fails or is full.
    Disk,
    /// A sync fails: nothing more is durable until the gateway is restarted.
    SyncFails,
    /// The disk is slow.
    SlowDisk,
    /// The records reject all writes of one session.
    Rejects,
    /// A way to the records is cut, for requests or for answers.
    RecordsCut,
    /// A host is cut off from all others, for long enough to be fenced where that is possible.
    Isolate,
    /// All hosts but one are cut off from that one and from each other.
    IsolateAllOthers,
    /// The records are down for all hosts.
    RecordsDown,
    /// A way to the live view is cut.
    LiveCut,
    /// The ways to the records and the live view are slow.
    Slow,
    /// FLUSHALL.
    Flush,
    /// The live view fails over to an older copy.
    FailOver,
    /// Requests fail, are done twice or late, or have an unknown outcome.
    Noise,
    /// An actor of any kind panics, at any moment.
    Sting,
    /// An actor panics repeatedly.
    StingOften,
    /// More requests than the registry's mailbox holds.
    Flood,
    /// The gateway is shut down in good order.
    ShutDown,
}

/// All faults; actors fail more often than anything else, because there are many kinds and moments.
const ALL: [Fault; 25] = [
    Fault::Kill,
    Fault::KillAtStep,
    Fault::Freeze,
    Fault::Suspend,
    Fault::Jump,
    Fault::Drift,
    Fault::Disk,
    Fault::SyncFails,
    Fault::SlowDisk,
    Fault::Rejects,
    Fault::RecordsCut,
    Fault::Isolate,
    Fault::IsolateAllOthers,
    Fault::RecordsDown,
    Fault::LiveCut,
    Fault::Slow,
    Fault::Flush,
    Fault::FailOver,
    Fault::Noise,
    Fault::Sting,
    Fault::Sting,
    Fault::Sting,
    Fault::StingOften,
    Fault::Flood,
    Fault::ShutDown,
];

/// The source of faults.
pub struct Saboteur {
    /// All hosts.
    pub hosts: Vec<Rc<Host>>,
    /// The live view's server.
    pub live: Server,
    /// The true state of all sessions.
    pub truth: Shared,
    /// The log of the run.
    pub log: Log,
    /// Its random numbers.
    pub dice: Dice,
}

impl Saboteur {
    /// Injects faults until `end`, with a pause of `least` to `most` milliseconds between two; some of them overlap.
    pub async fn go(self: Rc<Self>, end: Instant, (least, most): (u64, u64)) {
        loop {
            tokio::time::sleep(self.dice.millis(least, most)).await;
            if Instant::now() + Duration::from_secs(1) >= end {
                return;
            }
            let (fault, host) = (*self.dice.pick(&ALL), self.dice.pick(&self.hosts).clone());
            self.log.note(&format!("fault {fault:?} at host {}", host.number));
            let deed = self.clone().strike(fault, host);
            if self.dice.happens(3_000) {
                tokio::task::spawn_local(deed);
            } else {
                deed.await;
            }
        }
    }

    /// Repairs everything.
    pub async fn mend(&self) {
        for host in &self.hosts {
            host.freeze(false);
            host.failpoints.calm();
            for way in [&host.ways.journal, &host.ways.records, &host.ways.live] {
                way.calm();
            }
            host.world.drift(0);
            if !host.is_up() {
                host.start().await;
            }
        }
    }

    fn disturb(&self, host: &Host, lasted: Duration) {
        self.truth.look().disturb(host.number, Instant::now() + lasted + RECOVERY);
    }

    fn disturb_all(&self, lasted: Duration) {
        self.hosts.iter().for_each(|host| self.disturb(host, lasted));
    }

    async fn strike(self: Rc<Self>, fault: Fault, host: Rc<Host>) {
        let lasted = match self.dice.roll(3) {
            0 => self.dice.millis(100, 1_500),
            1 => self.dice.millis(1_000, 10_000),
            _ => self.dice.millis(5_000, 60_000),
        };
        match fault {
            Fault::Kill => self.kill(&host).await,
            Fault::KillAtStep => self.kill_at_step(&host).await,
            Fault::Freeze => self.freeze(&host, self.dice.millis(100, 120_000).min(lasted * 2)).await,
            Fault::Suspend => {
                self.stall(&host, Duration::ZERO);
                if let Some((right, _)) = self.truth.look().right(host.number) {
                    right.sleep(lasted * 10);
                }
                self.truth.look().sleep(host.number, lasted * 10);
                host.world.suspend(lasted * 10);
            }
            Fault::Jump => {
                let jump = self.dice.roll(2 * DECADE as u64) as i64 - DECADE;
                // Where history is removed by age, a clock that is set back and forth makes all of it old.
                let far = self.truth.look().patience.retention.is_none() && self.dice.happens(5_000);
                host.world.jump(if far { jump } else { jump / 1_000_000 });
            }
            Fault::Drift => host.world.drift(self.dice.roll(200_000) as i64 - 100_000),
            Fault::Disk => self.cut(&host, &host.ways.journal, State::Refused, lasted).await,
            Fault::SyncFails => self.fail_sync(&host, lasted).await,
            Fault::SlowDisk => {
                self.disturb(&host, lasted);
                host.ways.journal.hang(lasted);
            }
            Fault::Rejects => self.reject(&host),
            Fault::RecordsCut => {
                let state = *self.dice.pick(&[State::Refused, State::Silent, State::OneWay]);
                self.cut(&host, &host.ways.records, state, lasted).await;
            }
            Fault::Isolate => self.isolate(&[host]).await,
            Fault::IsolateAllOthers => {
                let others = self.hosts.iter().filter(|other| other.number != host.number);
                self.isolate(&others.cloned().collect::<Vec<_>>()).await;
            }
            Fault::RecordsDown => self.records_down(lasted).await,
            Fault::LiveCut => {
                let state = *self.dice.pick(&[State::Refused, State::Silent, State::OneWay]);
                self.cut(&host, &host.ways.live, state, lasted).await;
            }
            Fault::Slow => self.slow(&host, lasted).await,
            Fault::Flush => {
                self.disturb_all(Duration::ZERO);
                self.live.flush();
            }
            Fault::FailOver => self.fail_over().await,
            Fault::Noise => self.noise(&host, lasted).await,
            Fault::Sting => self.sting(&host, 1),
            // More failures than any actor may have.
            Fault::StingOften => self.sting(&host, 6),
            Fault::Flood => self.flood(&host).await,
            Fault::ShutDown => self.shut_down(&host).await,
        }
    }

    /// Kills a gateway and starts it again after half a minute at most.
    pub async fn kill(&self, host: &Rc<Host>) {
        if host.is_starting() {
            return;
        }
        host.kill();
        tokio::time::sleep(self.dice.millis(0, 30_000)).await;
        host.start().await;
        // What died with it is closed within a second, unless something else goes on.
        if !host.ways.are_calm() {
            self.disturb(host, Duration::from_secs(1));
        }
    }

    async fn kill_at_step(&self, host: &Rc<Host>) {
        let (tell, mut sprung) = mpsc::unbounded_channel();
        let way = *self.dice.pick(&[&host.ways.journal, &host.ways.records, &host.ways.live]);
        way.set_trap(self.dice.roll(12), tell);
        let waiting = tokio::time::timeout(Duration::from_secs(60), sprung.recv());
        // A way that carries no request springs no trap.
        if waiting.await.ok().flatten().is_none() {
            return;
        }
        if host.is_starting() {
            // The starting task tries again.
            host.kill();
        } else {
            self.kill(host).await;
        }
        self.disturb(host, Duration::ZERO);
    }

    /// Marks a stall, after which silence up to its end proves nothing.
    fn stall(&self, host: &Host, lasted: Duration) {
        let until = Instant::now() + lasted;
        let mut truth = self.truth.look();
        if let Some(condition) = truth.hosts.get_mut(host.number) {
            condition.stalled = condition.stalled.max(Some(until));
        }
        truth.disturb(host.number, until + RECOVERY);
    }

    async fn freeze(&self, host: &Host, lasted: Duration) {
        if host.is_frozen() {
            return;
        }
        self.disturb(host, lasted);
        if lasted >= STALL {
            self.stall(host, lasted);
        }
        host.freeze(true);
        tokio::time::sleep(lasted).await;
        host.freeze(false);
    }

    async fn cut(&self, host: &Host, way: &Way, state: State, lasted: Duration) {
        self.disturb(host, lasted);
        way.set(state);
        tokio::time::sleep(lasted).await;
        way.set(State::Open);
        self.disturb(host, Duration::from_secs(2));
    }

    async fn slow(&self, host: &Host, lasted: Duration) {
        self.disturb(host, lasted);
        let latency = (Duration::from_millis(20), self.dice.millis(50, 2_000));
        for way in [&host.ways.records, &host.ways.live] {
            way.slow(Some(latency));
        }
        tokio::time::sleep(lasted).await;
        for way in [&host.ways.records, &host.ways.live] {
            way.slow(None);
        }
        self.disturb(host, Duration::from_secs(2));
    }

    async fn isolate(&self, hosts: &[Rc<Host>]) {
        let (state, lasted) = (*self.dice.pick(&[State::Refused, State::Silent]), self.dice.millis(20_000, 90_000));
        let ways = hosts.iter().flat_map(|host| [(host, &host.ways.records), (host, &host.ways.live)]);
        join_all(ways.map(|(host, way)| self.cut(host, way, state, lasted))).await;
    }

    /// Restarts the host as an operator would: the next start finds a working disk with its data.
    async fn fail_sync(&self, host: &Rc<Host>, lasted: Duration) {
        self.cut(host, &host.ways.journal, State::Failed, lasted).await;
        self.kill(host).await;
    }

    /// Rejects one of the sessions open here, rarely and once in a play: no sweep is ever complete afterwards.
    fn reject(&self, host: &Host) {
        let Some(records) = &host.records else { return };
        let mut truth = self.truth.look();
        let own = truth.lives().filter(|(_, life)| life.host == host.number);
        let open = own.filter(|(_, life)| life.opened.is_some() && life.closed.is_none());
        let open: Vec<SessionId> = open.filter_map(|(_, life)| life.id).collect();
        if open.is_empty() || records.table().rejected.is_some() || !self.dice.happens(1_000) {
            return;
        }
        let id = *self.dice.pick(&open);
        self.log.note(&format!("nothing more of {id} is recorded"));
        records.table().rejected = Some(id);
    }

    async fn records_down(&self, lasted: Duration) {
        self.disturb_all(lasted);
        self.hosts.iter().for_each(|host| host.ways.records.set(State::Refused));
        tokio::time::sleep(lasted).await;
        self.hosts.iter().for_each(|host| host.ways.records.set(State::Open));
        self.disturb_all(Duration::from_secs(2));
    }

    async fn noise(&self, host: &Host, lasted: Duration) {
        self.disturb(host, lasted);
        let odds = Odds { failed: 1_000, unknown: 1_000, twice: 1_000, late: 200 };
        // A disk does nothing twice or late.
        host.ways.journal.trouble(Some(Odds { twice: 0, late: 0, ..odds }));
        host.ways.records.trouble(Some(odds));
        host.ways.live.trouble(Some(odds));
        tokio::time::sleep(lasted).await;
        for way in [&host.ways.journal, &host.ways.records, &host.ways.live] {
            way.trouble(None);
        }
        self.disturb(host, Duration::from_secs(2));
    }

    async fn fail_over(&self) {
        let replica = self.live.replicate();
        tokio::time::sleep(self.dice.millis(50, 5_000)).await;
        self.disturb_all(Duration::ZERO);
        self.live.fail_over(replica);
    }

    fn sting(&self, host: &Host, times: u64) {
        let kind = *self.dice.pick(&KINDS);
        host.failpoints.arm(kind, self.dice.roll(60), times);
    }

    /// Sends all requests before any is answered. If none is refused, a queue has no bound (I13).
    async fn flood(&self, host: &Host) {
        self.disturb(host, Duration::from_secs(1));
        let flooding = host.run(|gateway| async move {
            let asking = join_all((0..FLOOD).map(|_| gateway.open_here()));
            let answers = tokio::task::unconstrained(asking).await;
            answers.iter().filter(|answer| answer.is_err()).count()
        });
        let refused = flooding.await;
        self.log.note(&format!("refused of a flood: {refused:?}"));
        if refused == Some(0) {
            self.log.broken(&format!("I13 host {}: none of {FLOOD} questions was refused", host.number));
        }
    }

    async fn shut_down(&self, host: &Rc<Host>) {
        if !host.is_up() || host.is_starting() {
            return;
        }
        for (_, life) in self.truth.look().lives().filter(|(_, life)| life.host == host.number) {
            life.may_die(EndReason::Shutdown, Instant::now());
        }
        let shutting_down = host.run(|gateway| async move { gateway.shut_down().await.is_ok() });
        let ended = tokio::time::timeout(Duration::from_secs(10), shutting_down).await;
        self.log.note(&format!("host {} shut down: {:?}", host.number, ended.ok()));
        self.kill(host).await;
    }
}
