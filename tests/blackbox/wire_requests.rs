//! Wire rules 1 to 9 and 16: what a client may say, and what of it reaches the origin.

use crate::support::*;

/// A proxy before an origin that would answer anything.
fn open_proxy() -> (Origin, Forebay) {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("reached").cache("no-store"));
    let proxy = Config::new(&origin).start();
    (origin, proxy)
}

/// Sends hostile bytes, and an innocent request behind them on the same connection. The proxy must
/// answer once with one of these statuses, close, and tell the origin nothing at all.
#[track_caller]
fn refused(proxy: &Forebay, origin: &Origin, name: &str, bytes: &str, statuses: &[u16]) {
    let before = origin.seen().len();
    let mut client = proxy.connect();
    let bytes: Vec<u8> = bytes.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect();
    client.send(&bytes);
    client.send("GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    client.finish();
    let answer = match client.try_answer() {
        Ok(answer) => answer,
        // A message that is not HTTP at all may be worth no answer.
        Err(End::Closed | End::Reset) if statuses.contains(&0) => {
            return assert_eq!(origin.seen().len(), before);
        }
        Err(end) => panic!("{name}: no answer: {end:?}"),
    };
    assert!(statuses.contains(&answer.status), "{name}: {} {:?}", answer.status, answer.text());
    let (rest, end) = client.rest();
    assert!(rest.is_empty(), "{name}: more than one answer: {}", String::from_utf8_lossy(&rest));
    assert!(matches!(end, End::Closed | End::Reset), "{name}: {end:?}");
    let seen: Vec<_> = origin.seen().split_off(before);
    assert!(seen.is_empty(), "{name}: the origin saw {seen:#?}");
}

fn post(lines: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n{body}")
}

#[test]
fn rule_1_content_length_with_transfer_encoding_is_refused() {
    let (origin, proxy) = open_proxy();
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
    ] {
        refused(&proxy, &origin, lines, &post(lines, "0\r\n\r\n"), &[400]);
    }
}

#[test]
fn rule_2_transfer_encoding_is_a_lone_final_chunked_or_refused() {
    let (origin, proxy) = open_proxy();
    for value in [
        "gzip, chunked",
        "chunked, chunked",
        "chunked, gzip",
        "identity",
        "gzip",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "",
        ",chunked",
        "chunked,",
        "chunked identity",
        "chun ked",
    ] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        refused(&proxy, &origin, &lines, &post(&lines, "0\r\n\r\n"), &[400, 501]);
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "Transfer-Encoding: chunked\u{a0}\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
    ] {
        refused(&proxy, &origin, lines, &post(lines, "0\r\n\r\n"), &[400, 501]);
    }
    let old = "POST /p HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(&proxy, &origin, "HTTP/1.0 with chunked", old, &[400, 501]);
}

#[test]
fn rule_2_what_is_forwarded_is_framed_anew() {
    let (origin, proxy) = open_proxy();
    let body = "3;ext=\"a;b\"\r\nabc\r\n0000004\r\ndefg\r\n0\r\n\r\n";
    for value in ["chunked", "Chunked", "CHUNKED"] {
        let answer = proxy.send(post(&format!("Transfer-Encoding: {value}\r\n"), body));
        assert_eq!(answer.status, 200, "{value}");
        let seen = origin.last("/p");
        assert_eq!(seen.body, b"abcdefg");
        assert!(
            !String::from_utf8_lossy(&seen.raw_body).contains("ext"),
            "extensions are the client's hop's"
        );
        assert_eq!(seen.end, Some(End::Complete));
    }
}

#[test]
fn rule_3_content_length_is_digits_and_one_number() {
    let (origin, proxy) = open_proxy();
    for value in [
        "+3",
        "-1",
        "3a",
        "0x3",
        " 3 3",
        "3, 4",
        "",
        "3;",
        "1e1",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "\u{b2}",
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        refused(&proxy, &origin, &lines, &post(&lines, "abc"), &[400, 413]);
    }
    for lines in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: x\r\n",
        "Content-Length : 3\r\n",
    ] {
        refused(&proxy, &origin, lines, &post(lines, "abc"), &[400]);
    }
}

