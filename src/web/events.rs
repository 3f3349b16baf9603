//! `GET /api/v1/events`: transitions as server-sent events (WHATWG HTML §9.2). Keeps no event itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue},
    web::{self, Bytes},
};
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

use super::{auth::Caller, error::Problem, sessions, state::State, view::session_json};
use crate::{
    actor::gateway::{Phase, SessionEvent, Subscription},
    core::{people::Right, record::Status},
    store::{ListQuery, Position},
};

/// Interval of comments on a silent stream: most proxies close a silent connection after 30 s or 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The last event before the gateway stops; an `EventSource` reconnects by itself.
const END: &[u8] = b"event: end\ndata: {\"code\":\"restart\"}\n\n";

/// Sessions of one piece of a snapshot: some 100 KiB.
const SNAPSHOT_ROWS: u32 = 200;

/// Streams in total. Each holds one task and a few frames; far more than users who watch a list at once.
const OF_ALL: usize = 1_000;

/// Streams of one user: a page has one, so more than one user's windows and programs need, and too few to leave others
/// none.
const OF_ONE: usize = 50;

/// When a refused caller may try again, in seconds.
const RETRY_AFTER: u64 = 10;

/// The open streams, counted per user.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<Arc<str>, usize>>);

/// A counted stream; dropping it frees the place.
#[derive(Debug)]
struct Seat {
    streams: Arc<Streams>,
    user: Arc<str>,
}

impl Streams {
    /// Counts one more stream of `user`.
    fn seat(self: &Arc<Self>, user: &Arc<str>) -> Result<Seat, Problem> {
        let mut open = self.open();
        if open.get(user).is_some_and(|of_user| *of_user >= OF_ONE) {
            return Err(Problem::too_many(
                format!(
                    "You have {OF_ONE} event streams open, as many as one user may. Close a page or a program that reads one."
                ),
                RETRY_AFTER,
            ));
        }
        if open.values().sum::<usize>() >= OF_ALL {
            return Err(Problem::unavailable("As many event streams are open as may be.", RETRY_AFTER));
        }
        *open.entry(user.clone()).or_default() += 1;
        Ok(Seat { streams: self.clone(), user: user.clone() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(of_user) = open.get_mut(&self.user) {
            *of_user = of_user.saturating_sub(1);
        }
        open.retain(|_, of_user| *of_user > 0);
    }
}

/// Streams every transition from now on, or from after `Last-Event-ID`. An event `gap` reports missing transitions,
/// followed by a snapshot of the open sessions; an event `end` reports the end of the gateway, after all of its
/// transitions.
pub async fn events(request: HttpRequest, state: web::Data<State>, caller: Caller) -> Result<HttpResponse, Problem> {
    let after = request.headers().get(LAST_EVENT_ID).map(sequence).transpose()?;
    let seat = state.event_streams.seat(&caller.user)?;
    let subscription = state.gateway.subscribe(after).await?;
    let feed = Feed::new(state, caller, seat, subscription);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        // nginx buffers responses by default.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(feed.into_stream()))
}

fn sequence(value: &HeaderValue) -> Result<u64, Problem> {
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        Problem::bad_request(
            "Last-Event-ID must be the id of an event: a number. Leave it out to hear of what is to come.",
        )
    })
}

/// The progress of a snapshot.
enum Snapshot {
    /// Not begun yet.
    Due,
    /// Sent up to this position.
    After(Position),
}

/// One browser's stream: bounded, since frames are made one at a time and only when the socket takes them.
struct Feed {
    state: web::Data<State>,
    caller: Caller,
    _seat: Seat,
    /// The sequence of the last event sent, or skipped.
    last: u64,
    opening: VecDeque<Bytes>,
    snapshot: Option<Snapshot>,
    subscription: Subscription,
    backlog: VecDeque<SessionEvent>,
    keep_alive: Duration,
    /// `None` once the end was sent.
    phase: Option<watch::Receiver<Phase>>,
}

