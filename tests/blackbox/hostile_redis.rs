//! Redis lies: whatever stands under a key, a client gets the right answer and nothing panics.

use std::collections::BTreeMap;

use crate::redis::stored;
use crate::support::*;

fn origin() -> Origin {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let body = format!("content of {}", exchange.target());
        let reply = Reply::ok(body).field("ETag", "\"1\"").field("X-Target", exchange.target());
        exchange.reply(&reply.cache("max-age=600"));
    });
    origin
}

#[track_caller]
fn right(proxy: &Forebay, target: &str, what: &str) -> Answer {
    let answer = proxy.get(target);
    assert!(answer.is_complete(), "{what}: {:?}", answer.end);
    assert_eq!((answer.status, answer.text()), (200, format!("content of {target}")), "{what}");
    assert_eq!((answer.field("x-target"), answer.field("etag")), (Some(target), Some("\"1\"")), "{what}");
    answer
}

/// The records of a fresh database after these targets were fetched.
fn records(redis: &Redis, proxy: &Forebay, targets: &[&str]) -> BTreeMap<String, Vec<u8>> {
    for target in targets {
        right(proxy, target, "cold");
        stored(redis, &format!("content of {target}"));
    }
    let all = redis.strings().into_iter();
    all.filter(|(_, value)| value.windows(11).any(|window| window == b"content of ")).collect()
}

fn put(redis: &Redis, key: &str, value: &[u8]) {
    let reply = redis.command(&[b"SET".as_slice(), key.as_bytes(), value, b"PX", b"600000"]);
    assert_eq!(reply, Value::Text("OK".to_owned()));
}

/// Puts these bytes under a record's key: the next answer is right and no hit, and what it fetched
/// takes their place.
#[track_caller]
fn disbelieved(redis: &Redis, proxy: &Forebay, key: &str, bytes: &[u8], what: &str) {
    put(redis, key, bytes);
    let answer = right(proxy, "/a", what);
    assert_ne!(answer.x_cache(), "HIT", "{what} was believed");
    until(&format!("a good record replaces {what}"), || {
        // A request may still have shared the fetch before, whose record these bytes replaced.
        right(proxy, "/a", what);
        redis.command(&["GET", key]).bytes().is_some_and(|value| value != bytes)
    });
}

#[test]
fn garbage_under_every_key_is_a_miss_and_counted() {
    let (origin, redis) = (origin(), Redis::start());
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let all = records(&redis, &proxy, &["/a"]);
    let (key, good) = all.iter().next().expect("a record");
    let mut garbage: Vec<(String, Vec<u8>)> = [
        b"".as_slice(),
        b"subscribe",
        b"MOVED 1 127.0.0.1:9",
        b"ASK 1 127.0.0.1:9",
        b"message",
        b"\xfb",
        b"\xfbFB",
        b"\xfbFB\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"HTTP/1.1 200 OK\r\n\r\nevil",
        b"{\"json\": true}",
    ]
    .iter()
    .map(|bytes| (format!("{bytes:?}"), bytes.to_vec()))
    .collect();
    garbage.extend((0..40).map(|n| (format!("noise {n}"), noise(n, 50 + 37 * n as usize))));
    garbage.extend((0..40).map(|n| {
        let mut bytes = good[..good.len().min(8)].to_vec();
        bytes.extend(noise(n, 20 + 11 * n as usize));
        (format!("a good beginning and noise {n}"), bytes)
    }));
    garbage.push(("a good record with more behind".to_owned(), [good.as_slice(), b"more"].concat()));
    garbage.push(("a good record twice".to_owned(), [good.as_slice(), good].concat()));
    garbage.push(("eight mebibytes of 0xff".to_owned(), vec![0xff; 8 << 20]));
    let before = proxy.metric("forebay_redis_errors_total", &[]);
    for (what, bytes) in &garbage {
        disbelieved(&redis, &proxy, key, bytes, what);
    }
    let counted = proxy.metric("forebay_redis_errors_total", &[]) - before;
    assert!(counted >= garbage.len() as f64, "{counted} of {} were counted", garbage.len());
}