#[test]
fn rule_4_chunks_are_strict() {
    let (_origin, proxy) = open_proxy();
    let origin = Origin::start();
    origin.reply("*", Reply::ok("reached"));
    drop(proxy);
    let proxy = Config::new(&origin).start();
    for body in [
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        ";x\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "00000000000000000000000000000003\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;\0\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nBad Trailer: x\r\n\r\n",
        "3\r\nabc\r\n0\r\n folded\r\n\r\n",
        "3\r\nabc\r\n0\r\nno colon\r\n\r\n",
        "3\r\nabc\r\n0\r\nA: b\n\r\n",
    ] {
        let before = origin.seen().len();
        let mut client = proxy.connect();
        client.send(post("Transfer-Encoding: chunked\r\n", body));
        client.send("GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        client.finish();
        // The head was good, so the origin may have seen a beginning; never an end, nor what follows.
        match client.try_answer() {
            Ok(answer) => assert!(matches!(answer.status, 400 | 502), "{body:?}: {}", answer.status),
            Err(end) => assert!(matches!(end, End::Closed | End::Reset), "{body:?}: {end:?}"),
        }
        assert!(client.rest().0.is_empty(), "{body:?}: more than one answer");
        let seen = origin.wait("every upload's end", |seen| seen.iter().all(|seen| seen.end.is_some()));
        for seen in &seen[before..] {
            assert_ne!(seen.end, Some(End::Complete), "{body:?} was ended properly: {seen:?}");
            assert_eq!(seen.target, "/p", "{body:?}");
        }
    }
}

#[test]
fn rule_4_extensions_and_trailers_have_caps() {
    let (origin, proxy) = open_proxy();
    let long = "x".repeat(64 << 10);
    let many = "A: b\r\n".repeat(2000);
    let chunk = format!("1;e={}\r\nz\r\n", "y".repeat(4000)).repeat(200);
    for (name, body) in [
        ("an endless extension", format!("3;{long}\r\nabc\r\n0\r\n\r\n")),
        ("an endless trailer", format!("3\r\nabc\r\n0\r\nA: {long}\r\n\r\n")),
        ("endless trailers", format!("3\r\nabc\r\n0\r\n{many}\r\n")),
        ("extensions without end", format!("{chunk}0\r\n\r\n")),
    ] {
        let mut client = proxy.connect();
        client.send(post("Transfer-Encoding: chunked\r\n", &body));
        client.finish();
        if let Ok(answer) = client.try_answer() {
            assert!(matches!(answer.status, 400 | 413 | 431 | 502), "{name}: {}", answer.status);
        }
        let seen = origin.wait(name, |seen| seen.iter().all(|seen| seen.end.is_some()));
        assert!(seen.iter().all(|seen| seen.end != Some(End::Complete)), "{name}");
    }
}

#[test]
fn rule_5_an_upload_broken_off_is_broken_off_upstream() {
    let (origin, proxy) = open_proxy();
    for (path, lines, body) in [
        ("/length", "Content-Length: 100\r\n", "half"),
        ("/chunked", "Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n"),
        ("/in-chunk", "Transfer-Encoding: chunked\r\n", "9\r\nhalf"),
        ("/last-chunk", "Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n0\r\n"),
    ] {
        for reset in [false, true] {
            let before = origin.count(path);
            let mut client = proxy.connect();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n{body}"));
            origin.wait("the beginning of an upload", |seen| {
                let mut mine = seen.iter().filter(|seen| seen.target == path).skip(before);
                mine.next().is_some_and(|seen| seen.body == b"half")
            });
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            let seen = origin.wait("its end", |seen| seen.iter().all(|seen| seen.end.is_some()));
            let last = seen.last().unwrap();
            assert!(matches!(last.end, Some(End::Short | End::Reset)), "{path}: {last:?}");
        }
    }
}

#[test]
fn rule_6_nothing_is_read_after_a_framing_error() {
    let (origin, proxy) = open_proxy();
    let mut client = proxy.connect();
    client.send(request("GET", "/good", ""));
    client.send("GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    client.send(request("GET", "/after", ""));
    assert_eq!((client.answer().status, client.answer().status), (200, 400));
    assert!(client.rest().0.is_empty());
    assert_eq!((origin.count("/good"), origin.seen().len()), (1, 1));
}

#[test]
fn rule_7_exactly_one_valid_host() {
    let (origin, proxy) = open_proxy();
    for lines in [
        "",
        "Host: a.example\r\nHost: b.example\r\n",
        "Host: a.example\r\nHost: a.example\r\n",
        "Host: a.example, b.example\r\n",
        "Host: a b\r\n",
        "Host: a.example/path\r\n",
        "Host: user@a.example\r\n",
        "Host: a.example:99999\r\n",
        "Host: a.example:x\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: [::1\r\n",
        "Host: a\u{e9}.example\r\n",
        "Host : a.example\r\n",
        "Host: a.example\r\n b.example\r\n",
    ] {
        refused(&proxy, &origin, lines, &format!("GET /p HTTP/1.1\r\n{lines}\r\n"), &[400]);
    }
}

#[test]
fn rule_7_an_absolute_form_names_the_host() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let host = exchange.head().field("host").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(host).cache("max-age=60"));
    });
    let proxy = Config::new(&origin).start();
    let absolute = "GET http://shop.example/p?q HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    proxy.send(absolute).expect(200, "MISS", "shop.example");
    assert_eq!(origin.last("/p").target, "/p?q", "the origin gets origin-form");
    proxy.get("/p?q").expect(200, "HIT", "shop.example");
    let contradiction = "GET http://shop.example/p?q HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    refused(&proxy, &origin, "contradiction", contradiction, &[400]);
    for absolute in [
        "GET ftp://shop.example/p HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        "GET http://user@shop.example/p HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        "GET http:///p HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        "GET http:/p HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    ] {
        refused(&proxy, &origin, absolute, absolute, &[400, 421]);
    }
}

