//! Storability (RFC 9111 3): whether a response is stored, and as what.
//!
//! Decides: store or pass, with the one reason; every number of the stored head; which fields are
//! stored and which the first client receives. Never touches: bodies, stores, waiters. Who else may
//! be given the response while it arrives is the same verdict: only what is stored is shared, and
//! only with requests for which `reuse::judge` finds the stored head fresh.
//!
//! `s-maxage` implies `proxy-revalidate` (RFC 9111 5.2.2.10) and so forbids stale answers. An origin that
//! states `stale-while-revalidate` or `stale-if-error` beside it means both, as every CDN reads it: its own
//! windows apply. A route's windows do not, and an explicit `must-revalidate`, `proxy-revalidate` or
//! `no-cache` still forbids all of them.
//!
//! Beyond the letter of RFC 9111 3, all on the careful side: 304, 412 and 416 answer one request's
//! preconditions and are no answer to another; 407, 421, 428, 429, 431 and 511 speak of a connection
//! or a client (RFC 6585 forbids storing the latter four). A response without any freshness is stored
//! for validation only where the origin marked it (`public`, `no-cache`, a lifetime of zero) and gave
//! a validator: a bare 200 with an `ETag` may as well be one user's page.

use std::borrow::Cow;

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE,
    ETAG, HOST, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, RANGE, SET_COOKIE, TRAILER,
};
use http::{Method, StatusCode};

use super::admission::RequestFacts;
use super::age;
use super::cache_control::{DeltaSeconds, ResponseDirectives};
use super::freshness::{self, Source, Word};
use super::invalidation::{self, TargetUri};
use super::outcome::Reason;
use super::partial;
use super::policy::{CookiePolicy, Policy, SetCookiePolicy};
use super::stamp::{PurgeId, Stamp};
use super::stored::{Part, StoredHead, Traits};
use super::tags;
use super::vary;
use crate::semantics::{UnixMillis, fields, http_date};

/// One exchange with the origin: everything the verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The request's method, as forwarded.
    pub method: &'a Method,
    /// What admission read of the client's request.
    pub facts: &'a RequestFacts,
    /// The request's fields as sent to the origin: what `Vary` speaks of, and whether `Range` was asked.
    pub request: &'a HeaderMap,
    /// The request's target as forwarded.
    pub target: TargetUri<'a>,
    /// Host of the key, without port: what a purge by host names.
    pub host: &'a str,
    /// What stands for the URL ([`super::key::KeyRecipe::url`]): what a purge by URL names.
    pub url: u128,
    /// The route's `tags`, expanded.
    pub tags: &'a [String],
    /// Final status of the response.
    pub status: StatusCode,
    /// The response's fields as received.
    pub headers: &'a HeaderMap,
    /// The content's length where the framing states it.
    pub content_length: Option<u64>,
    /// When the request was sent: `request_time` of RFC 9111 4.2.3.
    pub request_sent: UnixMillis,
    /// When the response's head was received: `response_time`.
    pub response_received: UnixMillis,
    /// The highest purge applied before the request's first byte was sent.
    pub stamp: Stamp,
}

/// Whether a response is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Storability {
    /// Store it under this head once its body is complete. `head.cost` is the time to the head so
    /// far: whoever ends the body sets it.
    Store(Box<StoredHead>),
    /// Do not store it, and give it to nobody but the client whose request fetched it.
    Pass(Reason),
}

/// Judges a final response.
#[must_use]
pub fn judge(x: &Exchange<'_>, policy: &Policy) -> Storability {
    match head_of(x, policy) {
        Ok(head) => Storability::Store(Box::new(head)),
        Err(reason) => Storability::Pass(reason),
    }
}

/// What keeps a response out, in the order in which [`judge`] asks. Two are asked twice: of the request
/// or the status alone, and again where only the route says how long the response is fresh.
pub const QUESTIONS: &[Reason] = &[
    Reason::RouteNotCached,
    Reason::RequestMethod,
    Reason::CookieBypass,
    Reason::RequestNoStore,
    Reason::StatusNotCacheable,
    Reason::PartNotStorable,
    Reason::StatusNotUnderstood,
    Reason::NoStore,
    Reason::Private,
    Reason::Authorization,
    Reason::SetCookie,
    Reason::NoFreshness,
    Reason::StatusNotCacheable,
    Reason::ReflectsRequest,
    Reason::RequestMethod,
    Reason::CookieGuard,
    Reason::TtlZero,
    Reason::AlreadyStale,
    Reason::VaryAny,
    Reason::TooManyVariants,
    Reason::TooLarge,
    Reason::TooManyTags,
];

/// Which of [`QUESTIONS`] decided, by its index, where [`judge`] passed the response for `reason`. For
/// people who ask; nothing on a request's way needs it.
#[must_use]
pub fn decided_by(x: &Exchange<'_>, policy: &Policy, reason: Reason) -> Option<usize> {
    let same = |asked: &Reason| *asked == reason;
    let of_request_or_status =
        request_allows(x, policy).and(status_allows(x, &end_to_end(x.headers)).map(|_| ()));
    if of_request_or_status == Err(reason) {
        QUESTIONS.iter().position(same)
    } else {
        QUESTIONS.iter().rposition(same)
    }
}

