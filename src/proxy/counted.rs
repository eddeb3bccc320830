//! An origin's body that may have to be of an exact length: that of the part it said it is.
//!
//! Decides: whether as much came as was said. The last bytes are not handed out before it is known that none
//! follow: what is too long looks no more complete than what is too short. Never touches: what is done
//! with the bytes. One frame is held back, nothing else is kept.

use std::sync::Arc;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use crate::rules::route::Route;
use crate::upstream::AnswerBody;

/// A body on its way from the origin, counted.
#[derive(Debug)]
pub(super) struct Counted {
    body: AnswerBody,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    /// Trailers that were seen behind the last bytes.
    held: Option<Frame<Bytes>>,
    route: Arc<Route>,
}

/// The body did not end where it should have; the log has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Counted {
    /// A body of `length` bytes exactly, or of any number where that is `None`.
    pub(super) fn of(body: AnswerBody, length: Option<u64>, route: &Arc<Route>) -> Self {
        Self { body, left: length, held: None, route: Arc::clone(route) }
    }

    /// The next frame; `None` at the proper end. After an error there is nothing more to ask for.
    pub(super) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        if let Some(trailers) = self.held.take() {
            return Some(Ok(trailers));
        }
        let Some(frame) = self.next().await else {
            return self.left.is_some_and(|left| left > 0).then(|| Err(self.misstated()));
        };
        let Ok(frame) = frame else { return Some(Err(Broken)) };
        let Some(left) = self.left else { return Some(Ok(frame)) };
        match frame.data_ref().map(|data| left.checked_sub(data.len() as u64)) {
            // Trailers before the last bytes: there are none to come.
            None if left > 0 => Some(Err(self.misstated())),
            None => Some(Ok(frame)),
            Some(None) => Some(Err(self.misstated())),
            Some(Some(0)) => {
                self.left = Some(0);
                Some(self.end().await.map(|()| frame))
            }
            Some(Some(rest)) => {
                self.left = Some(rest);
                Some(Ok(frame))
            }
        }
    }

    /// Whether no more content follows.
    pub(super) fn is_at_end(&self) -> bool {
        match self.left {
            // What follows the last bytes was seen with them.
            Some(left) => left == 0,
            None => self.body.is_end_stream(),
        }
    }

    /// After the last bytes: nothing but trailers.
    async fn end(&mut self) -> Result<(), Broken> {
        while let Some(frame) = self.next().await {
            let frame = frame?;
            match frame.data_ref() {
                Some(data) if data.is_empty() => {}
                Some(_) => return Err(self.misstated()),
                None => self.held = Some(frame),
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        let frame = self.body.frame().await?;
        Some(frame.map_err(|error| {
            let (route, error) = (&self.route.name, error.in_full());
            tracing::warn!(%route, %error, "the origin broke off in the middle of a response");
            Broken
        }))
    }

    fn misstated(&self) -> Broken {
        tracing::warn!(route = %self.route.name, "the origin sent a part of another length than it said");
        Broken
    }
}
