//! Answers: what an endpoint has to say, and how it is said in HTTP.
//!
//! Decides: validators, conditional requests (RFC 9110 13), the form of errors. Never touches: what
//! is said. An entity tag is a hash of the content, so that every process that says the same gives
//! it the same tag, and a tag never comes back for other content.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::payload::Payload;
use super::query::Refusal;

/// The tags of a response, by which a cache in front may find it again.
pub(super) const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// Never stored: what is different each time it is asked.
pub(super) const NO_STORE: &str = "no-store";

/// A representation that is about to answer a request.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    payload: Payload,
    etag: Option<String>,
    modified: Option<u64>,
    fields: HeaderMap,
}

impl Answer {
    /// JSON for people and programs alike, with an entity tag.
    ///
    /// # Errors
    /// 500, should the content not be representable.
    pub(super) fn json(content: &impl Serialize) -> Result<Self, Refusal> {
        let mut text = serde_json::to_vec_pretty(content).map_err(|error| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no JSON for this: {error}"))
        })?;
        text.push(b'\n');
        Ok(Self::bytes("application/json", text.into()))
    }

    /// Bytes at hand, with an entity tag.
    pub(super) fn bytes(content_type: &'static str, bytes: Bytes) -> Self {
        let etag = format!("\"{:016x}\"", xxh3_64(&bytes));
        Self::streamed(content_type, Payload::whole(bytes)).etag(etag)
    }

    /// A body that comes about while it is sent.
    pub(super) fn streamed(content_type: &'static str, payload: Payload) -> Self {
        let answer =
            Self { status: StatusCode::OK, payload, etag: None, modified: None, fields: HeaderMap::new() };
        answer.field(CONTENT_TYPE, content_type)
    }

    /// A refusal that is different next time, as JSON that says what is wrong.
    pub(super) fn refusal(refusal: &Refusal) -> Self {
        Self::error(refusal, NO_STORE)
    }

    /// A refusal that may be remembered for a little while.
    pub(super) fn lasting_refusal(refusal: &Refusal) -> Self {
        Self::error(refusal, "public, max-age=10")
    }

    fn error(refusal: &Refusal, cache: &'static str) -> Self {
        #[derive(Serialize)]
        struct Error<'a> {
            status: u16,
            error: &'a str,
        }
        let content = Error { status: refusal.status.as_u16(), error: &refusal.message };
        let mut text = serde_json::to_vec_pretty(&content).unwrap_or_default();
        text.push(b'\n');
        let answer = Self::streamed("application/json", Payload::whole(text.into()));
        Self { status: refusal.status, ..answer }.cache(cache)
    }

    /// 204, saying which methods there are.
    pub(super) fn methods(allow: &'static str) -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            payload: Payload::empty(),
            etag: None,
            modified: None,
            fields: HeaderMap::new(),
        }
        .field(ALLOW, allow)
    }

    pub(super) fn cache(self, directives: &'static str) -> Self {
        self.field(CACHE_CONTROL, directives)
    }

    pub(super) fn vary(self, names: &'static str) -> Self {
        self.field(VARY, names)
    }

    /// Appends a field whose value is written here in the source.
    pub(super) fn field(mut self, name: HeaderName, value: &'static str) -> Self {
        self.fields.append(name, HeaderValue::from_static(value));
        self
    }

    /// Appends a field with a computed value. One that no field can carry is left out.
    pub(super) fn computed(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.fields.append(name, value);
        }
        self
    }

    pub(super) fn etag(mut self, etag: String) -> Self {
        self.etag = Some(etag);
        self
    }

    /// When the content last changed, in seconds since the Unix epoch.
    pub(super) const fn modified(mut self, seconds: u64) -> Self {
        self.modified = Some(seconds);
        self
    }

    /// 412 when `If-Match` names other content than there is (RFC 9110 13.1.1).
    ///
    /// # Errors
    /// That 412.
    pub(super) fn check_if_match(&self, request: &HeaderMap) -> Result<(), Refusal> {
        let Some(etag) = self.etag.as_deref() else { return Ok(()) };
        // Strong comparison: a weak tag matches nothing.
        if !request.contains_key(IF_MATCH) || tags(request, &IF_MATCH).any(|tag| tag == "*" || tag == etag) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::PRECONDITION_FAILED, format!("the content is now {etag}")))
    }

    /// The response: 304 without content when a GET or HEAD already has it (RFC 9110 13.1.2, 13.1.3).
    pub(super) fn respond(self, method: &Method, request: &HeaderMap) -> Response<Payload> {
        let known = (method == Method::GET || method == Method::HEAD)
            && self.status == StatusCode::OK
            && self.is_known_to(request);
        let mut fields = self.fields;
        for (name, value) in [(ETAG, self.etag), (LAST_MODIFIED, self.modified.map(http_date))] {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                fields.insert(name, value);
            }
        }
        let mut response = Response::new(self.payload);
        *response.status_mut() = self.status;
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Payload::empty();
            fields.remove(CONTENT_TYPE);
        }
        *response.headers_mut() = fields;
        response
    }

    fn is_known_to(&self, request: &HeaderMap) -> bool {
        // If-Modified-Since counts only where there is no If-None-Match (RFC 9110 13.2.2).
        if request.contains_key(IF_NONE_MATCH) {
            let Some(etag) = self.etag.as_deref() else { return false };
            return tags(request, &IF_NONE_MATCH)
                .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
        }
        let since = request
            .get(IF_MODIFIED_SINCE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| httpdate::parse_http_date(value).ok())
            .and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        matches!((since, self.modified), (Some(since), Some(modified)) if modified <= since.as_secs())
    }
}

/// The members of a list of entity tags over all its lines. The tags made here have no comma inside.
fn tags<'a>(request: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = request.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// IMF-fixdate (RFC 9110 5.6.7) of a time in seconds since the Unix epoch, at most the year 9999.
fn http_date(seconds: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&HeaderName, &str)]) -> StatusCode {
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let answer = Answer::bytes("text/plain", Bytes::from_static(b"x")).etag("\"a\"".into());
        answer.modified(1_000_000_000).respond(&Method::GET, &request).status()
    }

    #[test]
    fn conditional_requests_rfc_9110_13() {
        const AT: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
        const BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
        for (fields, expected) in [
            (&[][..], 200),
            (&[(&IF_NONE_MATCH, "\"a\"")], 304),
            (&[(&IF_NONE_MATCH, "W/\"a\"")], 304),
            (&[(&IF_NONE_MATCH, "\"b\" , \"a\"")], 304),
            (&[(&IF_NONE_MATCH, "\"b\""), (&IF_NONE_MATCH, "\"a\"")], 304),
            (&[(&IF_NONE_MATCH, "*")], 304),
            (&[(&IF_NONE_MATCH, "\"b\"")], 200),
            (&[(&IF_NONE_MATCH, "a")], 200),
            (&[(&IF_MODIFIED_SINCE, AT)], 304),
            (&[(&IF_MODIFIED_SINCE, BEFORE)], 200),
            (&[(&IF_MODIFIED_SINCE, "yesterday")], 200),
            // If-None-Match decides alone.
            (&[(&IF_NONE_MATCH, "\"b\""), (&IF_MODIFIED_SINCE, AT)], 200),
        ] {
            assert_eq!(asked(fields).as_u16(), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_date_past_the_calendar_is_cut_rather_than_a_panic() {
        assert_eq!(http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
