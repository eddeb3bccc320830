//! HTTP-date (RFC 9110 5.6.7): what is read is written and read again as the same moment.

#![no_main]

use forebay::semantics::UnixMillis;
use forebay::semantics::http_date::{format, parse, parse_value};
use forebay_fuzz::number;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (now, text) = number(data);
    let now = UnixMillis(now);
    if let Some(moment) = parse(text, now) {
        assert_eq!(moment.0 % 1000, 0);
        let written = format(moment);
        // A leap second at the end of the year 9999 is beyond what can be written.
        let read = parse_value(&written, now).expect("what is written is a date");
        assert!(read == moment || moment.0 > 253_402_300_799_000, "{moment:?} {written:?}");
    }
    let _ = format(now);
});
