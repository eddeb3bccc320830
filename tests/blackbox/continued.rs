//! Long bodies that Redis loses while they are being sent: the origin is asked for the rest, and what the
//! client gets is whole and right, or visibly broken off.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::long_bodies::{
    CHUNK, DAMAGES, HUGE, MEBIBYTE, at_rest, chunks, huge, in_redis, lose, others, part_in_redis,
};
use crate::support::*;

/// More than the two chunks that are awaited before a head is sent.
const LENGTH: usize = 6 * CHUNK + 100;
/// The chunk that is lost, and with it all that is sent of such a body.
const LOST: usize = 3;
const SENT: usize = LOST * CHUNK;

/// A representation as an origin serves it that knows ranges and validators: 206 where the range is for what
/// it still is. `lines` are further fields of every answer.
fn serve(origin: &Origin, body: &[u8], etag: &'static str, lines: &'static [(&'static str, &'static str)]) {
    let body = body.to_vec();
    origin.on("/p", move |exchange| {
        let (first, last) = match asked(exchange) {
            Some((first, last)) if exchange.head().field("if-range").is_none_or(|tag| tag == etag) => {
                (first, last.min(body.len() - 1))
            }
            _ => (0, usize::MAX),
        };
        let reply = match last {
            usize::MAX => Reply::ok(&body),
            last => part(&body, first, last),
        };
        let reply = reply.field("ETag", etag).cache("max-age=600");
        exchange.reply(&lines.iter().fold(reply, |reply, (name, value)| reply.field(name, value)));
    });
}

/// The one range that a request asks for.
fn asked(exchange: &Exchange) -> Option<(usize, usize)> {
    let (first, last) = exchange.head().field("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().unwrap_or(usize::MAX - 1)))
}

fn part(body: &[u8], first: usize, last: usize) -> Reply {
    let told = format!("bytes {first}-{last}/{}", body.len());
    Reply::new(206).field("Content-Range", told).body(&body[first..=last])
}

/// Answers with the whole, and the question for the rest with what `rest` makes of it.
fn answering(origin: &Origin, body: &[u8], etag: &'static str, rest: Script) {
    let body = body.to_vec();
    origin.on("/p", move |exchange| {
        if exchange.head().field("if-range").is_some() {
            return rest(exchange, &body);
        }
        exchange.reply(&Reply::ok(&body).field("ETag", etag).cache("max-age=600"));
    });
}

type Script = fn(&mut Exchange, &[u8]);

/// How often the origin was asked for a rest.
fn questions(origin: &Origin) -> Vec<Seen> {
    origin.seen_at("/p").into_iter().filter(|seen| seen.field("if-range").is_some()).collect()
}

fn continued(proxy: &Forebay) -> f64 {
    proxy.metric("forebay_origin_fetches_total", &[("route", "rest"), ("cause", "continue")])
}

/// Puts the body into Redis, loses a chunk of it, and asks for it.
#[track_caller]
fn lose_and_get(proxy: &Forebay, redis: &Redis, body: &[u8], lines: &str) -> Answer {
    in_redis(proxy, body);
    lose(redis, LOST);
    proxy.get_with("/p", lines)
}

/// Whether there is any record.
fn is_stored(redis: &Redis) -> bool {
    redis.keys().keys().any(|name| name.ends_with(":o"))
}

/// What every answer that Redis began has to be.
#[track_caller]
fn is_right(answer: &Answer, body: &[u8], what: &str) {
    assert_eq!(answer.x_cache(), "HIT", "{what}: {}", answer.cache_status());
    assert!(answer.cache_status().contains("detail=redis"), "{what}: {}", answer.cache_status());
    assert!(body.starts_with(&answer.body), "{what}: a wrong byte was sent");
    assert_eq!(answer.is_complete(), answer.body.len() == body.len(), "{what}: {:?}", answer.end);
}

#[track_caller]
fn is_whole(answer: &Answer, body: &[u8], what: &str) {
    is_right(answer, body, what);
    assert!(answer.is_complete(), "{what}: {:?} after {} bytes", answer.end, answer.body.len());
}

#[test]
fn whatever_becomes_of_a_chunk_the_answer_is_whole() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(1, LENGTH));
    serve(&origin, &body, "\"1\"", &[]);
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    let (ours, others) = (chunks(&redis), others(&origin, &proxy, &redis, body.len()));
    for (what, damage) in DAMAGES {
        for lost in 2..ours.len() {
            in_redis(&proxy, &body);
            damage(&redis, &ours[lost], &others[lost]);
            let (before, counted) = (questions(&origin).len(), continued(&proxy));
            let answer = proxy.get("/p");
            let what = format!("{what}, chunk {lost}");
            is_whole(&answer, &body, &what);
            let asked: Vec<_> = questions(&origin).split_off(before);
            assert_eq!(asked.len(), 1, "{what}");
            let range = format!("bytes={}-{}", lost * CHUNK, body.len() - 1);
            assert_eq!(asked[0].field("range"), Some(range.as_str()), "{what}");
            assert_eq!(asked[0].field("if-range"), Some("\"1\""), "{what}");
            assert_eq!(continued(&proxy), counted + 1.0, "{what}");
            // What is lost is forgotten, and nothing was stored in its place: the next one is a fetch.
            at_rest(&proxy);
            let answer = proxy.get("/p");
            assert_eq!(answer.x_cache(), "MISS", "{what}: {}", answer.cache_status());
        }
    }
    assert!(!proxy.log().iter().any(|line| value(line, "broken").is_some()), "none broke off");
}