/// What the first client receives: without hop-by-hop, nominated and tag fields; and where `stored`
/// and the route strips it, without `Set-Cookie`. `Trailer` stays: it says what the content that
/// streams on ends with, and is for the last hop to take out where no trailers go.
///
/// Fields of a qualified `private="…"` or `no-cache="…"` stay: they are withheld from the others,
/// who receive the stored fields.
pub fn client_fields(headers: &mut HeaderMap, stored: bool, policy: &Policy) {
    // One look at the names: most responses have none of these.
    if headers.keys().any(|name| fields::is_hop_by_hop(name) || tags::is_tag_field(name)) {
        let trailer: Vec<HeaderValue> = headers.get_all(TRAILER).iter().cloned().collect();
        fields::remove_hop_by_hop(headers);
        for line in trailer {
            headers.append(TRAILER, line);
        }
        tags::remove(headers);
    }
    if stored && policy.set_cookie == SetCookiePolicy::Strip {
        headers.remove(SET_COOKIE);
        headers.remove(SET_COOKIE2);
    }
}

/// Removes from trailers what the first client must not receive in them (RFC 9110 6.5.1): framing, routing, what
/// ends at this hop, and tags.
pub fn client_trailers(trailers: &mut HeaderMap) {
    fields::remove_hop_by_hop(trailers);
    for name in [CONTENT_LENGTH, HOST, SET_COOKIE, CACHE_CONTROL, AGE] {
        trailers.remove(name);
    }
    tags::remove(trailers);
}

/// The trailer fields worth keeping: those that only describe the content (RFC 9110 6.5.1). They are
/// stored apart from the header (RFC 9111 3.1), and nothing is ever decided by them.
#[must_use]
pub fn trailer_fields(trailers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let kept = trailers.iter().filter(|(name, _)| {
        !fields::is_hop_by_hop(name)
            && !fields::cannot_be_nominated(name)
            && !tags::is_tag_field(name)
            && **name != SET_COOKIE2
    });
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The numbers of a stored head: what is judged again after a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) lifetime: u64,
    pub(super) stale_while_revalidate: u64,
    pub(super) stale_if_error: u64,
    pub(super) traits: Traits,
}

fn head_of(x: &Exchange<'_>, policy: &Policy) -> Result<StoredHead, Reason> {
    request_allows(x, policy)?;
    let headers = end_to_end(x.headers);
    let (status, part) = status_allows(x, &headers)?;
    let word = Word::of(&headers);
    let initial_age = age::corrected_initial_age(&headers, x.request_sent, x.response_received);
    let mut numbers = numbers(x, status, &headers, &word, initial_age, policy)?;
    let vary = vary::nominated(&headers)?;
    if x.content_length.is_some_and(|length| length > policy.max_object_size) && x.method != Method::HEAD {
        return Err(Reason::TooLarge);
    }
    let mut ids = tags::ids(&headers, x.tags, x.target)?;
    ids.extend(base_ids(x));
    if x.method == Method::HEAD {
        numbers.traits = numbers.traits.with(Traits::HEAD_ONLY);
    }
    Ok(StoredHead {
        status,
        fields: stored_fields(x, &headers, &word.directives, policy).into(),
        trailers: Vec::new(),
        received: x.response_received,
        initial_age,
        lifetime: numbers.lifetime,
        stale_while_revalidate: numbers.stale_while_revalidate,
        stale_if_error: numbers.stale_if_error,
        keep: policy.keep,
        cost: x.response_received.since(x.request_sent),
        traits: numbers.traits,
        stamp: x.stamp,
        ids,
        vary,
        part,
    })
}

/// The ids every response of this exchange bears beside its tags.
pub(super) fn base_ids(x: &Exchange<'_>) -> [PurgeId; 3] {
    [PurgeId::url(x.url), PurgeId::host(x.host), PurgeId::ALL]
}

fn request_allows(x: &Exchange<'_>, policy: &Policy) -> Result<(), Reason> {
    if !policy.cache {
        return Err(Reason::RouteNotCached);
    }
    // RFC 9110 9.3.3: a POST's answer that describes its own target is what a GET would be given.
    // Explicit freshness is asked of it below.
    match *x.method {
        Method::GET | Method::HEAD => {}
        Method::POST if describes_target(x) => {}
        _ => return Err(Reason::RequestMethod),
    }
    if x.facts.has_cookie && policy.cookies == CookiePolicy::Bypass {
        return Err(Reason::CookieBypass);
    }
    if x.facts.directives.no_store {
        return Err(Reason::RequestNoStore);
    }
    Ok(())
}

fn describes_target(x: &Exchange<'_>) -> bool {
    let location = fields::sole(x.headers, &CONTENT_LOCATION).and_then(|value| value.to_str().ok());
    x.status == StatusCode::OK
        && location.is_some_and(|reference| invalidation::is_target(x.target, reference))
}

