//! Bodies on their way: the request's to the origin, the answer's from it.
//!
//! Decides: when each of them has ended cleanly, and when the origin has paused for too long. Never
//! touches: what is done with the bytes. No buffer of its own: a reader that stalls stalls the origin.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::UpstreamError;
use super::error::{BoxError, Source};
use super::exchange::{Exchange, Upload};
use super::pool::Lease;
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

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Incoming(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

/// The request's body in the hands of the engine, telling the exchange how far it is.
#[derive(Debug)]
pub(super) struct SentBody {
    body: RequestBody,
    /// `None` when there is nothing to tell: the body is empty.
    exchange: Option<Arc<Exchange>>,
    /// Bytes of a known length that have not been handed over: the engine asks no further once they have.
    left: Option<u64>,
}

impl SentBody {
    pub(super) fn new(body: RequestBody, exchange: &Arc<Exchange>) -> Self {
        let exchange = (!body.is_empty()).then(|| Arc::clone(exchange));
        let left = body.size_hint().exact();
        Self { body, exchange, left }
    }

    /// The body, of which nothing was taken.
    pub(super) fn into_inner(self) -> RequestBody {
        self.body
    }

    fn tell(&self, upload: Upload) {
        if let Some(exchange) = &self.exchange {
            exchange.set_upload(upload);
        }
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Source;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.body {
            RequestBody::Empty => return Poll::Ready(None),
            RequestBody::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            RequestBody::Boxed(body) => Pin::new(body).poll_frame(cx),
        };
        let frame = match polled {
            Poll::Pending => {
                this.tell(Upload::WithClient);
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        Poll::Ready(match frame {
            None => {
                this.tell(Upload::Ended(clock::monotonic()));
                None
            }
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                let ended = frame.is_trailers() || this.left == Some(0) || this.body.is_empty();
                let now = clock::monotonic();
                this.tell(if ended { Upload::Ended(now) } else { Upload::WithOrigin(now) });
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let source = Source::from(error);
                this.tell(Upload::Broken);
                if let Some(exchange) = &this.exchange {
                    exchange.blame(UpstreamError::ClientBody(Arc::clone(&source)));
                }
                Some(Err(source))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, trailers included.
///
/// It ends only where the origin ended it; everything else is an error. Dropped before its end, it
/// takes the connection with it: nothing is read to the end for the connection's sake.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    /// Present until the body has ended, well or badly.
    lease: Option<Lease>,
    /// How long the origin may pause.
    limit: Duration,
    /// When this reader was first left waiting for the frame that is due.
    waiting_since: Option<Instant>,
    /// Bytes still owed, where the head stated a length.
    owed: Option<u64>,
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, limit: Duration) -> Self {
        let owed = incoming.size_hint().exact();
        let mut body = Self { incoming, lease: Some(lease), limit, waiting_since: None, owed };
        if body.incoming.is_end_stream() {
            body.ended();
        }
        body
    }

    /// One without content whose connection is none of its business (a 101).
    pub(super) fn none(incoming: Incoming) -> Self {
        Self { incoming, lease: None, limit: Duration::MAX, waiting_since: None, owed: None }
    }

    fn ended(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn failed(&mut self, error: hyper::Error) -> UpstreamError {
        match self.lease.take() {
            Some(lease) => lease.exchange().explain(error),
            None => UpstreamError::from_hyper(error),
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lease) = &mut self.lease else { return Poll::Pending };
        let since = *self.waiting_since.get_or_insert_with(clock::monotonic);
        let (patience, exchange) = lease.patience();
        patience.poll_exhausted(cx, self.limit, || Some(exchange.waiting_for_origin_since()?.max(since)))
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
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting_since = None;
                if let (Some(owed), Some(data)) = (&mut this.owed, frame.data_ref()) {
                    *owed = owed.saturating_sub(data.len() as u64);
                }
                if frame.is_trailers() || this.incoming.is_end_stream() {
                    this.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                if this.owed.is_some_and(|owed| owed > 0) && this.lease.take().is_some() {
                    let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Some(Err(UpstreamError::Reset(Arc::new(cut)))));
                }
                this.ended();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.failed(error)))),
            Poll::Pending => {
                ready!(this.poll_patience(cx));
                this.lease = None;
                Poll::Ready(Some(Err(UpstreamError::BetweenBytesTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A timer that costs one registration per limit, not one per frame or request.
///
/// The sleep underneath is left running when what it was for has come; when it fires too early it is
/// set to the deadline of whatever is awaited by then. It stays with its connection from one exchange
/// to the next.
#[derive(Debug, Default)]
pub(super) struct Patience {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Ready once `limit` has passed since what `since` gives; `None` stops the clock, and time
    /// counts again from whatever `since` gives later.
    pub(super) fn poll_exhausted(
        &mut self,
        cx: &mut Context<'_>,
        limit: Duration,
        since: impl Fn() -> Option<Instant>,
    ) -> Poll<()> {
        let mut awaited = since();
        let deadline_of = |awaited: Option<Instant>| awaited.unwrap_or_else(clock::monotonic) + limit;
        let mut deadline = deadline_of(awaited);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if sleep.deadline() > deadline.into() {
            sleep.as_mut().reset(deadline.into());
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if awaited.is_some() && clock::monotonic() >= deadline {
                return Poll::Ready(());
            }
            awaited = since();
            deadline = deadline_of(awaited);
            sleep.as_mut().reset(deadline.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn patience_ends_after_its_limit_and_not_before() {
        let mut patience = Patience::default();
        let limit = Duration::from_millis(20);
        let start = clock::monotonic();
        poll_fn(|cx| patience.poll_exhausted(cx, limit, || Some(start))).await;
        assert!(clock::monotonic() >= start + limit);
        // The sleep has fired; the next wait gets its whole limit all the same.
        let again = clock::monotonic();
        poll_fn(|cx| patience.poll_exhausted(cx, limit, || Some(again))).await;
        assert!(clock::monotonic() >= again + limit);
        // And a shorter limit does not wait for a longer sleep that still runs.
        let start = clock::monotonic();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(patience.poll_exhausted(&mut cx, Duration::from_secs(3600), || Some(start)).is_pending());
        poll_fn(|cx| patience.poll_exhausted(cx, limit, || Some(start))).await;
        assert!(clock::monotonic() < start + Duration::from_secs(600));
    }

    #[tokio::test]
    async fn a_stopped_clock_never_exhausts() {
        let mut patience = Patience::default();
        let limit = Duration::from_millis(1);
        let stopped = poll_fn(|cx| patience.poll_exhausted(cx, limit, || None));
        let outcome = tokio::time::timeout(Duration::from_millis(20), stopped).await;
        assert!(outcome.is_err());
    }

    #[test]
    fn an_empty_body_says_so() {
        assert!(RequestBody::Empty.is_empty());
        assert!(RequestBody::boxed(http_body_util::Empty::<Bytes>::new()).is_empty());
        let body = RequestBody::boxed(http_body_util::Full::new(Bytes::from_static(b"abc")));
        assert_eq!((body.is_empty(), body.size_hint().exact()), (false, Some(3)));
    }
}
