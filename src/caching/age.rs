//! Age (RFC 9111 4.2.3, 5.1): how old a response already was when it arrived.
//!
//! Decides: the origination time, the corrected initial age, the `Age` a reused response carries.
//! Never touches: how long it may be used (`freshness`), clocks.

use http::HeaderMap;
use http::header::{AGE, DATE};

use super::cache_control::DeltaSeconds;
use crate::semantics::{UnixMillis, fields, http_date};

/// `date_value`: when the response was originated, by its `Date`.
///
/// Without one, or with one that is no HTTP-date, the time it was received (RFC 9110 6.6.1). Of
/// several the earliest: it makes the response oldest.
#[must_use]
pub fn date_value(headers: &HeaderMap, received: UnixMillis) -> UnixMillis {
    let dates = headers.get_all(DATE).iter().filter_map(|line| http_date::parse_value(line, received));
    dates.min().unwrap_or(received)
}

/// `age_value`: the `Age` field in milliseconds, 0 where there is none.
///
/// RFC 9111 5.1: of a list, the first member counts; a value that is no delta-seconds is ignored;
/// one that overflows is 2^31 seconds.
#[must_use]
pub fn age_value(headers: &HeaderMap) -> u64 {
    fields::members(headers, &AGE).next().map_or(0, |first| DeltaSeconds::parse(first).millis())
}

/// `corrected_initial_age` of RFC 9111 4.2.3, in milliseconds.
///
/// `apparent_age` is taken in whole seconds, as `Date` has no finer ones: a response of this very
/// second is not up to a second old already.
#[must_use]
pub fn corrected_initial_age(headers: &HeaderMap, request_sent: UnixMillis, received: UnixMillis) -> u64 {
    let whole_second = UnixMillis(received.0 - received.0 % 1000);
    let apparent_age = whole_second.since(date_value(headers, received));
    let response_delay = received.since(request_sent);
    apparent_age.max(age_value(headers).saturating_add(response_delay))
}

/// The value of the `Age` field for a `current_age` in milliseconds: whole seconds, at most 2^31
/// (RFC 9111 1.2.2).
#[must_use]
pub const fn age_seconds(current_age: u64) -> u64 {
    let seconds = current_age / 1000;
    if seconds > DeltaSeconds::MAX as u64 { DeltaSeconds::MAX as u64 } else { seconds }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caching::testing::map;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const DATE_MS: u64 = 784_111_777_000;

    #[test]
    fn rfc_9111_5_1_age_values() {
        let rows: &[(&[&str], u64)] = &[
            (&[], 0),
            (&["0"], 0),
            (&["7200"], 7_200_000),
            (&["0007"], 7_000),
            (&["7200, 0"], 7_200_000),
            (&["0, 7200"], 0),
            (&["7200", "0"], 7_200_000),
            (&["0", "7200"], 0),
            (&["abc"], 0),
            (&["-7200"], 0),
            (&["7200.0"], 0),
            (&["7200;x"], 0),
            (&["7200 s"], 0),
            (&["\"7200\""], 0),
            (&[""], 0),
            (&["2147483647"], 2_147_483_647_000),
            (&["2147483648"], 2_147_483_648_000),
            (&["2147483649"], 2_147_483_648_000),
            (&["18446744073709551616"], 2_147_483_648_000),
            (&["99999999999999999999999999"], 2_147_483_648_000),
        ];
        for (lines, expected) in rows {
            let lines: Vec<_> = lines.iter().map(|v| ("age", *v)).collect();
            assert_eq!(age_value(&map(&lines)), *expected, "{lines:?}");
        }
    }

    #[test]
    fn rfc_9111_4_2_3_corrected_initial_age() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        // (fields, sent and received in milliseconds after Date) -> age
        type Row<'a> = (&'a [(&'a str, &'a str)], u64, u64, u64);
        let rows: &[Row<'_>] = &[
            (&[("date", date)], 0, 0, 0),
            (&[("date", date)], 400, 999, 599),
            (&[("date", date)], 900, 1_100, 1_000),
            (&[("date", date)], 7_200_000, 7_200_000, 7_200_000),
            (&[("date", date), ("age", "10")], 0, 500, 10_500),
            (&[("date", date), ("age", "10")], 60_000, 60_000, 60_000),
            (&[("age", "10")], 60_000, 60_000, 10_000),
            (&[("date", "yesterday")], 60_000, 60_000, 0),
            (&[], 60_000, 61_000, 1_000),
        ];
        for (lines, sent, received, expected) in rows {
            let (sent, received) = (UnixMillis(DATE_MS + sent), UnixMillis(DATE_MS + received));
            assert_eq!(corrected_initial_age(&map(lines), sent, received), *expected, "{lines:?}");
        }
        // An origin whose clock runs ahead makes nothing younger than new.
        let early = UnixMillis(DATE_MS - 3_600_000);
        assert_eq!(corrected_initial_age(&map(&[("date", date)]), early, early), 0);
    }

    #[test]
    fn rfc_9110_6_6_1_of_several_dates_the_earliest() {
        let lines = [("date", "Sun, 06 Nov 1994 08:49:38 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")];
        assert_eq!(date_value(&map(&lines), UnixMillis(0)), UnixMillis(DATE_MS));
    }

    #[test]
    fn rfc_9111_1_2_2_age_is_bounded() {
        assert_eq!(age_seconds(0), 0);
        assert_eq!(age_seconds(1999), 1);
        assert_eq!(age_seconds(u64::MAX), 1 << 31);
    }

    proptest! {
        #[test]
        fn an_age_is_never_below_what_the_field_and_the_delay_say(age in "[0-9]{0,30}|[ -~]{0,20}", sent: u64, delay in 0u64..1_000_000) {
            let headers = map(&[("age", &age)]);
            let received = UnixMillis(sent.saturating_add(delay));
            let initial = corrected_initial_age(&headers, UnixMillis(sent), received);
            prop_assert!(initial >= age_value(&headers));
            prop_assert!(initial >= received.since(UnixMillis(sent)));
        }
    }
}
