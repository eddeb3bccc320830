//! RFC 9111 3, 4.2: which responses are fresh, by whose word, and for which statuses.

use super::stage::Then::*;
use super::stage::*;

both_tiers! {
    fn the_first_word_on_freshness_decides(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("nothing is said", "", Fetched),
            row("only a validator", "ETag: \"a\"", Fetched),
            row("only Last-Modified", "Last-Modified: {-864000}", Fetched),
            row("max-age", "Cache-Control: max-age=3600", Reused),
            row("max-age zero", "Cache-Control: max-age=0", Fetched),
            row("max-age zero with ETag", "Cache-Control: max-age=0\nETag: \"a\"", Validated),
            row("max-age over", "Cache-Control: max-age=60\nAge: 60", Fetched),
            row("max-age nearly over", "Cache-Control: max-age=60\nAge: 30", Reused),
            row("max-age over, by Date", "Cache-Control: max-age=60\nDate: {-61}", Fetched),
            row("max-age not over, by Date", "Cache-Control: max-age=60\nDate: {-30}", Reused),
            row("s-maxage", "Cache-Control: s-maxage=3600", Reused),
            row("s-maxage longer", "Cache-Control: max-age=1, s-maxage=3600\nAge: 30", Reused),
            row("s-maxage shorter", "Cache-Control: max-age=3600, s-maxage=1\nAge: 30", Fetched),
            row("s-maxage shorter, first", "Cache-Control: s-maxage=1, max-age=3600\nAge: 30", Fetched),
            row("s-maxage over, ETag", "Cache-Control: s-maxage=1\nAge: 30\nETag: \"a\"", Validated),
            row("s-maxage before Expires", "Cache-Control: s-maxage=3600\nExpires: {-60}", Reused),
            row("Expires ahead", "Expires: {+3600}", Reused),
            row("Expires past", "Expires: {-3600}", Fetched),
            row("Expires past, ETag", "Expires: {-3600}\nETag: \"a\"", Validated),
            row("Expires is Date", "Expires: {+0}\nDate: {+0}", Fetched),
            row("Expires counts from Date", "Expires: {+30}\nDate: {-30}", Reused),
            row("Expires ahead but Age more", "Expires: {+60}\nAge: 120", Fetched),
            row("Expires ahead and Age less", "Expires: {+60}\nAge: 10", Reused),
            row("Date ahead of us", "Expires: {+7200}\nDate: {+3600}", Reused),
            row("Expires before a Date ahead", "Expires: {+1800}\nDate: {+3600}", Fetched),
            row("max-age before Expires past", "Cache-Control: max-age=3600\nExpires: {-3600}", Reused),
            row("max-age before Expires of today", "Cache-Control: max-age=3600\nExpires: {+0}", Reused),
            row("max-age before Expires that is none", "Cache-Control: max-age=3600\nExpires: 0", Reused),
            row("max-age zero before Expires ahead", "Cache-Control: max-age=0\nExpires: {+3600}", Fetched),
            row("max-age over before Expires ahead", "Cache-Control: max-age=1\nAge: 9\nExpires: {+3600}", Fetched),
            row("other directives leave Expires", "Cache-Control: public\nExpires: {+3600}", Reused),
            row("a response directive of requests", "Cache-Control: min-fresh=60, max-age=3600", Reused),
            row("immutable alone is no lifetime", "Cache-Control: immutable", Fetched),
            row("public alone is no lifetime", "Cache-Control: public", Fetched),
            row("no Date at all", "Cache-Control: max-age=60\nDate: none", Reused),
            row("Expires and no Date", "Expires: {+60}\nDate: none", Reused),
            row("Expires past and no Date", "Expires: {-60}\nDate: none", Fetched),
            row("a Date that is none", "Cache-Control: max-age=60\nDate: yesterday", Reused),
        ]);
    }

    fn every_final_status_with_explicit_freshness_is_stored(tiers: Tiers) {
        const FRESH: &str = "Cache-Control: max-age=3600";
        let statuses = [
            200, 201, 202, 203, 204, 205, 226, 299, 300, 301, 302, 303, 307, 308, 399, 400, 401, 402, 403,
            404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 417, 422, 423, 424, 425, 426, 451, 499, 500,
            501, 502, 503, 504, 505, 508, 599,
        ];
        let named = |status, lines, then| row("explicit", lines, then).status(status);
        let stage = tiers.stage(&[]);
        stage.run(&statuses.map(|status| named(status, FRESH, Reused)));
        // The same with nothing but old age between them and reuse, and with nothing said at all.
        let stage = tiers.stage(&[]);
        stage.run(&statuses.map(|status| named(status, "Cache-Control: max-age=60\nAge: 60", Fetched)));
        let stage = tiers.stage(&[]);
        stage.run(&statuses.map(|status| named(status, "", Fetched)));
    }

    fn statuses_that_speak_of_one_request_are_not_stored(tiers: Tiers) {
        let statuses = [304, 407, 412, 416, 421, 428, 429, 431, 511];
        let rows = statuses.map(|status| row("one request's", "Cache-Control: max-age=60", Fetched).status(status));
        tiers.stage(&[]).run(&rows);
    }

    /// RFC 9111 4.2.2, where the route allows it.
    fn heuristics(tiers: Tiers) {
        const OLD: &str = "Last-Modified: {-864000}";
        let stored = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
        let not = [201, 202, 205, 299, 302, 303, 307, 400, 401, 403, 409, 451, 499, 500, 502, 503, 504, 599];
        let mut rows: Vec<_> = stored.map(|status| row("by heuristics", OLD, Reused).status(status)).into();
        rows.extend(not.map(|status| row("not by heuristics", OLD, Fetched).status(status)));
        rows.extend([
            row("no Last-Modified", "ETag: \"a\"", Fetched),
            row("Last-Modified ahead", "Last-Modified: {+3600}", Validated),
            row("Last-Modified that is none", "Last-Modified: long ago", Fetched),
            row("a tenth is over by Age", "Last-Modified: {-1000}\nAge: 200", Validated),
            row("a tenth is not over by Age", "Last-Modified: {-1000}\nAge: 20", Reused),
            row("an explicit zero wins", "Last-Modified: {-864000}\nCache-Control: max-age=0", Validated),
            row("an explicit past wins", "Last-Modified: {-864000}\nExpires: {-60}", Validated),
            row("Expires that is none wins", "Last-Modified: {-864000}\nExpires: 0", Validated),
            row("no-store wins", "Last-Modified: {-864000}\nCache-Control: no-store", Fetched),
            row("private wins", "Last-Modified: {-864000}\nCache-Control: private", Fetched),
            row("unknown directives do not matter", "Last-Modified: {-864000}\nCache-Control: foo=1", Reused),
            row("public opens a status", "Last-Modified: {-864000}\nCache-Control: public", Reused).status(599),
        ]);
        tiers.stage(&["heuristic = true"]).run(&rows);
    }

    /// RFC 9111 5.4: Pragma is a request field; a response's means nothing.
    fn pragma_of_a_response_means_nothing(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("beside max-age", "Cache-Control: max-age=60\nPragma: no-cache", Reused),
            row("beside Expires", "Expires: {+60}\nPragma: no-cache", Reused),
            row("alone", "Pragma: no-cache", Fetched),
            row("of the request, ignored", "Cache-Control: max-age=60", Reused).then_asked("Pragma: no-cache"),
        ]);
    }
}
