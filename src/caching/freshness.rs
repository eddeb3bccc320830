//! Freshness (RFC 9111 4.2): how long a response may be used, and on whose word.
//!
//! Decides: which directives apply ([`Word`]), the freshness lifetime and where it comes from, the
//! route's bounds on it. Never touches: age (`age`), whether the response may be stored at all
//! (`storability`).
//!
//! Precedence: a targeted field (RFC 9213), which replaces `Cache-Control` and `Expires` altogether;
//! `s-maxage`; `max-age`; `Expires - Date`; the route's `ttl_by_status`, then `ttl`; the heuristic.
//! What is stated and cannot be read is a lifetime of zero (RFC 9111 4.2.1), not nothing.

use http::header::{EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::cache_control::{DeltaSeconds, ResponseDirectives};
use super::outcome::Reason;
use super::policy::{OriginCacheControl, Policy};
use super::targeted::{self, Governing};
use crate::semantics::{UnixMillis, http_date};

/// RFC 9111 4.2.2 suggests a tenth of the time since modification; never more than this.
const HEURISTIC_MOST: u64 = 24 * 3_600_000;

/// The directives that apply to a response here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Of the targeted field where there is one, otherwise of `Cache-Control`.
    pub directives: ResponseDirectives,
    /// They are a targeted field's: `Cache-Control` and `Expires` say nothing (RFC 9213 2.2).
    pub targeted: bool,
}

impl Word {
    /// Reads a response's directives, once.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let (field, directives) = targeted::governing(headers);
        Self { directives, targeted: matches!(field, Governing::Targeted(_)) }
    }
}

/// Where a freshness lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `s-maxage` or `max-age` of a targeted field (RFC 9213).
    Targeted,
    /// `s-maxage` (RFC 9111 5.2.2.10).
    SMaxage,
    /// `max-age` (RFC 9111 5.2.2.1).
    MaxAge,
    /// `Expires - Date` (RFC 9111 5.3).
    Expires,
    /// The route's `ttl`.
    RouteTtl,
    /// The route's `ttl_by_status`.
    StatusTtl,
    /// A tenth of the time since `Last-Modified` (RFC 9111 4.2.2).
    Heuristic,
}

impl Source {
    /// Whether the origin stated it (RFC 9111 4.2.1), and not the route or a guess.
    #[must_use]
    pub const fn is_explicit(self) -> bool {
        match self {
            Self::Targeted | Self::SMaxage | Self::MaxAge | Self::Expires => true,
            Self::RouteTtl | Self::StatusTtl | Self::Heuristic => false,
        }
    }
}

/// A freshness lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Milliseconds, `min_ttl` and `max_ttl` applied.
    pub lifetime: u64,
    /// Whose word it is.
    pub source: Source,
    /// The origin itself stated freshness that a shared cache may use, whether or not the route
    /// overrides it: no `no-store`, no `private`, a lifetime above zero.
    pub explicit_of_origin: bool,
}

/// The freshness lifetime of a final response; `date` is its `date_value` (RFC 9111 4.2.3).
///
/// # Errors
///
/// [`Reason::NoFreshness`] when nobody states any, and [`Reason::StatusNotCacheable`] when the route
/// does but the status is not cacheable by heuristics (RFC 9110 15.1).
pub fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    word: &Word,
    date: UnixMillis,
    policy: &Policy,
) -> Result<Freshness, Reason> {
    let stated = stated(headers, word, date);
    let forbidden = word.directives.no_store && !ignores_no_store(word, status) || word.directives.private;
    let explicit_of_origin = !forbidden && stated.is_some_and(|(lifetime, _)| lifetime > 0);
    let route = by_route(status, policy);
    let (lifetime, source) = match (policy.origin_cache_control, stated, route) {
        (OriginCacheControl::Override, _, Some(route)) => route,
        (_, Some(stated), _) => stated,
        (_, None, Some(route)) => route,
        (_, None, None) => match heuristic(status, headers, word, date, policy) {
            Some(lifetime) => (lifetime, Source::Heuristic),
            None if policy.ttl.is_some() && !is_heuristically_cacheable(status) => {
                return Err(Reason::StatusNotCacheable);
            }
            None => return Err(Reason::NoFreshness),
        },
    };
    Ok(Freshness { lifetime: lifetime.max(policy.min_ttl).min(policy.max_ttl), source, explicit_of_origin })
}

/// Whether the route's `ttl` replaces the origin's word for this status.
#[must_use]
pub fn is_overridden(status: StatusCode, policy: &Policy) -> bool {
    policy.origin_cache_control == OriginCacheControl::Override && by_route(status, policy).is_some()
}

/// Statuses that are cacheable without explicit freshness (RFC 9110 15.1).
#[must_use]
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Statuses whose caching requirements are understood here: those RFC 9110 15 defines. What
/// `must-understand` asks (RFC 9111 5.2.2.3).
#[must_use]
pub fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=206 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

