//! Stale answers (RFC 9111 4.2.4, RFC 5861): when, for how long, and what forbids them.

use super::stage::Then::*;
use super::stage::*;
use crate::support::*;

/// How an origin fails.
const FAILURES: [&str; 6] = ["500", "502", "503", "504", "reset", "nonsense"];

fn fail(exchange: &mut Exchange, how: &str) {
    match how {
        "reset" => exchange.reset(),
        "nonsense" => {
            exchange.send("what is this\r\n\r\n");
            exchange.close();
        }
        status => exchange.reply(&Reply::new(status.parse().expect("a status")).body("failed")),
    }
}

both_tiers! {
    fn stale_while_revalidate_windows(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("within", "Cache-Control: max-age=60, stale-while-revalidate=600\nAge: 60\nETag: \"a\"", Stale),
            row("within, no validator", "Cache-Control: max-age=60, stale-while-revalidate=600\nAge: 60", Stale),
            row("beyond", "Cache-Control: max-age=60, stale-while-revalidate=60\nAge: 180\nETag: \"a\"", Validated),
            row("zero", "Cache-Control: max-age=60, stale-while-revalidate=0\nAge: 60\nETag: \"a\"", Validated),
            row("cannot be read", "Cache-Control: max-age=60, stale-while-revalidate=x\nAge: 60\nETag: \"a\"", Validated),
            row("the smaller of two", "Cache-Control: max-age=60, stale-while-revalidate=600, stale-while-revalidate=1\nAge: 180\nETag: \"a\"", Validated),
            row("after Expires", "Cache-Control: stale-while-revalidate=600\nExpires: {-60}\nDate: {-60}\nETag: \"a\"", Stale),
            row("of a targeted field", "CDN-Cache-Control: max-age=60, stale-while-revalidate=600\nAge: 60\nETag: \"a\"", Stale),
            row("must-revalidate forbids", "Cache-Control: max-age=60, stale-while-revalidate=600, must-revalidate\nAge: 60\nETag: \"a\"", Validated),
            row("proxy-revalidate forbids", "Cache-Control: max-age=60, stale-while-revalidate=600, proxy-revalidate\nAge: 60\nETag: \"a\"", Validated),
            row("no-cache forbids", "Cache-Control: max-age=60, stale-while-revalidate=600, no-cache\nETag: \"a\"", Validated),
            row("beside s-maxage the origin's own word holds", "Cache-Control: s-maxage=60, stale-while-revalidate=600\nAge: 60\nETag: \"a\"", Stale),
            row("s-maxage and must-revalidate", "Cache-Control: s-maxage=60, stale-while-revalidate=600, must-revalidate\nAge: 60\nETag: \"a\"", Validated),
            row("s-maxage alone", "Cache-Control: s-maxage=60\nAge: 60\nETag: \"a\"", Validated),
        ]);
    }

    /// A route's windows stand in where the origin states none; never against its prohibition.
    fn windows_of_the_route(tiers: Tiers) {
        tiers.stage(&["stale_while_revalidate = \"10m\""]).run(&[
            row("stands in", "Cache-Control: max-age=60\nAge: 60\nETag: \"a\"", Stale),
            row("the origin's is shorter", "Cache-Control: max-age=60, stale-while-revalidate=1\nAge: 120\nETag: \"a\"", Validated),
            row("beyond", "Cache-Control: max-age=60\nAge: 700\nETag: \"a\"", Validated),
            row("never fresh", "Cache-Control: max-age=0\nETag: \"a\"", Validated),
            row("must-revalidate", "Cache-Control: max-age=60, must-revalidate\nAge: 60\nETag: \"a\"", Validated),
            row("proxy-revalidate", "Cache-Control: max-age=60, proxy-revalidate\nAge: 60\nETag: \"a\"", Validated),
            row("s-maxage", "Cache-Control: s-maxage=60\nAge: 60\nETag: \"a\"", Validated),
            row("s-maxage, the origin's own", "Cache-Control: s-maxage=60, stale-while-revalidate=600\nAge: 60\nETag: \"a\"", Stale),
            row("no-cache", "Cache-Control: no-cache, max-age=60\nAge: 60\nETag: \"a\"", Validated),
        ]);
    }

    /// The stale answer comes at once; the renewal is detached, one, and replaces it.
    fn a_stale_answer_is_renewed_behind_it(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let gate = Gate::new();
        let held = gate.clone();
        stage.origin.on("/p", move |exchange| {
            let nth = exchange.nth();
            if nth == 2 {
                held.wait();
            }
            let reply = Reply::ok(format!("v{nth}")).cache("max-age=60, stale-while-revalidate=600");
            exchange.reply(&if nth == 1 { reply.field("Age", "90") } else { reply });
        });
        stage.fetch("/p", "").expect(200, "MISS", "v1");
        for _ in 0..3 {
            let stale = stage.get("/p");
            stale.expect(200, "STALE", "v1");
            assert!(stale.age().is_some_and(|age| age >= 90) && stale.ttl().is_some_and(|ttl| ttl < 0));
        }
        stage.origin.wait_count("/p", 2);
        gate.open();
        eventually("the renewal lands", || (stage.fetch("/p", "").x_cache() == "HIT").then_some(()));
        stage.fetch("/p", "").expect(200, "HIT", "v2");
        assert_eq!(stage.origin.count("/p"), 2, "one renewal for all");
    }

    fn stale_if_error_windows(tiers: Tiers) {
        // (fields of the stored response, whether it stands in for a failing origin)
        let rows: &[(&str, bool)] = &[
            ("Cache-Control: max-age=60, stale-if-error=600\nAge: 60", true),
            ("Cache-Control: max-age=60, stale-if-error=600\nAge: 60\nETag: \"a\"", true),
            ("Cache-Control: max-age=60, stale-if-error=60\nAge: 180\nETag: \"a\"", false),
            ("Cache-Control: max-age=60, stale-if-error=0\nAge: 60\nETag: \"a\"", false),
            ("Cache-Control: max-age=60\nAge: 60\nETag: \"a\"", false),
            ("Cache-Control: max-age=60, stale-if-error=600, must-revalidate\nAge: 60\nETag: \"a\"", false),
            ("Cache-Control: max-age=60, stale-if-error=600, proxy-revalidate\nAge: 60\nETag: \"a\"", false),
            ("Cache-Control: no-cache, max-age=60, stale-if-error=600\nAge: 60\nETag: \"a\"", false),
            ("Cache-Control: s-maxage=60, stale-if-error=600\nAge: 60\nETag: \"a\"", true),
            ("Cache-Control: s-maxage=60, must-revalidate, stale-if-error=600\nAge: 60\nETag: \"a\"", false),
            ("CDN-Cache-Control: max-age=60, stale-if-error=600\nAge: 60", true),
            ("Cache-Control: stale-if-error=600\nExpires: {-60}\nDate: {-60}", true),
        ];
        let stage = tiers.stage(&[]);
        for (at, (lines, stands_in)) in rows.iter().copied().enumerate() {
            for how in FAILURES {
                let target = format!("/{at}/{how}");
                stage.origin.on(&target, move |exchange| {
                    if exchange.nth() == 1 { exchange.reply(&with(Reply::ok("old"), lines)) } else { fail(exchange, how) }
                });
                stage.fetch(&target, "").expect(200, "MISS", "old");
            }
            for how in FAILURES {
                let row = format!("row {at}, {how}: {lines:?}");
                let answer = stage.fetch(&format!("/{at}/{how}"), "");
                if stands_in {
                    assert_eq!((answer.status, answer.x_cache(), answer.text().as_str()), (200, "STALE", "old"), "{row}");
                    assert!(answer.ttl().is_some_and(|ttl| ttl < 0), "{row}: {}", answer.cache_status());
                } else {
                    // RFC 9111 5.2.2.2: what must be revalidated and cannot be is 504.
                    let strict = ["must-revalidate", "proxy-revalidate", "s-maxage"].iter().any(|word| lines.contains(word));
                    let status = match how {
                        "reset" | "nonsense" if strict => 504,
                        "reset" | "nonsense" => 502,
                        status => status.parse().expect("a status"),
                    };
                    assert_eq!(answer.status, status, "{row}");
                }
            }
        }
    }

    /// Only what RFC 5861 4 calls an error: other answers are the origin's word.
    fn other_answers_are_no_errors(tiers: Tiers) {
        let stage = tiers.stage(&["stale_if_error = \"10m\""]);
        for status in [400, 403, 404, 410, 429, 501, 505] {
            let target = format!("/{status}");
            stage.origin.on(&target, move |exchange| {
                let reply = if exchange.nth() == 1 { Reply::ok("old").cache("max-age=60").field("Age", "60") } else { Reply::new(status).body("new") };
                exchange.reply(&reply);
            });
            stage.fetch(&target, "").expect(200, "MISS", "old");
            let answer = stage.fetch(&target, "");
            assert_eq!((answer.status, answer.text().as_str()), (status, "new"));
        }
    }

    /// An origin that cannot be reached at all is no reason to answer stale without permission.
    fn a_disconnected_cache_and_back_off(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/*", |exchange| {
            let lines = if exchange.target() == "/allowed" { "max-age=60, stale-if-error=600" } else { "max-age=60" };
            if exchange.nth() == 1 {
                exchange.reply(&Reply::ok("old").cache(lines).field("Age", "60").field("ETag", "\"a\""));
            } else {
                exchange.reset();
            }
        });
        stage.fetch("/allowed", "").expect(200, "MISS", "old");
        stage.fetch("/plain", "").expect(200, "MISS", "old");
        assert_eq!(stage.fetch("/plain", "").status, 502);
        stage.fetch("/allowed", "").expect(200, "STALE", "old");
        // Each failure makes it back off for longer, so that even a slow test comes to it.
        let mut held = 0;
        until("the origin is left alone", || {
            let asked = stage.origin.count("/allowed");
            let answer = stage.fetch("/allowed", "");
            answer.expect(200, "STALE", "old");
            if answer.cache_status().contains("detail=origin-back-off") {
                assert_eq!(stage.origin.count("/allowed"), asked, "while it backs off nobody asks the origin");
                held += 1;
            }
            held >= 5
        });
    }
}
