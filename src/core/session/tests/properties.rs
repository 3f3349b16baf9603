//! Invariants of a session in every order of events and every rhythm of time.

use proptest::prelude::*;

use super::*;

const EVERYTHING: Limits = Limits {
    idle_timeout: Some(Duration::from_secs(100)),
    max_duration: Some(Duration::from_secs(400)),
    checkpoint: Duration::from_secs(7),
    ..LIMITS
};

/// One possible step; values that depend on the story so far are filled in when it is taken.
#[derive(Debug, Clone)]
enum Step {
    Wait(Duration),
    /// The timer fires late by this much.
    Late(Duration),
    Attach {
        interactive: bool,
    },
    /// Any socket ever attached, counted back from the last.
    Lose(u64),
    Hear(u64),
    Activity {
        input: bool,
        age: Duration,
    },
    /// The host sleeps.
    Sleep(Duration),
    Tell(Event),
}

fn gentle() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..20_000).prop_map(|millis| Step::Wait(Duration::from_millis(millis))),
        2 => any::<bool>().prop_map(|interactive| Step::Attach { interactive }),
        2 => (0u64..3).prop_map(Step::Hear),
        2 => (any::<bool>(), 0u64..9).prop_map(|(input, age)| Step::Activity { input, age: Duration::from_secs(age) }),
        1 => Just(Step::Tell(Event::OutputPaused)),
        1 => Just(Step::Tell(Event::OutputResumed)),
        1 => Just(Step::Tell(Event::Stay)),
        1 => (0u64..3).prop_map(|attach| Step::Tell(Event::ControlMoved { attach: AttachNo(attach) })),
        1 => Just(Step::Tell(Event::Noted { detail: NOTED.into() })),
        1 => (0u64..30).prop_map(|span| Step::Tell(Event::Stalled { lasted: Duration::from_secs(span) })),
        1 => (0u64..1_000).prop_map(|span| Step::Sleep(Duration::from_secs(span))),
        1 => Just(Step::Tell(connected())),
        1 => Just(Step::Tell(Event::ConnectFailed { reason: EndReason::ConnectFailed, detail: "x".into() })),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => gentle(),
        2 => (0u64..90_000).prop_map(|millis| Step::Late(Duration::from_millis(millis))),
        2 => (0u64..3).prop_map(Step::Lose),
        1 => Just(Step::Tell(exited())),
        1 => prop_oneof![
            3 => Just(Step::Tell(Event::Stay)),
            1 => Just(Step::Tell(Event::PeerClosed)),
            1 => prop::sample::select(EndReason::ALL).prop_map(|reason| Step::Tell(end(reason))),
        ],
    ]
}

/// An entry that changes no status.
const NOTED: &str = "control_requested: bob asks ada to let them type.";

/// A story that checks every invariant after each step.
struct Checked {
    story: Story,
    attaches: u64,
    /// The attachment that types, if its socket was not lost.
    current: Option<u64>,
    last: Record,
    finished: bool,
}