/// RFC 9111 5.2.2.3: a cache that implements `must-understand` ignores the `no-store` beside it
/// when it understands the status.
#[must_use]
pub fn ignores_no_store(word: &Word, status: StatusCode) -> bool {
    word.directives.must_understand && is_understood(status)
}

/// RFC 9111 4.2.1, in its order.
fn stated(headers: &HeaderMap, word: &Word, date: UnixMillis) -> Option<(u64, Source)> {
    let directives = &word.directives;
    let source = |own| if word.targeted { Source::Targeted } else { own };
    if let Some(s_maxage) = directives.s_maxage {
        return Some((s_maxage.millis(), source(Source::SMaxage)));
    }
    if let Some(max_age) = directives.max_age {
        return Some((max_age.millis(), source(Source::MaxAge)));
    }
    if word.targeted {
        return None;
    }
    // Several lines: the earliest; one that is no HTTP-date lies in the past (RFC 9111 5.3).
    let expires = headers
        .get_all(EXPIRES)
        .iter()
        .map(|line| http_date::parse_value(line, date).map_or(0, |expires| expires.since(date)));
    let most = DeltaSeconds::Seconds(DeltaSeconds::MAX).millis();
    expires.min().map(|lifetime| (lifetime.min(most), Source::Expires))
}

fn by_route(status: StatusCode, policy: &Policy) -> Option<(u64, Source)> {
    let code = status.as_u16();
    let by_status = policy.ttl_by_status.iter().find(|(listed, _)| *listed == code);
    match by_status {
        Some((_, ttl)) => Some((*ttl, Source::StatusTtl)),
        None => policy.ttl.filter(|_| is_heuristically_cacheable(status)).map(|ttl| (ttl, Source::RouteTtl)),
    }
}

