//! Bodies that lie in Redis in pieces: what of them is read for whom, and what happens where a piece is not
//! what it should be.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::*;

/// Length of a chunk.
pub(crate) const CHUNK: usize = 256 << 10;
pub(crate) const MEBIBYTE: usize = 1 << 20;

/// An origin with one long body, fresh for long, with a strong tag; and what it is.
fn long(length: usize) -> (Origin, Vec<u8>) {
    tagged(length, "\"1\"")
}

/// The same with this tag.
fn tagged(length: usize, etag: &str) -> (Origin, Vec<u8>) {
    let origin = Origin::start();
    let body = noise(length as u64, length);
    let reply = Reply::ok(&body).field("ETag", etag).field("Content-Type", "image/png");
    origin.reply("/p", reply.cache("max-age=600"));
    (origin, body)
}

/// Fetches `/p` until a proxy without memory finds it in Redis.
#[track_caller]
pub(crate) fn in_redis(proxy: &Forebay, body: &[u8]) {
    // A record that was found wanting before is being forgotten: not that one.
    at_rest(proxy);
    eventually("the body comes from Redis", || {
        let answer = proxy.get("/p");
        assert!(answer.is_complete() && answer.body == body, "{:?}: another body", answer.end);
        answer.cache_status().contains("detail=redis").then_some(())
    });
    // Whoever fetched it has let go of it: nobody else is answered from that fetch any more.
    at_rest(proxy);
}

/// The same of a part of the body.
#[track_caller]
pub(crate) fn part_in_redis(proxy: &Forebay, body: &[u8], first: usize, last: usize) {
    at_rest(proxy);
    eventually("the part is in Redis", || {
        let answer = proxy.get_with("/p", &format!("Range: bytes={first}-{last}\r\n"));
        assert!(answer.status == 206 && answer.is_complete() && answer.body == body[first..=last]);
        answer.cache_status().contains("detail=redis").then_some(())
    });
    // Nor is it being stored once more.
    at_rest(proxy);
}

/// Waits until nothing is being fetched or stored.
#[track_caller]
pub(crate) fn at_rest(proxy: &Forebay) {
    until("nothing is under way", || get(proxy.admin, "/ready", "").text().contains("\"errands\": 0,"));
}

/// The names of the chunks, in order.
pub(crate) fn chunks(redis: &Redis) -> Vec<String> {
    let mut names: Vec<String> = redis.keys().into_keys().filter(|name| name.contains(":b:")).collect();
    names.sort_by_key(|name| number(name));
    names
}

/// Redis loses chunk `n`: of every content that it has, since what was fetched twice may be stored twice.
pub(crate) fn lose(redis: &Redis, n: usize) {
    for name in chunks(redis).iter().filter(|name| number(name) == n) {
        redis.command(&["DEL", name]);
    }
}

fn number(name: &str) -> usize {
    name.rsplit(':').next().and_then(|number| number.parse().ok()).expect("a chunk's number")
}

/// What was sent to Redis while `act` ran: each command with its key, but for probes, locks and the journal.
fn commands<T>(redis: &Redis, act: impl FnOnce() -> T) -> (T, Vec<(String, String)>) {
    let monitor = redis.monitor();
    let result = act();
    // Commands reach the log in their order: once it shows this one, it shows all before it.
    redis.command(&["ECHO", "the end"]);
    until("the log has everything", || monitor.lines().iter().any(|line| line.contains("the end")));
    let lines = monitor.lines();
    let command = |line: &String| {
        let mut words = line.split_once("] \"")?.1.split("\" \"").map(|word| word.trim_matches('"'));
        let (name, key) = (words.next()?.to_ascii_uppercase(), words.next()?.to_owned());
        let ours = key.contains(":{") && !key.contains("{journal}") && !key.contains(":l");
        ours.then_some((name, key))
    };
    (result, lines.iter().filter_map(command).collect())
}

/// Numbers of the chunks that were read while `act` ran.
fn chunks_read<T>(redis: &Redis, act: impl FnOnce() -> T) -> (T, BTreeSet<usize>) {
    let (result, commands) = commands(redis, act);
    let reads = commands.iter().filter(|(name, key)| name == "GETRANGE" && key.contains(":b:"));
    (result, reads.map(|(_, key)| number(key)).collect())
}

