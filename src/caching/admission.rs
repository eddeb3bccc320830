//! Admission: whether a request is looked up in the cache at all.
//!
//! Decides: what a request says that caching depends on ([`RequestFacts`], read in one pass over its
//! fields), and whether it is looked up or only forwarded ([`admit`]). Never touches: stored
//! responses, keys, time.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    PRAGMA, RANGE,
};
use http::{HeaderMap, Method};

use super::cache_control::RequestDirectives;
use super::outcome::Reason;
use super::policy::{ClientCacheControl, CookiePolicy, Policy};
use super::url;

/// The methods caching tells apart. Methods are case-sensitive (RFC 9110 9.1): `get` is [`Other`].
///
/// [`Other`]: MethodClass::Other
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MethodClass {
    /// GET: looked up and stored.
    #[default]
    Get,
    /// HEAD: answered from a stored GET, stored for HEAD alone.
    Head,
    /// Everything else: forwarded; unsafe ones invalidate (RFC 9111 4.4).
    Other,
}

impl MethodClass {
    /// The class of a method.
    #[must_use]
    pub const fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            _ => Self::Other,
        }
    }
}

/// What the verdicts need to know of a request; made once, copied freely, no allocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestFacts {
    /// Which method class it is.
    pub method: MethodClass,
    /// It carries `Authorization` (RFC 9111 3.5).
    pub has_authorization: bool,
    /// It carries `Cookie`.
    pub has_cookie: bool,
    /// It carries a precondition (RFC 9110 13.1); not `If-Range`, which says nothing without `Range`.
    pub conditional: bool,
    /// It carries `Range` (RFC 9110 14.2).
    pub range: bool,
    /// Its cache directives, where the route respects them; otherwise none. A `Pragma: no-cache`
    /// without any `Cache-Control` counts as `no-cache` (RFC 9111 5.4).
    pub directives: RequestDirectives,
}

impl RequestFacts {
    /// Reads a request's fields once.
    #[must_use]
    pub fn read(method: &Method, headers: &HeaderMap, policy: &Policy) -> Self {
        let mut facts = Self { method: MethodClass::of(method), ..Self::default() };
        let mut directives = false;
        for name in headers.keys() {
            if *name == COOKIE {
                facts.has_cookie = true;
            } else if *name == AUTHORIZATION {
                facts.has_authorization = true;
            } else if *name == CACHE_CONTROL || *name == PRAGMA {
                directives = true;
            } else if *name == RANGE {
                facts.range = true;
            } else if *name == IF_NONE_MATCH
                || *name == IF_MODIFIED_SINCE
                || *name == IF_MATCH
                || *name == IF_UNMODIFIED_SINCE
            {
                facts.conditional = true;
            }
        }
        if directives && policy.client_cache_control == ClientCacheControl::Respect {
            facts.directives = RequestDirectives::parse(headers);
        }
        facts
    }

    /// Which requests may lead a fetch for which others: 0 for those whose own answer can be shared.
    /// Requests with credentials, or with cookies under the guard, get answers that the rules may keep
    /// from everybody else (RFC 9111 3.5, 7.3), and must not make the others wait for that verdict.
    #[must_use]
    pub fn sharing_class(&self, policy: &Policy) -> u64 {
        let guarded = self.has_cookie && policy.cookies == CookiePolicy::Guard;
        u64::from(guarded) << 1 | u64::from(self.has_authorization)
    }

    /// Whether the client takes a stored answer or none: where this is true and reuse fails, the
    /// answer is 504 (RFC 9111 5.2.1.7) with [`Reason::OnlyIfCached`], and nothing is forwarded.
    #[must_use]
    pub const fn only_if_cached(&self) -> bool {
        self.directives.only_if_cached
    }
}

/// Whether a request is looked up.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Look it up; on a miss its response may be stored.
    Lookup(RequestFacts),
    /// Forward it, look nothing up, store nothing. (An unsafe method invalidates afterwards; a POST
    /// whose answer describes its own target may still be judged, see `storability`.)
    Forward(Reason, RequestFacts),
}

impl Admission {
    /// The facts, whatever the verdict.
    #[must_use]
    pub const fn facts(&self) -> &RequestFacts {
        match self {
            Self::Lookup(facts) | Self::Forward(_, facts) => facts,
        }
    }
}

/// Judges a request before anything is looked up.
///
/// `path`: as it came. `has_body`: the message carries content or announces it. `upgrade`: it asks to leave
/// HTTP.
#[must_use]
pub fn admit(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    has_body: bool,
    upgrade: bool,
    policy: &Policy,
) -> Admission {
    let facts = RequestFacts::read(method, headers, policy);
    match refusal(&facts, path, has_body, upgrade, policy) {
        Some(reason) => Admission::Forward(reason, facts),
        None => Admission::Lookup(facts),
    }
}

