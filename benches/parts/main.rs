//! What the parts cost, in time: the pure core, keys, records, the memory tier, and a whole hit in this
//! process. For finding out what a change did, on one machine at one time; nothing here asserts a time.
//!
//! ```text
//! cargo bench --bench parts                    all of them
//! cargo bench --bench parts -- record          those with this in their name
//! cargo bench --bench parts -- --test          each once: do they work?
//! ```

#![allow(clippy::unwrap_used, missing_docs)]

mod hit;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use forebay::caching::admission::{RequestFacts, admit};
use forebay::caching::cache_control::ResponseDirectives;
use forebay::caching::invalidation::TargetUri;
use forebay::caching::key::KeyRecipe;
use forebay::caching::policy::Policy;
use forebay::caching::reuse;
use forebay::caching::stamp::Stamp;
use forebay::caching::storability::{self, Exchange, Storability};
use forebay::caching::stored::{StoredBody, StoredHead, StoredResponse};
use forebay::caching::validation::{self, Asked};
use forebay::caching::vary::{NewVariant, VaryIndex, nominated, variant_hash};
use forebay::semantics::UnixMillis;
use forebay::semantics::range::{self, Representation};
use forebay::store::memory::MemoryTier;
use forebay::store::purges::PurgeTable;
use forebay::store::record::{Compress, decode, encode};
use forebay::store::{Record, StoreKey};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const KIB: usize = 1024;

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

/// What a browser sends.
fn request() -> HeaderMap {
    fields(&[
        ("host", "shop.example"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-language", "de,en-US;q=0.7,en;q=0.3"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "http://shop.example/"),
    ])
}

/// What an API answers.
fn response() -> HeaderMap {
    fields(&[
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("server", "shop"),
        ("content-type", "application/json"),
        ("cache-control", "public, max-age=60, stale-while-revalidate=30, stale-if-error=600"),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        ("last-modified", "Tue, 14 Nov 2023 21:00:00 GMT"),
        ("vary", "Accept-Encoding, Accept-Language"),
        ("surrogate-key", "product-17 category-3 shop"),
    ])
}

fn exchange<'a>(
    facts: &'a RequestFacts,
    request: &'a HeaderMap,
    status: StatusCode,
    headers: &'a HeaderMap,
    length: usize,
) -> Exchange<'a> {
    Exchange {
        method: &Method::GET,
        facts,
        request,
        target: TargetUri { scheme: "http", authority: "shop.example", path_and_query: "/api/products/17" },
        host: "shop.example",
        url: 17,
        tags: &[],
        status,
        headers,
        content_length: Some(length as u64),
        request_sent: NOW,
        response_received: NOW,
        stamp: Stamp::default(),
    }
}

fn stored_head(headers: &HeaderMap, length: usize) -> StoredHead {
    let (request, facts) = (request(), RequestFacts::default());
    let exchange = exchange(&facts, &request, StatusCode::OK, headers, length);
    match storability::judge(&exchange, &Policy::default()) {
        Storability::Store(head) => *head,
        Storability::Pass(reason) => panic!("not stored: {reason:?}"),
    }
}

/// A record with a body of so many bytes: text that LZ4 makes smaller, or noise that it does not.
fn record(length: usize, is_text: bool) -> Record {
    let mut random = fastrand::Rng::with_seed(7);
    let body: Bytes = match is_text {
        true => r#"{"id":17,"name":"kettle","price":1999,"tags":["kitchen","steel"]}"#.bytes().cycle().take(length).collect(),
        false => (0..length).map(|_| random.u8(..)).collect(),
    };
    let head = stored_head(&response(), length);
    Record::Response(Arc::new(StoredResponse { head, body: StoredBody::Here(body) }))
}

fn key(number: u64) -> StoreKey {
    let target = format!("/api/products/{number}");
    let key = KeyRecipe::default().key("http", "shop.example", &target, &HeaderMap::new()).unwrap();
    StoreKey { primary: key.hash, variant: None, text: key.text }
}