#[test]
fn a_range_reads_the_chunks_it_touches_and_no_others() {
    let (origin, body) = long(5 * CHUNK + 100);
    let redis = Redis::start();
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    let end = body.len() - 1;
    for (range, first, last, expected) in [
        ("0-0".to_owned(), 0, 0, vec![0]),
        (format!("{}-{}", CHUNK - 1, CHUNK), CHUNK - 1, CHUNK, vec![0, 1]),
        (format!("{}-{}", CHUNK, 2 * CHUNK - 1), CHUNK, 2 * CHUNK - 1, vec![1]),
        (format!("{}-{}", 3 * CHUNK + 5, 3 * CHUNK + 9), 3 * CHUNK + 5, 3 * CHUNK + 9, vec![3]),
        (format!("{}-", 5 * CHUNK), 5 * CHUNK, end, vec![5]),
        ("-1".to_owned(), end, end, vec![5]),
        ("-101".to_owned(), end - 100, end, vec![4, 5]),
        (format!("{}-{}", CHUNK + 7, end + 900), CHUNK + 7, end, vec![1, 2, 3, 4, 5]),
    ] {
        let lines = format!("Range: bytes={range}\r\n");
        let (answer, read) = chunks_read(&redis, || proxy.get_with("/p", &lines));
        assert_eq!((answer.status, answer.x_cache()), (206, "HIT"), "{range}");
        assert!(answer.is_complete() && answer.body == body[first..=last], "{range}");
        let told = format!("bytes {first}-{last}/{}", body.len());
        assert_eq!(answer.field("content-range"), Some(told.as_str()));
        assert_eq!(read, BTreeSet::from_iter(expected), "{range}");
    }
    assert_eq!(origin.count("/p"), 1, "nothing was asked of the origin");
}

