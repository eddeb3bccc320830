//! Storability (RFC 9111 3): whether a response is stored, and as what.
//!
//! Decides: store or pass, with the one reason; every number of the stored head; which fields are
//! stored and which the first client receives. Never touches: bodies, stores, waiters. Who else may
//! be given the response while it arrives is the same verdict: only what is stored is shared, and
//! only with requests for which `reuse::judge` finds the stored head fresh.
//!
//! Beyond the letter of RFC 9111 3, all on the careful side: 304, 412 and 416 answer one request's
//! preconditions and are no answer to another; 407, 421, 428, 429, 431 and 511 speak of a connection
//! or a client (RFC 6585 forbids storing the latter four). A response without any freshness is stored
//! for validation only where the origin marked it (`public`, `no-cache`, a lifetime of zero) and gave
//! a validator: a bare 200 with an `ETag` may as well be one user's page.

use std::borrow::Cow;

use http::header::{
    AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED, RANGE, SET_COOKIE,
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
use super::vary::{self, Nominated};
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
    /// The primary key's hash.
    pub primary: u128,
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
/// and the route strips it, without `Set-Cookie`.
///
/// Fields of a qualified `private="…"` or `no-cache="…"` stay: they are withheld from the others,
/// who receive the stored fields.
pub fn client_fields(headers: &mut HeaderMap, stored: bool, policy: &Policy) {
    fields::remove_hop_by_hop(headers);
    for name in [tags::SURROGATE_KEY, tags::CACHE_TAG, tags::CACHE_GROUPS] {
        headers.remove(name);
    }
    if stored && policy.set_cookie == SetCookiePolicy::Strip {
        headers.remove(SET_COOKIE);
        headers.remove(SET_COOKIE2);
    }
}

/// The trailer fields worth keeping: those that only describe the content (RFC 9110 6.5.1).
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
    let Nominated::Names(vary) = vary::nominated(&headers) else { return Err(Reason::VaryAny) };
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
        fields: stored_fields(x, &headers, &word.directives, policy),
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
    [PurgeId::key(x.primary), PurgeId::host(x.host), PurgeId::ALL]
}

fn request_allows(x: &Exchange<'_>, policy: &Policy) -> Result<(), Reason> {
    if !policy.cache {
        return Err(Reason::RouteNotCached);
    }
    // RFC 9110 9.3.3: a POST's answer that describes its own target is what a GET would be given.
    // Explicit freshness is asked of it below.
    if !matches!(*x.method, Method::GET | Method::HEAD) && !(*x.method == Method::POST && describes_target(x)) {
        return Err(Reason::RequestMethod);
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
    x.status == StatusCode::OK && location.is_some_and(|reference| invalidation::is_target(x.target, reference))
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
    let shared_with_authorization =
        directives.public || directives.must_revalidate || matches!(directives.s_maxage, Some(DeltaSeconds::Seconds(_)));
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
        Err(_) if validator && (no_cache || directives.public) => (0, None),
        Err(reason) => return Err(reason),
    };
    if !source.is_some_and(Source::is_explicit) {
        if matches!(status.as_u16(), 400 | 405 | 414 | 431) {
            return Err(Reason::ReflectsRequest);
        }
        if *x.method == Method::POST {
            return Err(Reason::RequestMethod);
        }
    }
    let must_revalidate = directives.must_revalidate
        || directives.proxy_revalidate
        || (directives.s_maxage.is_some() && !overridden);
    let (own_renew, own_error) = (directives.stale_while_revalidate, directives.stale_if_error);
    // The route lets nothing be reused while it is renewed that was never fresh.
    let route_renew = if lifetime > 0 { policy.stale_while_revalidate } else { 0 };
    let window = |own: Option<DeltaSeconds>, route: u64| {
        if must_revalidate || no_cache { 0 } else { own.map_or(route, DeltaSeconds::millis) }
    };
    let stale_while_revalidate = window(own_renew, route_renew);
    let stale_if_error = window(own_error, policy.stale_if_error);

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
    let traits = traits.iter().filter(|(set, _)| *set).fold(Traits::default(), |all, (_, one)| all.with(*one));
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
        || modified.is_some_and(|date| http_date::parse(date.as_bytes(), UnixMillis(0)).is_some())
}

const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");

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
        if let Ok(date) = HeaderValue::from_bytes(http_date::format(x.response_received).as_ref()) {
            fields.push((DATE, date));
        }
    }
    fields
}
