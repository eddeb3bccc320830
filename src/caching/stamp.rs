//! Stamps: what makes a stored response invalid without deleting it.
//!
//! A purge of an id is given a sequence number. Every stored response carries the highest number
//! applied *before the first byte of its upstream request was sent*: its stamp. It is valid only
//! while no id it bears was purged after its stamp. Decides: how ids are made and what they mean.
//! Never touches: where the numbers come from.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A position in the sequence of purges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

/// One thing that can be purged: a key, a host, a tag, or everything; hashed with a fixed seed per
/// kind so that a tag never collides with a host of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeId(pub u64);

impl PurgeId {
    /// The id every stored response bears.
    pub const ALL: Self = Self(0x2a2a_2a2a_2a2a_2a2a);

    /// All variants, GET and HEAD, of one primary key.
    #[must_use]
    pub const fn key(primary: u128) -> Self {
        Self((primary as u64) ^ ((primary >> 64) as u64).rotate_left(17))
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
        text.extend_from_slice(authority.as_bytes());
        text.make_ascii_lowercase();
        text.push(b'/');
        text.extend_from_slice(name);
        Self(xxh3_64_with_seed(&text, 0x6772_6f75_7000))
    }
}
