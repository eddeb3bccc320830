//! `Vary` (RFC 9110 12.5.5, RFC 9111 4.1): which of several stored responses a request selects.
//!
//! Decides: the names a response varies by, the variant hash of a request, the choice in an index.
//! Never touches: stores. What belongs where: DESIGN 6, "Vary in two levels".

use bytes::Bytes;
use http::HeaderName;

use crate::semantics::UnixMillis;

/// The hash of the nominated fields' normalised values; never 0, which is the place of the primary
/// record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantHash(pub u64);

/// What is known of one stored variant without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Index into [`VaryIndex::sets`] of the names it varies by.
    pub set: u8,
    /// Where it is stored.
    pub hash: VariantHash,
    /// When it was received or last validated: the most recent match answers (RFC 9111 4.1).
    pub received: UnixMillis,
    /// When no rule could reuse it any more.
    pub useless_at: UnixMillis,
    /// Its entity tag, with which an unmatched request can be validated (RFC 9111 4.3.1).
    pub etag: Option<Bytes>,
}

/// The primary record of a key whose responses vary: which variants exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaryIndex {
    /// The distinct sets of nominated names (each sorted, lower case), at most [`MAX_SETS`].
    pub sets: Vec<Vec<HeaderName>>,
    /// Most recent first, at most [`MAX_VARIANTS`].
    pub variants: Vec<Variant>,
}

/// Bound on distinct `Vary` sets of one key.
pub const MAX_SETS: usize = 8;
/// Bound on variants of one key; the least recent is forgotten.
pub const MAX_VARIANTS: usize = 64;