#[test]
fn a_slow_reader_whose_redis_goes_away_gets_the_whole() {
    for (what, fail) in
        [("killed", (|redis| redis.kill()) as fn(&mut Redis)), ("hangs", |redis| redis.pause())]
    {
        let (origin, mut redis, body) = (Origin::start(), Redis::start(), noise(2, HUGE));
        serve(&origin, &body, "\"1\"", &[]);
        let proxy = huge(&origin, &redis).start();
        in_redis(&proxy, &body);
        let before = questions(&origin).len();
        let mut client = proxy.connect();
        client.send(request("GET", "/p", ""));
        let head = client.head().expect("a head");
        // The client has read nothing: most of the body is still to be read.
        fail(&mut redis);
        let answer = client.content_after("GET", head).expect("an answer");
        is_whole(&answer, &body, what);
        let asked = questions(&origin).split_off(before);
        assert_eq!(asked.len(), 1, "{what}");
        let first = asked[0].field("range").and_then(|range| range["bytes=".len()..].split('-').next());
        let first: usize = first.and_then(|first| first.parse().ok()).expect("a first offset");
        assert!(first > 0 && first < body.len() && first.is_multiple_of(CHUNK), "{what}: from {first}");
        // And the connection is one that others may use.
        client.send(request("GET", "/p", ""));
        let next = client.answer();
        assert!(next.is_complete() && next.body == body, "{what}: {:?}", next.end);
        if what == "hangs" {
            redis.resume();
        }
    }
}

#[test]
fn a_range_is_continued_like_the_whole() {
    for knows_ranges in [true, false] {
        let (origin, redis, body) = (Origin::start(), Redis::start(), noise(3, LENGTH));
        match knows_ranges {
            true => serve(&origin, &body, "\"1\"", &[]),
            false => origin.reply("/p", Reply::ok(&body).field("ETag", "\"1\"").cache("max-age=600")),
        }
        let proxy = Config::new(&origin).redis(&redis).without_memory().start();
        let end = LENGTH - 1;
        for (range, first, last) in [
            (format!("{}-{}", 10, 4 * CHUNK + 5), 10, 4 * CHUNK + 5),
            (format!("{}-{}", CHUNK - 1, SENT), CHUNK - 1, SENT),
            (format!("{}-", CHUNK), CHUNK, end),
            (format!("-{}", 5 * CHUNK + 101), LENGTH - 5 * CHUNK - 101, end),
        ] {
            let answer = lose_and_get(&proxy, &redis, &body, &format!("Range: bytes={range}\r\n"));
            assert_eq!(answer.status, 206, "{range}");
            is_whole(&answer, &body[first..=last], &range);
            let told = format!("bytes {first}-{last}/{LENGTH}");
            assert_eq!(answer.field("content-range"), Some(told.as_str()));
            let asked = format!("bytes={SENT}-{last}");
            assert_eq!(questions(&origin).last().and_then(|seen| seen.field("range")), Some(asked.as_str()));
        }
        assert_eq!(continued(&proxy), 4.0);
    }
}