#[test]
fn a_record_cut_or_bent_at_any_byte_is_never_believed() {
    let (origin, redis) = (origin(), Redis::start());
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let all = records(&redis, &proxy, &["/a"]);
    let (key, good) = all.iter().next().expect("a record");
    for length in 0..good.len() {
        let what = format!("cut to {length} of {}", good.len());
        disbelieved(&redis, &proxy, key, &good[..length], &what);
    }
    for at in 0..good.len() {
        let mut bent = good.clone();
        bent[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
        disbelieved(&redis, &proxy, key, &bent, &format!("byte {at} of {} bent", good.len()));
    }
}

#[test]
fn the_value_of_another_key_is_not_believed() {
    let (origin, redis) = (origin(), Redis::start());
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let targets = ["/a", "/b", "/c"];
    let all: Vec<_> = records(&redis, &proxy, &targets).into_iter().collect();
    assert!(all.len() >= 3);
    for shift in 1..all.len() {
        for (n, (key, _)) in all.iter().enumerate() {
            put(&redis, key, &all[(n + shift) % all.len()].1);
        }
        for target in targets {
            right(&proxy, target, "swapped");
        }
    }
}

#[test]
fn a_key_of_another_kind_is_a_miss() {
    let (origin, redis) = (origin(), Redis::start());
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let all = records(&redis, &proxy, &["/a"]);
    let key = all.keys().next().expect("a record").as_str();
    for command in [["LPUSH", key, "x"].as_slice(), &["HSET", key, "f", "v"], &["ZADD", key, "1", "m"]] {
        redis.command(&["DEL", key]);
        redis.command(command);
        right(&proxy, "/a", command[0]);
        right(&proxy, "/a", command[0]);
    }
}

#[test]
fn chunks_that_are_missing_bent_or_swapped_never_make_a_body() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let (one, two) = (noise(1, 1_500_000), noise(2, 1_500_000));
    let whole = [one.clone(), two.clone()];
    origin.reply("/1", Reply::ok(&one).cache("max-age=600"));
    origin.reply("/2", Reply::ok(&two).cache("max-age=600"));
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let fill = || {
        crate::long_bodies::at_rest(&proxy);
        for (n, target) in ["/1", "/2"].iter().enumerate() {
            eventually("a large body comes from Redis", || {
                let answer = proxy.get(target);
                assert!(answer.is_complete() && answer.body == whole[n], "{target} differs");
                answer.cache_status().contains("detail=redis").then_some(())
            });
        }
        let chunks: Vec<_> = redis.strings().into_iter().filter(|(_, value)| value.len() > 100_000).collect();
        assert!(chunks.len() >= 8, "{} chunks", chunks.len());
        chunks
    };
    type Damage = fn(&Redis, &[(String, Vec<u8>)], usize);
    let damages: [(&str, Damage); 4] = [
        ("missing", |redis, chunks, n| drop(redis.command(&["DEL", &chunks[n].0]))),
        ("shorter", |redis, chunks, n| put(redis, &chunks[n].0, &chunks[n].1[..1000])),
        ("bent", |redis, chunks, n| {
            let mut bent = chunks[n].1.clone();
            let middle = bent.len() / 2;
            bent[middle] ^= 1;
            put(redis, &chunks[n].0, &bent);
        }),
        ("another's", |redis, chunks, n| put(redis, &chunks[n].0, &chunks[(n + 1) % chunks.len()].1)),
    ];
    for (what, damage) in damages {
        let chunks = fill();
        for n in [0, chunks.len() / 2, chunks.len() - 1] {
            damage(&redis, &chunks, n);
        }
        for (n, target) in ["/1", "/2"].iter().enumerate() {
            for _ in 0..3 {
                let answer = proxy.get(target);
                let broken = !answer.is_complete();
                assert!(broken || answer.body == whole[n], "{what}: a wrong body looks whole");
                assert!(answer.body == whole[n][..answer.body.len()], "{what}: a wrong byte was sent");
            }
        }
    }
}

