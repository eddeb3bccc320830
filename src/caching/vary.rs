//! `Vary` (RFC 9110 12.5.5, RFC 9111 4.1): which of several stored responses a request selects.
//!
//! Decides: the names a response varies by, the variant hash of a request, the choice in an index.
//! Never touches: stores. What belongs where: DESIGN 6, "Vary in two levels".
//!
//! Two requests match when each nominated field is absent from both, or has the same value in both
//! after what RFC 9111 4.1 allows: white space where the syntax has it, lines combined, and the
//! normalisation the field's own definition gives (`Accept-Encoding`: the set of codings; language
//! ranges and media types: case). Preference order is kept: some origins read it.

use std::fmt;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_ENCODING, COOKIE, GetAll, REFERER,
    USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use xxhash_rust::xxh3::Xxh3;

use super::outcome::Reason;
use crate::semantics::UnixMillis;

/// The hash of the nominated fields' normalised values; never 0, which is the place of the primary
/// record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantHash(pub u64);

/// What is known of one stored variant without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Index into [`VaryIndex::sets`] of the names it varies by.
    pub set: u8,
    /// Where it is stored.
    pub hash: VariantHash,
    /// When it was received or last validated: the most recent match answers (RFC 9111 4.1).
    pub received: UnixMillis,
    /// When no rule could reuse it any more.
    pub useless_at: UnixMillis,
    /// Its entity tag, with which an unmatched request can be validated (RFC 9111 4.3.1).
    pub etag: Option<Bytes>,
}

/// The primary record of a key whose responses vary: which variants exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaryIndex {
    /// The distinct sets of nominated names (each sorted, lower case), at most [`MAX_SETS`].
    pub sets: Vec<Vec<HeaderName>>,
    /// Most recent first, at most [`MAX_VARIANTS`].
    pub variants: Vec<Variant>,
}

/// Bound on distinct `Vary` sets of one key.
pub const MAX_SETS: usize = 8;
/// Bound on variants of one key; the least recent is forgotten.
pub const MAX_VARIANTS: usize = 64;
/// Bound on the names of one set; a response that nominates more is not stored.
pub const MAX_NAMES: usize = 32;

/// The fields a response varies by: all its `Vary` lines, sorted, each name once; none = it answers
/// every request for its key.
///
/// A response with `Content-Encoding` and no `Vary` was negotiated all the same by an origin that
/// forgot to say so: it is taken to vary by `Accept-Encoding`, which never widens its reuse.
///
/// # Errors
///
/// [`Reason::VaryAny`] for `*` in any position, and for a member that is no field name: no request can
/// be known to match (RFC 9111 4.1). [`Reason::TooManyVariants`] for more than [`MAX_NAMES`] names.
pub fn nominated(headers: &HeaderMap) -> Result<Vec<HeaderName>, Reason> {
    let mut names: Vec<HeaderName> = Vec::new();
    let mut lines = false;
    for line in headers.get_all(VARY) {
        lines = true;
        for member in line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if member.is_empty() {
                continue;
            }
            if member == b"*" {
                return Err(Reason::VaryAny);
            }
            let name = HeaderName::from_bytes(member).map_err(|_| Reason::VaryAny)?;
            if !names.contains(&name) {
                if names.len() == MAX_NAMES {
                    return Err(Reason::TooManyVariants);
                }
                names.push(name);
            }
        }
    }
    if !lines && headers.contains_key(CONTENT_ENCODING) {
        names.push(ACCEPT_ENCODING);
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(names)
}

