//! Which chunks hold which bytes of a long body.
//!
//! Decides: the chunks that a range touches, and what of each it takes. Never touches: the chunks. Pure.

use std::ops::Range;

use crate::store::record::CHUNK;

/// What is taken of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The chunk, counted from 0.
    pub(super) chunk: u32,
    /// Offset of the first byte taken of it.
    pub(super) from: usize,
    /// How many bytes are taken.
    pub(super) length: usize,
}

/// The spans of ranges, in their order. No span reaches over the end of a chunk or of a range.
#[derive(Debug)]
pub(super) struct Spans {
    /// Ranges still to come: first and last offset, the last first.
    left: Vec<(u64, u64)>,
}

impl Spans {
    /// The spans of `ranges` (first and last offset each, inclusive) of a body of `length` bytes; `None`
    /// when one of them does not lie within it.
    pub(super) fn of(ranges: &[(u64, u64)], length: u64) -> Option<Self> {
        let within = |(first, last): &(u64, u64)| first <= last && *last < length;
        let last_chunk = length.saturating_sub(1) / CHUNK as u64;
        let countable = u32::try_from(last_chunk).is_ok();
        (countable && ranges.iter().all(within))
            .then(|| Self { left: ranges.iter().rev().copied().collect() })
    }

    /// The chunk of the next span.
    pub(super) fn peek(&self) -> Option<u32> {
        let (first, _) = self.left.last()?;
        u32::try_from(first / CHUNK as u64).ok()
    }

    /// The chunks of what is still to come, range by range.
    pub(super) fn chunks_left(&self) -> impl Iterator<Item = Range<u32>> {
        let number = |offset: u64| u32::try_from(offset / CHUNK as u64).unwrap_or(u32::MAX);
        self.left.iter().rev().map(move |(first, last)| number(*first)..number(*last).saturating_add(1))
    }
}

impl Iterator for Spans {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let chunk = self.peek()?;
        let (first, last) = self.left.last_mut()?;
        let begins = u64::from(chunk) * CHUNK as u64;
        let ends = (begins + CHUNK as u64 - 1).min(*last);
        // Both are below the length of a chunk.
        let from = usize::try_from(*first - begins).ok()?;
        let length = usize::try_from(ends - *first + 1).ok()?;
        if ends == *last {
            self.left.pop();
        } else {
            *first = ends + 1;
        }
        Some(Span { chunk, from, length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const C: u64 = CHUNK as u64;

    #[test]
    fn ranges_touch_their_chunks_alone() {
        type Row = (u64, &'static [(u64, u64)], &'static [(u32, u64, u64)]);
        let rows: &[Row] = &[
            (1, &[(0, 0)], &[(0, 0, 1)]),
            (C, &[(0, C - 1)], &[(0, 0, C)]),
            (C + 1, &[(0, C)], &[(0, 0, C), (1, 0, 1)]),
            (3 * C, &[(C - 1, C - 1)], &[(0, C - 1, 1)]),
            (3 * C, &[(C, C)], &[(1, 0, 1)]),
            (3 * C, &[(C - 1, C)], &[(0, C - 1, 1), (1, 0, 1)]),
            (3 * C, &[(C, 2 * C - 1)], &[(1, 0, C)]),
            (3 * C, &[(C, 2 * C)], &[(1, 0, C), (2, 0, 1)]),
            (3 * C, &[(3 * C - 1, 3 * C - 1)], &[(2, C - 1, 1)]),
            (3 * C, &[(2 * C, 2 * C), (0, 1), (1, 2)], &[(2, 0, 1), (0, 0, 2), (0, 1, 2)]),
            (3 * C, &[], &[]),
        ];
        for (length, ranges, expected) in rows {
            let spans: Vec<_> = Spans::of(ranges, *length).expect("within").collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(chunk, from, length)| Span {
                    chunk: *chunk,
                    from: usize::try_from(*from).unwrap(),
                    length: usize::try_from(*length).unwrap(),
                })
                .collect();
            assert_eq!(spans, expected, "{ranges:?} of {length}");
        }
    }

    #[test]
    fn what_is_left_shrinks() {
        let mut spans = Spans::of(&[(C - 1, 2 * C), (5 * C, 6 * C - 1)], 9 * C).expect("within");
        let mut left = Vec::new();
        loop {
            left.push(spans.chunks_left().map(|chunks| (chunks.start, chunks.end)).collect::<Vec<_>>());
            if spans.next().is_none() {
                break;
            }
        }
        assert_eq!(
            left,
            [vec![(0, 3), (5, 6)], vec![(1, 3), (5, 6)], vec![(2, 3), (5, 6)], vec![(5, 6)], vec![]]
        );
    }

    #[test]
    fn what_lies_outside_has_no_spans() {
        for (length, range) in [
            (0, (0, 0)),
            (C, (C, C)),
            (C, (0, C)),
            (C, (2, 1)),
            (C, (0, u64::MAX)),
            (u64::MAX, (0, 0)),
            (u64::MAX, (u64::MAX, u64::MAX)),
        ] {
            assert!(Spans::of(&[(0, 0), range], length).is_none(), "{range:?} of {length}");
        }
    }

    proptest! {
        /// Whatever the body and the ranges: the spans are the bytes that were asked for, each once, in
        /// order, and each within its chunk.
        #[test]
        fn spans_cover_exactly_what_was_asked(
            length in prop_oneof![1..=8 * C, (1..=8_u64, 0..=2_u64).prop_map(|(n, off)| n * C + off - 1)],
            marks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
        ) {
            let end = usize::try_from(length).unwrap();
            let ranges: Vec<(u64, u64)> = marks
                .iter()
                .map(|(a, b)| (a.index(end) as u64, b.index(end) as u64))
                .map(|(a, b)| (a.min(b), a.max(b)))
                .collect();
            let mut spans = Spans::of(&ranges, length).expect("within");
            for (first, last) in ranges {
                let mut at = first;
                while at <= last {
                    prop_assert_eq!(spans.peek(), u32::try_from(at / C).ok());
                    let span = spans.next().expect("more was asked for");
                    prop_assert!(span.length > 0 && span.from + span.length <= CHUNK);
                    prop_assert_eq!(u64::from(span.chunk) * C + span.from as u64, at);
                    at += span.length as u64;
                }
                prop_assert_eq!(at, last + 1, "a span ends where its range does");
            }
            prop_assert_eq!((spans.peek(), spans.next()), (None, None));
        }
    }
}
