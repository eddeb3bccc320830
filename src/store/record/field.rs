//! The parts that records are made of: little-endian integers, and byte strings after their length.
//!
//! Decides: nothing about meaning. Reading is total: whatever is not there is `None`, and no length
//! read from outside is ever allocated or indexed with before it was held against what is there.

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue};

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

    pub(super) fn names(&mut self, names: &[HeaderName]) {
        self.count(names.len());
        names.iter().for_each(|name| self.text(name.as_str().as_bytes()));
    }

    pub(super) fn lines<'a>(
        &mut self,
        lines: impl ExactSizeIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) {
        self.count(lines.len());
        for (name, value) in lines {
            self.text(name.as_str().as_bytes());
            self.text(value.as_bytes());
        }
    }
}

/// Takes parts off the front. What it hands out shares the allocation it reads from; numbers and names
/// are read where they lie.
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
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

    /// How many parts follow, each of `least` bytes or more.
    pub(super) fn count(&mut self, least: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        (count.checked_mul(least)? <= self.0.len()).then_some(count)
    }

    pub(super) fn text(&mut self) -> Option<Bytes> {
        let len = self.count(1)?;
        Some(self.0.split_to(len))
    }

    /// Whether the next text is this one; `None` when there is none.
    pub(super) fn text_is(&mut self, expected: &[u8]) -> Option<bool> {
        self.read_text(|text| Some(text == expected))
    }

    pub(super) fn name(&mut self) -> Option<HeaderName> {
        self.read_text(|text| HeaderName::from_bytes(text).ok())
    }

    pub(super) fn names(&mut self, most: usize) -> Option<Vec<HeaderName>> {
        let count = self.count(4).filter(|count| *count <= most)?;
        self.all(count, Self::name)
    }

    pub(super) fn lines(&mut self) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let count = self.count(8)?;
        self.all(count, |line| Some((line.name()?, HeaderValue::from_maybe_shared(line.text()?).ok()?)))
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

    fn read_text<T>(&mut self, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let len = self.count(1)?;
        let value = read(self.0.get(..len)?)?;
        self.0.advance(len);
        Some(value)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.0.first_chunk::<N>()?;
        self.0.advance(N);
        Some(array)
    }
}
