//! RFC 9111 4.2.3, 5.1: how old a response is, and what `Age` says.

use super::stage::Then::*;
use super::stage::*;
use crate::support::*;

both_tiers! {
    fn age_in_every_form(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("old", "Cache-Control: max-age=3600\nAge: 7200", Fetched),
            row("exactly", "Cache-Control: max-age=3600\nAge: 3600", Fetched),
            row("young", "Cache-Control: max-age=3600\nAge: 1800", Reused),
            row("zero", "Cache-Control: max-age=3600\nAge: 0", Reused),
            row("empty", "Cache-Control: max-age=3600\nAge:", Reused),
            row("leading zeros", "Cache-Control: max-age=3600\nAge: 007200", Fetched),
            row("2^31", "Cache-Control: max-age=3600\nAge: 2147483648", Fetched),
            row("2^32", "Cache-Control: max-age=3600\nAge: 4294967296", Fetched),
            row("2^64", "Cache-Control: max-age=3600\nAge: 18446744073709551616", Fetched),
            row("2^31 on both sides", "Cache-Control: max-age=99999999999\nAge: 99999999999", Fetched),
            row("negative is ignored", "Cache-Control: max-age=3600\nAge: -7200", Reused),
            row("decimal is ignored", "Cache-Control: max-age=3600\nAge: 7200.0", Reused),
            row("letters are ignored", "Cache-Control: max-age=3600\nAge: abc", Reused),
            row("a letter before", "Cache-Control: max-age=3600\nAge: a7200", Reused),
            row("a letter after", "Cache-Control: max-age=3600\nAge: 7200a", Reused),
            row("quoted is ignored", "Cache-Control: max-age=3600\nAge: \"7200\"", Reused),
            row("the first of a list, old", "Cache-Control: max-age=3600\nAge: 7200, 0", Fetched),
            row("the first of a list, young", "Cache-Control: max-age=3600\nAge: 0, 7200", Reused),
            row("the first of two lines, old", "Cache-Control: max-age=3600\nAge: 7200\nAge: 0", Fetched),
            row("the first of two lines, young", "Cache-Control: max-age=3600\nAge: 0\nAge: 7200", Reused),
            row("Date is older than Age", "Cache-Control: max-age=3600\nDate: {-7200}\nAge: 1", Fetched),
            row("Age is older than Date", "Cache-Control: max-age=3600\nDate: {-1}\nAge: 7200", Fetched),
            row("both are young", "Cache-Control: max-age=3600\nDate: {-1}\nAge: 1", Reused),
            row("s-maxage too", "Cache-Control: s-maxage=3600\nAge: 7200", Fetched),
            row("Expires too", "Expires: {+3600}\nAge: 7200", Fetched),
        ]);
    }

    fn age_is_generated_on_reuse(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let rows = [
            ("", 0),
            ("Age: 100", 100),
            ("Date: {-200}", 200),
            ("Date: {-200}\nAge: 100", 200),
            ("Date: {-100}\nAge: 200", 200),
            ("Age: 300, 100", 300),
            ("Age: 300\nAge: 100", 300),
            ("Age: x", 0),
            ("Age: -100", 0),
            ("Date: {+100}", 0),
            ("Date: none", 0),
            ("Date: none\nAge: 50", 50),
        ];
        for (at, (lines, least)) in rows.into_iter().enumerate() {
            let target = format!("/{at}");
            let lines = format!("{lines}\nCache-Control: max-age=10000");
            stage.origin.on(&target, move |exchange| exchange.reply(&with(Reply::ok("v"), &lines)));
            stage.fetch(&target, "").expect(200, "MISS", "v");
            let hit = stage.fetch(&target, "");
            hit.expect(200, "HIT", "v");
            assert_eq!(hit.head.all("age").len(), 1, "row {at}: one Age");
            let age = hit.age().expect("a reused response has an Age");
            assert!((least..least + 30).contains(&age), "row {at}: Age {age}, expected {least}");
            let ttl = hit.ttl().expect("ttl");
            assert!((9999..=10000).contains(&(ttl + age as i64)), "row {at}: ttl {ttl}, Age {age}");
        }
    }

    fn a_first_answer_keeps_the_age_it_came_with(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.versions("/old", "Cache-Control: max-age=100\nAge: 42");
        stage.versions("/new", "Cache-Control: max-age=100");
        stage.versions("/unstored", "Cache-Control: no-store\nAge: 42");
        assert!(stage.fetch("/old", "").age().is_some_and(|age| (42..60).contains(&age)));
        assert_eq!(stage.fetch("/new", "").age().unwrap_or(0), 0);
        assert_eq!(stage.fetch("/unstored", "").age(), Some(42));
    }

    /// RFC 9110 6.6.1: the origin's Date is never rewritten; one that is missing is what it arrived at.
    fn date_is_the_origins(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let own = date(-100);
        let sent = own.clone();
        stage.origin.on("/own", move |exchange| {
            exchange.reply(&Reply::ok("v").without_date().field("Date", &sent).cache("max-age=3600"));
        });
        for x_cache in ["MISS", "HIT", "HIT"] {
            let answer = stage.fetch("/own", "");
            answer.expect(200, x_cache, "v");
            assert_eq!(answer.head.all("date"), [own.as_str()]);
        }
        for (target, directives) in [("/stored", "max-age=60"), ("/passed", "no-store")] {
            stage.origin.on(target, move |exchange| exchange.reply(&Reply::ok("v").without_date().cache(directives)));
            assert_eq!(stage.fetch(target, "").head.all("date").len(), 1, "{target}");
        }
        let first = stage.fetch("/stored", "");
        pass(std::time::Duration::from_millis(1100));
        let later = stage.fetch("/stored", "");
        assert_eq!((later.x_cache(), later.field("date")), ("HIT", first.field("date")));
        assert!(later.age() >= Some(1));
    }
}
