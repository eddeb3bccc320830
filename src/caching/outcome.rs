//! The outcome of a request: the one closed list of reasons, and `Cache-Status` (RFC 9211).
//!
//! Decides: how a reason and an outcome are called everywhere they are read: in Cache-Status, the
//! access log, the metrics and `forebay explain`. Never touches: which reason applies (the verdicts
//! of this module's neighbours say that).
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9211 2: a list of caches, the one closest to the client last | [`CacheStatus::to_text`] | `cache_status_is_appended_to_the_inner_caches` |
//! | RFC 9211 2.1, 2.2: hit and fwd exclude each other | [`CacheStatus::hit`], [`CacheStatus::forwarded`] | `rfc9211_2_members` |
//! | RFC 9211 2.2: the fwd reasons | [`Fwd`], [`Reason::fwd`] | `rfc9211_2_2_reasons` |
//! | RFC 9211 2.3, 2.5, 2.6: fwd-status, stored, collapsed only with fwd | [`Forwarded`] | `rfc9211_2_members` |
//! | RFC 9211 2.4: ttl in seconds, negative when stale | [`CacheStatus::ttl`] | `rfc9211_2_4_ttl` |
//! | RFC 9211 2.7: key | | n/a: it would tell strangers which fields and cookies count |
//! | RFC 9211 2.8: detail is a token | [`CacheStatus::detail`] | `every_code_is_a_token_of_its_own` |

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

/// The field that says in one word how the cache answered.
pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Writes the enum and the lookups from one table, so that no reason can lack a part.
macro_rules! reasons {
    ($($name:ident, $code:literal, $rfc:literal, $title:literal, $fix:literal;)*) => {
        /// Why a request was answered, forwarded, not stored or refused the way it was.
        ///
        /// The list is closed: each reason has a code (metric label, Cache-Status `detail`, log field,
        /// README anchor), the section of the RFC behind it, and one line that says what a user can do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $title] $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in kebab-case: a token, stable across versions.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The section that says so, or `""` where this proxy alone does.
            #[must_use]
            pub const fn rfc(self) -> &'static str {
                match self { $(Self::$name => $rfc,)* }
            }

            /// What happened, as one sentence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What the user can do about it, as one sentence.
            #[must_use]
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix,)* }
            }
        }
    };
}

