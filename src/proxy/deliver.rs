//! Delivery: the bodies that go to clients, and what happens when one has ended.
//!
//! Decides: nothing about HTTP. Every body counts what it sends and, when it is dropped, whole or
//! broken off, writes the request's line and metrics through its [`Finish`]. Never buffers: each
//! frame is asked for when the client has room for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::caching::outcome::Reason;
use crate::caching::storability::client_trailers;
use crate::collapse::fill::FillReader;
use crate::upstream::{AnswerBody, UpstreamError};
use crate::wire::AnswerHead;

/// Bytes at hand go out in pieces of this size: what a client that left has been sent is known to a
/// piece, and what the system holds for it. One piece alone counts as sent at once.
pub const PIECE: usize = 128 * 1024;

/// An answer: its head, and what follows it.
pub type Reply = (AnswerHead, Delivery);

/// What a client is sent.
#[derive(Debug)]
pub struct Delivery {
    content: Content,
    sent: u64,
    finish: Option<Box<dyn Finish>>,
}

/// Where the bytes come from.
#[derive(Debug)]
pub enum Content {
    /// Nothing.
    Empty,
    /// Bytes at hand.
    Whole(Bytes),
    /// Several pieces at hand: a multipart answer.
    Pieces(std::vec::IntoIter<Bytes>, u64),
    /// A body that others read too, and that may still grow.
    Growing(FillReader),
    /// Stored content that is read from its store while it is sent.
    Stored(FillReader),
    /// Content of this length that is stored and not read: nobody is to be sent it.
    Unread(u64),
    /// A range of a growing body.
    Part {
        /// The body it is cut from.
        from: FillReader,
        /// Bytes still to be passed over.
        skip: u64,
        /// Bytes still to be sent.
        take: u64,
    },
    /// Straight from the origin to this client.
    Passing(Box<AnswerBody>),
    /// Stored content, and the trailers that were stored with it.
    Trailed(Box<Self>, HeaderMap),
}

/// What is to be done once an answer has ended: told how many bytes went out, and why no more did.
pub trait Finish: Send + std::fmt::Debug {
    /// Called exactly once.
    fn finished(self: Box<Self>, sent: u64, broken: Option<Reason>);
}

/// A body that could not be given whole. The connection is broken off, so that the client sees it.
#[derive(Debug)]
pub struct BrokenOff(Reason);

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer broke off before its end")
    }
}

impl std::error::Error for BrokenOff {}

impl Content {
    /// How many bytes are still to come, when that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Pieces(_, left) => Some(*left),
            Self::Growing(reader) | Self::Stored(reader) => reader.size_hint().exact(),
            Self::Unread(length) => Some(*length),
            Self::Part { take, .. } => Some(*take),
            Self::Passing(body) => body.size_hint().exact(),
            // A stated length leaves no room for trailers: chunked alone has them (RFC 9112 7.1.2).
            Self::Trailed(..) => None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
            }
            Self::Pieces(pieces, left) => Poll::Ready(pieces.next().map(|piece| {
                *left = left.saturating_sub(piece.len() as u64);
                Ok(Frame::data(piece))
            })),
            Self::Growing(reader) => {
                Pin::new(reader).poll_frame(cx).map_err(|_| BrokenOff(Reason::Incomplete))
            }
            Self::Stored(reader) => {
                Pin::new(reader).poll_frame(cx).map_err(|_| BrokenOff(Reason::ContentUnreadable))
            }
            Self::Unread(_) => Poll::Ready(Some(Err(BrokenOff(Reason::Internal)))),
            Self::Part { from, skip, take } => loop {
                if *take == 0 {
                    return Poll::Ready(None);
                }
                let frame = match Pin::new(&mut *from).poll_frame(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(frame))) => frame,
                    // A range that was promised must not end early.
                    Poll::Ready(_) => return Poll::Ready(Some(Err(BrokenOff(Reason::Incomplete)))),
                };
                let Ok(mut data) = frame.into_data() else { continue };
                let length = data.len() as u64;
                if length <= *skip {
                    *skip -= length;
                    continue;
                }
                // Both fit: they are below the length of one frame.
                let start = usize::try_from(std::mem::take(skip)).unwrap_or(usize::MAX);
                data = data.slice(start.min(data.len())..);
                data.truncate(usize::try_from(*take).unwrap_or(usize::MAX).min(data.len()));
                *take -= data.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            },
            Self::Passing(body) => Pin::new(&mut **body)
                .poll_frame(cx)
                .map_ok(|frame| match frame.into_trailers() {
                    Ok(mut trailers) => {
                        client_trailers(&mut trailers);
                        Frame::trailers(trailers)
                    }
                    Err(frame) => frame,
                })
                .map_err(|error| {
                    if !matches!(error, UpstreamError::ClientBody(_)) {
                        let error = error.in_full();
                        tracing::warn!(%error, "the origin broke off in the middle of a response");
                    }
                    BrokenOff(error.reason())
                }),
            Self::Trailed(content, trailers) => {
                let polled = content.poll(cx);
                if matches!(polled, Poll::Ready(None)) {
                    let trailers = std::mem::take(trailers);
                    *self = Self::Empty;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Pieces(pieces, _) => pieces.len() == 0,
            Self::Growing(reader) | Self::Stored(reader) => reader.is_end_stream(),
            Self::Unread(_) => false,
            Self::Part { take, .. } => *take == 0,
            Self::Passing(body) => body.is_end_stream(),
            Self::Trailed(..) => false,
        }
    }
}

impl Delivery {
    /// A body to be counted by `finish` when it has ended.
    #[must_use]
    pub fn new(content: Content, finish: Option<Box<dyn Finish>>) -> Self {
        Self { content, sent: 0, finish }
    }

    /// A body that nobody waits for the end of.
    #[must_use]
    pub const fn of(content: Content) -> Self {
        Self { content, sent: 0, finish: None }
    }

    fn ended(&mut self, broken: Option<Reason>) {
        if let Some(finish) = self.finish.take() {
            finish.finished(self.sent, broken);
        }
    }
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let polled = self.content.poll(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.is_end_stream() {
                    self.ended(None);
                }
            }
            Poll::Ready(Some(Err(BrokenOff(reason)))) => {
                let reason = *reason;
                self.ended(Some(reason));
            }
            Poll::Ready(None) => self.ended(None),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Delivery {
    /// A client that went away before the end of a stream: what is left is what it did not get.
    fn drop(&mut self) {
        let unsent = !self.is_end_stream();
        self.ended(unsent.then_some(Reason::ClientGone));
    }
}
