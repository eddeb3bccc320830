//! Invalidation (RFC 9111 4.4) and cache groups (RFC 9875): what an unsafe request's success makes
//! suspect.
//!
//! Decides: which targets of the same origin, and which of its groups, are invalidated by a
//! response. Never touches: keys (the caller makes them, by the recipe of the route each target
//! selects), stores, the journal of purges.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

use super::stamp::PurgeId;
use super::tags;
use super::url;

/// The target URI of a request (RFC 9110 7.1), in parts, as forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetUri<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and optional port.
    pub authority: &'a str,
    /// Path and query; begins with `/`.
    pub path_and_query: &'a str,
}

/// What a response to an unsafe request invalidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalidation {
    /// Paths with query, on the scheme and authority of the request; the target itself first, each
    /// once. Empty when nothing is invalidated.
    pub targets: Vec<String>,
    /// The groups of this origin named by `Cache-Group-Invalidation`, as purge ids.
    pub groups: Vec<PurgeId>,
}

/// Bound on the targets one response can invalidate.
const MAX_TARGETS: usize = 8;
/// Bound on a reference that is resolved, in bytes; a longer one is no target anyone can request.
const MAX_REFERENCE: usize = 8 << 10;

/// Judges a final response to any request.
///
/// Only unsafe methods invalidate, those whose safety is unknown included, and only when the
/// response is not an error (2xx, 3xx). `Location` and `Content-Location` count on the same origin
/// alone: an origin has no say over another's responses.
#[must_use]
pub fn targets(
    method: &Method,
    status: StatusCode,
    target: TargetUri<'_>,
    response: &HeaderMap,
) -> Invalidation {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Invalidation::default();
    }
    let mut targets = vec![target.path_and_query.to_owned()];
    if url::has_dot_segments(split_query(target.path_and_query).0) {
        // What many origins take it for (RFC 3986 6.2.2.3).
        targets.push(without_dot_segments(&url::target(target.path_and_query)));
    }
    for value in [LOCATION, CONTENT_LOCATION].iter().flat_map(|name| response.get_all(name)) {
        let resolved = value.to_str().ok().and_then(|reference| resolve(target, reference));
        match resolved {
            Some(resolved) if targets.len() < MAX_TARGETS && !targets.contains(&resolved) => {
                targets.push(resolved);
            }
            _ => {}
        }
    }
    Invalidation { targets, groups: tags::invalidated_groups(response, target) }
}

/// The methods known to be safe: those of RFC 9110 9.2.1, and the registered ones of WebDAV and QUERY.
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY"
    )
}

/// Whether `reference`, resolved against `target`, is `target` itself.
#[must_use]
pub(super) fn is_target(target: TargetUri<'_>, reference: &str) -> bool {
    resolve(target, reference).is_some_and(|resolved| resolved == target.path_and_query)
}

/// RFC 3986 5.2: the path and query of `reference` against `base`; `None` on another origin, in
/// another scheme, or when it could not be a request target.
fn resolve(base: TargetUri<'_>, reference: &str) -> Option<String> {
    let reference = reference.trim_matches([' ', '\t']);
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.len() > MAX_REFERENCE || !reference.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let rest = match scheme(reference) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(base.scheme) && rest.starts_with("//") => rest,
        Some(_) => return None,
        None => reference,
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if !same_authority(base.scheme, base.authority, authority) {
            return None;
        }
        return Some(without_dot_segments(path_and_query));
    }
    if rest.is_empty() {
        return Some(base.path_and_query.to_owned());
    }
    let (base_path, _) = split_query(base.path_and_query);
    Some(match rest.as_bytes().first() {
        Some(b'/') => without_dot_segments(rest),
        Some(b'?') => format!("{base_path}{rest}"),
        _ => {
            let directory = base_path.rfind('/').map_or("/", |at| base_path.get(..=at).unwrap_or("/"));
            without_dot_segments(&format!("{directory}{rest}"))
        }
    })
}

/// Splits off a leading `scheme:` (RFC 3986 3.1).
fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let mut bytes = scheme.bytes();
    let grammatical = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    grammatical.then_some((scheme, rest))
}

/// Case and the scheme's default port do not tell origins apart (RFC 9110 4.2.3); user information
/// is no part of an origin, and no reference of ours has it.
fn same_authority(scheme: &str, one: &str, other: &str) -> bool {
    let default = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |authority| {
        str::strip_suffix(authority, default).or(str::strip_suffix(authority, ":")).unwrap_or(authority)
    };
    bare(one).eq_ignore_ascii_case(bare(other))
}

fn split_query(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}

