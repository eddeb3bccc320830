//! Wire rule 11: an answer cut short is never stored and never looks complete, wherever it is cut.

use crate::support::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n";

#[derive(Clone, Copy, Debug)]
enum Cut {
    Close,
    Reset,
}

/// Serves, under `/cut/N`, the first N bytes of `whole` and then cuts the connection. Every prefix
/// from nothing to `upto - 1` bytes must be judged incomplete, and not be stored.
fn every_prefix_is_broken(whole: &str, cut: Cut, http: &str, framings: &[Framing]) {
    let origin = Origin::start();
    let bytes = whole.as_bytes().to_vec();
    origin.on("/cut/*", move |exchange| {
        let length: usize = exchange.target()["/cut/".len()..].parse().unwrap();
        exchange.send(&bytes[..length]);
        match cut {
            Cut::Close => exchange.close(),
            Cut::Reset => exchange.reset(),
        }
    });
    let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
    for length in 0..whole.len() {
        let target = format!("/cut/{length}");
        for nth in 1..=2 {
            let asked = origin.count(&target);
            let mut client = proxy.connect();
            client.send(format!("GET {target} {http}\r\nHost: shop.example\r\n\r\n"));
            if let Ok(answer) = client.try_answer() {
                let broken = !answer.is_complete() || answer.status == 502;
                assert!(broken, "{cut:?} after {length} bytes looks whole to {http}: {answer:?}");
                assert_ne!(answer.x_cache(), "HIT");
                if answer.status == 200 {
                    assert!(framings.contains(&answer.framing), "{:?}", answer.framing);
                }
            }
            assert!(origin.count(&target) > asked, "{cut:?} after {length} bytes was stored ({nth})");
        }
    }
    let target = format!("/cut/{}", whole.len());
    assert_eq!(proxy.get(&target).text(), "a body to be cut", "the whole of it passes");
    assert_eq!(proxy.metric("forebay_cache_lookups_total", &[("tier", "memory"), ("result", "hit")]), 0.0);
}

#[test]
fn content_length_cut_anywhere() {
    let whole = format!("{HEAD}Content-Length: 16\r\n\r\na body to be cut");
    every_prefix_is_broken(&whole, Cut::Close, "HTTP/1.1", &[Framing::Length(16)]);
    every_prefix_is_broken(&whole, Cut::Close, "HTTP/1.0", &[Framing::Length(16)]);
}

#[test]
fn content_length_reset_anywhere() {
    let whole = format!("{HEAD}Content-Length: 16\r\n\r\na body to be cut");
    every_prefix_is_broken(&whole, Cut::Reset, "HTTP/1.1", &[Framing::Length(16)]);
}

#[test]
fn chunked_cut_anywhere() {
    let whole =
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n7\r\na body \r\n9\r\nto be cut\r\n0\r\n\r\n");
    every_prefix_is_broken(&whole, Cut::Close, "HTTP/1.1", &[Framing::Chunked]);
}

#[test]
fn chunked_cut_anywhere_for_a_client_that_knows_no_chunks() {
    // HTTP/1.0 clients learn the end from the close: only a reset tells them that it is none.
    let whole =
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n7\r\na body \r\n9\r\nto be cut\r\n0\r\n\r\n");
    every_prefix_is_broken(&whole, Cut::Close, "HTTP/1.0", &[Framing::Close]);
}

#[test]
fn chunked_reset_anywhere() {
    let whole =
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n7\r\na body \r\n9\r\nto be cut\r\n0\r\n\r\n");
    every_prefix_is_broken(&whole, Cut::Reset, "HTTP/1.1", &[Framing::Chunked]);
}

