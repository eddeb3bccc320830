//! 1xx (RFC 9110 15.2): never stored, never confused with the final response.

use super::stage::*;
use crate::support::*;

both_tiers! {
    fn the_final_response_is_right(tiers: Tiers) {
        // (before the final response, what the client whose request it was hears of it)
        let interim: &[(&str, &[u16])] = &[
            // Ours to say, and nobody expected it.
            ("HTTP/1.1 100 Continue\r\n\r\n", &[]),
            ("HTTP/1.1 102 Processing\r\n\r\n", &[102]),
            ("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n", &[103]),
            ("HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=1, no-store\r\nAge: 500\r\nETag: \"early\"\r\nVary: *\r\nX-Early: 1\r\nSet-Cookie: a=1\r\n\r\n", &[103]),
            ("HTTP/1.1 199 Unknown\r\nX-Early: 1\r\n\r\n", &[199]),
            ("HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Early: 2\r\n\r\n", &[103, 102, 103]),
        ];
        let stage = tiers.stage(&[]);
        for (at, (before, told)) in interim.iter().copied().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| {
                exchange.send(before);
                exchange.reply(&Reply::ok("final").cache("max-age=60").field("ETag", "\"final\"").field("X-Final", "1"));
            });
            for x_cache in ["MISS", "HIT"] {
                let answer = stage.fetch(&target, "");
                answer.expect(200, x_cache, "final");
                let seen = ["x-early", "link", "set-cookie", "vary"].map(|name| answer.field(name));
                assert_eq!(seen, [None; 4], "row {at}, {x_cache}: nothing of an interim response stays");
                assert_eq!((answer.field("x-final"), answer.field("etag")), (Some("1"), Some("\"final\"")), "row {at}");
                assert!(answer.age().is_none_or(|age| age < 100), "row {at}");
                assert_eq!(answer.interim, if x_cache == "MISS" { told } else { &[] }, "row {at}, {x_cache}");
            }
            assert_eq!(stage.origin.count(&target), 1, "row {at}: only the final response was stored");
        }
    }

    fn interim_responses_before_what_is_not_stored_and_before_304(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            exchange.send("HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=600\r\n\r\n");
            let confirmed = exchange.head().field("if-none-match").is_some();
            let reply = if confirmed { Reply::not_modified() } else { Reply::ok("v1") };
            exchange.reply(&reply.cache("max-age=0").field("ETag", "\"a\""));
        });
        stage.fetch("/p", "").expect(200, "MISS", "v1");
        let validated = stage.fetch("/p", "");
        validated.expect(200, "REVALIDATED", "v1");
        assert_eq!(validated.interim, [103]);
        stage.origin.on("/q", |exchange| {
            exchange.send("HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=600\r\n\r\n");
            exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("no-store"));
        });
        stage.fetch("/q", "").expect(200, "MISS", "v1");
        stage.fetch("/q", "").expect(200, "MISS", "v2");
        let posted = stage.ask("POST", "/q", "Content-Length: 0\r\n");
        posted.expect(200, "BYPASS", "v3");
        assert_eq!(posted.interim, [103], "what is only forwarded");
        let old = stage.send("GET /q HTTP/1.0\r\nHost: shop.example\r\n\r\n");
        assert_eq!((old.text().as_str(), old.interim.len()), ("v4", 0), "HTTP/1.0 knows none");
    }

    /// RFC 8297: hints are of use as long as the answer is not there; and only to whom they were sent.
    fn hints_go_out_at_once_to_the_client_that_asked(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let gate = Gate::new();
        let held = gate.clone();
        stage.origin.on("/p", move |exchange| {
            exchange.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                 Cache-Tag: secret\r\nContent-Length: 7\r\nTrailer: X-Sum\r\n\r\n",
            );
            held.wait();
            exchange.reply(&Reply::ok("final").cache("max-age=60"));
        });
        let mut leader = stage.connect();
        leader.send(request("GET", "/p", ""));
        let hints = leader.any_head();
        assert_eq!(hints.start, "HTTP/1.1 103 Early Hints");
        let names: Vec<_> = hints.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["link", "via"]);
        let mut waiter = stage.connect();
        waiter.send(request("GET", "/p", ""));
        gate.open();
        let (first, second) = (leader.answer(), waiter.answer());
        first.expect(200, "MISS", "final");
        assert!((first.interim.len(), second.interim.len()) == (0, 0) && second.text() == "final");
        stage.settle();
        assert_eq!(stage.origin.count("/p"), 1);
    }

    /// Whatever else is on the connection, an interim response stands before its own final one.
    fn requests_in_a_row_have_their_own(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/*", |exchange| {
            let target = exchange.target().to_owned();
            if target != "/plain" {
                exchange.send(format!("HTTP/1.1 103 Early Hints\r\nLink: <{target}>\r\n\r\n"));
            }
            exchange.reply(&Reply::ok(target.repeat(20_000)).cache("no-store"));
        });
        let targets = ["/a", "/plain", "/b", "/c"];
        let mut client = stage.connect();
        client.send(targets.map(|target| request("GET", target, "")).concat());
        for target in targets {
            if target != "/plain" {
                let hints = client.any_head();
                assert_eq!((hints.start.as_str(), hints.field("link")), ("HTTP/1.1 103 Early Hints", Some(format!("<{target}>").as_str())));
            }
            let answer = client.answer();
            assert!(answer.interim.is_empty() && answer.text() == target.repeat(20_000), "{target}: {:?}", answer.interim);
        }
    }
}
