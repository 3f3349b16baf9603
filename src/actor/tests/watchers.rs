//! Tests of the time that a watcher has to come back, and of the warnings they get, on a paused clock and with a registry
//! that only listens.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, Context, Handler};
use tokio::sync::oneshot;

use super::house::{House, eventually, hurried, request};
use crate::{
    actor::{
        Settings,
        clock::{self, Beat},
        mailbox::{Envelope, Mailbox, Meter},
        registry::{Announcement, RegistryMessage},
        session::{
            self, Attach, Attached, SessionActor, SessionMessage,
            control::{ControlCommand, ControlMessage},
        },
        wire::ToSocket,
    },
    core::{
        liveness::Rule,
        record::fixture,
        session::{Limits, Loss},
        stream::AttachNo,
        watchers::BACK_WITHIN,
    },
};

/// Longer than a test: no other deadline of the session passes meanwhile.
const LONG: Duration = Duration::from_hours(1);

const WATCHED: &str = "watched: bob looks on in the session of ada.";
const ENDED: &str = "watch_ended: bob left the session of ada and was not back within 10 s.";

/// A registry that notes the history.
struct Listens(Rc<RefCell<Vec<String>>>);

impl Actor for Listens {
    type Context = Context<Self>;
}

impl Handler<Envelope<RegistryMessage>> for Listens {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<RegistryMessage>, _: &mut Context<Self>) {
        let (message, _handling) = envelope.open();
        if let RegistryMessage::Announce { announcement: Announcement { transition: Some(told), .. }, .. } = message {
            self.0.borrow_mut().push(told.detail);
        }
    }
}

/// A session with its owner's page and a watcher's.
struct Stage {
    session: Mailbox<SessionMessage>,
    history: Rc<RefCell<Vec<String>>>,
    watcher: AttachNo,
    _pages: [Attached; 2],
    _house: House,
}

impl Stage {
    /// Sets it up and pauses the clock.
    async fn new(idle_timeout: Option<Duration>) -> Self {
        let (house, history) = (House::new().await, Rc::<RefCell<Vec<String>>>::default());
        let mut deps = house.gateway.deps.clone();
        let rule = Rule { interval: LONG, window: LONG, probes: 1 };
        let limits = Limits { browser: rule, peer: rule, checkpoint: LONG, idle_timeout, ..deps.settings.limits };
        deps.settings = Arc::new(Settings { limits, ..(*deps.settings).clone() });
        deps.registry = Mailbox::new(Listens(history.clone()).start().recipient(), Meter::new(16));
        let (record, context) = (fixture::opened(clock::utc()), Context::<SessionActor>::new());
        let (session, beat) = (session::mailbox(&context, &deps), Beat::new(record.id, deps.activity.clone()));
        session::start(context, deps, request(), record, beat.into());
        let pages = [attach(&session, House::page()).await, attach(&session, looks_on()).await];
        eventually(async || history.borrow().iter().any(|told| told == "The shell runs.")).await;
        tokio::time::pause();
        let stage = Self { session, history, watcher: pages[1].ends.attach, _pages: pages, _house: house };
        // Beyond the tick of any timer that the start has set.
        stage.eventually_passed(Duration::from_secs(1)).await;
        assert_eq!(stage.told(), [WATCHED]);
        stage
    }

    async fn leaves(&self) {
        self.session.deliver(SessionMessage::SocketLost(self.watcher, Loss::Broken)).await.unwrap();
    }

    async fn eventually_passed(&self, time: Duration) {
        let begun = clock::instant();
        eventually(async || clock::instant() >= begun + time).await;
    }

    /// The watchers in the history.
    fn told(&self) -> Vec<String> {
        self.history.borrow().iter().filter(|told| told.starts_with("watch")).cloned().collect()
    }
}

fn looks_on() -> Attach {
    Attach { interactive: false, user: "bob".into(), ..House::page() }
}

async fn attach(session: &Mailbox<SessionMessage>, request: Attach) -> Attached {
    let (reply, attached) = oneshot::channel();
    session.deliver(SessionMessage::Attach { request, reply }).await.unwrap();
    attached.await.unwrap().unwrap()
}

#[actix_rt::test]
async fn a_watcher_who_left_is_written_down_in_time_though_nothing_else_happens() {
    let stage = Stage::new(None).await;
    stage.leaves().await;
    stage.eventually_passed(BACK_WITHIN - Duration::from_secs(1)).await;
    assert_eq!(stage.told(), [WATCHED]);
    stage.eventually_passed(Duration::from_secs(2)).await;
    assert_eq!(stage.told(), [WATCHED, ENDED]);
}

#[actix_rt::test]
async fn a_watcher_has_not_left_while_the_host_stood_still() {
    let stage = Stage::new(None).await;
    stage.leaves().await;
    tokio::time::advance(BACK_WITHIN + Duration::from_secs(5)).await;
    // The timers ring before anybody is back.
    stage.eventually_passed(Duration::from_secs(1)).await;
    let _back = attach(&stage.session, looks_on()).await;
    stage.eventually_passed(BACK_WITHIN + Duration::from_secs(5)).await;
    assert_eq!(stage.told(), [WATCHED]);
}

#[actix_rt::test]
async fn who_comes_to_look_on_or_to_type_hears_of_an_end_that_is_near() {
    let stage = Stage::new(Some(Duration::from_secs(20))).await;
    stage.eventually_passed(Duration::from_secs(11)).await;
    let mut guest = attach(&stage.session, Attach { control_aware: true, ..looks_on() }).await;
    is_warned(&mut guest).await;
    let takes = ControlMessage { attach: guest.ends.attach, command: ControlCommand::Force };
    stage.session.deliver(SessionMessage::Control(takes)).await.unwrap();
    is_warned(&mut guest).await;
}

/// Reads frames until one is a warning.
async fn is_warned(page: &mut Attached) {
    let reading =
        async { while !matches!(page.ends.frames.recv().await.expect("the session goes on"), ToSocket::Warn(_)) {} };
    hurried(reading).await;
}
