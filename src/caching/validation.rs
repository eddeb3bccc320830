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
use http::StatusCode;
use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    SET_COOKIE,
};

use super::age;
use super::freshness::Word;
use super::outcome::Reason;
use super::policy::{Policy, SetCookiePolicy};
use super::storability::{self, Exchange};
use super::stored::{Fields, StoredHead, Traits};
use super::tags;
use super::vary;
use crate::semantics::validator::EntityTag;
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

/// Makes a request ask for the part that its client wants, where nothing stored could answer it (RFC 9111
/// 3.3). `If-Range` stays: it only chooses between the part and the whole, and either may be stored.
pub fn ask_for_part(request: &mut HeaderMap) {
    let if_range = request.remove(IF_RANGE);
    remove_preconditions(request);
    if let Some(if_range) = if_range {
        request.insert(IF_RANGE, if_range);
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
        if own == Some(tag.as_ref()) || !fits || !is_well_formed(tag) {
            continue;
        }
        if own.is_some_and(|own| !is_well_formed(own)) {
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
    if let Some(date) = modified.filter(|date| http_date::parse_value(date, UnixMillis(0)).is_some()) {
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
    if let Some(tag) = fields::sole(not_modified, &ETAG).and_then(|tag| EntityTag::parse(tag.as_bytes())) {
        return match (entity_tag(stored), &tag) {
            (Some(own), EntityTag::Weak(_)) => own.weakly_equals(&tag),
            (Some(own), _) => own == tag,
            (None, EntityTag::Weak(_)) => same_date(stored, not_modified) == Some(true),
            (None, _) => false,
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
    let same_length = x
        .headers
        .get(CONTENT_LENGTH)
        .is_none_or(|length| fields::digits(length.as_bytes()) == Some(complete));
    if same_tag
        && same_date
        && same_length
        && let (head, Ok(())) = updated(stored, x, policy)
    {
        return HeadUpdate::Updated(Box::new(head));
    }
    let mut head = stored.clone();
    head.lifetime = head.lifetime.min(head.current_age(x.response_received));
    HeadUpdate::Stale(Box::new(head))
}

/// Whether two stored responses share a strong entity tag (RFC 9110 8.8.3.2).
pub(super) fn same_strong_etag(one: &StoredHead, other: &StoredHead) -> bool {
    match (entity_tag(one), entity_tag(other)) {
        (Some(one), Some(other)) => one.strongly_equals(&other),
        _ => false,
    }
}

/// `old` with every field that `new` has replaced by it; order kept, the new ones last.
pub(super) fn replace_fields(
    old: &Fields,
    new: &[(&HeaderName, &HeaderValue)],
) -> Vec<(HeaderName, HeaderValue)> {
    let stays = |name: &HeaderName| !new.iter().any(|(replaced, _)| *replaced == name);
    let lines = old.iter().filter(|(name, _)| stays(name)).chain(new.iter().copied());
    lines.map(|(name, value)| (name.clone(), value.clone())).collect()
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
        whole.insert(DATE, http_date::format(x.response_received));
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
        let head_only =
            if stored.traits.has(Traits::HEAD_ONLY) { Traits::HEAD_ONLY } else { Traits::default() };
        head.traits = numbers.traits.with(head_only);
    }
    let varies = vary::nominated(&whole).map(|names| head.vary = names);
    let kept = |name: &HeaderName| {
        !word.directives.private_fields.contains(name) && !word.directives.no_cache_fields.contains(name)
    };
    let verdict = numbers.map(|_| ()).and(varies).and(tagged);
    let verdict = if head.ids.len() > MAX_IDS { verdict.and(Err(Reason::TooManyTags)) } else { verdict };
    // Who alone receives the answer receives what the origin withholds from the others, too.
    let shared = verdict.is_ok();
    head.fields =
        whole.iter().filter(|(n, _)| !shared || kept(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
    (head, verdict)
}

/// Whether a field of a 304 replaces the stored one.
fn replaces(name: &HeaderName, policy: &Policy) -> bool {
    let framing =
        *name == CONTENT_LENGTH || *name == CONTENT_ENCODING || *name == CONTENT_RANGE || *name == AGE;
    let stripped = (*name == SET_COOKIE || *name == storability::SET_COOKIE2)
        && policy.set_cookie == SetCookiePolicy::Strip;
    !(framing || stripped || fields::is_hop_by_hop(name) || tags::is_tag_field(name))
}

/// Whether both carry the same `Last-Modified`; `None` where one of them has none.
fn same_date(stored: &StoredHead, response: &HeaderMap) -> Option<bool> {
    Some(stored.field(&LAST_MODIFIED)? == fields::sole(response, &LAST_MODIFIED)?)
}

fn entity_tag(head: &StoredHead) -> Option<EntityTag<'_>> {
    EntityTag::parse(head.field(&ETAG)?.as_bytes())
}

/// Whether it can stand in a list beside others: RFC 9110 8.8.3, its grammar.
fn is_well_formed(tag: &[u8]) -> bool {
    matches!(EntityTag::parse(tag), Some(EntityTag::Strong(_) | EntityTag::Weak(_)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caching::stamp::{PurgeId, Stamp};
    use crate::caching::stored::Part;
    use crate::caching::testing::{Case, HOUR_AGO, HOUR_LATER, Lines, NOW, NOW_TEXT, map};

    const LATER: UnixMillis = UnixMillis(NOW.0 + 600_000);
    const TAG: (&str, &str) = ("etag", "\"a\"");
    const FRESH: (&str, &str) = ("cache-control", "max-age=60");

    fn stored(lines: Lines<'_>) -> StoredHead {
        let mut all = vec![FRESH, ("date", NOW_TEXT)];
        all.extend_from_slice(lines);
        Case::new(200, &all).stored()
    }

    fn freshened(head: &StoredHead, lines: Lines<'_>) -> Freshened {
        Case::new(304, lines).received(LATER).with(|x, policy| freshen(head, Asked::One, x, policy))
    }

    fn value<'a>(head: &'a StoredHead, name: &'static str) -> Option<&'a [u8]> {
        head.field(&HeaderName::from_static(name)).map(HeaderValue::as_bytes)
    }

    #[test]
    fn rfc_9111_4_3_1_the_condition() {
        let both = stored(&[TAG, ("last-modified", HOUR_AGO)]);
        let dated = stored(&[("last-modified", HOUR_AGO)]);
        let bare = stored(&[]);
        let unquoted = stored(&[("etag", "a")]);
        let junk = stored(&[("last-modified", "yesterday")]);
        let others =
            |tags: &[&'static str]| tags.iter().map(|t| Bytes::from_static(t.as_bytes())).collect::<Vec<_>>();
        type Row<'a> = (Option<&'a StoredHead>, &'a [&'static str], Option<&'a str>, Option<&'a str>, Asked);
        let rows: &[Row<'_>] = &[
            (Some(&both), &[], Some("\"a\""), Some(HOUR_AGO), Asked::One),
            (Some(&both), &["\"a\""], Some("\"a\""), Some(HOUR_AGO), Asked::One),
            (Some(&both), &["W/\"b\"", "\"c\""], Some("\"a\", W/\"b\", \"c\""), None, Asked::Several),
            (Some(&dated), &[], None, Some(HOUR_AGO), Asked::One),
            (Some(&dated), &["\"b\""], Some("\"b\""), None, Asked::Several),
            (Some(&bare), &[], None, None, Asked::Nothing),
            (Some(&junk), &[], None, None, Asked::Nothing),
            (Some(&unquoted), &["\"b\""], Some("a"), None, Asked::One),
            (None, &["\"b\""], Some("\"b\""), None, Asked::One),
            (None, &["b", "\"b\"", "\"c\""], Some("\"b\", \"c\""), None, Asked::Several),
            (None, &[], None, None, Asked::Nothing),
        ];
        for (selected, tags, none_match, since, asked) in rows {
            let mut request = map(&[
                ("if-none-match", "\"client\""),
                ("if-modified-since", HOUR_LATER),
                ("if-match", "*"),
                ("if-unmodified-since", HOUR_LATER),
                ("if-range", "\"client\""),
                ("range", "bytes=0-1"),
                ("accept", "*/*"),
            ]);
            assert_eq!(condition(&mut request, *selected, &others(tags)), *asked, "{tags:?}");
            let text = |name| request.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
            assert_eq!(text(IF_NONE_MATCH), *none_match, "{tags:?}");
            assert_eq!(text(IF_MODIFIED_SINCE), *since, "{tags:?}");
            assert_eq!(request.len(), 1 + usize::from(none_match.is_some()) + usize::from(since.is_some()));
        }
        let many: Vec<_> = (0..1000).map(|n| Bytes::from(format!("\"{n:020}\""))).collect();
        let mut request = HeaderMap::new();
        condition(&mut request, None, &many);
        assert!(request.get(IF_NONE_MATCH).is_some_and(|v| v.len() <= MAX_CONDITION));
    }

    #[test]
    fn rfc_9111_4_3_4_which_stored_response_a_304_selects() {
        let strong = stored(&[TAG, ("last-modified", HOUR_AGO)]);
        let weak = stored(&[("etag", "W/\"a\"")]);
        let dated = stored(&[("last-modified", HOUR_AGO)]);
        let rows: &[(&StoredHead, Lines<'_>, Asked, bool)] = &[
            (&strong, &[TAG], Asked::Several, true),
            (&strong, &[("etag", "W/\"a\"")], Asked::Several, true),
            (&strong, &[("etag", "\"b\"")], Asked::One, false),
            (&strong, &[("etag", "\"b\""), ("last-modified", HOUR_AGO)], Asked::One, false),
            (&strong, &[("last-modified", HOUR_AGO)], Asked::One, true),
            (&strong, &[("last-modified", HOUR_LATER)], Asked::One, false),
            (&strong, &[], Asked::One, true),
            (&strong, &[], Asked::Several, false),
            (&weak, &[("etag", "W/\"a\"")], Asked::Several, true),
            (&weak, &[TAG], Asked::One, false),
            (&dated, &[TAG], Asked::One, false),
            (&dated, &[("last-modified", HOUR_AGO)], Asked::Several, true),
            (&dated, &[("etag", "W/\"x\""), ("last-modified", HOUR_AGO)], Asked::One, true),
            (&dated, &[("etag", "W/\"x\"")], Asked::One, false),
        ];
        for (head, lines, asked, expected) in rows {
            assert_eq!(selects(head, &map(lines), *asked), *expected, "{lines:?} {asked:?}");
        }
    }

    #[test]
    fn rfc_9111_3_2_fields_a_304_replaces() {
        let head = stored(&[
            TAG,
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("vary", "accept-encoding"),
            ("x-old", "1"),
            ("x-two", "1"),
            ("x-two", "2"),
        ]);
        let later = "Sun, 06 Nov 1994 08:59:37 GMT";
        let Freshened::Store(new) = freshened(
            &head,
            &[
                TAG,
                ("date", later),
                ("cache-control", "max-age=120"),
                ("content-type", "text/html"),
                ("content-encoding", "br"),
                ("content-length", "999"),
                ("content-range", "bytes 0-1/2"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("transfer-encoding", "chunked"),
                ("age", "5"),
                ("surrogate-key", "new"),
                ("x-two", "3"),
                ("x-new", "1"),
            ],
        ) else {
            panic!("not freshened")
        };
        let expect: &[(&str, Option<&str>)] = &[
            ("content-type", Some("text/html")),
            ("content-encoding", Some("gzip")),
            ("content-length", None),
            ("content-range", None),
            ("connection", None),
            ("x-hop", None),
            ("age", None),
            ("surrogate-key", None),
            ("x-old", Some("1")),
            ("x-two", Some("3")),
            ("x-new", Some("1")),
            ("date", Some(later)),
        ];
        for (name, expected) in expect {
            let name = HeaderName::from_static(name);
            assert_eq!(new.field(&name).and_then(|v| v.to_str().ok()), *expected, "{name}");
        }
        assert_eq!(new.fields.iter().filter(|(n, _)| *n == "x-two").count(), 1);
        assert_eq!((new.lifetime, new.initial_age, new.received), (120_000, 5_000, LATER));
        assert!(new.ids.contains(&PurgeId::tag(b"new")) && new.ids.contains(&PurgeId::ALL));
        assert_eq!((new.stamp, new.status), (Stamp(42), StatusCode::OK));
    }

    #[test]
    fn rfc_9111_4_3_4_a_304_without_date_is_as_young_as_it_arrived() {
        let Freshened::Store(new) = freshened(&stored(&[TAG]), &[TAG]) else { panic!("not freshened") };
        assert_eq!(new.remaining(LATER), 60_000);
        assert_eq!(value(&new, "date"), Some(&b"Sun, 06 Nov 1994 08:59:37 GMT"[..]));
    }

    #[test]
    fn a_304_that_forbids_storing_serves_once() {
        let head = stored(&[TAG]);
        let rows: &[(Lines<'_>, Reason)] = &[
            (&[TAG, ("cache-control", "no-store")], Reason::NoStore),
            (&[TAG, ("cache-control", "private, max-age=9")], Reason::Private),
            (&[TAG, ("set-cookie", "a=1")], Reason::SetCookie),
            (&[TAG, ("vary", "*")], Reason::VaryAny),
        ];
        for (lines, reason) in rows {
            match freshened(&head, lines) {
                Freshened::Serve(_, found) => assert_eq!(found, *reason),
                other => panic!("{lines:?}: {other:?}"),
            }
        }
        assert_eq!(freshened(&head, &[("etag", "\"b\"")]), Freshened::Mismatch);
    }

    #[test]
    fn rfc_9111_7_3_a_304s_set_cookie_is_one_clients() {
        let head = stored(&[TAG]);
        let lines = [TAG, ("set-cookie", "a=1")];
        let Freshened::Serve(served, _) = freshened(&head, &lines) else { panic!("stored") };
        assert_eq!(value(&served, "set-cookie"), Some(&b"a=1"[..]));
        let strip = Policy { set_cookie: SetCookiePolicy::Strip, ..Policy::default() };
        let case = Case::new(304, &lines).policy(&strip).received(LATER);
        let Freshened::Store(kept) = case.with(|x, policy| freshen(&head, Asked::One, x, policy)) else {
            panic!("not stored")
        };
        assert_eq!(value(&kept, "set-cookie"), None);
    }

    #[test]
    fn ids_gathered_over_many_validations_are_bounded() {
        let mut head = stored(&[TAG]);
        for n in 0..20u64 {
            let tags = (0..100).map(|i| format!("t{n}-{i}")).collect::<Vec<_>>().join(" ");
            match freshened(&head, &[TAG, ("surrogate-key", &tags)]) {
                Freshened::Store(new) => head = *new,
                Freshened::Serve(_, reason) => {
                    assert_eq!(reason, Reason::TooManyTags);
                    return;
                }
                Freshened::Mismatch => panic!("mismatch"),
            }
            assert!(head.ids.len() <= MAX_IDS);
        }
        panic!("unbounded");
    }

    #[test]
    fn rfc_9111_4_3_3_kinds_of_answer() {
        let rows = [
            (304, Answer::NotModified),
            (200, Answer::Full),
            (404, Answer::Full),
            (500, Answer::Error),
            (501, Answer::Full),
            (503, Answer::Error),
            (504, Answer::Error),
            (505, Answer::Full),
        ];
        for (status, expected) in rows {
            assert_eq!(Answer::of(StatusCode::from_u16(status).unwrap()), expected);
        }
    }

    #[test]
    fn rfc_9111_4_3_5_head_updates_or_invalidates_get() {
        let head = stored(&[TAG, ("last-modified", HOUR_AGO)]);
        let answer = |status, lines: Lines<'_>| {
            let case = Case::new(status, lines).method("HEAD").received(LATER);
            case.with(|x, policy| head_update(&head, 10, x, policy))
        };
        let same: &[Lines<'_>] = &[
            &[TAG, FRESH, ("content-length", "10"), ("x-new", "1")],
            &[FRESH, ("last-modified", HOUR_AGO)],
            &[FRESH],
        ];
        for lines in same {
            let HeadUpdate::Updated(new) = answer(200, lines) else { panic!("{lines:?}") };
            assert_eq!(new.remaining(LATER), 60_000);
            assert!(!new.traits.has(Traits::HEAD_ONLY) && value(&new, "content-length").is_none());
        }
        let different: &[Lines<'_>] = &[
            &[("etag", "\"b\""), FRESH],
            &[TAG, FRESH, ("content-length", "11")],
            &[TAG, FRESH, ("last-modified", HOUR_LATER)],
            &[TAG, ("cache-control", "no-store")],
        ];
        for lines in different {
            let HeadUpdate::Stale(old) = answer(200, lines) else { panic!("{lines:?}") };
            assert!(old.remaining(LATER) <= 0 && old.fields == head.fields);
        }
        assert_eq!(answer(404, &[FRESH]), HeadUpdate::Unrelated);
    }

    #[test]
    fn a_freshened_part_stays_a_part() {
        let mut head = stored(&[TAG]);
        head.status = StatusCode::PARTIAL_CONTENT;
        head.part = Some(Part { first: 0, last: 1, complete: 9 });
        let Freshened::Store(new) = freshened(&head, &[TAG]) else { panic!("not freshened") };
        assert_eq!((new.status, new.part), (head.status, head.part));
    }

    proptest! {
        #[test]
        fn any_304_leaves_the_content_described_as_it_is(lines in prop::collection::vec((
            prop::sample::select(vec!["content-encoding", "content-length", "content-range", "etag", "vary", "cache-control", "connection", "set-cookie", "x-a"]),
            "[ -~]{0,20}",
        ), 0..8)) {
            let head = stored(&[TAG, ("content-encoding", "gzip"), ("vary", "accept-encoding")]);
            let lines: Vec<(&str, &str)> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
            match freshened(&head, &lines) {
                Freshened::Store(new) => {
                    prop_assert_eq!(value(&new, "content-encoding"), Some(&b"gzip"[..]));
                    prop_assert!(value(&new, "content-length").is_none() && value(&new, "content-range").is_none());
                    prop_assert!(value(&new, "set-cookie").is_none());
                    prop_assert_eq!(new.status, head.status);
                }
                Freshened::Serve(new, _) => prop_assert_eq!(value(&new, "content-encoding"), Some(&b"gzip"[..])),
                Freshened::Mismatch => {}
            }
        }
    }
}
