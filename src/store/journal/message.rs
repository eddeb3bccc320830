//! What the journal's scripts and its stream say, read from bytes that anybody may have written.
//!
//! Decides: what is well-formed. Never touches: what it means.

use bytes::Bytes;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::caching::stamp::{Mode, Purge, PurgeId, Sequence};
use crate::semantics::UnixMillis;

/// First byte of all we write: never valid UTF-8.
const MAGIC: u8 = 0xFB;
/// Members of one page. More than one purge can have the number of ([`super::MAX_CALL`]), so that every page
/// but the last ends on a greater number than it began with.
pub const PAGE: usize = 4 * super::MAX_CALL;
/// The longest prefix, in bytes.
const LONGEST_PREFIX: usize = 8 << 10;

/// What tells one life of the journal's keys from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation(pub [u8; 16]);

/// What tells a purge from another that was given the same number, by a server that had forgotten the
/// first: a number that whoever tells it draws. Zero stands for no purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u64);

/// Sixteen hexadecimal digits that scripts can count too, of SHA-1 over these parts. TCP's own sum lets one
/// damaged packet in some thousands through, and what is wrong here does not come right by itself: a purge of
/// another id, or a number so great that none can follow. Against damage, not against malice.
#[must_use]
pub fn seal<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.into_iter().for_each(|part| sum.update(part));
    sum.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What a script answered to the call with this seal: it ends in a seal of both.
#[must_use]
pub fn unsealed<'a>(reply: &'a [u8], call: &str) -> Option<&'a [u8]> {
    let (reply, own) = reply.split_at_checked(reply.len().checked_sub(16)?)?;
    (seal([call.as_bytes(), reply]).as_bytes() == own).then_some(reply)
}

/// How the journal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Which life it is in.
    pub incarnation: Incarnation,
    /// Its first number.
    pub born: Sequence,
    /// The greatest number given so far.
    pub sequence: Sequence,
    /// The number of the last purge; zero = none yet.
    pub last: Sequence,
    /// Its mark.
    pub mark: Mark,
    /// The server's clock.
    pub now: UnixMillis,
    /// The server has no memory left: it takes no purges either.
    pub full: bool,
}

impl Look {
    /// 0xFB, full (0 or 1), incarnation (16 bytes), birth, sequence, last, its mark, clock
    /// (8 bytes each, big-endian).
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Reader(bytes.strip_prefix(&[MAGIC])?);
        let look = Self {
            full: match bytes.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            incarnation: Incarnation(bytes.array()?),
            born: bytes.sequence()?,
            sequence: bytes.sequence()?,
            last: bytes.sequence()?,
            mark: Mark(bytes.u64()?),
            now: UnixMillis(bytes.u64()?),
        };
        let ordered = look.born <= look.sequence && look.last <= look.sequence;
        (bytes.0.is_empty() && ordered && Sequence::at(look.now) <= Sequence::LAST).then_some(look)
    }
}

/// A part of one of the tables, ascending by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of which life of the journal it is.
    pub incarnation: Incarnation,
    /// What was purged last with each number.
    pub purges: Vec<(Sequence, Purge)>,
    /// There may be more.
    pub full: bool,
}

impl Page {
    /// 0xFB, incarnation (16 bytes), then for each member its number (8 bytes), its length (2 bytes) and itself.
    #[must_use]
    pub fn decode(bytes: &[u8], of_ids: bool) -> Option<Self> {
        let mut bytes = Reader(bytes.strip_prefix(&[MAGIC])?);
        let incarnation = Incarnation(bytes.array()?);
        let mut purges: Vec<(Sequence, Purge)> = Vec::new();
        let mut members = 0;
        while !bytes.0.is_empty() {
            let sequence = bytes.sequence()?;
            let length = usize::from(bytes.u16()?);
            let member = bytes.take(length)?;
            members += 1;
            if members > PAGE || purges.last().is_some_and(|(last, _)| *last > sequence) {
                return None;
            }
            let (mode, what) = member.split_first()?;
            let mode = mode_of(&[*mode])?;
            let mut reader = Reader(what);
            let purge = if of_ids {
                Purge::of_ids(mode, vec![PurgeId(reader.u64().filter(|_| reader.0.is_empty())?)])
            } else {
                Purge { mode, ids: Vec::new(), prefixes: vec![prefix(what)?] }
            };
            match purges.last_mut() {
                Some((last, held)) if *last == sequence && held.mode == mode => {
                    held.ids.extend(purge.ids);
                    held.prefixes.extend(purge.prefixes);
                }
                _ => purges.push((sequence, purge)),
            }
        }
        Some(Self { incarnation, purges, full: members == PAGE })
    }
}

/// One purge, as the stream tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub sequence: Sequence,
    /// Its mark.
    pub mark: Mark,
    /// The number of the purge before it; zero = none.
    pub before: Sequence,
    /// The mark of that.
    pub mark_before: Mark,
    /// What it says.
    pub purge: Purge,
}

