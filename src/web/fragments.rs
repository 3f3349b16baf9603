//! Joins the fragments of a browser's text message (RFC 6455 §5.4), and counts those of a binary one, which pass through
//! as bytes. Does not know the meaning of messages.

use actix_http::ws::Item;
use bytes::{Bytes, BytesMut};

use super::protocol::MAX_FRAME;

/// The message whose fragments are being received, if any.
#[derive(Debug, Default)]
pub struct Fragments(Option<Message>);

/// A message that has begun.
#[derive(Debug)]
enum Message {
    Text(BytesMut),
    /// Its length so far.
    Binary(usize),
}

/// The outcome of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// Nothing yet.
    More,
    /// A whole text message.
    Text(BytesMut),
    /// Bytes of the terminal.
    Bytes(Bytes),
    /// The message is larger than [`MAX_FRAME`].
    TooLarge,
    /// A message began inside another.
    Nested,
    /// No message had begun.
    NotBegun,
}

impl Fragments {
    /// Takes the next fragment.
    pub fn take(&mut self, item: Item) -> Joined {
        let (bytes, message, is_last) = match (item, self.0.take()) {
            (Item::FirstText(bytes), None) => (bytes, Message::Text(BytesMut::new()), false),
            (Item::FirstBinary(bytes), None) => (bytes, Message::Binary(0), false),
            (Item::Continue(bytes), Some(message)) => (bytes, message, false),
            (Item::Last(bytes), Some(message)) => (bytes, message, true),
            (Item::FirstText(_) | Item::FirstBinary(_), Some(_)) => return Joined::Nested,
            (Item::Continue(_) | Item::Last(_), None) => return Joined::NotBegun,
        };
        match message {
            Message::Text(text) if text.len() + bytes.len() > MAX_FRAME => Joined::TooLarge,
            Message::Binary(length) if length + bytes.len() > MAX_FRAME => Joined::TooLarge,
            Message::Text(mut text) => {
                text.extend_from_slice(&bytes);
                if is_last {
                    return Joined::Text(text);
                }
                self.0 = Some(Message::Text(text));
                Joined::More
            }
            Message::Binary(length) => {
                self.0 = (!is_last).then_some(Message::Binary(length + bytes.len()));
                Joined::Bytes(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_text_is_whole_with_its_last_fragment() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.take(Item::FirstText(bytes("a"))), Joined::More);
        assert_eq!(fragments.take(Item::Continue(bytes("b"))), Joined::More);
        assert_eq!(fragments.take(Item::Last(bytes("c"))), Joined::Text(BytesMut::from("abc")));
        assert_eq!(fragments.take(Item::FirstBinary(bytes("d"))), Joined::Bytes(bytes("d")));
        assert_eq!(fragments.take(Item::Last(bytes("e"))), Joined::Bytes(bytes("e")));
    }

    #[test]
    fn a_message_is_bounded_and_holds_no_other() {
        for first in [Item::FirstText, Item::FirstBinary] {
            let mut fragments = Fragments::default();
            fragments.take(first(bytes("a")));
            fragments.take(Item::Continue(Bytes::from(vec![b'a'; MAX_FRAME - 2])));
            assert_ne!(fragments.take(Item::Continue(bytes("a"))), Joined::TooLarge);
            assert_eq!(fragments.take(Item::Last(bytes("a"))), Joined::TooLarge);
            fragments.take(first(bytes("a")));
            assert_eq!(fragments.take(Item::FirstBinary(bytes("b"))), Joined::Nested);
        }
    }

    #[test]
    fn each_message_counts_alone_and_has_a_beginning() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.take(Item::Last(bytes("a"))), Joined::NotBegun);
        for _ in 0..2 {
            fragments.take(Item::FirstBinary(bytes("a")));
            let rest = Bytes::from(vec![b'a'; MAX_FRAME - 1]);
            assert_eq!(fragments.take(Item::Last(rest.clone())), Joined::Bytes(rest));
        }
    }
}
