//! The content of a request, between the connection that it comes on and whoever reads it.
//!
//! Decides: that content is read from the connection when it is asked for and not before, one piece at a
//! time; nothing else waits here. Never touches: sockets, timers, framing.
//!
//! Most requests have no content, and then there is nothing to share.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Refusal;

/// The content of a request.
#[derive(Debug, Default)]
pub struct Content(Option<Arc<Mutex<Passage>>>);

/// Why content broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenContent {
    /// It was refused: malformed, too large, too slow.
    Refused(Refusal),
    /// The client went away.
    ClientGone,
}

impl std::fmt::Display for BrokenContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::ClientGone => f.write_str("the client went away before the end of its request"),
        }
    }
}

impl std::error::Error for BrokenContent {}

/// The connection's end: it hands over what is asked for.
#[derive(Debug)]
pub(crate) struct Feed(Arc<Mutex<Passage>>);

#[derive(Debug)]
struct Passage {
    /// The next piece, which the reader has not taken.
    piece: Option<Result<Bytes, BrokenContent>>,
    /// What comes behind the last piece.
    trailers: Option<HeaderMap>,
    /// Bytes that the reader has not taken, where that is known.
    left: Option<u64>,
    /// No piece comes after that one.
    is_ended: bool,
    /// Somebody waits for the next piece.
    is_wanted: bool,
    /// There is nobody to read it.
    is_unread: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
}

/// Content of `length` bytes, or of as many as come, and the connection's end of it.
pub(crate) fn content(length: Option<u64>) -> (Content, Feed) {
    let passage = Arc::new(Mutex::new(Passage {
        piece: None,
        trailers: None,
        left: length,
        is_ended: false,
        is_wanted: false,
        is_unread: false,
        reader: None,
        connection: None,
    }));
    (Content(Some(Arc::clone(&passage))), Feed(passage))
}

impl Content {
    /// None.
    pub const NONE: Self = Self(None);
}

impl Feed {
    /// Whether somebody waits for a piece now; if not, the task is woken when one does.
    pub(crate) fn is_wanted(&self, cx: &Context<'_>) -> bool {
        let mut passage = lock(&self.0);
        if passage.is_wanted && passage.piece.is_none() && !passage.is_ended {
            return true;
        }
        if !passage.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            passage.connection = Some(cx.waker().clone());
        }
        false
    }

    /// Whether nobody will ask for any more of it.
    pub(crate) fn is_unread(&self) -> bool {
        lock(&self.0).is_unread
    }

    /// Hands over the next piece, which was asked for.
    pub(crate) fn give(&self, data: Bytes) {
        self.tell(|passage| passage.piece = Some(Ok(data)));
    }

    /// It has ended as it should, with these trailers.
    pub(crate) fn end(self, trailers: Option<HeaderMap>) {
        self.tell(|passage| {
            passage.trailers = trailers;
            passage.is_ended = true;
        });
    }

    /// It broke off. What was handed over and not taken is lost with it.
    pub(crate) fn break_off(self, broken: BrokenContent) {
        self.broke_off(broken);
    }

    fn broke_off(&self, broken: BrokenContent) {
        self.tell(|passage| {
            passage.piece = Some(Err(broken));
            passage.is_ended = true;
        });
    }

    fn tell(&self, news: impl FnOnce(&mut Passage)) {
        let mut passage = lock(&self.0);
        news(&mut passage);
        passage.is_wanted = false;
        let reader = passage.reader.take();
        drop(passage);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if !lock(&self.0).is_ended {
            self.broke_off(BrokenContent::ClientGone);
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BrokenContent;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenContent>>> {
        let Some(shared) = &self.0 else { return Poll::Ready(None) };
        let mut passage = lock(shared);
        if let Some(piece) = passage.piece.take() {
            if let (Some(left), Ok(data)) = (&mut passage.left, &piece) {
                *left = left.saturating_sub(data.len() as u64);
            }
            return Poll::Ready(Some(piece.map(Frame::data)));
        }
        if let Some(trailers) = passage.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if passage.is_ended {
            return Poll::Ready(None);
        }
        passage.reader = Some(cx.waker().clone());
        if !std::mem::replace(&mut passage.is_wanted, true) {
            let connection = passage.connection.take();
            drop(passage);
            if let Some(connection) = connection {
                connection.wake();
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            let passage = lock(shared);
            let has_more = passage.piece.is_some() || passage.trailers.is_some();
            !has_more && (passage.is_ended || passage.left == Some(0))
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(shared) => lock(shared).left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let Some(shared) = &self.0 else { return };
        let mut passage = lock(shared);
        passage.is_unread = true;
        let connection = passage.connection.take();
        drop(passage);
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

/// Nothing that can panic runs under the lock.
fn lock(passage: &Mutex<Passage>) -> MutexGuard<'_, Passage> {
    passage.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(content: &mut Content) -> Poll<Option<Result<Bytes, BrokenContent>>> {
        let cx = &mut Context::from_waker(Waker::noop());
        Pin::new(content)
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())))
    }

    fn is_wanted(feed: &Feed) -> bool {
        feed.is_wanted(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_piece_is_read_when_it_is_asked_for() {
        let (mut content, feed) = content(Some(4));
        assert!(!is_wanted(&feed) && !content.is_end_stream());
        assert!(poll(&mut content).is_pending() && is_wanted(&feed));
        feed.give(Bytes::from_static(b"abc"));
        assert!(!is_wanted(&feed));
        assert_eq!(poll(&mut content), Poll::Ready(Some(Ok(Bytes::from_static(b"abc")))));
        assert_eq!(content.size_hint().exact(), Some(1));
        assert!(poll(&mut content).is_pending());
        feed.give(Bytes::from_static(b"d"));
        feed.end(None);
        assert_eq!(poll(&mut content), Poll::Ready(Some(Ok(Bytes::from_static(b"d")))));
        assert!(content.is_end_stream());
        assert_eq!(poll(&mut content), Poll::Ready(None));
    }

    #[test]
    fn content_that_breaks_off_never_ends() {
        let (mut first, feed) = content(None);
        feed.break_off(BrokenContent::Refused(Refusal::Framing));
        assert_eq!(poll(&mut first), Poll::Ready(Some(Err(BrokenContent::Refused(Refusal::Framing)))));
        let (mut second, feed) = content(Some(2));
        feed.give(Bytes::from_static(b"a"));
        drop(feed);
        assert_eq!(poll(&mut second), Poll::Ready(Some(Err(BrokenContent::ClientGone))));
    }

    #[test]
    fn trailers_come_behind_the_content() {
        let (mut content, feed) = content(None);
        let mut trailers = HeaderMap::new();
        trailers.insert("sum", http::HeaderValue::from_static("1"));
        feed.end(Some(trailers));
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut content).poll_frame(cx) else { panic!("trailers") };
        assert_eq!(frame.trailers_ref().expect("trailers")["sum"], "1");
        assert!(content.is_end_stream());
    }

    #[test]
    fn who_reads_no_more_says_so() {
        let (content, feed) = content(None);
        assert!(!feed.is_unread());
        drop(content);
        assert!(feed.is_unread());
        assert!(Content::NONE.is_end_stream() && Content::default().size_hint().exact() == Some(0));
    }
}
