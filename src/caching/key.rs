//! The cache key: the bytes that are forwarded, less what the route's recipe names.
//!
//! Decides: which bytes of a request make its primary key. Never touches: variants (that is `vary`).
//! Nothing is normalised here that is not normalised on the wire.

use bytes::Bytes;
use http::HeaderName;

/// Query parameters that tell advertisers where a visitor came from and origins nothing: what
/// `@tracking` in `query_exclude` stands for. A trailing `*` matches any ending.
pub const TRACKING: &[&str] = &[
    "utm_*",
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "gad_source",
    "gad_campaignid",
    "_ga",
    "_gl",
    "fbclid",
    "fb_action_ids",
    "fb_action_types",
    "fb_source",
    "igshid",
    "igsh",
    "msclkid",
    "ttclid",
    "twclid",
    "li_fat_id",
    "yclid",
    "ysclid",
    "_openstat",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "_hsenc",
    "_hsmi",
    "__hssc",
    "__hstc",
    "__hsfp",
    "hsCtaTracking",
    "_kx",
    "vero_conv",
    "vero_id",
    "oly_anon_id",
    "oly_enc_id",
    "s_kwcid",
    "ef_id",
    "epik",
    "srsltid",
    "rb_clickid",
    "wickedid",
    "irclickid",
    "pk_*",
    "piwik_*",
    "mtm_*",
    "matomo_*",
];

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
