//! The far end of a schedule: produces output of which no byte can be mistaken for another, and keeps its input. Waits
//! while its connection is not read. Knows no page.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};
use pulsegate::{
    core::record::ExitStatus,
    ssh::{ConnectError, Connector, Dial, Link, LinkControl, LinkEvent, LinkGone, LinkInput, LinkOutput, Size},
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::sleep,
};

use super::{Scene, page::Progress};
use crate::{link::Valve, stores::dice::Dice};

/// How far a shell that must not flood may run ahead of its slowest page, in bytes: less than the gateway keeps.
const AHEAD: u64 = 24 * 1024;

/// Returns the output byte at this offset.
pub fn said(seed: u64, offset: u64) -> u8 {
    let word = (offset / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (word ^ (word >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed.to_le_bytes()[offset as usize % 8]
}

/// A far end.
#[derive(Clone)]
pub struct Shell {
    says: UnboundedSender<LinkEvent>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Shell {
    /// Returns all its input.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().expect("nothing panics under this lock").clone()
    }

    /// Ends its program.
    pub fn ends(&self) {
        for event in [LinkEvent::Exited(ExitStatus::Code(0)), LinkEvent::Closed] {
            // The gateway may have hung up.
            self.says.send(event).ok();
        }
    }
}

/// All far ends, by the login with which they were dialled, which names their schedule.
#[derive(Clone, Default)]
pub struct Shells(Arc<Mutex<BTreeMap<u64, Shell>>>);

impl Shells {
    /// Returns the far end of this schedule, once it was dialled.
    pub fn of(&self, seed: u64) -> Option<Shell> {
        self.0.lock().expect("nothing panics under this lock").get(&seed).cloned()
    }
}

/// Produces output, in pieces and with pauses, until it is complete.
pub async fn speak(scene: Scene, shells: Shells, pages: Vec<Rc<Progress>>, dice: Dice) {
    let shell = loop {
        match shells.of(scene.seed) {
            Some(shell) => break shell,
            None => sleep(dice.millis(20, 40)).await,
        }
    };
    let (largest, slowest) = (*dice.pick(&[300, 3_000, 9_000]), *dice.pick(&[10, 60, 150]));
    let mut offset = 0;
    while offset < scene.total {
        sleep(dice.millis(1, slowest)).await;
        let slowest = pages.iter().filter_map(|page| page.get()).min().unwrap_or(offset);
        let room = if scene.floods { u64::MAX } else { (slowest + AHEAD).saturating_sub(offset) };
        let length = (1 + dice.roll(largest)).min(room).min(scene.total - offset);
        if length == 0 {
            continue;
        }
        let piece: Vec<u8> = (offset..offset + length).map(|at| said(scene.seed, at)).collect();
        offset += length;
        if shell.says.send(LinkEvent::Output(piece.into())).is_err() {
            return;
        }
    }
}

impl Connector for Shells {
    fn connect(&self, dial: Dial) -> LocalBoxFuture<'static, Result<Link, ConnectError>> {
        let seed = dial.to.login.parse().expect("a login is a schedule");
        let (says, said) = mpsc::unbounded_channel();
        let shell = Shell { says, heard: Arc::default() };
        let valve = Rc::new(RefCell::new(Valve::default()));
        let link = Link {
            addr: "192.0.2.1:22".to_owned(),
            output: Box::new(Output { said, heard: dial.heard.clone(), valve: valve.clone() }),
            input: Box::new(Input(shell.heard.clone())),
            control: Box::new(Control { heard: dial.heard, valve }),
        };
        self.0.lock().expect("nothing panics under this lock").insert(seed, shell);
        async move { Ok(link) }.boxed_local()
    }
}

struct Output {
    said: UnboundedReceiver<LinkEvent>,
    heard: Arc<dyn Fn() + Send + Sync>,
    valve: Rc<RefCell<Valve>>,
}

impl LinkOutput for Output {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        if self.valve.borrow_mut().holds(cx) {
            return Poll::Pending;
        }
        self.said.poll_recv(cx).map(|event| {
            (self.heard)();
            event.unwrap_or(LinkEvent::Closed)
        })
    }
}

struct Input(Arc<Mutex<Vec<u8>>>);

impl LinkInput for Input {
    fn write(&mut self, bytes: Bytes) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        let heard = self.0.clone();
        async move {
            // A write takes its time, so that input waits for it.
            tokio::task::yield_now().await;
            heard.lock().expect("nothing panics under this lock").extend_from_slice(&bytes);
            Ok(())
        }
        .boxed_local()
    }

    fn resize(&mut self, _: Size) -> LocalBoxFuture<'_, Result<(), LinkGone>> {
        async { Ok(()) }.boxed_local()
    }
}

struct Control {
    heard: Arc<dyn Fn() + Send + Sync>,
    valve: Rc<RefCell<Valve>>,
}

impl LinkControl for Control {
    fn probe(&self) {
        (self.heard)();
    }

    fn close_valve(&self) {
        self.valve.borrow_mut().close();
    }

    fn open_valve(&self) {
        self.valve.borrow_mut().open();
    }

    fn close(self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        async {}.boxed_local()
    }
}