/// The place of the variant that a request with these fields selects, among those of `names`.
///
/// `headers` are the request's fields as sent to the origin. No allocation.
#[must_use]
pub fn variant_hash(names: &[HeaderName], headers: &HeaderMap) -> VariantHash {
    let mut canon = Canon::new();
    for name in names {
        canon.put_all(name.as_str().as_bytes());
        canon.end_of_part();
        let lines = headers.get_all(name);
        if lines.iter().next().is_none() {
            canon.put(ABSENT);
        } else {
            if *name == ACCEPT_ENCODING {
                accept_encoding(&lines, &mut canon);
            } else {
                combined(&lines, Syntax::of(name), &mut canon);
            }
            canon.put(PRESENT);
        }
        canon.end_of_part();
    }
    VariantHash(canon.finish())
}

impl VaryIndex {
    /// The stored variants a request with these fields matches, the most recent first.
    ///
    /// At most one per set of names; none that is useless by `now`.
    #[must_use]
    pub fn select(&self, headers: &HeaderMap, now: UnixMillis) -> Selection<'_> {
        let mut wanted = [None; MAX_SETS];
        for (slot, names) in wanted.iter_mut().zip(&self.sets) {
            *slot = Some(variant_hash(names, headers));
        }
        let mut selection = Selection { found: [None; MAX_SETS], len: 0 };
        for variant in self.variants.iter().filter(|v| v.useless_at > now) {
            let slot = wanted.get(usize::from(variant.set)).copied().flatten();
            if slot == Some(variant.hash) {
                selection.push(variant);
            }
        }
        selection
    }

    /// Records that a response varying by `names` is stored under `hash`, and forgets what is
    /// useless by `now`, what this one replaces, and the least recent beyond the bounds.
    ///
    /// What is forgotten here is only unreachable: whoever keeps records removes it, or its expiry does.
    pub fn insert(&mut self, names: &[HeaderName], variant: NewVariant, now: UnixMillis) {
        self.variants.retain(|v| v.useless_at > now && v.hash != variant.hash);
        self.drop_unused_sets();
        let set = match self.sets.iter().position(|set| set.as_slice() == names) {
            Some(set) => set,
            None => {
                if self.sets.len() >= MAX_SETS {
                    self.drop_least_recent_set();
                }
                self.sets.push(names.to_vec());
                self.sets.len().saturating_sub(1)
            }
        };
        let Ok(set) = u8::try_from(set) else { return };
        let place = self.variants.partition_point(|v| v.received > variant.received);
        let NewVariant { hash, received, useless_at, etag } = variant;
        self.variants.insert(place, Variant { set, hash, received, useless_at, etag });
        self.variants.truncate(MAX_VARIANTS);
        self.drop_unused_sets();
    }

    /// Takes in the variants of another index of the same key that this one does not know: what other
    /// processes have stored meanwhile. Of a place that both know, the more recent response counts. Nothing
    /// makes room for what is older.
    pub fn merge(&mut self, other: &Self, now: UnixMillis) {
        self.variants.retain(|v| v.useless_at > now);
        self.drop_unused_sets();
        for theirs in &other.variants {
            let known = self.variants.iter().any(|v| v.hash == theirs.hash && v.received >= theirs.received);
            let Some(names) = other.sets.get(usize::from(theirs.set)) else { continue };
            let has_room = self.sets.len() < MAX_SETS
                || self.sets.iter().any(|set| set == names)
                || self.least_recent_set().is_none_or(|(_, received)| received < theirs.received);
            if !known && has_room && theirs.useless_at > now {
                let Variant { hash, received, useless_at, ref etag, .. } = *theirs;
                self.insert(names, NewVariant { hash, received, useless_at, etag: etag.clone() }, now);
            }
        }
    }

    /// Whether a variant is in it.
    #[must_use]
    pub fn holds(&self, hash: VariantHash) -> bool {
        self.variants.iter().any(|variant| variant.hash == hash)
    }

    /// The entity tags of all variants, the most recent first, each once: what a request that
    /// matches none of them can be validated with (RFC 9111 4.3.1).
    pub fn etags(&self) -> impl Iterator<Item = &Bytes> {
        self.variants.iter().enumerate().filter_map(|(at, variant)| {
            let etag = variant.etag.as_ref()?;
            let seen = self.variants.iter().take(at).any(|v| v.etag.as_ref() == Some(etag));
            (!seen).then_some(etag)
        })
    }

    /// The most recent variant with this entity tag, byte for byte: the one a 304 selects.
    #[must_use]
    pub fn by_etag(&self, etag: &[u8]) -> Option<&Variant> {
        self.variants.iter().find(|v| v.etag.as_deref() == Some(etag))
    }

    /// When the last variant becomes useless, and with it this index.
    #[must_use]
    pub fn useless_at(&self) -> UnixMillis {
        self.variants.iter().map(|v| v.useless_at).max().unwrap_or_default()
    }

    fn drop_least_recent_set(&mut self) {
        let Some((oldest, _)) = self.least_recent_set() else { return };
        self.variants.retain(|v| usize::from(v.set) != oldest);
        self.drop_unused_sets();
    }

    /// The set of names whose most recent variant is the oldest, and when that was received.
    fn least_recent_set(&self) -> Option<(usize, UnixMillis)> {
        let of = |set: usize| self.variants.iter().filter(move |v| usize::from(v.set) == set);
        let newest = |set| of(set).map(|v| v.received).max().unwrap_or_default();
        (0..self.sets.len()).map(|set| (set, newest(set))).min_by_key(|(_, received)| *received)
    }

    fn drop_unused_sets(&mut self) {
        let mut at = self.sets.len();
        while at > 0 {
            at -= 1;
            if self.variants.iter().any(|v| usize::from(v.set) == at) {
                continue;
            }
            self.sets.remove(at);
            for variant in &mut self.variants {
                if usize::from(variant.set) > at {
                    variant.set -= 1;
                }
            }
        }
    }
}

