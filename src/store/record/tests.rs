use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG};
use http::{HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::caching::stamp::Sequence;

fn key() -> StoreKey {
    StoreKey { primary: 7, variant: Some(VariantHash(9)), text: Bytes::from_static(b"http://a.example/x") }
}

fn head() -> StoredHead {
    StoredHead {
        status: StatusCode::OK,
        fields: vec![
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (ETAG, HeaderValue::from_bytes(b"\"caf\xe9\"").unwrap()),
        ]
        .into(),
        trailers: Vec::new(),
        received: UnixMillis(1_700_000_000_000),
        initial_age: 1,
        lifetime: 2,
        stale_while_revalidate: 3,
        stale_if_error: 4,
        keep: 5,
        cost: 6,
        traits: Traits::HAS_VALIDATOR,
        stamp: Stamp::of(Sequence(8)),
        ids: vec![PurgeId::ALL, PurgeId(3)],
        vary: vec![HeaderName::from_static("accept-encoding")],
        part: None,
    }
}

fn response(body: impl Into<Bytes>) -> Record {
    Record::Response(Arc::new(StoredResponse { head: head(), body: StoredBody::Here(body.into()) }))
}

/// Bytes that no compressor shortens.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

fn chunks(encoded: &Encoded) -> Vec<Bytes> {
    let Some(body) = &encoded.long_body else { return Vec::new() };
    assert_eq!(body.chunk(body.chunks()), None);
    (0..body.chunks()).map(|number| body.chunk(number).expect("a chunk").bytes).collect()
}

fn content_id(encoded: &Encoded) -> ContentId {
    encoded.long_body.as_ref().expect("a long body").content_id
}

/// Reads what was written, chunks and all.
fn decoded(key: &StoreKey, encoded: &Encoded) -> Result<Record, Rejected> {
    let record = decode(key, &encoded.record)?;
    let (Record::Response(stored), Some(_)) = (&record, &encoded.long_body) else { return Ok(record) };
    let body = in_store(&record);
    let chunks = chunks(encoded);
    assert_eq!(chunks_of(body.length) as usize, chunks.len());
    let content: Vec<Bytes> = (0_u32..)
        .zip(chunks)
        .map(|(number, chunk)| decode_chunk(&body, number, chunk))
        .collect::<Result<_, _>>()?;
    let whole = content.concat();
    assert_eq!(whole.len() as u64, body.length);
    let body = StoredBody::Here(whole.into());
    Ok(Record::Response(Arc::new(StoredResponse { head: stored.head.clone(), body })))
}

/// The content that a record names and does not hold.
fn in_store(record: &Record) -> InStore {
    match record {
        Record::Response(stored) => match stored.body {
            StoredBody::InStore(body) => return body,
            StoredBody::Here(_) => {}
        },
        Record::Index(_) | Record::HitForMiss { .. } => {}
    }
    panic!("not a long body: {record:?}")
}

fn assert_same(one: &Record, other: &Record) {
    match (one, other) {
        (Record::Response(one), Record::Response(other)) => {
            assert_eq!(one.head, other.head);
            match (&one.body, &other.body) {
                // Written twice: with two marks.
                (StoredBody::InStore(one), StoredBody::InStore(other)) => {
                    assert_eq!((one.length, one.id), (other.length, other.id));
                }
                (one, other) => assert_eq!(one, other),
            }
        }
        (Record::Index(one), Record::Index(other)) => assert_eq!(one, other),
        (Record::HitForMiss { until: one }, Record::HitForMiss { until: other }) => assert_eq!(one, other),
        _ => panic!("{one:?} is not {other:?}"),
    }
}

/// Puts a checksum on changed bytes that matches them.
fn resealed(mut bytes: Vec<u8>) -> Bytes {
    put_seal(&mut bytes);
    Bytes::from(bytes)
}

#[test]
fn bodies_are_compressed_where_it_pays() {
    let page = "<p>hello</p>".repeat(1000);
    let cases: [(&str, Vec<u8>, Compress, bool); 6] = [
        ("text/html", page.clone().into(), Compress::Above(1024), true),
        ("APPLICATION/problem+JSON; a=b", page.clone().into(), Compress::Above(0), true),
        ("text/html", page.clone().into(), Compress::Above(page.len() as u64 + 1), false),
        ("text/html", page.clone().into(), Compress::Never, false),
        ("image/png", page.clone().into(), Compress::Above(0), false),
        ("text/html", noise(12_000), Compress::Above(0), false),
    ];
    for (content_type, body, compress, smaller) in cases {
        let mut head = head();
        head.fields = vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))].into();
        let record = Record::Response(Arc::new(StoredResponse { head, body: StoredBody::Here(body.into()) }));
        let encoded = encode(&key(), &record, compress);
        assert_eq!(encoded.stored_len < encoded.body_len, smaller, "{content_type} {compress:?}");
        assert_same(&decoded(&key(), &encoded).unwrap(), &record);
    }
    let mut coded = head();
    coded.fields.push(CONTENT_ENCODING, HeaderValue::from_static("br"));
    let record =
        Record::Response(Arc::new(StoredResponse { head: coded, body: StoredBody::Here(page.into()) }));
    let encoded = encode(&key(), &record, Compress::Above(0));
    assert_eq!(encoded.stored_len, encoded.body_len, "a content coding of its own");
}

