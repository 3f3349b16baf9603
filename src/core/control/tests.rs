//! Tests of who types, event by event and at random.

use proptest::prelude::*;

use super::*;

const ADA: AttachNo = AttachNo(1);

fn page(attach: u64, name: &str) -> Page {
    Page { attach: AttachNo(attach), name: name.into(), client: format!("{name}'s") }
}

/// Ada's session with her page in it; bob (2) and eve (3) watch.
fn session(policy: TakeOver) -> (Control, Instant) {
    let (mut control, now) = (Control::new(policy, "ada"), Instant::now());
    control.handle(now, Event::OwnerCame { page: page(1, "ada"), control_aware: true });
    control.handle(now, Event::WatcherCame(page(2, "bob")));
    control.handle(now, Event::WatcherCame(page(3, "eve")));
    assert_eq!(effects(&mut control), []);
    (control, now)
}

fn effects(control: &mut Control) -> Vec<Effect> {
    std::iter::from_fn(|| control.poll_effect()).collect()
}

fn notes(control: &mut Control) -> Vec<String> {
    let note = |effect| if let Effect::Note(note) = effect { Some(note) } else { None };
    effects(control).into_iter().filter_map(note).collect()
}

fn answers(control: &mut Control) -> Vec<(AttachNo, Answer)> {
    let answer = |effect| if let Effect::Tell(attach, answer, _) = effect { Some((attach, answer)) } else { None };
    effects(control).into_iter().filter_map(answer).collect()
}

/// Bob types.
fn granted() -> (Control, Instant) {
    let (mut control, now) = session(TakeOver::Request);
    control.handle(now, Event::Asked(page(2, "bob")));
    let request = control.requests()[0].id;
    control.handle(now, Event::Answered { by: ADA, request, granted: true });
    assert_eq!(control.typist().attach, AttachNo(2));
    effects(&mut control);
    (control, now)
}

#[test]
fn who_asks_types_once_the_owner_lets_them_and_each_step_is_written_down() {
    let (mut control, now) = session(TakeOver::Request);
    control.handle(now, Event::Asked(page(2, "bob")));
    assert_eq!((control.typist().attach, control.turn()), (ADA, Turn(0)), "asking moves nothing");
    assert_eq!(notes(&mut control), ["control_requested: bob asks ada to let them type."]);
    let request = control.requests()[0].id;
    control.handle(now, Event::Answered { by: ADA, request, granted: true });
    assert_eq!((control.guest(), control.turn(), control.requests()), (Some("bob"), Turn(1), &[][..]));
    assert!(control.types(AttachNo(2), Turn(1)) && !control.types(ADA, Turn(1)) && !control.types(ADA, Turn(0)));
    let moved = "ada lets bob type.";
    let expected = [Effect::Requests, Effect::Note(format!("control_granted: {moved}")), Effect::Moved(moved.into())];
    assert_eq!(effects(&mut control), expected);
    control.handle(now, Event::TookBack(ADA));
    assert!(control.types(ADA, Turn(2)) && !control.types(AttachNo(2), Turn(2)));
    assert!(!control.types(ADA, Turn(0)), "her own keys of before, on their way all the while, are late");
    assert_eq!(notes(&mut control), ["control_returned: ada took control back from bob."]);
}

#[test]
fn another_page_of_the_owners_begins_a_turn_and_the_same_one_coming_back_does_not() {
    let (mut control, now) = session(TakeOver::Request);
    let elsewhere = |attach| Page { client: "ada's other".into(), ..page(attach, "ada") };
    control.handle(now, Event::OwnerCame { page: page(7, "ada"), control_aware: true });
    assert!(control.types(AttachNo(7), Turn(0)), "it resends what had no answer");
    control.handle(now, Event::OwnerCame { page: elsewhere(8), control_aware: true });
    assert!(control.types(AttachNo(8), Turn(1)));
    control.handle(now, Event::OwnerCame { page: page(9, "ada"), control_aware: true });
    assert!(!control.types(AttachNo(9), Turn(0)) && control.types(AttachNo(9), Turn(2)), "nothing of before");
    assert_eq!(effects(&mut control), []);
}

