//! Addresses that count: actix does not expose a mailbox's depth, so each message carries a ticket. Knows no actor.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix::{Message, Recipient, dev::SendError};

use super::{clock, observe::HandleTimes};

/// How often a message is given to an actor that fails over it: chance strikes once, and a message that an actor cannot bear
/// must not take it down for good.
pub const MAX_DELIVERIES: usize = 3;

/// Where messages to one actor go. Cheap to clone.
pub struct Mailbox<M: Send + 'static> {
    recipient: Recipient<Envelope<M>>,
    meter: Arc<Meter>,
}

impl<M: Send + 'static> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { recipient: self.recipient.clone(), meter: self.meter.clone() }
    }
}

impl<M: Send + 'static> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("depth", &self.meter.depth()).finish_non_exhaustive()
    }
}

/// Why a message was not taken.
#[derive(Debug)]
pub enum Refused<M> {
    /// The mailbox is full; the message comes back.
    Full(M),
    /// The actor is gone.
    Gone,
}

impl<M: Send + 'static> Mailbox<M> {
    /// Wraps an actor's address; `meter` is shared by all actors of a kind.
    pub fn new(recipient: Recipient<Envelope<M>>, meter: Arc<Meter>) -> Self {
        Self { recipient, meter }
    }

    /// Leaves a message, unless the mailbox is full or the actor gone.
    ///
    /// # Errors
    /// [`Refused`], at once.
    pub fn tell(&self, message: M) -> Result<(), Refused<M>> {
        self.recipient.try_send(self.seal(message)).map_err(|refused| match refused {
            SendError::Full(envelope) => Refused::Full(envelope.message),
            SendError::Closed(_) => Refused::Gone,
        })
    }

    /// Leaves a message, in a full mailbox too, and returns once it was handled: actix gives each call a place of its own, so
    /// what waits is bounded by those who wait for it.
    ///
    /// # Errors
    /// [`Refused::Gone`] if the actor is gone or failed over this message.
    pub async fn deliver(&self, message: M) -> Result<(), Refused<M>> {
        self.recipient.send(self.seal(message)).await.map_err(|_| Refused::Gone)
    }

    /// Delivers a message whose receiver may fail over it, and gives it again once it is back, [`MAX_DELIVERIES`] times at most.
    ///
    /// # Errors
    /// [`Refused::Gone`] if the actor is gone or failed over each of them.
    pub async fn insist(&self, message: impl Fn() -> M) -> Result<(), Refused<M>> {
        for _ in 1..MAX_DELIVERIES {
            if self.deliver(message()).await.is_ok() {
                return Ok(());
            }
        }
        self.deliver(message()).await
    }

    /// Whether there is an actor, or one is just being started.
    pub fn is_connected(&self) -> bool {
        self.recipient.connected()
    }

    fn seal(&self, message: M) -> Envelope<M> {
        self.meter.depth.fetch_add(1, Ordering::Relaxed);
        Envelope { message, sent: clock::instant(), ticket: Ticket(self.meter.clone()) }
    }
}

/// A message on its way.
pub struct Envelope<M> {
    message: M,
    sent: Instant,
    ticket: Ticket,
}

impl<M: 'static> Message for Envelope<M> {
    type Result = ();
}

impl<M> Envelope<M> {
    /// Takes the message out; the time until the returned guard is dropped counts as handling.
    pub fn open(self) -> (M, Handling) {
        let since = clock::instant();
        self.ticket.0.waited.add(since.saturating_duration_since(self.sent));
        (self.message, Handling { meter: self.ticket.0.clone(), since })
    }
}

/// Counts a message as waiting for as long as it lives.
struct Ticket(Arc<Meter>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time in which a message is handled.
pub struct Handling {
    meter: Arc<Meter>,
    since: Instant,
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.meter.handled.add(clock::instant().saturating_duration_since(self.since));
    }
}

/// Powers of two from 1 ns to 9 minutes.
const BUCKETS: usize = 40;

