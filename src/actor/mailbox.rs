//! Actor addresses with meters: actix does not expose a mailbox's depth, so each message carries a ticket. Knows no
//! actor.

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

/// Maximum deliveries of a message to an actor that fails while handling it: an accident happens once, and a message
/// that always makes the actor fail must not end it for good.
pub const MAX_DELIVERIES: usize = 3;

/// The address of one actor, with its meter. Cheap to clone.
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

/// The reason why a message was not accepted.
#[derive(Debug)]
pub enum Refused<M> {
    /// The mailbox is full; holds the message.
    Full(M),
    /// The actor is gone.
    Gone,
}

impl<M: Send + 'static> Mailbox<M> {
    /// Wraps an actor's address; `meter` is shared by all actors of a kind.
    pub fn new(recipient: Recipient<Envelope<M>>, meter: Arc<Meter>) -> Self {
        Self { recipient, meter }
    }

    /// Sends a message, unless the mailbox is full or the actor gone.
    ///
    /// # Errors
    /// [`Refused`], at once.
    pub fn tell(&self, message: M) -> Result<(), Refused<M>> {
        self.recipient.try_send(self.seal(message)).map_err(|refused| match refused {
            SendError::Full(envelope) => Refused::Full(envelope.message),
            SendError::Closed(_) => Refused::Gone,
        })
    }

    /// Sends a message, even to a full mailbox, and returns once it was handled: actix gives each call a slot of its
    /// own, so the queue is bounded by the number of waiting callers.
    ///
    /// # Errors
    /// [`Refused::Gone`] if the actor is gone or failed while handling this message.
    pub async fn deliver(&self, message: M) -> Result<(), Refused<M>> {
        self.recipient.send(self.seal(message)).await.map_err(|_| Refused::Gone)
    }

    /// Delivers a message, again if the actor failed while handling it and was restarted, [`MAX_DELIVERIES`] times at
    /// most.
    ///
    /// # Errors
    /// [`Refused::Gone`] if the actor is gone or failed at each delivery.
    pub async fn insist(&self, message: impl Fn() -> M) -> Result<(), Refused<M>> {
        for _ in 1..MAX_DELIVERIES {
            if self.deliver(message()).await.is_ok() {
                return Ok(());
            }
        }
        self.deliver(message()).await
    }

    /// Whether the actor runs or is being started.
    pub fn is_connected(&self) -> bool {
        self.recipient.connected()
    }

    fn seal(&self, message: M) -> Envelope<M> {
        Envelope::seal(message, &self.meter)
    }
}

/// A message in transit, with its ticket and the time it was sent.
pub struct Envelope<M> {
    message: M,
    sent: Instant,
    ticket: Ticket,
}

impl<M: 'static> Message for Envelope<M> {
    type Result = ();
}

impl<M> Envelope<M> {
    /// Seals a message, which `meter` counts as waiting from now on.
    pub fn seal(message: M, meter: &Arc<Meter>) -> Self {
        meter.depth.fetch_add(1, Ordering::Relaxed);
        Self { message, sent: clock::instant(), ticket: Ticket(meter.clone()) }
    }

    /// Takes the message out; the time until the returned guard is dropped counts as handling.
    pub fn open(self) -> (M, Handling) {
        let since = clock::instant();
        self.ticket.0.waited.add(since.saturating_duration_since(self.sent));
        (self.message, Handling { meter: self.ticket.0.clone(), since })
    }
}

/// Counts a message as waiting until it is dropped.
struct Ticket(Arc<Meter>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Measures the handling time of a message until it is dropped.
pub struct Handling {
    meter: Arc<Meter>,
    since: Instant,
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.meter.handled.add(clock::instant().saturating_duration_since(self.since));
    }
}

/// Number of buckets: powers of two from 1 ns to 9 minutes.
const BUCKETS: usize = 40;

/// A histogram of durations over the life of the process.
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

    /// Returns the quantiles, each the upper edge of its power of two.
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

/// The counters of all mailboxes of one kind of actor.
#[derive(Debug)]
pub struct Meter {
    capacity: usize,
    depth: AtomicI64,
    waited: Times,
    handled: Times,
}

impl Meter {
    /// Creates a meter at zero; `capacity` is the number of messages that one mailbox takes.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, depth: 0.into(), waited: Times::default(), handled: Times::default() })
    }

    /// Messages that one mailbox takes before [`Mailbox::tell`] is refused.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Messages sent whose handling has not begun.
    pub fn depth(&self) -> u64 {
        u64::try_from(self.depth.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Messages handled.
    pub fn handled_total(&self) -> u64 {
        self.handled.count.load(Ordering::Relaxed)
    }

    /// Quantiles of the handling time.
    pub fn handle_times(&self) -> HandleTimes {
        self.handled.read()
    }

    /// Quantiles of the time from sending to handling.
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
        // A refused message stays with its sender.
        assert!(waiting_after(|mailbox, n| drop(mailbox.tell(n))).await < 10);
        // The control: actix's own `do_send`, which ignores the capacity.
        assert_eq!(waiting_after(|mailbox, n| mailbox.recipient.do_send(mailbox.seal(n))).await, 10_000);
    }
}