/// The status a response is stored with, and the range it holds.
fn status_allows(x: &Exchange<'_>, headers: &HeaderMap) -> Result<(StatusCode, Option<Part>), Reason> {
    match x.status.as_u16() {
        ..200 | 304 | 407 | 412 | 416 | 421 | 428 | 429 | 431 | 511 => Err(Reason::StatusNotCacheable),
        206 => {
            let asked = *x.method == Method::GET && x.request.contains_key(RANGE);
            let part = partial::part(headers, x.content_length).filter(|_| asked);
            let part = part.ok_or(Reason::PartNotStorable)?;
            // The whole representation is a complete response, whatever it was asked by (RFC 9111 3.4).
            Ok(if part.is_whole() { (StatusCode::OK, None) } else { (x.status, Some(part)) })
        }
        _ => Ok((x.status, None)),
    }
}

/// Judges freshness, permission and the windows past freshness, for a new response as for one that
/// a 304 has freshened. `headers` are the whole response's fields; Age and delay are in `initial_age`.
pub(super) fn numbers(
    x: &Exchange<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    word: &Word,
    initial_age: u64,
    policy: &Policy,
) -> Result<Numbers, Reason> {
    let directives = &word.directives;
    let overridden = freshness::is_overridden(status, policy);
    if !overridden {
        origin_allows(status, word)?;
    }
    let shared_with_authorization = directives.public
        || directives.must_revalidate
        || matches!(directives.s_maxage, Some(DeltaSeconds::Seconds(_)));
    if (x.facts.has_authorization || x.request.contains_key(AUTHORIZATION)) && !shared_with_authorization {
        return Err(Reason::Authorization);
    }

    let validator = has_validator(headers);
    let no_cache = directives.no_cache && !overridden;
    let date = age::date_value(headers, x.response_received);
    let found = freshness::lifetime(status, headers, word, date, policy);
    let by_origin = found.is_ok_and(|f| f.source.is_explicit()) || no_cache;
    if has_set_cookie(headers)
        && match policy.set_cookie {
            SetCookiePolicy::Refuse => true,
            SetCookiePolicy::Strip => false,
            SetCookiePolicy::Share => !by_origin,
        }
    {
        return Err(Reason::SetCookie);
    }
    let (lifetime, source) = match found {
        Ok(freshness) => (freshness.lifetime, Some(freshness.source)),
        // Kept for validation alone; see the module's docs.
        Err(_) if no_cache || (validator && directives.public) => (0, None),
        Err(reason) => return Err(reason),
    };
    if !source.is_some_and(Source::is_explicit) {
        // 405 and 414 are cacheable by heuristics (RFC 9110 15.1), which take an origin that dated what it
        // answered: more than the route's word alone.
        let guessed = source == Some(Source::Heuristic) && freshness::is_heuristically_cacheable(status);
        if matches!(status.as_u16(), 400 | 405 | 414 | 431) && !guessed {
            return Err(Reason::ReflectsRequest);
        }
        if *x.method == Method::POST {
            return Err(Reason::RequestMethod);
        }
    }
    let forbidden = directives.must_revalidate || directives.proxy_revalidate;
    let by_s_maxage = directives.s_maxage.is_some() && !overridden;
    let (own_renew, own_error) = (directives.stale_while_revalidate, directives.stale_if_error);
    // The route lets nothing be reused while it is renewed that was never fresh.
    let route_renew = if lifetime > 0 { policy.stale_while_revalidate } else { 0 };
    let window = |own: Option<DeltaSeconds>, route: u64| match own {
        _ if forbidden || no_cache => 0,
        Some(own) => own.millis(),
        None if by_s_maxage => 0,
        None => route,
    };
    let stale_while_revalidate = window(own_renew, route_renew);
    let stale_if_error = window(own_error, policy.stale_if_error);
    let must_revalidate = forbidden || by_s_maxage;

    // Cacheable by the origin's own word: explicit freshness; or storing on condition that the origin
    // is asked each time, as long as the route adds no window in which it is not.
    let asked_each_time = (no_cache || lifetime == 0)
        && (own_renew.is_some() || stale_while_revalidate == 0)
        && (own_error.is_some() || stale_if_error == 0);
    let origin_explicit =
        found.is_ok_and(|f| f.explicit_of_origin) || ((by_origin || source.is_none()) && asked_each_time);
    if x.facts.has_cookie && policy.cookies == CookiePolicy::Guard && !origin_explicit {
        return Err(Reason::CookieGuard);
    }

    let reach = lifetime.saturating_add(stale_while_revalidate.max(stale_if_error));
    if !(validator && policy.keep > 0) && (no_cache || reach <= initial_age) {
        return Err(if no_cache || lifetime == 0 { Reason::TtlZero } else { Reason::AlreadyStale });
    }

    let traits = [
        (must_revalidate, Traits::MUST_REVALIDATE),
        (no_cache, Traits::NO_CACHE),
        (origin_explicit, Traits::ORIGIN_EXPLICIT),
        (validator, Traits::HAS_VALIDATOR),
        (directives.immutable, Traits::IMMUTABLE),
        (shared_with_authorization, Traits::SHARED_WITH_AUTHORIZATION),
        (source == Some(Source::Heuristic), Traits::HEURISTIC),
    ];
    let traits =
        traits.iter().filter(|(set, _)| *set).fold(Traits::default(), |all, (_, one)| all.with(*one));
    Ok(Numbers { lifetime, stale_while_revalidate, stale_if_error, traits })
}

