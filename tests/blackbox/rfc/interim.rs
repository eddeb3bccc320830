//! 1xx (RFC 9110 15.2): never stored, never confused with the final response.

use super::stage::*;
use crate::support::*;

both_tiers! {
    fn the_final_response_is_right(tiers: Tiers) {
        let interim: &[&str] = &[
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 102 Processing\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=1, no-store\r\nAge: 500\r\nETag: \"early\"\r\nVary: *\r\nX-Early: 1\r\nSet-Cookie: a=1\r\n\r\n",
            "HTTP/1.1 199 Unknown\r\nX-Early: 1\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Early: 2\r\n\r\n",
        ];
        let stage = tiers.stage(&[]);
        for (at, before) in interim.iter().enumerate() {
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
                // hyper's server cannot send them: they end here.
                assert_eq!(answer.interim, Vec::<u16>::new(), "row {at}");
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
        stage.fetch("/p", "").expect(200, "REVALIDATED", "v1");
        stage.origin.on("/q", |exchange| {
            exchange.send("HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=600\r\n\r\n");
            exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("no-store"));
        });
        stage.fetch("/q", "").expect(200, "MISS", "v1");
        stage.fetch("/q", "").expect(200, "MISS", "v2");
    }
}
