//! The tasks that move a session's bytes: the pump reads from the target, the writer writes to it, a forwarder per
//! browser sends as much as its window allows. They own the halves of the link and outlive the session's actor. Know no
//! lifecycle.

use std::{
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{
    clock,
    mailbox::Mailbox,
    session::{SessionMessage, post},
    stalls::{StallDetector, Stalls},
    wire::{InputKind, InputMessage, ToSocket, Viewer, Wire},
};
use crate::{
    core::{
        control::Turn,
        record::{EndReason, ExitStatus},
        stream::{AttachNo, Chunk, FloodLimit},
    },
    recording::sender::RecordingSender,
    ssh::{LinkEvent, LinkInput, LinkOutput},
};

/// Maximum bytes of output joined into one frame: large enough to make the cost per frame negligible, and the size of
/// the largest SSH packet that targets send, so that it passes unsplit.
const MAX_FRAME_BYTES: usize = 32 * 1024;

/// Maximum bytes of input joined into one write: an SSH packet (RFC 4253 §6.1 requires at least 32768 bytes).
const MAX_PACKET_BYTES: usize = 32 * 1024;

/// Time for which a browser may leave a full window unacknowledged: after it, the page is stuck, not slow. A hidden
/// page runs, and acknowledges, only once a minute (timers of hidden pages, in Chromium).
const STUCK_TIMEOUT: Duration = Duration::from_secs(150);

/// Time after a stall of this thread in which it reads what waits in the sockets; less after a shorter stall.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Maximum deliveries of a link's news to a session that fails while handling it, and the delay between them: more than
/// its supervision tolerates.
const MAX_REPORTS: u32 = 5;
const TELL_AGAIN: Duration = Duration::from_millis(50);

/// Time for which a browser may make no progress towards its last frame: as long as a lost one takes to be noticed.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(12);

/// A change of the link's state, as the pump reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkNews {
    /// The program ended.
    Exited(ExitStatus),
    /// The link is closed; nothing more will come.
    Closed,
    /// The target's output was paused or resumed: see the wire's `paused`.
    Flow,
}

