//! An answer on its way to its peer.
//!
//! HTTP/2 keeps what its peer's window has no room for, where nobody sees that it is not taken. So an answer is handed
//! over in pieces, and a piece counts as taken when the next one is asked for. The last byte of a long answer goes by
//! itself: it is asked for when the window covers all the rest. What is shorter than a piece is given at once, and a
//! peer that does not take it is ended as idle.

use super::peer::InHand;
use super::socket::Protocol;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// One frame of HTTP/2, so that pieces cost nothing.
const PIECE_BYTES: usize = 16 * 1024;

/// In the extensions of an answer that goes on for as long as its caller listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listens;

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    in_hand: InHand,
    /// Its number, where pieces are followed.
    number: Option<u64>,
    rest: Bytes,
}

impl Answer {
    pub(super) fn new(body: Body, in_hand: InHand, protocol: Protocol) -> Self {
        // In HTTP/1.1 the socket alone shows whether the peer reads.
        let number = (protocol == Protocol::Http2).then(|| in_hand.peer().number());
        Self { body, in_hand, number, rest: Bytes::new() }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let most = self.rest.len().saturating_sub(1).clamp(1, PIECE_BYTES);
        Frame::data(self.rest.split_to(most))
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) if self.number.is_some() && data.len() > PIECE_BYTES => {
                self.rest = data;
                self.piece()
            }
            Ok(data) => Frame::data(data),
            Err(other) => other,
        })))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(number) = self.number else { return self.poll_piece(context) };
        self.in_hand.peer().takes(number);
        let piece = self.poll_piece(context);
        if let Poll::Ready(Some(Ok(_))) = piece {
            self.in_hand.peer().hands(number);
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.in_hand.peer().takes(number);
        }
    }
}