/// The keys that exist only while somebody fetches: the lock.
fn lock_key(redis: &Redis, proxy: &Forebay, origin: &Origin, gate: &Gate) -> String {
    let mut client = proxy.connect();
    client.send(request("GET", "/locked", ""));
    origin.wait_count("/locked", 1);
    let keys: Vec<_> = redis.keys().into_keys().collect();
    assert_eq!(keys.len(), 1, "one lock: {keys:?}");
    gate.open();
    assert_eq!(client.answer().text(), "content of /locked");
    stored(redis, "content of /locked");
    until("the lock is released", || !redis.keys().contains_key(&keys[0]));
    keys[0].clone()
}

fn locked_origin(gate: &Gate) -> Origin {
    let (origin, held) = (origin(), gate.clone());
    origin.on("/locked", move |exchange| {
        held.wait();
        let reply = Reply::ok("content of /locked").field("ETag", "\"1\"").field("X-Target", "/locked");
        exchange.reply(&reply.cache("max-age=600"));
    });
    origin
}

#[test]
fn hostile_locks_delay_nobody_for_long_and_are_not_ours_to_delete() {
    let gate = Gate::new();
    let (origin, redis) = (locked_origin(&gate), Redis::start());
    let config = Config::new(&origin).redis(&redis).without_memory().defaults("collapse_timeout = \"500ms\"");
    let proxy = config.start();
    let lock = lock_key(&redis, &proxy, &origin, &gate);
    let strings = [
        b"".as_slice(),
        b"garbage",
        b"\xfb",
        b"\xfb\xfb\xfb\xfb",
        b"MOVED 1 a:1",
        &noise(5, 17),
        &noise(6, 100_000),
    ];
    let mut commands: Vec<Vec<&[u8]>> =
        strings.into_iter().map(|value| vec![b"SET".as_slice(), lock.as_bytes(), value]).collect();
    commands.push(vec![b"LPUSH", lock.as_bytes(), b"a list"]);
    for command in &commands {
        for key in redis.keys().into_keys() {
            redis.command(&["DEL", &key]);
        }
        // Held by nobody, for ever.
        redis.command(command);
        let before = origin.count("/locked");
        // The first request may still share the fetch before, which ends behind the writing of its record.
        until("a fetch of its own", || {
            right(&proxy, "/locked", "behind a lock that nobody holds");
            origin.count("/locked") > before
        });
        assert_eq!(origin.count("/locked"), before + 1);
        stored(&redis, "content of /locked");
        assert!(redis.keys().contains_key(&lock), "another's lock is not ours to delete");
    }
}

#[test]
fn a_lock_stolen_or_lost_while_fetching_harms_no_answer() {
    for theft in [["SET", "stolen"].as_slice(), &["DEL"], &["PERSIST"]] {
        let gate = Gate::new();
        let (origin, redis) = (locked_origin(&gate), Redis::start());
        let config = Config::new(&origin).redis(&redis).without_memory();
        let (one, two) = (config.clone().start(), config.start());
        let mut clients: Vec<_> = [&one, &two, &one, &two].map(Forebay::connect).into();
        clients[0].send(request("GET", "/locked", ""));
        origin.wait_count("/locked", 1);
        let lock = redis.keys().into_keys().next().expect("a lock");
        let arguments: Vec<&str> = [theft[0], &lock].into_iter().chain(theft[1..].iter().copied()).collect();
        redis.command(&arguments);
        for client in &mut clients[1..] {
            client.send(request("GET", "/locked", ""));
        }
        gate.open();
        for client in &mut clients {
            assert_eq!(client.answer().text(), "content of /locked", "{theft:?}");
        }
    }
}