/// A variant about to enter an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVariant {
    /// Where it is stored: [`variant_hash`] of the request that fetched it.
    pub hash: VariantHash,
    /// When it was received or last validated.
    pub received: UnixMillis,
    /// When no rule could reuse it any more.
    pub useless_at: UnixMillis,
    /// Its entity tag.
    pub etag: Option<Bytes>,
}

/// The variants of an index that match one request.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    found: [Option<&'a Variant>; MAX_SETS],
    len: usize,
}

impl<'a> Selection<'a> {
    /// The one that answers: the most recent.
    #[must_use]
    pub const fn first(&self) -> Option<&'a Variant> {
        self.found[0]
    }

    /// All that match, the most recent first.
    pub fn iter(&self) -> impl Iterator<Item = &'a Variant> + '_ {
        self.found.iter().copied().flatten()
    }

    fn push(&mut self, variant: &'a Variant) {
        if let Some(slot) = self.found.get_mut(self.len) {
            *slot = Some(variant);
            self.len += 1;
        }
    }
}

impl fmt::Debug for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

// === canonical form ===

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// Canonical bytes on their way into the hash. Every part is followed by its length, so that no two
/// different sequences of parts have the same bytes (read from the end, it has one meaning).
struct Canon {
    hash: Xxh3,
    chunk: [u8; 128],
    used: usize,
    part: u64,
}

impl Canon {
    fn new() -> Self {
        Self { hash: Xxh3::new(), chunk: [0; 128], used: 0, part: 0 }
    }

    fn put(&mut self, byte: u8) {
        if self.used == self.chunk.len() {
            self.flush();
        }
        if let Some(slot) = self.chunk.get_mut(self.used) {
            *slot = byte;
            self.used += 1;
        }
        self.part += 1;
    }

    fn put_all(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.put(*byte);
        }
    }

    fn end_of_part(&mut self) {
        let len = self.part;
        self.put_all(&len.to_le_bytes());
        self.part = 0;
    }

    fn flush(&mut self) {
        self.hash.update(self.chunk.get(..self.used).unwrap_or_default());
        self.used = 0;
    }

    fn finish(mut self) -> u64 {
        self.flush();
        self.hash.digest().max(1)
    }
}