impl Entry {
    /// An entry's id (`number-0`) and its fields: `b` the number before, `k` its own mark and
    /// that of the one before (8 bytes each), `m` the mode, `i` the ids, `x`
    /// once for each prefix, and at last `c`, the seal of all before it.
    #[must_use]
    pub fn decode<'a>(id: &[u8], fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Option<Self> {
        let sequence = decimal(id.strip_suffix(b"-0")?)?;
        let (mut before, mut marks, mut mode, mut ids, mut prefixes) = (None, None, None, None, Vec::new());
        let (mut sum, mut sealed) = (vec![id], false);
        for (name, value) in fields {
            if sealed {
                return None;
            }
            match name {
                b"c" if seal(sum.drain(..)).as_bytes() == value => sealed = true,
                b"b" => before = Some(decimal(value)?),
                b"k" => {
                    let mut reader = Reader(value);
                    marks = Some((Mark(reader.u64()?), Mark(reader.u64().filter(|_| reader.0.is_empty())?)));
                }
                b"m" => mode = Some(mode_of(value)?),
                b"i" => {
                    let mut reader = Reader(value);
                    let mut all = Vec::with_capacity(value.len() / 8);
                    while !reader.0.is_empty() {
                        all.push(PurgeId(reader.u64()?));
                    }
                    ids = Some(all);
                }
                b"x" => prefixes.push(prefix(value)?),
                _ => return None,
            }
            sum.extend([name, value]);
        }
        let before = before.filter(|before| *before < sequence)?;
        let (mark, mark_before) = marks?;
        let purge = Purge { mode: mode?, ids: ids?, prefixes };
        let bounded = purge.ids.len() <= super::MAX_CALL && purge.prefixes.len() <= super::MAX_CALL_PREFIXES;
        (sealed && bounded).then_some(Self { sequence, mark, before, mark_before, purge })
    }
}

/// A mode as the journal writes it.
#[must_use]
pub const fn mode_byte(mode: Mode) -> &'static str {
    match mode {
        Mode::Hard => "h",
        Mode::Soft => "s",
    }
}

/// Ids as the journal writes them.
#[must_use]
pub fn id_bytes(ids: &[PurgeId]) -> Bytes {
    ids.iter().flat_map(|id| id.0.to_be_bytes()).collect()
}

fn mode_of(byte: &[u8]) -> Option<Mode> {
    match byte {
        b"h" => Some(Mode::Hard),
        b"s" => Some(Mode::Soft),
        _ => None,
    }
}

fn prefix(text: &[u8]) -> Option<Bytes> {
    (!text.is_empty() && text.len() <= LONGEST_PREFIX).then(|| Bytes::copy_from_slice(text))
}

