//! HTTP-date (RFC 9110 5.6.7): the three formats and nothing else.
//!
//! Decides: which text is a date, and which moment it names. Never touches: what follows from an
//! invalid one (an `Expires` that is no date is stale, an `If-Modified-Since` is ignored).
//!
//! Strict in syntax, since what is accepted here decides how long something is reused: one blank
//! where the grammar has one, `GMT` and no other zone, two-digit years in the RFC 850 format alone,
//! days and hours that exist. Three liberties: names may be in any case, as RFC 9111 4.2 asks of caches;
//! the name of the day must be a name but need not be the right one, as origins get it wrong and it
//! says nothing new; and a leap second is the second after it. Dates before 1970 are valid and count
//! as 1970.
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9110 5.6.7: all three formats are accepted | [`parse`] | `rfc9110_5_6_7_formats` |
//! | RFC 9110 5.6.7, RFC 9111 4.2: GMT, and no other zone | [`parse`] | `rfc9110_5_6_7_what_is_no_date` |
//! | RFC 9111 4.2: caches match dates in any case | [`parse`] | `rfc9111_4_2_dates_in_any_case` |
//! | RFC 9110 5.6.7: two-digit years more than 50 years ahead are past | [`parse`] | `rfc9110_5_6_7_two_digit_years` |
//! | RFC 9110 5.6.7: generated as IMF-fixdate | [`format()`] | `what_is_written_is_read` |
//! | RFC 9111 5.3: `0` is no date | [`parse`] | `rfc9110_5_6_7_what_is_no_date` |

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

use super::UnixMillis;
use super::fields::{digits, trim_ows};

/// The moment `text` names, or `None` when it is not an HTTP-date. `now` places the two-digit years
/// of the RFC 850 format: the latest such year that is at most 50 years ahead.
///
/// ```
/// use forebay::semantics::{UnixMillis, http_date::parse};
/// let moment = Some(UnixMillis(784_111_777_000));
/// let now = UnixMillis(1_767_225_600_000);
/// assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 GMT", now), moment);
/// assert_eq!(parse(b"Sunday, 06-Nov-94 08:49:37 GMT", now), moment);
/// assert_eq!(parse(b"Sun Nov  6 08:49:37 1994", now), moment);
/// ```
#[must_use]
pub fn parse(text: &[u8], now: UnixMillis) -> Option<UnixMillis> {
    let text = trim_ows(text);
    let date = match text.len() {
        29 => imf_fixdate(text)?,
        24 => asctime_date(text)?,
        _ => rfc850_date(text, now)?,
    };
    date.moment()
}

/// [`parse`] for a field value.
#[must_use]
pub fn parse_value(value: &HeaderValue, now: UnixMillis) -> Option<UnixMillis> {
    parse(value.as_bytes(), now)
}

