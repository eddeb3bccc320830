//! Bodies: the request's as it is handed in, the answer's as it is handed out.
//!
//! Decides: when an answer has ended cleanly, and when the origin has paused for too long. Never
//! touches: what is done with the bytes. Reads only when it is asked for more, and hands on all that one
//! read brought: a reader that stalls stalls the origin.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::UpstreamError;
use super::error::BoxError;
use super::exchange::Exchange;
use super::receive::Received;
use crate::clock;
use crate::wire::Content;

/// The body of a request that is forwarded.
///
/// A body that fails breaks the upstream message off: the connection is dropped, and the message is
/// never ended properly (no last chunk, no filled-up length).
#[derive(Debug, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// As it comes from a client's connection.
    Incoming(Content),
    /// Any other.
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

impl RequestBody {
    /// Wraps any body.
    pub fn boxed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::Boxed(body.map_err(Into::into).boxed_unsync())
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Incoming(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    /// Its next frame.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Incoming(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

/// The body of an answer, trailers included.
///
/// It ends only where the origin ended it; everything else is an error. Dropped before its end, it
/// takes the connection with it: nothing is read to the end for the connection's sake. What came before an
/// error was found goes out before it: between the two, whoever passes the answer on is left to wait once.
#[derive(Debug)]
pub struct AnswerBody {
    /// What came and was not asked for yet: content, then trailers.
    content: Bytes,
    trailers: Option<Box<HeaderMap>>,
    rest: Rest,
    last: Last,
    /// Bytes still owed, where the head stated a length.
    owed: Option<u64>,
    /// How long the origin may pause.
    limit: Duration,
    /// When this reader was first left waiting for the frame that is due.
    waiting_since: Option<Instant>,
}

/// What has not come.
#[derive(Debug)]
enum Rest {
    /// Nothing: the answer has ended.
    Ended,
    /// To be read here.
    Coming(Box<Exchange>),
    /// It never will.
    Broken(UpstreamError),
}

/// What was last handed to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// The head, or a frame: it may not have gone out yet.
    Part,
    /// The word that there is nothing yet.
    Wait,
}

impl AnswerBody {
    /// What `received` brought beside the head, and what `exchange` will bring after it.
    pub(super) fn new(received: Received, exchange: Exchange, limit: Duration) -> Self {
        let rest = if received.ended {
            exchange.finish();
            Rest::Ended
        } else {
            Rest::Coming(Box::new(exchange))
        };
        let trailers = received.trailers.map(Box::new);
        let owed = received.length;
        let (content, last) = (received.content, Last::Part);
        Self { content, trailers, rest, last, owed, limit, waiting_since: None }
    }

    /// All of its content, where that has come, is no longer than `most`, and has no trailers behind it.
    ///
    /// # Errors
    ///
    /// The body as it is.
    pub fn into_whole(mut self, most: usize) -> Result<Bytes, Self> {
        if matches!(self.rest, Rest::Ended) && self.trailers.is_none() && self.content.len() <= most {
            Ok(std::mem::take(&mut self.content))
        } else {
            Err(self)
        }
    }

    /// One without content whose connection is none of its business (a 101).
    pub(super) const fn none() -> Self {
        Self {
            content: Bytes::new(),
            trailers: None,
            rest: Rest::Ended,
            last: Last::Part,
            owed: Some(0),
            limit: Duration::MAX,
            waiting_since: None,
        }
    }

    /// What is at hand.
    fn take(&mut self) -> Option<Frame<Bytes>> {
        if !self.content.is_empty() {
            let content = std::mem::take(&mut self.content);
            self.owed = self.owed.map(|owed| owed.saturating_sub(content.len() as u64));
            return Some(Frame::data(content));
        }
        self.trailers.take().map(|trailers| Frame::trailers(*trailers))
    }

    /// Reads once.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Rest::Coming(exchange) = &mut self.rest else { return Poll::Ready(()) };
        let outcome = match exchange.poll_content(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let since = *self.waiting_since.get_or_insert_with(clock::monotonic);
                if exchange.poll_exhausted(cx, self.limit, since).is_pending() {
                    return Poll::Pending;
                }
                Err(UpstreamError::BetweenBytesTimeout)
            }
        };
        self.waiting_since = None;
        match outcome {
            Ok(received) => {
                self.content = received.content;
                self.trailers = received.trailers.map(Box::new);
                if received.ended
                    && let Rest::Coming(exchange) = std::mem::replace(&mut self.rest, Rest::Ended)
                {
                    exchange.finish();
                }
            }
            Err(error) => self.rest = Rest::Broken(error),
        }
        Poll::Ready(())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = this.take() {
                this.last = Last::Part;
                return Poll::Ready(Some(Ok(frame)));
            }
            match &this.rest {
                Rest::Ended => return Poll::Ready(None),
                Rest::Broken(_) if this.last == Last::Part => {
                    this.last = Last::Wait;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Rest::Broken(error) => return Poll::Ready(Some(Err(error.clone()))),
                Rest::Coming(_) => {
                    if this.poll_more(cx).is_pending() {
                        this.last = Last::Wait;
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty() && self.trailers.is_none() && matches!(self.rest, Rest::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.owed.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_says_so() {
        assert!(RequestBody::Empty.is_empty());
        assert!(RequestBody::boxed(http_body_util::Empty::<Bytes>::new()).is_empty());
        let body = RequestBody::boxed(http_body_util::Full::new(Bytes::from_static(b"abc")));
        assert_eq!((body.is_empty(), body.size_hint().exact()), (false, Some(3)));
    }
}