/// RFC 3986 5.2.4, on the path alone; an empty path becomes `/`.
fn without_dot_segments(path_and_query: &str) -> String {
    let (path, query) = split_query(path_and_query);
    let mut out: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in path.split('/').skip(1) {
        directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                out.pop();
            }
            _ => out.push(segment),
        }
    }
    let mut resolved = String::with_capacity(path_and_query.len() + 1);
    for segment in &out {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if directory || out.is_empty() {
        resolved.push('/');
    }
    resolved.push_str(query);
    resolved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caching::testing::map;

    const BASE: TargetUri<'static> =
        TargetUri { scheme: "http", authority: "a.example", path_and_query: "/b/c/d?q" };

    #[test]
    fn rfc_3986_6_2_2_3_what_a_target_leads_to_is_invalidated_too() {
        for (asked, expected) in [
            ("/x/../b?q=/../", &["/x/../b?q=/../", "/b?q=/../"][..]),
            ("/x/%2e%2E/b", &["/x/%2e%2E/b", "/b"]),
            ("/x/b?q=../", &["/x/b?q=../"]),
        ] {
            let base = TargetUri { path_and_query: asked, ..BASE };
            let found = targets(&Method::POST, StatusCode::OK, base, &map(&[]));
            assert_eq!(found.targets, expected, "{asked}");
        }
    }

    #[test]
    fn rfc_9111_4_4_which_responses_invalidate() {
        let rows = [
            ("POST", 200, true),
            ("PUT", 204, true),
            ("DELETE", 303, true),
            ("M-SEARCH", 200, true),
            ("UNHEARD-OF", 299, true),
            ("get", 200, true),
            ("POST", 404, false),
            ("POST", 500, false),
            ("POST", 103, false),
            ("GET", 200, false),
            ("HEAD", 200, false),
            ("OPTIONS", 200, false),
            ("SEARCH", 200, false),
        ];
        for (method, status, invalidates) in rows {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            let found = targets(&method, status, BASE, &map(&[("location", "/x")]));
            let expected: &[&str] = if invalidates { &["/b/c/d?q", "/x"] } else { &[] };
            assert_eq!(found.targets, expected, "{method} {status}");
        }
    }

    #[test]
    fn rfc_3986_5_4_references() {
        let rows: &[(&str, Option<&str>)] = &[
            ("", Some("/b/c/d?q")),
            ("#f", Some("/b/c/d?q")),
            ("g", Some("/b/c/g")),
            ("./g", Some("/b/c/g")),
            ("g/", Some("/b/c/g/")),
            ("/g", Some("/g")),
            ("?y", Some("/b/c/d?y")),
            ("g?y#s", Some("/b/c/g?y")),
            (".", Some("/b/c/")),
            ("..", Some("/b/")),
            ("../g", Some("/b/g")),
            ("../../../g", Some("/g")),
            ("/./g", Some("/g")),
            ("/g/../h?a=/../b", Some("/h?a=/../b")),
            ("g.", Some("/b/c/g.")),
            ("..g", Some("/b/c/..g")),
            ("//A.EXAMPLE:80/x", Some("/x")),
            ("http://a.example", Some("/")),
            ("HTTP://a.example?z", Some("/?z")),
            ("http://a.example:8080/x", None),
            ("https://a.example/x", None),
            ("http://b.example/x", None),
            ("http://a.example@b.example/x", None),
            ("http://user@a.example/x", None),
            ("http:/x", None),
            ("mailto:x", None),
            ("/a b", None),
            ("/\u{e9}", None),
        ];
        for (reference, expected) in rows {
            assert_eq!(resolve(BASE, reference).as_deref(), *expected, "{reference}");
        }
    }

    #[test]
    fn rfc_9111_4_4_location_and_content_location_of_the_same_origin_alone() {
        let response = map(&[
            ("location", "http://b.example/stolen"),
            ("content-location", "x"),
            ("location", "/b/c/d?q"),
        ]);
        let found = targets(&Method::POST, StatusCode::CREATED, BASE, &response);
        assert_eq!(found.targets, ["/b/c/d?q", "/b/c/x"]);
        let many: Vec<_> = (0..100).map(|n| format!("/{n}")).collect();
        let lines: Vec<_> = many.iter().map(|v| ("location", v.as_str())).collect();
        assert_eq!(targets(&Method::POST, StatusCode::OK, BASE, &map(&lines)).targets.len(), MAX_TARGETS);
    }

    #[test]
    fn rfc_9875_3_groups_of_unsafe_responses_alone() {
        let response = map(&[("cache-group-invalidation", "\"a\", \"b\"")]);
        let found = targets(&Method::POST, StatusCode::OK, BASE, &response).groups;
        assert_eq!(
            found,
            [PurgeId::group("http", "a.example", b"a"), PurgeId::group("http", "a.example", b"b")]
        );
        assert!(targets(&Method::GET, StatusCode::OK, BASE, &response).groups.is_empty());
        assert!(targets(&Method::POST, StatusCode::BAD_REQUEST, BASE, &response).groups.is_empty());
    }

    proptest! {
        #[test]
        fn any_reference_resolves_to_a_target_or_nothing(reference in "[ -~]{0,40}|(\\.{0,3}/?){0,6}\\??[a-z/.]{0,5}") {
            if let Some(resolved) = resolve(BASE, &reference) {
                prop_assert!(resolved.starts_with('/'));
                prop_assert!(!resolved.contains('#'));
            }
        }
    }
}
