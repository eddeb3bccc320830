//! Reuse (RFC 9111 4): whether a stored response answers a request as it is.
//!
//! Decides: fresh, stale but allowed, to be validated, or not for this request at all; when a stale
//! response may stand in for a failed or slow origin; when a hot response is renewed early. Never
//! touches: variants (`vary` has chosen before), purges (the store has dropped what is invalid),
//! preconditions and ranges (they shape the answer, not the permission). The common path, a fresh
//! response and a plain request, is a handful of integer comparisons.

use super::admission::{MethodClass, RequestFacts};
use super::cache_control::{DeltaSeconds, MaxStale};
use super::outcome::Reason;
use super::policy::{CookiePolicy, Policy};
use super::stored::{StoredHead, Traits};
use crate::semantics::UnixMillis;

/// What a stored response is good for, for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It answers.
    Fresh,
    /// Stale, and it answers while a renewal begins: by `stale-while-revalidate` (RFC 5861 3), or by
    /// the client's `max-stale` where that is respected. `ttl` is negative.
    StaleWhileRevalidate,
    /// It answers only after the origin confirmed it (RFC 9111 4.3), or after an error where
    /// [`stale_if_error`] says so.
    Validate(Reason),
    /// It is not for this request, confirmed or not: fetch as if nothing were stored, and send
    /// none of its validators.
    Unusable(Reason),
}

/// Judges a stored response that the request's key and variant have selected.
///
/// Where [`RequestFacts::only_if_cached`] holds, anything but `Fresh` and `StaleWhileRevalidate` is
/// answered with 504 instead of being forwarded.
#[must_use]
pub fn judge(head: &StoredHead, facts: &RequestFacts, policy: &Policy, now: UnixMillis) -> Reuse {
    judge_with(head, facts, policy, head.current_age(now), head.remaining(now))
}

/// What made a stored response stale before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Since when.
    pub since: UnixMillis,
    /// [`Reason::Purged`] softly, or [`Reason::PurgesUnknown`].
    pub reason: Reason,
}

/// Judges one that was withdrawn: stale from then on, whatever its lifetime; its stale windows count
/// from there.
#[must_use]
pub fn judge_withdrawn(
    head: &StoredHead,
    facts: &RequestFacts,
    policy: &Policy,
    withdrawn: Withdrawn,
    now: UnixMillis,
) -> Reuse {
    let remaining = head.remaining(now).min(-signed(now.since(withdrawn.since)));
    match judge_with(head, facts, policy, head.current_age(now), remaining) {
        Reuse::Validate(Reason::Stale) => Reuse::Validate(withdrawn.reason),
        verdict => verdict,
    }
}

fn judge_with(head: &StoredHead, facts: &RequestFacts, policy: &Policy, age: u64, remaining: i64) -> Reuse {
    if let Some(reason) = unusable(head, facts, policy) {
        return Reuse::Unusable(reason);
    }
    if head.traits.has(Traits::NO_CACHE) {
        return Reuse::Validate(Reason::MustValidate);
    }
    if let Some(reason) = client_wants_better(head, facts, age, remaining) {
        return Reuse::Validate(reason);
    }
    if remaining > 0 {
        return Reuse::Fresh;
    }
    let staleness = remaining.unsigned_abs();
    if within(staleness, head.stale_while_revalidate) || client_takes_stale(head, facts, staleness) {
        return Reuse::StaleWhileRevalidate;
    }
    Reuse::Validate(Reason::Stale)
}

/// Whether a stale response may answer because the origin failed: connecting, TLS, time-outs, reset,
/// 500, 502, 503, 504 (RFC 5861 4, RFC 9111 4.2.4).
///
/// `stale-if-error` of the origin or the route, or of the client where that is respected. Never
/// against `no-cache`, `must-revalidate` or `proxy-revalidate`, and against `s-maxage` only where the
/// origin itself says so. True as well while it is still fresh, for an early renewal that failed.
#[must_use]
pub fn stale_if_error(head: &StoredHead, facts: &RequestFacts, policy: &Policy, now: UnixMillis) -> bool {
    let accepted = facts.directives.stale_if_error.filter(|_| !head.traits.has(Traits::MUST_REVALIDATE));
    let asked = accepted.map_or(0, DeltaSeconds::millis);
    may_stand_in(head, facts, policy, now, head.stale_if_error.max(asked))
}

