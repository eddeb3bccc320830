//! RFC 9213: directives for this cache alone.

use super::stage::Then::*;
use super::stage::*;

both_tiers! {
    fn a_targeted_field_governs(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("alone", "CDN-Cache-Control: max-age=60", Reused),
            row("before no-store", "CDN-Cache-Control: max-age=60\nCache-Control: no-store", Reused),
            row("before private", "CDN-Cache-Control: max-age=60\nCache-Control: private", Reused),
            row("before max-age=0", "CDN-Cache-Control: max-age=60\nCache-Control: max-age=0", Reused),
            row("before s-maxage=0", "CDN-Cache-Control: max-age=60\nCache-Control: s-maxage=0", Reused),
            row("before Expires past", "CDN-Cache-Control: max-age=60\nExpires: {-60}", Reused),
            row("before Expires 0", "CDN-Cache-Control: max-age=60\nExpires: 0", Reused),
            row("longer than Cache-Control", "CDN-Cache-Control: max-age=60\nCache-Control: max-age=1\nAge: 30", Reused),
            row("shorter than Cache-Control", "CDN-Cache-Control: max-age=1\nCache-Control: max-age=60\nAge: 30", Fetched),
            row("zero before Cache-Control", "CDN-Cache-Control: max-age=0\nCache-Control: max-age=60", Fetched),
            row("no-store before Cache-Control", "CDN-Cache-Control: no-store\nCache-Control: max-age=60", Fetched),
            row("private before Cache-Control", "CDN-Cache-Control: private\nCache-Control: max-age=60", Fetched),
            row("no-cache before Cache-Control", "CDN-Cache-Control: no-cache\nCache-Control: max-age=60\nETag: \"a\"", Validated),
            row("no lifetime: Cache-Control's is not taken", "CDN-Cache-Control: foo\nCache-Control: max-age=60", Fetched),
            row("no lifetime: Expires is not taken", "CDN-Cache-Control: foo\nExpires: {+60}", Fetched),
            row("s-maxage of its own", "CDN-Cache-Control: s-maxage=60, max-age=1\nAge: 30", Reused),
            row("Age counts", "CDN-Cache-Control: max-age=60\nAge: 60", Fetched),
            row("two lines", "CDN-Cache-Control: foo\nCDN-Cache-Control: max-age=60\nCache-Control: no-store", Reused),
            row("parameters", "CDN-Cache-Control: max-age=60;foo=bar;baz\nCache-Control: no-store", Reused),
            row("unknown neighbours", "CDN-Cache-Control: foo, max-age=60, bar=\"baz\"\nCache-Control: no-store", Reused),
            row("inner lists beside", "CDN-Cache-Control: a=(1 2), max-age=60\nCache-Control: no-store", Reused),
            row("blanks after the comma", "CDN-Cache-Control: foo,   max-age=60\nCache-Control: no-store", Reused),
            row("of a repeated name the last", "CDN-Cache-Control: max-age=0, max-age=60\nCache-Control: no-store", Reused),
            row("of a repeated name the last, zero", "CDN-Cache-Control: max-age=60, max-age=0\nCache-Control: max-age=60", Fetched),
            row("no-store=?0 is none", "CDN-Cache-Control: no-store=?0, max-age=60", Reused),
            row("another's target", "Example-Cache-Control: no-store\nCache-Control: max-age=60", Reused),
            row("Surrogate-Control means nothing", "Surrogate-Control: max-age=60", Fetched),
        ]);
    }

    /// RFC 9213 2.1: what does not parse is as if it were not there.
    fn an_invalid_targeted_field_is_absent(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("empty", "CDN-Cache-Control:\nCache-Control: max-age=60", Reused),
            row("an unknown character", "CDN-Cache-Control: max-age=60, &&&\nCache-Control: no-store", Fetched),
            row("an unknown character, permitted below", "CDN-Cache-Control: no-store, &&&\nCache-Control: max-age=60", Reused),
            row("upper case", "CDN-Cache-Control: Max-Age=60\nCache-Control: no-store", Fetched),
            row("blank around =", "CDN-Cache-Control: max-age = 60\nCache-Control: no-store", Fetched),
            row("a comma at the end", "CDN-Cache-Control: max-age=60,\nCache-Control: no-store", Fetched),
            row("an empty member", "CDN-Cache-Control: max-age=60,,foo\nCache-Control: no-store", Fetched),
            row("an open quote", "CDN-Cache-Control: max-age=60, a=\"b\nCache-Control: no-store", Fetched),
            row("a number too long", "CDN-Cache-Control: max-age=1234567890123456\nCache-Control: max-age=60", Reused),
        ]);
    }

    /// RFC 9213 2.1: a value of the wrong type is not used.
    fn a_lifetime_of_another_type_is_none(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("a string", "CDN-Cache-Control: max-age=\"60\"\nCache-Control: no-store", Fetched),
            row("a decimal", "CDN-Cache-Control: max-age=60.0\nCache-Control: no-store", Fetched),
            row("a token", "CDN-Cache-Control: max-age=soon\nCache-Control: no-store", Fetched),
            row("a boolean", "CDN-Cache-Control: max-age\nCache-Control: no-store", Fetched),
            row("negative", "CDN-Cache-Control: max-age=-60\nCache-Control: no-store", Fetched),
        ]);
    }

    fn our_own_field_comes_before_the_cdns(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.run(&[
            row("permits", "Forebay-Cache-Control: max-age=60\nCDN-Cache-Control: no-store", Reused),
            row("forbids", "Forebay-Cache-Control: no-store\nCDN-Cache-Control: max-age=60", Fetched),
            row("invalid", "Forebay-Cache-Control: &&\nCDN-Cache-Control: max-age=60", Reused),
            row("empty", "Forebay-Cache-Control:\nCDN-Cache-Control: max-age=60\nCache-Control: no-store", Reused),
        ]);
        // Clients, and the caches between, see every field as the origin sent it.
        let lines = "CDN-Cache-Control: max-age=60\nCache-Control: no-store, private\nExpires: 0";
        stage.versions("/seen", lines);
        for x_cache in ["MISS", "HIT"] {
            let answer = stage.fetch("/seen", "");
            answer.expect(200, x_cache, "v1");
            let seen = ["cdn-cache-control", "cache-control", "expires"].map(|name| answer.field(name));
            assert_eq!(seen, [Some("max-age=60"), Some("no-store, private"), Some("0")], "{x_cache}");
        }
    }
}
