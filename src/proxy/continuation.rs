//! The rest of an answer whose stored content was lost while it was being sent: the origin is asked for it.
//!
//! Decides nothing: of which responses there is a rest to be had, and whether an answer is that, are the
//! verdicts of `caching::continuation`; who is asked, and how, is an errand's. What the origin sends goes
//! to those who read the answer, at their pace, and into no store.
//!
//! Whoever reads gets every byte of the one representation, or sees the answer break off. A continuation
//! ends when nobody reads. Each answer is continued at its own place, so that there may be as many as there
//! are readers; an upstream's limits bound them like any other fetch.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::Proxy;
use super::asked::Asked;
use super::counted::{Broken, Counted};
use super::errand::{Errand, Wanted};
use super::lookup::Found;
use crate::caching::admission::RequestFacts;
use crate::caching::continuation::{Answered, Missing};
use crate::caching::key::PrimaryKey;
use crate::collapse::fill::{FillWriter, Pushed};
use crate::observe::metrics::Cause;
use crate::rules::route::Route;
use crate::store::StoreKey;

/// How to go on with an answer whose content is read from a store, should that fail.
#[derive(Debug)]
pub(super) struct Continuation {
    errand: Errand,
    missing: Missing,
}

impl Proxy {
    /// Prepares for the failing of content that is read for this request: `missing` is what was not sent yet.
    /// `None` where nobody is to be asked for it.
    pub(super) fn continuation(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        place: &StoreKey,
        missing: Option<Missing>,
    ) -> Option<Box<Continuation>> {
        // What is stored is all that such a client wants (RFC 9111 5.2.1.7).
        let missing = missing.filter(|_| !facts.only_if_cached())?;
        let key = PrimaryKey { hash: place.primary, text: place.text.clone() };
        let errand = self.errand(asked, facts, route, &key, &Found::Nothing, Cause::Continue)?;
        Some(Box::new(Continuation { errand, missing }))
    }
}

impl Continuation {
    /// What there is to ask for once `sent` bytes were sent; `None` when that is nothing.
    pub(super) fn after(mut self: Box<Self>, sent: u64) -> Option<Box<Self>> {
        self.missing = self.missing.after(sent)?;
        Some(self)
    }

    /// To be held while it is under way: it counts as an errand.
    pub(super) fn under_way(&self) -> Arc<()> {
        Arc::clone(&self.errand.proxy.shared.errands)
    }

    /// Asks for the rest, and hands it on. Where it is not to be had, or breaks off, so does the answer: with
    /// the writer that is given back.
    #[must_use]
    pub(super) async fn pour(self: Box<Self>, mut writer: FillWriter) -> Option<FillWriter> {
        let found = tokio::select! {
            biased;
            () = writer.unread() => return Some(writer),
            found = self.ask() => found,
        };
        let Some(mut rest) = found else { return Some(writer) };
        loop {
            let next = tokio::select! {
                biased;
                () = writer.unread() => return Some(writer),
                next = rest.next() => next,
            };
            match next {
                None => break,
                Some(Err(Broken)) => return Some(writer),
                Some(Ok(bytes)) => {
                    if writer.push(bytes) == Pushed::Windowed && !writer.room().await {
                        return Some(writer);
                    }
                }
            }
        }
        drop(writer.complete(None));
        None
    }

    /// The missing bytes as the origin has them. `None` where it has no answer, or another: the log says so.
    async fn ask(mut self: Box<Self>) -> Option<Rest> {
        self.errand.wanted = Wanted::Rest(self.missing.question()?);
        let stamp = self.errand.proxy.shared.purges.stamp();
        let (answer, _) = self.errand.ask(stamp, true).await.ok()?;
        let length = http_body::Body::size_hint(&answer.body).exact();
        let (route, status) = (&self.errand.route, answer.head.status);
        let (skip, of) = match self.missing.judge(status, &answer.head.headers, length) {
            Answered::Rest => (0, Some(self.missing.length())),
            Answered::Whole { skip } => (skip, length),
            Answered::Unfit(why) => {
                let (route, status) = (&route.name, status.as_u16());
                tracing::warn!(%route, status, ?why, "the origin's answer is not the rest of a stored one");
                return None;
            }
        };
        tracing::info!(route = %route.name, status = status.as_u16(), "the origin sends the rest of a stored answer");
        let body = Counted::of(answer.body, of, route);
        Some(Rest { body, skip, take: self.missing.length() })
    }
}

/// Missing bytes, within an answer's content.
struct Rest {
    body: Counted,
    /// Bytes before them that are still to come.
    skip: u64,
    /// Those of them that are still to come. What follows them is not read.
    take: u64,
}

impl Rest {
    /// The next of them; `None` when all of them came.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        while self.take > 0 {
            let mut bytes = match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(_) => continue,
                },
                Some(Err(broken)) => return Some(Err(broken)),
                None => return Some(Err(Broken)),
            };
            let length = bytes.len() as u64;
            let skipped = self.skip.min(length);
            self.skip -= skipped;
            // Neither is more than there are in a frame.
            bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
            bytes.truncate(usize::try_from(self.take).unwrap_or(usize::MAX));
            self.take -= bytes.len() as u64;
            if !bytes.is_empty() {
                return Some(Ok(bytes));
            }
        }
        None
    }
}
