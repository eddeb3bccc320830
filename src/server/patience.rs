//! How long something has been waited for.
//!
//! Decides nothing but that. The timer is set once and looks again when it fires, so that a wait that
//! does not last, as most do not, costs no reading of the clock and no change of the timer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

use crate::clock;

/// How long something has been waited for.
#[derive(Debug, Default)]
pub(super) struct Patience {
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// What was waited for came. The timer stays as it is.
    pub(super) const fn rest(&mut self) {
        self.since = None;
    }

    /// Ready when this has been asked for `limit` without a rest.
    pub(super) fn poll_spent(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let since = *self.since.get_or_insert_with(|| clock::latest().monotonic);
        if limit.is_zero() {
            return Poll::Ready(());
        }
        // A limit past the end of time is none.
        let Some(end) = since.checked_add(limit).map(tokio::time::Instant::from_std) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() > end {
            timer.as_mut().reset(end);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}
