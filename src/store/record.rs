//! The wire form of records: bytes for Redis, and back.
//!
//! Decides: whether bytes are a record of the key that was asked for, complete and unharmed. Never
//! touches: connections, expiry, validity (a stamp is handed out as it was stored). Pure.
//!
//! Whoever can write to Redis can write anything under our keys: [`decode`] and [`decode_chunk`] are
//! total. They allocate nothing that was not held against the bytes at hand, and their only failure is
//! [`Rejected`], which is a miss. Checksums find accidents; they are no proof of origin.
//!
//! # A record (all integers little endian)
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | `FB 46 42`, version. `FB` is never UTF-8: no text is taken for a record |
//! | 4 | 4 | kind, flags (bit 0: the body is an LZ4 block), two zero bytes |
//! | 8 | 8 | xxh3 of bytes 16 to the end, with bytes 0 to 7 mixed in |
//! | 16 | 4 + 4 | length of the meta block; chunks that hold the body elsewhere |
//! | 24 | 8 + 8 | length of the body; length of the body as stored here |
//! | 40 | 16 | content id of the chunks |
//! | 56 | | meta block: key text, variant, then what the kind says |
//! | | | body, for a response that is not chunked |
//!
//! Names of fields are numbers where `names` has them, and else spelt after a zero. Of field lines the values
//! stand first, one behind the other, then a name and a length for each: read once, they are the text that
//! answers have.
//!
//! # A chunk
//!
//! At most [`CHUNK`] bytes of a larger body, each readable without the others: the same first 16
//! bytes, then content id (16), number of the chunk (4), its length (4), and its bytes as stored. Chunks
//! are written before the record that names their content id, which is the commit. The id is a hash of
//! the body: a record that is written anew with the body it had (a 304) names the chunks that are there.

mod field;
mod lz4;
mod rejected;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::StatusCode;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use self::field::{Reader, Writer, split_text};
pub use self::rejected::Rejected;
use super::{Record, StoreKey};
use crate::caching::stamp::{PurgeId, Stamp};
use crate::caching::stored::{
    Fields, InStore, LineText, Part, StoredBody, StoredHead, StoredResponse, Traits,
};
use crate::caching::vary::{MAX_NAMES, MAX_SETS, MAX_VARIANTS, Variant, VariantHash, VaryIndex};
use crate::semantics::UnixMillis;

/// The largest body inside a record, and the length of every chunk but the last.
pub const CHUNK: usize = 256 << 10;

/// The largest meta block that is read.
const MAX_META: usize = 1 << 20;

/// The most chunks of one body: 4 GiB.
const MAX_CHUNKS: u32 = 16 << 10;

const MAGIC: [u8; 3] = *b"\xFBFB";
const VERSION: u8 = 4;

/// This process, among those that write records: stamps are exact to it alone.
static WRITER: LazyLock<u32> = LazyLock::new(|| fastrand::u32(..));

const RESPONSE: u8 = 1;
const CHUNKED: u8 = 2;
const INDEX: u8 = 3;
const HIT_FOR_MISS: u8 = 4;
const BODY_CHUNK: u8 = 5;

const LZ4: u8 = 1;

/// Bytes before the meta block.
const FIXED: usize = 56;
/// Bytes of a chunk before its content.
const CHUNK_FIXED: usize = 40;
/// Bytes before those that the first checksum covers.
const SEALED_FROM: usize = 16;

/// What names the chunks of one body.
pub type ContentId = [u8; 16];

/// Where in a record its seal stands, which is [`InStore::mark`] of a body it names: first and last offset.
pub const MARK_AT: (usize, usize) = (8, 15);

/// Which bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// None.
    Never,
    /// Compressible ones of this many bytes or more, without a content coding of their own, where it
    /// saves 12 % or more.
    Above(u64),
}

/// A record ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The record: with its body, or with what names its chunks.
    pub record: Bytes,
    /// A body over [`CHUNK`] that is at hand: its chunks are to be written before the record.
    pub long_body: Option<LongBody>,
    /// Length of the body in the record.
    pub body_len: u64,
    /// Length of the body in the record, as stored.
    pub stored_len: u64,
}

