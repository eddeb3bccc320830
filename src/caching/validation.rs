//! Validation (RFC 9111 4.3): asking the origin whether stored responses still hold, and what its
//! answer changes.
//!
//! Decides: the condition a validating request carries, which stored response a 304 selects, which
//! fields it replaces, what a HEAD says about a stored GET. Never touches: a client's own
//! preconditions (they are removed here, and judged on the answer by `semantics::preconditions`),
//! stores, bodies.
//!
//! A 304 replaces every field it carries (RFC 9111 3.2) but those the stored bytes depend on
//! (`Content-Length`, `Content-Encoding`, `Content-Range`, `Transfer-Encoding`), those never stored
//! (3.1), and `Set-Cookie` as the route says. `Content-Type` is replaced: nothing stored depends on it.

use bytes::Bytes;
use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    SET_COOKIE,
};
use http::StatusCode;

use super::age;
use super::freshness::Word;
use super::outcome::Reason;
use super::policy::{Policy, SetCookiePolicy};
use super::storability::{self, Exchange};
use super::stored::{StoredHead, Traits};
use super::tags;
use super::vary::{self, Nominated};
use crate::semantics::{UnixMillis, fields, http_date};

/// Bound on an `If-None-Match` we generate, in bytes.
const MAX_CONDITION: usize = 4 << 10;
/// Bound on the ids a response gathers over many validations; past it, it is fetched anew.
const MAX_IDS: usize = 4 * tags::MAX_TAGS;

/// How much a validating request asks: what a 304 without any validator can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// There was no validator to send: the request is an ordinary one.
    Nothing,
    /// One stored response's validators: any 304 is about it.
    One,
    /// Several stored responses' entity tags: the 304 must say which.
    Several,
}

/// Removes every precondition of the client (RFC 9110 13.1), so that what the origin sends is an
/// answer for everyone. `Range` stays; without `If-Range` it is unconditional.
pub fn remove_preconditions(request: &mut HeaderMap) {
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE, IF_RANGE] {
        request.remove(name);
    }
}

/// Makes a request validate what is stored (RFC 9111 4.3.1): the client's own preconditions and
/// `Range` are removed, the stored validators set.
///
/// `selected`: the stored response the request selects, if any. `others`: entity tags of further
/// variants, one of which the origin may select instead. `If-Modified-Since` is sent only for a lone
/// stored response with a `Last-Modified` that is an HTTP-date.
pub fn condition<'a>(
    request: &mut HeaderMap,
    selected: Option<&StoredHead>,
    others: impl IntoIterator<Item = &'a Bytes>,
) -> Asked {
    remove_preconditions(request);
    request.remove(RANGE);
    let own = selected.and_then(|head| head.field(&ETAG)).map(HeaderValue::as_bytes);
    let mut list: Vec<u8> = own.unwrap_or_default().to_vec();
    let mut several = false;
    for tag in others {
        // An entity tag that is none would break the list for those that are.
        let fits = list.len() + tag.len() + 2 <= MAX_CONDITION;
        if own == Some(tag.as_ref()) || !fits || !is_entity_tag(tag) {
            continue;
        }
        if own.is_some_and(|own| !is_entity_tag(own)) {
            break;
        }
        several |= selected.is_some() || !list.is_empty();
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(tag);
    }
    let mut asked = Asked::Nothing;
    if let (false, Ok(value)) = (list.is_empty(), HeaderValue::from_bytes(&list)) {
        request.insert(IF_NONE_MATCH, value);
        asked = if several { Asked::Several } else { Asked::One };
    }
    let modified = selected.and_then(|head| head.field(&LAST_MODIFIED)).filter(|_| !several);
    if let Some(date) = modified.filter(|date| http_date::parse(date.as_bytes(), UnixMillis(0)).is_some()) {
        request.insert(IF_MODIFIED_SINCE, date.clone());
        asked = Asked::One;
    }
    asked
}

/// What an answer to a validating request is (RFC 9111 4.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 304: see [`freshen`].
    NotModified,
    /// 500, 502, 503, 504: `reuse::stale_if_error` may prefer the stored response.
    Error,
    /// Any other: it replaces the stored response, or is passed on, as `storability::judge` says.
    Full,
}

impl Answer {
    /// The kind of an answer by its status.
    #[must_use]
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            304 => Self::NotModified,
            500 | 502..=504 => Self::Error,
            _ => Self::Full,
        }
    }
}