#[rustfmt::skip] // one reason, one line: the table is the point
reasons! {
    // Answered by the cache.
    Fresh, "fresh", "RFC 9111 4.2", "The stored response was fresh.", "Nothing to do.";
    StaleWhileRevalidate, "stale-while-revalidate", "RFC 5861 3", "A stale response was served while one request renews it.", "Nothing to do; set stale_while_revalidate = \"0s\" if stale answers are unwanted.";
    StaleIfError, "stale-if-error", "RFC 5861 4", "The origin failed and a stale response was served instead.", "Look at the origin: its failure is in the log beside this line.";
    StaleOnTimeout, "stale-on-timeout", "RFC 9111 4.2.4", "The fetch by another request took too long and a stale response was served.", "Raise collapse_timeout, or look at why the origin is slow.";
    // Forwarded without a look-up.
    RouteNotCached, "route-not-cached", "", "The route says cache = false.", "Set cache = true on the route if its responses may be stored.";
    MethodNotCacheable, "method-not-cacheable", "RFC 9110 9.2.3", "Only GET and HEAD are answered from the cache.", "Use GET for what may be cached.";
    RequestHasBody, "request-has-body", "RFC 9110 9.3.1", "A GET or HEAD with content is forwarded and its response not stored.", "Send the request without content; what selects the response belongs in the URL.";
    RequestUpgrade, "request-upgrade", "RFC 9110 7.8", "The request asks for another protocol.", "Nothing to do; upgrades are forwarded, never cached.";
    DotSegments, "dot-segments", "RFC 3986 3.3", "The path has segments . or .., which lead elsewhere at many origins.", "Send the path that is meant; browsers remove such segments.";
    CookieBypass, "cookie-bypass", "", "The route says cookies = \"bypass\" and the request carries Cookie.", "Use cookies = \"guard\" or \"ignore\", or keep cookies off this path.";
    RequestNoStore, "request-no-store", "RFC 9111 5.2.1.5", "The request says no-store and the route respects clients.", "Set client_cache_control = \"ignore\" if clients should not decide.";
    KeyTooLong, "key-too-long", "", "The cache key would be longer than 16 KiB.", "Leave headers, cookies or parameters out of the route's key.";
    // Looked up and not reused as it is.
    NothingStored, "nothing-stored", "RFC 9111 4", "Nothing is stored under this key.", "Nothing to do the first time; if it stays so, look at the reason for not storing.";
    NoVariantMatches, "no-variant-matches", "RFC 9111 4.1", "Responses are stored, but none for these values of the fields in Vary.", "Shorten the origin's Vary to the fields that really change the response.";
    Stale, "stale", "RFC 9111 4.2", "The stored response was stale.", "Raise max-age at the origin, or allow stale_while_revalidate.";
    MustValidate, "must-validate", "RFC 9111 5.2.2.4", "The stored response says no-cache: it is validated at every use.", "Use max-age instead of no-cache at the origin if it may be reused without asking.";
    RequestWantsValidation, "request-wants-validation", "RFC 9111 5.2.1.4", "The request says no-cache and the route respects clients.", "Set client_cache_control = \"ignore\" if clients should not decide.";
    RequestWantsFresher, "request-wants-fresher", "RFC 9111 5.2.1", "The request's max-age or min-fresh asks for a fresher response than the stored one.", "Set client_cache_control = \"ignore\" if clients should not decide.";
    ClientReload, "client-reload", "RFC 8246 2", "The client reloads and the stored response is not immutable.", "Send immutable with responses that never change.";
    Purged, "purged", "RFC 9111 4.4", "The stored response was purged, or invalidated by an unsafe request.", "Nothing to do; the next response is stored again.";
    PurgesUnknown, "purges-unknown", "", "The fleet's purges could not be read for longer than the grace, so the stored response counts as stale.", "Look at Redis: its breaker and the journal are in /ready.";
    CookieGuard, "cookie-guard", "RFC 9111 7.3", "The request carries Cookie and only the route's ttl made the stored response fresh.", "Let the origin send Cache-Control with max-age or s-maxage, or set cookies = \"ignore\".";
    AuthorizationNotShared, "authorization-not-shared", "RFC 9111 3.5", "The request carries Authorization and the stored response does not allow sharing.", "Send public, s-maxage or must-revalidate if everyone may have this response.";
    PartMissing, "part-missing", "RFC 9111 3.3", "The stored part does not hold the bytes that are asked for.", "Nothing to do; the missing bytes are fetched.";
    ContentUnreadable, "content-unreadable", "RFC 9111 3", "The content of the stored response was missing, damaged or not had in time.", "Look at Redis: it evicts or loses chunks, or is slow; forebay_redis_errors_total says which.";
    HitForMiss, "hit-for-miss", "", "The last response to this key could not be shared, so nobody waits for this one.", "Look at the reason for not storing; it wears off by itself.";
    EarlyRefresh, "early-refresh", "", "A hot response is renewed before it becomes stale.", "Nothing to do; early_refresh = 0 turns this off.";
    OnlyIfCached, "only-if-cached", "RFC 9111 5.2.1.7", "The request says only-if-cached and nothing usable is stored.", "Leave only-if-cached out, or set client_cache_control = \"ignore\".";
    // Not stored.
    NoStore, "no-store", "RFC 9111 5.2.2.5", "The response says no-store.", "Leave no-store out at the origin, or send Forebay-Cache-Control for this cache alone.";
    Private, "private", "RFC 9111 5.2.2.7", "The response says private.", "Leave private out if everyone may have this response.";
    StatusNotUnderstood, "status-not-understood", "RFC 9111 5.2.2.3", "The response says must-understand and its status is not understood.", "Leave must-understand out at the origin.";
    StatusNotCacheable, "status-not-cacheable", "RFC 9111 3", "A response of this status is not stored without explicit freshness, or never.", "Send max-age, or add the status to ttl_by_status.";
    NoFreshness, "no-freshness", "RFC 9111 3", "Neither the response nor the route says how long it is fresh, and it has no validator to ask with.", "Send Cache-Control: max-age at the origin, or set ttl on the route.";
    AlreadyStale, "already-stale", "RFC 9111 4.2", "The response arrived stale and nothing allows its reuse.", "Compare its Age with its max-age: a cache before this one may keep it too long.";
    Authorization, "authorization", "RFC 9111 3.5", "The request carried Authorization and the response does not allow sharing.", "Send public, s-maxage or must-revalidate if everyone may have this response.";
    SetCookie, "set-cookie", "RFC 9111 7.3", "The response sets a cookie.", "Set the cookie elsewhere, or choose set_cookie = \"strip\" on the route.";
    VaryAny, "vary-any", "RFC 9111 4.1", "The response says Vary: *.", "Name the request fields that change the response instead of *.";
    TooManyVariants, "too-many-variants", "", "The response varies by more fields, or in more ways, than are kept for one key.", "Shorten the origin's Vary.";
    TooLarge, "too-large", "", "The content is larger than any tier stores.", "Raise max_object_size in [memory] or [redis].";
    TooManyTags, "too-many-tags", "", "The response carries more tags than are kept.", "Send fewer tags; purge by prefix or host instead.";
    Incomplete, "incomplete", "RFC 9111 3.3", "The response broke off before its end.", "Look at the origin or the network between: bodies are cut short.";
    RequestMethod, "request-method", "RFC 9111 3", "The response to this method is not stored.", "Use GET for what may be cached.";
    ReflectsRequest, "reflects-request", "", "The status speaks of this one request, not of the resource.", "Nothing to do; 400, 405, 414 and 431 are not stored by ttl or ttl_by_status.";
    PartNotStorable, "part-not-storable", "RFC 9111 3.3", "The partial response has no strong validator, or its range cannot be read.", "Send a strong ETag with partial responses.";
    TtlZero, "ttl-zero", "RFC 9111 4.2", "The freshness is zero and there is no validator to ask with.", "Send max-age above zero, or an ETag.";
    // Failures of the origin, and of waiting for it.
    OriginConnect, "origin-connect", "RFC 9110 15.6.3", "No connection to the origin could be made.", "Check that the servers of the upstream listen and are reachable from here.";
    OriginTls, "origin-tls", "RFC 9110 15.6.3", "The TLS handshake with the origin failed.", "Check the origin's certificate, its name and the trusted roots.";
    OriginFirstByteTimeout, "origin-first-byte-timeout", "RFC 9110 15.6.5", "The origin did not begin to answer in time.", "Raise first_byte_timeout, or look at why the origin is slow.";
    OriginBetweenBytesTimeout, "origin-between-bytes-timeout", "RFC 9110 15.6.5", "The origin stopped sending in the middle of a response.", "Raise between_bytes_timeout, or look at why the origin stalls.";
    OriginReset, "origin-reset", "RFC 9110 15.6.3", "The origin closed the connection before it answered.", "Look at the origin's log; its keep-alive may be shorter than the pool expects.";
    OriginProtocol, "origin-protocol", "RFC 9112 6.3", "The origin's answer is not a valid HTTP message.", "Repair the origin's framing or fields; the log names the fault.";
    OriginBusy, "origin-busy", "RFC 9110 15.6.4", "All connections to the origin are in use and the queue is full.", "Raise max_connections of the upstream, or cache more.";
    OriginBackOff, "origin-back-off", "RFC 5861 4", "The origin failed a moment ago and is not asked again yet.", "Nothing to do; it is asked again after a short pause.";
    OriginError, "origin-error", "RFC 9110 15.6", "The origin answered with a server error.", "Look at the origin's log.";
    CollapseTimeout, "collapse-timeout", "", "Another request fetches the same response and took longer than this one waits.", "Raise collapse_timeout, or choose on_collapse_timeout.";
    // Refused.
    BadRequest, "bad-request", "RFC 9112 2.2", "The request cannot be read.", "Repair the client: the request line or a field line is malformed.";
    BadFraming, "bad-framing", "RFC 9112 6.3", "The request's length is ambiguous or its chunks are malformed.", "Repair the client: one Content-Length, or chunked alone.";
    BadHost, "bad-host", "RFC 9112 3.2", "Host is missing, repeated, invalid or contradicts the target.", "Repair the client: send one valid Host.";
    HeadTooLarge, "head-too-large", "RFC 6585 5", "The request head is larger than max_header_size, or has more than 100 fields.", "Raise max_header_size, or send less: cookies are the usual cause.";
    TargetTooLong, "target-too-long", "RFC 9110 15.5.15", "The request target is longer than 8 KiB.", "Shorten the URL.";
    BodyTooLarge, "body-too-large", "RFC 9110 15.5.14", "The request content is larger than allowed.", "Raise max_request_body, or send less.";
    RequestTimeout, "request-timeout", "RFC 9110 15.5.9", "The request did not arrive in time.", "Raise header_timeout, or look at the client's connection.";
    MethodRefused, "method-refused", "RFC 9110 15.5.6", "CONNECT, TRACE and PURGE from strangers are refused.", "Use another method; purge_from says who may send PURGE.";
    RangeNotSatisfiable, "range-not-satisfiable", "RFC 9110 15.5.17", "The ranges asked for lie beyond the end of the stored response.", "Ask for bytes that exist; Content-Range says how many there are.";
    NoRoute, "no-route", "", "No route matches the host and path.", "Add a route, or one with path = \"/{*rest}\" for everything else.";
    ClientGone, "client-gone", "", "The client went away before the end of the answer.", "Nothing to do; what was being fetched is stored all the same.";
    Internal, "internal", "RFC 9110 15.6.1", "The proxy met a fault of its own.", "Please report it with the log line.";
}

