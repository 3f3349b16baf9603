//! How a session's actor begins, how its target is dialled, and what is done when it fails for good.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::{AsyncContext, Context};
use tokio::sync::mpsc;

use super::{KIND, SessionActor, SessionMessage, post, recording, witness::Witness};
use crate::{
    actor::{
        Parts,
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
    recording::Title,
    ssh::DialEvent,
};

/// A session that fails more often than this is closed as `actor_failed`: OTP's usual bounds are of this order, and a
/// failure that repeats is not one that a restart mends.
const INTENSITY: (usize, Duration) = (3, Duration::from_secs(10));

/// Starts a session's actor in `context` on this thread and dials.
pub(in crate::actor) fn start(
    context: Context<SessionActor>,
    parts: Parts,
    request: OpenSession,
    record: Record,
    beat: Arc<Beat>,
) {
    let mailbox = mailbox(&context, &parts);
    let id = record.id;
    let keyboard = Control::new(parts.settings.take_over, &record.username);
    let wire = Wire::new(parts.settings.stream, keyboard, beat, parts.observations.clone());
    wire.resize(request.size);
    let detector = StallDetector::current(&parts.observations);
    let session = Session::new(clock::now(), record.clone(), parts.settings.limits);
    let child = Child { actor: KIND, id: id.to_string() };
    let film = record.recording.clone().map(|place| (place, recording::title(&record, &request)));
    let actor = SessionActor {
        stalled: detector.stalled(),
        detector,
        session,
        last_record: record,
        wire: wire.clone(),
        mailbox: mailbox.clone(),
        timer: Alarm::default(),
        parts: parts.clone(),
    };
    wire.keep(dial(parts.clone(), wire.clone(), mailbox.clone(), id, request, film));
    let (supervisor, session) = (parts.supervisor.clone(), Some(mailbox));
    let restarts = Restarts::new(Policy::Transient, INTENSITY.0, INTENSITY.1);
    let given_up = Box::new(move || bury(parts, wire, id));
    supervise(ChildSpec { child, restarts, supervisor, session, given_up }, context, actor);
}

/// The address of a session that is about to start in `context`.
pub(in crate::actor) fn mailbox(context: &Context<SessionActor>, parts: &Parts) -> Mailbox<SessionMessage> {
    Mailbox::new(context.address().recipient(), parts.observations.meters.session.clone())
}

/// Closes what a session that failed for good leaves behind.
fn bury(parts: Parts, wire: Rc<Wire>, id: SessionId) {
    wire.close_link();
    let reason = EndReason::ActorFailed;
    let message = "The session failed inside the gateway and had to be closed. Open a new one.".to_owned();
    for viewer in wire.viewers() {
        viewer.finish(ToSocket::Closed { reason, exit_status: None, message: message.clone() });
    }
    actix::spawn(async move {
        let detail = message + &recording::seal(&wire).await;
        if parts.registry.insist(|| RegistryMessage::Bury { id, reason, detail: detail.clone() }).await.is_err() {
            tracing::error!(session_id = %id, "no registry is there to close a failed session");
        }
    });
}

/// Dials, with questions and progress passed on meanwhile.
async fn dial(
    parts: Parts,
    wire: Rc<Wire>,
    mailbox: Mailbox<SessionMessage>,
    id: SessionId,
    request: OpenSession,
    film: Option<(String, Title)>,
) {
    if let Err(detail) = recording::begin(&parts, &wire, film).await {
        let reason = EndReason::Overloaded;
        return post(&mailbox, SessionMessage::ConnectFailed { reason, detail });
    }
    let (events, mut heard) = mpsc::channel(4);
    let (beat, witness) = (wire.beat.clone(), Witness::new(&parts, &request));
    let dial = request.dial(id.to_string(), events, Arc::new(move || beat.hear()));
    let mut connecting = parts.connector.connect(dial);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut connecting => break outcome,
            Some(event) = heard.recv() => match event {
                DialEvent::Progress(detail) => {
                    wire.tell_all(|| ToSocket::Status { status: "connecting", detail: detail.clone() });
                }
                DialEvent::Ask { prompt, reply } => wire.ask(prompt, reply),
                DialEvent::Unasked { hop, kind } => witness.unasked(hop.as_deref(), kind),
                DialEvent::Trusting { host, detail, proceed } => witness.trusts(&host, &detail, proceed),
            },
        }
    };
    wire.forget_question();
    let message = match outcome {
        Ok(link) => {
            let addr = link.addr.clone();
            wire.take_up(link, mailbox.clone());
            wire.keep(witness.listens(heard));
            SessionMessage::Connected { addr }
        }
        Err(error) => {
            witness.failed(&error);
            SessionMessage::ConnectFailed { reason: error.reason(), detail: error.to_string() }
        }
    };
    post(&mailbox, message);
}
