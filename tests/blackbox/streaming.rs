//! Bodies of any size, both ways, in bounded memory (wire rule 21).

use std::time::Duration;

use crate::support::*;

const MEBIBYTE: usize = 1 << 20;

#[test]
fn a_hundred_mebibytes_pass_a_slow_reader_in_bounded_memory() {
    let origin = Origin::start();
    origin.on("/big", |exchange| {
        let piece = vec![b'x'; MEBIBYTE];
        let length = 100 * MEBIBYTE;
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\n"
        ));
        for _ in 0..100 {
            exchange.send(&piece);
        }
    });
    let proxy = Config::new(&origin).start();
    proxy.get("/warm");
    let before = proxy.resident();
    let mut client = proxy.connect();
    client.send(request("GET", "/big", ""));
    assert_eq!(client.head().unwrap().1, 200);
    let (mut length, mut most) = (0, 0);
    while length < 100 * MEBIBYTE {
        let piece = client.some().unwrap();
        assert!(piece.iter().all(|&byte| byte == b'x'));
        length += piece.len();
        // Slow while the origin is far ahead, so that it is the proxy's memory that could grow.
        if length < 2 * MEBIBYTE {
            pass(Duration::from_millis(5));
        }
        if length % (4 * MEBIBYTE) < piece.len() {
            most = most.max(proxy.resident());
        }
    }
    assert_eq!(length, 100 * MEBIBYTE);
    let growth = most.saturating_sub(before);
    assert!(growth < 8 << 20, "{growth} bytes more for one stream that is larger than any tier holds");
}

#[test]
fn what_comes_whole_is_framed_by_its_length() {
    let origin = Origin::start();
    let answer = |content: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{content}0\r\n\r\n"
        )
    };
    origin.bytes("/whole", answer("3\r\nabc\r\n"));
    origin.bytes("/empty", answer(""));
    origin.bytes("/head", "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    origin.bytes("/none", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    let proxy = Config::new(&origin).defaults("cache = false").start();
    for (target, content, length) in [("/whole", "abc", "3"), ("/empty", "", "0")] {
        for version in ["1.1", "1.0"] {
            let mut client = proxy.connect();
            client.send(format!(
                "GET {target} HTTP/{version}\r\nHost: shop.example\r\nConnection: keep-alive\r\nTE: trailers\r\n\r\n"
            ));
            let answer = client.answer();
            assert_eq!((answer.status, answer.text().as_str()), (200, content), "{target} {version}");
            assert_eq!(answer.head.all("content-length"), [length], "{target} {version}");
            for name in ["transfer-encoding", "trailer"] {
                assert_eq!(answer.field(name), None, "{target} {version}");
            }
            // An end that is known ends no connection.
            client.send(request("GET", target, ""));
            assert_eq!(client.answer().text(), content, "{target} {version}");
        }
    }
    let head = proxy.request("HEAD", "/head", "");
    assert_eq!((head.status, head.field("content-length")), (200, None), "no length is made up");
    let none = proxy.get("/none");
    assert_eq!((none.status, none.field("content-length")), (204, None));
}

#[test]
fn a_reader_that_stops_stops_the_origin() {
    let origin = Origin::start();
    let stalled = Gate::new();
    let told = stalled.clone();
    origin.on("/endless", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 1000000000000\r\n\r\n");
        let piece = vec![b'x'; 64 << 10];
        let sent = (0..100_000).take_while(|_| exchange.send(&piece)).count();
        assert!(sent < 5000, "{sent} pieces of 64 KiB went to a reader that reads nothing");
        told.open();
    });
    let proxy = Config::new(&origin).start();
    let before = proxy.resident();
    let mut client = proxy.connect();
    client.send(request("GET", "/endless", ""));
    assert_eq!(client.head().unwrap().1, 200);
    pass(Duration::from_millis(500));
    assert!(proxy.resident() < before + (24 << 20), "{} bytes more", proxy.resident() - before);
    drop(client);
    // The client went away, so the origin is told to stop, and its script ends.
    stalled.wait();
}

