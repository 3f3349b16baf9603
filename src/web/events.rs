//! `GET /api/v1/events`: transitions as server-sent events (WHATWG HTML §9.2). Keeps no event itself.

use std::{collections::VecDeque, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue},
    web::{self, Bytes},
};
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, broadcast::error::RecvError, watch};

use super::{auth::Caller, error::Problem, sessions, state::State, view::session_json};
use crate::actor::gateway::{Phase, SessionEvent, Subscription};

/// Proxies close what is silent for longer, most after 30 s or 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a reader is told last where the gateway stops; an `EventSource` comes back by itself.
const END: &[u8] = b"event: end\ndata: {\"code\":\"restart\"}\n\n";

/// Streams every transition from now on, or from after `Last-Event-ID`. What is missing is said by an event `gap`, and the end
/// of the gateway, behind every transition of it, by an event `end`.
pub async fn events(request: HttpRequest, state: web::Data<State>, caller: Caller) -> Result<HttpResponse, Problem> {
    let after = request.headers().get(LAST_EVENT_ID).map(sequence).transpose()?;
    let permit = state.event_streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("As many event streams are open as may be.", 10))?;
    let subscription = state.gateway.subscribe(after).await?;
    let feed = Feed::new(state, caller, permit, after, subscription);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        // nginx holds answers back unless told otherwise.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(feed.into_stream()))
}

fn sequence(value: &HeaderValue) -> Result<u64, Problem> {
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Problem::bad_request("Last-Event-ID must be the id of an event: a number."))
}

/// One browser's stream: bounded, since frames are made one at a time and only when the socket takes them.
struct Feed {
    state: web::Data<State>,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
    /// The sequence of the last event told, as far as known.
    last: Option<u64>,
    opening: VecDeque<Bytes>,
    subscription: Subscription,
    backlog: VecDeque<SessionEvent>,
    keep_alive: Duration,
    /// `None` once the end was told.
    phase: Option<watch::Receiver<Phase>>,
}