/// `moment` as IMF-fixdate, in whole seconds; what lies beyond the year 9999 is its last second.
#[must_use]
pub fn format(moment: UnixMillis) -> HeaderValue {
    let seconds = Duration::from_secs((moment.0 / 1000).min(END_OF_9999));
    let text = httpdate::fmt_http_date(UNIX_EPOCH + seconds);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

const END_OF_9999: u64 = 253_402_300_799;
const DAY_NAMES: [&[u8]; 7] =
    [b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Calendar fields as they were written.
struct Date {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
}

impl Date {
    /// `None` when the calendar has no such day.
    fn moment(&self) -> Option<UnixMillis> {
        if !(1..=days_in(self.year, self.month)).contains(&self.day) {
            return None;
        }
        let seconds = days_since_1970(self.year, self.month, self.day) * 86_400 + self.second_of_day;
        Some(UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<Date> {
    let mut rest = Reader(text);
    rest.day_name_short()?;
    rest.literal(b", ")?;
    let day = rest.number(2)?;
    rest.literal(b" ")?;
    let month = rest.month()?;
    rest.literal(b" ")?;
    let year = rest.number(4)?;
    rest.literal(b" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(b" GMT")?;
    rest.0.is_empty().then_some(Date { year, month, day, second_of_day })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850_date(text: &[u8], now: UnixMillis) -> Option<Date> {
    let mut rest = Reader(text);
    DAY_NAMES.iter().find_map(|name| rest.literal(name))?;
    rest.literal(b", ")?;
    let day = rest.number(2)?;
    rest.literal(b"-")?;
    let month = rest.month()?;
    rest.literal(b"-")?;
    let two_digits = rest.number(2)?;
    rest.literal(b" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(b" GMT")?;
    if !rest.0.is_empty() {
        return None;
    }
    let now = civil(now);
    // The latest year with these digits that is at most 50 ahead; in the fiftieth the rest of the
    // date decides.
    let limit = now.year + 50;
    let mut year = limit - (limit - two_digits).rem_euclid(100);
    if year == limit && (month, day, second_of_day) > (now.month, now.day, now.second_of_day) {
        year -= 100;
    }
    Some(Date { year, month, day, second_of_day })
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime_date(text: &[u8]) -> Option<Date> {
    let mut rest = Reader(text);
    rest.day_name_short()?;
    rest.literal(b" ")?;
    let month = rest.month()?;
    rest.literal(b" ")?;
    let day = if rest.literal(b" ").is_some() { rest.number(1)? } else { rest.number(2)? };
    rest.literal(b" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(b" ")?;
    let year = rest.number(4)?;
    rest.0.is_empty().then_some(Date { year, month, day, second_of_day })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes `expected` in any case; takes nothing where it does not stand there.
    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        let (start, rest) = self.0.split_at_checked(expected.len())?;
        start.eq_ignore_ascii_case(expected).then(|| self.0 = rest)
    }

    fn number(&mut self, length: usize) -> Option<i64> {
        i64::try_from(digits(self.take(length)?)?).ok()
    }

    fn day_name_short(&mut self) -> Option<()> {
        let name = self.take(3)?;
        DAY_NAMES
            .iter()
            .any(|full| full.get(..3).is_some_and(|short| short.eq_ignore_ascii_case(name)))
            .then_some(())
    }

    fn month(&mut self) -> Option<i64> {
        let name = self.take(3)?;
        let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))?;
        i64::try_from(at + 1).ok()
    }

    /// Second of the day of `hour ":" minute ":" second`; 60 is a leap second.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.literal(b":")?;
        let minute = self.number(2)?;
        self.literal(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar. Counted in years that begin in
/// March, so that the leap day is the last one.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// The inverse of [`days_since_1970`], for the present.
const fn civil(moment: UnixMillis) -> Date {
    let seconds = (moment.0 / 1000) as i64;
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    Date {
        year,
        month,
        day: of_year - (153 * shifted + 2) / 5 + 1,
        second_of_day: seconds.rem_euclid(86_400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-01-01T00:00:00Z
    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    fn read(text: &str) -> Option<u64> {
        parse(text.as_bytes(), NOW).map(|moment| moment.0 / 1000)
    }

    #[test]
    fn rfc9110_5_6_7_formats() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Sun Nov 06 08:49:37 1994", 784_111_777),
            ("Wed Nov 16 08:49:37 1994", 784_975_777),
            (" Sun, 06 Nov 1994 08:49:37 GMT\t", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
            ("Mon, 01 Jan 0000 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Fri, 31 Dec 9999 23:59:59 GMT", END_OF_9999),
            // A leap second, and a wrong name of the day.
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Mon, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ] {
            assert_eq!(read(text), Some(seconds), "{text:?}");
        }
    }

    #[test]
    fn rfc9110_5_6_7_what_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "784111777",
            "Thu, 01 Jan 1970 00:00:00",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 EST",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
            "Sun, 06 Nov 1994 08:49:37GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994  08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37  GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "06 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06 Nov 94 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday,06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sunday Nov  6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 GM\xd4", NOW), None);
    }

    #[test]
    fn rfc9111_4_2_dates_in_any_case() {
        for text in [
            "sun, 06 nov 1994 08:49:37 gmt",
            "SUN, 06 NOV 1994 08:49:37 GMT",
            "sUNDAY, 06-nOV-94 08:49:37 Gmt",
            "sun nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(text), Some(784_111_777), "{text:?}");
        }
    }

    #[test]
    fn rfc9110_5_6_7_two_digit_years() {
        // Seen from noon, 15 June 2026.
        let now = parse(b"Mon, 15 Jun 2026 12:00:00 GMT", NOW).expect("date");
        for (text, same) in [
            ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Friday, 01-Jan-27 00:00:00 GMT", "Fri, 01 Jan 2027 00:00:00 GMT"),
            ("Wednesday, 31-Dec-75 00:00:00 GMT", "Tue, 31 Dec 2075 00:00:00 GMT"),
            ("Monday, 15-Jun-76 12:00:00 GMT", "Mon, 15 Jun 2076 12:00:00 GMT"),
            ("Tuesday, 15-Jun-76 12:00:01 GMT", "Tue, 15 Jun 1976 12:00:01 GMT"),
            ("Thursday, 16-Jun-76 00:00:00 GMT", "Wed, 16 Jun 1976 00:00:00 GMT"),
            ("Saturday, 01-Jan-77 00:00:00 GMT", "Sat, 01 Jan 1977 00:00:00 GMT"),
        ] {
            let moment = parse(text.as_bytes(), now);
            assert!(moment.is_some(), "{text}");
            assert_eq!(moment, parse(same.as_bytes(), now), "{text}");
        }
    }

    #[test]
    fn formatting_stops_at_the_year_9999() {
        assert_eq!(format(UnixMillis(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(format(UnixMillis(784_111_777_999)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0..=END_OF_9999) {
            let moment = UnixMillis(seconds * 1000);
            prop_assert_eq!(parse_value(&format(moment), NOW), Some(moment));
            prop_assert_eq!(civil(moment).moment(), Some(moment));
        }

        /// Where both read a date, this parser and an independent one agree; and this one is the
        /// stricter, but for the two liberties and the years before 1970.
        #[test]
        fn an_independent_parser_agrees(
            name in "Mon|Tue|Wed|Thu|Fri|Sat|Sun", day in 0_u8..33, month in "Jan|Feb|Mar|Apr|Jun|Sep|Dec|Xxx",
            year in 1900_u16..2400, hour in 0_u8..26, minute in 0_u8..62, second in 0_u8..62,
        ) {
            let clock = format!("{hour:02}:{minute:02}:{second:02}");
            for text in [
                format!("{name}, {day:02} {month} {year} {clock} GMT"),
                format!("{name} {month} {day:2} {clock} {year}"),
            ] {
                if let Ok(theirs) = httpdate::parse_http_date(&text) {
                    let theirs = theirs.duration_since(UNIX_EPOCH).expect("from 1970 on").as_secs();
                    prop_assert_eq!(read(&text), Some(theirs), "{}", text);
                }
            }
        }

        /// Case decides nothing: neither whether a text is a date nor which.
        #[test]
        fn case_decides_nothing(text in "(Sun|Sunday|Su),? [ 0-9]{2}[ -](Nov|No)[ -][0-9]{2,4} [0-9:]{8} (GMT|GM)?", now: u64) {
            let read = |text: String| parse(text.as_bytes(), UnixMillis(now));
            prop_assert_eq!(read(text.to_ascii_lowercase()), read(text.to_ascii_uppercase()));
            prop_assert_eq!(read(text.clone()), read(text.to_ascii_uppercase()));
        }

        #[test]
        fn any_bytes_are_read(text in proptest::collection::vec(any::<u8>(), 0..40), now: u64) {
            let _ = parse(&text, UnixMillis(now));
        }

        #[test]
        fn near_dates_are_read(text in "(Sun|Sunday),? [ 0-9]{2}[ -]Nov[ -][0-9]{2,4} [0-9:]{8} (GMT)?", now: u64) {
            let _ = parse(text.as_bytes(), UnixMillis(now));
            let _ = parse(b"Sunday, 06-Nov-94 08:49:37 GMT", UnixMillis(u64::MAX - now % 1000));
        }
    }
}