#[test]
fn delimited_by_close_and_reset_anywhere() {
    // Here a clean close is the end (RFC 9112 8), so only a reset can cut. The last prefix is whole
    // in bytes and still broken: the origin never said that this was the end.
    let origin = Origin::start();
    let whole = format!("{HEAD}Connection: close\r\n\r\na body to be cut");
    let (bytes, head) = (whole.clone().into_bytes(), whole.len() - 16);
    origin.on("/cut/*", move |exchange| {
        let length: usize = exchange.target()["/cut/".len()..].parse().unwrap();
        exchange.send(&bytes[..length]);
        exchange.reset();
    });
    let proxy = Config::new(&origin).start();
    for http in ["HTTP/1.1", "HTTP/1.0"] {
        for length in (0..head).step_by(7).chain(head..=whole.len()) {
            let target = format!("/cut/{length}");
            for _ in 0..2 {
                let asked = origin.count(&target);
                let mut client = proxy.connect();
                client.send(format!("GET {target} {http}\r\nHost: shop.example\r\n\r\n"));
                if let Ok(answer) = client.try_answer() {
                    assert!(!answer.is_complete() || answer.status == 502, "{http} {length}: {answer:?}");
                }
                assert!(origin.count(&target) > asked, "{http} {length} was stored");
            }
        }
    }
}

#[test]
fn a_cut_body_is_no_bodys_of_those_who_waited() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        exchange.send(format!("{HEAD}Content-Length: 16\r\n\r\na body"));
        held.wait();
        exchange.close();
    });
    let proxy = Config::new(&origin).start();
    let answers = try_fan_out(
        &[proxy.address],
        20,
        |_| request("GET", "/p", ""),
        || {
            origin.wait_count("/p", 1);
            gate.open();
        },
    );
    // Where head and break arrive together, a reset may be all that the client sees.
    for answer in answers.into_iter().flatten() {
        assert!(!answer.is_complete() || answer.status == 502, "{answer:?}");
    }
}

#[test]
fn bad_chunks_in_an_answer_are_a_break_not_an_end() {
    let origin = Origin::start();
    let cases = [
        "4\r\ngood\r\n+4\r\nmore\r\n0\r\n\r\n",
        "4\r\ngood\r\n0x4\r\nmore\r\n0\r\n\r\n",
        "4\r\ngoodmore\r\n0\r\n\r\n",
        "4\r\ngood\r\nzz\r\n\r\n0\r\n\r\n",
        "4\r\ngood\r\nffffffffffffffffff\r\nmore\r\n0\r\n\r\n",
        "4\r\ngood\r\n\r\n0\r\n\r\n",
        "4\ngood\r\n0\r\n\r\n",
        "4 \r\ngood\r\n0\r\n\r\n",
        "4\t\r\ngood\r\n0\r\n\r\n",
        " 4\r\ngood\r\n0\r\n\r\n",
        "4;a\nb\r\ngood\r\n0\r\n\r\n",
        "4;a=\0\r\ngood\r\n0\r\n\r\n",
        ";a\r\n\r\n",
        "4\r\ngood\n0\r\n\r\n",
        "4\r\ngood\r\n0\n\r\n",
        "4\r\ngood\r\n0\r\n\n",
        "4\r\ngood\r\n-0\r\n\r\n",
        "4\r\ngood\r\n00000000000000004\r\nmore\r\n0\r\n\r\n",
        "4\r\ngood\r\n0\r\nX-Sum : 1\r\n\r\n",
        "4\r\ngood\r\n0\r\nX-Sum: 1\n\r\n",
        "4\r\ngood\r\n0\r\nX-Sum: a\0b\r\n\r\n",
    ];
    let proxy = Config::new(&origin).start();
    for (n, body) in cases.iter().enumerate() {
        let target = format!("/{n}");
        origin.bytes(&target, format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{body}"));
        for _ in 0..2 {
            let mut client = proxy.connect();
            client.send(request("GET", &target, ""));
            if let Ok(answer) = client.try_answer() {
                assert!(!answer.is_complete() || answer.status == 502, "{body:?}: {answer:?}");
            }
        }
        assert!(origin.count(&target) >= 2, "{body:?} was stored");
    }
}