impl Reason {
    /// Whether the reason lies in one request and says nothing about the next one to the same key:
    /// such a verdict is not remembered for others.
    #[must_use]
    pub const fn concerns_one_request(self) -> bool {
        matches!(
            self,
            Self::CookieGuard
                | Self::Authorization
                | Self::AuthorizationNotShared
                | Self::RequestNoStore
                | Self::RequestMethod
                | Self::ReflectsRequest
        )
    }

    /// What a request that is forwarded for this reason says in `fwd` (RFC 9211 2.2); `None` for
    /// reasons that forward nothing.
    ///
    /// A stored response that is always to be validated counts as `stale`: it was selected and could
    /// not answer by itself. The guards are `request`: the response is fresh, this request may not
    /// have it. What was purged, or is known not to be shared, is `miss`.
    #[must_use]
    pub const fn fwd(self) -> Option<Fwd> {
        Some(match self {
            Self::RouteNotCached
            | Self::RequestHasBody
            | Self::RequestUpgrade
            | Self::DotSegments
            | Self::CookieBypass
            | Self::KeyTooLong => Fwd::Bypass,
            Self::MethodNotCacheable => Fwd::Method,
            Self::NothingStored => Fwd::UriMiss,
            Self::NoVariantMatches => Fwd::VaryMiss,
            Self::Purged | Self::ContentUnreadable | Self::HitForMiss | Self::CollapseTimeout => Fwd::Miss,
            Self::RequestNoStore
            | Self::RequestWantsValidation
            | Self::RequestWantsFresher
            | Self::ClientReload
            | Self::CookieGuard
            | Self::AuthorizationNotShared => Fwd::Request,
            Self::Stale | Self::MustValidate | Self::EarlyRefresh => Fwd::Stale,
            Self::PartMissing => Fwd::Partial,
            _ => return None,
        })
    }
}