#[test]
fn a_range_of_a_stored_part_is_continued_where_the_part_lies() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(4, 7 * CHUNK));
    serve(&origin, &body, "\"1\"", &[]);
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let (begins, ends) = (CHUNK + 10, 7 * CHUNK - 11);
    for (first, last) in [(begins, ends), (begins + 5, begins + 5 * CHUNK)] {
        part_in_redis(&proxy, &body, begins, ends);
        lose(&redis, LOST);
        let answer = proxy.get_with("/p", &format!("Range: bytes={first}-{last}\r\n"));
        assert_eq!(answer.status, 206);
        is_whole(&answer, &body[first..=last], "a part");
        let asked = format!("bytes={}-{last}", begins + SENT);
        assert_eq!(questions(&origin).last().and_then(|seen| seen.field("range")), Some(asked.as_str()));
    }
}

#[test]
fn several_ranges_break_off_and_so_does_what_only_the_cache_may_answer() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(5, LENGTH));
    serve(&origin, &body, "\"1\"", &[]);
    let config = Config::new(&origin).redis(&redis).without_memory();
    let proxy = config.defaults("client_cache_control = \"respect\"").start();
    let several = format!("Range: bytes=0-{}, {}-\r\n", 2 * CHUNK, 3 * CHUNK);
    for lines in [several.as_str(), "Cache-Control: only-if-cached\r\n"] {
        let answer = lose_and_get(&proxy, &redis, &body, lines);
        assert_eq!(answer.x_cache(), "HIT", "{lines}");
        assert!(!answer.is_complete(), "{lines}: {:?}", answer.end);
        until("what is lost is forgotten", || !is_stored(&redis));
    }
    assert!(questions(&origin).is_empty());
}

#[test]
fn the_rest_may_come_in_several_forms() {
    let forms: [(&str, Script); 5] = [
        ("a part", |exchange, body| {
            exchange.reply(&part(body, SENT, LENGTH - 1).field("ETag", "\"1\""));
        }),
        ("a part in chunks", |exchange, body| {
            exchange.reply(&part(body, SENT, LENGTH - 1).field("ETag", "\"1\"").chunked());
        }),
        ("a part up to the end of its connection", |exchange, body| {
            exchange.reply(&part(body, SENT, LENGTH - 1).field("ETag", "\"1\"").close_delimited());
        }),
        ("a part that may not be stored", |exchange, body| {
            exchange.reply(&part(body, SENT, LENGTH - 1).field("ETag", "\"1\"").cache("no-store"));
        }),
        ("the whole again", |exchange, body| {
            exchange.reply(&Reply::ok(body).field("ETag", "\"1\"").cache("max-age=600"));
        }),
    ];
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(6, LENGTH));
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    for (what, script) in forms {
        answering(&origin, &body, "\"1\"", script);
        let before = questions(&origin).len();
        is_whole(&lose_and_get(&proxy, &redis, &body, ""), &body, what);
        assert_eq!(questions(&origin).len(), before + 1, "{what}");
        at_rest(&proxy);
        assert!(!is_stored(&redis), "{what}: nothing is stored from it");
    }
}

