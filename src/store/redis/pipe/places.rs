//! Where answers wait for those who asked.
//!
//! Decides: nothing. A place is taken with a question, and is free again once its answer was fetched, or was to come
//! to one who had left. Never touches: the order of questions and answers (the pipe's), or wakers that are
//! ringing: they are handed out, to be woken when nothing is locked.
//!
//! A channel for each question would be an allocation of its own, and two more atomic counts.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fred::interfaces::FredResult;

/// All places: as many as were ever taken at once, which the bound on commands under way bounds.
#[derive(Default)]
pub(super) struct Places {
    all: Vec<Place>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
enum Place {
    /// Nobody's.
    #[default]
    Free,
    /// Nothing has come.
    Waiting(Option<Waker>),
    /// What came, and was not fetched.
    Come(Came),
    /// Nothing has come, and nobody waits for it.
    Left,
}

/// What comes to a place; `None`: nothing ever will.
pub(super) type Came = Option<FredResult<Bytes>>;

impl Places {
    /// Takes a place.
    pub(super) fn take(&mut self) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.all.push(Place::Free);
            self.all.len() - 1
        });
        self.set(at, Place::Waiting(None));
        at
    }

    /// Brings what comes to a place, once. Returns who is to be woken.
    pub(super) fn bring(&mut self, at: usize, came: Came) -> Option<Waker> {
        match self.set(at, Place::Come(came)) {
            Place::Waiting(waker) => return waker,
            Place::Left => self.release(at),
            Place::Free | Place::Come(_) => {}
        }
        None
    }

    /// Fetches what came to a place, which is nobody's then.
    pub(super) fn poll(&mut self, at: usize, cx: &Context<'_>) -> Poll<Came> {
        match self.all.get_mut(at) {
            Some(Place::Waiting(waker)) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(place @ Place::Come(_)) => {
                let Place::Come(came) = std::mem::take(place) else { return Poll::Ready(None) };
                self.free.push(at);
                Poll::Ready(came)
            }
            Some(Place::Free | Place::Left) | None => Poll::Ready(None),
        }
    }

    /// Leaves a place that nothing was fetched from.
    pub(super) fn leave(&mut self, at: usize) {
        match self.set(at, Place::Left) {
            Place::Come(_) => self.release(at),
            Place::Waiting(_) | Place::Left | Place::Free => {}
        }
    }

    fn release(&mut self, at: usize) {
        self.set(at, Place::Free);
        self.free.push(at);
    }

    fn set(&mut self, at: usize, new: Place) -> Place {
        self.all.get_mut(at).map(|place| std::mem::replace(place, new)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_once_nobody_needs_them() {
        let cx = Context::from_waker(Waker::noop());
        let mut places = Places::default();
        let value = || Some(Ok(Bytes::from_static(b"1")));
        let fetched = |came: Poll<Came>| match came {
            Poll::Ready(Some(Ok(value))) => value,
            other => panic!("{other:?}"),
        };
        // Fetched after a wait.
        let first = places.take();
        assert!(places.poll(first, &cx).is_pending());
        assert!(places.bring(first, value()).is_some(), "to be woken");
        let second = places.take();
        assert_ne!(first, second, "it was not fetched yet");
        assert_eq!(fetched(places.poll(first, &cx)), "1");
        assert_eq!(places.take(), first);
        // Left before anything came, and not another's until it did.
        places.leave(first);
        assert_ne!(places.take(), first);
        assert!(places.bring(first, value()).is_none());
        assert_eq!(places.take(), first);
        // Come before anybody looked, and left.
        assert!(places.bring(second, None).is_none());
        places.leave(second);
        assert_eq!(places.take(), second);
        assert!(places.bring(second, None).is_none());
        assert!(matches!(places.poll(second, &cx), Poll::Ready(None)));
        assert_eq!(places.all.len(), 3);
    }
}