/// What the cache did for a request: the metric label, and `X-Cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// Answered from a fresh stored response.
    Hit,
    /// Answered from a stale one.
    Stale,
    /// Answered from a stored one that the origin had confirmed.
    Revalidated,
    /// Looked up, and answered by the origin.
    Miss,
    /// Forwarded without a look-up.
    Bypass,
    /// Answered by the proxy itself: refused, or failed.
    Error,
    /// It was no request for the site: a PURGE, carried out.
    Purge,
}

impl CacheResult {
    /// Every result.
    pub const ALL: [Self; 7] =
        [Self::Hit, Self::Stale, Self::Revalidated, Self::Miss, Self::Bypass, Self::Error, Self::Purge];

    /// The metric label and log field.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Error => "error",
            Self::Purge => "purge",
        }
    }

    /// The value of `X-Cache`; `None` for what neither cache nor origin answered.
    #[must_use]
    pub const fn x_cache(self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match self {
            Self::Hit => "HIT",
            Self::Stale => "STALE",
            Self::Revalidated => "REVALIDATED",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
            Self::Error | Self::Purge => return None,
        }))
    }
}

/// Why a request was forwarded (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    /// The cache was configured not to handle it.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing is stored for this URI.
    UriMiss,
    /// Something is stored for this URI, but not for these request fields.
    VaryMiss,
    /// Nothing that is stored could be used.
    Miss,
    /// What is stored is fresh, but the request does not allow its use.
    Request,
    /// What is stored is stale.
    Stale,
    /// A part of what is asked for is stored.
    Partial,
}

