//! The harness against itself: a judge that cannot see a fault is no judge.

use std::time::Duration;

use super::client::request;
use super::*;

#[test]
fn the_origin_counts_answers_and_keeps_exact_bytes() {
    let origin = Origin::start();
    origin.versions("/v", "max-age=1");
    let mut client = Client::to(origin.address);
    let bytes = "POST /v?q=%20 HTTP/1.1\r\nHost: a\r\nX-Odd:  two  words \r\nContent-Length: 3\r\n\r\nabc";
    client.send(bytes);
    client.send(request("GET", "/v", ""));
    assert_eq!(client.answer_to("POST").text(), "v1");
    assert_eq!(client.answer().text(), "v2");
    let seen = origin.seen_at("/v");
    assert_eq!(seen[0].target, "/v?q=%20");
    assert_eq!([seen[0].head.raw.as_slice(), &seen[0].raw_body].concat(), bytes.as_bytes());
    assert_eq!((seen[0].body.as_slice(), &seen[0].end), (b"abc".as_slice(), &Some(End::Complete)));
    assert_eq!((seen[0].connection, seen[1].connection, origin.connections()), (0, 0, 1));
}

#[test]
fn every_way_to_end_is_told_apart() {
    let origin = Origin::start();
    origin.reply("/chunked", Reply::ok("some longer content").chunked());
    origin.reply("/close", Reply::ok("some").close_delimited());
    origin.bytes("/short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    origin.bytes("/unfinished", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    origin.bytes("/nonsense", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+4\r\nhalf\r\n");
    origin.on("/reset", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf");
        exchange.reset();
    });
    let chunked = get(origin.address, "/chunked", "");
    assert_eq!((chunked.text().as_str(), chunked.framing), ("some longer content", Framing::Chunked));
    assert_eq!(chunked.end, End::Complete);
    let close = get(origin.address, "/close", "");
    assert_eq!((close.text().as_str(), close.framing, close.end), ("some", Framing::Close, End::Complete));
    assert_eq!(get(origin.address, "/short", "").end, End::Short);
    assert_eq!(get(origin.address, "/unfinished", "").end, End::Short);
    assert!(matches!(get(origin.address, "/nonsense", "").end, End::Malformed(_)));
    let mut client = Client::to(origin.address);
    client.send(request("GET", "/reset", ""));
    let end = client.try_answer().map_or_else(|end| end, |answer| answer.end);
    assert_eq!(end, End::Reset);
}

#[test]
fn the_origin_sees_an_upload_while_it_arrives_and_how_it_breaks_off() {
    let origin = Origin::start();
    origin.reply("/up", Reply::ok("done"));
    let mut client = Client::to(origin.address);
    client.send("PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    origin.wait("half an upload", |seen| seen.iter().any(|seen| seen.body == b"12345" && seen.end.is_none()));
    client.reset();
    origin.wait("a reset", |seen| seen.iter().any(|seen| seen.end == Some(End::Reset)));
}

#[test]
fn a_script_that_panics_fails_its_test() {
    let result = std::panic::catch_unwind(|| {
        let origin = Origin::start();
        origin.on("/p", |_| panic!("this panic is the test"));
        let mut client = Client::to(origin.address);
        client.send(request("GET", "/p", ""));
        assert_eq!(client.try_answer().err(), Some(End::Closed));
    });
    assert!(result.is_err());
}

#[test]
fn a_fan_out_is_concurrent() {
    let origin = Origin::start();
    let meeting = Meeting::of(40);
    origin.on("/m", move |exchange| {
        meeting.arrive();
        exchange.reply(&Reply::ok(exchange.target()));
    });
    let gate = Gate::new();
    let answers = fan_out(&[origin.address], 40, |i| request("GET", &format!("/m?{i}"), ""), || gate.open());
    gate.wait();
    let targets: Vec<_> = (0..40).map(|i| format!("/m?{i}")).collect();
    assert_eq!(answers.iter().map(Answer::text).collect::<Vec<_>>(), targets);
}

#[test]
fn redis_pauses_dies_and_returns() {
    let mut redis = Redis::start();
    let monitor = redis.monitor();
    redis.command(&["SET", "k", "v", "PX", "60000"]);
    assert_eq!(redis.strings()["k"], b"v");
    until("MONITOR shows SET", || monitor.names().contains(&"SET".to_owned()));
    assert!(monitor.lines().iter().any(|line| line.contains("\"SET\" \"k\" \"v\"")));
    redis.pause();
    let mut hanging = Resp::to(redis.address).unwrap();
    hanging.descriptor().unwrap().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    hanging.command(&["PING"]).unwrap_err();
    redis.resume();
    assert_eq!(redis.command(&["PTTL", "none"]).integer(), Some(-2));
    redis.kill();
    Resp::to(redis.address).map(|_| ()).unwrap_err();
    redis.restart();
    assert_eq!(redis.command(&["DBSIZE"]).integer(), Some(0));
}

#[test]
fn the_relay_delays_swallows_and_resets() {
    let origin = Origin::start();
    origin.reply("/r", Reply::ok("through"));
    let relay = Relay::to(origin.address);
    assert_eq!(get(relay.address, "/r", "").text(), "through");
    relay.set(Fault::Delay(Duration::from_millis(1)));
    assert_eq!(get(relay.address, "/r", "").text(), "through");
    relay.set(Fault::Blackhole);
    let mut client = Client::to(relay.address);
    client.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    client.send(request("GET", "/r", ""));
    assert_eq!(client.try_answer().err(), Some(End::Stalled));
    relay.set(Fault::Reset);
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(client.try_answer().err(), Some(End::Reset | End::Closed)));
    assert_eq!(origin.count("/r"), 2);
}