impl Feed {
    fn new(state: web::Data<State>, caller: Caller, seat: Seat, mut subscription: Subscription) -> Self {
        let backlog: VecDeque<_> = std::mem::take(&mut subscription.backlog).into();
        let last = subscription.at;
        // Sent at once, so that the browser knows the stream is open.
        let mut opening = VecDeque::from([Bytes::from_static(b": open\n\n")]);
        let snapshot = subscription.gap.then_some(Snapshot::Due);
        opening.push_back(if subscription.gap { gap() } else { place(last) });
        let (phase, keep_alive) = (Some(state.gateway.phase()), KEEP_ALIVE);
        Self { state, caller, _seat: seat, last, opening, snapshot, subscription, backlog, keep_alive, phase }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        stream::unfold(self, |mut feed| async move { feed.next().await.map(|frame| (Ok(frame), feed)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.opening.pop_front() {
            return Some(frame);
        }
        if let Some(told) = self.snapshot.take() {
            return self.piece(told).await;
        }
        let mut phase = self.phase.take()?;
        let told = match self.backlog.pop_front() {
            Some(event) => Ok(Some(event)),
            None => tokio::select! {
                // Pending events come before the end.
                biased;
                told = tokio::time::timeout(self.keep_alive, hear(&mut self.subscription.live)) => told,
                Ok(_) = phase.wait_for(|phase| *phase >= Phase::ShutDown) => return Some(Bytes::from_static(END)),
            },
        };
        self.phase = Some(phase);
        let caller = self.caller.now(&self.state)?;
        match told {
            Ok(Some(event)) if event.sequence > self.last.saturating_add(1) => {
                self.last = event.sequence.saturating_sub(1);
                self.backlog.push_front(event);
                Some(self.miss())
            }
            Ok(Some(event)) => {
                self.last = event.sequence;
                // An event that the caller may not see only advances their place.
                let shown = sessions::sees(&caller, &event.session);
                Some(if shown { frame(&event) } else { place(self.last) })
            }
            Ok(None) => None,
            Err(_silence) => Some(Bytes::from_static(b": still here\n\n")),
        }
    }

    /// Reports a gap; the snapshot follows it.
    fn miss(&mut self) -> Bytes {
        self.snapshot = Some(Snapshot::Due);
        gap()
    }

    /// Returns the next piece of the snapshot of open sessions. Only the last piece has an id: a reader that is cut off
    /// before it reconnects with its previous id, and receives the gap again. `None`, which ends the stream, if the
    /// sessions cannot be read.
    async fn piece(&mut self, told: Snapshot) -> Option<Bytes> {
        let caller = self.caller.now(&self.state)?;
        let after = match told {
            Snapshot::Due => None,
            Snapshot::After(position) => Some(position),
        };
        let query = ListQuery {
            statuses: vec![Status::Connecting, Status::Active, Status::Detached, Status::Lost],
            limit: SNAPSHOT_ROWS,
            after,
            ..ListQuery::default()
        };
        let query = if caller.has(Right::Observe) { query } else { sessions::of_own(&caller, query) };
        let listing = self.state.gateway.list(query).await.ok()?;
        let id = if listing.next.is_none() { place_line(self.last) } else { String::new() };
        let data = json!({
            "sessions": listing.sessions.iter().map(session_json).collect::<Vec<_>>(),
            "complete": listing.next.is_none(),
            "degraded": listing.degraded,
        });
        self.snapshot = listing.next.map(Snapshot::After);
        Some(format!("event: snapshot\n{id}data: {data}\n\n").into())
    }
}

/// Waits for the next event, whose number shows what this reader missed before it; `None` once there are no more.
async fn hear(live: &mut broadcast::Receiver<SessionEvent>) -> Option<SessionEvent> {
    loop {
        match live.recv().await {
            Ok(event) => return Some(event),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Writes an event. JSON contains no line break of its own, so one `data:` line holds it.
fn frame(event: &SessionEvent) -> Bytes {
    let data = json!({ "session": session_json(&event.session), "detail": event.detail });
    format!("event: session\n{}data: {data}\n\n", place_line(event.sequence)).into()
}

fn place_line(sequence: u64) -> String {
    format!("id: {sequence}\n")
}

/// Advances the place from which a reader resumes, and nothing else: an event without data is not dispatched.
fn place(sequence: u64) -> Bytes {
    format!("{}\n", place_line(sequence)).into()
}

/// Reports that events are missing; the snapshot after it holds their result.
fn gap() -> Bytes {
    Bytes::from_static(b"event: gap\ndata: {}\n\n")
}

#[cfg(test)]
mod tests;