impl Fwd {
    /// The token of RFC 9211 2.2.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// What is said of a forwarded request beside its reason; nothing of it can be said of a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The status the origin answered with, where it differs from the one sent (a 304 to our own
    /// validation, an error that a stale response covers) or is otherwise worth saying (2.3).
    pub status: Option<StatusCode>,
    /// The response was stored (2.5).
    pub stored: bool,
    /// The request waited for another one's fetch instead of making its own (2.6).
    pub collapsed: bool,
}

/// Our member of `Cache-Status` (RFC 9211): either a hit or forwarded, by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    name: &'a str,
    handling: Handling,
    ttl: Option<i64>,
    detail: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handling {
    Hit,
    Forwarded(Fwd, Forwarded),
}

/// RFC 9651 3.3.1.
const LARGEST_INTEGER: i64 = 999_999_999_999_999;

/// Room for a member: a name and a detail of 64 bytes each fit beside everything else.
const ROOM: usize = 256;

impl<'a> CacheStatus<'a> {
    /// Answered by the cache without asking the origin. `name` is the token of `server.name`.
    #[must_use]
    pub const fn hit(name: &'a str) -> Self {
        Self { name, handling: Handling::Hit, ttl: None, detail: None }
    }

    /// Forwarded towards the origin.
    #[must_use]
    pub const fn forwarded(name: &'a str, fwd: Fwd, told: Forwarded) -> Self {
        Self { name, handling: Handling::Forwarded(fwd, told), ttl: None, detail: None }
    }

    /// The freshness left, in milliseconds: rounded down to seconds, and so negative as soon as the
    /// response is stale. Cut to the 15 digits of a structured integer.
    #[must_use]
    pub fn ttl(mut self, millis: i64) -> Self {
        self.ttl = Some(millis.div_euclid(1000).clamp(-LARGEST_INTEGER, LARGEST_INTEGER));
        self
    }

    /// A token: the tier that answered, or the code of a [`Reason`].
    #[must_use]
    pub const fn detail(mut self, token: &'a str) -> Self {
        self.detail = Some(token);
        self
    }

