//! What the browsers on a session are told of its screen, and of each other. Knows no bytes of theirs.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Seen, Wire};
use crate::{
    core::{
        screen::Grid,
        stream::{AttachNo, BeyondEnd, Picture, Start},
    },
    ssh::Size,
};

/// Onlookers that are named to the one who types: more fill no tab.
const NAMES: usize = 32;

impl Wire {
    /// Where a browser's output starts, and what it is shown before.
    pub(super) fn start(
        &self,
        attach: AttachNo,
        interactive: bool,
        seen: Seen,
    ) -> Result<(Start, Option<Bytes>), BeyondEnd> {
        let mut output = self.output.borrow_mut();
        let mut start = output.attach(attach, interactive, seen.offset)?;
        let new = seen.offset.is_none() || start.lost > 0;
        let picture = if seen.draws { output.draw(attach, new) } else { None };
        if let Some(Picture { offset, .. }) = picture {
            start.offset = offset;
        }
        Ok((start, picture.map(|picture| picture.bytes)))
    }

    /// The terminal has a new size: that of who types.
    pub(in crate::actor) fn resize(&self, size: Size) {
        let Size { cols, rows } = size;
        self.size.set(size);
        self.viewers.borrow().iter().filter(|viewer| !viewer.interactive).for_each(|viewer| viewer.tell_size(size));
        self.output.borrow_mut().resize(Grid { cols, rows });
    }

    /// Tells the one who types who looks on.
    pub(super) fn tell_watchers(&self) {
        let viewers = self.viewers.borrow();
        let onlookers = viewers.iter().filter(|viewer| !viewer.interactive).map(|viewer| viewer.user.clone());
        let names: BTreeSet<String> = onlookers.take(NAMES).collect();
        viewers.iter().filter(|viewer| viewer.interactive).for_each(|viewer| viewer.tell_watchers(&names));
    }
}