impl Checked {
    fn new(limits: Limits) -> Self {
        Self { story: Story::new(limits), attaches: 0, current: None, last: record(), finished: false }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait(span) => {
                let until = self.story.now.at + span;
                while let Some(due) = self.story.session.poll_timeout().filter(|&due| due <= until) {
                    self.story.pass(due.saturating_duration_since(self.story.now.at));
                    self.fire()?;
                }
                self.story.pass(until.saturating_duration_since(self.story.now.at));
            }
            Step::Late(span) => {
                self.story.pass(span);
                self.fire()?;
            }
            Step::Attach { interactive } => {
                self.attaches += 1;
                self.current = if interactive { Some(self.attaches) } else { self.current };
                self.tell(Event::Attached { attach: AttachNo(self.attaches), interactive })?;
            }
            Step::Lose(back) => {
                let attach = self.attaches.saturating_sub(back);
                let (before, counts) = (self.story.status(), self.current == Some(attach));
                self.current = self.current.filter(|_| !counts);
                self.tell(lost(AttachNo(attach)))?;
                if !counts {
                    prop_assert_eq!(self.story.status(), before, "only the current browser's leaving counts");
                }
            }
            Step::Hear(back) => {
                let attach = AttachNo(self.attaches.saturating_sub(back));
                self.tell(Event::BrowserHeard { attach, at: self.story.now.at })?;
            }
            Step::Activity { input, age } => {
                let at = self.story.now.at.checked_sub(age);
                let known = self.story.session.activity;
                let input = if input { at.max(known.input) } else { known.input };
                let peer_heard = at.max(known.peer_heard);
                let bytes_out = known.bytes_out + 1;
                self.tell(Event::Activity(Activity { peer_heard, input, bytes_out, ..known }))?;
            }
            Step::Sleep(lasted) => {
                let (status, due) = (self.story.status(), self.is_due());
                self.tell(Event::Slept { lasted, awake_until: self.story.now.at })?;
                prop_assert!(due || !self.is_due(), "it ends nothing at once");
                prop_assert_eq!(self.story.status(), status);
            }
            Step::Tell(event) => self.tell(event)?,
        }
        Ok(())
    }

    /// Whether a deadline has passed.
    fn is_due(&self) -> bool {
        self.story.session.deadlines().first().is_some_and(|(_, at)| *at <= self.story.now.at)
    }

    fn tell(&mut self, event: Event) -> Result<(), TestCaseError> {
        self.story.session.handle(self.story.now, event);
        self.check_effects()?;
        self.check_deadlines()
    }

    fn fire(&mut self) -> Result<(), TestCaseError> {
        self.story.session.handle_timeout(self.story.now);
        let next = self.story.session.poll_timeout();
        prop_assert!(next.is_none_or(|next| next > self.story.now.at), "{:?}", self.story.session.deadlines());
        self.check_effects()?;
        self.check_deadlines()
    }

    fn check_effects(&mut self) -> Result<(), TestCaseError> {
        let mut link_closed = false;
        for effect in self.story.effects() {
            prop_assert!(!self.finished, "closed is final and said once, yet: {effect:?}");
            match effect {
                Effect::Announce(record, transition) => {
                    prop_assert!(!self.last.is_closed(), "nothing is announced after the end");
                    prop_assert_eq!(record.version, self.last.version + 1);
                    prop_assert!(record.rank() > self.last.rank());
                    check_record(&record)?;
                    prop_assert!(record.last_seen_at >= self.last.last_seen_at);
                    prop_assert!(record.bytes_out >= self.last.bytes_out);
                    let is_note = transition.as_ref().is_some_and(|transition| transition.detail == NOTED);
                    prop_assert_eq!(transition.is_none() || is_note, record.status == self.last.status);
                    prop_assert!(link_closed || !record.is_closed(), "the link is closed first");
                    self.last = *record;
                }
                Effect::CloseLink => link_closed = true,
                Effect::Finish { .. } => {
                    prop_assert!(self.last.is_closed(), "told only after it was announced");
                    self.finished = true;
                }
                Effect::DropBrowser(attach) if self.current == Some(attach.0) => self.current = None,
                Effect::Supersede(attach) => prop_assert!(attach.0 < self.attaches),
                Effect::PingBrowser(_) | Effect::DropBrowser(_) | Effect::ProbePeer => {}
                Effect::Warn(_) | Effect::WarnAgain(..) => {}
            }
        }
        prop_assert_eq!(self.finished, self.last.is_closed());
        prop_assert_eq!(self.story.session.record(), &self.last, "the record is what was last announced");
        let detached = self.last.status == Status::Detached;
        prop_assert!(!detached || self.current.is_none(), "nobody types into a detached session");
        Ok(())
    }

    /// Checks that the timer is set while the session lives, never later than any deadline, and that the soonest
    /// deadline takes effect at its time if no event comes first.
    fn check_deadlines(&self) -> Result<(), TestCaseError> {
        let session = &self.story.session;
        prop_assert_eq!(session.poll_timeout().is_none(), session.record().is_closed());
        let Some((what, at)) = session.deadlines().into_iter().next() else { return Ok(()) };
        prop_assert!(session.poll_timeout().is_some_and(|timer| timer <= at));
        if session.poll_timeout() <= Some(self.story.now.at) {
            return Ok(()); // Something is overdue, so what follows from it comes later than it could.
        }
        let mut ahead = self.story.clone();
        let owners = |story: &Story| story.session.browsers.iter().any(|browser| browser.interactive);
        let before = (ahead.status(), owners(&ahead));
        while let Some(due) = ahead.session.poll_timeout().filter(|&due| due <= at) {
            ahead.pass(due.saturating_duration_since(ahead.now.at));
            ahead.session.handle_timeout(ahead.now);
            if (ahead.status(), owners(&ahead)) != before {
                prop_assert!(ahead.now.at >= at, "{what} came early");
                return Ok(());
            }
        }
        prop_assert!(false, "{what} never came");
        Ok(())
    }
}

