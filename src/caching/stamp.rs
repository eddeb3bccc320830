//! Stamps: what makes a stored response invalid without deleting it.
//!
//! A purge of an id is given a sequence number. Every stored response carries the highest number
//! applied *before the first byte of its upstream request was sent*: its stamp. It is valid only
//! while no id it bears was purged after its stamp. Decides: how ids are made and what they mean, and
//! how numbers of the fleet and of one process make one order. Never touches: where the numbers come
//! from.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::url;
use crate::semantics::UnixMillis;

/// A number in the fleet's sequence of purges: milliseconds since the epoch times
/// [`Sequence::PER_MILLI`], and never less than one given before. Below 2^48.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Numbers in one millisecond. More purges than that only run ahead of the clock.
    pub const PER_MILLI: u64 = 16;
    /// The greatest number there is; whoever says more is not believed.
    pub const LAST: Self = Self((1 << 48) - 1);

    /// The first number of a millisecond.
    #[must_use]
    pub const fn at(time: UnixMillis) -> Self {
        Self(time.0.saturating_mul(Self::PER_MILLI))
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A position in the order of purges as one process sees it: a number of the fleet's sequence, and
/// behind it the purges of this process alone that the fleet has not been told yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Bits that count purges of this process between two numbers of the fleet.
    const LOCAL: u32 = 16;

    /// The position of a number of the fleet: before everything that this process adds to it.
    #[must_use]
    pub const fn of(sequence: Sequence) -> Self {
        Self(sequence.0 << Self::LOCAL)
    }

    /// The number of the fleet that it stands behind.
    #[must_use]
    pub const fn sequence(self) -> Sequence {
        Sequence(self.0 >> Self::LOCAL)
    }

    /// As other processes may read it: what this one alone counts means nothing to them, and an earlier
    /// stamp is never wrong.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self::of(self.sequence())
    }

    /// When that was, by the clock that gave the number.
    #[must_use]
    pub const fn time(self) -> UnixMillis {
        UnixMillis(self.sequence().0 / Sequence::PER_MILLI)
    }
}

/// Whether what is purged may still be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Stale from then on: it may answer while it is renewed or while the origin fails, and be validated.
    Soft,
    /// Never to be used again.
    Hard,
}

/// What one purge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What becomes of what it concerns.
    pub mode: Mode,
    /// Whatever bears one of these is concerned.
    pub ids: Vec<PurgeId>,
    /// Whatever has a key that begins so is concerned: a URL beginning, or from a slash on the beginning
    /// of a path on every host.
    pub prefixes: Vec<Bytes>,
}

impl Purge {
    /// Of ids alone.
    #[must_use]
    pub const fn of_ids(mode: Mode, ids: Vec<PurgeId>) -> Self {
        Self { mode, ids, prefixes: Vec::new() }
    }

    /// Names whole hosts, or everything, in the place of prefixes: where no more of them can be remembered.
    pub fn widen(&mut self) {
        for prefix in std::mem::take(&mut self.prefixes) {
            let host = parts(&prefix).and_then(|(_, authority, _)| std::str::from_utf8(authority).ok());
            self.ids.push(host.map_or(PurgeId::ALL, |authority| PurgeId::host(url::host(authority))));
        }
        self.ids.sort_unstable();
        self.ids.dedup();
    }

    /// Whether it concerns nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.prefixes.is_empty()
    }
}

/// Whether a primary key's text begins as a prefix says. Past its first line, a key says nothing of the
/// URL.
#[must_use]
pub fn begins(key: &[u8], prefix: &[u8]) -> bool {
    let Some((scheme, authority, path)) = parts(key) else { return false };
    if prefix.starts_with(b"/") {
        return path.starts_with(prefix);
    }
    let Some((of_scheme, of_authority, beginning)) = parts(prefix) else { return false };
    scheme == of_scheme
        && path.starts_with(beginning)
        && url::bare(authority).eq_ignore_ascii_case(url::bare(of_authority))
}

/// Scheme, authority and the rest of a text that begins as a URL.
fn parts(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = text.split_at_checked(colon)?;
    let rest = rest.strip_prefix(b"://")?;
    let (authority, path) = rest.split_at(rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len()));
    Some((scheme, authority, path))
}