/// Whether a stale response may answer a request whose patience for a collapsed fetch has ended
/// (`on_collapse_timeout = "stale"`): within either stale window.
#[must_use]
pub fn stale_on_timeout(head: &StoredHead, facts: &RequestFacts, policy: &Policy, now: UnixMillis) -> bool {
    may_stand_in(head, facts, policy, now, head.stale_while_revalidate.max(head.stale_if_error))
}

/// Whether a fresh hit begins a renewal before expiry (XFetch: Vattani, Chierichetti, Lowenstein,
/// 2015): the sooner the response expires and the dearer it was, the likelier.
///
/// `random` is uniform in (0, 1]. Never true of a stale response: that is validation's business.
#[must_use]
pub fn refresh_early(head: &StoredHead, policy: &Policy, now: UnixMillis, random: f64) -> bool {
    // The largest -ln(x) of a uniform 53-bit x: beyond it no logarithm is needed.
    const MOST: f64 = 37.0;
    let remaining = head.remaining(now);
    if remaining <= 0 || head.cost == 0 || head.traits.has(Traits::NO_CACHE) {
        return false;
    }
    let reach = head.cost as f64 * policy.early_refresh;
    let remaining = remaining as f64;
    reach > 0.0 && remaining < reach * MOST && remaining <= reach * -random.clamp(f64::MIN_POSITIVE, 1.0).ln()
}

fn unusable(head: &StoredHead, facts: &RequestFacts, policy: &Policy) -> Option<Reason> {
    let traits = head.traits;
    if traits.has(Traits::HEAD_ONLY) && facts.method != MethodClass::Head {
        // The part without a single byte.
        Some(Reason::PartMissing)
    } else if facts.has_authorization && !traits.has(Traits::SHARED_WITH_AUTHORIZATION) {
        // Stricter than RFC 9111 3.5, which lets an answer fetched without credentials serve
        // requests with them: who asks with credentials may well be given something else.
        Some(Reason::AuthorizationNotShared)
    } else if facts.has_cookie
        && policy.cookies == CookiePolicy::Guard
        && !traits.has(Traits::ORIGIN_EXPLICIT)
    {
        Some(Reason::CookieGuard)
    } else if head.part.is_some() && !(facts.range && facts.method == MethodClass::Get) {
        Some(Reason::PartMissing)
    } else {
        None
    }
}

/// RFC 9111 5.2.1.1, 5.2.1.3, 5.2.1.4: what a client refuses although it is fresh. `facts` carry
/// directives only where the route respects them.
fn client_wants_better(head: &StoredHead, facts: &RequestFacts, age: u64, remaining: i64) -> Option<Reason> {
    let directives = &facts.directives;
    if directives.no_cache {
        return Some(Reason::RequestWantsValidation);
    }
    if let Some(limit) = directives.max_age.map(DeltaSeconds::millis) {
        // A reload. An immutable response is what it was (RFC 8246 2).
        if limit == 0 && !(head.traits.has(Traits::IMMUTABLE) && remaining > 0) {
            return Some(Reason::ClientReload);
        }
        if limit > 0 && age > limit {
            return Some(Reason::RequestWantsFresher);
        }
    }
    match directives.min_fresh.map(DeltaSeconds::millis) {
        Some(least) if least > 0 && remaining < signed(least) => Some(Reason::RequestWantsFresher),
        _ => None,
    }
}

/// RFC 9111 5.2.1.2; never against the origin's prohibition (4.2.4).
fn client_takes_stale(head: &StoredHead, facts: &RequestFacts, staleness: u64) -> bool {
    let accepted = match facts.directives.max_stale {
        None => return false,
        Some(MaxStale::Any) => u64::MAX,
        Some(MaxStale::Within(limit)) => limit.millis(),
    };
    staleness <= accepted && !head.traits.has(Traits::MUST_REVALIDATE)
}

