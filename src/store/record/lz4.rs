//! LZ4 blocks of at most one chunk, with lengths of our own.
//!
//! Decides: which bodies are worth compressing, and how large a block may claim to be. Never touches:
//! the format's own length prefixes and frames, which allocate what four bytes from outside ask for.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use super::CHUNK;
use crate::caching::stored::StoredHead;

/// Whether a response's content is likely to shrink.
pub(super) fn compressible(head: &StoredHead) -> bool {
    if head.field(&CONTENT_ENCODING).is_some() {
        return false;
    }
    let Some(value) = head.field(&CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence.starts_with(b"text/")
        || essence.ends_with(b"+json")
        || essence.ends_with(b"+xml")
        || matches!(
            essence.as_slice(),
            b"application/json"
                | b"application/javascript"
                | b"application/x-javascript"
                | b"application/xml"
                | b"application/x-ndjson"
                | b"application/wasm"
                | b"application/x-www-form-urlencoded"
                | b"application/vnd.ms-fontobject"
                | b"font/ttf"
                | b"font/otf"
                | b"image/bmp"
                | b"image/x-icon"
        )
}

/// The block of `plain`, if it saves 12 % or more; else `plain` itself.
pub(super) fn pack(plain: &[u8]) -> Cow<'_, [u8]> {
    let mut block = vec![0; get_maximum_output_size(plain.len())];
    match compress_into(plain, &mut block) {
        Ok(len) if len.saturating_mul(100) <= plain.len().saturating_mul(88) => {
            block.truncate(len);
            Cow::Owned(block)
        }
        _ => Cow::Borrowed(plain),
    }
}

/// Whether a block can stand for so many bytes. LZ4 cannot expand by more than 255: what claims to is refused before
/// its length is allocated.
pub(super) fn can_stand_for(block: &[u8], len: usize) -> bool {
    len <= CHUNK && len <= block.len().saturating_mul(255).saturating_add(64)
}

/// Appends the `len` bytes that a block stands for, and is refused unless it can.
pub(super) fn unpack(block: &[u8], len: usize, out: &mut Vec<u8>) -> Option<()> {
    if !can_stand_for(block, len) {
        return None;
    }
    let begin = out.len();
    out.resize(begin + len, 0);
    let unpacked = decompress_into(block, out.get_mut(begin..)?).ok()?;
    (unpacked == len).then_some(())
}