/// What becomes of a stored response that a 304 answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Freshened {
    /// Store it again under this head, with the same body, and answer with it.
    Store(Box<StoredHead>),
    /// Answer this one request with it, and store nothing: the stored response stays as it was.
    Serve(Box<StoredHead>, Reason),
    /// The 304 is not about it (RFC 9111 4.3.4): nothing may be updated or reused. Fetch again,
    /// without any condition.
    Mismatch,
}

/// Whether a 304 selects this stored response (RFC 9111 4.3.4).
///
/// A strong entity tag must be the stored one; a weak one, or `Last-Modified`, must correspond; a
/// 304 without any validator counts where only this response's validators were sent.
#[must_use]
pub fn selects(stored: &StoredHead, not_modified: &HeaderMap, asked: Asked) -> bool {
    if let Some(tag) = fields::sole(not_modified, &ETAG) {
        let tag = tag.as_bytes();
        let own = stored.field(&ETAG).map(HeaderValue::as_bytes);
        return match own {
            Some(own) if is_weak(tag) => opaque(own) == opaque(tag),
            Some(own) => own == tag,
            None => is_weak(tag) && same_date(stored, not_modified) == Some(true),
        };
    }
    match same_date(stored, not_modified) {
        Some(same) => same,
        None => asked == Asked::One,
    }
}

/// Freshens `stored` with a 304 (RFC 9111 3.2, 4.3.4): `x` is the validating exchange.
///
/// The head has the 304's fields over the stored ones, is judged anew, and bears the stamp of this
/// exchange. The caller decides by `head.vary` and the request where it is stored.
#[must_use]
pub fn freshen(stored: &StoredHead, asked: Asked, x: &Exchange<'_>, policy: &Policy) -> Freshened {
    if x.status != StatusCode::NOT_MODIFIED || !selects(stored, x.headers, asked) {
        return Freshened::Mismatch;
    }
    let (head, verdict) = updated(stored, x, policy);
    match verdict {
        Ok(()) => Freshened::Store(Box::new(head)),
        Err(reason) => Freshened::Serve(Box::new(head), reason),
    }
}

/// What a 200 to a HEAD says about a stored response to GET (RFC 9111 4.3.5).
#[derive(Clone, Debug, PartialEq)]
pub enum HeadUpdate {
    /// It still holds: store it again under this head, with the same body.
    Updated(Box<StoredHead>),
    /// It does not, or cannot be known to: store it again under this head, which is stale by now.
    Stale(Box<StoredHead>),
    /// The answer says nothing about it.
    Unrelated,
}

/// Judges a stored response to GET, with a body of `body_length` bytes, by the answer to a HEAD for
/// which it could have been selected.
#[must_use]
pub fn head_update(stored: &StoredHead, body_length: u64, x: &Exchange<'_>, policy: &Policy) -> HeadUpdate {
    if x.status != StatusCode::OK || stored.traits.has(Traits::HEAD_ONLY) {
        return HeadUpdate::Unrelated;
    }
    let complete = stored.part.map_or(body_length, |part| part.complete);
    let same_tag = x.headers.get(ETAG).is_none_or(|tag| stored.field(&ETAG) == Some(tag));
    let same_date = !x.headers.contains_key(LAST_MODIFIED) || same_date(stored, x.headers) == Some(true);
    let same_length = x.headers.get(CONTENT_LENGTH).is_none_or(|length| fields::digits(length.as_bytes()) == Some(complete));
    if same_tag && same_date && same_length {
        if let (head, Ok(())) = updated(stored, x, policy) {
            return HeadUpdate::Updated(Box::new(head));
        }
    }
    let mut head = stored.clone();
    head.lifetime = head.lifetime.min(head.current_age(x.response_received));
    HeadUpdate::Stale(Box::new(head))
}

/// Whether two stored responses share a strong entity tag (RFC 9110 8.8.3.2).
pub(super) fn same_strong_etag(one: &StoredHead, other: &StoredHead) -> bool {
    let tag = one.field(&ETAG).map(HeaderValue::as_bytes);
    tag.is_some_and(|tag| is_entity_tag(tag) && !is_weak(tag)) && one.field(&ETAG) == other.field(&ETAG)
}