fn may_stand_in(
    head: &StoredHead,
    facts: &RequestFacts,
    policy: &Policy,
    now: UnixMillis,
    window: u64,
) -> bool {
    if unusable(head, facts, policy).is_some() || head.traits.has(Traits::NO_CACHE) {
        return false;
    }
    let remaining = head.remaining(now);
    remaining > 0 || within(remaining.unsigned_abs(), window)
}

const fn within(staleness: u64, window: u64) -> bool {
    window > 0 && staleness <= window
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caching::stored::Part;
    use crate::caching::testing::{Lines, NOW, facts, head, respecting_clients};

    fn plain(policy: &Policy) -> RequestFacts {
        facts("GET", &[], policy)
    }

    fn with(traits: Traits) -> StoredHead {
        StoredHead { traits: head().traits.with(traits), ..head() }
    }

    #[test]
    fn rfc_9111_4_2_fresh_is_lifetime_above_age() {
        let policy = Policy::default();
        let rows = [(0, Reuse::Fresh), (59_999, Reuse::Fresh), (60_000, Reuse::Validate(Reason::Stale))];
        for (after, expected) in rows {
            assert_eq!(judge(&head(), &plain(&policy), &policy, NOW.plus(after)), expected, "{after}");
        }
        // A clock that steps back makes nothing younger than it arrived.
        let before = UnixMillis(0);
        assert_eq!(
            judge(&StoredHead { initial_age: 60_000, ..head() }, &plain(&policy), &policy, before),
            Reuse::Validate(Reason::Stale)
        );
    }

    #[test]
    fn rfc_5861_3_and_4_windows() {
        let policy = Policy::default();
        let windowed = StoredHead { stale_while_revalidate: 5_000, stale_if_error: 9_000, ..head() };
        // Only `s-maxage` leaves windows beside it, and only those of the origin itself.
        let shared = StoredHead { traits: Traits::MUST_REVALIDATE, ..windowed.clone() };
        let strict = with(Traits::MUST_REVALIDATE);
        let always = StoredHead { traits: Traits::NO_CACHE, ..windowed.clone() };
        let stale = Reuse::Validate(Reason::Stale);
        // (head, ms past freshness) -> verdict, on error, on time-out
        let rows = [
            (&windowed, 0, Reuse::StaleWhileRevalidate, true, true),
            (&windowed, 5_000, Reuse::StaleWhileRevalidate, true, true),
            (&windowed, 5_001, stale, true, true),
            (&windowed, 9_000, stale, true, true),
            (&windowed, 9_001, stale, false, false),
            (&head(), 0, stale, false, false),
            (&shared, 5_000, Reuse::StaleWhileRevalidate, true, true),
            (&shared, 9_001, stale, false, false),
            (&strict, 1, stale, false, false),
            (&always, 1, Reuse::Validate(Reason::MustValidate), false, false),
        ];
        for (head, past, verdict, on_error, on_timeout) in rows {
            let now = NOW.plus(60_000 + past);
            let request = plain(&policy);
            assert_eq!(judge(head, &request, &policy, now), verdict, "{past}");
            assert_eq!(stale_if_error(head, &request, &policy, now), on_error, "{past}");
            assert_eq!(stale_on_timeout(head, &request, &policy, now), on_timeout, "{past}");
        }
        assert!(stale_if_error(&head(), &plain(&policy), &policy, NOW), "an early renewal that failed");
    }

    #[test]
    fn rfc_9111_5_2_2_4_no_cache_is_validated_however_fresh() {
        let policy = Policy::default();
        let verdict = judge(&with(Traits::NO_CACHE), &plain(&policy), &policy, NOW);
        assert_eq!(verdict, Reuse::Validate(Reason::MustValidate));
    }

    #[test]
    fn who_may_be_given_it() {
        let guard = Policy::default();
        let ignore = Policy { cookies: CookiePolicy::Ignore, ..Policy::default() };
        let route = StoredHead { traits: Traits::default(), ..head() };
        let part = StoredHead { part: Some(Part { first: 0, last: 1, complete: 9 }), ..head() };
        let public = with(Traits::SHARED_WITH_AUTHORIZATION);
        let bodyless = with(Traits::HEAD_ONLY);
        let cookie: Lines<'_> = &[("cookie", "a=1")];
        let authorization: Lines<'_> = &[("authorization", "x")];
        let range: Lines<'_> = &[("range", "bytes=0-1")];
        type Row<'a> = (&'a StoredHead, &'a str, Lines<'a>, &'a Policy, Option<Reason>);
        let plain_head = head();
        let rows: &[Row<'_>] = &[
            (&plain_head, "HEAD", &[], &guard, None),
            (&plain_head, "GET", cookie, &guard, None),
            (&route, "GET", cookie, &guard, Some(Reason::CookieGuard)),
            (&route, "GET", cookie, &ignore, None),
            (&plain_head, "GET", authorization, &guard, Some(Reason::AuthorizationNotShared)),
            (&public, "GET", authorization, &guard, None),
            (&bodyless, "GET", &[], &guard, Some(Reason::PartMissing)),
            (&bodyless, "HEAD", &[], &guard, None),
            (&part, "GET", &[], &guard, Some(Reason::PartMissing)),
            (&part, "HEAD", range, &guard, Some(Reason::PartMissing)),
            (&part, "GET", range, &guard, None),
        ];
        for (head, method, lines, policy, reason) in rows {
            let request = facts(method, lines, policy);
            let expected = reason.map_or(Reuse::Fresh, Reuse::Unusable);
            assert_eq!(judge(head, &request, policy, NOW), expected, "{method} {lines:?}");
            let stale = StoredHead { stale_if_error: 9_000, ..(*head).clone() };
            let on_error = stale_if_error(&stale, &request, policy, NOW.plus(61_000));
            assert_eq!(on_error, reason.is_none(), "{method} {lines:?}");
        }
    }

    #[test]
    fn rfc_9111_5_2_1_request_directives() {
        let respect = respecting_clients();
        let wants = |reason| Reuse::Validate(reason);
        // (directives, ms of age, verdict)
        let rows = [
            ("no-cache", 0, wants(Reason::RequestWantsValidation)),
            ("max-age=0", 0, wants(Reason::ClientReload)),
            ("max-age=10", 10_000, Reuse::Fresh),
            ("max-age=10", 10_001, wants(Reason::RequestWantsFresher)),
            ("min-fresh=10", 50_000, Reuse::Fresh),
            ("min-fresh=10", 50_001, wants(Reason::RequestWantsFresher)),
            ("min-fresh=0", 59_999, Reuse::Fresh),
            ("max-stale", 9_000_000, Reuse::StaleWhileRevalidate),
            ("max-stale=5", 65_000, Reuse::StaleWhileRevalidate),
            ("max-stale=5", 65_001, wants(Reason::Stale)),
            ("max-stale=5", 1_000, Reuse::Fresh),
            ("only-if-cached", 1_000, Reuse::Fresh),
        ];
        for (value, age, expected) in rows {
            let lines = [("cache-control", value)];
            let now = NOW.plus(age);
            assert_eq!(
                judge(&head(), &facts("GET", &lines, &respect), &respect, now),
                expected,
                "{value} {age}"
            );
            let ignore = Policy::default();
            let ignored = if age < 60_000 { Reuse::Fresh } else { wants(Reason::Stale) };
            assert_eq!(
                judge(&head(), &facts("GET", &lines, &ignore), &ignore, now),
                ignored,
                "{value} {age}"
            );
        }
        let strict = with(Traits::MUST_REVALIDATE);
        let max_stale = facts("GET", &[("cache-control", "max-stale")], &respect);
        assert_eq!(judge(&strict, &max_stale, &respect, NOW.plus(60_000)), wants(Reason::Stale));
        let on_error = facts("GET", &[("cache-control", "stale-if-error=5")], &respect);
        assert!(stale_if_error(&head(), &on_error, &respect, NOW.plus(65_000)));
        assert!(!stale_if_error(&head(), &on_error, &respect, NOW.plus(65_001)));
        assert!(!stale_if_error(&strict, &on_error, &respect, NOW.plus(61_000)));
    }

    #[test]
    fn rfc_8246_2_a_reload_of_something_immutable() {
        let respect = respecting_clients();
        let immutable = with(Traits::IMMUTABLE);
        let reload = facts("GET", &[("cache-control", "max-age=0")], &respect);
        let forced = facts("GET", &[("cache-control", "no-cache")], &respect);
        assert_eq!(judge(&immutable, &reload, &respect, NOW), Reuse::Fresh);
        assert_eq!(
            judge(&immutable, &reload, &respect, NOW.plus(60_000)),
            Reuse::Validate(Reason::ClientReload)
        );
        assert_eq!(
            judge(&immutable, &forced, &respect, NOW),
            Reuse::Validate(Reason::RequestWantsValidation)
        );
    }

    #[test]
    fn what_is_withdrawn_is_stale_from_then_on() {
        let policy = Policy::default();
        let windowed = StoredHead { stale_while_revalidate: 5_000, ..head() };
        let withdrawn = Withdrawn { since: NOW.plus(10_000), reason: Reason::Purged };
        let verdict =
            |head, after| judge_withdrawn(head, &plain(&policy), &policy, withdrawn, NOW.plus(after));
        assert_eq!(verdict(&windowed, 10_000), Reuse::StaleWhileRevalidate);
        assert_eq!(verdict(&windowed, 15_000), Reuse::StaleWhileRevalidate);
        assert_eq!(verdict(&windowed, 15_001), Reuse::Validate(Reason::Purged));
        assert_eq!(verdict(&head(), 10_000), Reuse::Validate(Reason::Purged));
    }

    #[test]
    fn early_refresh_begins_before_expiry_never_after() {
        let policy = Policy::default();
        let dear = StoredHead { cost: 1_000, ..head() };
        let at = |left: u64| NOW.plus(60_000 - left);
        assert!(!refresh_early(&dear, &policy, at(60_000), 0.5));
        assert!(refresh_early(&dear, &policy, at(600), 0.5), "1 s * ln 2 = 693 ms");
        assert!(!refresh_early(&dear, &policy, at(700), 0.5));
        assert!(!refresh_early(&dear, &policy, at(1), 1.0));
        assert!(!refresh_early(&dear, &policy, NOW.plus(60_000), 1e-9), "stale");
        assert!(!refresh_early(&head(), &policy, at(1), 1e-9), "it costs nothing");
        let off = Policy { early_refresh: 0.0, ..Policy::default() };
        assert!(!refresh_early(&dear, &off, at(1), 1e-9));
    }

    proptest! {
        #[test]
        fn nothing_is_served_past_every_window(
            lifetime in 0u64..100_000, swr in 0u64..10_000, sie in 0u64..10_000, initial_age in 0u64..200_000, after in 0u64..400_000, bits in 0u32..256,
        ) {
            let policy = Policy::default();
            let head = StoredHead { lifetime, stale_while_revalidate: swr, stale_if_error: sie, initial_age, traits: Traits(bits), ..head() };
            let now = NOW.plus(after);
            let age = initial_age + after;
            let request = plain(&policy);
            match judge(&head, &request, &policy, now) {
                Reuse::Fresh => prop_assert!(age < lifetime && !head.traits.has(Traits::NO_CACHE)),
                Reuse::StaleWhileRevalidate => prop_assert!(age <= lifetime + swr),
                Reuse::Validate(_) | Reuse::Unusable(_) => {}
            }
            if stale_if_error(&head, &request, &policy, now) {
                prop_assert!(age < lifetime || age <= lifetime + sie);
            }
        }
    }
}
