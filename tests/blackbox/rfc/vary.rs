//! RFC 9111 4.1: which stored response a request selects.

use super::stage::Then::*;
use super::stage::*;
use crate::support::*;

both_tiers! {
    fn which_requests_match(tiers: Tiers) {
        const FOO: &str = "Cache-Control: max-age=60\nVary: Foo";
        let two = |name, vary, first, second, then| Row::of(name, vary, first, second, then);
        tiers.stage(&[]).run(&[
            two("the same", FOO, "Foo: 1", "Foo: 1", Reused),
            two("another value", FOO, "Foo: 1", "Foo: 2", Fetched),
            two("absent from both", FOO, "", "", Reused),
            two("absent from the first", FOO, "", "Foo: 1", Fetched),
            two("absent from the second", FOO, "Foo: 1", "", Fetched),
            two("empty is not absent", FOO, "Foo:", "", Fetched),
            two("empty in both", FOO, "Foo:", "Foo:", Reused),
            two("case of the name", FOO, "foo: 1", "FOO: 1", Reused),
            two("case of Vary", "Cache-Control: max-age=60\nvary: fOO", "Foo: 1", "Foo: 2", Fetched),
            two("case of the value", FOO, "Foo: a", "Foo: A", Fetched),
            two("white space around", FOO, "Foo: 1", "Foo:  1  ", Reused),
            two("white space around a comma", FOO, "Foo: 1,2", "Foo: 1 ,  2", Reused),
            two("lines are a list", FOO, "Foo: 1, 2", "Foo: 1\nFoo: 2", Reused),
            two("lines in another order", FOO, "Foo: 1\nFoo: 2", "Foo: 2\nFoo: 1", Fetched),
            two("a list in another order", FOO, "Foo: 1, 2", "Foo: 2, 1", Fetched),
            two("a prefix", FOO, "Foo: 1", "Foo: 12", Fetched),
            two("inside quotes blanks count", FOO, "Foo: \"a, b\"", "Foo: \"a,b\"", Fetched),
            two("another field does not matter", FOO, "Foo: 1\nOther: 2", "Foo: 1\nOther: 3", Reused),
            two("a name that begins alike", FOO, "Foo: 1\nFood: 2", "Foo: 1\nFood: 3", Reused),
            two("two names, both same", "Cache-Control: max-age=60\nVary: Foo, Bar", "Foo: 1\nBar: 2", "Bar: 2\nFoo: 1", Reused),
            two("two names, one differs", "Cache-Control: max-age=60\nVary: Foo, Bar", "Foo: 1\nBar: 2", "Foo: 1\nBar: 3", Fetched),
            two("two names, exchanged", "Cache-Control: max-age=60\nVary: Foo, Bar", "Foo: 1\nBar: 2", "Foo: 2\nBar: 1", Fetched),
            two("two lines", "Cache-Control: max-age=60\nVary: Foo\nVary: Bar", "Foo: 1\nBar: 2", "Foo: 1\nBar: 3", Fetched),
            two("two lines, both same", "Cache-Control: max-age=60\nVary: Foo\nVary: Bar", "Foo: 1\nBar: 2", "Foo: 1\nBar: 2", Reused),
            two("three names", "Cache-Control: max-age=60\nVary: Foo, Bar,Baz", "Foo: 1\nBaz: 3", "Foo: 1\nBar: 2\nBaz: 3", Fetched),
            two("empty members", "Cache-Control: max-age=60\nVary: , Foo ,,", "Foo: 1", "Foo: 2", Fetched),
            two("empty members, same", "Cache-Control: max-age=60\nVary: , Foo ,,", "Foo: 1", "Foo: 1", Reused),
            two("an empty Vary", "Cache-Control: max-age=60\nVary:", "Foo: 1", "Foo: 2", Reused),
            two("a star", "Cache-Control: max-age=60\nVary: *", "", "", Fetched),
            two("a star first", "Cache-Control: max-age=60\nVary: *, Foo", "Foo: 1", "Foo: 1", Fetched),
            two("a star last", "Cache-Control: max-age=60\nVary: Foo, *", "Foo: 1", "Foo: 1", Fetched),
            two("a star on a line of its own", "Cache-Control: max-age=60\nVary: Foo\nVary: *", "Foo: 1", "Foo: 1", Fetched),
            two("a star and ETag", "Cache-Control: max-age=60\nVary: *\nETag: \"a\"", "", "", Fetched),
            two("no name at all", "Cache-Control: max-age=60\nVary: \"Foo\"", "Foo: 1", "Foo: 1", Fetched),
            two("Cookie", "Cache-Control: max-age=60\nVary: Cookie", "Cookie: a=1", "Cookie: a=2", Fetched),
            two("Cookie, same", "Cache-Control: max-age=60\nVary: Cookie", "Cookie: a=1", "Cookie: a=1", Reused),
            two("User-Agent", "Cache-Control: max-age=60\nVary: User-Agent", "User-Agent: a", "User-Agent: b", Fetched),
            two("Host is part of the key already", "Cache-Control: max-age=60\nVary: Host", "", "", Reused),
            two("Origin", "Cache-Control: max-age=60\nVary: Origin", "Origin: http://a", "Origin: http://b", Fetched),
        ]);
    }

    /// RFC 9111 4.1: normalised as the field's own definition allows; the origin sees what was sent.
    fn negotiation_fields_are_normalised(tiers: Tiers) {
        const LANGUAGE: &str = "Cache-Control: max-age=60\nVary: Accept-Language";
        const ENCODING: &str = "Cache-Control: max-age=60\nVary: Accept-Encoding";
        const TYPE: &str = "Cache-Control: max-age=60\nVary: Accept";
        let rows = [
            Row::of("languages in another case", LANGUAGE, "Accept-Language: en-US", "Accept-Language: EN-us", Reused),
            Row::of("blanks between languages", LANGUAGE, "Accept-Language: en, de;q=0.5", "Accept-Language: en,de; q=0.5", Reused),
            Row::of("lines of languages", LANGUAGE, "Accept-Language: en, de", "Accept-Language: en\nAccept-Language: de", Reused),
            Row::of("other languages", LANGUAGE, "Accept-Language: en", "Accept-Language: de", Fetched),
            Row::of("preference between languages", LANGUAGE, "Accept-Language: en, de", "Accept-Language: de, en", Fetched),
            Row::of("codings in another order", ENCODING, "Accept-Encoding: gzip, br", "Accept-Encoding: br,gzip", Reused),
            Row::of("codings in another case", ENCODING, "Accept-Encoding: gzip", "Accept-Encoding: GZip", Reused),
            Row::of("weights of codings", ENCODING, "Accept-Encoding: gzip;q=1.0, br;q=0.8", "Accept-Encoding: br, gzip", Reused),
            Row::of("a coding that is refused", ENCODING, "Accept-Encoding: gzip", "Accept-Encoding: gzip;q=0", Fetched),
            Row::of("other codings", ENCODING, "Accept-Encoding: gzip", "Accept-Encoding: br", Fetched),
            Row::of("no coding", ENCODING, "Accept-Encoding: gzip", "", Fetched),
            Row::of("media types in another case", TYPE, "Accept: text/HTML", "Accept: Text/html", Reused),
            Row::of("other media types", TYPE, "Accept: text/html", "Accept: text/plain", Fetched),
        ];
        let stage = tiers.stage(&[]);
        stage.run(&rows);
        assert_eq!(stage.origin.last("/2").field("accept-language"), Some("en, de"));
        assert_eq!(stage.origin.last("/7").field("accept-encoding"), Some("gzip;q=1.0, br;q=0.8"));
    }

    /// The values that select are those the origin was sent, also of the fields that forebay sends.
    fn fields_of_our_own_select_as_the_origin_saw_them(tiers: Tiers) {
        let stage = tiers.stage(&["client_cache_control = \"respect\""]);
        let fields = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via", "Host", "TE"];
        for field in fields {
            let target = format!("/{field}");
            stage.origin.on(&target, move |exchange| {
                let reply = Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60").field("Vary", field);
                exchange.reply(&reply);
            });
            stage.fetch(&target, "").expect(200, "MISS", "v1");
            stage.fetch(&target, "").expect(200, "HIT", "v1");
            stage.fetch(&target, "Cache-Control: only-if-cached\r\n").expect(200, "HIT", "v1");
        }
        // What strangers claim is replaced before the origin sees it: it selects nothing.
        for claim in ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: other.example"] {
            let target = format!("/{}", claim.split(':').next().unwrap_or_default());
            stage.fetch(&target, &crlf(claim)).expect(200, "HIT", "v1");
        }
        // Via of another hop is passed on, and so is another value.
        stage.fetch("/Via", "Via: 1.1 other\r\n").expect(200, "MISS", "v2");
        stage.fetch("/Via", "Via: 1.1 other\r\n").expect(200, "HIT", "v2");
        stage.fetch("/Via", "").expect(200, "HIT", "v1");
    }

    /// What Connection nominates never reaches the origin, and selects nothing.
    fn nominated_fields_select_nothing(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.versions("/p", "Cache-Control: max-age=60\nVary: Foo");
        stage.fetch("/p", "").expect(200, "MISS", "v1");
        stage.fetch("/p", "Foo: 1\r\nConnection: foo\r\n").expect(200, "HIT", "v1");
        stage.fetch("/p", "Foo: 1\r\n").expect(200, "MISS", "v2");
    }

    fn any_number_of_variants_and_the_most_recent_selected(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            let value = exchange.head().field("foo").unwrap_or("none").to_owned();
            exchange.reply(&Reply::ok(format!("{value} {}", exchange.nth())).cache("max-age=60").field("Vary", "Foo"));
        });
        for at in 1..=12 {
            stage.fetch("/p", &format!("Foo: {at}\r\n")).expect(200, "MISS", &format!("{at} {at}"));
        }
        stage.fetch("/p", "").expect(200, "MISS", "none 13");
        for at in (1..=12).rev() {
            stage.fetch("/p", &format!("Foo: {at}\r\n")).expect(200, "HIT", &format!("{at} {at}"));
        }
        // Another Vary on the same key: of what both select, the later one answers.
        stage.origin.on("/q", |exchange| {
            let vary = if exchange.nth() == 1 { "Foo" } else { "Bar" };
            exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60").field("Vary", vary));
        });
        stage.fetch("/q", "Foo: 1\r\nBar: 1\r\n").expect(200, "MISS", "v1");
        pass(std::time::Duration::from_millis(5));
        stage.fetch("/q", "Foo: 2\r\nBar: 2\r\n").expect(200, "MISS", "v2");
        stage.fetch("/q", "Foo: 1\r\nBar: 2\r\n").expect(200, "HIT", "v2");
        stage.fetch("/q", "Foo: 1\r\nBar: 1\r\n").expect(200, "HIT", "v1");
    }

    /// A response without Vary after one with it answers everyone: it is the most recent.
    fn vary_may_come_and_go(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            let reply = Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60");
            exchange.reply(&if exchange.nth() == 1 { reply.field("Vary", "Foo") } else { reply });
        });
        stage.fetch("/p", "Foo: 1\r\n").expect(200, "MISS", "v1");
        stage.fetch("/p", "Foo: 2\r\n").expect(200, "MISS", "v2");
        stage.fetch("/p", "Foo: 3\r\n").expect(200, "HIT", "v2");
        stage.fetch("/p", "Foo: 1\r\n").expect(200, "HIT", "v2");
    }
}
