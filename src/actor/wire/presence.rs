//! The frames to the browsers on a session about its screen, about each other, and about control. Knows none of their
//! bytes.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use bytes::Bytes;

use super::{Seen, ToSocket, Viewer, Wire};
use crate::{
    actor::clock,
    core::{
        control::{Event, Page, Turn},
        screen::Grid,
        stream::{AttachNo, BeyondEnd, Picture, Start},
    },
    ssh::Size,
};

/// Maximum watchers named to the user who types: a page shows no more.
const MAX_NAMES: usize = 32;

/// What a guest's page is told whose copy types from now on.
const COPIED: &str = "You type in another window now.";

/// The state of control, as one page sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The current turn.
    pub turn: Turn,
    /// Whether this page types.
    pub typing: bool,
    /// The guest who types in the owner's stead, if any.
    pub guest: Option<String>,
    /// The offset up to which this page's input was accepted.
    pub input_offset: u64,
    /// The cause of the last change, in one sentence.
    pub message: String,
}

/// A watcher's request for control to the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRequest {
    /// The request's id, which the answer repeats.
    pub id: u64,
    /// The user's name.
    pub name: String,
    /// Time left to answer.
    pub ends_in: Duration,
}

/// Returns a user's page. Its client id includes the user's name, so that no input is counted as another user's.
pub(super) fn page(attach: AttachNo, name: String, client_id: &str) -> Page {
    let client = format!("{name} {client_id}");
    Page { attach, name, client }
}

impl Wire {
    /// Returns where a browser's output starts, and the picture that it draws before.
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

    /// Whether another interactive page of the owner is attached.
    pub(in crate::actor) fn is_elsewhere(&self, user: &str, client_id: &str) -> bool {
        let control = self.control.borrow();
        let owner = control.owner();
        let this = page(owner.attach, user.to_owned(), client_id);
        owner.client != this.client && self.viewer(owner.attach).is_some()
    }

    /// Sets the terminal's size, which is that of the page that types.
    pub(in crate::actor) fn resize(&self, size: Size) {
        let Size { cols, rows } = size;
        self.size.set(size);
        let typist = self.control.borrow().typist().attach;
        self.viewers.borrow().iter().filter(|viewer| viewer.attach != typist).for_each(|viewer| viewer.tell_size(size));
        self.output.borrow_mut().resize(Grid { cols, rows });
    }

    /// Enters an attached page as owner's page or watcher, and returns the offset at which its input continues.
    pub(super) fn seat(&self, page: Page, interactive: bool, control_aware: bool) -> u64 {
        let (attach, client) = (page.attach, page.client.clone());
        let event = match (interactive, control_aware) {
            (true, control_aware) => Event::OwnerCame { page, control_aware },
            (false, true) => Event::WatcherCame(page),
            (false, false) => return 0,
        };
        let before = self.control.borrow().typist().attach;
        self.control.borrow_mut().handle(clock::instant(), event);
        if self.control.borrow().typist().attach != attach {
            return self.input.borrow().peek(&client);
        }
        let offset = self.input.borrow_mut().attach(&client);
        // A guest's page is copied with its id, and both may be here; the session supersedes an owner's.
        if let Some(viewer) = self.viewer(before).filter(|_| !interactive) {
            viewer.tell_control(self.hold(&viewer, COPIED.to_owned()));
        }
        offset
    }

    /// Detaches a socket whose page left on purpose.
    pub(in crate::actor) fn leave(&self, attach: AttachNo) {
        self.control.borrow_mut().handle(clock::instant(), Event::Gone { attach, left: true });
        self.detach(attach);
    }

    /// Returns the state of control, as `viewer` sees it.
    pub(super) fn hold(&self, viewer: &Viewer, message: String) -> Hold {
        let control = self.control.borrow();
        Hold {
            turn: control.turn(),
            typing: control.typist().attach == viewer.attach,
            guest: control.guest().map(str::to_owned),
            input_offset: self.input.borrow().peek(&viewer.client),
            message,
        }
    }

    /// Handles a move of control: counts the new page's input, and notifies all browsers.
    pub(in crate::actor) fn control_moved(&self, message: &str) {
        let typist = self.control.borrow().typist().clone();
        self.input.borrow_mut().attach(&typist.client);
        let owner = self.control.borrow().owner().attach;
        let is_sent_away =
            |viewer: &&Rc<Viewer>| !viewer.kind.control_aware && viewer.attach == owner && owner != typist.attach;
        // The session supersedes it; of its last frames the first counts, and this one gives the reason.
        if let Some(viewer) = self.viewers.borrow().iter().find(is_sent_away) {
            viewer.finish(ToSocket::TakenOver(message.to_owned()));
        }
        for viewer in self.viewers.borrow().iter().filter(|viewer| viewer.kind.control_aware) {
            viewer.tell_control(self.hold(viewer, message.to_owned()));
            if viewer.attach != typist.attach {
                viewer.tell_size(self.size.get());
            }
        }
    }

    /// Sends the owner's page the open requests for control.
    pub(in crate::actor) fn tell_requests(&self) {
        let (control, now) = (self.control.borrow(), clock::instant());
        let asking = control.requests().iter().map(|request| ControlRequest {
            id: request.id,
            name: request.page.name.clone(),
            ends_in: request.ends_at.saturating_duration_since(now),
        });
        let asking: Vec<_> = asking.collect();
        let owner = control.owner().attach;
        let viewers = self.viewers.borrow();
        viewers.iter().filter(|viewer| viewer.attach == owner).for_each(|viewer| viewer.tell_requests(&asking));
    }

    /// Sends the page that types the names of the watchers.
    pub(super) fn tell_watchers(&self) {
        let viewers = self.viewers.borrow();
        let watchers = viewers.iter().filter(|viewer| !viewer.kind.interactive);
        // Joined before they are counted: a user with many pages is one name.
        let users: BTreeSet<&str> = watchers.map(|viewer| viewer.user.as_str()).collect();
        let names: BTreeSet<String> = users.into_iter().take(MAX_NAMES).map(str::to_owned).collect();
        viewers.iter().filter(|viewer| viewer.kind.interactive).for_each(|viewer| viewer.tell_watchers(&names));
    }
}
