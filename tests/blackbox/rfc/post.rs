//! POST (RFC 9110 9.3.3): an answer that describes its own target is what a GET would be given.

use super::stage::*;
use crate::support::*;

both_tiers! {
    fn an_answer_that_describes_its_target_answers_get(tiers: Tiers) {
        // (fields of the answer to POST, its status, whether a GET is answered with it)
        let rows: &[(&str, u16, bool)] = &[
            ("Cache-Control: max-age=60\nContent-Location: {}", 200, true),
            ("Cache-Control: max-age=60\nContent-Location: http://shop.example{}", 200, true),
            ("Expires: {+60}\nContent-Location: {}", 200, true),
            ("CDN-Cache-Control: max-age=60\nContent-Location: {}", 200, true),
            ("Cache-Control: max-age=60", 200, false),
            ("Cache-Control: max-age=60\nContent-Location: /other", 200, false),
            ("Cache-Control: max-age=60\nContent-Location: http://other.example{}", 200, false),
            ("Content-Location: {}", 200, false),
            ("Cache-Control: max-age=0\nContent-Location: {}", 200, false),
            ("Cache-Control: max-age=60, no-store\nContent-Location: {}", 200, false),
            ("Cache-Control: max-age=60, private\nContent-Location: {}", 200, false),
            ("Cache-Control: max-age=60\nSet-Cookie: a=1\nContent-Location: {}", 200, false),
            ("Cache-Control: max-age=60\nContent-Location: {}", 201, false),
            ("Cache-Control: max-age=60\nContent-Location: {}", 404, false),
            ("Cache-Control: max-age=60\nContent-Location: {}", 500, false),
        ];
        let stage = tiers.stage(&[]);
        for (at, (lines, status, stored)) in rows.iter().copied().enumerate() {
            let target = format!("/{at}");
            let lines = lines.replace("{}", &target);
            stage.origin.on(&target, move |exchange| {
                let reply = if exchange.method() == "POST" { with(Reply::new(status).body("posted"), &lines) } else { Reply::ok("got").cache("max-age=60") };
                exchange.reply(&reply);
            });
            let posted = stage.send(format!("POST {target} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\ndata"));
            assert_eq!((posted.status, posted.text().as_str()), (status, "posted"), "row {at}");
            stage.settle();
            let got = stage.fetch(&target, "");
            let expected = if stored { ("HIT", "posted") } else { ("MISS", "got") };
            assert_eq!((got.x_cache(), got.text().as_str()), expected, "row {at}");
            // POST itself is never answered from the store.
            let again = stage.send(format!("POST {target} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\ndata"));
            assert_eq!((again.status, again.x_cache()), (status, "BYPASS"), "row {at}");
        }
    }

    /// What was stored before goes, whatever the answer to POST is stored as.
    fn what_was_stored_before_goes(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            let posted = exchange.method() == "POST";
            let reply = Reply::ok(format!("{} {}", exchange.method(), exchange.nth())).cache("max-age=60");
            exchange.reply(&if posted { reply.field("Content-Location", "/elsewhere") } else { reply });
        });
        stage.fetch("/p", "").expect(200, "MISS", "GET 1");
        assert_eq!(stage.ask("POST", "/p", "Content-Length: 0\r\n").text(), "POST 2");
        stage.fetch("/p", "").expect(200, "MISS", "GET 3");
    }
}