#[test]
fn large_bodies_are_chunks() {
    for len in [CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
        for body in [noise(len), vec![b'a'; len]] {
            let record = response(body);
            let encoded = encode(&key(), &record, Compress::Above(0));
            assert_eq!(chunks(&encoded).len(), if len <= CHUNK { 0 } else { len.div_ceil(CHUNK) });
            assert_same(&decoded(&key(), &encoded).unwrap(), &record);
        }
    }
}

#[test]
fn a_chunk_stands_in_one_place_only() {
    let encoded = encode(&key(), &response(noise(2 * CHUNK + 9)), Compress::Never);
    let chunked = in_store(&decode(&key(), &encoded.record).expect("a record"));
    let chunks = chunks(&encoded);
    let chunk = |n: usize| chunks[n].clone();
    assert_eq!(decode_chunk(&chunked, 1, chunk(0)), Err(Rejected::Key), "another's place");
    assert_eq!(decode_chunk(&chunked, 0, encoded.record), Err(Rejected::Key));
    let other = InStore { id: [1; 16], ..chunked };
    assert_eq!(decode_chunk(&other, 0, chunk(0)), Err(Rejected::Key), "another body");
    assert_eq!(decode_chunk(&chunked, 0, chunk(0).slice(..100)), Err(Rejected::Checksum));
    assert_eq!(decode_chunk(&chunked, 0, Bytes::new()), Err(Rejected::Magic));
    assert_eq!(decode(&key(), &chunk(0)).unwrap_err(), Rejected::Limit, "a chunk is not a record");
    let longer = InStore { length: chunked.length + 1, ..chunked };
    assert_eq!(decode_chunk(&longer, 2, chunk(2)), Err(Rejected::Malformed), "of another length");
    let content: Vec<Bytes> = (0..3).map(|n| decode_chunk(&chunked, n, chunk(n as usize)).unwrap()).collect();
    assert_eq!(content.concat(), noise(2 * CHUNK + 9));
}

#[test]
fn a_record_is_written_anew_without_its_long_body() {
    let whole = response(noise(2 * CHUNK + 9));
    let encoded = encode(&key(), &whole, Compress::Never);
    let read = decode(&key(), &encoded.record).expect("a record");
    let again = encode(&key(), &read, Compress::Above(0));
    assert_eq!((&again.record, &again.long_body), (&encoded.record, &None), "the same, of its head alone");
    let (first, last) = MARK_AT;
    assert_eq!(encoded.record[first..=last], in_store(&read).mark.to_le_bytes(), "where it is looked for");
}

#[test]
fn chunks_are_named_by_key_and_content() {
    let body = noise(2 * CHUNK + 9);
    let response_of = |head: StoredHead, body: &[u8]| {
        Record::Response(Arc::new(StoredResponse { head, body: Bytes::copy_from_slice(body).into() }))
    };
    let id = |key: &StoreKey, record: &Record| content_id(&encode(key, record, Compress::Never));
    let first = id(&key(), &response_of(head(), &body));
    let validated =
        StoredHead { stamp: Stamp::of(Sequence(9)), received: UnixMillis(1_800_000_000_000), ..head() };
    assert_eq!(id(&key(), &response_of(validated, &body)), first, "a 304 changes no content");
    let mut changed = body.clone();
    changed[CHUNK] ^= 1;
    assert_ne!(id(&key(), &response_of(head(), &changed)), first, "another content");
    for other in [StoreKey { primary: 8, ..key() }, StoreKey { variant: None, ..key() }] {
        assert_ne!(id(&other, &response_of(head(), &body)), first, "another place");
    }
}