#[test]
fn only_the_owners_page_answers() {
    let (mut control, now) = session(TakeOver::Request);
    control.handle(now, Event::Asked(page(2, "bob")));
    let request = control.requests()[0].id;
    for by in [2, 3] {
        control.handle(now, Event::Answered { by: AttachNo(by), request, granted: true });
    }
    control.handle(now, Event::Answered { by: ADA, request: request + 1, granted: true });
    assert_eq!((control.guest(), control.requests().len()), (None, 1));
    control.handle(now, Event::OwnerCame { page: page(9, "ada"), control_aware: true });
    control.handle(now, Event::Answered { by: ADA, request, granted: true });
    assert_eq!(control.guest(), None, "nor a page that another one superseded");
    control.handle(now, Event::Answered { by: AttachNo(9), request, granted: true });
    assert_eq!(control.guest(), Some("bob"));
}

#[test]
fn who_is_refused_or_not_answered_asks_again_only_later() {
    let (mut control, now) = session(TakeOver::Request);
    control.handle(now, Event::Asked(page(2, "bob")));
    let request = control.requests()[0].id;
    control.handle(now, Event::Answered { by: ADA, request, granted: false });
    assert_eq!(answers(&mut control), [(AttachNo(2), Answer::Waiting), (AttachNo(2), Answer::Refused)]);
    control.handle(now + ASK_AGAIN - Duration::from_millis(1), Event::Asked(page(4, "bob")));
    assert_eq!((answers(&mut control), control.requests().len()), (vec![(AttachNo(4), Answer::Refused)], 0));
    let later = now + ASK_AGAIN;
    control.handle(later, Event::Asked(page(2, "bob")));
    control.handle_timeout(later + REQUEST_LIFE - Duration::from_millis(1));
    assert_eq!((answers(&mut control), control.requests().len()), (vec![(AttachNo(2), Answer::Waiting)], 1));
    assert_eq!(control.poll_timeout(), Some(later + REQUEST_LIFE));
    control.handle_timeout(later + REQUEST_LIFE);
    assert_eq!(answers(&mut control), [(AttachNo(2), Answer::Expired)]);
    assert_eq!((control.requests(), control.poll_timeout()), (&[][..], None));
}

#[test]
fn a_flood_of_requests_is_one_of_each_user_and_eight_in_all() {
    let (mut control, now) = session(TakeOver::Request);
    for nth in 0..1_000 {
        control.handle(now, Event::Asked(page(100 + nth, &format!("user{}", nth % 100))));
    }
    assert_eq!(control.requests().len(), MAX_REQUESTS);
    assert_eq!(notes(&mut control).len(), MAX_REQUESTS, "what is refused at once is not written down");
    for request in control.requests().to_vec() {
        control.handle(now, Event::Gone { attach: request.page.attach, left: true });
    }
    assert_eq!(control.requests(), []);
}

#[test]
fn the_policy_says_who_may_type() {
    for (policy, asks, forces) in
        [(TakeOver::Never, false, false), (TakeOver::Request, true, false), (TakeOver::Force, true, true)]
    {
        let (mut control, now) = session(policy);
        control.handle(now, Event::Asked(page(3, "eve")));
        assert_eq!(!control.requests().is_empty(), asks, "{policy}");
        effects(&mut control);
        control.handle(now, Event::Forced(page(2, "bob")));
        assert_eq!(control.guest().is_some(), forces, "{policy}");
        let expected = if forces { "control_taken: bob took control of the session of ada." } else { "" };
        assert_eq!(notes(&mut control).concat(), expected, "{policy}");
    }
}