fn refusal(
    facts: &RequestFacts,
    path: &str,
    has_body: bool,
    upgrade: bool,
    policy: &Policy,
) -> Option<Reason> {
    if !policy.cache {
        Some(Reason::RouteNotCached)
    } else if facts.method == MethodClass::Other {
        Some(Reason::MethodNotCacheable)
    } else if upgrade {
        Some(Reason::RequestUpgrade)
    } else if has_body {
        // The key does not cover the content, and an origin may well read it.
        Some(Reason::RequestHasBody)
    } else if url::has_dot_segments(path) {
        // The route goes by the bytes, and many origins by what is left when the segments are removed: it may
        // be another's resource.
        Some(Reason::DotSegments)
    } else if facts.has_cookie && policy.cookies == CookiePolicy::Bypass {
        Some(Reason::CookieBypass)
    } else if facts.directives.no_store {
        Some(Reason::RequestNoStore)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::testing::map;

    fn verdict(
        method: &str,
        lines: &[(&str, &str)],
        body: bool,
        upgrade: bool,
        policy: &Policy,
    ) -> Option<Reason> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match admit(&method, "/a", &map(lines), body, upgrade, policy) {
            Admission::Lookup(_) => None,
            Admission::Forward(reason, _) => Some(reason),
        }
    }

    #[test]
    fn rfc_9111_3_and_4_which_requests_are_looked_up() {
        let cached = Policy::default();
        let bypass = Policy { cookies: CookiePolicy::Bypass, ..Policy::default() };
        let off = Policy { cache: false, ..Policy::default() };
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], bool, bool, &'a Policy, Option<Reason>);
        let rows: &[Row<'_>] = &[
            ("GET", &[], false, false, &cached, None),
            ("HEAD", &[], false, false, &cached, None),
            ("get", &[], false, false, &cached, Some(Reason::MethodNotCacheable)),
            ("POST", &[], true, false, &cached, Some(Reason::MethodNotCacheable)),
            ("OPTIONS", &[], false, false, &cached, Some(Reason::MethodNotCacheable)),
            ("M-SEARCH", &[], false, false, &cached, Some(Reason::MethodNotCacheable)),
            ("GET", &[], true, false, &cached, Some(Reason::RequestHasBody)),
            ("GET", &[], false, true, &cached, Some(Reason::RequestUpgrade)),
            ("GET", &[("cookie", "a=1")], false, false, &cached, None),
            ("GET", &[("cookie", "a=1")], false, false, &bypass, Some(Reason::CookieBypass)),
            ("GET", &[], false, false, &off, Some(Reason::RouteNotCached)),
            ("POST", &[], true, true, &off, Some(Reason::RouteNotCached)),
        ];
        for (method, lines, body, upgrade, policy, expected) in rows {
            assert_eq!(verdict(method, lines, *body, *upgrade, policy), *expected, "{method} {lines:?}");
        }
    }

    #[test]
    fn rfc_3986_5_2_4_what_may_lead_elsewhere_is_not_looked_up() {
        let (get, policy) = (Method::GET, Policy::default());
        let off = Policy { cache: false, ..Policy::default() };
        let verdict = |method: &Method, path, policy: &Policy| {
            admit(method, path, &HeaderMap::new(), false, false, policy)
        };
        assert!(matches!(verdict(&get, "/a/b.png", &policy), Admission::Lookup(_)));
        for (method, path, policy, expected) in [
            (&get, "/a/../b", &policy, Reason::DotSegments),
            (&Method::HEAD, "/a/%2E%2e%2Fb", &policy, Reason::DotSegments),
            (&get, "/a/../b", &off, Reason::RouteNotCached),
            (&Method::DELETE, "/a/../b", &policy, Reason::MethodNotCacheable),
        ] {
            let forwarded =
                matches!(verdict(method, path, policy), Admission::Forward(reason, _) if reason == expected);
            assert!(forwarded, "{method} {path}");
        }
    }

    #[test]
    fn rfc_9111_5_2_1_request_directives_count_only_where_respected() {
        let ignore = Policy::default();
        let respect = Policy { client_cache_control: ClientCacheControl::Respect, ..Policy::default() };
        let no_store = [("cache-control", "no-store, only-if-cached")];
        assert_eq!(verdict("GET", &no_store, false, false, &ignore), None);
        assert_eq!(verdict("GET", &no_store, false, false, &respect), Some(Reason::RequestNoStore));
        let facts = RequestFacts::read(&Method::GET, &map(&no_store), &ignore);
        assert_eq!(facts.directives, RequestDirectives::default());
        assert!(RequestFacts::read(&Method::GET, &map(&no_store), &respect).only_if_cached());
    }

    #[test]
    fn rfc_9111_5_4_pragma_counts_without_cache_control_only() {
        let respect = Policy { client_cache_control: ClientCacheControl::Respect, ..Policy::default() };
        let rows: &[(&[(&str, &str)], bool)] = &[
            (&[("pragma", "no-cache")], true),
            (&[("pragma", "x"), ("pragma", "y, No-Cache ")], true),
            (&[("pragma", "no-cached")], false),
            (&[("pragma", "no-cache"), ("cache-control", "max-age=5")], false),
        ];
        for (lines, expected) in rows {
            let facts = RequestFacts::read(&Method::GET, &map(lines), &respect);
            assert_eq!(facts.directives.no_cache, *expected, "{lines:?}");
        }
    }

    #[test]
    fn facts_are_read_in_one_pass() {
        let lines = [("authorization", "x"), ("cookie", "x"), ("range", "bytes=0-1"), ("if-none-match", "*")];
        let facts = RequestFacts::read(&Method::HEAD, &map(&lines), &Policy::default());
        assert_eq!(facts.method, MethodClass::Head);
        assert!(facts.has_authorization && facts.has_cookie && facts.range && facts.conditional);
        assert_eq!(
            RequestFacts::read(&Method::GET, &map(&[("if-range", "\"a\"")]), &Policy::default()),
            RequestFacts::default()
        );
    }
}