/// What a field's own syntax allows two equal values to differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    /// Nothing but the white space around each line: the value is opaque, or not a list.
    Opaque,
    /// A list: white space around commas means nothing, outside quoted strings.
    List,
    /// A list of names with parameters: also white space around `;`, and the case of all that is
    /// neither a parameter's value nor quoted.
    NamesWithParameters,
}

impl Syntax {
    fn of(name: &HeaderName) -> Self {
        if *name == ACCEPT_LANGUAGE || *name == ACCEPT {
            Self::NamesWithParameters
        } else if *name == COOKIE || *name == AUTHORIZATION || *name == USER_AGENT || *name == REFERER {
            Self::Opaque
        } else {
            Self::List
        }
    }
}

/// Lines combined as one list (RFC 9110 5.3), normalised.
fn combined(lines: &GetAll<'_, HeaderValue>, syntax: Syntax, canon: &mut Canon) {
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            canon.put(b',');
            if syntax == Syntax::Opaque {
                canon.put(b' ');
            }
        }
        let line = line.as_bytes().trim_ascii();
        match syntax {
            Syntax::Opaque => canon.put_all(line),
            Syntax::List => normalise(line, false, canon),
            Syntax::NamesWithParameters => normalise(line, true, canon),
        }
    }
}

/// Leaves out the blanks around separators; with `names`, lowers case outside values.
fn normalise(line: &[u8], names: bool, canon: &mut Canon) {
    let separates = |byte: u8| byte == b',' || (names && byte == b';');
    let mut quoted = false;
    let mut escaped = false;
    let mut in_value = false;
    // Blanks are held back until it is known whether a separator follows them.
    let mut blanks = 0usize;
    let mut after_separator = true;
    for &byte in line {
        if quoted {
            canon.put(byte);
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                quoted = false;
            }
            continue;
        }
        if byte == b' ' || byte == b'\t' {
            blanks += 1;
            continue;
        }
        if separates(byte) {
            blanks = 0;
            after_separator = true;
            in_value = false;
            canon.put(byte);
            continue;
        }
        if !after_separator {
            for _ in 0..blanks {
                canon.put(b' ');
            }
        }
        blanks = 0;
        after_separator = false;
        quoted = byte == b'"';
        in_value = in_value || byte == b'=';
        canon.put(if names && !in_value { byte.to_ascii_lowercase() } else { byte });
    }
}

/// `Accept-Encoding` as the set of codings it accepts (RFC 9110 12.5.3): any of them is acceptable,
/// so the order and the weights above zero say nothing about which responses may answer.
fn accept_encoding(lines: &GetAll<'_, HeaderValue>, canon: &mut Canon) {
    const OTHERS: usize = 8;
    let mut known = 0u8;
    let mut others: [&[u8]; OTHERS] = [b""; OTHERS];
    let mut count = 0usize;
    let mut wildcard = false;
    let members = || {
        lines
            .iter()
            .flat_map(|l| l.as_bytes().split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|m| !m.is_empty())
    };
    for member in members() {
        let mut parts = member.split(|b| *b == b';');
        let coding = parts.next().unwrap_or_default().trim_ascii();
        let refused = parts.map(<[u8]>::trim_ascii).any(weighs_nothing);
        wildcard |= coding == b"*";
        match (known_coding(coding), refused) {
            (Some(bit), false) => known |= bit,
            // What is not listed is not accepted either, unless "*" says otherwise (below); only
            // identity is accepted without being listed.
            (Some(bit), true) if bit != IDENTITY => {}
            _ => {
                if let Some(slot) = others.get_mut(count) {
                    *slot = member;
                }
                count += 1;
            }
        }
    }
    if wildcard || count > OTHERS {
        // With "*" a refusal matters, and past the bound the set is not worth the trouble: both are
        // compared as they came.
        combined(lines, Syntax::NamesWithParameters, canon);
        return;
    }
    canon.put(known);
    let others = others.get_mut(..count).unwrap_or_default();
    others.sort_unstable();
    for other in others {
        canon.put(b',');
        normalise(other, true, canon);
    }
}

