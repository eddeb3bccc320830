//! How long the origin may take.
//!
//! Decides: when a limit has passed. Never touches: what is awaited, or whose fault it is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::clock;

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
}
