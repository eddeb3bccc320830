//! Tags: the names under which an origin or a route lets responses be purged together.
//!
//! Decides: which fields carry tags and how they are read (`Surrogate-Key`: separated by blanks;
//! `Cache-Tag`: by commas; `Cache-Groups`: a structured list of strings, RFC 9875 2), their bounds,
//! and the purge ids they become. Never touches: what a purge does.

use http::{HeaderMap, HeaderName};
use sfv::{List, ListEntry, Parser};

use super::invalidation::TargetUri;
use super::outcome::Reason;
use super::stamp::PurgeId;

/// `Surrogate-Key`: tags separated by blanks.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// `Cache-Tag`: tags separated by commas.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// `Cache-Groups`: the groups a response belongs to (RFC 9875 2).
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// `Cache-Group-Invalidation`: the groups a response invalidates (RFC 9875 3).
pub const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Bound on the tags of one list.
pub const MAX_TAGS: usize = 128;
/// Bound on the bytes of one list, all its lines together.
pub const MAX_TAG_BYTES: usize = 8 << 10;

/// Whether a field carries tags: read here, never stored as a field, never sent to a client.
#[must_use]
pub fn is_tag_field(name: &HeaderName) -> bool {
    *name == SURROGATE_KEY || *name == CACHE_TAG || *name == CACHE_GROUPS
}

/// [`is_tag_field`] of a name in lower case.
#[must_use]
pub fn is_tag_field_bytes(name: &[u8]) -> bool {
    [SURROGATE_KEY, CACHE_TAG, CACHE_GROUPS].iter().any(|field| field.as_str().as_bytes() == name)
}

/// Takes out the fields that carry tags: they never go to a client.
pub fn remove(fields: &mut HeaderMap) {
    for name in [SURROGATE_KEY, CACHE_TAG, CACHE_GROUPS] {
        fields.remove(name);
    }
}

