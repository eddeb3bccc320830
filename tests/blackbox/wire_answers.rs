//! Wire rules 12 to 14: what an origin may answer, and what happens when it does not.

use std::net::TcpListener;

use crate::support::*;

#[test]
fn rule_13_contradictory_answers_are_a_bad_gateway() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
    let ok = "HTTP/1.1 200 OK\r\n";
    let cases = [
        ("differing lengths", format!("{ok}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        ("a list of lengths", format!("{ok}Content-Length: 3, 4\r\n\r\nabcd")),
        ("a signed length", format!("{ok}Content-Length: +3\r\n\r\nabc")),
        ("a negative length", format!("{ok}Content-Length: -3\r\n\r\nabc")),
        ("a length that overflows", format!("{ok}Content-Length: 18446744073709551616\r\n\r\nabc")),
        ("an empty length", format!("{ok}Content-Length:\r\n\r\nabc")),
        ("both framings", format!("{ok}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        (
            "both framings, turned",
            format!("{ok}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
        ),
        ("chunked twice", format!("{ok}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")),
        ("gzip before chunked", format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("an unknown coding", format!("{ok}Transfer-Encoding: magic\r\n\r\nabc")),
        (
            "HTTP/1.0 with chunked",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        ("no status", "HTTP/1.1\r\n\r\n".to_owned()),
        ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("status 000", "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a status that is no number", "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("another protocol", "ICY 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("nonsense", "SSH-2.0-OpenSSH_9.2p1\r\n\r\n".to_owned()),
        ("a blank in a name", format!("{ok}Content-Length : 3\r\n\r\nabc")),
        ("a line without colon", format!("{ok}nothing\r\nContent-Length: 0\r\n\r\n")),
        ("NUL in a value", format!("{ok}X: a\0b\r\nContent-Length: 0\r\n\r\n")),
        ("CR in a value", format!("{ok}X: a\rb\r\nContent-Length: 0\r\n\r\n")),
        ("a tab before the colon", format!("{ok}Content-Length\t: 3\r\n\r\nabc")),
        ("a folded line", format!("{ok}X: a\r\n b\r\nContent-Length: 0\r\n\r\n")),
        ("a folded length", format!("{ok}Content-Length:\r\n 3\r\n\r\nabc")),
        ("a name of nothing", format!("{ok}: b\r\nContent-Length: 0\r\n\r\n")),
        ("NUL in a name", format!("{ok}X\0: b\r\nContent-Length: 0\r\n\r\n")),
        ("DEL in a value", format!("{ok}X: a\u{7f}b\r\nContent-Length: 0\r\n\r\n")),
        ("NUL in the reason", "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("an empty line before", format!("\r\n{ok}Content-Length: 0\r\n\r\n")),
        ("LF after the status line", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n".to_owned()),
        ("LF after a field", format!("{ok}X: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n")),
        ("LF at the end of the head", format!("{ok}Content-Length: 0\r\n\n")),
        ("LF alone", "HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_owned()),
        ("LF in an interim answer", format!("HTTP/1.1 103 Early Hints\n\n{ok}Content-Length: 0\r\n\r\n")),
        ("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a version in small letters", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("two blanks before the status", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a tab before the reason", "HTTP/1.1 200\tOK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a list of lengths that ends early", format!("{ok}Content-Length: 3,\r\n\r\nabc")),
        ("a length of two words", format!("{ok}Content-Length: 3 4\r\n\r\nabc")),
        ("chunked on two lines", {
            format!("{ok}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        }),
        ("no coding", format!("{ok}Transfer-Encoding:\r\n\r\nabc")),
        ("a coding that looks like chunked", format!("{ok}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("identity", format!("{ok}Transfer-Encoding: identity\r\n\r\nabc")),
        (
            "both framings in a 204",
            "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        ),
        (
            "an unasked 101",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
        ),
        ("an endless head", format!("{ok}X: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(4 << 20))),
        ("endless fields", format!("{ok}{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(100_000))),
        ("nothing at all", String::new()),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-".to_owned()),
    ];
    for (n, (name, bytes)) in cases.iter().enumerate() {
        let target = format!("/case/{n}");
        origin.bytes(&target, bytes);
        for _ in 0..2 {
            let answer = proxy.get(&target);
            assert_eq!((answer.status, answer.is_complete()), (502, true), "{name}: {answer:?}");
        }
        assert!(origin.count(&target) >= 2, "{name} was stored");
    }
}

#[test]
fn rule_13_the_log_says_which_rule_an_answer_broke() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).start();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (target, bytes, rule) in [
        ("/version", "HTTP/1.2 200 OK\r\n\r\n".to_owned(), "the status line cannot be read"),
        ("/lf", "HTTP/1.1 200 OK\r\nX: a\n\r\n".to_owned(), "a field line is malformed"),
        (
            "/length",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc".to_owned(),
            "Content-Length is invalid",
        ),
        ("/both", chunked.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n"), "both Content-Length"),
        ("/chunks", format!("{chunked}4 \r\ngood\r\n0\r\n\r\n"), "the chunked content is malformed"),
    ] {
        let said = |words: &str| proxy.log().iter().filter(|line| line.contains(words)).count();
        origin.bytes(target, &bytes);
        let answer = proxy.get(target);
        assert_eq!((answer.status, answer.text().contains("origin-protocol")), (502, true), "{answer:?}");
        until(rule, || said(rule) == 1);
        // In pieces it is the same fault, but for what had gone on before it came.
        let before = said("is not valid HTTP/1");
        let slow = format!("{target}/slow");
        origin.on(&slow, move |exchange| {
            for byte in bytes.bytes() {
                exchange.send([byte]);
                std::thread::yield_now();
            }
            exchange.close();
        });
        let mut client = proxy.connect();
        client.send(request("GET", &slow, ""));
        if let Ok(answer) = client.try_answer() {
            assert!(answer.status == 502 || !answer.is_complete(), "{answer:?}");
        }
        until("a fault that is the origin's", || said("is not valid HTTP/1") > before);
    }
}

#[test]
fn the_same_length_several_times_is_that_length() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).start();
    for (target, lines) in
        [("/lines", "Content-Length: 3\r\nContent-Length: 3"), ("/list", "Content-Length: 3, 3")]
    {
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n{lines}\r\n\r\n");
        origin.on(target, move |exchange| {
            let content = if exchange.method() == "HEAD" { "" } else { "abc" };
            exchange.send(format!("{head}{content}"));
        });
        for method in ["GET", "HEAD"] {
            let answer = proxy.request(method, target, "");
            assert_eq!((answer.status, answer.head.all("content-length")), (200, vec!["3"]), "{method}");
        }
    }
}

#[test]
fn rule_13_interim_answers_never_replace_the_final_one() {
    let origin = Origin::start();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nfinal";
    origin.bytes("/few", format!("{hints}HTTP/1.1 102 Processing\r\n\r\n{hints}{last}"));
    origin.bytes("/flood", hints.repeat(100_000) + last);
    origin.bytes("/only", hints);
    let proxy = Config::new(&origin).start();
    proxy.get("/few").expect(200, "MISS", "final");
    let hit = proxy.get("/few");
    hit.expect(200, "HIT", "final");
    assert_eq!((hit.interim.as_slice(), hit.field("link")), ([].as_slice(), None), "1xx are never stored");
    for target in ["/flood", "/only"] {
        let answer = proxy.get(target);
        assert_eq!(answer.status, 502, "{target}");
    }
}

#[test]
fn rule_12_bytes_beyond_an_answer_reach_nobody() {
    let origin = Origin::start();
    let evil = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil";
    for (path, first) in [
        ("/length", "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 4\r\n\r\ngood"),
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n",
        ),
        ("/none", "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n"),
    ] {
        origin.on(path, move |exchange| {
            exchange.body();
            exchange.send(format!("{first}{evil}"));
        });
    }
    origin.reply("/next", Reply::ok("honest").cache("no-store"));
    let proxy = Config::new(&origin).start();
    for path in ["/length", "/chunked", "/none"] {
        for _ in 0..10 {
            assert_ne!(proxy.get(path).text(), "evil", "{path}");
            assert_eq!(proxy.get("/next").text(), "honest", "after {path}");
        }
    }
}

#[test]
fn rule_12_what_comes_unasked_on_an_idle_connection_reaches_nobody() {
    let origin = Origin::start();
    let (late, closed) = (Gate::new(), Gate::new());
    let (held, told) = (late.clone(), closed.clone());
    origin.on("/first", move |exchange| {
        exchange.reply(&Reply::ok("first").cache("no-store"));
        held.wait();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        exchange.hang_up();
        told.open();
    });
    origin.reply("/next", Reply::ok("honest").cache("no-store"));
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    client.send(request("GET", "/first", ""));
    assert_eq!(client.answer().text(), "first");
    late.open();
    closed.wait();
    for _ in 0..5 {
        client.send(request("GET", "/next", ""));
        assert_eq!(client.answer().text(), "honest");
    }
}

#[test]
fn rule_12_an_answer_to_head_or_304_with_content_poisons_nobody() {
    let origin = Origin::start();
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    origin.on("/head", move |exchange| {
        exchange.body();
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()));
    });
    origin.reply("/next", Reply::ok("honest").cache("no-store"));
    let proxy = Config::new(&origin).route("/{p}", "cache = false").start();
    for _ in 0..10 {
        assert_eq!(proxy.request("HEAD", "/head", "").status, 200);
        assert_eq!(proxy.get("/next").text(), "honest");
    }
}

#[test]
fn rule_12_an_answer_before_the_upload_ended_leaves_no_trace() {
    let origin = Origin::start();
    origin.on("/up", |exchange| {
        // Answers at once, and never reads the rest of the request.
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
        exchange.hang_up();
    });
    origin.reply("/next", Reply::ok("honest").cache("no-store"));
    let proxy = Config::new(&origin).start();
    for _ in 0..5 {
        let mut client = proxy.connect();
        client.send("POST /up HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100000\r\n\r\nbegin");
        assert_eq!(client.answer_to("POST").text(), "early");
        drop(client);
        assert_eq!(proxy.get("/next").text(), "honest");
        assert_eq!(origin.last("/next").method, "GET");
    }
}

#[test]
fn rule_14_time_limits_are_told_apart() {
    let origin = Origin::start();
    origin.on("/silent", |exchange| {
        exchange.hang_up();
    });
    origin.on("/stall", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhalf");
        exchange.hang_up();
    });
    origin.on("/stall-head", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Con");
        exchange.hang_up();
    });
    let limits = ["first_byte_timeout = \"400ms\"", "between_bytes_timeout = \"400ms\""];
    let config = limits.iter().fold(Config::new(&origin), |config, line| config.upstream(line));
    let proxy = config.start();
    for target in ["/silent", "/stall-head"] {
        let answer = proxy.get(target);
        assert_eq!((answer.status, answer.is_complete()), (504, true), "{target}");
        assert!(
            !answer.text().is_empty() || !answer.cache_status().is_empty(),
            "a reason the client can read"
        );
    }
    for _ in 0..2 {
        let answer = proxy.get("/stall");
        assert!(!answer.is_complete() || answer.status == 504, "{answer:?}");
    }
    // What an origin's thread comes to after the proxy has left was sent all the same.
    origin.wait_count("/stall", 2);
}

#[test]
fn rule_14_an_origin_that_cannot_be_reached() {
    let gone = Config::to(free_port()).start();
    let answer = gone.get("/p");
    assert_eq!((answer.status, answer.is_complete()), (502, true));
    // A listener whose queue is full answers no SYN.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    let full: Vec<_> = (0..4).map(|_| connect_without_waiting(address)).collect();
    let proxy = Config::to(address).upstream("connect_timeout = \"400ms\"").start();
    let answer = proxy.get("/p");
    assert_eq!((answer.status, answer.is_complete()), (504, true));
    drop(full);
}

fn connect_without_waiting(address: std::net::SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.connect(&address.into());
    socket
}

#[test]
fn rule_14_only_a_get_is_sent_again_and_only_once() {
    let origin = Origin::start();
    origin.reply("/warm", Reply::ok("warm").cache("no-store"));
    for method in ["GET", "POST"] {
        let path = format!("/{method}");
        origin.on(&path, |exchange| {
            if exchange.nth() == 1 {
                exchange.body();
                exchange.close();
            } else {
                exchange.reply(&Reply::ok("again").cache("no-store"));
            }
        });
        // A connection that was used before, and dies after the request was written.
        let proxy = Config::new(&origin).start();
        let mut client = proxy.connect();
        client.send(request("GET", "/warm", ""));
        assert_eq!(client.answer().text(), "warm");
        client.send(request(method, &path, "Content-Length: 0\r\n"));
        let answer = client.answer_to(method);
        if method == "GET" {
            assert_eq!((answer.status, origin.count(&path)), (200, 2));
        } else {
            assert_eq!((answer.status, origin.count(&path)), (502, 1), "a POST is never sent twice");
        }
    }
    origin.on("/always", |exchange| exchange.close());
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    client.send(request("GET", "/warm", "") + &request("GET", "/always", ""));
    assert_eq!((client.answer().text().as_str(), client.answer().status), ("warm", 502));
    assert!(origin.count("/always") <= 2);
}

#[test]
fn rule_14_connections_that_the_origin_closed_meanwhile_harm_nobody() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("fine").cache("no-store"));
    let proxy = Config::new(&origin).start();
    for _ in 0..20 {
        assert_eq!(proxy.get("/p").text(), "fine");
        origin.close_connections();
        assert_eq!(proxy.get("/p").text(), "fine");
        let post = proxy.request("POST", "/p", "Content-Length: 0\r\n");
        assert_eq!(post.text(), "fine");
    }
}

#[test]
fn connections_to_the_origin_are_used_again() {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let reply = Reply::ok("content").cache("no-store");
        exchange.reply(&if exchange.target() == "/chunked" { reply.chunked() } else { reply });
    });
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    for _ in 0..20 {
        client.send(request("GET", "/length", "") + &request("GET", "/chunked", ""));
        client.answer().expect(200, "MISS", "content");
        client.answer().expect(200, "MISS", "content");
    }
    assert!(origin.connections() <= 2, "{} connections for one client", origin.connections());
}