#[test]
fn control_returns_when_the_guest_leaves_and_waits_a_little_for_one_who_was_cut_off() {
    let (mut control, now) = granted();
    control.handle(now, Event::Gone { attach: AttachNo(2), left: true });
    assert_eq!((control.guest(), control.turn()), (None, Turn(2)));

    let (mut control, now) = granted();
    control.handle(now, Event::Gone { attach: AttachNo(2), left: false });
    assert_eq!(control.poll_timeout(), Some(now + GUEST_GRACE));
    control.handle(now, Event::WatcherCame(Page { client: "another page".into(), ..page(4, "bob") }));
    control.handle(now, Event::WatcherCame(Page { client: "bob's".into(), ..page(5, "eve") }));
    assert_eq!(control.typist().attach, AttachNo(2), "another page, or another's, is not the one that was cut off");
    control.handle(now, Event::WatcherCame(page(6, "bob")));
    assert!(control.types(AttachNo(6), Turn(1)), "the turn goes on");
    control.handle(now, Event::Gone { attach: AttachNo(2), left: true });
    control.handle_timeout(now + GUEST_GRACE);
    assert_eq!(
        (control.guest(), control.poll_timeout()),
        (Some("bob"), None),
        "the late end of the old socket counts not"
    );
    control.handle(now, Event::Gone { attach: AttachNo(6), left: false });
    control.handle(now, Event::Stalled(Duration::from_secs(5)));
    control.handle_timeout(now + GUEST_GRACE);
    assert_eq!(control.guest(), Some("bob"), "nobody is to blame for a stall");
    control.handle_timeout(now + GUEST_GRACE + Duration::from_secs(5));
    assert_eq!(control.guest(), None);
    let expected = "control_returned: bob was cut off and did not come back within 10 s.";
    assert_eq!(notes(&mut control), [expected]);
}

#[test]
fn the_owners_page_may_come_and_go_while_a_guest_types_unless_it_knows_nothing_of_guests() {
    let (mut control, now) = granted();
    control.handle(now, Event::Gone { attach: ADA, left: true });
    control.handle(now, Event::OwnerCame { page: page(7, "ada"), control_aware: true });
    assert_eq!((control.guest(), control.owner().attach), (Some("bob"), AttachNo(7)));
    control.handle(now, Event::TookBack(ADA));
    assert_eq!(control.guest(), Some("bob"), "only the page that is here takes back");
    control.handle(now, Event::OwnerCame { page: page(8, "ada"), control_aware: false });
    assert!(control.types(AttachNo(8), Turn(2)));
}

#[test]
fn who_may_no_longer_type_loses_control_and_their_request() {
    let (mut control, now) = granted();
    control.handle(now, Event::Asked(page(3, "eve")));
    effects(&mut control);
    for attach in [ADA, AttachNo(2), AttachNo(3)] {
        control.handle(now, Event::Unfit { attach, why: "gone".into() });
    }
    assert_eq!((control.guest(), control.requests()), (None, &[][..]));
    assert_eq!(
        notes(&mut control),
        ["control_returned: bob may no longer type: gone.", "control_refused: eve may not: gone."]
    );
}

