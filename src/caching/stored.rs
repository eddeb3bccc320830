//! A stored response: its head, and every number judged once, at storage.
//!
//! Decides nothing: a hit compares the integers kept here. Never touches: the wire form of a record
//! (that is `store::record`) or the rules that fill it in (`storability`, `validation`).

mod fields;
mod lines;
pub mod names;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

pub use self::fields::{FieldText, Fields, Iter, Template};
pub use self::lines::{LineText, MAX_LINES, Name};
use super::stamp::{PurgeId, Stamp};
use crate::semantics::UnixMillis;

/// Properties of a stored response, one bit each; kept in one integer so that a record stays small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(pub u32);

impl Traits {
    /// Once stale it is never reused without validation, whatever a client accepts: `must-revalidate`,
    /// `proxy-revalidate`, `s-maxage` (RFC 9111 5.2.2.2, 5.2.2.8, 5.2.2.10). The stale windows of such a
    /// head are zero, but for those that the origin itself stated beside `s-maxage`.
    pub const MUST_REVALIDATE: Self = Self(1);
    /// Never reused without validation, however fresh: unqualified `no-cache` (RFC 9111 5.2.2.4).
    pub const NO_CACHE: Self = Self(1 << 1);
    /// The origin itself gave explicit freshness that a shared cache may use: what the cookie guard asks.
    pub const ORIGIN_EXPLICIT: Self = Self(1 << 2);
    /// It has an `ETag` or a `Last-Modified` that a validation can name (RFC 9111 4.3.1).
    pub const HAS_VALIDATOR: Self = Self(1 << 3);
    /// `immutable` (RFC 8246): a client's reload does not cause validation while fresh.
    pub const IMMUTABLE: Self = Self(1 << 4);
    /// Answer to a HEAD: no body was ever transferred, it answers HEAD alone.
    pub const HEAD_ONLY: Self = Self(1 << 5);
    /// It may answer requests with `Authorization` (RFC 9111 3.5).
    pub const SHARED_WITH_AUTHORIZATION: Self = Self(1 << 6);
    /// Its freshness is heuristic (RFC 9111 4.2.2).
    pub const HEURISTIC: Self = Self(1 << 7);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The union of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// `self` without the bits of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Head and numbers of a stored response. All lengths of time are milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHead {
    /// Final status.
    pub status: StatusCode,
    /// Fields as they go to clients, in the origin's order: without hop-by-hop and nominated fields,
    /// `Age`, `Content-Length` and tag fields; several lines of one name stay several. A
    /// [`Traits::HEAD_ONLY`] response keeps its `Content-Length`: there is no body to count. A
    /// stored part has no `Content-Range`: `part` says it.
    pub fields: Fields,
    /// Trailer fields, sent again behind the whole content to clients that take them (RFC 9110 6.5,
    /// RFC 9111 3.1); never merged.
    pub trailers: Vec<(HeaderName, HeaderValue)>,
    /// When the response was received: `response_time` of RFC 9111 4.2.3.
    pub received: UnixMillis,
    /// `corrected_initial_age` of RFC 9111 4.2.3.
    pub initial_age: u64,
    /// Freshness lifetime (RFC 9111 4.2.1), route rules applied.
    pub lifetime: u64,
    /// How long past freshness it may answer while it is revalidated (RFC 5861 3).
    pub stale_while_revalidate: u64,
    /// How long past freshness it may answer when the origin fails (RFC 5861 4).
    pub stale_if_error: u64,
    /// How long past freshness it is kept for validation.
    pub keep: u64,
    /// What the fill cost: from sending the request to the end of the body (XFetch's delta).
    pub cost: u64,
    /// See [`Traits`].
    pub traits: Traits,
    /// Highest purge applied before the upstream request was sent.
    pub stamp: Stamp,
    /// Everything that, purged after the stamp, makes it invalid: key, host, tags, all.
    pub ids: Vec<PurgeId>,
    /// The names its `Vary` nominates, normalised (lower case, sorted, no duplicates), and
    /// implicitly `accept-encoding` when it is encoded without saying so; empty = matches everything.
    pub vary: Vec<HeaderName>,
    /// For a 206 stored as such (RFC 9111 3.3): the range it holds, and the complete length.
    pub part: Option<Part>,
}

/// The byte range that an incomplete stored response holds (RFC 9111 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Offset of the first byte held.
    pub first: u64,
    /// Offset of the last byte held, inclusive.
    pub last: u64,
    /// Length of the complete representation.
    pub complete: u64,
}

impl StoredHead {
    /// When it was asked for, or earlier: nothing in it is older than that.
    #[must_use]
    pub const fn asked(&self) -> UnixMillis {
        UnixMillis(self.received.0.saturating_sub(self.cost))
    }

    /// `current_age` of RFC 9111 4.2.3, in milliseconds. Never decreases as `now` grows.
    #[must_use]
    pub const fn current_age(&self, now: UnixMillis) -> u64 {
        self.initial_age.saturating_add(now.since(self.received))
    }

    /// Milliseconds of freshness left; negative once stale.
    #[must_use]
    pub fn remaining(&self, now: UnixMillis) -> i64 {
        let lifetime = i64::try_from(self.lifetime).unwrap_or(i64::MAX);
        let age = i64::try_from(self.current_age(now)).unwrap_or(i64::MAX);
        lifetime.saturating_sub(age)
    }

    /// From when on no rule could ever reuse it: the moment a store may forget it.
    #[must_use]
    pub fn useless_at(&self) -> UnixMillis {
        let keep = if self.traits.has(Traits::HAS_VALIDATOR) { self.keep } else { 0 };
        let past = self.stale_while_revalidate.max(self.stale_if_error).max(keep);
        let fresh = self.lifetime.saturating_sub(self.initial_age);
        self.received.plus(fresh.saturating_add(past))
    }

    /// The first value of a field.
    #[must_use]
    pub fn field(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.get(name)
    }
}

/// A complete stored response (or a whole part of one, when `head.part` says so).
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResponse {
    /// Head and numbers.
    pub head: StoredHead,
    /// Content, exactly as the origin sent it (content codings kept).
    pub body: StoredBody,
}

/// The content of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredBody {
    /// At hand.
    Here(Bytes),
    /// In a store that hands it out in pieces: the head is known before any of it was read.
    InStore(InStore),
}

/// What names a content that a store keeps apart from its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InStore {
    /// Its length in bytes.
    pub length: u64,
    /// What the store knows it by, under its key.
    pub id: [u8; 16],
    /// Which writing of the record named it: the store's own mark, another each time.
    pub mark: u64,
}

impl StoredBody {
    /// Its length in bytes, wherever it is.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::InStore(body) => body.length,
        }
    }

    /// The content, if it is at hand.
    #[must_use]
    pub const fn here(&self) -> Option<&Bytes> {
        match self {
            Self::Here(bytes) => Some(bytes),
            Self::InStore(_) => None,
        }
    }
}

impl From<Bytes> for StoredBody {
    fn from(bytes: Bytes) -> Self {
        Self::Here(bytes)
    }
}