#[test]
fn bytes_of_another_key_are_not_a_record() {
    let record = encode(&key(), &response("a"), Compress::Never).record;
    let others = [
        StoreKey { variant: None, ..key() },
        StoreKey { variant: Some(VariantHash(10)), ..key() },
        StoreKey { text: Bytes::from_static(b"http://b.example/x"), ..key() },
    ];
    for other in others {
        assert_eq!(decode(&other, &record).unwrap_err(), Rejected::Key);
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_rejected() {
    let mut head = head();
    head.trailers = vec![(ETAG, HeaderValue::from_static("\"t\""))];
    let body = Bytes::from("abc ".repeat(20)).into();
    let record = Record::Response(Arc::new(StoredResponse { head, body }));
    for compress in [Compress::Never, Compress::Above(0)] {
        let bytes = encode(&key(), &record, compress).record;
        for at in 0..bytes.len() {
            assert!(decode(&key(), &bytes[..at]).is_err(), "cut at {at}");
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] ^= change;
                assert!(decode(&key(), &changed).is_err(), "byte {at} changed by {change}");
            }
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(decode(&key(), &longer).unwrap_err(), Rejected::Length);
    }
}

#[test]
fn lengths_that_lie_are_rejected_before_they_are_believed() {
    let whole = encode(&key(), &response("abc ".repeat(20)), Compress::Above(0)).record;
    let marker = encode(&key(), &Record::HitForMiss { until: UnixMillis(1) }, Compress::Never).record;
    let max32 = u32::MAX.to_le_bytes();
    let max64 = u64::MAX.to_le_bytes();
    let key_len = FIXED..FIXED + 4;
    let values = FIXED + 4 + key().text.len() + 8;
    let lines = values + 4 + head().fields.iter().map(|(_, value)| value.len()).sum::<usize>();
    let ids = lines + 4 + 5 * head().fields.len() + 2 + 4 + 64 + 4;
    let cases: [(&str, &Bytes, usize, &[u8], Rejected); 17] = [
        ("version", &whole, 3, &[VERSION - 1], Rejected::Version),
        ("kind", &whole, 4, &[9], Rejected::Malformed),
        ("flags", &whole, 5, &[2], Rejected::Malformed),
        ("reserved", &whole, 7, &[1], Rejected::Malformed),
        ("meta length", &whole, 16, &max32, Rejected::Limit),
        ("chunks", &whole, 20, &max32, Rejected::Limit),
        ("body length", &whole, 24, &max64, Rejected::Compression),
        ("stored length", &whole, 32, &max64, Rejected::Limit),
        ("content id", &whole, 40, &[1], Rejected::Malformed),
        ("key length", &whole, key_len.start, &max32, Rejected::Malformed),
        ("values", &whole, values, &max32, Rejected::Malformed),
        ("fewer values", &whole, values, &[1], Rejected::Malformed),
        ("lines", &whole, lines, &max32, Rejected::Malformed),
        ("fewer lines", &whole, lines, &[1], Rejected::Malformed),
        ("a name's number", &whole, lines + 4, &[255], Rejected::Malformed),
        ("ids", &whole, ids, &max32, Rejected::Malformed),
        ("a marker's body", &marker, 24, &[1], Rejected::Malformed),
    ];
    for (what, bytes, at, lie, rejected) in cases {
        let mut bytes = bytes.to_vec();
        bytes[at..at + lie.len()].copy_from_slice(lie);
        let bytes = if rejected == Rejected::Limit { bytes.into() } else { resealed(bytes) };
        assert_eq!(decode(&key(), &bytes).unwrap_err(), rejected, "{what}");
    }
    // An LZ4 block cannot stand for 256 KiB in 40 bytes.
    let mut bytes = whole.to_vec();
    bytes[24..32].copy_from_slice(&(CHUNK as u64).to_le_bytes());
    assert_eq!(decode(&key(), &resealed(bytes)).unwrap_err(), Rejected::Compression);
}

#[test]
fn a_part_is_as_long_as_it_says() {
    for (part, body, sound) in [
        (Part { first: 2, last: 4, complete: 5 }, "abc", true),
        (Part { first: 2, last: 4, complete: 4 }, "abc", false),
        (Part { first: 2, last: 4, complete: 9 }, "abcd", false),
        (Part { first: 4, last: 2, complete: 9 }, "abc", false),
        (Part { first: 0, last: u64::MAX, complete: u64::MAX }, "abc", false),
    ] {
        let head = StoredHead { part: Some(part), status: StatusCode::PARTIAL_CONTENT, ..head() };
        let record = Record::Response(Arc::new(StoredResponse { head, body: StoredBody::Here(body.into()) }));
        let encoded = encode(&key(), &record, Compress::Never);
        assert_eq!(decode(&key(), &encoded.record).is_ok(), sound, "{part:?} {body}");
    }
}

/// What lies in Redis goes to clients as it lies there: nothing in it may be more than the lines it is said to be.
#[test]
fn field_lines_that_are_none_are_rejected() {
    let mut head = head();
    let line = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    head.fields = vec![line("x-1234567890123456", "1234567"), line("x-a", "b")].into();
    let record = Record::Response(Arc::new(StoredResponse { head, body: StoredBody::Here("a".into()) }));
    let whole = encode(&key(), &record, Compress::Never).record.to_vec();
    let at = |part: &[u8]| whole.windows(part.len()).position(|window| window == part).expect("the part");
    let (name, value) = (at(b"x-1234567890123456"), at(b"1234567b"));
    let cases: [(&str, usize, &[u8], bool); 16] = [
        ("another value", value, b"12:\t\xe9 8", true),
        ("a bare CR", value, b"a\r", false),
        ("a bare LF", value, b"a\n", false),
        ("another line", value, b"\r\na: b", false),
        ("an end of the head", value, b"\r\n\r\n", false),
        ("a folded line", value, b"\r\n a", false),
        ("NUL", value, b"\0", false),
        ("DEL", value, b"\x7f", false),
        ("another name", name, b"x-server-timing-ok", true),
        ("upper case", name, b"X", false),
        ("a colon", name, b"x:", false),
        ("a blank", name, b"x ", false),
        ("an end of the line in a name", name, b"x: a\r\n", false),
        ("NUL in a name", name, b"x\0", false),
        ("obs-text in a name", name, b"x\xe9", false),
        ("what is the proxy's", name, b"proxy-authenticate", false),
    ];
    for (what, at, part, sound) in cases {
        let mut bytes = whole.clone();
        bytes[at..at + part.len()].copy_from_slice(part);
        let read = decode(&key(), &resealed(bytes));
        assert_eq!(read.as_ref().err(), (!sound).then_some(&Rejected::Malformed), "{what}");
    }
    for framing in ["transfer-encoding", "connection", "keep-alive", "upgrade"] {
        let mut head = self::head();
        head.fields.push(HeaderName::from_static(framing), HeaderValue::from_static("chunked"));
        let record = Record::Response(Arc::new(StoredResponse { head, body: StoredBody::Here("a".into()) }));
        let bytes = encode(&key(), &record, Compress::Never).record;
        assert_eq!(decode(&key(), &bytes).unwrap_err(), Rejected::Malformed, "{framing}");
    }
}

#[test]
fn labels_are_distinct() {
    use Rejected::{Checksum, Compression, Key, Length, Limit, Magic, Malformed, Version};
    let all = [Magic, Version, Length, Limit, Checksum, Key, Malformed, Compression];
    let labels: std::collections::BTreeSet<_> = all.iter().map(|rejected| rejected.label()).collect();
    assert_eq!(labels.len(), all.len());
}

fn name() -> impl Strategy<Value = HeaderName> {
    "[a-z][a-z0-9-]{0,12}".prop_map(|name| HeaderName::try_from(name).unwrap())
}

fn line() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let value = vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..40);
    (name(), value.prop_map(|value| HeaderValue::from_bytes(&value).unwrap()))
}