/// A body over [`CHUNK`], whose chunks are made one by one: a second copy of the whole never exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongBody {
    /// What names the chunks: equal for equal bodies of one key and variant, however they are stored.
    pub content_id: ContentId,
    body: Bytes,
    compress: bool,
}

/// A chunk ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChunk {
    /// The chunk.
    pub bytes: Bytes,
    /// Length of its part of the body.
    pub len: u64,
    /// The same as stored.
    pub stored_len: u64,
}

impl LongBody {
    /// How many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.body.len().div_ceil(CHUNK)).unwrap_or(u32::MAX)
    }

    /// A chunk, counted from 0; `None` when there is no such chunk. Compresses: it does not belong on an
    /// event loop.
    #[must_use]
    pub fn chunk(&self, number: u32) -> Option<EncodedChunk> {
        let plain = self.body.chunks(CHUNK).nth(number as usize)?;
        let (stored, flags) = packed(plain, self.compress);
        let mut out = Writer(Vec::with_capacity(CHUNK_FIXED + stored.len()));
        put_preamble(&mut out, BODY_CHUNK, flags);
        out.0.extend_from_slice(&self.content_id);
        out.u32(number);
        out.count(plain.len());
        out.0.extend_from_slice(&stored);
        put_seal(&mut out.0);
        let (len, stored_len) = (plain.len() as u64, stored.len() as u64);
        Some(EncodedChunk { bytes: Bytes::from(out.0), len, stored_len })
    }
}

/// The bytes of a record. Hashing and compressing take up to a millisecond: above 64 KiB of body this
/// does not belong on an event loop.
#[must_use]
pub fn encode(key: &StoreKey, record: &Record, compress: Compress) -> Encoded {
    let mut meta = Writer(Vec::with_capacity(512));
    meta.text(&key.text);
    meta.u64(key.variant.map_or(0, |variant| variant.0));
    match record {
        Record::Response(stored) => {
            put_head(&mut meta, &stored.head);
            match &stored.body {
                StoredBody::Here(body) if body.len() > CHUNK => {
                    let body = long_body(key, body, wanted(&stored.head, body, compress));
                    let chunked = InStore { length: body.body.len() as u64, id: body.content_id, mark: 0 };
                    Encoded { long_body: Some(body), ..encode_chunked(&meta.0, chunked) }
                }
                StoredBody::Here(body) => encode_inline(&meta.0, body, wanted(&stored.head, body, compress)),
                StoredBody::InStore(body) => encode_chunked(&meta.0, *body),
            }
        }
        Record::Index(index) => {
            put_index(&mut meta, index);
            assembled(Fixed { kind: INDEX, ..Fixed::default() }, &meta.0, &[])
        }
        Record::HitForMiss { until } => {
            meta.u64(until.0);
            assembled(Fixed { kind: HIT_FOR_MISS, ..Fixed::default() }, &meta.0, &[])
        }
    }
}

/// The record in `bytes`, which were found under `key`; a body in chunks stays where it is. One copy is made of what it keeps, in an
/// allocation of its own: `bytes` may be a small part of a large read buffer.
///
/// # Errors
/// [`Rejected`] for everything that [`encode`] does not make of this key.
pub fn decode(key: &StoreKey, bytes: &[u8]) -> Result<Record, Rejected> {
    let (kind, flags) = preamble(bytes)?;
    let fixed = bytes.get(SEALED_FROM..FIXED).and_then(<[u8]>::first_chunk).ok_or(Rejected::Length)?;
    let fixed = Fixed::read(kind, flags, fixed);
    let meta_len = usize::try_from(fixed.meta_len).map_err(|_| Rejected::Limit)?;
    if meta_len > MAX_META || fixed.chunks > MAX_CHUNKS || fixed.stored_len > CHUNK as u64 {
        return Err(Rejected::Limit);
    }
    let meta_end = FIXED + meta_len;
    let (Some(meta), Some(stored)) = (bytes.get(FIXED..meta_end), bytes.get(meta_end..)) else {
        return Err(Rejected::Length);
    };
    if stored.len() as u64 != fixed.stored_len {
        return Err(Rejected::Length);
    }
    let mark = seal(bytes).ok_or(Rejected::Length)?;
    if sealed(bytes) != Some(mark) {
        return Err(Rejected::Checksum);
    }
    fixed.decode(past_key(key, meta)?, stored, mark)
}

