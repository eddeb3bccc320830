//! Failures, and the one place where they become responses.
//!
//! Decides: the status and the words a client reads when no response of the origin can be given.
//! Every failure names its reason out of the closed list. Nothing of the request is echoed.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::deliver::Content;
use crate::caching::outcome::Reason;
use crate::caching::stored::{StoredHead, Traits};
use crate::upstream::UpstreamError;
use crate::wire::Refusal;

/// Why no response could be had; cheap to clone, since all who waited for it share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the client is told.
    pub status: StatusCode,
    /// Why.
    pub reason: Reason,
    /// What of a request was refused, where the reason stands for several faults.
    pub fault: Option<Refusal>,
}

impl Failure {
    /// A failure with a status of its own.
    #[must_use]
    pub const fn new(status: StatusCode, reason: Reason) -> Self {
        Self { status, reason, fault: None }
    }

    /// The origin answered with an error of its own where a stored response stands in for it.
    pub const ORIGIN_ERROR: Self = Self::new(StatusCode::BAD_GATEWAY, Reason::OriginError);
    /// forebay itself could not go on.
    pub const INTERNAL: Self = Self::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal);
    /// The client accepts a stored answer only, and there is none (RFC 9111 5.2.1.7).
    pub const ONLY_IF_CACHED: Self = Self::new(StatusCode::GATEWAY_TIMEOUT, Reason::OnlyIfCached);
    /// Another request fetches this, and patience ran out.
    pub const COLLAPSE_TIMEOUT: Self = Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::CollapseTimeout);
    /// No route is configured for this host and path.
    pub const NO_ROUTE: Self = Self::new(StatusCode::NOT_FOUND, Reason::NoRoute);

    /// PURGE from somebody whom `purge_from` does not name.
    pub const PURGE_REFUSED: Self = Self::new(StatusCode::METHOD_NOT_ALLOWED, Reason::MethodRefused);
    /// The target has no path that could be forwarded.
    pub const UNFORWARDABLE: Self = Self::new(StatusCode::BAD_REQUEST, Reason::BadRequest);
    /// The origin switched to a protocol that nobody asked for.
    pub const UNASKED_UPGRADE: Self = Self::new(StatusCode::BAD_GATEWAY, Reason::OriginProtocol);

    /// The same where a stored response must not stand in: an origin that cannot be reached is then
    /// told as 504 (RFC 9111 5.2.2.2).
    #[must_use]
    pub fn where_stored(self, stored: Option<&StoredHead>) -> Self {
        let strict = stored.is_some_and(|head| head.traits.has(Traits::MUST_REVALIDATE));
        if strict && self.status == StatusCode::BAD_GATEWAY {
            return Self { status: StatusCode::GATEWAY_TIMEOUT, ..self };
        }
        self
    }

    /// Fields and content of the answer: plain text, never cacheable.
    #[must_use]
    pub fn answer(self) -> (HeaderMap, Content) {
        let mut text = format!(
            "{} {}\n{}: {}\n",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or_default(),
            self.reason.code(),
            self.reason.title(),
        );
        if let Some(fault) = self.fault {
            text += &format!("{fault}\n");
        }
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        (headers, Content::Whole(Bytes::from(text)))
    }
}

impl From<&UpstreamError> for Failure {
    fn from(error: &UpstreamError) -> Self {
        Self::new(error.status(), error.reason())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::RequestLine
            | Refusal::Version
            | Refusal::Target
            | Refusal::FieldLine
            | Refusal::UpgradeToHttp2 => Reason::BadRequest,
            Refusal::Method => Reason::MethodRefused,
            Refusal::TargetTooLong => Reason::TargetTooLong,
            Refusal::HeadTooLarge => Reason::HeadTooLarge,
            Refusal::Host => Reason::BadHost,
            Refusal::Framing => Reason::BadFraming,
            Refusal::BodyTooLarge => Reason::BodyTooLarge,
            Refusal::Timeout => Reason::RequestTimeout,
        };
        let fault = (reason == Reason::BadRequest).then_some(refusal);
        Self { fault, ..Self::new(refusal.status(), reason) }
    }
}