#[test]
fn an_upload_reaches_the_origin_while_it_is_being_sent() {
    let origin = Origin::start();
    origin.on("/up", |exchange| {
        let length = exchange.body().len();
        exchange.reply(&Reply::ok(length.to_string()));
    });
    let proxy = Config::new(&origin).start();
    for (lines, pieces) in [
        ("Content-Length: 10", ["first", "other", ""]),
        ("Transfer-Encoding: chunked", ["5\r\nfirst\r\n", "5\r\nother\r\n", "0\r\n\r\n"]),
    ] {
        let before = origin.count("/up");
        let mut client = proxy.connect();
        client.send(format!("PUT /up HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n\r\n{}", pieces[0]));
        origin.wait("the first half", |seen| seen.len() > before && seen[before].body == b"first");
        client.send(pieces[1]);
        origin.wait("the second half", |seen| seen[before].body == b"firstother");
        client.send(pieces[2]);
        assert_eq!(client.answer_to("PUT").text(), "10");
        assert_eq!(origin.seen()[before].end, Some(End::Complete));
    }
}

#[test]
fn an_upload_waits_for_a_slow_origin_in_bounded_memory() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/up", move |exchange| {
        held.wait();
        let length = exchange.body().len();
        exchange.reply(&Reply::ok(length.to_string()));
    });
    let proxy = Config::new(&origin).upstream("first_byte_timeout = \"60s\"").start();
    proxy.get("/warm");
    let before = proxy.resident();
    let mut client = proxy.connect();
    let length = 40 * MEBIBYTE;
    client.send(format!("PUT /up HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\n"));
    let mut stream = client.stream().try_clone().unwrap();
    let body = noise(7, length);
    let expected = body.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &body));
    origin.wait_count("/up", 1);
    pass(Duration::from_millis(500));
    let growth = proxy.resident().saturating_sub(before);
    assert!(growth < 16 << 20, "{growth} bytes more while the origin reads nothing");
    assert!(!writer.is_finished(), "the client is held back too");
    gate.open();
    writer.join().unwrap().unwrap();
    assert_eq!(client.answer_to("PUT").text(), length.to_string());
    assert!(origin.last("/up").body == expected, "and not a byte is lost or changed");
}

#[test]
fn the_first_byte_comes_before_the_last() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst");
        held.wait();
        exchange.send("other");
    });
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    assert_eq!(client.head().unwrap().1, 200);
    assert_eq!(client.read_until(|text| text.len() >= 5), "first");
    gate.open();
    assert_eq!(client.read_until(|text| text.len() >= 5), "other");
    proxy.get("/p").expect(200, "HIT", "firstother");
}

#[test]
fn every_size_and_framing_comes_back_byte_for_byte() {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let words: Vec<&str> = exchange.target()[1..].split('/').collect();
        let length: usize = words[1].parse().unwrap();
        let reply = Reply::ok(noise(length as u64, length)).cache("max-age=60");
        let reply = match words[0] {
            "chunked" if length < 100_000 => reply.chunked(),
            "close" => reply.close_delimited(),
            _ => reply,
        };
        exchange.reply(&reply);
    });
    let proxy = Config::new(&origin).start();
    for framing in ["length", "chunked", "close"] {
        for length in [0, 1, 255, 4095, 4096, 16_384, 65_535, 65_536, 65_537, 300_000, 1_048_576, 3_000_000] {
            let target = format!("/{framing}/{length}");
            for round in 0..3 {
                let answer = proxy.get(&target);
                assert!(answer.is_complete(), "{target}: {:?}", answer.end);
                assert!(answer.body == noise(length as u64, length), "{target} differs in round {round}");
            }
        }
    }
}

#[test]
fn a_body_larger_than_a_tier_passes_and_is_not_held() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        exchange.reply(
            &Reply::ok(vec![b'x'; 200_000]).field("X-Nth", exchange.nth().to_string()).cache("max-age=60"),
        );
    });
    let proxy = Config::new(&origin).memory("max_object_size = \"64KiB\"").start();
    for nth in 1..=3 {
        let answer = proxy.get("/p");
        assert_eq!((answer.body.len(), answer.field("x-nth")), (200_000, Some(nth.to_string().as_str())));
    }
}

/// Chunked, and larger than any tier and any socket's buffer holds: which is known only when it comes.
const OUTGROWN: usize = 64 * MEBIBYTE;

