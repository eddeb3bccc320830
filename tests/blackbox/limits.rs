//! Wire rules 10 and 21: everything has a bound, and the bound has a status.

use std::time::Duration;

use crate::support::*;

#[test]
fn heads_targets_and_bodies_have_limits_of_their_own() {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("reached"));
    let proxy = Config::new(&origin)
        .server("max_header_size = \"8KiB\"")
        .server("max_request_body = \"1KiB\"")
        .start();
    let line = format!("X-Long: {}\r\n", "x".repeat(9 << 10));
    let many: String = (0..2000).map(|i| format!("A{i}: b\r\n")).collect();
    let host = "Host: shop.example\r\n";
    for (name, bytes, status) in [
        ("a long field", format!("GET /p HTTP/1.1\r\n{host}{line}\r\n"), 431),
        ("many fields", format!("GET /p HTTP/1.1\r\n{host}{many}\r\n"), 431),
        ("a long target", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "t".repeat(9 << 10)), 414),
        ("a long body", format!("POST /p HTTP/1.1\r\n{host}Content-Length: 1025\r\n\r\n"), 413),
    ] {
        let mut client = proxy.connect();
        client.send(bytes);
        assert_eq!(client.answer().status, status, "{name}");
        assert!(matches!(client.rest().1, End::Closed | End::Reset), "{name}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    assert_eq!(proxy.send(format!("POST /p HTTP/1.1\r\n{host}Content-Length: 3\r\n\r\nabc")).status, 200);
}

#[test]
fn a_field_count_has_a_limit_even_when_the_head_is_small() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).start();
    let many = "A: b\r\n".repeat(1000);
    let answer = proxy.get_with("/p", &many);
    assert_eq!(answer.status, 431);
    assert!(origin.seen().is_empty());
}

#[test]
fn a_chunked_body_is_counted_while_it_comes() {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("reached"));
    let proxy = Config::new(&origin).server("max_request_body = \"1KiB\"").start();
    let chunk = format!("100\r\n{}\r\n", "c".repeat(256));
    let mut client = proxy.connect();
    client.send("POST /p HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunk.repeat(5) + "0\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    let seen = origin.wait("the end of what began", |seen| seen.iter().all(|seen| seen.end.is_some()));
    assert!(seen.iter().all(|seen| seen.end != Some(End::Complete)), "{seen:?}");
}

#[test]
fn a_slow_head_is_closed() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).server("header_timeout = \"500ms\"").start();
    for bytes in ["", "G", "GET /p HTTP/1.1\r\nHost: shop.example\r\nX: "] {
        let mut client = proxy.connect();
        client.send(bytes);
        match client.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 408, "{bytes:?}"),
            Err(end) => assert!(matches!(end, End::Closed | End::Reset), "{bytes:?}: {end:?}"),
        }
        assert!(matches!(client.rest().1, End::Closed | End::Reset));
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn a_head_that_trickles_does_not_renew_its_time() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).server("header_timeout = \"500ms\"").start();
    let mut client = proxy.connect();
    client.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    client.send("GET /p HTTP/1.1\r\n");
    let closed = eventually("the connection is closed", || {
        let sent = client.send("X: y\r\n");
        match client.some() {
            Err(End::Stalled) if sent => None,
            other => Some(other),
        }
    });
    if let Ok(answer) = closed {
        assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn idle_connections_end() {
    let origin = Origin::start();
    origin.versions("/p", "max-age=60");
    let proxy = Config::new(&origin).server("idle_timeout = \"2s\"").start();
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.rest(), (Vec::new(), End::Closed));
}

#[test]
fn connections_are_bounded_and_come_back() {
    let (origin, gate) = (Origin::start(), Gate::new());
    origin.versions("/p", "max-age=60");
    let held_back = gate.clone();
    origin.on("/held/*", move |exchange| {
        held_back.wait();
        exchange.reply(&Reply::ok("late").cache("no-store"));
    });
    let proxy = Config::new(&origin).server("max_connections = 4").start();
    // Busy ones: those that are idle leave for others.
    let mut held: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for (n, client) in held.iter_mut().enumerate() {
        client.send(request("GET", &format!("/held/{n}"), ""));
    }
    origin.wait("four requests", |seen| seen.len() >= 4);
    let mut fifth = proxy.connect();
    fifth.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    fifth.send(request("GET", "/p", ""));
    if let Ok(answer) = fifth.try_answer() {
        assert_eq!(answer.status, 503, "a fifth connection waits, is closed or is told");
    }
    gate.open();
    held.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    drop(held);
    drop(fifth);
    until("a connection is free again", || {
        let mut client = proxy.connect();
        client.send(request("GET", "/p", ""));
        client.try_answer().is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_flood_of_pipelined_requests_is_answered_in_order_and_in_bounds() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("x".repeat(1000)).cache("max-age=60"));
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", &"x".repeat(1000));
    let before = proxy.resident();
    let mut client = proxy.connect();
    let mut writer = client.stream().try_clone().unwrap();
    // Nobody reads: the proxy may only take what its buffers hold.
    let requests = request("GET", "/p", "").repeat(1000);
    writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let taken =
        (0..2000).take_while(|_| std::io::Write::write_all(&mut writer, requests.as_bytes()).is_ok()).count();
    assert!(taken < 2000, "the proxy took {taken},000 requests from a client that reads nothing");
    assert!(proxy.resident() < before + (16 << 20), "{} bytes more", proxy.resident() - before);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_queue_for_the_origin_is_bounded_in_time_and_length() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/*", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok("late").cache("no-store"));
    });
    let proxy =
        Config::new(&origin).upstream("max_connections = 2").upstream("connect_timeout = \"500ms\"").start();
    let targets = |i: usize| request("GET", &format!("/{i}"), "");
    let answers = fan_out(&[proxy.address], 60, targets, || {
        origin.wait("as many requests as are allowed", |seen| seen.len() >= 2);
        pass(Duration::from_millis(700));
        assert_eq!(origin.seen().len(), 2, "as many at once as max_connections says");
        gate.open();
    });
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 503)), "{answers:?}");
    assert!(answers.iter().filter(|answer| answer.status == 200).count() >= 2);
}
