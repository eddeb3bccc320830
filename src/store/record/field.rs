//! The parts that records are made of: little-endian integers, byte strings after their length, and names
//! of fields.
//!
//! Decides: nothing about meaning. Reading is total: whatever is not there is `None`, and no length
//! read from outside is ever allocated or indexed with before it was held against what is there.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::caching::stored::{LineText, MAX_LINES, Name, names};

/// Parts that room is made for at once.
const USUAL: usize = 32;

/// Appends parts. A length beyond 32 bits is written as one that no reader accepts.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    pub(super) fn u16(&mut self, n: u16) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub(super) fn u32(&mut self, n: u32) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub(super) fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub(super) fn count(&mut self, n: usize) {
        self.u32(u32::try_from(n).unwrap_or(u32::MAX));
    }

    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Numbers after how many they are.
    pub(super) fn u64s(&mut self, numbers: impl ExactSizeIterator<Item = u64>) {
        self.count(numbers.len());
        numbers.for_each(|number| self.u64(number));
    }

    pub(super) fn name(&mut self, name: &HeaderName) {
        match names::number(name) {
            Some(number) => self.u8(number),
            None => {
                self.u8(names::SPELT);
                self.text(name.as_str().as_bytes());
            }
        }
    }

    pub(super) fn names(&mut self, names: &[HeaderName]) {
        self.count(names.len());
        names.iter().for_each(|name| self.name(name));
    }

    pub(super) fn lines<'a>(
        &mut self,
        lines: impl ExactSizeIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) {
        self.count(lines.len());
        for (name, value) in lines {
            self.name(name);
            self.text(value.as_bytes());
        }
    }
}

/// Takes parts off the front of bytes. What it hands out is in allocations of its own: the bytes may be a small part
/// of a large read buffer.
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) const fn of(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything was taken.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[n]| n)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// So many numbers after how many they are.
    pub(super) fn u64s(&mut self) -> Option<Vec<u64>> {
        let count = self.count(8)?;
        let (numbers, rest) = self.0.split_at_checked(count.checked_mul(8)?)?;
        self.0 = rest;
        let (numbers, _) = numbers.as_chunks();
        Some(numbers.iter().map(|number| u64::from_le_bytes(*number)).collect())
    }

    /// How many parts follow, each of `least` bytes or more.
    pub(super) fn count(&mut self, least: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        (count.checked_mul(least)? <= self.0.len()).then_some(count)
    }

    pub(super) fn text(&mut self) -> Option<Bytes> {
        self.borrowed().map(Bytes::copy_from_slice)
    }

    pub(super) fn name(&mut self) -> Option<HeaderName> {
        match self.u8()? {
            names::SPELT => HeaderName::from_bytes(self.borrowed()?).ok(),
            number => names::name(number),
        }
    }

    pub(super) fn names(&mut self, most: usize) -> Option<Vec<HeaderName>> {
        let count = self.count(1).filter(|count| *count <= most)?;
        self.all(count, Self::name)
    }

    pub(super) fn lines(&mut self) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let count = self.count(5)?;
        self.all(count, |line| Some((line.name()?, HeaderValue::from_bytes(line.borrowed()?).ok()?)))
    }

    /// The values of field lines, one behind the other, and how many lines there are.
    pub(super) fn values(&mut self) -> Option<(&'b [u8], usize)> {
        let values = self.borrowed()?;
        Some((values, self.count(5).filter(|count| *count <= MAX_LINES)?))
    }

    /// Appends one of those lines.
    pub(super) fn line(&mut self, lines: &mut LineText<'_>, out: &mut Vec<u8>) -> Option<()> {
        let name = match self.u8()? {
            names::SPELT => Name::Spelt(self.borrowed()?),
            number => Name::Numbered(number),
        };
        lines.put(out, name, usize::try_from(self.u32()?).ok()?)
    }

    /// So many parts, or none. What they become may be larger than their bytes: room is made for what
    /// responses have, and for more only as it is read.
    pub(super) fn all<T>(
        &mut self,
        count: usize,
        mut part: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut parts = Vec::with_capacity(count.min(USUAL));
        for _ in 0..count {
            parts.push(part(self)?);
        }
        Some(parts)
    }

    fn borrowed(&mut self) -> Option<&'b [u8]> {
        let (text, rest) = split_text(self.0)?;
        self.0 = rest;
        Some(text)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

/// A byte string after its length, and what follows it.
pub(super) fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
}