#[test]
fn rule_8_bytes_that_are_never_forwarded() {
    let (origin, proxy) = open_proxy();
    for (name, bytes) in [
        ("NUL in a value", "GET /p HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
        ("CR in a value", "GET /p HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
        ("LF for CRLF", "GET /p HTTP/1.1\nHost: a\n\n"),
        ("LF in the head", "GET /p HTTP/1.1\r\nHost: a\r\nX: y\nZ: w\r\n\r\n"),
        ("LF after the request line", "GET /p HTTP/1.1\nHost: a\r\n\r\n"),
        ("LF as the empty line", "GET /p HTTP/1.1\r\nHost: a\r\n\n"),
        ("obs-fold", "GET /p HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        ("fold in the first line", "GET /p HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n"),
        ("a blank before the colon", "GET /p HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
        ("a field name with a blank", "GET /p HTTP/1.1\r\nHost: a\r\nX Y: y\r\n\r\n"),
        ("an empty field name", "GET /p HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n"),
        ("a line without colon", "GET /p HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n"),
        ("NUL in a name", "GET /p HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n"),
        ("a blank in the target", "GET /p q HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a tab in the target", "GET /p\tq HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("raw UTF-8 in the target", "GET /p\u{c3}\u{a9} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("DEL in the target", "GET /p\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("NUL in the target", "GET /p\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a fragment", "GET /p#f HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two blanks", "GET  /p HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a tab for a blank", "GET\t/p\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no leading slash", "GET p HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a bad method", "G@T /p HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        refused(&proxy, &origin, name, bytes, &[400]);
    }
    for (name, bytes) in [
        ("HTTP/0.9", "GET /p\r\n\r\n"),
        ("HTTP/1.2", "GET /p HTTP/1.2\r\nHost: a\r\n\r\n"),
        ("HTTP/2 prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("lower case", "GET /p http/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP/01.1", "GET /p HTTP/01.1\r\nHost: a\r\n\r\n"),
        ("TLS", "\u{16}\u{3}\u{1}\0\u{a5}\u{1}\0\0\u{a1}\u{3}\u{3}\r\n\r\n"),
        ("nothing but NUL", "\0\0\0\0\r\n\r\n"),
    ] {
        refused(&proxy, &origin, name, bytes, &[0, 400, 505]);
    }
}

#[test]
fn rule_9_connect_trace_and_h2c_are_refused() {
    let (origin, proxy) = open_proxy();
    for bytes in [
        "CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n",
        "CONNECT /p HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        "TRACE /p HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    ] {
        let mut client = proxy.connect();
        client.send(bytes);
        let answer = client.answer();
        assert!(matches!(answer.status, 400 | 405 | 501), "{bytes}: {}", answer.status);
    }
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let answer = proxy.get_with("/p", h2c);
    assert!(matches!(answer.status, 400 | 405 | 501), "{}", answer.status);
    assert!(origin.seen().is_empty());
}

#[test]
fn rule_16_keys_near_the_limit_are_not_cut() {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let target = exchange.target();
        let end = target[target.len() - 1..].to_owned();
        exchange.reply(&Reply::ok(end).cache("max-age=60"));
    });
    let proxy = Config::new(&origin).start();
    for length in [100, 1000, 4000, 8000, 16_000, 30_000] {
        let stem = format!("/{}", "k".repeat(length));
        for end in ["a", "b", "a", "b"] {
            let answer = proxy.get(&format!("{stem}{end}"));
            assert!(matches!(answer.status, 200 | 414 | 431), "{length}: {}", answer.status);
            if answer.status == 200 {
                assert_eq!(answer.text(), end, "{length}");
            }
        }
    }
}

#[test]
fn ordinary_oddities_pass() {
    let (origin, proxy) = open_proxy();
    for bytes in [
        "GET /p HTTP/1.0\r\nHost: shop.example\r\n\r\n",
        "GET /p HTTP/1.1\r\nhOsT: shop.example\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost:shop.example\r\nX-Empty:\r\nX-Latin: \u{e9}\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET /p?a=%00&b=;:@!$'()*+,|{} HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 000\r\n\r\n",
    ] {
        let bytes: Vec<u8> = bytes.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect();
        let answer = proxy.send(&bytes);
        assert!(
            answer.status == 200 || bytes.starts_with(b"GET /p?") && answer.status == 400,
            "{}: {}",
            String::from_utf8_lossy(&bytes),
            answer.status
        );
    }
    assert!(origin.seen().len() >= 6);
}
