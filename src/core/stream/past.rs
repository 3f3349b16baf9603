//! The picture of a terminal before the first byte that is kept. Costs a brief look at new output, and little more if
//! the forgotten output is lines that scrolled by. Knows no viewer.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use crate::core::screen::{Grid, Lost, Screen, Summary};

/// Most changes of size that are remembered; more within the kept output come only from dragging a window's edge.
const MAX_SIZES: usize = 16;

#[derive(Debug)]
pub(super) struct Past {
    screen: Followed,
    /// The sizes of the terminal and the offsets at which they begin, as far as the screen does not have them yet.
    sizes: VecDeque<(u64, Grid)>,
    now: Option<Instant>,
}

#[derive(Debug)]
enum Followed {
    /// Nothing has been forgotten yet.
    NotYet,
    Screen(Box<Screen>),
    /// It cannot be followed, or is not to be.
    Lost,
}

impl Past {
    /// Returns a past with nothing forgotten yet. `follows`: forgotten output is to be followed.
    pub fn new(follows: bool) -> Self {
        let screen = if follows { Followed::NotYet } else { Followed::Lost };
        Self { screen, sizes: VecDeque::new(), now: None }
    }

    /// Sets the time.
    pub fn tick(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Notes that the terminal had this size from `offset` on.
    pub fn resize(&mut self, offset: u64, grid: Grid) {
        self.sizes.retain(|(at, _)| *at != offset);
        if self.sizes.len() >= MAX_SIZES {
            self.sizes.pop_front();
        }
        self.sizes.push_back((offset, grid));
    }

    /// Returns the summary of a piece, for use once it is forgotten.
    pub fn summary(&self, bytes: &[u8]) -> Summary {
        let settled = match &self.screen {
            Followed::Lost => return Summary::default(),
            Followed::NotYet => Grid::default(),
            Followed::Screen(screen) => screen.grid(),
        };
        let newest = self.sizes.back().map_or(settled, |(_, grid)| *grid);
        Summary::of(bytes, newest.scrolled())
    }

    /// Follows forgotten output: `bytes`, from `start` on, with `next` after them. `summaries` are those of `bytes` and
    /// of the first piece of `next`.
    pub fn leave<'a>(
        &mut self,
        start: u64,
        bytes: &'a [u8],
        summaries: (Summary, Summary),
        next: impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let left = match self.skip(start + bytes.len() as u64, summaries) {
            Ok(false) => self.follow(start, bytes, next),
            outcome => outcome.map(drop),
        };
        if left.is_err() {
            self.screen = Followed::Lost;
        }
    }

    /// Skips text up to `end` unread, if the summaries allow it.
    fn skip(&mut self, end: u64, (summary, next): (Summary, Summary)) -> Result<bool, Lost> {
        match &mut self.screen {
            Followed::Screen(screen) if self.sizes.front().is_none_or(|(at, _)| *at > end) => {
                screen.skip(summary, next)
            }
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

    /// Returns the picture of the terminal at `offset`, the end of the forgotten output.
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
