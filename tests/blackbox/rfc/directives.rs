//! RFC 9111 5.2.1, 5.4: what a request asks of the cache, where the route respects it.

use super::stage::Then::*;
use super::stage::*;
use crate::support::*;

const RESPECT: &[&str] = &["client_cache_control = \"respect\""];
const FRESH: &str = "Cache-Control: max-age=3600\nETag: \"a\"";
const AGED: &str = "Cache-Control: max-age=3600\nAge: 1800\nETag: \"a\"";
const STALE: &str = "Cache-Control: max-age=1800\nAge: 3600\nETag: \"a\"";

both_tiers! {
    fn directives_of_requests(tiers: Tiers) {
        let asked = |name, lines, second, then| Row::of(name, lines, "", second, then);
        tiers.stage(RESPECT).run(&[
            asked("no-cache", FRESH, "Cache-Control: no-cache", Validated),
            asked("No-Cache among others", FRESH, "Cache-Control: foo, No-Cache", Validated),
            asked("no-cache without validators", "Cache-Control: max-age=60", "Cache-Control: no-cache", Fetched),
            asked("Pragma: no-cache", FRESH, "Pragma: no-cache", Validated),
            asked("Pragma: No-Cache", FRESH, "Pragma: No-Cache", Validated),
            asked("Pragma: something else", FRESH, "Pragma: foo", Reused),
            asked("Pragma beside Cache-Control", FRESH, "Pragma: no-cache\nCache-Control: max-stale=1", Reused),
            asked("max-age=0", FRESH, "Cache-Control: max-age=0", Validated),
            asked("max-age=0 of an immutable one", "Cache-Control: max-age=3600, immutable\nETag: \"a\"", "Cache-Control: max-age=0", Reused),
            asked("max-age below its age", AGED, "Cache-Control: max-age=600", Validated),
            asked("max-age above its age", AGED, "Cache-Control: max-age=2400", Reused),
            asked("min-fresh that is left", AGED, "Cache-Control: min-fresh=600", Reused),
            asked("min-fresh that is not left", AGED, "Cache-Control: min-fresh=2400", Validated),
            asked("max-stale", STALE, "Cache-Control: max-stale", Stale),
            asked("max-stale that suffices", STALE, "Cache-Control: max-stale=3600", Stale),
            asked("max-stale that does not", STALE, "Cache-Control: max-stale=600", Validated),
            asked("max-stale against must-revalidate", "Cache-Control: max-age=1800, must-revalidate\nAge: 3600\nETag: \"a\"", "Cache-Control: max-stale", Validated),
            asked("max-stale against proxy-revalidate", "Cache-Control: max-age=1800, proxy-revalidate\nAge: 3600\nETag: \"a\"", "Cache-Control: max-stale", Validated),
            asked("max-stale against s-maxage", "Cache-Control: s-maxage=1800\nAge: 3600\nETag: \"a\"", "Cache-Control: max-stale", Validated),
            asked("max-stale against no-cache", "Cache-Control: no-cache, max-age=60\nETag: \"a\"", "Cache-Control: max-stale", Validated),
            asked("no-store is not answered from the store", FRESH, "Cache-Control: no-store", Fetched),
            Row::of("no-store is not stored", FRESH, "Cache-Control: no-store", "", Fetched),
            asked("only-if-cached and stored", FRESH, "Cache-Control: only-if-cached", Reused),
            asked("only-if-cached with max-stale", STALE, "Cache-Control: only-if-cached, max-stale", Stale),
            asked("unknown", FRESH, "Cache-Control: foo=bar", Reused),
            asked("no-transform", FRESH, "Cache-Control: no-transform", Reused),
        ]);
        // The same requests change nothing where the route ignores them.
        let ignored = |name, second| Row::of(name, FRESH, "", second, Reused);
        tiers.stage(&[]).run(&[
            ignored("no-cache", "Cache-Control: no-cache"),
            ignored("no-store", "Cache-Control: no-store"),
            ignored("max-age=0", "Cache-Control: max-age=0"),
            ignored("min-fresh", "Cache-Control: min-fresh=7200"),
            ignored("only-if-cached", "Cache-Control: only-if-cached"),
            ignored("Pragma", "Pragma: no-cache"),
            Row::of("max-stale", STALE, "", "Cache-Control: max-stale", Validated),
        ]);
    }

    /// RFC 9111 5.2.1.7: a stored answer, or 504 and nothing asked of the origin.
    fn only_if_cached(tiers: Tiers) {
        let stage = tiers.stage(RESPECT);
        stage.versions("/nothing", FRESH);
        stage.versions("/stale", STALE);
        stage.versions("/vary", "Cache-Control: max-age=60\nVary: Foo");
        stage.fetch("/stale", "").expect(200, "MISS", "v1");
        stage.fetch("/vary", "Foo: 1\r\n").expect(200, "MISS", "v1");
        for (target, lines) in [("/nothing", ""), ("/stale", ""), ("/vary", "Foo: 2\r\n")] {
            for method in ["GET", "HEAD"] {
                let before = stage.origin.count(target);
                let answer = stage.ask(method, target, &format!("{lines}Cache-Control: only-if-cached\r\n"));
                assert_eq!(answer.status, 504, "{method} {target}");
                assert_eq!(stage.origin.count(target), before, "{method} {target}");
            }
        }
    }

    /// RFC 5861 4: a client may accept a stale answer for an error, never against a prohibition.
    fn stale_if_error_of_a_request(tiers: Tiers) {
        let stage = tiers.stage(RESPECT);
        for (target, lines, status) in [("/plain", STALE, 200), ("/strict", "Cache-Control: max-age=1800, must-revalidate\nAge: 3600\nETag: \"a\"", 503)] {
            stage.origin.on(target, move |exchange| {
                let reply = if exchange.nth() == 1 { with(Reply::ok("old"), lines) } else { Reply::new(503).body("failed") };
                exchange.reply(&reply);
            });
            stage.fetch(target, "").expect(200, "MISS", "old");
            assert_eq!(stage.fetch(target, "Cache-Control: stale-if-error=7200\r\n").status, status, "{target}");
        }
    }
}