const IDENTITY: u8 = 1 << 4;

fn known_coding(coding: &[u8]) -> Option<u8> {
    let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
    if is(b"gzip") || is(b"x-gzip") {
        Some(1)
    } else if is(b"br") {
        Some(1 << 1)
    } else if is(b"zstd") {
        Some(1 << 2)
    } else if is(b"deflate") {
        Some(1 << 3)
    } else if is(b"identity") {
        Some(IDENTITY)
    } else {
        None
    }
}

/// `q=0`, `q=0.`, `q=0.000` (RFC 9110 12.4.2).
fn weighs_nothing(parameter: &[u8]) -> bool {
    let Some((name, value)) = parameter.split_first_chunk::<2>() else { return false };
    if !name.eq_ignore_ascii_case(b"q=") {
        return false;
    }
    match value.split_first() {
        Some((b'0', [])) => true,
        Some((b'0', [b'.', digits @ ..])) => digits.len() <= 3 && digits.iter().all(|d| *d == b'0'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caching::testing::map;

    fn names(list: &[&'static str]) -> Vec<HeaderName> {
        list.iter().map(|n| HeaderName::from_static(n)).collect()
    }

    #[test]
    fn rfc_9110_12_5_5_names() {
        let rows: &[(&[(&str, &str)], Option<&[&'static str]>)] = &[
            (&[], Some(&[])),
            (&[("vary", "")], Some(&[])),
            (&[("vary", "Foo")], Some(&["foo"])),
            (&[("vary", " B , a,,A ,"), ("vary", "C")], Some(&["a", "b", "c"])),
            (&[("vary", "*")], None),
            (&[("vary", "a, *")], None),
            (&[("vary", "*, *")], None),
            (&[("vary", ", *")], None),
            (&[("vary", "a"), ("vary", ""), ("vary", "*")], None),
            (&[("vary", "a b")], None),
            (&[("vary", "\"a\"")], None),
            (&[("content-encoding", "gzip")], Some(&["accept-encoding"])),
            (&[("content-encoding", "gzip"), ("vary", "a")], Some(&["a"])),
        ];
        for (lines, expected) in rows {
            let expected = expected.map(names).ok_or(Reason::VaryAny);
            assert_eq!(nominated(&map(lines)), expected, "{lines:?}");
        }
        let many = (0..=MAX_NAMES).map(|n| format!("f{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(nominated(&map(&[("vary", &many)])), Err(Reason::TooManyVariants));
    }

    #[test]
    fn rfc_9111_4_1_which_requests_match() {
        type Lines<'a> = &'a [(&'a str, &'a str)];
        let rows: &[(&'static str, Lines<'_>, Lines<'_>, bool)] = &[
            ("foo", &[], &[], true),
            ("foo", &[], &[("foo", "")], false),
            ("foo", &[("foo", "1")], &[("foo", "1")], true),
            ("foo", &[("foo", "1")], &[("foo", "2")], false),
            ("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
            ("foo", &[("foo", "1,2")], &[("foo", " 1 ,\t2 ")], true),
            ("foo", &[("foo", "1"), ("foo", "2")], &[("foo", "2"), ("foo", "1")], false),
            ("foo", &[("foo", "a b")], &[("foo", "ab")], false),
            ("foo", &[("foo", "A")], &[("foo", "a")], false),
            ("foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")], false),
            ("foo", &[("foo", "\"a\\\", b\"")], &[("foo", "\"a\\\",b\"")], false),
            ("cookie", &[("cookie", "a=1, 2")], &[("cookie", "a=1,2")], false),
            (
                "accept-language",
                &[("accept-language", "en-GB , de;q=0.8")],
                &[("accept-language", "EN-gb,de; q=0.8")],
                true,
            ),
            ("accept-language", &[("accept-language", "en, de")], &[("accept-language", "de, en")], false),
            ("accept", &[("accept", "Text/HTML; Level=1")], &[("accept", "text/html;level=1")], true),
            ("accept", &[("accept", "a/b;profile=X")], &[("accept", "a/b;profile=x")], false),
            (
                "accept-encoding",
                &[("accept-encoding", "gzip, br")],
                &[("accept-encoding", "BR;q=0.5,gzip")],
                true,
            ),
            (
                "accept-encoding",
                &[("accept-encoding", "gzip")],
                &[("accept-encoding", "x-gzip, br;q=0")],
                true,
            ),
            ("accept-encoding", &[("accept-encoding", "gzip")], &[("accept-encoding", "gzip;q=0")], false),
            ("accept-encoding", &[("accept-encoding", "gzip")], &[("accept-encoding", "gzip, br")], false),
            (
                "accept-encoding",
                &[("accept-encoding", "gzip;q=0.001")],
                &[("accept-encoding", "gzip;q=0.000")],
                false,
            ),
            ("accept-encoding", &[("accept-encoding", "")], &[], false),
            ("accept-encoding", &[("accept-encoding", "")], &[("accept-encoding", "identity")], false),
            (
                "accept-encoding",
                &[("accept-encoding", "gzip, identity;q=0")],
                &[("accept-encoding", "gzip")],
                false,
            ),
            ("accept-encoding", &[("accept-encoding", "gzip, *;q=0")], &[("accept-encoding", "gzip")], false),
            (
                "accept-encoding",
                &[("accept-encoding", "b, a")],
                &[("accept-encoding", "a"), ("accept-encoding", "b")],
                true,
            ),
        ];
        for (name, one, other, same) in rows {
            let set = names(&[name]);
            let equal = variant_hash(&set, &map(one)) == variant_hash(&set, &map(other));
            assert_eq!(equal, *same, "{name}: {one:?} and {other:?}");
        }
    }

    #[test]
    fn values_of_one_field_never_pass_for_those_of_another() {
        let set = names(&["a", "b"]);
        let one = variant_hash(&set, &map(&[("a", "xb"), ("b", "")]));
        let other = variant_hash(&set, &map(&[("a", "x"), ("b", "b")]));
        assert_ne!(one, other);
        assert_ne!(variant_hash(&names(&["a"]), &map(&[])), variant_hash(&names(&["b"]), &map(&[])));
        assert_ne!(variant_hash(&[], &map(&[])).0, 0);
    }

    fn variant(hash: u64, received: u64, useless_at: u64) -> NewVariant {
        NewVariant {
            hash: VariantHash(hash),
            received: UnixMillis(received),
            useless_at: UnixMillis(useless_at),
            etag: Some(Bytes::from(format!("\"{hash}\""))),
        }
    }

    #[test]
    fn rfc_9111_4_1_the_most_recent_match_answers() {
        let (lang, enc) = (names(&["accept-language"]), names(&["accept-encoding"]));
        let request = map(&[("accept-language", "de"), ("accept-encoding", "gzip")]);
        let mut index = VaryIndex::default();
        let by_lang = variant_hash(&lang, &request);
        let by_enc = variant_hash(&enc, &request);
        index.insert(&enc, variant(by_enc.0, 20, 100), UnixMillis(0));
        index.insert(&lang, variant(by_lang.0, 10, 100), UnixMillis(0));
        index.insert(&lang, variant(7, 30, 100), UnixMillis(0));
        let found: Vec<_> = index.select(&request, UnixMillis(50)).iter().map(|v| v.hash).collect();
        assert_eq!(found, [by_enc, by_lang]);
        assert_eq!(index.select(&request, UnixMillis(50)).first().map(|v| v.hash), Some(by_enc));
        assert!(index.select(&map(&[]), UnixMillis(50)).first().is_none());
        assert!(index.select(&request, UnixMillis(100)).first().is_none(), "useless by then");
        assert_eq!(index.by_etag(b"\"7\"").map(|v| v.hash), Some(VariantHash(7)));
        assert_eq!(index.etags().count(), 3);
        assert_eq!(index.useless_at(), UnixMillis(100));
    }

    #[test]
    fn what_two_processes_have_stored_makes_one_index() {
        let set = names(&["a"]);
        let (mut ours, mut theirs) = (VaryIndex::default(), VaryIndex::default());
        ours.insert(&set, variant(1, 10, 100), UnixMillis(0));
        ours.insert(&set, variant(2, 20, 100), UnixMillis(0));
        theirs.insert(&set, variant(1, 30, 200), UnixMillis(0));
        theirs.insert(&set, variant(2, 5, 50), UnixMillis(0));
        theirs.insert(&names(&["b"]), variant(3, 15, 100), UnixMillis(0));
        theirs.insert(&set, variant(4, 40, 60), UnixMillis(0));
        ours.merge(&theirs, UnixMillis(60));
        let known: Vec<_> = ours.variants.iter().map(|v| (v.hash.0, v.received.0)).collect();
        assert_eq!(known, [(1, 30), (2, 20), (3, 15)], "the more recent of each, and nothing useless");
        assert_eq!(ours.sets.len(), 2);
    }

    #[test]
    fn the_index_is_bounded_and_forgets_the_dead() {
        let mut index = VaryIndex::default();
        for n in 0..200u64 {
            index.insert(&names(&["a"]), variant(n + 1, n, 10_000), UnixMillis(0));
        }
        assert_eq!(index.variants.len(), MAX_VARIANTS);
        assert_eq!(index.variants.first().map(|v| v.hash), Some(VariantHash(200)));
        for n in 0..20u64 {
            let set = [HeaderName::from_bytes(format!("f{n}").as_bytes()).unwrap()];
            index.insert(&set, variant(1000 + n, 1000 + n, 20_000), UnixMillis(0));
            assert!(index.sets.len() <= MAX_SETS);
        }
        index.insert(&names(&["z"]), variant(5000, 5000, 30_000), UnixMillis(20_000));
        assert_eq!((index.sets.len(), index.variants.len()), (1, 1));
        index.insert(&names(&["z"]), variant(5000, 6000, 40_000), UnixMillis(20_000));
        assert_eq!(index.variants.len(), 1, "the same place is replaced");
    }

    proptest! {
        #[test]
        fn index_invariants_hold(steps in prop::collection::vec((0usize..12, 1u64..40, 0u64..100, 0u64..200, 0u64..150), 0..120)) {
            let mut index = VaryIndex::default();
            for (set, hash, received, useless_at, now) in steps {
                let set = [HeaderName::from_bytes(format!("f{set}").as_bytes()).unwrap()];
                index.insert(&set, variant(hash, received, useless_at), UnixMillis(now));
                prop_assert!(index.sets.len() <= MAX_SETS && index.variants.len() <= MAX_VARIANTS);
                prop_assert!(index.variants.iter().all(|v| usize::from(v.set) < index.sets.len()));
                prop_assert!(index.variants.windows(2).all(|w| w[0].received >= w[1].received));
            }
        }

        #[test]
        fn any_bytes_hash_and_combine(values in prop::collection::vec("[ -~\t]{0,300}", 0..4)) {
            let set = names(&["accept-encoding", "accept-language", "foo"]);
            let mut lines = HeaderMap::new();
            for value in &values {
                for name in &set {
                    lines.append(name, HeaderValue::from_str(value).unwrap());
                }
            }
            let hash = variant_hash(&set, &lines);
            prop_assert_ne!(hash.0, 0);
            prop_assert_eq!(hash, variant_hash(&set, &lines));
        }
    }
}