#[test]
fn several_ranges_read_the_chunks_they_touch() {
    let (origin, body) = long(6 * CHUNK);
    let redis = Redis::start();
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    let ranges = [(4 * CHUNK, 4 * CHUNK + 9), (CHUNK - 2, CHUNK + 2), (CHUNK, CHUNK + 5)];
    let list: Vec<String> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    let lines = format!("Range: bytes={}\r\n", list.join(", "));
    let (answer, read) = chunks_read(&redis, || proxy.get_with("/p", &lines));
    assert_eq!((answer.status, answer.x_cache(), answer.is_complete()), (206, "HIT", true));
    let kind = answer.field("content-type").expect("a type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("multipart");
    let mut expected = Vec::new();
    for (n, (first, last)) in ranges.into_iter().enumerate() {
        let before = if n == 0 { "" } else { "\r\n" };
        expected.extend_from_slice(
            format!(
                "{before}--{boundary}\r\nContent-Type: image/png\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        expected.extend_from_slice(&body[first..=last]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(answer.body == expected, "{} bytes for {}", answer.body.len(), expected.len());
    assert_eq!(answer.framing, Framing::Length(expected.len() as u64));
    assert_eq!(read, BTreeSet::from([0, 1, 4]));
}

#[test]
fn what_the_record_alone_can_answer_reads_no_chunk() {
    let (origin, body) = long(3 * CHUNK);
    let redis = Redis::start();
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    let beyond = format!("Range: bytes={}-\r\n", body.len());
    for (method, lines, status) in [
        ("HEAD", "", 200),
        ("HEAD", "Range: bytes=0-0\r\n", 200),
        ("GET", "If-None-Match: \"1\"\r\n", 304),
        ("GET", beyond.as_str(), 416),
    ] {
        let (answer, read) = chunks_read(&redis, || proxy.request(method, "/p", lines));
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{method} {lines}");
        assert!(answer.is_complete() && read.is_empty(), "{method} {lines}: {read:?}");
        if method == "HEAD" {
            assert_eq!(answer.field("content-length"), Some(body.len().to_string().as_str()));
        }
        if status == 416 {
            assert_eq!(answer.field("content-range"), Some(format!("bytes */{}", body.len()).as_str()));
        }
    }
    // If-Range is decided from the record, too: the part where it holds, the whole where it does not.
    for (tag, status, expected) in [("\"1\"", 206, 1), ("\"2\"", 200, body.len())] {
        let lines = format!("Range: bytes=0-0\r\nIf-Range: {tag}\r\n");
        let (answer, read) = chunks_read(&redis, || proxy.get_with("/p", &lines));
        assert_eq!((answer.status, answer.body.len(), answer.is_complete()), (status, expected, true));
        assert_eq!(read.len(), expected.div_ceil(CHUNK));
    }
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn a_validation_writes_the_record_and_no_chunk() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let body = noise(3, 3 * CHUNK + 1);
    let whole = body.clone();
    origin.on("/p", move |exchange| {
        let validated = exchange.head().field("if-none-match").is_some();
        let reply = if validated { Reply::not_modified() } else { Reply::ok(&whole) };
        exchange.reply(&reply.field("ETag", "\"1\"").cache("no-cache"));
    });
    for memory in [false, true] {
        let config = Config::new(&origin).redis(&redis);
        let proxy = if memory { config.start() } else { config.without_memory().start() };
        until("the chunks and their record are there", || {
            let answer = proxy.get("/p");
            assert!(answer.is_complete() && answer.body == body);
            answer.x_cache() == "REVALIDATED" && chunks(&redis).len() == 4
        });
        at_rest(&proxy);
        for name in chunks(&redis) {
            redis.command(&["PEXPIRE", &name, "100000"]);
        }
        let before = origin.count("/p");
        let (answer, commands) = commands(&redis, || {
            let answer = proxy.get("/p");
            until("the record is written", || {
                chunks(&redis).iter().all(|name| redis.command(&["PTTL", name]).integer() > Some(200_000))
            });
            at_rest(&proxy);
            answer
        });
        assert_eq!((answer.status, answer.x_cache()), (200, "REVALIDATED"), "{}", answer.cache_status());
        assert!(answer.is_complete() && answer.body == body);
        assert_eq!(origin.count("/p"), before + 1, "one question, and no body");
        let of = |verb: &str| commands.iter().filter(|(name, _)| name == verb).collect::<Vec<_>>();
        assert!(of("SET").iter().all(|(_, key)| key.ends_with(":o")), "{commands:?}");
        assert_eq!(of("SET").len(), 1, "{commands:?}");
        assert_eq!(of("PEXPIRE").len(), 4, "{commands:?}");
    }
}

#[test]
fn a_validation_of_what_is_not_all_there_fetches_it_anew() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let body = noise(4, 4 * CHUNK);
    let whole = body.clone();
    origin.on("/p", move |exchange| {
        let validated = exchange.head().field("if-none-match").is_some();
        let reply = if validated { Reply::not_modified() } else { Reply::ok(&whole) };
        exchange.reply(&reply.field("ETag", "\"1\"").cache("no-cache"));
    });
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let whole_again = || {
        until("it is validated", || {
            let answer = proxy.get("/p");
            assert!(answer.is_complete() && answer.body == body);
            answer.x_cache() == "REVALIDATED" && chunks(&redis).len() == 4
        });
    };
    for n in 0..4 {
        whole_again();
        at_rest(&proxy);
        lose(&redis, n);
        let before = origin.count("/p");
        let answer = proxy.get("/p");
        assert!(answer.is_complete() && answer.body == body, "chunk {n}: {:?}", answer.end);
        assert_eq!(origin.count("/p"), before + 2, "the question, and then the whole");
    }
    whole_again();
}

pub(crate) type Damage = fn(&Redis, &str, &str);

/// Ways in which a chunk is not what it should be; the second name is another body's chunk.
pub(crate) const DAMAGES: [(&str, Damage); 6] = [
    ("gone", |redis, name, _| drop(redis.command(&["DEL", name]))),
    ("empty", |redis, name, _| drop(redis.command(&["SET", name, ""]))),
    ("cut", |redis, name, _| {
        let bytes = redis.command(&["GET", name]).bytes().expect("a chunk");
        redis.command(&[b"SET".as_slice(), name.as_bytes(), &bytes[..bytes.len() / 2]]);
    }),
    ("bent", |redis, name, _| drop(redis.command(&["SETRANGE", name, "1000", "bent"]))),
    ("another's", |redis, name, other| drop(redis.command(&["COPY", other, name, "REPLACE"]))),
    ("a list", |redis, name, _| {
        redis.command(&["DEL", name]);
        redis.command(&["RPUSH", name, "a"]);
    }),
];

/// A second long body, in Redis beside the first: the name of its chunk with this number.
pub(crate) fn others(origin: &Origin, proxy: &Forebay, redis: &Redis, length: usize) -> Vec<String> {
    let before: BTreeSet<String> = chunks(redis).into_iter().collect();
    let body = noise(77, length);
    origin.reply("/other", Reply::ok(&body).cache("max-age=600"));
    eventually("another body is in Redis", || {
        proxy.get("/other").cache_status().contains("detail=redis").then_some(())
    });
    chunks(redis).into_iter().filter(|name| !before.contains(name)).collect()
}

#[test]
fn a_chunk_found_wrong_before_the_first_byte_is_a_miss_that_heals() {
    let (origin, body) = long(5 * CHUNK);
    let redis = Redis::start();
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    let ours = chunks(&redis);
    let others = others(&origin, &proxy, &redis, body.len());
    let range = format!("Range: bytes={}-{}\r\n", 3 * CHUNK, 3 * CHUNK + 99);
    for (what, damage) in DAMAGES {
        // The first two chunks are awaited before the head; of a range, those that it begins with.
        for (n, lines, expected) in
            [(0, "", &body[..]), (1, "", &body[..]), (3, range.as_str(), &body[3 * CHUNK..3 * CHUNK + 100])]
        {
            in_redis(&proxy, &body);
            damage(&redis, &ours[n], &others[n]);
            let (before, errors) = (origin.count("/p"), proxy.metric("forebay_redis_errors_total", &[]));
            let answer = proxy.get_with("/p", lines);
            let of = format!("{what}, chunk {n}: {}", answer.cache_status());
            assert!(answer.is_complete() && answer.body.len() >= expected.len(), "{of}");
            if lines.is_empty() || answer.status == 206 {
                assert!(answer.body == expected, "{of}");
            } else {
                assert!(answer.body == body, "{of}: the origin knows no ranges");
            }
            assert_eq!(answer.x_cache(), "MISS", "{of}");
            assert!(answer.cache_status().contains("fwd=miss"), "{of}");
            until("the log says why", || {
                proxy.log().iter().any(|line| value(line, "reason").as_deref() == Some("content-unreadable"))
            });
            assert_eq!(origin.count("/p"), before + 1, "{of}");
            assert!(proxy.metric("forebay_redis_errors_total", &[]) > errors, "{of}: counted");
        }
    }
    in_redis(&proxy, &body);
}

#[test]
fn a_hundred_clients_who_find_a_chunk_gone_are_one_fetch() {
    let (origin, body) = long(4 * CHUNK);
    let redis = Redis::start();
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    lose(&redis, 0);
    let answers = fan_out(&[proxy.address], 100, |_| request("GET", "/p", ""), || ());
    assert!(answers.iter().all(|answer| answer.is_complete() && answer.body == body));
    assert_eq!(origin.count("/p"), 2);
}

/// A body so long that no socket's buffers hold it, and a configuration that stores it.
pub(crate) const HUGE: usize = 32 * MEBIBYTE;

pub(crate) fn huge(origin: &Origin, redis: &Redis) -> Config {
    Config::new(origin).redis(redis).without_memory().redis_line("max_object_size = \"64MiB\"")
}

#[test]
fn a_chunk_found_wrong_after_the_first_byte_breaks_the_answer_off() {
    // With a weak tag nobody could say what the rest is: what has a strong one is in `continued`.
    let (origin, body) = tagged(HUGE, "W/\"1\"");
    let redis = Redis::start();
    let proxy = huge(&origin, &redis).start();
    in_redis(&proxy, &body);
    let ours = chunks(&redis);
    let others = others(&origin, &proxy, &redis, 2 * MEBIBYTE);
    let n = ours.len() - 2;
    for (what, damage) in DAMAGES {
        in_redis(&proxy, &body);
        let mut client = proxy.connect();
        client.send(request("GET", "/p", ""));
        let (_, status, head) = client.head().expect("a head");
        assert_eq!((status, head.field("x-cache")), (200, Some("HIT")), "{what}");
        // The client reads nothing yet, so that most of the body is still to be read.
        damage(&redis, &ours[n], &others[1]);
        let (sent, end) = client.rest();
        // What the system had not sent yet goes with the reset.
        let least = n * CHUNK - 8 * MEBIBYTE;
        assert!(sent.len() <= n * CHUNK && sent.len() >= least, "{what}: {} bytes", sent.len());
        assert!(sent == body[..sent.len()], "{what}: a wrong byte was sent");
        assert!(matches!(end, End::Closed | End::Reset), "{what}: {end:?}");
        let before = origin.count("/p");
        until("the log says that it broke off", || {
            proxy.log().iter().any(|line| {
                value(line, "broken").as_deref() == Some("true")
                    && value(line, "reason").as_deref() == Some("content-unreadable")
            })
        });
        // The record is forgotten: the next request fetches, and stores it anew.
        until("the next one is whole", || {
            let answer = proxy.get("/p");
            assert!(answer.is_complete() && answer.body == body, "{what}");
            origin.count("/p") == before + 1
        });
    }
}

#[test]
fn a_redis_that_hangs_in_the_middle_of_a_body_ends_it_in_time() {
    let (origin, body) = tagged(HUGE, "W/\"1\"");
    let redis = Redis::start();
    let proxy = huge(&origin, &redis).start();
    in_redis(&proxy, &body);
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    assert_eq!(client.head().expect("a head").1, 200);
    redis.pause();
    let begun = ::forebay::clock::monotonic();
    let (sent, end) = client.rest();
    let took = begun.elapsed();
    assert!(matches!(end, End::Closed | End::Reset), "{end:?}");
    assert!(sent.len() < body.len() && sent == body[..sent.len()]);
    assert!(took < Duration::from_secs(20), "{took:?} for one budget of two seconds");
    // Before the first byte: the origin answers.
    let answer = proxy.get("/p");
    assert!(answer.is_complete() && answer.body == body);
    redis.resume();
}

#[test]
fn slow_readers_hold_a_window_each_and_not_the_body() {
    const READERS: usize = 40;
    let (origin, body) = long(HUGE);
    let redis = Redis::start();
    let proxy = huge(&origin, &redis).start();
    in_redis(&proxy, &body);
    let before = proxy.resident();
    let mut clients: Vec<_> = (0..READERS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/p", ""));
    }
    for client in &mut clients {
        assert_eq!(client.head().expect("a head").1, 200);
    }
    // Until all of them stand still: nobody reads.
    let read = || redis.command(&["INFO", "commandstats"]).bytes().map(|text| calls(&text, "getrange"));
    let mut last = read();
    eventually("nothing more is read", || {
        pass(Duration::from_millis(300));
        let now = read();
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    let growth = proxy.resident().saturating_sub(before);
    assert!(growth < (READERS * 3 * MEBIBYTE) as u64, "{growth} bytes more for {READERS} readers");
    // All but one leave, which stops their reading; who stays gets everything.
    let mut stays = clients.pop().expect("a client");
    drop(clients);
    let (mut sent, mut seen) = (0, true);
    while sent < body.len() {
        let piece = stays.some().expect("more");
        seen &= body[sent..sent + piece.len()] == piece;
        sent += piece.len();
    }
    assert!(seen, "every byte is right");
    let total = last.expect("counted") as usize;
    assert!(total < READERS * body.len() / CHUNK / 4 + 1000, "{total} chunks were read");
    assert_eq!(origin.count("/p"), 1);
}

/// The calls of a command, out of `INFO commandstats`.
fn calls(text: &[u8], command: &str) -> u64 {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

#[test]
fn a_client_that_leaves_stops_the_reading() {
    let (origin, body) = long(HUGE);
    let redis = Redis::start();
    let proxy = huge(&origin, &redis).start();
    in_redis(&proxy, &body);
    let ((), read) = chunks_read(&redis, || {
        let mut client = proxy.connect();
        client.send(request("GET", "/p", ""));
        assert_eq!(client.head().expect("a head").1, 200);
        drop(client);
        until("the log says that it left", || {
            proxy.log().iter().any(|line| value(line, "reason").as_deref() == Some("client-gone"))
        });
        pass(Duration::from_millis(200));
    });
    assert!(read.len() < HUGE / CHUNK / 2, "{} chunks of {}", read.len(), HUGE / CHUNK);
}

#[test]
fn a_hundred_readers_at_once_all_get_everything() {
    let (origin, body) = long(3 * MEBIBYTE + 17);
    let redis = Redis::start();
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    let answers = fan_out(&[proxy.address], 100, |_| request("GET", "/p", ""), || ());
    for answer in &answers {
        assert!(answer.is_complete() && answer.body == body, "{:?}", answer.end);
        assert!(answer.cache_status().contains("detail=redis"), "{}", answer.cache_status());
    }
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn what_may_lie_in_memory_is_read_once_for_all_and_put_there() {
    let (origin, body) = long(4 * CHUNK);
    let redis = Redis::start();
    in_redis(&Config::new(&origin).redis(&redis).without_memory().start(), &body);
    let proxy = Config::new(&origin).redis(&redis).start();
    // A range puts nothing there: it is not the whole.
    let ranged = proxy.get_with("/p", "Range: bytes=0-0\r\n");
    assert!(ranged.cache_status().contains("detail=redis") && ranged.body == body[..1]);
    assert_eq!(proxy.metric("forebay_cache_entries", &[("tier", "memory")]), 0.0);
    let (answers, commands) =
        commands(&redis, || fan_out(&[proxy.address], 100, |_| request("GET", "/p", ""), || ()));
    assert!(answers.iter().all(|answer| answer.is_complete() && answer.body == body));
    let reads = commands.iter().filter(|(name, key)| name == "GETRANGE" && key.contains(":b:")).count();
    assert!(reads < 4 * 100 / 4, "{reads} chunks were read for 100 clients");
    until("it is in memory", || proxy.get("/p").cache_status().contains("detail=memory"));
    let (answer, read) = chunks_read(&redis, || proxy.get("/p"));
    assert!(answer.body == body && read.is_empty());
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn what_is_too_large_for_memory_never_goes_there() {
    let (origin, body) = long(MEBIBYTE + 1);
    let redis = Redis::start();
    in_redis(&Config::new(&origin).redis(&redis).without_memory().start(), &body);
    let proxy = Config::new(&origin).redis(&redis).start();
    for _ in 0..5 {
        let answer = proxy.get("/p");
        assert!(answer.body == body && answer.cache_status().contains("detail=redis"));
    }
    assert_eq!(proxy.metric("forebay_cache_entries", &[("tier", "memory")]), 0.0);
}

#[test]
fn sizes_around_the_length_of_a_chunk_come_back_whole_and_in_ranges() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.on("/*", |exchange| {
        let length: usize = exchange.target()[1..].parse().expect("a length");
        exchange.reply(&Reply::ok(noise(length as u64, length)).field("ETag", "\"1\"").cache("max-age=600"));
    });
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    for chunks in [1, 2, 3, 4] {
        for length in [chunks * CHUNK - 1, chunks * CHUNK, chunks * CHUNK + 1] {
            let (target, body) = (format!("/{length}"), noise(length as u64, length));
            eventually("it comes from Redis", || {
                let answer = proxy.get(&target);
                assert!(answer.is_complete() && answer.body == body, "{length}");
                answer.cache_status().contains("detail=redis").then_some(())
            });
            for (first, last) in [(0, length - 1), (length - 1, length - 1), (length / 2, length - 1)] {
                let answer = proxy.get_with(&target, &format!("Range: bytes={first}-{last}\r\n"));
                assert_eq!((answer.status, answer.x_cache()), (206, "HIT"), "{length}");
                assert!(answer.is_complete() && answer.body == body[first..=last], "{length} {first}-{last}");
            }
        }
    }
}

#[test]
fn stale_content_stands_in_for_the_origin_and_is_read_too() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let body = noise(9, 3 * CHUNK);
    let whole = body.clone();
    origin.on("/p", move |exchange| {
        if exchange.nth() > 1 {
            return exchange.reply(&Reply::new(503).cache("no-store").body("down"));
        }
        let reply = Reply::ok(&whole).field("ETag", "\"1\"").field("Age", "60");
        exchange.reply(&reply.cache("max-age=60, stale-if-error=600"));
    });
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    assert_eq!(proxy.get("/p").status, 200);
    until("it is in Redis", || {
        chunks(&redis).len() == 3 && redis.strings().keys().any(|k| k.ends_with(":o"))
    });
    for _ in 0..2 {
        let answer = proxy.get("/p");
        assert_eq!((answer.status, answer.x_cache()), (200, "STALE"), "{}", answer.cache_status());
        assert!(answer.is_complete() && answer.body == body);
    }
    // Where it cannot be read, the origin's failure is the answer, and then the origin's own.
    lose(&redis, 0);
    assert_eq!([proxy.get("/p").status, proxy.get("/p").status], [502, 503]);
}

/// Answers ranges and validators as an origin does that knows them.
fn ranges(origin: &Origin, body: &[u8], directives: &'static str) {
    let body = body.to_vec();
    origin.on("/p", move |exchange| {
        let range = exchange.head().field("range").map(str::to_owned);
        let reply = match range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
            _ if exchange.head().field("if-none-match").is_some() => Reply::not_modified(),
            Some((first, last)) => {
                let first: usize = first.parse().expect("a first offset");
                let last = last.parse().unwrap_or(usize::MAX).min(body.len() - 1);
                let told = format!("bytes {first}-{last}/{}", body.len());
                Reply::new(206).field("Content-Range", told).body(&body[first..=last])
            }
            None => Reply::ok(&body),
        };
        exchange.reply(&reply.field("ETag", "\"1\"").cache(directives));
    });
}

#[test]
fn a_long_part_answers_its_ranges_and_is_completed() {
    let body = noise(12, 6 * CHUNK);
    for lost in [false, true] {
        let (origin, redis) = (Origin::start(), Redis::start());
        ranges(&origin, &body, "max-age=600");
        let proxy = Config::new(&origin).redis(&redis).without_memory().start();
        let (first, last) = (CHUNK + 10, 6 * CHUNK - 1);
        let stored = format!("Range: bytes={first}-{last}\r\n");
        part_in_redis(&proxy, &body, first, last);
        // Where the part begins is where its first chunk does.
        let at = 3 * CHUNK + 10;
        let lines = format!("Range: bytes={at}-{}\r\n", at + 9);
        let (answer, read) = chunks_read(&redis, || proxy.get_with("/p", &lines));
        assert_eq!((answer.status, answer.x_cache()), (206, "HIT"));
        assert!(answer.body == body[at..at + 10] && read == BTreeSet::from([2]), "{read:?}");
        if lost {
            lose(&redis, 4);
        }
        let before = origin.count("/p");
        let answer = proxy.get("/p");
        assert!(answer.status == 200 && answer.is_complete() && answer.body == body, "{:?}", answer.end);
        let asked: Vec<_> = origin.seen_at("/p")[before..]
            .iter()
            .map(|seen| seen.field("range").map(str::to_owned))
            .collect();
        let rest = Some(format!("bytes=0-{}", first - 1));
        assert_eq!(asked, if lost { vec![rest, None] } else { vec![rest] }, "and the whole where it is lost");
        in_redis(&proxy, &body);
        assert_eq!(proxy.get_with("/p", &stored).x_cache(), "HIT");
    }
}

#[test]
fn parts_are_joined_to_a_long_one() {
    let body = noise(13, 5 * CHUNK);
    let (origin, redis) = (Origin::start(), Redis::start());
    ranges(&origin, &body, "max-age=600");
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    for (first, last) in [(0, 2 * CHUNK), (2 * CHUNK - 5, 4 * CHUNK), (4 * CHUNK + 1, 5 * CHUNK - 1)] {
        part_in_redis(&proxy, &body, first, last);
    }
    let before = origin.count("/p");
    let answer = proxy.get("/p");
    assert!(answer.is_complete() && answer.body == body, "{:?}", answer.end);
    assert_eq!((answer.status, answer.x_cache()), (200, "HIT"), "{}", answer.cache_status());
    assert_eq!(origin.count("/p"), before);
}

#[test]
fn a_hundred_clients_of_a_stale_body_are_one_question() {
    let body = noise(14, 5 * CHUNK);
    let (origin, redis) = (Origin::start(), Redis::start());
    let gate = Gate::new();
    let (whole, held) = (body.clone(), gate.clone());
    origin.on("/p", move |exchange| {
        if exchange.nth() == 1 {
            let stale = Reply::ok(&whole).field("ETag", "\"1\"").field("Age", "60");
            return exchange.reply(&stale.cache("max-age=60"));
        }
        held.wait();
        exchange.reply(&Reply::not_modified().field("ETag", "\"1\"").cache("max-age=600"));
    });
    let config = Config::new(&origin).redis(&redis).without_memory().defaults("collapse_timeout = \"30s\"");
    let (one, two) = (config.clone().start(), config.start());
    assert_eq!(one.get("/p").status, 200);
    until("it is in Redis", || chunks(&redis).len() == 5 && redis.keys().keys().any(|k| k.ends_with(":o")));
    let lines = |n: usize| {
        if n.is_multiple_of(3) { format!("Range: bytes={}-\r\n", 4 * CHUNK) } else { String::new() }
    };
    let answers = fan_out(
        &[one.address, two.address],
        100,
        |n| request("GET", "/p", &lines(n)),
        || {
            origin.wait_count("/p", 2);
            gate.open();
        },
    );
    for (n, answer) in answers.iter().enumerate() {
        let expected = if n.is_multiple_of(3) { &body[4 * CHUNK..] } else { &body[..] };
        assert!(answer.is_complete() && answer.body == expected, "{n}: {:?}", answer.end);
        assert_eq!(answer.status, if n.is_multiple_of(3) { 206 } else { 200 });
    }
    assert_eq!(origin.count("/p"), 2);
    assert_eq!(chunks(&redis).len(), 5);
}

#[test]
fn a_head_request_freshens_a_long_body_where_it_lies() {
    let body = noise(15, 3 * CHUNK);
    let (origin, redis) = (Origin::start(), Redis::start());
    let whole = body.clone();
    origin.on("/p", move |exchange| {
        let age = if exchange.method() == "HEAD" { "0" } else { "60" };
        let reply = Reply::ok(&whole).field("ETag", "\"1\"").field("Age", age);
        exchange.reply(&reply.cache("max-age=60"));
    });
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    assert_eq!(proxy.get("/p").status, 200);
    until("it is in Redis", || chunks(&redis).len() == 3 && redis.keys().keys().any(|k| k.ends_with(":o")));
    let (head, read) = chunks_read(&redis, || proxy.request("HEAD", "/p", ""));
    assert_eq!((head.status, head.field("content-length")), (200, Some(body.len().to_string().as_str())));
    assert!(read.is_empty());
    let answer = proxy.get("/p");
    assert!(answer.is_complete() && answer.body == body);
    assert_eq!((answer.x_cache(), origin.count("/p")), ("HIT", 2), "{}", answer.cache_status());
}

#[test]
fn variants_and_trailers_of_long_bodies_stay_theirs() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let of = |tenant: &str| noise(tenant.len() as u64, 2 * CHUNK + tenant.len());
    origin.on("/p", move |exchange| {
        let body = of(exchange.head().field("x-tenant").unwrap_or_default());
        exchange.send(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nVary: X-Tenant\r\nTrailer: X-Sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        );
        exchange.send(format!("{:x}\r\n", body.len()));
        exchange.send(&body);
        exchange.send(format!("\r\n0\r\nX-Sum: {}\r\n\r\n", body.len()));
    });
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let tenants = ["a", "bb", "ccc"];
    for round in 0..2 {
        for tenant in tenants {
            let lines = format!("X-Tenant: {tenant}\r\nTE: trailers\r\nConnection: TE\r\n");
            let answer = eventually("the variant comes from Redis", || {
                let answer = proxy.get_with("/p", &lines);
                assert!(answer.is_complete() && answer.body == of(tenant), "{tenant} in round {round}");
                answer.cache_status().contains("detail=redis").then_some(answer)
            });
            let sum = ("x-sum".to_owned(), of(tenant).len().to_string());
            assert_eq!((answer.framing, answer.trailers), (Framing::Chunked, vec![sum]));
            let lines = format!("X-Tenant: {tenant}\r\nRange: bytes=-{}\r\n", tenant.len());
            let (part, read) = chunks_read(&redis, || proxy.get_with("/p", &lines));
            assert!(part.status == 206 && part.body == of(tenant)[2 * CHUNK..]);
            assert_eq!(read, BTreeSet::from([2]));
        }
    }
    assert_eq!(origin.count("/p"), 3);
}

#[test]
fn what_memory_holds_makes_way_for_a_newer_long_body() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let body = noise(16, 2 * MEBIBYTE);
    let whole = body.clone();
    origin.on("/p", move |exchange| {
        let reply = match exchange.nth() {
            1 => Reply::ok("old").field("Age", "60").cache("max-age=60, stale-while-revalidate=600"),
            _ => Reply::ok(&whole).cache("max-age=600"),
        };
        exchange.reply(&reply);
    });
    let (one, two) = (Config::new(&origin).redis(&redis).start(), Config::new(&origin).redis(&redis).start());
    one.get("/p").expect(200, "MISS", "old");
    // Whoever comes is answered with the old one, and has it renewed; soon after, nobody is.
    for proxy in [&one, &two] {
        eventually("the new one", || {
            let answer = proxy.get("/p");
            (answer.body == body && answer.x_cache() == "HIT").then_some(())
        });
        assert!(proxy.get("/p").body == body, "and it stays");
    }
    assert_eq!(origin.count("/p"), 2);
}

#[test]
fn a_body_that_breaks_on_its_way_into_memory_never_gets_there() {
    let (origin, body) = tagged(4 * CHUNK, "W/\"1\"");
    let redis = Redis::start();
    let filler = Config::new(&origin).redis(&redis).without_memory().start();
    for n in 0..4 {
        in_redis(&filler, &body);
        let proxy = Config::new(&origin).redis(&redis).start();
        lose(&redis, n);
        for answer in fan_out(&[proxy.address], 20, |_| request("GET", "/p", ""), || ()) {
            assert!(answer.body == body[..answer.body.len()], "chunk {n}: a wrong byte was sent");
            assert_eq!(answer.is_complete(), answer.body.len() == body.len(), "chunk {n}: {:?}", answer.end);
            // What the head waits for is seen before it.
            assert!(answer.is_complete() || n > 1, "chunk {n}: {} bytes", answer.body.len());
        }
        until("it is in memory, whole", || {
            let answer = proxy.get("/p");
            assert!(answer.is_complete() && answer.body == body, "chunk {n}: {:?}", answer.end);
            answer.cache_status().contains("detail=memory")
        });
    }
}

#[test]
fn slow_readers_of_what_goes_into_memory_share_one_copy() {
    const READERS: usize = 20;
    const LENGTH: usize = 24 * MEBIBYTE;
    let (origin, body) = long(LENGTH);
    let redis = Redis::start();
    in_redis(&huge(&origin, &redis).start(), &body);
    let config = Config::new(&origin).redis(&redis).redis_line("max_object_size = \"64MiB\"");
    let proxy = config.memory("max_size = \"1GiB\"").memory("max_object_size = \"32MiB\"").start();
    let before = proxy.resident();
    let mut clients: Vec<_> = (0..READERS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/p", ""));
    }
    for client in &mut clients {
        assert_eq!(client.head().expect("a head").1, 200);
    }
    until("it is in memory", || {
        let answer = proxy.request("HEAD", "/p", "");
        answer.cache_status().contains("detail=memory")
    });
    let growth = proxy.resident().saturating_sub(before);
    assert!(growth < 5 * LENGTH as u64, "{growth} bytes more for {READERS} readers");
    for client in &mut clients {
        let (mut sent, mut right) = (0, true);
        while sent < LENGTH {
            let piece = client.some().expect("more");
            right &= body[sent..sent + piece.len()] == piece;
            sent += piece.len();
        }
        assert!(right, "every byte is right");
    }
    assert_eq!(origin.count("/p"), 1);
}
