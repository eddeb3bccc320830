//! The cache key: the bytes that are forwarded, less what the route's recipe names.
//!
//! Decides: which bytes of a request make its primary key. Never touches: variants (that is `vary`).
//! Nothing is normalised here that is not normalised on the wire.

use bytes::Bytes;
use http::HeaderName;

/// The primary key of a request: readable text, and its 128-bit hash under which records live.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrimaryKey {
    /// xxh3-128 of `text`.
    pub hash: u128,
    /// The key before hashing: compared on every hit, since the hash is not collision resistant.
    pub text: Bytes,
}

/// `key = { … }` of a route, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRecipe {
    /// Query parameter names left out; a trailing `*` matches any ending.
    pub query_exclude: Vec<String>,
    /// When not empty, only these query parameters count; a trailing `*` matches any ending.
    pub query_include: Vec<String>,
    /// Parameters are sorted by name (stable) in the key; the origin sees them as they came.
    pub sort_query: bool,
    /// Request fields whose values are part of the key.
    pub headers: Vec<HeaderName>,
    /// Cookies whose values are part of the key.
    pub cookies: Vec<String>,
}