/// RFC 9111 3: `no-store`, `private`, `must-understand`.
fn origin_allows(status: StatusCode, word: &Word) -> Result<(), Reason> {
    let ResponseDirectives { no_store, private, must_understand, .. } = word.directives;
    if must_understand && !freshness::is_understood(status) {
        return Err(Reason::StatusNotUnderstood);
    }
    if no_store && !freshness::ignores_no_store(word, status) {
        return Err(Reason::NoStore);
    }
    if private { Err(Reason::Private) } else { Ok(()) }
}

/// RFC 9111 4.3.1: a validator a later request can name.
fn has_validator(headers: &HeaderMap) -> bool {
    let modified = fields::sole(headers, &LAST_MODIFIED);
    fields::sole(headers, &ETAG).is_some_and(|tag| !tag.is_empty())
        || modified.is_some_and(|date| http_date::parse_value(date, UnixMillis(0)).is_some())
}

pub(super) const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");

fn has_set_cookie(headers: &HeaderMap) -> bool {
    headers.contains_key(SET_COOKIE) || headers.contains_key(SET_COOKIE2)
}

/// The fields without what ends at this hop; nothing is copied where `Connection` nominates nothing.
pub(super) fn end_to_end(headers: &HeaderMap) -> Cow<'_, HeaderMap> {
    if !headers.contains_key(CONNECTION) {
        return Cow::Borrowed(headers);
    }
    let mut kept = headers.clone();
    fields::remove_hop_by_hop(&mut kept);
    Cow::Owned(kept)
}