/// One thing that can be purged: a URL, a host, a tag, or everything; hashed with a fixed seed per
/// kind so that a tag never collides with a host of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeId(pub u64);

impl PurgeId {
    /// The id every stored response bears.
    pub const ALL: Self = Self(0x2a2a_2a2a_2a2a_2a2a);

    /// All variants, GET and HEAD, of one URL ([`super::key::KeyRecipe::url`]).
    #[must_use]
    pub const fn url(url: u128) -> Self {
        Self((url as u64) ^ ((url >> 64) as u64).rotate_left(17))
    }

    /// Everything of one host, in lower case.
    #[must_use]
    pub fn host(host: &str) -> Self {
        Self(xxh3_64_with_seed(host.to_ascii_lowercase().as_bytes(), 0x686f_7374))
    }

    /// Everything that carries one tag, byte for byte.
    #[must_use]
    pub fn tag(tag: &[u8]) -> Self {
        Self(xxh3_64_with_seed(tag, 0x0074_6167))
    }

    /// One cache group of one origin (RFC 9875 2): equal names of different origins are different
    /// groups, and a group is never a tag, so that no origin's word reaches another's responses.
    #[must_use]
    pub fn group(scheme: &str, authority: &str, name: &[u8]) -> Self {
        let mut text = Vec::with_capacity(scheme.len() + authority.len() + name.len() + 4);
        text.extend_from_slice(scheme.as_bytes());
        text.extend_from_slice(b"://");
        text.extend_from_slice(url::bare(authority.as_bytes()));
        text.make_ascii_lowercase();
        text.push(b'/');
        text.extend_from_slice(name);
        Self(xxh3_64_with_seed(&text, 0x6772_6f75_7000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_fleet_and_of_one_process_are_one_order() {
        let sequence = Sequence::at(UnixMillis(1_700_000_000_000));
        let stamp = Stamp::of(sequence);
        let local = Stamp(stamp.0 + 3);
        assert!(stamp < local && local < Stamp::of(sequence.next()));
        assert_eq!((local.sequence(), local.shared()), (sequence, stamp));
        assert_eq!(local.time(), UnixMillis(1_700_000_000_000));
        assert!(Stamp::of(Sequence::LAST).0 > stamp.0, "nothing is lost in the shift");
    }

    #[test]
    fn without_prefixes_a_purge_concerns_more() {
        let prefixes =
            |texts: &[&'static str]| texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        let of = |prefixes| {
            let mut purge = Purge { mode: Mode::Soft, ids: vec![PurgeId(7)], prefixes };
            purge.widen();
            purge
        };
        let by_host = of(prefixes(&["http://a:8080/x", "http://A/y"]));
        assert_eq!(
            by_host,
            Purge::of_ids(Mode::Soft, {
                let mut ids = vec![PurgeId(7), PurgeId::host("a")];
                ids.sort_unstable();
                ids
            })
        );
        assert!(of(prefixes(&["/x"])).ids.contains(&PurgeId::ALL));
    }

    #[test]
    fn prefixes_are_of_urls_or_of_paths() {
        let key = b"http://shop.example/blog/1?x=/news/\nheader x:6:/blog/";
        for (prefix, expected) in [
            ("http://shop.example/blog/", true),
            ("http://shop.example", true),
            ("http://shop.example/blog/2", false),
            ("shop.example/blog/", false),
            ("/blog/", true),
            ("/", true),
            ("/blog/1?x", true),
            ("/news/", false),
            ("//", false),
        ] {
            assert_eq!(begins(key, prefix.as_bytes()), expected, "{prefix}");
        }
        assert!(!begins(b"", b"/"));
        for (key, prefix, expected) in [
            ("http://Shop.Example:80/blog/", "http://shop.example/blog", true),
            ("http://shop.example/blog/", "http://SHOP.example:443/blog", true),
            ("http://shop.example/Blog/", "http://shop.example/blog", false),
            ("http://shop.example:8080/blog/", "http://shop.example/blog", false),
            ("http://shop.example.evil/blog/", "http://shop.example", false),
            ("http://[::1]:80/", "http://[::1]/", true),
        ] {
            assert_eq!(begins(key.as_bytes(), prefix.as_bytes()), expected, "{key} {prefix}");
        }
    }
}