fn any_head() -> impl Strategy<Value = StoredHead> {
    let numbers = any::<[u64; 8]>();
    let names = (vec(any::<u64>(), 0..6), vec(name(), 0..4));
    let lines = (vec(line(), 0..8), vec(line(), 0..3));
    (100_u16..1000, any::<u32>(), numbers, names, lines).prop_map(
        |(status, traits, numbers, (ids, vary), (fields, trailers))| {
            let [received, initial_age, lifetime, swr, sie, keep, cost, stamp] = numbers;
            StoredHead {
                status: StatusCode::from_u16(status).unwrap(),
                fields: fields.into(),
                trailers,
                received: UnixMillis(received),
                initial_age,
                lifetime,
                stale_while_revalidate: swr,
                stale_if_error: sie,
                keep,
                cost,
                traits: Traits(traits),
                stamp: Stamp(stamp).shared(),
                ids: ids.into_iter().map(PurgeId).collect(),
                vary,
                part: None,
            }
        },
    )
}

fn any_index() -> impl Strategy<Value = VaryIndex> {
    let variant = (0_u8..3, 1_u64.., any::<u64>(), any::<u64>(), option::of(vec(any::<u8>(), 0..20)));
    let variant = variant.prop_map(|(set, hash, received, useless_at, etag)| Variant {
        set,
        hash: VariantHash(hash),
        received: UnixMillis(received),
        useless_at: UnixMillis(useless_at),
        etag: etag.map(Bytes::from),
    });
    (vec(vec(name(), 0..4), 3..=MAX_SETS), vec(variant, 0..=MAX_VARIANTS))
        .prop_map(|(sets, variants)| VaryIndex { sets, variants })
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        4 => (any_head(), vec(any::<u8>(), 0..300), 1_usize..40).prop_map(|(head, body, times)| {
            let body = StoredBody::Here(body.repeat(times).into());
            Record::Response(Arc::new(StoredResponse { head, body }))
        }),
        1 => any_index().prop_map(|index| Record::Index(Arc::new(index))),
        1 => any::<u64>().prop_map(|until| Record::HitForMiss { until: UnixMillis(until) }),
    ]
}

