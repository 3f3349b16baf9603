//! One page of a schedule: behaves as the page in the browser does when its connection breaks. Knows its own offsets,
//! in both directions, and nothing of the gateway's state.

use std::{cell::Cell, rc::Rc, time::Duration};

use pulsegate::{
    actor::{
        session::{Attach, Intent, control::ControlCommand},
        wire::{ControlRequest, Hold, Seen, SocketCloser},
    },
    core::control::Turn,
    ssh::Size,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Scene,
    shell::said,
    socket::{Break, Down, Line, Up},
    typing::Typing,
};
use crate::stores::dice::Dice;

/// The offset of the output that a page has received, while it waits for more.
pub type Progress = Cell<Option<u64>>;

/// The role of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The owner's page.
    Owner,
    /// Another page of the owner, which takes the session over.
    Device,
    /// Another user's page, which may be granted control.
    Guest,
}

/// Why a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Cut,
    Superseded,
    Done,
    Over,
}

/// A page of a schedule.
pub struct Page {
    scene: Scene,
    role: Role,
    dice: Dice,
    received: Option<u64>,
    acked: u64,
    lost: u64,
    typing: Typing,
    /// Bytes that it still has to type.
    quota: u64,
    types: bool,
    turn: Option<Turn>,
    asked_at: Option<Instant>,
    progress: Rc<Progress>,
    /// Whether it stays until all output has arrived.
    last: bool,
}

impl Page {
    /// Returns a page that was never attached.
    pub fn new(scene: &Scene, dice: &Dice, role: Role) -> Self {
        let dice = dice.fork();
        // The owner's page is counted from the start.
        let progress = Rc::new(Cell::new((role == Role::Owner).then_some(0)));
        let quota = dice.roll(*dice.pick(&[50, 500, 6_000]));
        let (typing, scene) = (Typing::default(), scene.clone());
        let (received, acked, lost, types, turn, asked_at, last) = (None, 0, 0, role != Role::Guest, None, None, false);
        Self { scene, role, dice, received, acked, lost, typing, quota, types, turn, asked_at, progress, last }
    }