#[test]
fn what_is_not_the_rest_breaks_the_answer_off() {
    let answers: [(&str, Script); 24] = [
        ("it has changed", |exchange, body| {
            exchange.reply(&Reply::ok(body).field("ETag", "\"2\"").cache("max-age=600"));
        }),
        ("it has changed to another length", |exchange, body| {
            exchange.reply(&tag(Reply::ok(&body[1..])).cache("max-age=600"));
        }),
        ("the whole of an unknown length", |exchange, body| {
            exchange.reply(&tag(Reply::ok(body)).chunked());
        }),
        ("the whole with a weak tag", |exchange, body| {
            exchange.reply(&Reply::ok(body).field("ETag", "W/\"1\""));
        }),
        ("the whole, coded", |exchange, body| {
            exchange.reply(&tag(Reply::ok(body)).field("Content-Encoding", "gzip"));
        }),
        ("a part of something else", |exchange, body| {
            exchange.reply(&part(body, SENT, LENGTH - 1).field("ETag", "\"2\""));
        }),
        ("a part without a tag", |exchange, body| {
            exchange.reply(&part(body, SENT, LENGTH - 1));
        }),
        ("a part with a weak tag", |exchange, body| {
            exchange.reply(&part(body, SENT, LENGTH - 1).field("ETag", "W/\"1\""));
        }),
        ("a part, coded", |exchange, body| {
            exchange.reply(&tag(part(body, SENT, LENGTH - 1)).field("Content-Encoding", "gzip"));
        }),
        ("a part from a byte later", |exchange, body| {
            exchange.reply(&tag(part(body, SENT + 1, LENGTH - 1)));
        }),
        ("a part from a byte earlier", |exchange, body| {
            exchange.reply(&tag(part(body, SENT - 1, LENGTH - 1)));
        }),
        ("a part that ends earlier", |exchange, body| {
            exchange.reply(&tag(part(body, SENT, LENGTH - 2)));
        }),
        ("a part of a longer whole", |exchange, body| {
            let told = format!("bytes {SENT}-{}/{}", LENGTH - 1, LENGTH + 1);
            exchange.reply(&tag(Reply::new(206).field("Content-Range", told).body(&body[SENT..])));
        }),
        ("a part that does not say of what", |exchange, body| {
            exchange.reply(&tag(Reply::new(206).body(&body[SENT..])));
        }),
        ("a part that is shorter than it says", |exchange, body| {
            let told = format!("bytes {SENT}-{}/{LENGTH}", LENGTH - 1);
            let reply = tag(Reply::new(206)).field("Content-Range", told);
            exchange.reply(&reply.body(&body[SENT..LENGTH - 1]).chunked());
        }),
        ("a part that is longer than it says", |exchange, body| {
            let told = format!("bytes {SENT}-{}/{LENGTH}", LENGTH - 1);
            let longer = [&body[SENT..], b"!"].concat();
            exchange.reply(&tag(Reply::new(206)).field("Content-Range", told).body(longer).chunked());
        }),
        ("a part with more behind it", |exchange, body| {
            let told = format!("bytes {SENT}-{}/{LENGTH}", LENGTH - 1);
            exchange.send(tag(Reply::new(206)).field("Content-Range", told).chunked().head());
            exchange.send(format!("{:x}\r\n", LENGTH - SENT));
            exchange.send(&body[SENT..]);
            exchange.send("\r\n1\r\n!\r\n0\r\n\r\n");
        }),
        ("a part that breaks off", |exchange, body| {
            let reply = tag(part(body, SENT, LENGTH - 1));
            exchange.send(reply.head());
            exchange.send(&body[SENT..SENT + CHUNK]);
            exchange.reset();
        }),
        ("a part that stops coming", |exchange, body| {
            let reply = tag(part(body, SENT, LENGTH - 1));
            exchange.send(reply.head());
            exchange.send(&body[SENT..SENT + CHUNK]);
            exchange.hang_up();
        }),
        ("no answer in time", |exchange, _| drop(exchange.hang_up())),
        ("no answer at all", |exchange, _| exchange.reset()),
        ("412", |exchange, _| exchange.reply(&tag(Reply::new(412)).body("no"))),
        ("416", |exchange, _| {
            exchange.reply(&tag(Reply::new(416)).field("Content-Range", format!("bytes */{SENT}")));
        }),
        ("503", |exchange, _| exchange.reply(&Reply::new(503).body("down"))),
    ];
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(7, LENGTH));
    let config = Config::new(&origin).redis(&redis).without_memory();
    let config = config.upstream("first_byte_timeout = \"3s\"").upstream("between_bytes_timeout = \"3s\"");
    let proxy = config.start();
    for (what, script) in answers {
        answering(&origin, &body, "\"1\"", script);
        let (counted, broken) = (continued(&proxy), broken(&proxy));
        let answer = lose_and_get(&proxy, &redis, &body, "");
        is_right(&answer, &body, what);
        assert!(!answer.is_complete(), "{what}: {:?}", answer.end);
        assert_eq!(continued(&proxy), counted + 1.0, "{what}: asked once");
        until("the log says that it broke off", || self::broken(&proxy) > broken);
        at_rest(&proxy);
        let answer = proxy.get("/p");
        assert!(
            answer.x_cache() == "MISS" && answer.is_complete() && answer.body == body,
            "{what}: the next one"
        );
    }
}