fn any_key() -> impl Strategy<Value = StoreKey> {
    (any::<u128>(), option::of(1_u64..), vec(any::<u8>(), 0..80)).prop_map(|(primary, variant, text)| {
        StoreKey { primary, variant: variant.map(VariantHash), text: text.into() }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_byte_for_byte(key in any_key(), record in any_record(), lz4 in any::<bool>()) {
        let compress = if lz4 { Compress::Above(0) } else { Compress::Never };
        let encoded = encode(&key, &record, compress);
        prop_assert_eq!(encoded.record.first(), Some(&0xFB));
        let read = decoded(&key, &encoded).unwrap();
        // Written anew before anybody asked for a field, and after.
        prop_assert_eq!(&encode(&key, &read, compress).record, &encoded.record);
        assert_same(&read, &record);
        prop_assert_eq!(&encode(&key, &read, compress).record, &encoded.record);
    }

    /// A writer who knows the format: the checksums are right, the rest is not. What is taken all the
    /// same is a record that says something else, and is written as it was read.
    #[test]
    fn sealed_nonsense_is_rejected_or_a_record(
        record in any_record(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let bytes = encode(&key(), &record, Compress::Above(0)).record;
        let mut bytes = bytes.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = decode(&key(), &resealed(bytes)) {
            let again = encode(&key(), &read, Compress::Never);
            assert_same(&decoded(&key(), &again).unwrap(), &read);
        }
    }

    #[test]
    fn any_bytes_at_all_are_rejected_or_a_record(mut bytes in vec(any::<u8>(), 0..200), ours in any::<bool>()) {
        if ours && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&[0xFB, 0x46, 0x42, VERSION, RESPONSE, 0, 0, 0]);
        }
        let of = InStore { length: CHUNK as u64 + 1, id: [0; 16], mark: 0 };
        prop_assert!(decode(&key(), &bytes).is_err());
        prop_assert!(decode_chunk(&of, 0, bytes.into()).is_err());
    }
}
