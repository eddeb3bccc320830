//! Names of Redis keys.
//!
//! Decides how a [`StoreKey`] is spelt. Never touches: what lies under a name. All names of one
//! primary key share the hash tag `{H}`, so that they lie in one slot of a Redis Cluster:
//!
//! | name | holds |
//! |---|---|
//! | `prefix:{H}:o` | the primary record: a response, or the index of the variants |
//! | `prefix:{H}:v:<variant>` | a variant |
//! | `prefix:{H}:l`, `prefix:{H}:l:<variant>` | the fleet lock of either |
//! | `prefix:{H}:w`, `prefix:{H}:w:<variant>` | the last word of who held it |
//! | `prefix:{H}:b:<content>:<n>` | chunk `n` of a long body |
//! | `prefix:probe` | what probes read and write |
//! | `prefix:{journal}:state`, `:ids`, `:prefixes`, `:log` | the fleet's purges, see [`crate::store::journal`] |
//! | `prefix:{n}:probe` | the same in a Redis Cluster, `n` such that each master has one |

use fred::types::Key;
use fred::util::redis_keyslot;

use crate::caching::vary::VariantHash;
use crate::store::StoreKey;

/// Names among which one is sought for each master of a cluster.
const PROBES: u16 = 1024;
/// Room for everything after the prefix.
const ROOM: usize = 96;

/// Spells the names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Where a record lives.
    pub(super) fn record(&self, key: &StoreKey) -> Key {
        let mut name = Vec::with_capacity(self.prefix.len() + ROOM);
        self.put_record(key, &mut name);
        name.as_slice().into()
    }

    /// The same at the end of other bytes: readings of records make nothing else of it.
    pub(super) fn put_record(&self, key: &StoreKey, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(b":{");
        out.extend_from_slice(hex(key.primary.to_be_bytes()).as_flattened());
        match key.variant {
            None => out.extend_from_slice(b"}:o"),
            Some(VariantHash(variant)) => {
                out.extend_from_slice(b"}:v:");
                out.extend_from_slice(hex(variant.to_be_bytes()).as_flattened());
            }
        }
    }

    /// Where the lock of a record lives.
    pub(super) fn lock(&self, key: &StoreKey) -> Key {
        self.beside(key, ":l")
    }

    /// Where the last word of who held that lock lives.
    pub(super) fn last_word(&self, key: &StoreKey) -> Key {
        self.beside(key, ":w")
    }

    fn beside(&self, key: &StoreKey, what: &str) -> Key {
        let mut name = self.slot(key);
        name.push_str(what);
        if let Some(VariantHash(variant)) = key.variant {
            name.push(':');
            push_hex(&mut name, &variant.to_be_bytes());
        }
        name.into()
    }

    /// Where chunk `n` of a content lives.
    pub(super) fn chunk(&self, key: &StoreKey, content: &[u8; 16], n: u32) -> Key {
        let mut name = self.slot(key);
        name.push_str(":b:");
        push_hex(&mut name, content);
        name.push(':');
        name.push_str(&n.to_string());
        name.into()
    }

    /// What probes read and write.
    pub(super) fn probe(&self) -> Key {
        format!("{}:probe", self.prefix).into()
    }

    /// A key of the purge journal.
    pub(super) fn journal(&self, what: &str) -> Key {
        format!("{}:{{journal}}:{what}", self.prefix).into()
    }

    /// What probes of a Redis Cluster read and write: the first names that lie with each of `masters`, who
    /// has which slots being `owner`'s word. A master of hardly any slots may be left out.
    pub(super) fn probes<'m, M: PartialEq + 'm>(
        &self,
        masters: &[M],
        owner: impl Fn(u16) -> Option<&'m M>,
    ) -> Vec<Key> {
        let mut left: Vec<&M> = masters.iter().collect();
        let mut names = Vec::with_capacity(left.len());
        for n in 0..PROBES {
            if left.is_empty() {
                break;
            }
            let name = format!("{}:{{{n}}}:probe", self.prefix);
            let of = owner(redis_keyslot(name.as_bytes()));
            if let Some(at) = left.iter().position(|master| Some(*master) == of) {
                left.swap_remove(at);
                names.push(name.into());
            }
        }
        names
    }

    fn slot(&self, key: &StoreKey) -> String {
        let mut name = String::with_capacity(self.prefix.len() + ROOM);
        name.push_str(&self.prefix);
        name.push_str(":{");
        push_hex(&mut name, &key.primary.to_be_bytes());
        name.push('}');
        name
    }
}

fn push_hex<const N: usize>(name: &mut String, bytes: &[u8; N]) {
    name.push_str(str::from_utf8(hex(*bytes).as_flattened()).unwrap_or_default());
}

/// Two digits for each byte. Without branches or look-ups: many at once.
fn hex<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    let digit = |half: u8| half + b'0' + if half > 9 { b'a' - b'0' - 10 } else { 0 };
    bytes.map(|byte| [digit(byte >> 4), digit(byte & 15)])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn names() {
        let names = Names::new("forebay");
        let key = |variant| StoreKey { primary: 0xab, variant, text: Bytes::new() };
        let (primary, variant) = (key(None), key(Some(VariantHash(0x1f))));
        let slot = "forebay:{000000000000000000000000000000ab}";
        for (name, expected) in [
            (names.record(&primary), ":o"),
            (names.record(&variant), ":v:000000000000001f"),
            (names.lock(&primary), ":l"),
            (names.lock(&variant), ":l:000000000000001f"),
            (names.last_word(&primary), ":w"),
            (names.last_word(&variant), ":w:000000000000001f"),
            (names.chunk(&variant, &[0xc0; 16], 31), ":b:c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0:31"),
        ] {
            assert_eq!(name.as_str_lossy(), format!("{slot}{expected}"));
        }
        assert_eq!(names.probe().as_str_lossy(), "forebay:probe");
    }

    #[test]
    fn each_master_of_a_cluster_has_a_probe() {
        let names = Names::new("forebay");
        let masters = ["a", "b", "c", "no slots"];
        let owner = |slot: u16| Some(&masters[usize::from(slot / 5462)]);
        let probes = names.probes(&masters, owner);
        let mut of: Vec<_> =
            probes.iter().map(|name| *owner(redis_keyslot(name.as_bytes())).unwrap()).collect();
        of.sort_unstable();
        assert_eq!(of, ["a", "b", "c"]);
        assert!(probes.iter().all(|name| name.as_str_lossy().starts_with("forebay:{")));
        assert_eq!(names.probes(&masters, |_| None), []);
    }

    #[test]
    fn the_longest_name_is_one_allocation() {
        let key = StoreKey { primary: u128::MAX, variant: None, text: Bytes::new() };
        assert!(Names::new("").chunk(&key, &[0xff; 16], u32::MAX).as_bytes().len() <= ROOM);
    }
}
