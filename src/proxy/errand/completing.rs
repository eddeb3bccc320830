//! Parts of a representation become larger ones, and whole (RFC 9111 3.4).
//!
//! Decides: whether an answer is the rest that was asked for; that two parts fit is `caching::partial`'s
//! word. Never touches: where the result is stored.

use std::sync::Arc;

use bytes::Bytes;
use http::header::RANGE;
use http::{HeaderValue, StatusCode};

use super::filling::Around;
use super::{Arrival, Content, Errand, How, Obtained, Permits};
use crate::caching::partial::{self, Join, Order};
use crate::caching::storability::{self, Exchange, Storability};
use crate::caching::stored::{StoredBody, StoredHead, StoredResponse};
use crate::collapse::fill::Fill;
use crate::upstream::Answer;

impl Errand {
    /// Whether an answer to a request for the rest of a stored part is that.
    pub(super) fn completes(&self, answer: &Answer, arrival: Arrival) -> Rest {
        match answer.head.status {
            StatusCode::PARTIAL_CONTENT => {}
            // It has changed meanwhile: the same whole for everybody; or the origin fails.
            status if status == StatusCode::OK || status.is_server_error() => return Rest::Instead,
            _ => return Rest::Unfit,
        }
        let length = http_body::Body::size_hint(&answer.body).exact();
        // Only the rest was asked for: a part is what the answer may be.
        let mut asked = self.request.headers.clone();
        asked.insert(RANGE, HeaderValue::from_static("bytes=0-"));
        let exchange = Exchange { request: &asked, ..self.exchange(&answer.head, length, arrival) };
        let Storability::Store(newer) = storability::judge(&exchange, &self.route.policy) else {
            return Rest::Unfit;
        };
        let older = self.found.candidate().map(|candidate| &candidate.stored.head);
        match older.and_then(|older| partial::join(older, &newer)) {
            Some(join) if join.overlap == 0 && join.head.part.is_none() => Rest::Fits(Box::new(join)),
            _ => Rest::Unfit,
        }
    }

    /// The rest of a stored part arrives: what is given and stored is the whole.
    pub(super) async fn complete(
        self,
        join: Box<Join>,
        older: Bytes,
        answer: Answer,
        arrival: Arrival,
        mut permits: Permits,
    ) {
        let held = older.len() as u64;
        let part = self.found.candidate().and_then(|candidate| candidate.stored.head.part);
        let complete = part.map_or(held, |part| part.complete);
        let (writer, fill) = Fill::start(Some(complete), self.route.policy.max_object_size);
        let reader = fill.read();
        let content = Content::Fill(fill);
        let landed = Arc::new(self.landed(*join.head, content, How::Completed, true, arrival));
        self.share(&landed, &mut permits, arrival.received);
        permits.reply.send(Obtained::Landed(Arc::clone(&landed), reader));
        let mut around = Around { missing: Some(complete - held.min(complete)), ..Around::default() };
        match join.order {
            Order::OlderFirst => around.before = older,
            Order::NewerFirst => around.after = older,
        }
        match self.pour(answer.body, writer, around, &mut permits).await {
            Ok(poured) => {
                let whole = StoredResponse { head: landed.head.clone(), body: poured.body.into() };
                self.keep_and_tell(whole, landed.variant, poured.ending, &mut permits).await;
            }
            Err(reason) => {
                self.not_stored(reason);
                permits.shares_nothing();
            }
        }
        permits.release().await;
    }

    /// How a part fits the part that was stored before (RFC 9111 3.4), where it does.
    pub(super) fn joins(&self, head: &StoredHead) -> Option<Join> {
        let older = self.found.candidate().map(|candidate| &candidate.stored.head);
        older.and_then(|older| partial::join(older, head))
    }

    /// A part, made larger by the part that was stored before.
    pub(super) async fn joined(&self, join: Join, head: StoredHead, body: Bytes) -> StoredResponse {
        let newer = StoredResponse { head, body: StoredBody::Here(body.clone()) };
        let Some(older) = self.older_content().await else { return newer };
        let (front, back) = match join.order {
            Order::OlderFirst => (&older, &body),
            Order::NewerFirst => (&body, &older),
        };
        let fresh = back.get(usize::try_from(join.overlap).unwrap_or(usize::MAX)..).unwrap_or_default();
        let length = (front.len() + fresh.len()) as u64;
        // A body that is not as long as its part says would shift every byte after it.
        let whole = join.head.part.map_or(length, |part| part.len());
        if whole != length || length > self.route.policy.max_object_size {
            return newer;
        }
        StoredResponse { head: *join.head, body: Bytes::from([front.as_ref(), fresh].concat()).into() }
    }

    /// The content of what was found, all of it at hand: what is joined is of the size that may be stored.
    pub(super) async fn older_content(&self) -> Option<Bytes> {
        let candidate = self.unpurged()?;
        match &candidate.stored.body {
            StoredBody::Here(body) => Some(body.clone()),
            StoredBody::InStore(body) => {
                self.proxy.redis.as_ref()?.whole(&candidate.place(&self.key), *body).await
            }
        }
    }
}

/// What the answer to a request for the rest of a stored part is.
pub(super) enum Rest {
    /// The rest, and with the part the whole.
    Fits(Box<Join>),
    /// An answer in its place.
    Instead,
    /// Neither: the whole has to be asked for.
    Unfit,
}
