//! `Cache-Status` (RFC 9211): one member of ours, after those of the caches nearer to the origin.

use super::stage::*;
use crate::support::*;

/// The parameters of our member, which is the last one; and how many members there are.
fn told(answer: &Answer) -> (usize, Vec<String>) {
    let members: Vec<String> =
        answer.head.all("cache-status").join(", ").split(", ").map(str::to_owned).collect();
    let ours = answer.cache_status();
    let mut parameters = ours.split("; ").map(str::to_owned);
    assert_eq!(parameters.next().as_deref(), Some("forebay"), "{members:?}");
    (members.len(), parameters.filter(|parameter| !parameter.starts_with("ttl=")).collect())
}

both_tiers! {
    fn what_is_told_of_each_way(tiers: Tiers) {
        let stage = tiers.stage(&["client_cache_control = \"respect\""]);
        stage.versions("/fresh", "Cache-Control: max-age=60");
        stage.versions("/stale", "Cache-Control: max-age=60\nAge: 60\nETag: \"a\"");
        stage.versions("/no-store", "Cache-Control: no-store");
        stage.versions("/vary", "Cache-Control: max-age=60\nVary: Foo");
        stage.versions("/renewed", "Cache-Control: max-age=60, stale-while-revalidate=600\nAge: 60");
        let hit = format!("detail={}", tiers.label());
        let rows: &[(&str, &str, &str, &[&str])] = &[
            ("GET", "/fresh", "", &["fwd=uri-miss", "fwd-status=200", "stored", "detail=nothing-stored"]),
            ("GET", "/fresh", "", &["hit", &hit]),
            ("HEAD", "/fresh", "", &["hit", &hit]),
            ("GET", "/fresh", "Cache-Control: no-cache", &["fwd=request", "fwd-status=200", "stored", "detail=request-wants-validation"]),
            ("POST", "/fresh", "Content-Length: 0", &["fwd=method", "fwd-status=200", "detail=method-not-cacheable"]),
            ("GET", "/stale", "", &["fwd=uri-miss", "fwd-status=200", "stored", "detail=nothing-stored"]),
            ("GET", "/stale", "", &["fwd=stale", "fwd-status=304", "stored", "detail=stale"]),
            ("GET", "/vary", "Foo: 1", &["fwd=uri-miss", "fwd-status=200", "stored", "detail=nothing-stored"]),
            ("GET", "/vary", "Foo: 2", &["fwd=vary-miss", "fwd-status=200", "stored", "detail=no-variant-matches"]),
            ("GET", "/no-store", "", &["fwd=uri-miss", "fwd-status=200", "detail=no-store"]),
            ("GET", "/renewed", "", &["fwd=uri-miss", "fwd-status=200", "stored", "detail=nothing-stored"]),
            ("GET", "/renewed", "", &["hit", "detail=stale-while-revalidate"]),
        ];
        for (at, (method, target, lines, expected)) in rows.iter().enumerate() {
            let (members, parameters) = told(&stage.ask(method, target, &crlf(lines)));
            assert_eq!(members, 1, "row {at}: {method} {target}");
            assert_eq!(parameters, *expected, "row {at}: {method} {target} {lines}");
        }
    }

    fn ttl_is_what_is_left_and_negative_when_stale(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.versions("/fresh", "Cache-Control: max-age=1000\nAge: 100");
        stage.versions("/stale", "Cache-Control: max-age=1000, stale-while-revalidate=100000\nAge: 3000");
        stage.fetch("/fresh", "");
        stage.fetch("/stale", "");
        assert!(stage.fetch("/fresh", "").ttl().is_some_and(|ttl| (850..=900).contains(&ttl)));
        assert!(stage.fetch("/stale", "").ttl().is_some_and(|ttl| (-2050..=-2000).contains(&ttl)));
    }

    fn members_of_caches_nearer_to_the_origin_stay_before_ours(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let rows: &[(&str, &str)] = &[("max-age=60", "MISS"), ("max-age=60", "HIT"), ("no-store", "MISS")];
        for (at, (directives, x_cache)) in rows.iter().copied().enumerate() {
            let target = format!("/{directives}");
            stage.origin.on(&target, move |exchange| {
                let reply = Reply::ok("v").cache(directives).field("Cache-Status", "inner; hit").field("Cache-Status", "outer; fwd=stale");
                exchange.reply(&reply);
            });
            let answer = stage.fetch(&target, "");
            assert_eq!(answer.x_cache(), x_cache, "row {at}");
            assert_eq!(told(&answer).0, 3, "row {at}: {:?}", answer.head.all("cache-status"));
            assert!(answer.head.all("cache-status").join(", ").starts_with("inner; hit, outer; fwd=stale, forebay; "));
        }
    }

    /// What the proxy says by itself names no cache that had a part in it.
    fn refusals_and_failures_carry_none(tiers: Tiers) {
        let stage = tiers.stage(&["client_cache_control = \"respect\""]);
        stage.origin.on("/reset", |exchange| exchange.reset());
        let answers = [
            (400, stage.send("GET /p HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")),
            (504, stage.get_with("/p", "Cache-Control: only-if-cached\r\n")),
        ];
        for (status, answer) in answers {
            assert_eq!((answer.status, answer.head.all("cache-status").len()), (status, 0), "{:?}", answer.head.fields);
            assert_eq!(answer.field("x-cache"), None);
        }
        let failed = stage.get("/reset");
        assert_eq!((failed.status, failed.field("x-cache")), (502, None));
        assert_eq!(failed.head.all("cache-status").len(), 0, "{:?}", failed.head.fields);
    }
}
