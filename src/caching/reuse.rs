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

/// Judges one that was soft-purged at `purged`: stale from then on, whatever its lifetime; its stale
/// windows count from there.
#[must_use]
pub fn judge_soft_purged(
    head: &StoredHead,
    facts: &RequestFacts,
    policy: &Policy,
    purged: UnixMillis,
    now: UnixMillis,
) -> Reuse {
    let remaining = head.remaining(now).min(-signed(now.since(purged)));
    match judge_with(head, facts, policy, head.current_age(now), remaining) {
        Reuse::Validate(Reason::Stale) => Reuse::Validate(Reason::Purged),
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
    if within(staleness, head.stale_while_revalidate) && !head.traits.has(Traits::MUST_REVALIDATE)
        || client_takes_stale(head, facts, staleness)
    {
        return Reuse::StaleWhileRevalidate;
    }
    Reuse::Validate(Reason::Stale)
}

/// Whether a stale response may answer because the origin failed: connecting, TLS, time-outs, reset,
/// 500, 502, 503, 504 (RFC 5861 4, RFC 9111 4.2.4).
///
/// `stale-if-error` of the origin or the route, or of the client where that is respected. Never
/// against `no-cache`, `must-revalidate`, `proxy-revalidate` or `s-maxage`. True as well while it is
/// still fresh, for an early renewal that failed.
#[must_use]
pub fn stale_if_error(head: &StoredHead, facts: &RequestFacts, policy: &Policy, now: UnixMillis) -> bool {
    let asked = facts.directives.stale_if_error.map_or(0, DeltaSeconds::millis);
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
        Some(Reason::HeadOnly)
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

fn may_stand_in(head: &StoredHead, facts: &RequestFacts, policy: &Policy, now: UnixMillis, window: u64) -> bool {
    if unusable(head, facts, policy).is_some() || head.traits.has(Traits::NO_CACHE) {
        return false;
    }
    let remaining = head.remaining(now);
    remaining > 0
        || (within(remaining.unsigned_abs(), window) && !head.traits.has(Traits::MUST_REVALIDATE))
}

const fn within(staleness: u64, window: u64) -> bool {
    window > 0 && staleness <= window
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
