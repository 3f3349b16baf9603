//! The start of a session's actor, the dial of its target, and its close when the actor fails for good.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::{AsyncContext, Context};
use tokio::sync::{mpsc, oneshot};

use super::{ANNOUNCE_AGAIN, KIND, SessionActor, SessionMessage, dial_audit::DialAudit, post, recording};
use crate::{
    actor::{
        SessionDeps,
        alarm::Alarm,
        child::{Child, ChildSpec, supervise},
        clock::{self, Beat},
        gateway::OpenSession,
        mailbox::Mailbox,
        registry::RegistryMessage,
        stalls::StallDetector,
        wire::{ToSocket, Wire},
    },
    core::{
        control::Control,
        record::{EndReason, Record, SessionId},
        restart::{Policy, Restarts},
        session::Session,
    },
    recording::RecordingHeader,
    ssh::DialEvent,
};

/// A session that fails more often than this is closed as `actor_failed`: OTP's usual bounds are of this order, and a
/// failure that repeats is not one that a restart mends.
const INTENSITY: (usize, Duration) = (3, Duration::from_secs(10));

/// What the history and the browsers are told of it.
const FAILED: &str = "The session failed inside the gateway and had to be closed. Open a new one.";

/// Starts a session's actor in `context` on this thread and dials.
pub(in crate::actor) fn start(
    context: Context<SessionActor>,
    deps: SessionDeps,
    request: OpenSession,
    record: Record,
    beat: Arc<Beat>,
) {
    let mailbox = mailbox(&context, &deps);
    let id = record.id;
    let control = Control::new(deps.settings.take_over, &record.username);
    let wire = Wire::new(deps.settings.stream, control, beat, deps.observations.clone());
    wire.resize(request.size);
    let detector = StallDetector::current(&deps.observations);
    let session = Session::new(clock::now(), record.clone(), deps.settings.limits);
    let child = Child { actor: KIND, id: id.to_string() };
    let new_recording = record.recording.clone().map(|place| (place, recording::header(&record, &request)));
    let actor = SessionActor {
        stalled: detector.stalled(),
        detector,
        session,
        last_record: record,
        wire: wire.clone(),
        mailbox: mailbox.clone(),
        timer: Alarm::default(),
        deps: deps.clone(),
    };
    wire.keep(dial(deps.clone(), wire.clone(), mailbox.clone(), id, request, new_recording));
    let (supervisor, session) = (deps.supervisor.clone(), Some(mailbox));
    let restarts = Restarts::new(Policy::Transient, INTENSITY.0, INTENSITY.1);
    let given_up = Box::new(move || close_failed(deps, wire, id));
    supervise(ChildSpec { child, restarts, supervisor, session, given_up }, context, actor);
}

/// Returns the mailbox of a session that is about to start in `context`.
pub(in crate::actor) fn mailbox(context: &Context<SessionActor>, deps: &SessionDeps) -> Mailbox<SessionMessage> {
    Mailbox::new(context.address().recipient(), deps.observations.meters.session.clone())
}

/// Closes the link and the record of a session whose actor failed for good. Once the close is durable, or an earlier one
/// that was on its way, the browsers are told of it.
fn close_failed(deps: SessionDeps, wire: Rc<Wire>, id: SessionId) {
    wire.close_link();
    actix::spawn(async move {
        let reason = EndReason::ActorFailed;
        let detail = FAILED.to_owned() + &recording::seal(&wire, &deps.audit, id).await;
        let last = loop {
            let (durable, last) = oneshot::channel();
            let close = RegistryMessage::CloseWithoutActor { id, reason, detail: detail.clone(), durable };
            if deps.registry.deliver(close).await.is_ok() {
                break last.await;
            }
            tokio::time::sleep(ANNOUNCE_AGAIN).await;
        };
        for viewer in wire.viewers() {
            match &last {
                Ok(Record { end_reason, exit_status, .. }) => {
                    let (reason, exit_status) = (end_reason.unwrap_or(reason), *exit_status);
                    let message = if reason == EndReason::ActorFailed { FAILED } else { "The session has ended." };
                    viewer.finish(ToSocket::Closed { reason, exit_status, message: message.to_owned() });
                }
                // It was over already. The page connects again and is told how it ended.
                Err(_) => {
                    viewer.closer.close();
                    wire.detach(viewer.attach);
                }
            }
        }
    });
}

/// Begins the recording and dials, passing prompts and progress on to the browsers meanwhile.
async fn dial(
    deps: SessionDeps,
    wire: Rc<Wire>,
    mailbox: Mailbox<SessionMessage>,
    id: SessionId,
    request: OpenSession,
    new_recording: Option<(String, RecordingHeader)>,
) {
    if let Err(detail) = recording::begin(&deps, &wire, new_recording).await {
        let reason = EndReason::Overloaded;
        return post(&mailbox, SessionMessage::ConnectFailed { reason, detail });
    }
    let (events, mut heard) = mpsc::channel(4);
    let (beat, dial_audit) = (wire.beat.clone(), DialAudit::new(&deps, &request));
    let dial = request.dial(id.to_string(), events, Arc::new(move || beat.hear()));
    let mut connecting = deps.connector.connect(dial);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut connecting => break outcome,
            Some(event) = heard.recv() => match event {
                DialEvent::Progress(detail) => {
                    wire.tell_all(|| ToSocket::Status { status: "connecting", detail: detail.clone() });
                }
                DialEvent::Ask { prompt, reply } => wire.ask(prompt, reply),
                DialEvent::Unasked { hop, kind } => dial_audit.unasked(hop.as_deref(), kind),
                DialEvent::Trusting { host, detail, proceed } => dial_audit.trusts(&host, &detail, proceed),
            },
        }
    };
    wire.forget_question();
    let message = match outcome {
        Ok(link) => {
            let addr = link.addr.clone();
            wire.take_up(link, mailbox.clone());
            wire.keep(dial_audit.listens(heard));
            SessionMessage::Connected { addr }
        }
        Err(error) => {
            dial_audit.failed(&error);
            SessionMessage::ConnectFailed { reason: error.reason(), detail: error.to_string() }
        }
    };
    post(&mailbox, message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::{
        gateway::Ended,
        pump,
        tests::house::{House, hurried, read},
    };

    #[actix_rt::test]
    async fn whose_session_was_over_before_it_failed_comes_back_and_is_told_how_it_ended() {
        let house = House::new().await;
        let (id, mut attached, _target) = house.active().await;
        let ended = house.gateway.end(id, EndReason::Terminated, "ended by a test".into()).await.unwrap();
        assert_eq!(ended, Ended::Here);
        read(&mut attached, b"").await;

        let deps = house.gateway.deps.clone();
        let (control, beat) = (Control::new(deps.settings.take_over, "ada"), Beat::new(id, deps.activity.clone()));
        let wire = Wire::new(deps.settings.stream, control, beat.into(), deps.observations.clone());
        let (viewer, mut ends, frames) = wire.attach(House::page()).unwrap();
        actix::spawn(pump::forward(wire.clone(), viewer, frames, || {}));
        close_failed(deps, wire, id);
        hurried(async {
            while let Some(frame) = ends.frames.recv().await {
                assert!(!matches!(frame, ToSocket::Closed { .. }), "{frame:?}");
            }
        })
        .await;
    }
}