/// A proxy with two clients on one fetch of `/p`, of [`OUTGROWN`] bytes once the gate is open. Only what
/// is tested here can end either: every other limit is an hour.
fn shared_fetch(origin: &Origin, gate: &Gate) -> (Forebay, Client, Client) {
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n");
        held.wait();
        let piece = [b"10000\r\n".as_slice(), &[b'x'; 64 << 10], b"\r\n"].concat();
        for _ in 0..OUTGROWN / (64 << 10) {
            if !exchange.send(&piece) {
                return exchange.close();
            }
        }
        exchange.send("0\r\n\r\n");
    });
    let proxy = Config::new(origin)
        .server("idle_timeout = \"1h\"")
        .upstream("between_bytes_timeout = \"1h\"")
        .start();
    let [first, second] = [(), ()].map(|()| {
        let mut client = proxy.connect();
        client.send(request("GET", "/p", ""));
        assert_eq!(client.head().unwrap().1, 200);
        client
    });
    assert_eq!(proxy.metric("forebay_collapsed_total", &[]), 1.0);
    (proxy, first, second)
}

/// Reads a body of [`OUTGROWN`] bytes to its end, against all that a slower client does.
fn reads_all(mut client: Client) {
    let begun = ::forebay::clock::monotonic();
    let mut tail = String::new();
    let mut length = 0;
    while !tail.ends_with("\r\n0\r\n\r\n") {
        let piece = client.some().unwrap_or_else(|end| panic!("{end:?} after {length} bytes"));
        length += piece.len();
        tail += &String::from_utf8_lossy(&piece[piece.len().saturating_sub(16)..]);
        tail = tail.split_off(tail.len().saturating_sub(16));
        assert!(begun.elapsed() < 2 * PATIENCE, "{length} bytes so far: held up by another client");
    }
    assert!(length >= OUTGROWN);
}

/// Reads what there is of a body that was cut off.
fn is_cut_off(mut client: Client) {
    let (rest, end) = client.rest();
    assert!(rest.len() < OUTGROWN && !rest.ends_with(b"\r\n0\r\n\r\n"), "{} bytes, {end:?}", rest.len());
}

#[test]
fn a_client_that_stops_reading_holds_nobody_up_for_long() {
    for leads in [true, false] {
        let (origin, gate) = (Origin::start(), Gate::new());
        let (proxy, first, second) = shared_fetch(&origin, &gate);
        let (stopped, reading) = if leads { (first, second) } else { (second, first) };
        gate.open();
        reads_all(reading);
        is_cut_off(stopped);
        assert_eq!(origin.count("/p"), 1);
        drop(proxy);
    }
}

#[test]
fn a_client_that_trickles_holds_nobody_up_for_long() {
    let (origin, gate) = (Origin::start(), Gate::new());
    let (_proxy, slow, reading) = shared_fetch(&origin, &gate);
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let trickling = std::thread::spawn(move || {
        // 100 KB/s, until the other is done.
        while is_done.recv_timeout(Duration::from_millis(10))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let mut piece = [0; 1000];
            if std::io::Read::read(&mut slow.stream(), &mut piece).unwrap_or(0) == 0 {
                break;
            }
        }
        slow
    });
    gate.open();
    reads_all(reading);
    drop(done);
    is_cut_off(trickling.join().unwrap());
}

#[test]
fn one_client_that_is_slow_gets_what_outgrew_every_tier() {
    let (origin, gate) = (Origin::start(), Gate::new());
    let (_proxy, leaves, reading) = shared_fetch(&origin, &gate);
    drop(leaves);
    gate.open();
    // Longer than anybody would be waited for.
    pass(Duration::from_secs(5));
    reads_all(reading);
}

#[test]
fn the_memory_tier_is_bounded_in_bytes_really_held() {
    let origin = Origin::start();
    origin.on("/*", |exchange| exchange.reply(&Reply::ok(noise(1, 100_000)).cache("max-age=600")));
    let proxy = Config::new(&origin).memory("max_size = \"8MiB\"").start();
    proxy.get("/warm");
    let before = proxy.resident();
    for n in 0..600 {
        assert_eq!(proxy.get(&format!("/{n}")).body.len(), 100_000);
    }
    let held = proxy.metric("forebay_cache_bytes", &[("tier", "memory")]);
    assert!(held <= f64::from(8 << 20), "{held} bytes held");
    assert!(proxy.metric("forebay_evictions_total", &[]) > 0.0);
    let growth = proxy.resident().saturating_sub(before);
    assert!(growth < 32 << 20, "{growth} bytes more for a tier of 8 MiB");
}
