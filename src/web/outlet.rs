//! A socket's outgoing frames, in order, as pieces of the response's body. A large piece of output is passed on
//! unchanged after its header; the WebSocket library would copy it into a buffer of its own first. Does not know
//! sessions.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::{
    body::{BodySize, MessageBody},
    ws::{CloseReason, OpCode, Parser},
};
use bytes::{BufMut, Bytes, BytesMut};

/// Final, binary (RFC 6455 §5.2).
const BINARY: u8 = 0x82;

/// Frames that wait to be sent; shared by the actor that writes them and the body that sends them.
#[derive(Clone, Default)]
pub struct Outlet(Rc<RefCell<VecDeque<Bytes>>>);

impl Outlet {
    /// Sends a frame that is not output.
    pub fn say(&self, opcode: OpCode, payload: impl AsRef<[u8]>) {
        self.write(|frame| Parser::write_message(frame, payload, opcode, true, false));
    }

    /// Sends the last frame.
    pub fn close(&self, reason: Option<CloseReason>) {
        self.write(|frame| Parser::write_close(frame, reason, false));
    }

    fn write(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut frame = BytesMut::new();
        write(&mut frame);
        self.0.borrow_mut().push_back(frame.freeze());
    }

    /// Sends output.
    pub fn output(&self, bytes: Bytes) {
        self.0.borrow_mut().extend([head(bytes.len()), bytes]);
    }

    fn next(&self) -> Option<Bytes> {
        self.0.borrow_mut().pop_front()
    }
}

/// The header of a server's binary frame (RFC 6455 §5.2).
fn head(length: usize) -> Bytes {
    let mut head = BytesMut::with_capacity(10);
    head.put_u8(BINARY);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => head.put_u8(short),
        (_, Ok(long)) => {
            head.put_u8(126);
            head.put_u16(long);
        }
        _ => {
            head.put_u8(127);
            head.put_u64(length as u64);
        }
    }
    head.freeze()
}

/// The body that runs an actor and sends its frames. The actor is polled only once all its frames are taken: a browser
/// that does not read suspends it.
pub struct Body<A> {
    actor: A,
    outlet: Outlet,
}

impl<A> Body<A> {
    /// Wraps `actor`, the body in which its library would send.
    pub fn new(actor: A, outlet: Outlet) -> Self {
        Self { actor, outlet }
    }
}

impl<A: MessageBody + Unpin> MessageBody for Body<A> {
    type Error = A::Error;

    fn size(&self) -> BodySize {
        self.actor.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, A::Error>>> {
        if let Some(piece) = self.outlet.next() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match Pin::new(&mut self.actor).poll_next(cx) {
            said @ Poll::Ready(Some(_)) => said,
            polled => self.outlet.next().map_or(polled, |piece| Poll::Ready(Some(Ok(piece)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn, pin::pin};

    use actix_http::body::to_bytes;
    use futures_util::FutureExt;

    use super::*;

    /// Sends one frame each time it is polled, then ends.
    struct Actor {
        outlet: Outlet,
        turns: usize,
    }

    impl MessageBody for Actor {
        type Error = Infallible;

        fn size(&self) -> BodySize {
            BodySize::Stream
        }

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
            if self.turns == 0 {
                return Poll::Ready(None);
            }
            self.turns -= 1;
            self.outlet.output(Bytes::from_static(b"output"));
            self.outlet.say(OpCode::Text, "said behind it");
            Poll::Pending
        }
    }

    #[actix_rt::test]
    async fn a_browser_understands_frames_of_every_length() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let outlet = Outlet::default();
            outlet.output(vec![7; length].into());
            outlet.close(None);
            let body = to_bytes(Body::new(Actor { outlet: outlet.clone(), turns: 0 }, outlet)).await.unwrap();
            let mut body = BytesMut::from(&*body);
            let mut hear = || Parser::parse(&mut body, false, 65_536).unwrap().unwrap();
            let (last, opcode, payload) = hear();
            assert_eq!((last, opcode, payload.unwrap_or_default().len()), (true, OpCode::Binary, length));
            assert_eq!(hear(), (true, OpCode::Close, None));
            assert!(body.is_empty());
        }
    }

    #[actix_rt::test]
    async fn frames_keep_their_order_and_an_actor_waits_until_they_are_taken() {
        let outlet = Outlet::default();
        let mut body = pin!(Body::new(Actor { outlet: outlet.clone(), turns: 2 }, outlet));
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.extend(poll_fn(|cx| body.as_mut().poll_next(cx)).now_or_never().unwrap().unwrap().unwrap());
            assert_eq!(body.actor.turns, 1, "polled before it was heard out");
        }
        assert_eq!(heard, b"\x82\x06output\x81\x0esaid behind it");
        assert!(poll_fn(|cx| body.as_mut().poll_next(cx)).now_or_never().unwrap().is_some());
    }

    #[test]
    fn large_output_is_not_copied() {
        let outlet = Outlet::default();
        let output = Bytes::from(vec![7; 32 * 1024]);
        outlet.output(output.clone());
        assert_eq!(outlet.next().unwrap(), b"\x82\x7e\x80\x00"[..]);
        assert_eq!(outlet.next().unwrap().as_ptr(), output.as_ptr());
    }
}