/// Reads from the target until it is gone. The valve is closed while the browser's window is full, while a required
/// recording cannot keep up, or while no browser types and the target has sent its share ([`FloodLimit`]): the channel
/// is still drained, but no more comes from the network.
pub(super) async fn pump(wire: Rc<Wire>, mut output: Box<dyn LinkOutput>, session: Mailbox<SessionMessage>) {
    let tell = async |news: LinkNews| {
        // A session that failed while handling the news receives it again after its restart.
        for _ in 0..MAX_REPORTS {
            if session.deliver(SessionMessage::Link(news.clone())).await.is_ok() {
                return;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
        tracing::debug!("the session had ended before it heard of its link");
    };
    let (mut flood_limit, mut waits_until, mut in_trouble) = (FloodLimit::default(), None::<Instant>, false);
    loop {
        let step = next_step(&wire, &mut *output);
        let step = match waits_until {
            Some(until) => tokio::time::timeout_at(until.into(), step).await.unwrap_or(Step::Drained),
            None => step.await,
        };
        let unattended = wire.output.borrow().is_unattended();
        match step {
            Step::Event(LinkEvent::Output(bytes)) => {
                if unattended {
                    flood_limit.count(clock::instant(), bytes.len());
                }
                wire.ingest(bytes);
            }
            Step::Event(LinkEvent::Exited(status)) => {
                wire.exit.replace(Some(status.clone()));
                tell(LinkNews::Exited(status)).await;
            }
            Step::Event(LinkEvent::Closed) => return tell(LinkNews::Closed).await,
            Step::Drained => {}
        }
        waits_until = if unattended { flood_limit.waits_until(clock::instant()) } else { None };
        if let Some(detail) = wire.recording().and_then(RecordingSender::trouble).filter(|_| !in_trouble) {
            in_trouble = true;
            post(&session, SessionMessage::End { reason: EndReason::Overloaded, detail: detail.to_owned() });
        }
        let full = wire.output.borrow().is_full() || wire.recording().is_some_and(RecordingSender::is_behind);
        turn_valve(&wire, full || waits_until.is_some(), &session);
    }
}

enum Step {
    Event(LinkEvent),
    /// A browser attached, acknowledged or left.
    Drained,
}

/// Waits for the next step. Cancel-safe.
async fn next_step(wire: &Wire, output: &mut dyn LinkOutput) -> Step {
    let mut drained = std::pin::pin!(wire.drained.notified());
    poll_fn(|cx| match output.poll_event(cx) {
        Poll::Ready(event) => Poll::Ready(Step::Event(event)),
        Poll::Pending => drained.as_mut().poll(cx).map(|()| Step::Drained),
    })
    .await
}

fn turn_valve(wire: &Wire, close: bool, session: &Mailbox<SessionMessage>) {
    if close == wire.paused.replace(close) {
        return;
    }
    if let Some(control) = wire.link_control.borrow().as_ref() {
        if close {
            control.close_valve();
        } else {
            control.open_valve();
        }
    }
    if session.tell(SessionMessage::Link(LinkNews::Flow)).is_err() {
        tracing::debug!("a busy session reads the valve at its next turn");
    }
}

/// Writes the current browser's input to the target, in order, each byte once.
pub(super) async fn write(wire: Rc<Wire>, mut input: Box<dyn LinkInput>, mut messages: mpsc::Receiver<InputMessage>) {
    let mut held: Option<InputMessage> = None;
    loop {
        let Some(message) = (match held.take() {
            Some(message) => Some(message),
            None => messages.recv().await,
        }) else {
            return;
        };
        if !wire.control.borrow().types(message.attach, message.turn) {
            continue;
        }
        let gone = match message.kind {
            InputKind::Resize(size) => {
                if let Some(recording) = wire.recording() {
                    recording.resize(size.cols, size.rows);
                }
                wire.resize(size);
                input.resize(size).await.is_err()
            }
            InputKind::Bytes(bytes) => {
                let bytes = join(bytes, (message.attach, message.turn), &mut messages, &mut held);
                let length = bytes.len();
                let taken = wire.input.borrow_mut().take(length);
                wire.beat.sent.touch();
                wire.beat.bytes_in.fetch_add(length as u64, std::sync::atomic::Ordering::Relaxed);
                if let Some(recording) = wire.recording() {
                    // Before the target has it, so that the recording has the echo after it.
                    recording.input(&bytes);
                }
                let sent = input.write(bytes).await;
                let took = clock::instant().saturating_duration_since(message.at);
                // The link's task puts it on the network at its next turn: the rest waits until it has.
                tokio::task::yield_now().await;
                wire.observations.keystroke.observe(took.as_secs_f64());
                wire.ack_input(message.attach, taken);
                sent.is_err()
            }
        };
        if gone {
            // Further input has no destination. The link to a target that takes no input (its packets have no size) is
            // closed; the pump reads the remaining output and reports the end.
            if let Some(control) = wire.link_control.take() {
                wire.spawn(control.close());
            }
            return;
        }
    }
}

/// Joins the waiting bytes of the same browser and turn; holds any other message for the next write.
fn join(
    first: Bytes,
    typist: (AttachNo, Turn),
    messages: &mut mpsc::Receiver<InputMessage>,
    held: &mut Option<InputMessage>,
) -> Bytes {
    let mut joined: Option<BytesMut> = None;
    let mut length = first.len();
    while length < MAX_PACKET_BYTES {
        match messages.try_recv() {
            Ok(InputMessage { attach, turn, kind: InputKind::Bytes(more), .. }) if (attach, turn) == typist => {
                length += more.len();
                joined.get_or_insert_with(|| BytesMut::from(first.as_ref())).extend_from_slice(&more);
            }
            Ok(other) => {
                *held = Some(other);
                break;
            }
            Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => break,
        }
    }
    joined.map_or(first, BytesMut::freeze)
}

/// Serves one browser until it is detached or finished. `stuck` runs if it leaves a full window unacknowledged for
/// [`STUCK_TIMEOUT`]. A socket that does not end when it should finish is closed from outside: while its browser reads
/// nothing it is not polled, and the session that would notice may be over.
pub(super) async fn forward(wire: Rc<Wire>, viewer: Rc<Viewer>, frames: mpsc::Sender<ToSocket>, stuck: impl Fn()) {
    tokio::select! {
        biased;
        () = send(&wire, &viewer, &frames, stuck) => {}
        () = goodbye_overdue(&wire, &viewer) => viewer.closer.close(),
    }
}

/// Resolves if a browser that should finish acknowledges nothing for [`FAREWELL_TIMEOUT`]; what this thread missed of
/// it does not count.
async fn goodbye_overdue(wire: &Wire, viewer: &Viewer) {
    viewer.finishing().await;
    let detector = StallDetector::current(&wire.observations);
    let (mut since, mut acked, mut stalled) = (clock::instant(), viewer.acked(), detector.stalled());
    loop {
        tokio::time::sleep_until((since + FAREWELL_TIMEOUT).into()).await;
        let (seen, now) = (viewer.acked(), detector.stalled());
        if (seen, now) == (acked, stalled) {
            return;
        }
        // An acknowledgement that came during a stall may still wait in the socket.
        since = if seen == acked { since + now.put_off_since(stalled, CATCH_UP) } else { clock::instant() };
        (acked, stalled) = (seen, now);
    }
}

/// Sends one browser its control frames and as much output as its window allows, up to its last frame, and waits for
/// the end of its socket.
async fn send(wire: &Wire, viewer: &Viewer, frames: &mpsc::Sender<ToSocket>, stuck: impl Fn()) {
    let (mut acked, mut full_since) = (viewer.acked(), None::<(Instant, Stalls)>);
    let detector = StallDetector::current(&wire.observations);
    loop {
        if viewer.acked() != acked {
            (acked, full_since) = (viewer.acked(), None);
            let taken = wire.output.borrow_mut().ack(viewer.attach, acked);
            if let Err(beyond) = taken {
                viewer.finish(ToSocket::BadAck(beyond));
                wire.output.borrow_mut().detach(viewer.attach);
            }
            wire.drained.notify_one();
        }
        let chunk = match viewer.next_control() {
            Some(frame) => {
                if frames.send(frame).await.is_err() {
                    return;
                }
                continue;
            }
            None => wire.output.borrow_mut().next_chunk(viewer.attach, MAX_FRAME_BYTES),
        };
        let last = match chunk {
            Chunk::Bytes(bytes) => {
                full_since = None;
                if frames.send(ToSocket::Output(bytes)).await.is_err() {
                    return;
                }
                viewer.hasten_receipt();
                continue;
            }
            Chunk::WindowFull => {
                // A ping or a receipt wakes it too, and is no acknowledgement.
                let (since, stalled) = *full_since.get_or_insert_with(|| (clock::instant(), detector.stalled()));
                let until = since + STUCK_TIMEOUT;
                if tokio::time::timeout_at(until.into(), viewer.woken()).await.is_err() && viewer.acked() == acked {
                    let now = detector.stalled();
                    if now == stalled {
                        return stuck();
                    }
                    // What was missed does not count, and an acknowledgement that came meanwhile may still wait in the
                    // socket. The rest of the time does, or a host that lags would let no page go.
                    full_since = Some((since + now.put_off_since(stalled, CATCH_UP), now));
                }
                continue;
            }
            Chunk::Redraw => {
                let redrawn = wire.output.borrow_mut().redraw(viewer.attach);
                if let Some(picture) = redrawn
                    && frames.send(ToSocket::Redraw(picture)).await.is_err()
                {
                    return;
                }
                continue;
            }
            Chunk::FellBehind => Some(ToSocket::FellBehind),
            Chunk::Nothing | Chunk::Detached => viewer.take_last(),
        };
        match last {
            Some(last) => {
                if frames.send(last).await.is_err() {
                    tracing::debug!("a browser left before its last frame");
                }
                return frames.closed().await;
            }
            None if chunk == Chunk::Detached => return,
            None => viewer.woken().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, yield_now};

    use super::*;
    use crate::{
        actor::{activity_queue::activity_queue, clock::Beat, observe::Observations, tests::house::House},
        core::{
            control::{Control, TakeOver},
            record::{SessionId, UtcMicros},
            stream::Limits,
        },
    };

    /// Says goodbye to a browser. Returns whether that is overdue before `meanwhile` is over.
    async fn is_overdue_during(meanwhile: impl AsyncFnOnce(Rc<Viewer>)) -> bool {
        let beat = Beat::new(SessionId::new(UtcMicros(1), [7; 10]), activity_queue().0);
        let limits = Limits { window: 1 << 10, replay: 1 << 16, screens: false };
        let control = Control::new(TakeOver::Force, "ada");
        let wire = Wire::new(limits, control, beat.into(), Observations::default());
        let (viewer, _ends, _frames) = wire.attach(House::page()).unwrap();
        viewer.finish(ToSocket::Superseded);
        let said = async {
            tokio::select! {
                () = goodbye_overdue(&wire, &viewer) => true,
                () = meanwhile(viewer.clone()) => false,
            }
        };
        LocalSet::new().run_until(said).await
    }

    async fn pass(seconds: u64) {
        tokio::time::timeout(Duration::from_secs(seconds), std::future::pending::<()>()).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_goodbye_is_not_overdue_for_what_this_thread_did_not_read_while_it_was_stopped() {
        for (is_stopped, seconds, expected) in
            [(false, 11, false), (false, 13, true), (true, 10, false), (true, 30, true)]
        {
            let overdue = is_overdue_during(async |_| {
                yield_now().await;
                if is_stopped {
                    tokio::time::advance(Duration::from_secs(600)).await;
                }
                pass(seconds).await;
            });
            assert_eq!(overdue.await, expected, "{seconds} s, stopped before: {is_stopped}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_that_still_reads_is_not_overdue() {
        let overdue = is_overdue_during(async |viewer| {
            for acked in 1..10 {
                viewer.side.ack(acked);
                pass(10).await;
            }
        });
        assert!(!overdue.await);
    }
}
