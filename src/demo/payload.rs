//! The bodies of the product service: bytes at hand, long downloads, endless events.
//!
//! Decides: how bytes come about while they are sent. Never touches: heads. No body holds more than
//! one frame beyond what is being sent, and none has a task of its own: a client that goes away
//! drops its body, and with it everything the body held.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Interval;

use super::catalogue::{PRODUCTS, mix};

/// A response's body.
#[derive(Debug)]
pub(super) enum Payload {
    /// Bytes at hand; `None` once sent.
    Whole(Option<Bytes>),
    /// A download, from offset `sent` to `length`.
    Download { sent: u64, length: u64 },
    /// One event each time the interval ticks, until the service stops.
    Events { number: u64, every: Interval, stopping: Arc<AtomicBool> },
}

impl Payload {
    pub(super) const fn empty() -> Self {
        Self::Whole(None)
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// `length` bytes of [`download_byte`].
    pub(super) const fn download(length: u64) -> Self {
        Self::Download { sent: 0, length }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Download { sent, length } => {
                let frame = download_frame(*sent, *length);
                *sent += frame.len() as u64;
                (!frame.is_empty()).then_some(frame)
            }
            Self::Events { number, every, stopping } => {
                ready!(every.poll_tick(context));
                *number += 1;
                (!stopping.load(Ordering::Relaxed)).then(|| event(*number))
            }
        };
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Download { sent, length } => sent >= length,
            Self::Events { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Download { sent, length } => SizeHint::with_exact(length.saturating_sub(*sent)),
            Self::Events { .. } => SizeHint::default(),
        }
    }
}

/// The pattern every download repeats. Its length is prime, so that a block that is lost, doubled
/// or out of place never looks right.
const PATTERN: usize = 65_521;

static DOWNLOAD: LazyLock<Bytes> = LazyLock::new(|| (0..PATTERN as u64).map(|at| mix(at) as u8).collect());

/// The byte at `offset` of every download.
#[cfg(test)]
pub(super) fn download_byte(offset: u64) -> u8 {
    mix(offset % PATTERN as u64) as u8
}

/// The bytes from `sent` to the end of the pattern or of the download; shared, not copied.
fn download_frame(sent: u64, length: u64) -> Bytes {
    let from = (sent % PATTERN as u64) as usize;
    let left = usize::try_from(length.saturating_sub(sent)).unwrap_or(usize::MAX);
    DOWNLOAD.slice(from..from + left.min(PATTERN - from))
}

/// One server-sent event: the stock of some product.
fn event(number: u64) -> Bytes {
    let chance = mix(number);
    let (id, stock) = (1 + chance % u64::from(PRODUCTS), (chance >> 32) % 140);
    Bytes::from(format!("id: {number}\nevent: stock\ndata: {{\"product\": {id}, \"stock\": {stock}}}\n\n"))
}