    /// The field value.
    ///
    /// ```
    /// use forebay::caching::outcome::{CacheStatus, Forwarded, Fwd};
    /// let hit = CacheStatus::hit("forebay").ttl(53_400).detail("memory");
    /// assert_eq!(hit.to_value(), "forebay; hit; ttl=53; detail=memory");
    /// let told = Forwarded { status: None, stored: true, collapsed: false };
    /// let miss = CacheStatus::forwarded("forebay", Fwd::UriMiss, told);
    /// assert_eq!(miss.to_value(), "forebay; fwd=uri-miss; stored");
    /// ```
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        // A name that is no valid field text cannot come out of the configuration; were it so, the
        // member would name the program.
        HeaderValue::from_bytes(self.to_text().as_bytes()).unwrap_or(HeaderValue::from_static("forebay"))
    }

    /// The same as text. No allocation, no formatting machinery.
    #[must_use]
    pub fn to_text(&self) -> Text {
        let mut line = Text { bytes: [0; ROOM], length: 0 };
        line.put(&[self.name.as_bytes()]);
        match &self.handling {
            Handling::Hit => line.put(&[b"; hit"]),
            Handling::Forwarded(fwd, told) => {
                line.put(&[b"; fwd=", fwd.token().as_bytes()]);
                if let Some(status) = &told.status {
                    line.put(&[b"; fwd-status=", status.as_str().as_bytes()]);
                }
                if told.stored {
                    line.put(&[b"; stored"]);
                }
                if told.collapsed {
                    line.put(&[b"; collapsed"]);
                }
            }
        }
        if let Some(ttl) = self.ttl {
            let mut digits = [0; 20];
            line.put(&[
                b"; ttl=",
                if ttl < 0 { b"-" } else { b"" },
                decimal(ttl.unsigned_abs(), &mut digits),
            ]);
        }
        if let Some(detail) = self.detail {
            line.put(&[b"; detail=", detail.as_bytes()]);
        }
        line
    }
}

/// A member as text, on the stack. A parameter that does not fit is left out whole.
#[derive(Debug)]
pub struct Text {
    bytes: [u8; ROOM],
    length: usize,
}

impl Text {
    fn put(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if length > ROOM - self.length {
            return;
        }
        for piece in pieces {
            if let Some(room) = self.bytes.get_mut(self.length..self.length + piece.len()) {
                room.copy_from_slice(piece);
                self.length += piece.len();
            }
        }
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The decimal digits of `number`, written from the end of `room` (20 digits hold every `u64`).
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    for (index, slot) in room.iter_mut().enumerate().rev() {
        *slot = b'0' + (number % 10) as u8;
        at = index;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    room.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::semantics::fields::is_token;

    #[test]
    fn every_code_is_a_token_of_its_own() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(is_token(code.as_bytes()) && code.len() <= 40, "{code}");
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{code}");
            // The code is the name: `NoVariantMatches` is `no-variant-matches`.
            let mut kebab = String::new();
            for letter in format!("{reason:?}").chars() {
                if letter.is_ascii_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.push(letter.to_ascii_lowercase());
            }
            assert_eq!(kebab, code);
        }
    }

    #[test]
    fn every_reason_says_what_happened_and_what_to_do() {
        for reason in Reason::ALL {
            for line in [reason.title(), reason.fix()] {
                assert!(line.ends_with('.') && line.len() > 10 && !line.contains('\n'), "{reason:?}: {line}");
            }
            assert!(reason.rfc().is_empty() || reason.rfc().starts_with("RFC "), "{reason:?}");
        }
    }

    #[test]
    fn rfc9211_2_members() {
        let told = |status, stored, collapsed| Forwarded { status, stored, collapsed };
        for (member, expected) in [
            (CacheStatus::hit("forebay"), "forebay; hit"),
            (CacheStatus::hit("edge-1").ttl(1000).detail("redis"), "edge-1; hit; ttl=1; detail=redis"),
            (CacheStatus::forwarded("f", Fwd::Bypass, Forwarded::default()), "f; fwd=bypass"),
            (
                CacheStatus::forwarded("f", Fwd::Stale, told(Some(StatusCode::NOT_MODIFIED), true, true))
                    .ttl(60_000)
                    .detail("stale"),
                "f; fwd=stale; fwd-status=304; stored; collapsed; ttl=60; detail=stale",
            ),
        ] {
            assert_eq!(member.to_value(), expected);
        }
    }