fn core(c: &mut Criterion) {
    let mut group = c.benchmark_group("core");
    let (request, response, policy) = (request(), response(), Policy::default());
    group.bench_function("admission", |b| {
        b.iter(|| admit(&Method::GET, "/api/products/7", black_box(&request), false, false, &policy));
    });
    group.bench_function("Cache-Control of a response", |b| {
        b.iter(|| ResponseDirectives::parse(black_box(&response)));
    });
    let (head, facts) = (stored_head(&response, KIB), RequestFacts::default());
    let fetched = exchange(&facts, &request, StatusCode::OK, &response, KIB);
    group.bench_function("storability", |b| b.iter(|| storability::judge(black_box(&fetched), &policy)));
    group.bench_function("reuse", |b| b.iter(|| reuse::judge(black_box(&head), &facts, &policy, NOW)));

    let names = nominated(&response).unwrap();
    group.bench_function("variant of a request", |b| b.iter(|| variant_hash(black_box(&names), &request)));
    let mut index = VaryIndex::default();
    for language in ["de,en-US;q=0.7,en;q=0.3", "en", "fr", "nl"] {
        let mut other = request.clone();
        other.insert("accept-language", HeaderValue::from_static(language));
        let hash = variant_hash(&names, &other);
        let useless_at = UnixMillis(NOW.0 + 60_000);
        index.insert(&names, NewVariant { hash, received: NOW, useless_at, etag: None }, NOW);
    }
    assert!(index.select(&request, NOW).first().is_some(), "the first of them is this request's");
    group.bench_function("selection of four variants", |b| {
        b.iter(|| index.select(black_box(&request), NOW).first().is_some());
    });

    let mut ranged = request.clone();
    ranged.insert("range", HeaderValue::from_static("bytes=100-199"));
    let whole = Representation { length: 64 * KIB as u64, etag: None, last_modified: None, date: None };
    group.bench_function("range", |b| b.iter(|| range::judge(black_box(&ranged), &whole, NOW)));
    let not_modified = fields(&[
        ("date", "Tue, 14 Nov 2023 22:14:20 GMT"),
        ("cache-control", "max-age=120"),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
    ]);
    let validating = exchange(&facts, &request, StatusCode::NOT_MODIFIED, &not_modified, 0);
    group.bench_function("freshening by a 304", |b| {
        b.iter(|| validation::freshen(black_box(&head), Asked::One, &validating, &policy));
    });
    group.finish();

    let mut group = c.benchmark_group("key");
    let target = "/api/products/17?utm_source=mail&colour=steel&size=2&fbclid=1";
    let plain = KeyRecipe::default();
    group.bench_function("target as it is", |b| {
        b.iter(|| plain.key("http", "shop.example", black_box(target), &request));
    });
    let sorted = KeyRecipe {
        query_exclude: vec!["utm_*".into(), "fbclid".into()],
        sort_query: true,
        headers: vec![HeaderName::from_static("accept-language")],
        ..KeyRecipe::default()
    };
    group.bench_function("sorted, without tracking, with a field", |b| {
        b.iter(|| sorted.key("http", "shop.example", black_box(target), &request));
    });
    group.finish();
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let key = key(17);
    for (name, length, is_text) in
        [("1 KiB", KIB, true), ("64 KiB of text", 64 * KIB, true), ("64 KiB of noise", 64 * KIB, false)]
    {
        let record = record(length, is_text);
        group.throughput(Throughput::Bytes(length as u64));
        for (how, compress) in [("plain", Compress::Never), ("LZ4", Compress::Above(1024))] {
            group.bench_function(format!("encode {name}, {how}"), |b| {
                b.iter(|| encode(&key, black_box(&record), compress));
            });
            let bytes = encode(&key, &record, compress).record;
            group.bench_function(format!("decode {name}, {how}"), |b| {
                b.iter(|| decode(&key, black_box(&bytes)).unwrap());
            });
        }
    }
    group.finish();
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    let tier = |bytes| MemoryTier::new(bytes, 1 << 20, Arc::new(PurgeTable::alone()));
    let keys: Vec<StoreKey> = (0..10_000).map(key).collect();
    let record = record(KIB, true);
    let get = |tier: &MemoryTier, at: usize| {
        let key = &keys[at % keys.len()];
        tier.get(key.primary, None, &key.text, NOW).unwrap()
    };

    let roomy = tier(1 << 30);
    keys.iter().for_each(|key| roomy.insert(key, record.clone(), NOW));
    let mut at = 0;
    group.bench_function("get", |b| {
        b.iter(|| {
            at += 7;
            get(&roomy, at)
        });
    });
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !ended.load(Ordering::Relaxed) {
                at += 11;
                drop(get(&roomy, at));
            }
        });
        group.bench_function("get, with another thread that does", |b| {
            b.iter(|| {
                at += 7;
                get(&roomy, at)
            });
        });
        ended.store(true, Ordering::Relaxed);
    });

    // Room for a tenth of the keys: nearly every insertion makes another leave.
    let full = tier(2 << 20);
    keys.iter().for_each(|key| full.insert(key, record.clone(), NOW));
    assert!(full.evictions() > 0, "there is room for all");
    group.bench_function("insert where another must leave", |b| {
        b.iter_batched(
            || {
                at += 7;
                &keys[at % keys.len()]
            },
            |key| full.insert(key, record.clone(), NOW),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(parts, core, records, memory, hit::hit);
criterion_main!(parts);