fn decimal(digits: &[u8]) -> Option<Sequence> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().map(Sequence).filter(|sequence| *sequence <= Sequence::LAST)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn sequence(&mut self) -> Option<Sequence> {
        self.u64().map(Sequence).filter(|sequence| *sequence <= Sequence::LAST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn member(sequence: u64, member: &[u8]) -> Vec<u8> {
        let length = u16::try_from(member.len()).expect("short");
        [&sequence.to_be_bytes(), &length.to_be_bytes()[..], member].concat()
    }

    const HEAD: &[u8] = &[MAGIC, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];

    fn id(mode: u8, id: u64) -> Vec<u8> {
        [&[mode][..], &id.to_be_bytes()].concat()
    }

    #[test]
    fn a_look_is_what_it_says_or_nothing() {
        let bytes = |full: u8, [born, sequence, last, now]: [u64; 4]| {
            let numbers = [born, sequence, last, 77, now].map(u64::to_be_bytes).concat();
            [&[MAGIC, full][..], &[7; 16], &numbers].concat()
        };
        let good = bytes(1, [3, 9, 5, 1_700_000_000_000]);
        let look = Look::decode(&good).expect("a look");
        assert_eq!((look.born, look.sequence, look.last), (Sequence(3), Sequence(9), Sequence(5)));
        assert!(look.full && look.incarnation == Incarnation([7; 16]) && look.mark == Mark(77));
        for bad in [
            bytes(2, [3, 9, 5, 0]),
            bytes(0, [10, 9, 5, 0]),
            bytes(0, [3, 9, 10, 0]),
            bytes(0, [3, Sequence::LAST.0 + 1, 5, 0]),
            bytes(0, [3, 9, 5, u64::MAX]),
            [&good[..], &[0]].concat(),
            good[..good.len() - 1].to_vec(),
            good[1..].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(Look::decode(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_page_is_purges_by_number() {
        let page = [HEAD, &member(3, &id(b'h', 1)), &member(3, &id(b'h', 2)), &member(4, &id(b's', 1))];
        let page = Page::decode(&page.concat(), true).expect("a page");
        let expected = vec![
            (Sequence(3), Purge::of_ids(Mode::Hard, vec![PurgeId(1), PurgeId(2)])),
            (Sequence(4), Purge::of_ids(Mode::Soft, vec![PurgeId(1)])),
        ];
        assert_eq!(page, Page { incarnation: Incarnation([7; 16]), purges: expected, full: false });
        let prefixes = [HEAD, &member(3, b"h/blog/")].concat();
        let page = Page::decode(&prefixes, false).expect("a page");
        assert_eq!(page.purges[0].1.prefixes, [Bytes::from("/blog/")]);
        assert!(Page::decode(HEAD, true).is_some_and(|page| page.purges.is_empty() && !page.full));
        for bad in [
            [HEAD, &member(4, &id(b'h', 1)), &member(3, &id(b'h', 2))].concat(),
            [HEAD, &member(4, &id(b'x', 1))].concat(),
            [HEAD, &member(4, b"h1234567")].concat(),
            [HEAD, &member(4, b"")].concat(),
            [HEAD, &member(Sequence::LAST.0 + 1, &id(b'h', 1))].concat(),
            [HEAD, &[1]].concat(),
            vec![MAGIC, 1],
            vec![],
        ] {
            assert_eq!(Page::decode(&bad, true), None, "{bad:?}");
        }
    }

    #[test]
    fn an_entry_is_what_the_stream_says() {
        let ids = id_bytes(&[PurgeId(5), PurgeId(6)]);
        let marks = [1_u64, 2].map(u64::to_be_bytes).concat();
        let fields: [(&[u8], &[u8]); 5] =
            [(b"b", b"7"), (b"m", b"s"), (b"i", &ids), (b"x", b"/a"), (b"k", &marks)];
        let decode = |id: &[u8], fields: &[(&[u8], &[u8])]| {
            let parts = fields.iter().flat_map(|(name, value)| [*name, *value]);
            let seal = seal(std::iter::once(id).chain(parts));
            Entry::decode(id, fields.iter().copied().chain([(&b"c"[..], seal.as_bytes())]))
        };
        let entry = decode(b"9-0", &fields).expect("an entry");
        assert_eq!((entry.sequence, entry.before), (Sequence(9), Sequence(7)));
        assert_eq!((entry.mark, entry.mark_before), (Mark(1), Mark(2)));
        let prefixes = vec![Bytes::from("/a")];
        let expected = Purge { mode: Mode::Soft, ids: vec![PurgeId(5), PurgeId(6)], prefixes };
        assert_eq!(entry.purge, expected);
        assert_eq!(mode_of(mode_byte(Mode::Soft).as_bytes()), Some(Mode::Soft));
        assert_eq!(mode_of(mode_byte(Mode::Hard).as_bytes()), Some(Mode::Hard));
        let no: [(&[u8], Vec<(&[u8], &[u8])>); 8] = [
            (b"9-1", fields.to_vec()),
            (b"9", fields.to_vec()),
            (b"7-0", fields.to_vec()),
            (b"+9-0", fields.to_vec()),
            (b"9-0", fields[1..].to_vec()),
            (b"9-0", fields[..4].to_vec()),
            (b"9-0", [&fields[..], &[(b"y", b"")]].concat()),
            (b"9-0", vec![(b"b", b"7"), (b"m", b"s"), (b"i", b"1234567"), (b"k", &marks)]),
        ];
        for (id, fields) in no {
            assert_eq!(decode(id, &fields), None, "{fields:?}");
        }
        assert_eq!(Entry::decode(b"9-0", fields), None, "no seal");
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let ids = id_bytes(&[PurgeId(5)]);
        let marks = [1_u64, 2].map(u64::to_be_bytes).concat();
        let parts: Vec<&[u8]> = vec![b"9-0", b"b", b"7", b"k", &marks, b"m", b"s", b"i", &ids];
        let own = seal(parts.iter().copied());
        let sealed: Vec<Vec<u8>> =
            parts.iter().map(|part| part.to_vec()).chain([b"c".to_vec(), own.into_bytes()]).collect();
        let decode = |parts: &[Vec<u8>]| {
            let (id, fields) = parts.split_first().expect("an id");
            Entry::decode(id, fields.chunks(2).map(|pair| (&*pair[0], &*pair[1])))
        };
        assert!(decode(&sealed).is_some());
        for (part, bytes) in sealed.iter().enumerate() {
            for bit in 0..bytes.len() * 8 {
                let mut bent = sealed.clone();
                bent[part][bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bent), None, "bit {bit} of part {part}");
            }
        }
        let reply = [b"reply".to_vec(), seal([&b"call"[..], b"reply"]).into_bytes()].concat();
        assert_eq!(unsealed(&reply, "call"), Some(&b"reply"[..]));
        assert_eq!(unsealed(&reply, "another"), None, "the answer to another call");
        for bit in 0..reply.len() * 8 {
            let mut bent = reply.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unsealed(&bent, "call"), None, "bit {bit}");
        }
        (0..reply.len()).for_each(|length| assert_eq!(unsealed(&reply[..length], "call"), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), ids in any::<bool>()) {
            let bytes = [&[MAGIC][..], &bytes].concat();
            let _ = Look::decode(&bytes);
            let _ = Page::decode(&bytes, ids);
            let fields = bytes.chunks(3).map(|chunk| chunk.split_at(1));
            let _ = Entry::decode(&bytes, fields);
        }
    }
}
