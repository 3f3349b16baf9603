//! What a terminal showed before the first byte that is kept. Costs a glance at what comes, and little more where what is
//! forgotten is lines that scrolled by. Knows no viewer.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use crate::core::screen::{Gist, Grid, Lost, Screen};

/// Changes of size that are remembered; more between two ends of what is kept come only from dragging a window's edge.
const MAX_SIZES: usize = 16;

#[derive(Debug)]
pub(super) struct Past {
    screen: Followed,
    /// From which offset on the terminal had which size, as far as the screen does not have it yet.
    sizes: VecDeque<(u64, Grid)>,
    now: Option<Instant>,
}

#[derive(Debug)]
enum Followed {
    /// Nothing was forgotten yet.
    NotYet,
    Screen(Box<Screen>),
    /// It cannot be followed, or shall not be.
    Lost,
}

impl Past {
    /// Nothing is forgotten yet. `follows`: what will be, is to be looked at.
    pub fn new(follows: bool) -> Self {
        let screen = if follows { Followed::NotYet } else { Followed::Lost };
        Self { screen, sizes: VecDeque::new(), now: None }
    }

    /// Tells the time.
    pub fn tick(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// The terminal had this size from `offset` on.
    pub fn resize(&mut self, offset: u64, grid: Grid) {
        self.sizes.retain(|(at, _)| *at != offset);
        if self.sizes.len() >= MAX_SIZES {
            self.sizes.pop_front();
        }
        self.sizes.push_back((offset, grid));
    }

    /// What will be asked of a piece once it is forgotten.
    pub fn gist(&self, bytes: &[u8]) -> Gist {
        let settled = match &self.screen {
            Followed::Lost => return Gist::default(),
            Followed::NotYet => Grid::default(),
            Followed::Screen(screen) => screen.grid(),
        };
        let newest = self.sizes.back().map_or(settled, |(_, grid)| *grid);
        Gist::of(bytes, newest.scrolled())
    }

    /// Takes what is forgotten: `bytes`, from `start` on, with `next` behind them; and the gists of both, that of the first piece of `next`.
    pub fn leave<'a>(
        &mut self,
        start: u64,
        bytes: &'a [u8],
        gists: (Gist, Gist),
        next: impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let left = match self.skip(start + bytes.len() as u64, gists) {
            Ok(false) => self.follow(start, bytes, next),
            outcome => outcome.map(drop),
        };
        if left.is_err() {
            self.screen = Followed::Lost;
        }
    }

    /// Lets text up to `end` pass unread, where that is all there is to it.
    fn skip(&mut self, end: u64, (gist, next): (Gist, Gist)) -> Result<bool, Lost> {
        match &mut self.screen {
            Followed::Screen(screen) if self.sizes.front().is_none_or(|(at, _)| *at > end) => screen.skip(gist, next),
            Followed::NotYet | Followed::Screen(_) | Followed::Lost => Ok(false),
        }
    }

    fn follow<'a>(
        &mut self,
        mut start: u64,
        mut bytes: &'a [u8],
        next: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), Lost> {
        loop {
            self.settle(start)?;
            let Followed::Screen(screen) = &mut self.screen else { return Ok(()) };
            if let Some(now) = self.now {
                screen.tick(now);
            }
            let end = start + bytes.len() as u64;
            let change = self.sizes.front().map_or(end, |(at, _)| end.min(*at));
            let (before, behind) = bytes.split_at((change - start) as usize);
            screen.leave(before, std::iter::once(behind).chain(next.clone()))?;
            if behind.is_empty() {
                return Ok(());
            }
            (start, bytes) = (change, behind);
        }
    }

    /// Gives the screen the size it had at `offset`.
    fn settle(&mut self, offset: u64) -> Result<(), Lost> {
        while let Some((_, grid)) = self.sizes.pop_front_if(|(at, _)| *at <= offset) {
            match &mut self.screen {
                Followed::Screen(screen) => screen.resize(grid)?,
                Followed::NotYet => self.screen = Followed::Screen(Box::new(Screen::new(grid)?)),
                Followed::Lost => {}
            }
        }
        if let Followed::NotYet = self.screen {
            self.screen = Followed::Screen(Box::new(Screen::new(Grid::default())?));
        }
        Ok(())
    }

    /// What the terminal showed at `offset`, the end of what was forgotten.
    pub fn picture(&mut self, offset: u64) -> Option<Bytes> {
        if self.settle(offset).is_err() {
            self.screen = Followed::Lost;
        }
        match &self.screen {
            Followed::Screen(screen) => screen.picture(),
            Followed::NotYet | Followed::Lost => None,
        }
    }
}