/// A reply with the tag of what was stored.
fn tag(reply: Reply) -> Reply {
    reply.field("ETag", "\"1\"")
}

/// How many answers broke off because their content could not be read.
fn broken(proxy: &Forebay) -> usize {
    let breaks = |line: &&String| {
        value(line, "broken").as_deref() == Some("true")
            && value(line, "reason").as_deref() == Some("content-unreadable")
    };
    proxy.log().iter().filter(breaks).count()
}

#[test]
fn without_a_strong_tag_nobody_is_asked() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(8, LENGTH));
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    for lines in
        [&[("ETag", "W/\"1\"")][..], &[("ETag", "1")], &[("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")]]
    {
        let reply = lines.iter().fold(Reply::ok(&body), |reply, (name, value)| reply.field(name, value));
        origin.reply("/p", reply.cache("max-age=600"));
        let before = origin.count("/p");
        let answer = lose_and_get(&proxy, &redis, &body, "");
        is_right(&answer, &body, &format!("{lines:?}"));
        assert!(!answer.is_complete() && answer.body.len() <= SENT, "{lines:?}: {:?}", answer.end);
        assert!(questions(&origin).is_empty(), "{lines:?}");
        proxy.purge(&serde_json::json!({ "all": true, "mode": "hard" }));
        assert!(origin.count("/p") > before);
    }
    assert_eq!(continued(&proxy), 0.0);
}

#[test]
fn with_the_origin_down_the_answer_breaks_off() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(9, LENGTH));
    serve(&origin, &body, "\"1\"", &[]);
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&proxy, &body);
    lose(&redis, LOST);
    drop(origin);
    let answer = proxy.get("/p");
    is_right(&answer, &body, "down");
    assert!(!answer.is_complete() && answer.body.len() <= SENT, "{:?}", answer.end);
}

#[test]
fn the_origin_is_asked_as_the_client_asked() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(10, LENGTH));
    serve(&origin, &body, "\"1\"", &[("Vary", "X-Tenant")]);
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let tenant = "X-Tenant: a\r\n";
    eventually("the body comes from Redis", || {
        let answer = proxy.get_with("/p", tenant);
        answer.cache_status().contains("detail=redis").then_some(())
    });
    at_rest(&proxy);
    lose(&redis, LOST);
    let lines = "X-Tenant: a\r\nX-Own: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nIf-None-Match: \"0\"\r\n\
                 If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    let answer = proxy.get_with("/p", lines);
    is_whole(&answer, &body, "a variant");
    let asked = questions(&origin).pop().expect("a question");
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/p"));
    for (name, expected) in [
        ("x-tenant", Some("a")),
        ("x-own", Some("1")),
        ("x-hop", None),
        ("if-none-match", None),
        ("if-modified-since", None),
        ("host", Some("shop.example")),
        ("x-forwarded-for", Some("127.0.0.1")),
    ] {
        assert_eq!(asked.field(name), expected, "{name}");
    }
    assert!(asked.field("via").is_some_and(|via| via.contains("forebay")));
}