/// The meta block after key text and variant, which are to be those of `key`.
fn past_key<'m>(key: &StoreKey, meta: &'m [u8]) -> Result<&'m [u8], Rejected> {
    let (text, rest) = split_text(meta).ok_or(Rejected::Malformed)?;
    let (variant, rest) = rest.split_first_chunk().ok_or(Rejected::Malformed)?;
    let is_asked =
        *text == *key.text && u64::from_le_bytes(*variant) == key.variant.map_or(0, |variant| variant.0);
    if is_asked { Ok(rest) } else { Err(Rejected::Key) }
}

/// One chunk of a body: its content, a slice of `bytes` unless it was compressed.
///
/// # Errors
/// [`Rejected`] for everything but this chunk, counted from 0.
pub fn decode_chunk(of: &InStore, number: u32, bytes: Bytes) -> Result<Bytes, Rejected> {
    let (kind, flags) = preamble(&bytes)?;
    if bytes.len() > CHUNK_FIXED + CHUNK {
        return Err(Rejected::Limit);
    }
    if sealed(&bytes) != seal(&bytes) {
        return Err(Rejected::Checksum);
    }
    let fixed = bytes.get(SEALED_FROM..CHUNK_FIXED).ok_or(Rejected::Length)?;
    let content = bytes.slice(CHUNK_FIXED..);
    let (id, fixed) = fixed.split_first_chunk::<16>().ok_or(Rejected::Length)?;
    let (counted, len) = fixed.split_first_chunk().ok_or(Rejected::Length)?;
    let len = len.first_chunk().copied().map(u32::from_le_bytes).ok_or(Rejected::Length)?;
    if kind != BODY_CHUNK || *id != of.id || u32::from_le_bytes(*counted) != number {
        return Err(Rejected::Key);
    }
    if Some(u64::from(len)) != chunk_len(of.length, number) {
        return Err(Rejected::Malformed);
    }
    if flags & LZ4 != 0 {
        return unpacked(u64::from(len), &content);
    }
    if content.len() as u64 == u64::from(len) { Ok(content) } else { Err(Rejected::Malformed) }
}

/// How many chunks hold a body of this length.
#[must_use]
pub fn chunks_of(body_len: u64) -> u32 {
    u32::try_from(body_len.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX)
}

/// The length of a chunk; `None` when there is no such chunk.
#[must_use]
fn chunk_len(body_len: u64, number: u32) -> Option<u64> {
    let before = u64::from(number).checked_mul(CHUNK as u64)?;
    let left = body_len.checked_sub(before).filter(|left| *left > 0)?;
    Some(left.min(CHUNK as u64))
}

// === encoding ===

fn encode_inline(meta: &[u8], body: &[u8], compress: bool) -> Encoded {
    let (stored, flags) = packed(body, compress);
    let body_len = body.len() as u64;
    assembled(Fixed { kind: RESPONSE, flags, body_len, ..Fixed::default() }, meta, &stored)
}

fn long_body(key: &StoreKey, body: &Bytes, compress: bool) -> LongBody {
    let variant = key.variant.map_or(0, |variant| variant.0);
    let seed = key.primary as u64 ^ ((key.primary >> 64) as u64).rotate_left(32) ^ variant.rotate_left(16);
    let content_id = xxh3_128_with_seed(body, seed).to_le_bytes();
    LongBody { content_id, body: body.clone(), compress }
}

fn encode_chunked(meta: &[u8], body: InStore) -> Encoded {
    let InStore { length: body_len, id: content_id, mark: _ } = body;
    let fixed =
        Fixed { kind: CHUNKED, chunks: chunks_of(body_len), body_len, content_id, ..Fixed::default() };
    Encoded { body_len: 0, ..assembled(fixed, meta, &[]) }
}