    #[test]
    fn rfc9211_2_4_ttl() {
        for (millis, expected) in [
            (0, "f; hit; ttl=0"),
            (999, "f; hit; ttl=0"),
            (1999, "f; hit; ttl=1"),
            (-1, "f; hit; ttl=-1"),
            (-1000, "f; hit; ttl=-1"),
            (-1001, "f; hit; ttl=-2"),
            (i64::MAX, "f; hit; ttl=999999999999999"),
            (i64::MIN, "f; hit; ttl=-999999999999999"),
        ] {
            assert_eq!(CacheStatus::hit("f").ttl(millis).to_value(), expected);
        }
    }

    #[test]
    fn rfc9211_2_2_reasons() {
        for (reason, token) in [
            (Reason::RouteNotCached, "bypass"),
            (Reason::MethodNotCacheable, "method"),
            (Reason::NothingStored, "uri-miss"),
            (Reason::NoVariantMatches, "vary-miss"),
            (Reason::HitForMiss, "miss"),
            (Reason::RequestWantsFresher, "request"),
            (Reason::MustValidate, "stale"),
            (Reason::PartMissing, "partial"),
        ] {
            assert_eq!(reason.fwd().map(Fwd::token), Some(token), "{reason:?}");
        }
        for reason in
            [Reason::Fresh, Reason::StaleIfError, Reason::OnlyIfCached, Reason::BadRequest, Reason::NoStore]
        {
            assert_eq!(reason.fwd(), None, "{reason:?}");
        }
    }

    #[test]
    fn x_cache_is_said_of_cache_and_origin_alone() {
        let said: Vec<_> = CacheResult::ALL.iter().filter_map(|r| r.x_cache()).collect();
        assert_eq!(said, ["HIT", "STALE", "REVALIDATED", "MISS", "BYPASS"]);
        assert!(CacheResult::ALL.iter().all(|r| {
            r.x_cache().is_none_or(|v| v.to_str().is_ok_and(|text| text.eq_ignore_ascii_case(r.label())))
        }));
    }

    proptest! {
        /// Whatever is said, the value is one structured list member with our name.
        #[test]
        fn members_are_structured_fields(
            name in "[a-z][a-z0-9.-]{0,60}", detail in "[a-z][a-z-]{0,60}", millis: i64, stored: bool, collapsed: bool,
            status in 100_u16..=999, hit: bool,
        ) {
            let told = Forwarded { status: StatusCode::from_u16(status).ok(), stored, collapsed };
            let member = if hit { CacheStatus::hit(&name) } else { CacheStatus::forwarded(&name, Fwd::Miss, told) };
            let value = member.ttl(millis).detail(&detail).to_value();
            let list: sfv::List = sfv::Parser::new(value.as_bytes()).parse().expect("structured field");
            prop_assert_eq!(list.len(), 1);
            let sfv::ListEntry::Item(item) = &list[0] else { panic!("inner list") };
            prop_assert_eq!(item.bare_item.as_token().map(|token| token.as_str()), Some(&name[..]));
            prop_assert_eq!(item.params.contains_key("hit"), hit);
            prop_assert_eq!(item.params.contains_key("fwd"), !hit);
            prop_assert_eq!(item.params.contains_key("stored"), !hit && stored);
            let ttl = millis.div_euclid(1000).clamp(-LARGEST_INTEGER, LARGEST_INTEGER);
            prop_assert_eq!(item.params.get("ttl").and_then(|t| t.as_integer()).map(i64::from), Some(ttl));
            prop_assert_eq!(item.params.get("detail").and_then(|t| t.as_token()).map(|t| t.as_str()), Some(&detail[..]));
        }

        /// Text of any length and content makes a valid value and no panic.
        #[test]
        fn nothing_overflows(name in "\\PC{0,300}", detail in "\\PC{0,300}") {
            let value = CacheStatus::hit(&name).detail(&detail).ttl(-5).to_value();
            prop_assert!(value.len() <= ROOM);
        }
    }
}
