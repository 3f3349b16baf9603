//! Property tests of the input that reaches the target from several pages, through the real writer.

use std::{cell::RefCell, time::Duration};

use futures_util::future::{FutureExt, LocalBoxFuture, ready};
use proptest::prelude::*;
use tokio::task::{LocalSet, yield_now};

use super::*;
use crate::{
    actor::{
        activity_queue::activity_queue,
        session::{Intent, control::Event as Moved},
    },
    core::{
        control::Page,
        record::{SessionId, UtcMicros},
    },
    ssh::{LinkGone, LinkInput, PromptField, PromptKind},
};

/// A target that keeps what it was sent.
#[derive(Clone, Default)]
struct Target(Rc<RefCell<Vec<u8>>>);

impl LinkInput for Target {
    fn write(&mut self, bytes: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        self.0.borrow_mut().extend_from_slice(&bytes);
        ready(Ok(())).boxed_local()
    }

    fn resize(&mut self, _: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        ready(Ok(())).boxed_local()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A page comes: the owner's, or one of two watchers'.
    Came(usize),
    Gone(usize, bool),
    /// A page sends this many bytes in a turn this many turns ago.
    Typed(usize, u64, usize),
    Forced(usize),
    TookBack,
    GaveBack(usize),
    /// The waiting input is handed to the target.
    Settled,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3_usize).prop_map(Step::Came),
        1 => (0..3_usize, any::<bool>()).prop_map(|(page, left)| Step::Gone(page, left)),
        8 => (0..3_usize, 0..3_u64, 1..5_usize).prop_map(|(page, ago, count)| Step::Typed(page, ago, count)),
        2 => (1..3_usize).prop_map(Step::Forced),
        1 => Just(Step::TookBack),
        1 => (1..3_usize).prop_map(Step::GaveBack),
        2 => Just(Step::Settled),
    ]
}

const NAMES: [&str; 3] = ["ada", "bob", "eve"];

fn attach(wire: &Rc<Wire>, page: usize) -> (Rc<Viewer>, SocketEnds) {
    let (viewer, ends, _) = attach_whole(wire, page);
    (viewer, ends)
}

fn attach_whole(wire: &Rc<Wire>, page: usize) -> (Rc<Viewer>, SocketEnds, mpsc::Sender<ToSocket>) {
    let request = Attach {
        intent: Intent::Open,
        interactive: page == 0,
        user: NAMES[page].into(),
        // The same for all: a guest cannot move another's count by its name.
        client_id: "page".into(),
        seen: Seen { offset: None, draws: true },
        control_aware: true,
        size: Size { cols: 80, rows: 24 },
        closer: SocketCloser(None),
    };
    wire.attach(request).unwrap()
}

