//! What the fuzz targets share: bytes become field lines.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The input as lines; none of them is longer than a field may be.
pub fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n')
}

/// The field `name` with every line of `data` that a field may hold.
#[must_use]
pub fn map(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in lines(data).filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(name, value);
    }
    headers
}

/// What stands before the first NUL, which no field can hold, and what stands after it.
#[must_use]
pub fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// A number of eight bytes, and the rest.
#[must_use]
pub fn number(data: &[u8]) -> (u64, &[u8]) {
    match data.split_first_chunk() {
        Some((bytes, rest)) => (u64::from_le_bytes(*bytes), rest),
        None => (0, data),
    }
}
