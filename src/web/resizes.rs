//! Limits the rate of a browser's resizes: passes on the first few of each second at once, then only the last, once the
//! second is over. A window that is dragged sends far more sizes than a program can draw. Does not know sockets.

use std::time::Duration;

use crate::ssh::Size;

/// Resizes passed on in each [`WINDOW`]: a dragged window is redrawn as smoothly as a terminal redraws.
const AT_ONCE: u8 = 10;

/// The length of a window.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The sizes that one browser sent.
#[derive(Debug, Default)]
pub struct Resizes {
    /// The latest size not passed on yet.
    waiting: Option<Size>,
    /// Sizes passed on in this window.
    passed: u8,
    /// Whether a window is open.
    is_open: bool,
}

impl Resizes {
    /// Takes a size; returns whether it opens a window, which ends with [`turn`](Self::turn) after [`WINDOW`].
    pub fn tell(&mut self, size: Size) -> bool {
        self.waiting = Some(size);
        !std::mem::replace(&mut self.is_open, true)
    }

    /// Returns the size to pass on now, if any.
    pub fn due(&mut self) -> Option<Size> {
        if self.passed >= AT_ONCE {
            return None;
        }
        let size = self.waiting.take()?;
        self.passed += 1;
        Some(size)
    }

    /// Takes back a size that could not be passed on; a later size replaces it.
    pub fn give_back(&mut self, size: Size) {
        self.waiting.get_or_insert(size);
        self.passed = self.passed.saturating_sub(1);
    }

    /// Ends the window.
    pub fn turn(&mut self) {
        self.passed = 0;
        self.is_open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_resizes_passes_ten_a_second_and_its_last_size() {
        let mut resizes = Resizes::default();
        let mut handed_on = Vec::new();
        for second in 1..=3 {
            let mut opened = 0;
            for cols in 1..=1000 {
                opened += u32::from(resizes.tell(Size { cols, rows: second }));
                handed_on.extend(resizes.due());
            }
            assert_eq!(opened, 1);
            resizes.turn();
        }
        handed_on.extend(resizes.due());
        assert_eq!(handed_on.len(), 3 * 10 + 1);
        assert_eq!(handed_on.last(), Some(&Size { cols: 1000, rows: 3 }));
        assert_eq!(resizes.due(), None, "and then it is quiet");
    }

    #[test]
    fn what_had_no_room_is_handed_on_later_unless_a_newer_size_came() {
        let (old, new) = (Size { cols: 80, rows: 24 }, Size { cols: 81, rows: 24 });
        let mut resizes = Resizes::default();
        resizes.tell(old);
        let taken = resizes.due().unwrap();
        resizes.give_back(taken);
        assert_eq!(resizes.due(), Some(old));
        resizes.tell(new);
        resizes.give_back(old);
        assert_eq!(resizes.due(), Some(new));
    }
}