/// `old` with every field that `new` has replaced by it; order kept, the new ones last.
pub(super) fn replace_fields(
    old: &[(HeaderName, HeaderValue)],
    new: &[(&HeaderName, &HeaderValue)],
) -> Vec<(HeaderName, HeaderValue)> {
    let stays = |name: &HeaderName| !new.iter().any(|(replaced, _)| *replaced == name);
    let mut fields: Vec<_> = old.iter().filter(|(name, _)| stays(name)).cloned().collect();
    fields.extend(new.iter().map(|(name, value)| ((*name).clone(), (*value).clone())));
    fields
}

/// The head that `stored` has after `x` confirmed it, and whether it may be stored.
fn updated(stored: &StoredHead, x: &Exchange<'_>, policy: &Policy) -> (StoredHead, Result<(), Reason>) {
    let response = storability::end_to_end(x.headers);
    let mut whole = HeaderMap::with_capacity(stored.fields.len() + response.len());
    let replacing: Vec<_> = response.iter().filter(|(name, _)| replaces(name, policy)).collect();
    for (name, value) in replace_fields(&stored.fields, &replacing) {
        whole.append(name, value);
    }
    if !response.contains_key(DATE) {
        // RFC 9110 6.6.1; the stored Date is the earlier response's and would make this one old.
        if let Ok(date) = HeaderValue::from_bytes(http_date::format(x.response_received).as_ref()) {
            whole.insert(DATE, date);
        }
    }
    let word = Word::of(&whole);
    let initial_age = age::corrected_initial_age(&response, x.request_sent, x.response_received);

    let mut head = stored.clone();
    head.received = x.response_received;
    head.initial_age = initial_age;
    head.keep = policy.keep;
    head.cost = x.response_received.since(x.request_sent);
    head.stamp = x.stamp;
    head.ids.extend(storability::base_ids(x));
    // Tags are not stored as fields, so which of them a new tag field replaces is not known: all stay.
    let tagged = tags::ids(&response, x.tags, x.target).map(|ids| head.ids.extend(ids));
    head.ids.sort_unstable();
    head.ids.dedup();
    let numbers = storability::numbers(x, stored.status, &whole, &word, initial_age, policy);
    if let Ok(numbers) = numbers {
        head.lifetime = numbers.lifetime;
        head.stale_while_revalidate = numbers.stale_while_revalidate;
        head.stale_if_error = numbers.stale_if_error;
        let head_only = if stored.traits.has(Traits::HEAD_ONLY) { Traits::HEAD_ONLY } else { Traits::default() };
        head.traits = numbers.traits.with(head_only);
    }
    let varies = match vary::nominated(&whole) {
        Nominated::Names(names) => {
            head.vary = names;
            Ok(())
        }
        Nominated::Any => Err(Reason::VaryAny),
    };
    let kept = |name: &HeaderName| {
        !word.directives.private_fields.contains(name) && !word.directives.no_cache_fields.contains(name)
    };
    let verdict = numbers.map(|_| ()).and(varies).and(tagged);
    let verdict = if head.ids.len() > MAX_IDS { verdict.and(Err(Reason::TooManyTags)) } else { verdict };
    // Who alone receives the answer receives what the origin withholds from the others, too.
    let shared = verdict.is_ok();
    head.fields = whole.iter().filter(|(n, _)| !shared || kept(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
    (head, verdict)
}

/// Whether a field of a 304 replaces the stored one.
fn replaces(name: &HeaderName, policy: &Policy) -> bool {
    let framing = *name == CONTENT_LENGTH || *name == CONTENT_ENCODING || *name == CONTENT_RANGE || *name == AGE;
    let stripped = *name == SET_COOKIE && policy.set_cookie == SetCookiePolicy::Strip;
    !(framing || stripped || fields::is_hop_by_hop(name) || tags::is_tag_field(name))
}

/// Whether both carry the same `Last-Modified`; `None` where one of them has none.
fn same_date(stored: &StoredHead, response: &HeaderMap) -> Option<bool> {
    Some(stored.field(&LAST_MODIFIED)? == fields::sole(response, &LAST_MODIFIED)?)
}

fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// RFC 9110 8.8.3, its grammar.
fn is_entity_tag(tag: &[u8]) -> bool {
    matches!(opaque(tag), [b'"', inner @ .., b'"'] if inner.iter().all(|b| *b == 0x21 || (0x23..=0x7e).contains(b) || *b >= 0x80))
}