    /// Returns its output offset.
    pub fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }

    /// Returns the two highest bits of every byte it types.
    pub fn mark(&self) -> u8 {
        self.role as u8
    }

    /// Returns its name in a failure.
    pub fn name(&self) -> String {
        format!("{:?}", self.role)
    }

    /// Returns all input that was acknowledged.
    pub fn typed(&self) -> &[u8] {
        self.typing.delivered()
    }

    /// Returns the bytes of output that were reported to it as lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether it is usually an observer only.
    pub fn is_guest(&self) -> bool {
        self.role == Role::Guest
    }

    /// Attaches and is cut off repeatedly; then stays until everything has arrived.
    pub async fn go(mut self) -> Self {
        if self.role != Role::Owner {
            sleep(self.dice.millis(50, 4_000)).await;
        }
        for _ in 0..1 + self.dice.roll(8) {
            let lasts = self.dice.millis(0, *self.dice.pick(&[60, 800, 3_000]));
            let ended = self.visit(lasts).await;
            if ended == Ended::Over {
                return self;
            }
            let longest = if ended == Ended::Superseded { 4_000 } else { *self.dice.pick(&[1, 300, 3_000]) };
            // Input typed meanwhile is kept.
            self.presses(0);
            sleep(self.dice.millis(0, longest)).await;
        }
        self.last = true;
        loop {
            match self.visit(Duration::from_hours(1)).await {
                Ended::Done | Ended::Over => break,
                Ended::Cut | Ended::Superseded => sleep(self.dice.millis(200, 2_500)).await,
            }
        }
        self.progress.set(None);
        self
    }

    /// Attaches once more, for `lasts`.
    pub async fn stays(&mut self, lasts: Duration) {
        self.last = false;
        let ended = self.visit(lasts).await;
        if ended != Ended::Cut {
            self.scene.broken(&format!("the {} was sent away: {ended:?}", self.name()));
        }
        self.last = true;
        self.quota += 1;
        if self.visit(Duration::from_secs(20)).await != Ended::Done {
            self.scene.broken("nothing can be typed any more");
        }
    }

    async fn visit(&mut self, lasts: Duration) -> Ended {
        self.count(|tally| &mut tally.visits, 1);
        let request = Attach {
            intent: Intent::Open,
            interactive: !self.is_guest(),
            user: if self.is_guest() { "bob".into() } else { "ada".into() },
            client_id: self.name(),
            seen: Seen { offset: self.received, draws: self.scene.draws },
            control_aware: self.scene.draws,
            size: Size { cols: 80, rows: 24 },
            closer: SocketCloser(None),
        };
        if !self.is_guest() && self.received.is_none() {
            // Its start offset is decided by the gateway and received later: until then nothing from there may leave
            // the replay buffer.
            self.progress.set(Some(0));
        }
        let mut line = Line::open(&self.scene.host, self.scene.id, request, &self.dice);
        let (until, mut hello) = (Instant::now() + lasts, false);
        // Sometimes the gateway notices first.
        let there = self.dice.happens(1_500).then(|| until - self.dice.span(Duration::ZERO, lasts / 4));
        let mut broken_there = false;
        let mut tick = Instant::now() + self.dice.millis(5, 100);
        loop {
            let next = until.min(tick).min(there.filter(|_| !broken_there).unwrap_or(until));
            tokio::select! {
                biased;
                down = line.next() => {
                    let Some(down) = down else { return self.cut(line) };
                    hello |= matches!(down, Down::Hello { .. });
                    if let Some(ended) = self.hears(down, &line) {
                        if ended == Ended::Superseded {
                            self.count(|tally| &mut tally.superseded, 1);
                        }
                        line.breaks(Break { arrives: 0, noticed: Duration::ZERO });
                        return ended;
                    }
                }
                () = sleep_until(next) => {}
            }
            let now = Instant::now();
            if now >= until {
                return self.cut(line);
            }
            if there.is_some_and(|at| now >= at) && !std::mem::replace(&mut broken_there, true) {
                line.breaks_there();
            }
            if now >= tick {
                tick = now + self.dice.millis(5, 150);
                if hello {
                    self.acts(&line);
                }
            }
            if hello && self.last && self.is_done() {
                let goes = if self.dice.happens(5_000) { Up::Leaves } else { Up::Pong };
                line.send(goes);
                line.breaks(Break { arrives: u64::MAX, noticed: Duration::from_secs(3) });
                return Ended::Done;
            }
        }
    }

    /// Breaks the connection: of the messages in flight some arrive, sometimes after those of the next connection.
    fn cut(&self, line: Line) -> Ended {
        let on_its_way = line.on_its_way();
        let noticed = match self.dice.roll(3) {
            0 => Duration::ZERO,
            1 => self.dice.millis(0, 400),
            _ => self.dice.millis(400, 12_000),
        };
        self.count(|tally| &mut tally.cuts, 1);
        self.count(|tally| &mut tally.late, u64::from(noticed >= Duration::from_millis(400)));
        line.breaks(Break { arrives: self.dice.roll(on_its_way + 1), noticed });
        Ended::Cut
    }

    fn count(&self, field: fn(&mut super::Tally) -> &mut u64, by: u64) {
        *field(&mut self.scene.tally.borrow_mut()) += by;
    }

    fn is_done(&self) -> bool {
        let everything = self.received == Some(self.scene.total);
        let nothing_waits = self.typing.is_empty();
        match self.role {
            Role::Owner => everything && nothing_waits && self.quota == 0,
            Role::Device => nothing_waits && self.quota == 0,
            // Whether it still has control or not, it knows by now the fate of its input.
            Role::Guest => nothing_waits,
        }
    }

    /// Types something.
    fn presses(&mut self, least: u64) {
        let most = *self.dice.pick(&[3, 40, 1_500]);
        let length = (least + self.dice.roll(most)).min(self.quota);
        self.quota -= length;
        self.typing.press(self.role as u8, length);
    }

    fn flush(&mut self, line: &Line) {
        while let Some(piece) = self.typing.next(1 + self.dice.roll(700) as usize) {
            line.send(Up::Typed(piece));
        }
    }

    /// Performs a user's action, and what the page does by itself now and then.
    fn acts(&mut self, line: &Line) {
        if self.types && self.quota > 0 && (self.last || self.dice.happens(5_000)) {
            self.presses(1);
            self.flush(line);
        }
        if let Some(received) = self.received.filter(|received| *received > self.acked) {
            self.acked = received;
            line.send(Up::Ack(received));
        }
        let now = Instant::now();
        match self.role {
            Role::Guest if self.types && (self.last || self.dice.happens(300)) => {
                line.send(Up::Says(ControlCommand::GiveBack))
            }
            Role::Guest if !self.types && !self.last => {
                if self.asked_at.is_none_or(|at| now - at > Duration::from_secs(2)) {
                    self.asked_at = Some(now);
                    line.send(Up::Says(ControlCommand::Ask));
                }
            }
            Role::Owner | Role::Device if !self.types => {
                if self.last || self.dice.happens(200) {
                    line.send(Up::Says(ControlCommand::TakeBack));
                }
            }
            Role::Guest | Role::Owner | Role::Device => {}
        }
    }

    fn hears(&mut self, down: Down, line: &Line) -> Option<Ended> {
        match down {
            Down::Hello { offset, lost, drawn, input, hold } => {
                self.goes_on_at(offset, lost, drawn);
                self.turns(&hold);
                if input < self.typing.taken() {
                    self.scene.broken(&format!("{input} of {} bytes are taken that were", self.typing.taken()));
                }
                let again = self.typing.resume(input);
                self.count(|tally| &mut tally.resent, again as u64);
                if self.types {
                    self.flush(line);
                }
            }
            Down::Output(bytes) => self.reads(&bytes, line),
            Down::Redraw { offset, lost } => self.goes_on_at(offset, lost, true),
            Down::Taken(offset) => {
                self.typing.take(offset);
                self.flush(line);
            }
            Down::Control(hold) => {
                self.turns(&hold);
                if hold.typing {
                    line.send(Up::Turn(hold.turn));
                }
            }
            Down::Requests(asking) => self.answers(&asking, line),
            Down::Ping => line.send(Up::Pong),
            Down::Superseded => return Some(Ended::Superseded),
            Down::Closed(why) | Down::Refused(why) => {
                self.scene.broken(&format!("the {} was sent away: {why}", self.name()));
                return Some(Ended::Over);
            }
            Down::Other => {}
        }
        None
    }

    /// Output continues at `offset`, with `lost` bytes reported as lost before.
    fn goes_on_at(&mut self, offset: u64, lost: u64, drawn: bool) {
        match self.received {
            Some(received) if received + lost != offset => {
                self.scene.broken(&format!("{}: output goes on at {offset}, not {received} + {lost}", self.name()));
            }
            None if self.role == Role::Owner && offset != 0 && !drawn && self.scene.draws && !self.scene.floods => {
                self.scene.broken(&format!("a new page begins at {offset} without a picture"));
            }
            Some(_) | None => {}
        }
        self.lost += lost;
        self.acked = offset;
        self.advance(offset);
    }

    fn advance(&mut self, offset: u64) {
        self.received = Some(offset);
        // A slow guest gets a picture: nobody waits for it.
        if self.role != Role::Guest {
            self.progress.set(Some(offset));
        }
    }

    fn reads(&mut self, bytes: &[u8], line: &Line) {
        let Some(received) = self.received else { return };
        let seed = self.scene.seed;
        let wrong = (received..).zip(bytes).find(|(at, byte)| said(seed, *at) != **byte);
        if let Some((at, _)) = wrong {
            self.scene.broken(&format!("{}: another byte than was said at {at}", self.name()));
        }
        self.advance(received + bytes.len() as u64);
        if self.dice.happens(2_000) {
            self.acked = received + bytes.len() as u64;
            line.send(Up::Ack(self.acked));
        }
    }

    /// Control changes, as reported by the gateway.
    fn turns(&mut self, hold: &Hold) {
        let moved = self.turn.is_some_and(|turn| turn != hold.turn);
        if moved {
            self.count(|tally| &mut tally.moved, 1);
        }
        (self.turn, self.types) = (Some(hold.turn), hold.typing);
        if moved || !hold.typing {
            let forgotten = self.typing.forget(hold.input_offset);
            self.count(|tally| &mut tally.forgotten, forgotten as u64);
        }
    }

    fn answers(&mut self, asking: &[ControlRequest], line: &Line) {
        for asking in asking {
            let granted = !self.last && self.dice.happens(8_000);
            line.send(Up::Says(ControlCommand::Answer { request: asking.id, granted }));
        }
    }
}