/// Carries out the moves of control, as the session's actor does.
fn settle_control(wire: &Wire) {
    loop {
        let effect = wire.control.borrow_mut().poll_effect();
        match effect {
            Some(crate::core::control::Effect::Moved(message)) => wire.control_moved(&message),
            Some(_) => {}
            None => return,
        }
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let wire = wire();
    let target = Target::default();
    let receiver = wire.input_receiver.take().unwrap();
    tokio::task::spawn_local(pump::write(wire.clone(), Box::new(target.clone()), receiver));
    let mut pages: [Option<(Rc<Viewer>, SocketEnds)>; 3] = Default::default();
    pages[0] = Some(attach(&wire, 0));
    // Input sent and not handed to the target yet.
    let mut waiting: Vec<(usize, AttachNo, Turn, usize)> = Vec::new();
    let (mut expected, mut taken) = (Vec::new(), [0_u64; 3]);
    for step in steps.into_iter().chain([Step::Settled]) {
        let now = clock::instant();
        let page_of = |page: usize| {
            let (viewer, ends) = pages[page].as_ref()?;
            Some(Page { attach: ends.attach, name: viewer.user.clone(), client: viewer.client.clone() })
        };
        match step {
            Step::Came(page) => pages[page] = Some(attach(&wire, page)),
            Step::Gone(page, left) => {
                if let Some((_, ends)) = pages[page].take() {
                    if left { wire.leave(ends.attach) } else { wire.detach(ends.attach) }
                }
            }
            Step::Typed(page, ago, count) => {
                let Some((_, ends)) = &pages[page] else { continue };
                let turn = Turn(wire.control.borrow().turn().0.saturating_sub(ago));
                let kind = InputKind::Bytes(vec![b'a' + page as u8; count].into());
                if ends.input.try_send(InputMessage { attach: ends.attach, turn, at: now, kind }).is_ok() {
                    waiting.push((page, ends.attach, turn, count));
                }
            }
            Step::Forced(page) => {
                if let Some(page) = page_of(page) {
                    wire.control.borrow_mut().handle(now, Moved::Forced(page));
                }
            }
            Step::TookBack => {
                if let Some(page) = page_of(0) {
                    wire.control.borrow_mut().handle(now, Moved::TookBack(page.attach));
                }
            }
            Step::GaveBack(page) => {
                if let Some(page) = page_of(page) {
                    wire.control.borrow_mut().handle(now, Moved::GaveBack(page.attach));
                }
            }
            Step::Settled => {
                for (page, attach, turn, count) in waiting.drain(..) {
                    if wire.control.borrow().types(attach, turn) {
                        expected.extend(vec![b'a' + page as u8; count]);
                        taken[page] += count as u64;
                    }
                }
                for _ in 0..4 * INPUT_QUEUE {
                    yield_now().await;
                }
                prop_assert_eq!(&*target.0.borrow(), &expected);
            }
        }
        settle_control(&wire);
        // However far the shell has read: the offset acknowledged to each page is what the shell has of its input, from
        // where it first typed.
        for (page, told) in pages.iter().enumerate().filter_map(|(nth, page)| Some((nth, page.as_ref()?))) {
            let hold = wire.hold(&told.0, String::new());
            let of_page = target.0.borrow().iter().filter(|byte| **byte == b'a' + page as u8).count() as u64;
            prop_assert!(!hold.typing || wire.control.borrow().typist().attach == told.1.attach);
            prop_assert!(of_page == 0 || hold.input_offset >= of_page, "{} of {of_page}", hold.input_offset);
        }
    }
    let total = taken.iter().sum::<u64>();
    prop_assert_eq!(wire.beat.bytes_in.load(Ordering::Relaxed), total);
    Ok(())
}

proptest! {
    /// Input sent without control, or in an earlier turn, never reaches the shell, whatever waits where when control
    /// moves; and input sent in the current turn does.
    #[test]
    fn no_byte_of_a_page_without_control_reaches_the_shell(steps in prop::collection::vec(step(), 0..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, run(steps))?;
    }
}

/// Creates a wire owned by the first of [`NAMES`], with a window that these tests do not fill.
fn wire() -> Rc<Wire> {
    let control = Control::new(TakeOver::Force, NAMES[0]);
    let beat = Beat::new(SessionId::new(UtcMicros(1), [7; 10]), activity_queue().0);
    let limits = Limits { window: 1 << 20, replay: 1 << 16, screens: true };
    Wire::new(limits, control, Arc::new(beat), Observations::default())
}

#[actix_rt::test]
async fn each_page_counts_its_own_bytes_however_control_moves() {
    let wire = wire();
    let (owner, _) = attach(&wire, 0);
    let (guest, ends) = attach(&wire, 1);
    let page = Page { attach: ends.attach, name: "bob".into(), client: guest.client.clone() };
    wire.input.borrow_mut().take(5);
    let mut guests = None;
    for (owners, round) in (5..).zip(1..=20_u64) {
        wire.control.borrow_mut().handle(clock::instant(), Moved::Forced(page.clone()));
        settle_control(&wire);
        let begun = wire.hold(&guest, String::new()).input_offset;
        assert_eq!(begun, *guests.get_or_insert(begun), "where it stopped last time");
        wire.input.borrow_mut().take(round as usize);
        guests = Some(begun + round);
        assert_eq!(wire.hold(&owner, String::new()).input_offset, owners);
        let back = Moved::TookBack(owner.attach);
        wire.control.borrow_mut().handle(clock::instant(), back);
        settle_control(&wire);
        wire.input.borrow_mut().take(1);
    }
}

#[test]
fn a_guests_page_whose_copy_comes_is_told_that_it_types_no_more() {
    let wire = wire();
    let (owner, _) = attach(&wire, 0);
    let (first, ends) = attach(&wire, 1);
    let page = Page { attach: ends.attach, name: "bob".into(), client: first.client.clone() };
    wire.control.borrow_mut().handle(clock::instant(), Moved::Forced(page));
    settle_control(&wire);
    let holds = |viewer: &Viewer| -> Vec<Hold> {
        let frames = std::iter::from_fn(|| viewer.next_control());
        frames.filter_map(|frame| if let ToSocket::Control(hold) = frame { Some(hold) } else { None }).collect()
    };
    assert!(holds(&first).iter().all(|hold| hold.typing) && !holds(&owner).is_empty());
    let (copy, ends) = attach(&wire, 1);
    assert!(ends.hold.typing, "it may be the same page, whose old socket is not known to be lost yet");
    let told = holds(&first);
    assert_eq!(told.iter().map(|hold| (hold.typing, hold.turn)).collect::<Vec<_>>(), [(false, ends.hold.turn)]);
    assert_eq!((holds(&owner).len(), holds(&copy).len()), (0, 0), "it moved to nobody else");
}

#[test]
fn who_looks_on_with_many_pages_hides_nobody_else() {
    let wire = wire();
    let (owner, _) = attach(&wire, 0);
    for _ in 0..40 {
        attach(&wire, 2);
    }
    attach(&wire, 1);
    let told = std::iter::from_fn(|| owner.next_control()).find_map(|frame| match frame {
        ToSocket::Watchers(names) => Some(names),
        _ => None,
    });
    assert_eq!(told, Some(["bob", "eve"].map(str::to_owned).into()));
}

/// A target that accepts no input.
struct Deaf;

impl LinkInput for Deaf {
    fn write(&mut self, _: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        ready(Err(LinkGone)).boxed_local()
    }

    fn resize(&mut self, _: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        ready(Ok(())).boxed_local()
    }
}

/// A connection that notes when it is closed.
struct Line(Rc<Cell<bool>>);

impl LinkControl for Line {
    fn probe(&self) {}

    fn close_valve(&self) {}

    fn open_valve(&self) {}

    fn close(self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        self.0.set(true);
        ready(()).boxed_local()
    }
}

#[actix_rt::test]
async fn a_target_that_takes_nothing_is_hung_up_on() {
    let wire = wire();
    let hung_up = Rc::new(Cell::new(false));
    wire.link_control.replace(Some(Box::new(Line(hung_up.clone()))));
    let (_, ends) = attach(&wire, 0);
    let (turn, kind) = (wire.control.borrow().turn(), InputKind::Bytes("x".into()));
    ends.input.try_send(InputMessage { attach: ends.attach, turn, at: clock::instant(), kind }).unwrap();
    let receiver = wire.input_receiver.take().unwrap();
    pump::write(wire.clone(), Box::new(Deaf), receiver).await;
    assert!(hung_up.get());
}

#[actix_rt::test]
async fn a_key_that_everybody_trusts_then_is_accepted_by_nobody_who_may_not() {
    let wire = wire();
    for (id, (kind, trusts, counts)) in (1..).zip([
        (PromptKind::SharedHostKey, false, false),
        (PromptKind::SharedHostKey, true, true),
        (PromptKind::HostKey, false, true),
        (PromptKind::Password, false, true),
    ]) {
        let field = PromptField { label: "?".into(), echo: true };
        let prompt = Prompt { kind, title: String::new(), text: String::new(), fields: vec![field] };
        let (reply, answer) = tokio::sync::oneshot::channel();
        wire.ask(prompt, reply);
        assert!(!wire.answer(id, vec![], true), "it has one field");
        assert!(wire.answer(id, vec!["yes".into()], trusts));
        assert_eq!(answer.await.is_ok(), counts, "{kind:?} {trusts}");
        assert!(!wire.answer(id, vec!["yes".into()], true), "answered, or withdrawn");
    }
}

/// Serves a page that acknowledges nothing of more output than its window takes, beside `meanwhile`. Returns whether it
/// was let go as stuck.
async fn with_stuck_page(meanwhile: impl AsyncFnOnce(Rc<Viewer>)) -> bool {
    let control = Control::new(TakeOver::Force, NAMES[0]);
    let beat = Beat::new(SessionId::new(UtcMicros(1), [7; 10]), activity_queue().0);
    let limits = Limits { window: 1 << 10, replay: 1 << 16, screens: false };
    let wire = Wire::new(limits, control, Arc::new(beat), Observations::default());
    let (viewer, mut ends, frames) = attach_whole(&wire, 0);
    wire.ingest(vec![b'x'; 4 << 10].into());
    let stuck = Rc::new(Cell::new(false));
    let noted = stuck.clone();
    let read = async { while ends.frames.recv().await.is_some() {} };
    let forwarded = pump::forward(wire.clone(), viewer.clone(), frames, move || noted.set(true));
    let served = async {
        tokio::select! {
            () = forwarded => {}
            () = meanwhile(viewer.clone()) => {}
            ((), ()) = async { tokio::join!(read, std::future::pending()) } => {}
        }
    };
    LocalSet::new().run_until(served).await;
    stuck.get()
}

/// A page that answers pings does not therefore draw output.
#[tokio::test(start_paused = true)]
async fn a_page_that_acknowledges_nothing_is_let_go_however_often_it_is_pinged() {
    let begun = clock::instant();
    let stuck = with_stuck_page(async |viewer| {
        let mut pings = tokio::time::interval(Duration::from_secs(5));
        for _ in 0..100 {
            pings.tick().await;
            viewer.send(ToSocket::Ping);
        }
    });
    let (stuck, waited) = (stuck.await, clock::instant().saturating_duration_since(begun).as_secs());
    assert!(stuck && (60..300).contains(&waited), "after {waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_not_stuck_for_what_this_thread_did_not_read_while_it_was_stopped() {
    for (patience, lets_go) in [(100, false), (200, true)] {
        let stuck = with_stuck_page(async |_| {
            yield_now().await;
            tokio::time::advance(Duration::from_secs(600)).await;
            tokio::time::timeout(Duration::from_secs(patience), std::future::pending::<()>()).await.unwrap_err();
        });
        assert_eq!(stuck.await, lets_go, "{patience} s after it goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_acknowledges_nothing_is_let_go_by_a_host_that_lags() {
    let begun = clock::instant();
    let stuck = with_stuck_page(async |_| {
        for _ in 0..1_000 {
            tokio::time::advance(Duration::from_millis(1_550)).await;
            // Until all of this thread is idle.
            tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
        }
    });
    let (stuck, waited) = (stuck.await, clock::instant().saturating_duration_since(begun).as_secs());
    assert!(stuck && (150..900).contains(&waited), "after {waited} s");
}