impl Feed {
    fn new(
        state: web::Data<State>,
        caller: Caller,
        permit: OwnedSemaphorePermit,
        after: Option<u64>,
        mut subscription: Subscription,
    ) -> Self {
        let backlog: VecDeque<_> = std::mem::take(&mut subscription.backlog).into();
        // A comment at once, so that the browser knows the stream is open.
        let mut opening = VecDeque::from([Bytes::from_static(b": open\n\n")]);
        if subscription.gap {
            opening.push_back(gap(backlog.front().map(|event| event.sequence.saturating_sub(1))));
        }
        let (phase, keep_alive) = (Some(state.gateway.phase()), KEEP_ALIVE);
        Self { state, caller, _permit: permit, last: after, opening, subscription, backlog, keep_alive, phase }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        stream::unfold(self, |mut feed| async move { feed.next().await.map(|frame| (Ok(frame), feed)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.opening.pop_front() {
            return Some(frame);
        }
        let mut phase = self.phase.take()?;
        let told = match self.backlog.pop_front() {
            Some(event) => Ok(Ok(event)),
            None => tokio::select! {
                // What was told already comes before the end.
                biased;
                told = tokio::time::timeout(self.keep_alive, self.subscription.live.recv()) => told,
                Ok(_) = phase.wait_for(|phase| *phase >= Phase::Drained) => return Some(Bytes::from_static(END)),
            },
        };
        self.phase = Some(phase);
        let caller = self.caller.now(&self.state)?;
        match told {
            Ok(Ok(event)) => {
                self.last = Some(event.sequence);
                // What is not shown to them moves no more than the stream: a comment holds its place.
                let shown = sessions::sees(&caller, &event.session);
                Some(if shown { frame(&event) } else { Bytes::from_static(b":\n\n") })
            }
            Ok(Err(RecvError::Lagged(missed))) => {
                self.last = self.last.map(|last| last.saturating_add(missed));
                Some(gap(self.last))
            }
            Ok(Err(RecvError::Closed)) => None,
            Err(_silence) => Some(Bytes::from_static(b": still here\n\n")),
        }
    }
}

/// JSON has no line break of its own, so one `data:` line holds it.
fn frame(event: &SessionEvent) -> Bytes {
    let data = json!({ "session": session_json(&event.session), "detail": event.detail });
    format!("event: session\nid: {}\ndata: {data}\n\n", event.sequence).into()
}

/// Says that events are missing, the last of them being `last`: the browser resumes after it.
fn gap(last: Option<u64>) -> Bytes {
    let id = last.map_or(String::new(), |last| format!("id: {last}\n"));
    format!("event: gap\n{id}data: {{}}\n\n").into()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::sync::broadcast;

    use super::*;
    use crate::web::fixture::{caller, record, settings, state_with};

    fn event(sequence: u64) -> SessionEvent {
        SessionEvent { sequence, session: record(), detail: "a\nb".to_owned() }
    }

    fn feed(after: Option<u64>, backlog: Vec<SessionEvent>, gap: bool) -> (broadcast::Sender<SessionEvent>, Feed) {
        let (sender, live) = broadcast::channel(2);
        let state = state_with(settings());
        let permit = state.event_streams.clone().try_acquire_owned().unwrap();
        let caller = caller(&state, "admin").0;
        (sender, Feed::new(state, caller, permit, after, Subscription { backlog, gap, live }))
    }

    async fn told(feed: Feed) -> Vec<String> {
        let mut heads = Vec::new();
        let mut frames = Box::pin(feed.into_stream());
        while let Some(Ok(frame)) = frames.next().await {
            let text = String::from_utf8(frame.to_vec()).unwrap();
            assert!(text.ends_with("\n\n") && !text.trim_end().contains("\n\n"), "one frame: {text:?}");
            heads.push(text.lines().take(2).collect::<Vec<_>>().join(" "));
        }
        heads
    }

    #[actix_rt::test]
    async fn others_sessions_are_told_to_nobody_who_may_not_observe() {
        for (who, told_of) in [("viewer", "event: session id: 1"), ("user", ":")] {
            let (sender, mut feed) = feed(None, vec![], false);
            feed.caller = caller(&feed.state, who).0;
            sender.send(event(1)).unwrap();
            drop(sender);
            let heads = told(feed).await;
            assert_eq!(heads.iter().map(|head| head.trim()).collect::<Vec<_>>(), [": open", told_of], "{who}");
        }
    }

    #[actix_rt::test]
    async fn the_backlog_comes_before_what_is_new() {
        let (sender, feed) = feed(Some(6), vec![event(7)], false);
        sender.send(event(8)).unwrap();
        drop(sender);
        assert_eq!(told(feed).await, [": open ", "event: session id: 7", "event: session id: 8"]);
    }

    #[actix_rt::test]
    async fn a_gap_is_said_before_the_backlog() {
        let (sender, feed) = feed(Some(2), vec![event(7)], true);
        drop(sender);
        assert_eq!(told(feed).await, [": open ", "event: gap id: 6", "event: session id: 7"]);
    }

    #[actix_rt::test]
    async fn lagging_behind_is_a_gap() {
        let (sender, feed) = feed(Some(0), vec![], false);
        for sequence in 1..=5 {
            sender.send(event(sequence)).unwrap();
        }
        drop(sender);
        assert_eq!(told(feed).await, [": open ", "event: gap id: 3", "event: session id: 4", "event: session id: 5"]);
    }

    #[actix_rt::test]
    async fn silence_is_broken() {
        let (_sender, mut feed) = feed(None, vec![], false);
        assert_eq!(feed.keep_alive, Duration::from_secs(15));
        feed.keep_alive = Duration::from_millis(1);
        let mut frames = Box::pin(feed.into_stream());
        frames.next().await;
        assert_eq!(frames.next().await.unwrap().unwrap(), ": still here\n\n");
    }

    #[actix_rt::test]
    async fn the_end_of_the_gateway_is_told_behind_everything_else() {
        let (sender, feed) = feed(None, vec![], false);
        let gateway = feed.state.gateway.clone();
        sender.send(event(1)).unwrap();
        sender.send(event(2)).unwrap();
        gateway.hang_up();
        let told = told(feed).await;
        assert_eq!(
            told,
            [": open ", "event: session id: 1", "event: session id: 2", "event: end data: {\"code\":\"restart\"}"]
        );
        gateway.deserted().await;
    }

    #[actix_rt::test]
    async fn a_stream_ends_with_the_sign_in_of_its_reader() {
        let (sender, mut feed) = feed(None, vec![], false);
        let (caller, cookie) = caller(&feed.state, "viewer");
        feed.caller = caller;
        sender.send(event(1)).unwrap();
        feed.state.sign_ins.sign_out(feed.state.now(), &cookie);
        assert_eq!(told(feed).await, [": open "]);
    }
}