fn wanted(head: &StoredHead, body: &[u8], compress: Compress) -> bool {
    match compress {
        Compress::Never => false,
        Compress::Above(least) => !body.is_empty() && body.len() as u64 >= least && lz4::compressible(head),
    }
}

fn packed(plain: &[u8], compress: bool) -> (Cow<'_, [u8]>, u8) {
    let stored = if compress { lz4::pack(plain) } else { Cow::Borrowed(plain) };
    let flags = if matches!(stored, Cow::Owned(_)) { LZ4 } else { 0 };
    (stored, flags)
}

/// The fixed part, the meta block, and the body after both; sealed.
fn assembled(fixed: Fixed, meta: &[u8], stored: &[u8]) -> Encoded {
    let mut out = Writer(Vec::with_capacity(FIXED + meta.len() + stored.len()));
    put_preamble(&mut out, fixed.kind, fixed.flags);
    out.count(meta.len());
    out.u32(fixed.chunks);
    out.u64(fixed.body_len);
    out.u64(stored.len() as u64);
    out.0.extend_from_slice(&fixed.content_id);
    out.0.extend_from_slice(meta);
    out.0.extend_from_slice(stored);
    put_seal(&mut out.0);
    Encoded {
        record: Bytes::from(out.0),
        long_body: None,
        body_len: fixed.body_len,
        stored_len: stored.len() as u64,
    }
}

fn put_preamble(out: &mut Writer, kind: u8, flags: u8) {
    out.0.extend_from_slice(&MAGIC);
    out.u8(VERSION);
    out.u8(kind);
    out.u8(flags);
    out.u16(0);
    // The seal's place.
    out.u64(0);
}

fn put_head(out: &mut Writer, head: &StoredHead) {
    put_fields(out, &head.fields);
    out.u16(head.status.as_u16());
    out.u32(head.traits.0);
    out.u64(head.received.0);
    out.u64(head.initial_age);
    out.u64(head.lifetime);
    out.u64(head.stale_while_revalidate);
    out.u64(head.stale_if_error);
    out.u64(head.keep);
    out.u64(head.cost);
    out.u64(head.stamp.0);
    out.u32(*WRITER);
    out.u64s(head.ids.iter().map(|id| id.0));
    out.names(&head.vary);
    out.lines(head.trailers.iter().map(|(name, value)| (name, value)));
    match head.part {
        None => out.u8(0),
        Some(Part { first, last, complete }) => {
            out.u8(1);
            out.u64(first);
            out.u64(last);
            out.u64(complete);
        }
    }
}

fn put_fields(out: &mut Writer, fields: &Fields) {
    let values = || fields.iter().map(|(_, value)| value.as_bytes());
    out.count(values().map(<[u8]>::len).sum());
    values().for_each(|value| out.0.extend_from_slice(value));
    out.count(fields.len());
    for (name, value) in fields {
        out.name(name);
        out.count(value.len());
    }
}

fn put_index(out: &mut Writer, index: &VaryIndex) {
    out.count(index.sets.len());
    index.sets.iter().for_each(|set| out.names(set));
    out.count(index.variants.len());
    for variant in &index.variants {
        out.u8(variant.set);
        out.u64(variant.hash.0);
        out.u64(variant.received.0);
        out.u64(variant.useless_at.0);
        match &variant.etag {
            None => out.u8(0),
            Some(etag) => {
                out.u8(1);
                out.text(etag);
            }
        }
    }
}

// === decoding ===

/// What is before the meta block, less magic and seal.
#[derive(Default)]
struct Fixed {
    kind: u8,
    flags: u8,
    meta_len: u32,
    chunks: u32,
    body_len: u64,
    stored_len: u64,
    content_id: ContentId,
}

impl Fixed {
    fn read(kind: u8, flags: u8, bytes: &[u8; FIXED - SEALED_FROM]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        let (meta_len, chunks) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let [a, b, c, d, e, f, g, h, rest @ ..] = rest;
        let body_len = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let [a, b, c, d, e, f, g, h, content_id @ ..] = rest;
        let stored_len = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self { kind, flags, meta_len, chunks, body_len, stored_len, content_id }
    }

