//! What entries weigh: the bytes they keep, in the allocator's size classes.
//!
//! Decides nothing. Never touches: the cache. Bodies, values and key texts are taken to be in
//! allocations of their own, which is what the tier makes of them.

use std::mem::size_of;

use http::{HeaderName, HeaderValue};

use super::Entry;
use crate::caching::stamp::PurgeId;
use crate::caching::stored::{Fields, StoredHead, StoredResponse, Template};
use crate::caching::vary::{Variant, VaryIndex};
use crate::store::Record;

/// A shared allocation behind a `Bytes` that was cloned: two counts, a pointer, a length.
const SHARED: usize = 32;
/// The two counts of an `Arc`.
const COUNTS: usize = 16;
/// The cache's own: place, pointer, links, hash table slot, and what it remembers of entries that left,
/// in tables that are on average three quarters full.
const SLOT: usize = 80;

/// Bytes that an entry keeps, less its fields' template: that may be shared.
pub(super) fn entry_weight(text: &[u8], record: &Record) -> u64 {
    let record = match record {
        Record::Response(stored) => response_weight(stored),
        Record::Index(index) => index_weight(index),
        Record::HitForMiss { .. } => 0,
    };
    (SLOT + allocated(size_of::<Entry>() + COUNTS) + allocated(text.len()) + record) as u64
}

/// Bytes that a template keeps.
pub(super) fn template_weight(template: &Template) -> u64 {
    let text = |(name, value): &(HeaderName, Option<HeaderValue>)| {
        name_weight(name) + value.as_ref().map_or(0, |value| buffer(value.len()))
    };
    let lines = template.lines();
    let texts: usize = lines.iter().map(text).sum();
    let (text, gaps) = template.prepared_bytes();
    let prepared = allocated(text) + allocated(gaps);
    (SLOT + allocated(size_of::<Template>() + COUNTS) + allocated(size_of_val(lines)) + texts + prepared)
        as u64
}

fn response_weight(stored: &StoredResponse) -> usize {
    let StoredHead { fields, trailers, ids, vary, .. } = &stored.head;
    let (lines, values) = fields_weight(fields);
    let values: usize = values + trailers.iter().map(|(_, value)| value.len()).sum::<usize>();
    allocated(size_of::<StoredResponse>() + COUNTS)
        + stored.body.here().map_or(0, |body| buffer(body.len()))
        + lines
        + allocated(size_of::<(HeaderName, HeaderValue)>() * trailers.len())
        + trailers.iter().map(|(name, _)| name_weight(name)).sum::<usize>()
        + buffer(values)
        + allocated(size_of::<PurgeId>() * ids.len())
        + names_weight(vary)
}

/// What lines keep beside the text of their values, and the length of that.
fn fields_weight(fields: &Fields) -> (usize, usize) {
    match fields.parts() {
        Some((_, own)) => (allocated(size_of_val(own)), own.iter().map(HeaderValue::len).sum()),
        None => {
            let lines = allocated(size_of::<(HeaderName, HeaderValue)>() * fields.len());
            let names: usize = fields.iter().map(|(name, _)| name_weight(name)).sum();
            (lines + names, fields.iter().map(|(_, value)| value.len()).sum())
        }
    }
}

fn index_weight(index: &VaryIndex) -> usize {
    let sets: usize = index.sets.iter().map(|names| names_weight(names)).sum();
    let etags: usize = index.variants.iter().flat_map(|v| &v.etag).map(|etag| buffer(etag.len())).sum();
    allocated(size_of::<VaryIndex>() + COUNTS)
        + allocated(size_of::<Vec<HeaderName>>() * index.sets.len())
        + sets
        + allocated(size_of::<Variant>() * index.variants.len())
        + etags
}

fn names_weight(names: &[HeaderName]) -> usize {
    allocated(size_of_val(names)) + names.iter().map(name_weight).sum::<usize>()
}

/// The text of a name, which standard names do not keep: only theirs is where it always is.
fn name_weight(name: &HeaderName) -> usize {
    let again = HeaderName::from_bytes(name.as_str().as_bytes());
    let standard = again.is_ok_and(|again| again.as_str().as_ptr() == name.as_str().as_ptr());
    if standard { 0 } else { allocated(name.as_str().len()) }
}

fn buffer(len: usize) -> usize {
    if len == 0 { 0 } else { allocated(len) + SHARED }
}

/// What an allocation of `len` bytes takes: four size classes for each doubling, 16 bytes at least.
fn allocated(len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    let class = (len.next_power_of_two() / 8).max(16);
    len.next_multiple_of(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_round_up_to_size_classes() {
        for (len, taken) in [(0, 0), (1, 16), (16, 16), (17, 32), (1025, 1280), (1280, 1280), (5000, 5120)] {
            assert_eq!(allocated(len), taken, "{len}");
        }
    }

    #[test]
    fn standard_names_weigh_nothing() {
        assert_eq!(name_weight(&http::header::CONTENT_TYPE), 0);
        assert_eq!(name_weight(&HeaderName::from_bytes(b"ETag").unwrap()), 0);
        assert_eq!(name_weight(&HeaderName::from_bytes(b"x-request-identity").unwrap()), 32);
    }
}