#[test]
fn codings_and_trailers_stay_what_they_were() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(11, LENGTH));
    let whole = body.clone();
    origin.on("/p", move |exchange| {
        if let Some((first, last)) = asked(exchange) {
            // What was coded as before need not be said again.
            return exchange.reply(&tag(part(&whole, first, last)));
        }
        exchange.send(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nETag: \"1\"\r\nContent-Encoding: x-own\r\n\
             Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        exchange.send(format!("{:x}\r\n", whole.len()));
        exchange.send(&whole);
        exchange.send("\r\n0\r\nX-Sum: 7\r\n\r\n");
    });
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    let answer = lose_and_get(&proxy, &redis, &body, "TE: trailers\r\nConnection: TE\r\n");
    is_whole(&answer, &body, "with trailers");
    assert_eq!(answer.field("content-encoding"), Some("x-own"));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(questions(&origin).len(), 1);
}

#[test]
fn what_was_on_its_way_into_memory_is_continued_for_all_and_not_put_there() {
    let (origin, redis, body) = (Origin::start(), Redis::start(), noise(12, 4 * CHUNK));
    let (gate, held, whole) = (Gate::new(), Gate::new(), body.clone());
    gate.open();
    let current = Arc::new(std::sync::Mutex::new(gate));
    let script = Arc::clone(&current);
    origin.on("/p", move |exchange| {
        let reply = match asked(exchange) {
            Some((first, last)) => {
                let gate = script.lock().unwrap().clone();
                gate.wait();
                part(&whole, first, last)
            }
            None => Reply::ok(&whole),
        };
        exchange.reply(&tag(reply).cache("max-age=600"));
    });
    let filler = Config::new(&origin).redis(&redis).without_memory().start();
    in_redis(&filler, &body);
    lose(&redis, LOST);
    let proxy = Config::new(&origin).redis(&redis).start();
    let answer = proxy.get("/p");
    is_whole(&answer, &body, "alone");
    at_rest(&proxy);
    assert_eq!(proxy.metric("forebay_cache_entries", &[("tier", "memory")]), 0.0, "it is not kept");
    assert!(!is_stored(&redis), "nor in Redis");

    // Many at once: whoever reads along, reads along to the end; who comes later has it fetched.
    in_redis(&filler, &body);
    lose(&redis, LOST);
    *current.lock().unwrap() = held.clone();
    let before = questions(&origin).len();
    let proxy = Config::new(&origin).redis(&redis).start();
    let answers = fan_out(
        &[proxy.address],
        30,
        |_| request("GET", "/p", ""),
        || {
            origin.wait("a question", |seen| {
                seen.iter().filter(|seen| seen.field("if-range").is_some()).count() > before
            });
            held.open();
        },
    );
    for answer in &answers {
        assert!(answer.is_complete() && answer.body == body, "{:?} {}", answer.end, answer.cache_status());
    }
    assert!(continued(&proxy) >= 1.0);
}

