//! What a route says about caching, resolved: plain data the verdicts of this module compare with.
//!
//! Decides nothing itself. All lengths of time are milliseconds, all sizes bytes.

use super::key::KeyRecipe;

/// `origin_cache_control`: whose word on freshness holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginCacheControl {
    /// The origin's fields decide; the route's `ttl` fills in where they state nothing.
    #[default]
    Respect,
    /// The route's `ttl` replaces what the origin says about freshness and storing;
    /// the rules for `Set-Cookie`, `Vary` and `Authorization` stay.
    Override,
}

/// `client_cache_control`: whether request directives (RFC 9111 5.2.1) are honoured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCacheControl {
    /// Visitors cannot switch the cache off.
    #[default]
    Ignore,
    /// `no-cache`, `no-store`, `max-age`, `min-fresh`, `max-stale`, `only-if-cached`, `Pragma`.
    Respect,
}

/// `cookies`: what a `Cookie` field in the request means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookiePolicy {
    /// Requests with `Cookie` store and reuse only what the origin itself made cacheable
    /// (explicit freshness of the origin, not the route's `ttl`).
    #[default]
    Guard,
    /// Cookies mean nothing to this route.
    Ignore,
    /// Requests with `Cookie` are forwarded and not stored.
    Bypass,
}

/// `set_cookie`: what becomes of a response that carries `Set-Cookie`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookiePolicy {
    /// Not stored.
    #[default]
    Refuse,
    /// Stored without it; the client whose request fetched it does not receive it either.
    Strip,
    /// As RFC 9111 7.3 allows: stored with it, where the origin gave explicit freshness.
    Share,
}

/// The caching keys of one `[[route]]`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `false`: forward only.
    pub cache: bool,
    /// Freshness where the origin states none.
    pub ttl: Option<u64>,
    /// The same by status; sorted by status.
    pub ttl_by_status: Vec<(u16, u64)>,
    /// Lower bound on freshness of what may be stored at all.
    pub min_ttl: u64,
    /// Upper bound on freshness.
    pub max_ttl: u64,
    /// Whose word on freshness holds.
    pub origin_cache_control: OriginCacheControl,
    /// RFC 9111 4.2.2: 10 % of the Last-Modified age, at most a day.
    pub heuristic: bool,
    /// Used when the origin states none (RFC 5861 3).
    pub stale_while_revalidate: u64,
    /// Used when the origin states none (RFC 5861 4).
    pub stale_if_error: u64,
    /// How long past staleness a response with a validator stays for revalidation.
    pub keep: u64,
    /// XFetch beta; 0 = off.
    pub early_refresh: f64,
    /// Whether request directives count.
    pub client_cache_control: ClientCacheControl,
    /// What a request's `Cookie` means.
    pub cookies: CookiePolicy,
    /// What a response's `Set-Cookie` means.
    pub set_cookie: SetCookiePolicy,
    /// What the cache key is made of.
    pub key: KeyRecipe,
    /// The largest body any live tier would hold, in bytes.
    pub max_object_size: u64,
}

impl Default for Policy {
    /// The defaults of the configuration contract: the origin's word alone.
    fn default() -> Self {
        Self {
            cache: true,
            ttl: None,
            ttl_by_status: Vec::new(),
            min_ttl: 0,
            max_ttl: 7 * 24 * 3_600_000,
            origin_cache_control: OriginCacheControl::Respect,
            heuristic: false,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            keep: 3_600_000,
            early_refresh: 1.0,
            client_cache_control: ClientCacheControl::Ignore,
            cookies: CookiePolicy::Guard,
            set_cookie: SetCookiePolicy::Refuse,
            key: KeyRecipe::default(),
            max_object_size: 8 << 20,
        }
    }
}