/// RFC 9111 3.1: everything is stored but what the connection, the cache or the origin keeps out.
pub(super) fn stored_fields(
    x: &Exchange<'_>,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    policy: &Policy,
) -> Vec<(HeaderName, HeaderValue)> {
    let share = policy.set_cookie == SetCookiePolicy::Share;
    let head = *x.method == Method::HEAD;
    let kept = |name: &HeaderName| {
        !(fields::is_hop_by_hop(name)
            || tags::is_tag_field(name)
            || *name == AGE
            || (*name == CONTENT_LENGTH && !head)
            || (*name == CONTENT_RANGE && x.status == StatusCode::PARTIAL_CONTENT)
            || (!share && (*name == SET_COOKIE || *name == SET_COOKIE2))
            || directives.private_fields.contains(name)
            || directives.no_cache_fields.contains(name))
    };
    let mut fields = Vec::with_capacity(headers.len() + 1);
    fields.extend(headers.iter().filter(|(name, _)| kept(name)).map(|(n, v)| (n.clone(), v.clone())));
    // RFC 9110 6.6.1: a response without Date is stored with the time it was received.
    if !headers.contains_key(DATE) {
        fields.push((DATE, http_date::format(x.response_received)));
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caching::policy::OriginCacheControl;
    use crate::caching::testing::{
        Case, HOUR_AGO, HOUR_LATER, Lines, NOW, NOW_TEXT, map, respecting_clients,
    };

    const FRESH: (&str, &str) = ("cache-control", "max-age=60");

    #[test]
    fn rfc9110_6_5_1_trailers() {
        let mut trailers = map(&[
            ("x-sum", "1"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a"),
            ("host", "h"),
            ("cache-tag", "t"),
        ]);
        client_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("x-sum", "1")]));
    }

    fn reason(case: &Case) -> Option<Reason> {
        match case.judge() {
            Storability::Store(_) => None,
            Storability::Pass(reason) => Some(reason),
        }
    }

    fn names(head: &StoredHead) -> Vec<&str> {
        head.fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn rfc_9111_3_statuses() {
        let explicit_only = [
            201, 202, 205, 226, 299, 302, 303, 305, 307, 400, 401, 403, 409, 418, 425, 451, 499, 500, 502,
            503, 504, 599, 799,
        ];
        for status in explicit_only {
            assert_eq!(reason(&Case::new(status, &[FRESH])), None, "{status}");
            let ttl = Policy { ttl: Some(60_000), ..Policy::default() };
            assert_eq!(
                reason(&Case::new(status, &[]).policy(&ttl)),
                Some(Reason::StatusNotCacheable),
                "{status}"
            );
        }
        for status in [200, 203, 204, 300, 301, 308, 404, 410, 501] {
            let ttl = Policy { ttl: Some(60_000), ..Policy::default() };
            assert_eq!(reason(&Case::new(status, &[]).policy(&ttl)), None, "{status}");
            assert_eq!(reason(&Case::new(status, &[])), Some(Reason::NoFreshness), "{status}");
        }
        for status in [100, 101, 103, 304, 407, 412, 416, 421, 428, 429, 431, 511] {
            let every = Policy { ttl_by_status: vec![(status, 60_000)], ..Policy::default() };
            assert_eq!(
                reason(&Case::new(status, &[FRESH]).policy(&every)),
                Some(Reason::StatusNotCacheable),
                "{status}"
            );
        }
        for status in [400, 405, 414] {
            let every =
                Policy { ttl: Some(1_000), ttl_by_status: vec![(status, 60_000)], ..Policy::default() };
            assert_eq!(
                reason(&Case::new(status, &[]).policy(&every)),
                Some(Reason::ReflectsRequest),
                "{status}"
            );
            assert_eq!(reason(&Case::new(status, &[FRESH]).policy(&every)), None, "{status}");
        }
    }

    #[test]
    fn rfc_9110_15_1_what_reflects_a_request_is_stored_by_heuristics_alone() {
        let on = Policy { heuristic: true, ..Policy::default() };
        let ruled = Policy { ttl: Some(60_000), ..on.clone() };
        let lines = [("last-modified", HOUR_AGO), ("cache-control", "public")];
        for (status, expected) in [(405, None), (414, None), (400, Some(Reason::ReflectsRequest))] {
            assert_eq!(reason(&Case::new(status, &lines).policy(&on)), expected, "{status}");
            let ruled = reason(&Case::new(status, &lines).policy(&ruled));
            assert_eq!(ruled, Some(Reason::ReflectsRequest), "{status}");
        }
    }

    #[test]
    fn rfc_9111_3_and_5_2_2_directives() {
        let cc = |value| Case::new(200, &[("cache-control", value)]);
        let rows = [
            ("max-age=60", None),
            ("no-store, max-age=60", Some(Reason::NoStore)),
            ("max-age=60, nO-StOrE", Some(Reason::NoStore)),
            ("PRIVATE, max-age=60", Some(Reason::Private)),
            ("private=\"x-user\", max-age=60", None),
            ("max-age=0", Some(Reason::TtlZero)),
            ("max-age=x", Some(Reason::TtlZero)),
            ("no-cache, max-age=60", Some(Reason::TtlZero)),
            ("public", Some(Reason::NoFreshness)),
            ("must-understand, no-store, max-age=60", None),
            ("must-understand, private, max-age=60", Some(Reason::Private)),
            ("max-age=0, stale-while-revalidate=5", None),
        ];
        for (value, expected) in rows {
            assert_eq!(reason(&cc(value)), expected, "{value}");
        }
        let unknown = Case::new(599, &[("cache-control", "must-understand, no-store, max-age=60")]);
        assert_eq!(reason(&unknown), Some(Reason::StatusNotUnderstood));
    }

    #[test]
    fn rfc_9111_3_for_validation_alone() {
        let rows: &[(Lines<'_>, Option<Reason>)] = &[
            (&[("etag", "\"a\"")], Some(Reason::NoFreshness)),
            (&[("etag", "\"a\""), ("cache-control", "public")], None),
            (&[("etag", "\"a\""), ("cache-control", "no-cache")], None),
            (&[("etag", "\"a\""), ("cache-control", "max-age=0")], None),
            (&[("etag", "\"a\""), ("expires", "0")], None),
            (&[("last-modified", HOUR_AGO), ("cache-control", "no-cache")], None),
            (&[("last-modified", "junk"), ("cache-control", "no-cache")], Some(Reason::TtlZero)),
            (&[("etag", ""), ("cache-control", "no-cache")], Some(Reason::TtlZero)),
        ];
        for (lines, expected) in rows {
            assert_eq!(reason(&Case::new(200, lines)), *expected, "{lines:?}");
        }
        let none_kept = Policy { keep: 0, ..Policy::default() };
        let case = Case::new(200, &[("etag", "\"a\""), ("cache-control", "max-age=0")]).policy(&none_kept);
        assert_eq!(reason(&case), Some(Reason::TtlZero));
        let head = Case::new(200, &[("etag", "\"a\""), ("cache-control", "no-cache, max-age=60")]).stored();
        assert!(head.traits.has(Traits::NO_CACHE.with(Traits::HAS_VALIDATOR)));
    }

    #[test]
    fn rfc_9111_4_2_3_age_on_arrival() {
        let old = Case::new(200, &[FRESH, ("date", HOUR_AGO)]);
        assert_eq!(reason(&old), Some(Reason::AlreadyStale));
        let aged = Case::new(200, &[FRESH, ("date", NOW_TEXT), ("age", "59")]).stored();
        assert_eq!((aged.initial_age, aged.remaining(NOW)), (59_000, 1_000));
        assert_eq!(reason(&Case::new(200, &[FRESH, ("age", "60")])), Some(Reason::AlreadyStale));
        let windowed = [("cache-control", "max-age=60, stale-if-error=3600"), ("age", "60")];
        assert_eq!(reason(&Case::new(200, &windowed)), None);
    }

    #[test]
    fn rfc_9111_3_5_authorization() {
        let authorized =
            |value| Case::new(200, &[("cache-control", value)]).request(&[("authorization", "x")]);
        let rows = [
            ("max-age=60", Some(Reason::Authorization)),
            ("max-age=60, proxy-revalidate", Some(Reason::Authorization)),
            ("max-age=60, s-maxage=x", Some(Reason::Authorization)),
            ("max-age=60, public", None),
            ("max-age=60, must-revalidate", None),
            ("s-maxage=60", None),
            ("s-maxage=60, private", Some(Reason::Private)),
        ];
        for (value, expected) in rows {
            assert_eq!(reason(&authorized(value)), expected, "{value}");
        }
        let over = Policy {
            ttl: Some(60_000),
            origin_cache_control: OriginCacheControl::Override,
            ..Policy::default()
        };
        assert_eq!(reason(&authorized("max-age=60").policy(&over)), Some(Reason::Authorization));
        assert!(
            Case::new(200, &[("cache-control", "s-maxage=60")])
                .stored()
                .traits
                .has(Traits::SHARED_WITH_AUTHORIZATION)
        );
        assert!(!Case::new(200, &[FRESH]).stored().traits.has(Traits::SHARED_WITH_AUTHORIZATION));
    }

    #[test]
    fn rfc_9111_7_3_set_cookie_in_its_three_modes() {
        let with = |mode, lines: Lines<'_>, ttl| {
            let policy = Policy { set_cookie: mode, ttl, ..Policy::default() };
            Case::new(200, lines).policy(&policy)
        };
        let cookie = ("set-cookie", "a=1");
        assert_eq!(reason(&with(SetCookiePolicy::Refuse, &[FRESH, cookie], None)), Some(Reason::SetCookie));
        assert_eq!(
            reason(&with(SetCookiePolicy::Refuse, &[FRESH, ("set-cookie2", "a=1")], None)),
            Some(Reason::SetCookie)
        );
        let stripped = with(SetCookiePolicy::Strip, &[FRESH, cookie, cookie], None).stored();
        assert!(!names(&stripped).contains(&"set-cookie"));
        let shared = with(SetCookiePolicy::Share, &[FRESH, cookie, cookie], None).stored();
        assert_eq!(names(&shared).iter().filter(|n| **n == "set-cookie").count(), 2);
        assert_eq!(reason(&with(SetCookiePolicy::Share, &[cookie], Some(1_000))), Some(Reason::SetCookie));
    }

    #[test]
    fn cookie_guard() {
        let cookie = [("cookie", "s=1")];
        let ttl = Policy { ttl: Some(60_000), ..Policy::default() };
        let windows = Policy { stale_if_error: 60_000, ..Policy::default() };
        let ignore = Policy { cookies: CookiePolicy::Ignore, ..ttl.clone() };
        let bypass = Policy { cookies: CookiePolicy::Bypass, ..ttl.clone() };
        let minimum = Policy { min_ttl: 60_000, ..Policy::default() };
        let zero = [("cache-control", "max-age=0"), ("etag", "\"a\"")];
        let rows: &[(Lines<'_>, &Policy, Option<Reason>)] = &[
            (&[], &ttl, Some(Reason::CookieGuard)),
            (&[FRESH], &ttl, None),
            (&[("expires", HOUR_LATER)], &ttl, None),
            (&[("cache-control", "public")], &ttl, Some(Reason::CookieGuard)),
            (&zero, &Policy::default(), None),
            (&zero, &windows, Some(Reason::CookieGuard)),
            (&zero, &minimum, Some(Reason::CookieGuard)),
            (&[], &ignore, None),
            (&[FRESH], &bypass, Some(Reason::CookieBypass)),
        ];
        for (lines, policy, expected) in rows {
            assert_eq!(
                reason(&Case::new(200, lines).request(&cookie).policy(policy)),
                *expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn rfc_9111_4_2_4_windows_past_freshness() {
        let route = Policy { stale_while_revalidate: 7_000, stale_if_error: 9_000, ..Policy::default() };
        let rows = [
            ("max-age=60", (7_000, 9_000)),
            ("max-age=60, stale-while-revalidate=1, stale-if-error=2", (1_000, 2_000)),
            ("max-age=60, stale-while-revalidate=0", (0, 9_000)),
            ("max-age=60, stale-if-error=2, must-revalidate", (0, 0)),
            ("max-age=60, stale-if-error=2, proxy-revalidate", (0, 0)),
            ("s-maxage=60", (0, 0)),
            ("s-maxage=60, stale-while-revalidate=2", (2_000, 0)),
            ("s-maxage=60, stale-if-error=2", (0, 2_000)),
            ("s-maxage=60, stale-if-error=2, must-revalidate", (0, 0)),
            ("s-maxage=60, stale-if-error=2, proxy-revalidate", (0, 0)),
            ("s-maxage=60, stale-if-error=2, no-cache", (0, 0)),
            ("max-age=0, stale-if-error=3", (0, 3_000)),
        ];
        for (value, windows) in rows {
            let head = Case::new(200, &[("cache-control", value), ("etag", "\"e\"")]).policy(&route).stored();
            assert_eq!((head.stale_while_revalidate, head.stale_if_error), windows, "{value}");
        }
    }

    #[test]
    fn rfc_9111_3_1_fields() {
        let response: Lines<'_> = &[
            ("date", NOW_TEXT),
            FRESH,
            ("connection", "close, X-Hop, Content-Type"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("proxy-authenticate", "x"),
            ("proxy-authentication-info", "x"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("age", "1"),
            ("surrogate-key", "a"),
            ("cache-tag", "b"),
            ("cache-groups", "\"c\""),
            ("content-type", "text/plain"),
            ("link", "<a>"),
            ("link", "<b>"),
        ];
        let head = Case::new(200, response).stored();
        assert_eq!(names(&head), ["date", "cache-control", "content-type", "link", "link"]);
        let head = Case::new(200, response).method("HEAD").stored();
        assert!(names(&head).contains(&"content-length") && head.traits.has(Traits::HEAD_ONLY));
        let qualified = [
            ("cache-control", "max-age=60, private=\"x-user, X-Other\", no-cache=x-fresh"),
            ("x-user", "1"),
            ("x-other", "1"),
            ("x-fresh", "1"),
            ("x-all", "1"),
            ("date", NOW_TEXT),
        ];
        assert_eq!(names(&Case::new(200, &qualified).stored()), ["cache-control", "x-all", "date"]);
    }

    #[test]
    fn rfc_9110_6_6_1_a_missing_date_is_added_a_present_one_never_rewritten() {
        let head = Case::new(200, &[FRESH]).stored();
        assert_eq!(head.field(&DATE).map(HeaderValue::as_bytes), Some(NOW_TEXT.as_bytes()));
        let head = Case::new(200, &[FRESH, ("date", "junk")]).stored();
        assert_eq!(head.field(&DATE).map(HeaderValue::as_bytes), Some(&b"junk"[..]));
    }

    #[test]
    fn everything_a_purge_can_name_is_an_id() {
        let mut case = Case::new(200, &[FRESH, ("surrogate-key", "a b")]);
        case.tags = vec!["route".to_owned()];
        let head = case.stored();
        for id in [
            PurgeId::url(7),
            PurgeId::host("shop.example"),
            PurgeId::ALL,
            PurgeId::tag(b"a"),
            PurgeId::tag(b"b"),
            PurgeId::tag(b"route"),
        ] {
            assert!(head.ids.contains(&id));
        }
        assert_eq!((head.ids.len(), head.stamp), (6, Stamp(42)));
        case.tags = vec!["t".to_owned(); tags::MAX_TAGS + 1];
        assert_eq!(reason(&case), Some(Reason::TooManyTags));
    }

    #[test]
    fn rfc_9111_4_1_vary() {
        let head = Case::new(200, &[FRESH, ("vary", "B, a")]).stored();
        assert_eq!(head.vary, ["a", "b"].map(HeaderName::from_static));
        assert_eq!(reason(&Case::new(200, &[FRESH, ("vary", "a, *")])), Some(Reason::VaryAny));
    }

    #[test]
    fn rfc_9111_3_3_parts() {
        let part = |range, length| {
            let mut case =
                Case::new(206, &[FRESH, ("content-range", range)]).request(&[("range", "bytes=0-9")]);
            case.content_length = length;
            case
        };
        let head = part("bytes 0-9/100", Some(10)).stored();
        assert_eq!(head.part, Some(Part { first: 0, last: 9, complete: 100 }));
        assert!(!names(&head).contains(&"content-range"));
        let whole = part("bytes 0-99/100", None).stored();
        assert_eq!((whole.status, whole.part), (StatusCode::OK, None));
        for (range, length) in [
            ("bytes 0-9/*", None),
            ("bytes 9-0/100", None),
            ("bytes 0-100/100", None),
            ("bytes 0-9/100", Some(9)),
            ("items 0-9/100", None),
            ("bytes 0-9", None),
            ("bytes -9/100", None),
            ("bytes 0-18446744073709551615/18446744073709551616", None),
        ] {
            assert_eq!(reason(&part(range, length)), Some(Reason::PartNotStorable), "{range}");
        }
        let unasked = Case::new(206, &[FRESH, ("content-range", "bytes 0-9/100")]);
        assert_eq!(reason(&unasked), Some(Reason::PartNotStorable));
    }

    #[test]
    fn rfc_9110_9_3_3_post() {
        let post = |lines: Lines<'_>, ttl| {
            Case::new(200, lines).method("POST").policy(&Policy { ttl, ..Policy::default() })
        };
        assert_eq!(reason(&post(&[FRESH, ("content-location", "http://shop.example/a?b")], None)), None);
        assert_eq!(reason(&post(&[FRESH, ("content-location", "/a?b")], None)), None);
        assert_eq!(
            reason(&post(&[FRESH, ("content-location", "/other")], None)),
            Some(Reason::RequestMethod)
        );
        assert_eq!(reason(&post(&[FRESH], None)), Some(Reason::RequestMethod));
        assert_eq!(reason(&post(&[("content-location", "/a?b")], Some(1_000))), Some(Reason::RequestMethod));
        assert_eq!(
            reason(&Case::new(200, &[FRESH, ("content-location", "/a?b")]).method("PUT")),
            Some(Reason::RequestMethod)
        );
    }

    #[test]
    fn rfc_9111_5_2_1_5_no_store_of_the_request() {
        let case = Case::new(200, &[FRESH]).request(&[("cache-control", "no-store")]);
        assert_eq!(reason(&case), None);
        assert_eq!(reason(&case.policy(&respecting_clients())), Some(Reason::RequestNoStore));
    }

    #[test]
    fn override_replaces_freshness_and_storing_alone() {
        let over = Policy {
            ttl: Some(60_000),
            origin_cache_control: OriginCacheControl::Override,
            ..Policy::default()
        };
        for value in ["no-store", "private", "no-cache", "max-age=0", "s-maxage=5"] {
            let head = Case::new(200, &[("cache-control", value)]).policy(&over).stored();
            assert_eq!(head.lifetime, 60_000, "{value}");
            assert!(
                !head.traits.has(Traits::NO_CACHE) && !head.traits.has(Traits::MUST_REVALIDATE),
                "{value}"
            );
        }
        assert_eq!(reason(&Case::new(200, &[("set-cookie", "a=1")]).policy(&over)), Some(Reason::SetCookie));
        assert_eq!(reason(&Case::new(200, &[("vary", "*")]).policy(&over)), Some(Reason::VaryAny));
        assert_eq!(
            reason(&Case::new(500, &[("cache-control", "no-store")]).policy(&over)),
            Some(Reason::NoStore)
        );
    }

    #[test]
    fn too_large_is_known_before_the_body() {
        let mut case = Case::new(200, &[FRESH]);
        case.content_length = Some(case.policy.max_object_size + 1);
        assert_eq!(reason(&case), Some(Reason::TooLarge));
        assert_eq!(reason(&case.method("HEAD")), None);
    }

    #[test]
    fn what_the_first_client_receives() {
        let strip = Policy { set_cookie: SetCookiePolicy::Strip, ..Policy::default() };
        let all = [
            ("set-cookie", "a=1"),
            ("surrogate-key", "a"),
            ("cache-tag", "b"),
            ("cache-groups", "c"),
            ("connection", "x-a"),
            ("x-a", "1"),
            ("x-b", "1"),
            ("trailer", "x-sum"),
        ];
        for (policy, stored, cookie) in
            [(&strip, true, false), (&strip, false, true), (&Policy::default(), true, true)]
        {
            let mut headers = map(&all);
            client_fields(&mut headers, stored, policy);
            assert_eq!(headers.contains_key("set-cookie"), cookie);
            assert_eq!(headers.len(), 2 + usize::from(cookie));
        }
    }

    #[test]
    fn rfc_9110_6_5_1_trailers() {
        let kept = trailer_fields(&map(&[
            ("x-sum", "1"),
            ("content-length", "1"),
            ("set-cookie", "a"),
            ("cache-control", "no-store"),
            ("te", "x"),
        ]));
        assert_eq!(kept.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    }

    proptest! {
        #[test]
        fn nothing_withheld_is_ever_stored(
            lines in prop::collection::vec((prop::sample::select(vec![
                "set-cookie", "set-cookie2", "x-a", "x-b", "connection", "cache-control", "surrogate-key", "cache-tag",
                "cache-groups", "age", "content-length", "keep-alive", "upgrade", "etag", "vary", "date", "expires",
            ]), prop::sample::select(vec![
                "x-a", "X-B, close", "max-age=60", "private=\"x-a\"", "no-cache=\"x-b\", max-age=9", "s-maxage=5", "\"e\"", "1", "public",
            ])), 0..14),
            strip: bool,
        ) {
            let set_cookie = if strip { SetCookiePolicy::Strip } else { SetCookiePolicy::Refuse };
            let policy = Policy { ttl: Some(60_000), set_cookie, ..Policy::default() };
            let case = Case::new(200, &lines).policy(&policy);
            let nominated = |name: &str| {
                let connection = case.response.get_all(CONNECTION).iter();
                let mut options = connection.flat_map(|v| v.as_bytes().split(|b| *b == b','));
                options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
            };
            let qualified = case.response.get_all(CACHE_CONTROL).iter().any(|v| v.as_bytes().starts_with(b"private="));
            if let Storability::Store(head) = case.judge() {
                for (name, _) in &head.fields {
                    prop_assert!(!fields::is_hop_by_hop(name) && !tags::is_tag_field(name), "{}", name);
                    prop_assert!(!matches!(name.as_str(), "set-cookie" | "set-cookie2" | "age" | "content-length"), "{}", name);
                    prop_assert!(!name.as_str().starts_with("x-") || !nominated(name.as_str()), "{}", name);
                    prop_assert!(name.as_str() != "x-a" || !qualified);
                }
            }
        }

        #[test]
        fn age_never_decreases_and_freshness_never_grows(
            age in "[0-9]{1,12}|junk", lifetime in 0u32..100_000, times in prop::collection::vec(0u64..1_000_000_000, 2..10)
        ) {
            let value = format!("max-age={lifetime}");
            let case = Case::new(200, &[("cache-control", &value), ("age", &age), ("etag", "\"a\"")]);
            let head = case.stored();
            let mut times = times;
            times.sort_unstable();
            let seen: Vec<_> = times.iter().map(|t| (head.current_age(NOW.plus(*t)), head.remaining(NOW.plus(*t)))).collect();
            prop_assert!(seen.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 >= w[1].1));
            prop_assert!(head.lifetime <= u64::from(lifetime) * 1000);
        }
    }
}
