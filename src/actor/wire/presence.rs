//! What the browsers on a session are told of its screen, of each other, and of who types. Knows no bytes of theirs.

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

/// Onlookers that are named to the one who types: more fill no tab.
const MAX_NAMES: usize = 32;

/// Who types, as one page sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The turn that is now.
    pub turn: Turn,
    /// Whether this page types.
    pub typing: bool,
    /// Who types in the owner's stead.
    pub guest: Option<String>,
    /// How far this page's typing was taken.
    pub input_offset: u64,
    /// How it came about, in a sentence.
    pub message: String,
}

/// Somebody who asks the owner to be let type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRequest {
    /// To be named in the answer.
    pub id: u64,
    /// The user.
    pub name: String,
    /// When it is too late for an answer.
    pub ends_in: Duration,
}

/// A user's page. Its own name is the user's too, so that nobody's typing is counted as another's.
pub(super) fn page(attach: AttachNo, name: String, client_id: &str) -> Page {
    let client = format!("{name} {client_id}");
    Page { attach, name, client }
}

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

    /// Whether a page of the owner's is here to type, and it is not this one.
    pub(in crate::actor) fn is_elsewhere(&self, user: &str, client_id: &str) -> bool {
        let control = self.control.borrow();
        let owner = control.owner();
        let this = page(owner.attach, user.to_owned(), client_id);
        owner.client != this.client && self.viewer(owner.attach).is_some()
    }

    /// The terminal has a new size: that of who types.
    pub(in crate::actor) fn resize(&self, size: Size) {
        let Size { cols, rows } = size;
        self.size.set(size);
        let typist = self.control.borrow().typist().attach;
        self.viewers.borrow().iter().filter(|viewer| viewer.attach != typist).for_each(|viewer| viewer.tell_size(size));
        self.output.borrow_mut().resize(Grid { cols, rows });
    }

    /// Gives a page that came its place, and returns where its input continues.
    pub(super) fn seat(&self, page: Page, interactive: bool, control_aware: bool) -> u64 {
        let (attach, client) = (page.attach, page.client.clone());
        let event = match (interactive, control_aware) {
            (true, control_aware) => Event::OwnerCame { page, control_aware },
            (false, true) => Event::OnlookerCame(page),
            (false, false) => return 0,
        };
        let mut control = self.control.borrow_mut();
        control.handle(clock::instant(), event);
        if control.typist().attach == attach {
            self.input.borrow_mut().attach(&client)
        } else {
            self.input.borrow().peek(&client)
        }
    }

    /// Disconnects a socket whose page said good-bye.
    pub(in crate::actor) fn leave(&self, attach: AttachNo) {
        self.control.borrow_mut().handle(clock::instant(), Event::Gone { attach, left: true });
        self.detach(attach);
    }

    /// Who types, as `viewer` sees it.
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

    /// Another page types from here on: counts its bytes, and tells everybody.
    pub(in crate::actor) fn control_moved(&self, message: &str) {
        let typist = self.control.borrow().typist().clone();
        self.input.borrow_mut().attach(&typist.client);
        let owner = self.control.borrow().owner().attach;
        let is_sent_away =
            |viewer: &&Rc<Viewer>| !viewer.kind.control_aware && viewer.attach == owner && owner != typist.attach;
        // Its session sends it away; of its last frames the first counts, and this one says why.
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

    /// Tells the owner's page who asks to be let type.
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

    /// Tells the one who types who looks on.
    pub(super) fn tell_watchers(&self) {
        let viewers = self.viewers.borrow();
        let onlookers = viewers.iter().filter(|viewer| !viewer.kind.interactive).map(|viewer| viewer.user.clone());
        let names: BTreeSet<String> = onlookers.take(MAX_NAMES).collect();
        viewers.iter().filter(|viewer| viewer.kind.interactive).for_each(|viewer| viewer.tell_watchers(&names));
    }
}