    /// `meta` is the meta block after the key.
    fn decode(&self, meta: &[u8], stored: &[u8], mark: u64) -> Result<Record, Rejected> {
        let mut meta = Reader::of(meta);
        let decoded = match self.kind {
            RESPONSE => {
                let (head, body) = take_response(&mut meta, self, stored)?;
                if body.len() as u64 != self.body_len {
                    return Err(Rejected::Malformed);
                }
                Record::Response(Arc::new(StoredResponse { head, body: StoredBody::Here(body) }))
            }
            CHUNKED => {
                let (head, _) = take_response(&mut meta, self, &[])?;
                let Self { chunks, body_len, content_id, .. } = *self;
                if body_len <= CHUNK as u64 || body_len.div_ceil(CHUNK as u64) != u64::from(chunks) {
                    return Err(Rejected::Malformed);
                }
                let body = StoredBody::InStore(InStore { length: body_len, id: content_id, mark });
                Record::Response(Arc::new(StoredResponse { head, body }))
            }
            INDEX => {
                let index = take_index(&mut meta).ok_or(Rejected::Malformed)?;
                Record::Index(Arc::new(index))
            }
            HIT_FOR_MISS => {
                let until = UnixMillis(meta.u64().ok_or(Rejected::Malformed)?);
                Record::HitForMiss { until }
            }
            _ => return Err(Rejected::Malformed),
        };
        let bodiless = self.kind != RESPONSE;
        let stray = bodiless && (self.flags != 0 || self.stored_len != 0)
            || self.kind != CHUNKED && (self.chunks != 0 || self.content_id != [0; 16])
            || matches!(self.kind, INDEX | HIT_FOR_MISS) && self.body_len != 0;
        if stray || !meta.is_empty() { Err(Rejected::Malformed) } else { Ok(decoded) }
    }
}

/// Kind and flags of bytes that begin as ours do.
fn preamble(bytes: &[u8]) -> Result<(u8, u8), Rejected> {
    if !bytes.starts_with(&MAGIC) {
        return Err(Rejected::Magic);
    }
    let Some([version, kind, flags, zeros @ ..]) = bytes.get(3..8) else { return Err(Rejected::Length) };
    if *version != VERSION {
        return Err(Rejected::Version);
    }
    if zeros.iter().any(|zero| *zero != 0) || *flags > LZ4 {
        return Err(Rejected::Malformed);
    }
    Ok((*kind, *flags))
}

/// The checksum that bytes carry.
fn seal(bytes: &[u8]) -> Option<u64> {
    bytes.get(8..).and_then(|rest| rest.first_chunk()).copied().map(u64::from_le_bytes)
}

/// The checksum of bytes. Those before it are mixed in, each with a share of its own: seeded with them, the hash
/// would take half as long again.
fn sealed(bytes: &[u8]) -> Option<u64> {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let first = u64::from_le_bytes(*bytes.first_chunk()?);
    Some(xxh3_64(bytes.get(SEALED_FROM..)?) ^ first.wrapping_mul(ODD))
}