/// RFC 9111 4.2.2: for statuses that allow it, and for what the origin marked `public`.
fn heuristic(
    status: StatusCode,
    headers: &HeaderMap,
    word: &Word,
    date: UnixMillis,
    policy: &Policy,
) -> Option<u64> {
    if !policy.heuristic || !(is_heuristically_cacheable(status) || word.directives.public) {
        return None;
    }
    let modified = headers.get_all(LAST_MODIFIED).iter();
    let modified = modified.filter_map(|line| http_date::parse_value(line, date)).max()?;
    Some((date.since(modified) / 10).min(HEURISTIC_MOST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::caching::testing::map;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const DATE: UnixMillis = UnixMillis(784_111_777_000);
    const HOUR_LATER: &str = "Sun, 06 Nov 1994 09:49:37 GMT";
    const HOUR: u64 = 3_600_000;

    fn judged(status: u16, lines: &[(&str, &str)], policy: &Policy) -> Result<(u64, Source), Reason> {
        let headers = map(lines);
        let status = StatusCode::from_u16(status).unwrap();
        lifetime(status, &headers, &Word::of(&headers), DATE, policy).map(|f| (f.lifetime, f.source))
    }

    #[test]
    fn rfc_9111_4_2_1_and_rfc_9213_2_2_precedence() {
        let policy = Policy { ttl: Some(7_000), ..Policy::default() };
        let cc = |value| ("cache-control", value);
        let rows: &[(&[(&str, &str)], u64, Source)] = &[
            (&[("cdn-cache-control", "max-age=1"), cc("s-maxage=2, max-age=3")], 1_000, Source::Targeted),
            (
                &[("forebay-cache-control", "max-age=9"), ("cdn-cache-control", "max-age=1")],
                9_000,
                Source::Targeted,
            ),
            (&[("cdn-cache-control", "max-age=\""), cc("s-maxage=2")], 2_000, Source::SMaxage),
            (
                &[("cdn-cache-control", "public"), cc("max-age=2"), ("expires", HOUR_LATER)],
                7_000,
                Source::RouteTtl,
            ),
            (&[cc("s-maxage=2, max-age=3"), ("expires", HOUR_LATER)], 2_000, Source::SMaxage),
            (&[cc("max-age=3"), ("expires", HOUR_LATER)], 3_000, Source::MaxAge),
            (&[cc("public"), ("expires", HOUR_LATER)], HOUR, Source::Expires),
            (&[cc("max-age=x"), ("expires", HOUR_LATER)], 0, Source::MaxAge),
            (&[cc("max-age=3, max-age=2")], 2_000, Source::MaxAge),
            (&[("expires", HOUR_LATER), ("expires", "0")], 0, Source::Expires),
            (&[("expires", "0")], 0, Source::Expires),
            (&[("expires", "Sun, 06 Nov 1994 08:49:36 GMT")], 0, Source::Expires),
            (&[], 7_000, Source::RouteTtl),
        ];
        for (lines, lifetime, source) in rows {
            assert_eq!(judged(200, lines, &policy), Ok((*lifetime, *source)), "{lines:?}");
        }
        assert_eq!(judged(200, &[], &Policy::default()), Err(Reason::NoFreshness));
    }

    #[test]
    fn rfc_9110_15_1_where_the_routes_ttl_applies() {
        let policy =
            Policy { ttl: Some(7_000), ttl_by_status: vec![(404, 1_000), (503, 2_000)], ..Policy::default() };
        let rows = [
            (200, Ok((7_000, Source::RouteTtl))),
            (404, Ok((1_000, Source::StatusTtl))),
            (410, Ok((7_000, Source::RouteTtl))),
            (503, Ok((2_000, Source::StatusTtl))),
            (302, Err(Reason::StatusNotCacheable)),
            (500, Err(Reason::StatusNotCacheable)),
            (599, Err(Reason::StatusNotCacheable)),
        ];
        for (status, expected) in rows {
            assert_eq!(judged(status, &[], &policy), expected, "{status}");
            let explicit = judged(status, &[("cache-control", "max-age=5")], &policy);
            assert_eq!(explicit, Ok((5_000, Source::MaxAge)), "{status}");
        }
    }

    #[test]
    fn rfc_9111_4_2_2_heuristic() {
        let on = Policy { heuristic: true, ..Policy::default() };
        let modified = ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT");
        assert_eq!(judged(200, &[modified], &Policy::default()), Err(Reason::NoFreshness));
        assert_eq!(judged(200, &[modified], &on), Ok((HOUR / 10, Source::Heuristic)));
        assert_eq!(
            judged(200, &[("last-modified", "Wed, 06 Nov 1974 07:49:37 GMT")], &on),
            Ok((HEURISTIC_MOST, Source::Heuristic))
        );
        assert_eq!(judged(200, &[("last-modified", HOUR_LATER)], &on), Ok((0, Source::Heuristic)));
        assert_eq!(judged(200, &[modified, ("expires", "0")], &on), Ok((0, Source::Expires)));
        assert_eq!(judged(500, &[modified], &on), Err(Reason::NoFreshness));
        assert_eq!(
            judged(599, &[modified, ("cache-control", "public")], &on),
            Ok((HOUR / 10, Source::Heuristic))
        );
        assert_eq!(judged(200, &[("last-modified", "soon")], &on), Err(Reason::NoFreshness));
    }

    #[test]
    fn route_bounds_and_override() {
        let bounds = Policy { min_ttl: 10_000, max_ttl: 20_000, ..Policy::default() };
        for (stated, bounded) in [("max-age=1", 10_000), ("max-age=15", 15_000), ("max-age=60", 20_000)] {
            assert_eq!(judged(200, &[("cache-control", stated)], &bounds).map(|f| f.0), Ok(bounded));
        }
        assert_eq!(judged(200, &[], &bounds), Err(Reason::NoFreshness), "min_ttl is no ttl");
        let over = Policy {
            ttl: Some(7_000),
            origin_cache_control: OriginCacheControl::Override,
            ..Policy::default()
        };
        assert_eq!(judged(200, &[("cache-control", "max-age=60")], &over), Ok((7_000, Source::RouteTtl)));
        assert_eq!(judged(500, &[("cache-control", "max-age=60")], &over), Ok((60_000, Source::MaxAge)));
    }

    #[test]
    fn explicit_of_origin_is_what_the_origin_said_whatever_the_route_says() {
        let over = Policy {
            ttl: Some(7_000),
            origin_cache_control: OriginCacheControl::Override,
            ..Policy::default()
        };
        let rows = [
            ("max-age=60", true),
            ("max-age=0", false),
            ("no-store, max-age=60", false),
            ("private, max-age=60", false),
            ("public", false),
            ("must-understand, no-store, max-age=60", true),
        ];
        for (value, expected) in rows {
            let headers = map(&[("cache-control", value)]);
            let found = lifetime(StatusCode::OK, &headers, &Word::of(&headers), DATE, &over);
            assert_eq!(found.map(|f| f.explicit_of_origin), Ok(expected), "{value}");
        }
    }

    proptest! {
        #[test]
        fn freshness_never_exceeds_what_any_directive_allows(
            s_maxage in prop::option::of(0u32..10_000),
            max_ages in prop::collection::vec(0u32..10_000, 0..3),
            expires in prop::option::of(0u64..10_000),
        ) {
            let mut value: Vec<String> = max_ages.iter().map(|s| format!("max-age={s}")).collect();
            value.extend(s_maxage.map(|s| format!("S-MaxAge=\"{s}\"")));
            let mut headers = HeaderMap::new();
            headers.insert("cache-control", HeaderValue::from_str(&value.join(", ")).unwrap());
            if let Some(expires) = expires {
                headers.insert(EXPIRES, http_date::format(DATE.plus(expires * 1000)));
            }
            let found = lifetime(StatusCode::OK, &headers, &Word::of(&headers), DATE, &Policy::default());
            let strongest = s_maxage.or(max_ages.iter().min().copied()).map(u64::from).or(expires);
            prop_assert_eq!(found.ok().map(|f| f.lifetime), strongest.map(|s| s * 1000));
        }
    }
}