/// How long something took, over the life of the process.
#[derive(Debug)]
struct Times {
    count: AtomicU64,
    max_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Times {
    fn default() -> Self {
        Self { count: 0.into(), max_ns: 0.into(), buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Times {
    fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let power = (u64::BITS - nanos.leading_zeros()) as usize;
        if let Some(bucket) = self.buckets.get(power.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.max_ns.fetch_max(nanos, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// A quantile is the upper edge of its power of two.
    fn read(&self) -> HandleTimes {
        let total = self.count.load(Ordering::Relaxed);
        let max = self.max_ns.load(Ordering::Relaxed) as f64 / 1e6;
        let quantile = |share: f64| {
            let mut below = 0;
            for (power, bucket) in self.buckets.iter().enumerate() {
                below += bucket.load(Ordering::Relaxed);
                if below as f64 >= share * total as f64 {
                    return ((1u64 << power) as f64 / 1e6).min(max);
                }
            }
            max
        };
        HandleTimes { p50: quantile(0.5), p99: quantile(0.99), max }
    }
}

/// What the mailboxes of one kind of actor have seen.
#[derive(Debug)]
pub struct Meter {
    capacity: usize,
    depth: AtomicI64,
    waited: Times,
    handled: Times,
}

impl Meter {
    /// Starts at zero; `capacity` is what one mailbox takes.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, depth: 0.into(), waited: Times::default(), handled: Times::default() })
    }

    /// Messages one mailbox takes before [`Mailbox::tell`] is refused.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Messages sent and not yet taken up.
    pub fn depth(&self) -> u64 {
        u64::try_from(self.depth.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Messages handled.
    pub fn handled_total(&self) -> u64 {
        self.handled.count.load(Ordering::Relaxed)
    }

    /// How long handling took.
    pub fn handle_times(&self) -> HandleTimes {
        self.handled.read()
    }

    /// How long messages waited, from when they were sent.
    pub fn wait_times(&self) -> HandleTimes {
        self.waited.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Actor, Context, Handler};

    struct Slow;
    impl Actor for Slow {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.set_mailbox_capacity(2);
        }
    }
    impl Handler<Envelope<u32>> for Slow {
        type Result = ();
        fn handle(&mut self, envelope: Envelope<u32>, _: &mut Self::Context) {
            let (_, _handling) = envelope.open();
        }
    }

    #[actix_rt::test]
    async fn counts_what_waits_and_refuses_what_is_too_much() {
        let meter = Meter::new(2);
        let mailbox = Mailbox::new(Slow.start().recipient(), meter.clone());
        tokio::task::yield_now().await;
        // Nothing is handled before this task yields.
        let taken = (0..50).filter(|&n| mailbox.tell(n).is_ok()).count();
        assert!((2..50).contains(&taken), "{taken} of 50 were taken");
        assert_eq!(meter.depth(), taken as u64);
        mailbox.deliver(99).await.unwrap();
        assert_eq!(meter.depth(), 0);
        assert_eq!(meter.handled_total(), taken as u64 + 1);
        assert!(meter.wait_times().max > 0.0);
    }

    /// Floods a slow actor and returns how many messages then wait for it.
    async fn waiting_after(flood: impl Fn(&Mailbox<u32>, u32)) -> u64 {
        let meter = Meter::new(2);
        let mailbox = Mailbox::new(Slow.start().recipient(), meter.clone());
        tokio::task::yield_now().await;
        (0..10_000).for_each(|n| flood(&mailbox, n));
        meter.depth()
    }

    #[actix_rt::test]
    async fn a_flood_waits_at_its_sender_and_not_in_the_mailbox() {
        // A refused message is the flood's own to keep.
        assert!(waiting_after(|mailbox, n| drop(mailbox.tell(n))).await < 10);
        // The control: this is what actix offers to whoever does not want to hear of a full mailbox.
        assert_eq!(waiting_after(|mailbox, n| mailbox.recipient.do_send(mailbox.seal(n))).await, 10_000);
    }
}