#[test]
fn a_client_that_leaves_ends_the_continuation() {
    for (what, memory, sends) in [
        ("while the origin is asked", false, false),
        ("while it answers", false, true),
        ("while the origin is asked for all", true, false),
        ("while it answers all", true, true),
    ] {
        let (origin, redis, body) = (Origin::start(), Redis::start(), noise(13, 4 * CHUNK));
        let (ended, told) = mpsc::channel();
        let whole = body.clone();
        origin.on("/p", move |exchange| {
            let Some((first, last)) = asked(exchange) else {
                return exchange.reply(&tag(Reply::ok(&whole)).cache("max-age=600"));
            };
            if sends {
                exchange.send(tag(part(&whole, first, last)).head());
                exchange.send(&whole[first..first + 1000]);
            }
            ended.send(exchange.hang_up()).expect("the test waits");
        });
        in_redis(&Config::new(&origin).redis(&redis).without_memory().start(), &body);
        lose(&redis, LOST);
        let config = Config::new(&origin).redis(&redis);
        let proxy = if memory { config.start() } else { config.without_memory().start() };
        let mut client = proxy.connect();
        client.send(request("GET", "/p", ""));
        assert_eq!(client.head().expect("a head").1, 200);
        let enough = SENT + if sends { 1000 } else { 0 };
        let mut sent = Vec::new();
        while sent.len() < enough {
            sent.extend(client.some().expect("more"));
        }
        assert!(body.starts_with(&sent), "{what}");
        origin.wait("the question", |seen| seen.iter().any(|seen| seen.field("if-range").is_some()));
        drop(client);
        let end = told.recv_timeout(PATIENCE).expect("the origin is hung up on");
        assert!(matches!(end, End::Closed | End::Reset | End::Short), "{what}: {end:?}");
        at_rest(&proxy);
    }
}

#[test]
fn slow_readers_of_what_the_origin_sends_hold_a_window_each() {
    const READERS: usize = 20;
    let (origin, mut redis, body) = (Origin::start(), Redis::start(), Arc::new(noise(14, HUGE)));
    let (whole, poured) = (Arc::clone(&body), Arc::new(AtomicUsize::new(0)));
    let counting = Arc::clone(&poured);
    origin.on("/p", move |exchange| {
        let Some((first, _)) = asked(exchange) else {
            return exchange.reply(&tag(Reply::ok(whole.as_slice())).cache("max-age=600"));
        };
        let told = format!("bytes {first}-{}/{HUGE}", HUGE - 1);
        exchange.send(format!(
            "HTTP/1.1 206 OK\r\nETag: \"1\"\r\nContent-Range: {told}\r\nContent-Length: {}\r\n\r\n",
            HUGE - first
        ));
        for piece in whole[first..].chunks(64 << 10) {
            if !exchange.send(piece) {
                return exchange.close();
            }
            counting.fetch_add(piece.len(), Ordering::AcqRel);
        }
    });
    let proxy = huge(&origin, &redis).start();
    in_redis(&proxy, &body);
    let mut clients: Vec<_> = (0..READERS).map(|_| (proxy.connect(), 0_usize)).collect();
    for (client, _) in &mut clients {
        client.send(request("GET", "/p", ""));
    }
    for (client, _) in &mut clients {
        assert_eq!(client.head().expect("a head").1, 200);
    }
    let before = proxy.resident();
    redis.kill();
    let mut right = true;
    let mut take = |(client, sent): &mut (Client, usize), more: usize| {
        let end = (*sent + more).min(HUGE);
        while *sent < end {
            let piece = client.some().expect("more");
            right &= body[*sent..*sent + piece.len()] == piece;
            *sent += piece.len();
        }
    };
    // Each reads on until the loss is seen, and then stands still.
    until("everybody is continued", || {
        clients.iter_mut().for_each(|client| take(client, MEBIBYTE));
        questions(&origin).len() == READERS
    });
    let mut last = poured.load(Ordering::Acquire);
    eventually("the origin has to wait", || {
        pass(std::time::Duration::from_millis(300));
        let now = poured.load(Ordering::Acquire);
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    let growth = proxy.resident().saturating_sub(before);
    assert!(growth < (READERS * 3 * MEBIBYTE) as u64, "{growth} bytes more for {READERS} readers");
    let all: usize = READERS * HUGE - clients.iter().map(|(_, sent)| sent).sum::<usize>();
    assert!(last < all, "{last} of {all} bytes were sent to nobody");
    // All but one leave; who stays gets everything.
    let mut stays = clients.pop().expect("a client");
    drop(clients);
    take(&mut stays, HUGE);
    assert!(right, "every byte is right");
    assert_eq!(continued(&proxy), READERS as f64);
}