#[derive(Debug, Clone)]
enum Step {
    OwnerCame(bool),
    Came(usize),
    Gone(u64, bool),
    Asked(u64),
    Answered(u64, u64, bool),
    Forced(u64),
    TookBack(u64),
    GaveBack(u64),
    Unfit(u64),
    Passed(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let attach = || 1..12_u64;
    prop_oneof![
        1 => any::<bool>().prop_map(Step::OwnerCame),
        3 => (0..3_usize).prop_map(Step::Came),
        2 => (attach(), any::<bool>()).prop_map(|(attach, left)| Step::Gone(attach, left)),
        4 => attach().prop_map(Step::Asked),
        4 => (attach(), 0..6_u64, any::<bool>()).prop_map(|(by, request, granted)| Step::Answered(by, request, granted)),
        1 => attach().prop_map(Step::Forced),
        1 => attach().prop_map(Step::TookBack),
        1 => attach().prop_map(Step::GaveBack),
        1 => attach().prop_map(Step::Unfit),
        2 => (0..70_000_u64).prop_map(Step::Passed),
    ]
}

proptest! {
    /// Invariants after any events: one page types, it is the owner's or that of an admitted guest, control moves with
    /// a new turn only, and the open requests are bounded.
    #[test]
    fn exactly_one_page_types_at_any_time(
        policy in prop::sample::select(TakeOver::ALL),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let (mut control, mut now) = (Control::new(policy, "ada"), Instant::now());
        let mut pages: Vec<Page> = Vec::new();
        let mut here: Vec<AttachNo> = Vec::new();
        for step in steps {
            let (typist, turn, owner) = (control.typist().clone(), control.turn(), control.owner().attach);
            let mut next = |name: &str| {
                let page = page(pages.len() as u64 + 1, name);
                pages.push(page.clone());
                here.push(page.attach);
                page
            };
            // An attachment that the session does not have never sends anything.
            let known = |attach: u64, pages: &[Page]| pages.get(attach as usize - 1).cloned();
            let mut let_in = false;
            let event = match step {
                Step::OwnerCame(control_aware) => Some(Event::OwnerCame { page: next("ada"), control_aware }),
                Step::Came(nth) => Some(Event::WatcherCame(next(["bob", "eve", "zoe"][nth]))),
                Step::Gone(attach, left) => {
                    here.retain(|here| here.0 != attach);
                    Some(Event::Gone { attach: AttachNo(attach), left })
                }
                Step::Asked(attach) => {
                    known(attach, &pages).filter(|page| page.name != "ada" && here.contains(&page.attach)).map(Event::Asked)
                }
                Step::Answered(by, request, granted) => {
                    let open = control.requests().iter().any(|open| open.id == request);
                    let_in = granted && open && AttachNo(by) == owner;
                    Some(Event::Answered { by: AttachNo(by), request, granted })
                }
                Step::Forced(attach) => {
                    let forced = known(attach, &pages).filter(|page| page.name != "ada" && here.contains(&page.attach));
                    let_in = policy == TakeOver::Force && forced.is_some();
                    forced.map(Event::Forced)
                }
                Step::TookBack(attach) => Some(Event::TookBack(AttachNo(attach))),
                Step::GaveBack(attach) => Some(Event::GaveBack(AttachNo(attach))),
                Step::Unfit(attach) => Some(Event::Unfit { attach: AttachNo(attach), why: "gone".into() }),
                Step::Passed(ms) => {
                    now += Duration::from_millis(ms);
                    control.handle_timeout(now);
                    prop_assert!(control.poll_timeout().is_none_or(|next| next > now));
                    None
                }
            };
            let came = match &event {
                Some(Event::OwnerCame { page, .. } | Event::WatcherCame(page)) => Some(page.attach),
                _ => None,
            };
            event.into_iter().for_each(|event| control.handle(now, event));
            let count = pages.iter().filter(|page| control.types(page.attach, control.turn())).count();
            prop_assert!(count == usize::from(control.typist().attach.0 > 0), "{} type", count);
            let is_guest = control.guest().is_some();
            prop_assert_eq!(control.typist().name == "ada", !is_guest);
            prop_assert!(!is_guest || policy != TakeOver::Never);
            let moved = control.typist().name != typist.name;
            prop_assert!(!moved || control.turn() > turn, "control moved within a turn");
            prop_assert!(!(moved && is_guest) || let_in, "{:?} was not let", control.guest());
            let same_turn = control.turn() == turn && control.typist().attach != typist.attach;
            prop_assert!(!same_turn || came == Some(control.typist().attach), "only a page that came goes on in a turn");
            // A guest without a socket is waited for, and only for a bounded time.
            let is_here = here.contains(&control.typist().attach);
            prop_assert!(!is_guest || is_here || control.poll_timeout().is_some_and(|next| next <= now + REQUEST_LIFE));
            let mut names: Vec<_> = control.requests().iter().map(|request| request.page.name.clone()).collect();
            names.dedup();
            prop_assert!(names.len() == control.requests().len() && names.len() <= MAX_REQUESTS);
            prop_assert!(control.requests().iter().all(|request| here.contains(&request.page.attach)));
        }
    }
}