fn put_seal(out: &mut [u8]) {
    let sum = sealed(out);
    if let (Some(place), Some(sum)) = (out.get_mut(8..SEALED_FROM), sum) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// The content that an LZ4 block stands for.
fn unpacked(len: u64, stored: &[u8]) -> Result<Bytes, Rejected> {
    let mut plain = Vec::new();
    let len = usize::try_from(len).map_err(|_| Rejected::Limit)?;
    lz4::unpack(stored, len, &mut plain).ok_or(Rejected::Compression)?;
    Ok(Bytes::from(plain))
}

/// A head, and the content that is stored with it. Field lines and content are in one allocation of their own, for
/// which room is made once. It has room for a byte that is never there: bytes that fill their room are counted as
/// shared only once they are, which each slice of them would find out anew.
fn take_response(
    meta: &mut Reader<'_>,
    fixed: &Fixed,
    stored: &[u8],
) -> Result<(StoredHead, Bytes), Rejected> {
    /// What a line takes beside its value, mostly.
    const NAMED: usize = 24;
    let is_packed = fixed.flags & LZ4 != 0;
    let len = if is_packed { fixed.body_len } else { stored.len() as u64 };
    let len = usize::try_from(len).ok().filter(|len| !is_packed || lz4::can_stand_for(stored, *len));
    let len = len.ok_or(Rejected::Compression)?;
    let (values, count) = meta.values().ok_or(Rejected::Malformed)?;
    let mut kept = Vec::with_capacity(values.len() + count * NAMED + len + 1);
    let mut lines = LineText::of(values).ok_or(Rejected::Malformed)?;
    for _ in 0..count {
        meta.line(&mut lines, &mut kept).ok_or(Rejected::Malformed)?;
    }
    let text_len = kept.len();
    if is_packed {
        lz4::unpack(stored, len, &mut kept).ok_or(Rejected::Compression)?;
    } else {
        kept.extend_from_slice(stored);
    }
    let mut content = Bytes::from(kept);
    let fields = lines.fields(content.split_to(text_len)).ok_or(Rejected::Malformed)?;
    let head = take_head(meta, fields, fixed.body_len).ok_or(Rejected::Malformed)?;
    Ok((head, content))
}

/// A head but for its field lines, which stand before it.
fn take_head(meta: &mut Reader<'_>, fields: Fields, body_len: u64) -> Option<StoredHead> {
    let status = StatusCode::from_u16(meta.u16()?).ok()?;
    let traits = Traits(meta.u32()?);
    let received = UnixMillis(meta.u64()?);
    let initial_age = meta.u64()?;
    let lifetime = meta.u64()?;
    let stale_while_revalidate = meta.u64()?;
    let stale_if_error = meta.u64()?;
    let keep = meta.u64()?;
    let cost = meta.u64()?;
    let stamp = Stamp(meta.u64()?);
    // What another process counted for itself means nothing here.
    let stamp = if meta.u32()? == *WRITER { stamp } else { stamp.shared() };
    let ids = meta.u64s()?.into_iter().map(PurgeId).collect();
    let vary = meta.names(MAX_NAMES)?;
    let trailers = meta.lines()?;
    let part = match meta.u8()? {
        0 => None,
        1 => Some(take_part(meta, body_len)?),
        _ => return None,
    };
    Some(StoredHead {
        status,
        fields,
        trailers,
        received,
        initial_age,
        lifetime,
        stale_while_revalidate,
        stale_if_error,
        keep,
        cost,
        traits,
        stamp,
        ids,
        vary,
        part,
    })
}

/// A part that its body fills exactly.
fn take_part(meta: &mut Reader<'_>, body_len: u64) -> Option<Part> {
    let part = Part { first: meta.u64()?, last: meta.u64()?, complete: meta.u64()? };
    let sound = part.last < part.complete && part.last.checked_sub(part.first)?.checked_add(1)? == body_len;
    sound.then_some(part)
}

fn take_index(meta: &mut Reader<'_>) -> Option<VaryIndex> {
    let count = meta.count(4).filter(|count| *count <= MAX_SETS)?;
    let sets = meta.all(count, |meta| meta.names(MAX_NAMES))?;
    let count = meta.count(26).filter(|count| *count <= MAX_VARIANTS)?;
    let variants = meta.all(count, |meta| take_variant(meta, sets.len()))?;
    Some(VaryIndex { sets, variants })
}

fn take_variant(meta: &mut Reader<'_>, sets: usize) -> Option<Variant> {
    let set = meta.u8().filter(|set| usize::from(*set) < sets)?;
    let hash = VariantHash(meta.u64().filter(|hash| *hash != 0)?);
    let received = UnixMillis(meta.u64()?);
    let useless_at = UnixMillis(meta.u64()?);
    let etag = match meta.u8()? {
        0 => None,
        1 => Some(meta.text()?),
        _ => return None,
    };
    Some(Variant { set, hash, received, useless_at, etag })
}

#[cfg(test)]
mod tests;
