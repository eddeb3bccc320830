//! What is on its way out to a client, and not yet in its socket.
//!
//! Decides: which bytes are sent in one piece. Never touches: what they mean, or how long they may wait.
//! Bounded by whoever puts something in: the next piece of content is asked for when this is empty.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Up to this many bytes, a head and its content cost less as one copy of both than as two pieces: the
/// kernel's way for a plain send is shorter than the one for several pieces.
const SMALL: usize = 4 * 1024;

thread_local! {
    /// What one write sends, for all connections of an event loop.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Text, then content, then text again.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    text: Vec<u8>,
    /// Bytes of the text that are written.
    written: usize,
    content: Bytes,
    /// What follows the content: the end of a chunk, and of the message.
    end: Vec<u8>,
}

impl Outbox {
    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a piece of content is to be written before another is put in.
    pub(super) fn has_content(&self) -> bool {
        !(self.content.is_empty() && self.end.is_empty())
    }

    /// How many bytes are to be written.
    pub(super) fn len(&self) -> usize {
        self.text.len() - self.written + self.content.len() + self.end.len()
    }

    /// A head, behind what is there: no content may be.
    pub(super) fn put_head(&mut self, head: Vec<u8>) {
        if self.text.is_empty() {
            self.text = head;
        } else {
            self.text.extend_from_slice(&head);
        }
    }

    /// Text, behind all that is there.
    pub(super) fn put_text(&mut self, text: &[u8]) {
        self.open_end().extend_from_slice(text);
    }

    /// Where text goes that is to follow what is there.
    pub(super) fn open_end(&mut self) -> &mut Vec<u8> {
        if self.content.is_empty() { &mut self.text } else { &mut self.end }
    }

    /// Content, behind text alone.
    pub(super) fn put_content(&mut self, content: Bytes) {
        self.content = content;
    }

    /// Writes all of it.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let text = self.text.get(self.written..).unwrap_or_default();
            let socket = Pin::new(&mut *socket);
            let length = ready!(if !self.has_content() {
                socket.poll_write(cx, text)
            } else if self.len() <= SMALL {
                JOINED.with_borrow_mut(|joined| {
                    joined.clear();
                    for piece in [text, &self.content, &self.end] {
                        joined.extend_from_slice(piece);
                    }
                    socket.poll_write(cx, joined)
                })
            } else {
                let pieces = [IoSlice::new(text), IoSlice::new(&self.content), IoSlice::new(&self.end)];
                let skip = usize::from(text.is_empty());
                let count = 3 - usize::from(self.end.is_empty());
                socket.poll_write_vectored(cx, pieces.get(skip..count).unwrap_or_default())
            })?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(length);
        }
        // No room is kept for an answer that may never come.
        *self = Self::default();
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, length: usize) {
        let text = length.min(self.text.len() - self.written);
        self.written += text;
        let content = (length - text).min(self.content.len());
        self.content.advance(content);
        let end = (length - text - content).min(self.end.len());
        self.end.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes at a time, and has to be asked again after each.
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
        is_ready: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            this.is_ready = !this.is_ready;
            if this.is_ready {
                return Poll::Pending;
            }
            let length = bytes.len().min(this.width);
            this.taken.extend_from_slice(&bytes[..length]);
            Poll::Ready(Ok(length))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn everything_goes_out_in_order_however_little_is_taken() {
        for width in [1, 7, 100, 1 << 20] {
            for size in [0, 10, SMALL, 3 * SMALL] {
                let mut narrow = Narrow { taken: Vec::new(), width, is_ready: false };
                let mut outbox = Outbox::default();
                outbox.put_text(b"early ");
                outbox.put_head(b"head ".to_vec());
                outbox.put_content(vec![b'x'; size].into());
                outbox.put_text(b" end");
                let expected = format!("early head {} end", "x".repeat(size));
                assert_eq!(outbox.len(), expected.len());
                let cx = &mut Context::from_waker(std::task::Waker::noop());
                while outbox.poll_write(cx, &mut narrow).is_pending() {}
                assert!(outbox.is_empty());
                assert_eq!(narrow.taken, expected.as_bytes());
            }
        }
    }
}
