//! Joins the fragments of a browser's text message (RFC 6455 §5.4). Fragments of binary messages pass through as bytes.
//! Does not know the meaning of messages.

use actix_http::ws::Item;
use bytes::{Bytes, BytesMut};

use super::protocol::MAX_FRAME;

/// The text message whose fragments are being collected, if any.
#[derive(Debug, Default)]
pub struct Fragments(Option<BytesMut>);

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
}

impl Fragments {
    /// Takes the next fragment.
    pub fn take(&mut self, item: Item) -> Joined {
        match (item, self.0.take()) {
            (Item::FirstText(bytes), None) => {
                self.0 = Some(BytesMut::from(bytes.as_ref()));
                Joined::More
            }
            (Item::Continue(bytes), Some(mut text)) if text.len() + bytes.len() <= MAX_FRAME => {
                text.extend_from_slice(&bytes);
                self.0 = Some(text);
                Joined::More
            }
            (Item::Last(bytes), Some(mut text)) if text.len() + bytes.len() <= MAX_FRAME => {
                text.extend_from_slice(&bytes);
                Joined::Text(text)
            }
            (Item::Continue(_) | Item::Last(_), Some(_)) => Joined::TooLarge,
            (Item::FirstBinary(bytes) | Item::Continue(bytes) | Item::Last(bytes), None) => Joined::Bytes(bytes),
            (Item::FirstText(_) | Item::FirstBinary(_), Some(_)) => Joined::Nested,
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
    fn a_text_is_bounded_and_holds_no_other() {
        let mut fragments = Fragments::default();
        fragments.take(Item::FirstText(Bytes::from(vec![b'a'; MAX_FRAME])));
        assert_eq!(fragments.take(Item::Last(bytes("a"))), Joined::TooLarge);
        fragments.take(Item::FirstText(bytes("a")));
        assert_eq!(fragments.take(Item::FirstBinary(bytes("b"))), Joined::Nested);
    }
}