fn check_record(record: &Record) -> Result<(), TestCaseError> {
    let closed = record.is_closed();
    prop_assert_eq!(record.end_reason.is_some(), closed);
    prop_assert_eq!(record.end_time.is_some(), closed);
    prop_assert_eq!(record.detected_at.is_some(), closed);
    prop_assert!(record.end_time.is_none_or(|end| end >= record.start_time));
    prop_assert!(record.detected_at >= record.end_time);
    Ok(())
}

proptest! {
    #[test]
    fn closed_is_final_and_every_announcement_is_sound(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut checked = Checked::new(EVERYTHING);
        for step in steps {
            checked.take(step)?;
        }
        checked.take(Step::Wait(secs(1_000.0)))?;
        prop_assert!(checked.finished, "with a longest time nothing lives for ever");
    }

    /// I5: a peer that answers within every interval is never lost, whatever else happens.
    #[test]
    fn nobody_who_is_heard_is_lost(steps in prop::collection::vec(gentle(), 1..80)) {
        let mut checked = Checked::new(LIMITS);
        checked.take(Step::Attach { interactive: true })?;
        checked.take(Step::Tell(connected()))?;
        for step in steps {
            let span = if let Step::Wait(span) = &step { *span } else { Duration::ZERO };
            let pieces = span.as_millis().div_ceil(5_000).max(1) as u32;
            for piece in 0..pieces {
                checked.take(if span.is_zero() { step.clone() } else { Step::Wait(span / pieces) })?;
                prop_assert_eq!(checked.story.status(), Status::Active, "{:?}, piece {}", step, piece);
                (0..checked.attaches).try_for_each(|back| checked.take(Step::Hear(back)))?;
                checked.take(Step::Activity { input: false, age: Duration::ZERO })?;
            }
        }
    }

    /// However long this host slept, and however silent every peer was before, waking up ends nothing.
    #[test]
    fn a_stall_ends_nothing(
        steps in prop::collection::vec(any_step(), 0..20),
        silent in 0u64..13_000,
        slept in 0u64..100_000_000,
    ) {
        let mut checked = Checked::new(Limits { max_duration: None, ..EVERYTHING });
        checked.take(Step::Attach { interactive: true })?;
        checked.take(Step::Tell(connected()))?;
        for step in steps {
            checked.take(step)?;
        }
        checked.take(Step::Wait(Duration::from_millis(silent)))?;
        checked.fire()?;
        let (status, lasted) = (checked.story.status(), Duration::from_millis(slept));
        checked.story.pass(lasted);
        checked.tell(Event::Stalled { lasted })?;
        checked.fire()?;
        prop_assert_eq!(checked.story.status(), status);
    }

    /// A session taken up again answers every event as it would have without the failure of its actor.
    #[test]
    fn an_adopted_session_goes_on_like_the_original(
        before in prop::collection::vec(any_step(), 1..30),
        after in prop::collection::vec(any_step(), 1..30),
    ) {
        let mut original = Checked::new(LIMITS);
        for step in before {
            original.take(step)?;
        }
        let mut adopted = original.story.clone();
        adopted.session = Session::adopt(adopted.now, adopted.session.started(), original.last.clone(), LIMITS);
        let mut adopted = Checked { story: adopted, last: original.last.clone(), ..original };
        let (activity, exit_told) = (original.story.session.activity, original.story.session.exit.is_some());
        for checked in [&mut original, &mut adopted] {
            checked.attaches += 1;
            checked.take(Step::Attach { interactive: true })?;
            checked.tell(Event::Activity(activity))?;
            if exit_told {
                checked.tell(exited())?;
            }
        }
        for step in after {
            // Only events are compared: waiting depends on clocks that an adopted session restarts.
            if !matches!(step, Step::Wait(_) | Step::Late(_)) {
                original.take(step.clone())?;
                adopted.take(step)?;
            }
            prop_assert_eq!(adopted.story.status(), original.story.status());
            prop_assert_eq!(adopted.last.end_reason, original.last.end_reason);
        }
    }
}

#[test]
fn a_wall_clock_that_jumps_back_never_ends_a_session_before_its_start() {
    let mut story = Story::active(LIMITS);
    story.now.utc.0 -= 3_600_000_000;
    story.tell(end(EndReason::Terminated));
    check_record(story.session.record()).unwrap();
    assert_eq!(story.end_time(), 0.0);
}
