//! A response that may be stored arrives: those who wait read it as it grows, and at its end it is kept.
//!
//! Decides: nothing about HTTP. Never touches: the verdict that led here, or where the result is stored.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Arrival, Content, Errand, How, Obtained, Permits, millis};
use crate::caching::outcome::Reason;
use crate::caching::storability;
use crate::caching::stored::{StoredHead, StoredResponse};
use crate::clock;
use crate::collapse::fill::{Ending, Fill, FillWriter, Pushed};
use crate::proxy::counted::Counted;
use crate::upstream::AnswerBody;

impl Errand {
    /// A response that may be stored: share it, fill it, store it.
    pub(super) async fn store(
        self,
        head: Box<StoredHead>,
        mut own_fields: HeaderMap,
        body: AnswerBody,
        arrival: Arrival,
        mut permits: Permits,
    ) {
        storability::client_fields(&mut own_fields, true, &self.route.policy);
        own_fields.remove(CONTENT_LENGTH);
        own_fields.remove(CONTENT_RANGE);
        // An answer that came without a date has the one that is stored (RFC 9110 6.6.1): each is told the same.
        if let (false, Some(date)) = (own_fields.contains_key(DATE), head.field(&DATE)) {
            own_fields.insert(DATE, date.clone());
        }
        let length = http_body::Body::size_hint(&body).exact();
        let (writer, fill) = Fill::start(length, self.route.policy.max_object_size);
        let reader = fill.read();
        let mut landed = self.landed(*head, Content::Fill(fill), How::Fetched, true, arrival);
        landed.own_fields = Some(own_fields);
        let landed = Arc::new(landed);
        self.share(&landed, &mut permits, arrival.received);
        permits.reply.send(Obtained::Landed(Arc::clone(&landed), reader));
        match self.pour(body, writer, Around::default(), &mut permits).await {
            Ok(poured) => {
                let Poured { body, trailers, ending } = poured;
                let mut head = landed.head.clone();
                head.cost = millis(clock::monotonic().saturating_duration_since(arrival.begun));
                head.trailers = trailers;
                match self.joins(&head) {
                    None => {
                        let whole = StoredResponse { head, body: body.into() };
                        self.keep_and_tell(whole, landed.variant, ending, &mut permits).await;
                    }
                    Some(join) => {
                        // Who asked for this part does not wait for the other.
                        ending.publish();
                        let larger = self.joined(join, head, body).await;
                        let kept = self.keep_here(larger, landed.variant);
                        self.keep_for_others(kept, &mut permits).await;
                    }
                }
            }
            Err(reason) => {
                self.not_stored(reason);
                permits.shares_nothing();
            }
        }
        permits.release().await;
    }

    /// Pours an answer's body into a fill, to its end; or why it is not to be stored: it broke off, or it
    /// outgrew what may be kept (and perhaps lost its last reader after that).
    pub(super) async fn pour(
        &self,
        body: AnswerBody,
        mut writer: FillWriter,
        around: Around,
        permits: &mut Permits,
    ) -> Result<Poured, Reason> {
        let mut body = Counted::of(body, around.missing, &self.route);
        let mut last = Bytes::new();
        let mut trailers = None;
        let mut outgrown = false;
        self.push(&mut writer, around.before, &mut outgrown, permits).await?;
        while let Some(frame) = body.frame().await {
            match frame.map_err(|_| Reason::Incomplete)?.into_data() {
                Ok(data) if body.is_at_end() => last = data,
                Ok(data) => self.push(&mut writer, data, &mut outgrown, permits).await?,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    if let Some(trailers) = &mut trailers {
                        storability::client_trailers(trailers);
                    }
                }
            }
        }
        if !around.after.is_empty() {
            let before = std::mem::replace(&mut last, around.after);
            self.push(&mut writer, before, &mut outgrown, permits).await?;
        }
        if !writer.retains(&last) {
            self.push(&mut writer, std::mem::take(&mut last), &mut outgrown, permits).await?;
        }
        let kept = trailers.as_ref().map(storability::trailer_fields).unwrap_or_default();
        match writer.close(last, trailers) {
            (Some(body), ending) => Ok(Poured { body, trailers: kept, ending }),
            (None, ending) => {
                ending.publish();
                Err(Reason::TooLarge)
            }
        }
    }

    /// Adds bytes to a fill, and waits for its readers where it no longer keeps them all.
    async fn push(
        &self,
        writer: &mut FillWriter,
        data: Bytes,
        outgrown: &mut bool,
        permits: &mut Permits,
    ) -> Result<(), Reason> {
        if writer.push(data) == Pushed::Retained {
            return Ok(());
        }
        if !std::mem::replace(outgrown, true) {
            self.outgrown(permits).await;
        }
        if writer.room().await { Ok(()) } else { Err(Reason::TooLarge) }
    }

    /// Nobody may join what is no longer kept from its first byte, nor wait for it to be stored: the
    /// rest may take as long as its slowest reader does.
    async fn outgrown(&self, permits: &mut Permits) {
        let now = clock::wall();
        let marker = self.mark(Reason::TooLarge, StatusCode::OK, now);
        if let Some(lead) = &permits.lead {
            lead.leave();
        }
        if let (Some(redis), Some((place, record))) = (&self.proxy.redis, marker) {
            redis.put(place, record, now).await;
        }
        permits.release_lock().await;
    }
}

/// Bytes that stand around those that arrive.
#[derive(Default)]
pub(super) struct Around {
    pub(super) before: Bytes,
    pub(super) after: Bytes,
    /// How many must arrive, exactly.
    pub(super) missing: Option<u64>,
}

/// A body that has been poured to its end, of which its readers do not know yet.
pub(super) struct Poured {
    pub(super) body: Bytes,
    pub(super) trailers: Vec<(HeaderName, HeaderValue)>,
    pub(super) ending: Ending,
}