/// The purge ids of a response's tags and its route's, sorted, each once.
///
/// # Errors
///
/// [`Reason::TooManyTags`] when a list is over its bounds. A list is never cut: a response stored
/// without one of its tags could not be purged by it.
pub fn ids<T: AsRef<[u8]>>(
    response: &HeaderMap,
    route: &[T],
    target: TargetUri<'_>,
) -> Result<Vec<PurgeId>, Reason> {
    let mut ids = Vec::new();
    let separated = [(SURROGATE_KEY, b' '), (CACHE_TAG, b',')];
    for (name, separator) in &separated {
        let mut bounds = Bounds::default();
        for line in response.get_all(name) {
            let blank = |b: &u8| *b == *separator || (*separator == b' ' && *b == b'\t');
            let tags = line.as_bytes().split(blank).map(<[u8]>::trim_ascii).filter(|t| !t.is_empty());
            for tag in tags {
                bounds.count(tag)?;
                ids.push(PurgeId::tag(tag));
            }
        }
    }
    let mut bounds = Bounds::default();
    for group in group_names(response, &CACHE_GROUPS) {
        bounds.count(group.as_bytes())?;
        ids.push(PurgeId::group(target.scheme, target.authority, group.as_bytes()));
        ids.push(PurgeId::tag(group.as_bytes()));
    }
    let mut bounds = Bounds::default();
    for tag in route {
        bounds.count(tag.as_ref())?;
        ids.push(PurgeId::tag(tag.as_ref()));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The groups that a response to a successful unsafe request invalidates, the first
/// [`MAX_TAGS`] of them (RFC 9875 3 asks for 32).
pub(super) fn invalidated_groups(response: &HeaderMap, target: TargetUri<'_>) -> Vec<PurgeId> {
    group_names(response, &CACHE_GROUP_INVALIDATION)
        .iter()
        .take(MAX_TAGS)
        .map(|group| PurgeId::group(target.scheme, target.authority, group.as_bytes()))
        .collect()
}

/// The strings of a list field. RFC 9651 4.2: a field that does not parse is ignored whole; RFC
/// 9875 2: so is one with a member that is no string. Parameters mean nothing.
fn group_names(response: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut text: Vec<u8> = Vec::new();
    for line in response.get_all(name) {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(line.as_bytes());
    }
    let Ok(list) = Parser::new(&text).parse::<List>() else { return Vec::new() };
    let strings = list.iter().map(|member| match member {
        ListEntry::Item(item) => item.bare_item.as_string().map(|s| s.as_str().to_owned()),
        ListEntry::InnerList(_) => None,
    });
    strings.collect::<Option<Vec<_>>>().unwrap_or_default()
}

#[derive(Default)]
struct Bounds {
    tags: usize,
    bytes: usize,
}

impl Bounds {
    fn count(&mut self, tag: &[u8]) -> Result<(), Reason> {
        self.tags += 1;
        self.bytes = self.bytes.saturating_add(tag.len() + 1);
        if self.tags > MAX_TAGS || self.bytes > MAX_TAG_BYTES { Err(Reason::TooManyTags) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::testing::map;

    const TARGET: TargetUri<'static> =
        TargetUri { scheme: "https", authority: "shop.example", path_and_query: "/" };

    fn sorted(mut ids: Vec<PurgeId>) -> Vec<PurgeId> {
        ids.sort_unstable();
        ids
    }

    #[test]
    fn each_field_by_its_own_separator() {
        let none: [&[u8]; 0] = [];
        let rows: &[(&[(&str, &str)], &[&str])] = &[
            (&[], &[]),
            (&[("surrogate-key", " a  b\tc "), ("surrogate-key", "a")], &["a", "b", "c"]),
            (&[("cache-tag", "a b, c,, c")], &["a b", "c"]),
        ];
        for (lines, tags) in rows {
            let expected = sorted(tags.iter().map(|t| PurgeId::tag(t.as_bytes())).collect());
            assert_eq!(ids(&map(lines), &none, TARGET), Ok(expected), "{lines:?}");
        }
        assert_eq!(ids(&map(&[]), &["product:7"], TARGET), Ok(vec![PurgeId::tag(b"product:7")]));
    }

    #[test]
    fn rfc_9875_2_groups_are_strings_and_belong_to_their_origin() {
        let none: [&[u8]; 0] = [];
        let group = |name: &[u8]| PurgeId::group("https", "shop.example", name);
        let found = ids(&map(&[("cache-groups", "\"a\";x=1"), ("cache-groups", "\"b c\"")]), &none, TARGET);
        let expected = [group(b"a"), PurgeId::tag(b"a"), group(b"b c"), PurgeId::tag(b"b c")];
        assert_eq!(found, Ok(sorted(expected.to_vec())));
        for invalid in ["a", "\"a\", b", "\"a", "\"a\" \"b\"", "(\"a\")", "\"a\","] {
            assert_eq!(ids(&map(&[("cache-groups", invalid)]), &none, TARGET), Ok(vec![]), "{invalid}");
        }
        assert_ne!(group(b"a"), PurgeId::group("https", "other.example", b"a"));
        assert_eq!(group(b"a"), PurgeId::group("https", "SHOP.example:443", b"a"));
    }

    #[test]
    fn lists_over_their_bounds_are_refused_never_cut() {
        let none: [&[u8]; 0] = [];
        let list = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>().join(" ");
        assert!(ids(&map(&[("surrogate-key", &list(MAX_TAGS))]), &none, TARGET).is_ok());
        assert_eq!(
            ids(&map(&[("surrogate-key", &list(MAX_TAGS + 1))]), &none, TARGET),
            Err(Reason::TooManyTags)
        );
        let long = "x".repeat(MAX_TAG_BYTES);
        assert_eq!(ids(&map(&[("cache-tag", &long)]), &none, TARGET), Err(Reason::TooManyTags));
        let quoted = (0..10_000).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(",");
        assert_eq!(ids(&map(&[("cache-groups", &quoted)]), &none, TARGET), Err(Reason::TooManyTags));
        assert_eq!(ids(&map(&[]), &vec!["t"; MAX_TAGS + 1], TARGET), Err(Reason::TooManyTags));
    }
}
