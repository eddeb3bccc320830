//! What is not one request and one answer: upgrades, 100-continue, server-sent events.

use crate::support::*;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn an_upgrade_is_a_tunnel_both_ways_until_it_ends() {
    let origin = Origin::start();
    origin.on("/socket", |exchange| {
        assert_eq!(exchange.head().field("upgrade"), Some("websocket"));
        assert!(
            exchange.head().field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade"))
        );
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSurrogate-Key: t\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
        );
        loop {
            match exchange.some() {
                Ok(bytes) if bytes.ends_with(b"bye") => break exchange.close(),
                Ok(bytes) => assert!(exchange.send(bytes)),
                Err(end) => panic!("{end:?}"),
            }
        }
    });
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    client.send(request("GET", "/socket", UPGRADE));
    let (_, status, head) = client.head().unwrap();
    assert_eq!((status, head.field("upgrade")), (101, Some("websocket")));
    assert_eq!(head.field("surrogate-key"), None, "tags go to nobody");
    assert_eq!(head.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.read_until(|text| text.len() >= 5), "hello", "what came with the 101 is not lost");
    // Bytes that look like HTTP are nobody's request inside a tunnel.
    for words in ["GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", "\0\u{1}\u{2}", "ping"] {
        client.send(words);
        assert_eq!(client.read_until(|text| text.len() >= words.len()), words);
    }
    client.send("bye");
    assert_eq!(client.rest(), (Vec::new(), End::Closed));
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_client_that_leaves_a_tunnel_ends_it_at_the_origin() {
    let origin = Origin::start();
    let ended = Gate::new();
    let told = ended.clone();
    origin.on("/socket", move |exchange| {
        exchange
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        exchange.hang_up();
        told.open();
    });
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    client.send(request("GET", "/socket", UPGRADE));
    assert_eq!(client.head().unwrap().1, 101);
    drop(client);
    ended.wait();
}

#[test]
fn an_upgrade_that_the_origin_declines_is_an_ordinary_answer_and_no_tunnel() {
    let origin = Origin::start();
    origin.reply("/socket", Reply::new(426).field("Upgrade", "websocket").body("no"));
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    client.send(request("GET", "/socket", UPGRADE));
    client.send(request("GET", "/socket", ""));
    assert_eq!(client.answer().status, 426);
    // What the client sent too early is a request like any other, not a tunnel's content.
    if let Ok(next) = client.try_answer() {
        assert_eq!(next.status, 426);
    }
    assert!(origin.seen().iter().all(|seen| seen.method == "GET" && seen.body.is_empty()));
}

#[test]
fn upgrades_are_never_cached_nor_answered_from_the_cache() {
    let origin = Origin::start();
    origin.versions("/p", "max-age=60");
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "v1");
    let answer = proxy.get_with("/p", UPGRADE);
    assert_eq!((answer.text().as_str(), answer.x_cache()), ("v2", "BYPASS"));
    proxy.get("/p").expect(200, "HIT", "v1");
}

#[test]
fn the_first_event_arrives_while_the_origin_holds_the_rest() {
    for cacheable in ["no-cache", "max-age=60"] {
        let origin = Origin::start();
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/events", move |exchange| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: {cacheable}\r\n"
            );
            exchange.send(head + "Transfer-Encoding: chunked\r\n\r\nd\r\ndata: first\n\n\r\n");
            held.wait();
            exchange.send("e\r\ndata: second\n\n\r\n0\r\n\r\n");
        });
        let proxy = Config::new(&origin).start();
        let mut client = proxy.connect();
        client.send(request("GET", "/events", "Accept: text/event-stream\r\n"));
        assert_eq!(client.head().unwrap().1, 200);
        client.read_until(|text| text.contains("data: first\n\n"));
        gate.open();
        client.read_until(|text| text.contains("data: second\n\n") && text.ends_with("0\r\n\r\n"));
    }
}

#[test]
fn a_client_that_leaves_a_stream_nobody_else_reads_frees_the_origin() {
    let origin = Origin::start();
    let ended = Gate::new();
    let told = ended.clone();
    origin.on("/events", move |exchange| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n";
        exchange.send(format!("{head}Transfer-Encoding: chunked\r\n\r\nd\r\ndata: first\n\n\r\n"));
        exchange.hang_up();
        told.open();
    });
    let proxy = Config::new(&origin).upstream("between_bytes_timeout = \"10m\"").start();
    let mut client = proxy.connect();
    client.send(request("GET", "/events", ""));
    client.read_until(|text| text.contains("data: first"));
    drop(client);
    ended.wait();
}

#[test]
fn a_client_that_expects_100_gets_it_before_it_sends() {
    let origin = Origin::start();
    origin.on("/up", |exchange| {
        if exchange.head().field("expect").is_some() {
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body = exchange.body();
        exchange.reply(&Reply::ok(body));
    });
    let proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    client
        .send("PUT /up HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let interim = client.read_until(|text| text.contains("\r\n\r\n"));
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    client.send("body");
    let answer = client.answer_to("PUT");
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
    assert_eq!(origin.last("/up").body, b"body");
}

#[test]
fn another_expectation_is_refused() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).start();
    let answer = proxy.get_with("/p", "Expect: miracles\r\n");
    assert!(
        matches!(answer.status, 417 | 404),
        "RFC 9110 10.1.1 allows 417, or ignoring it: {}",
        answer.status
    );
}
