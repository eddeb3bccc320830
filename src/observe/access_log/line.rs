//! How a line of the access log is spelled: dates, numbers, and what came from clients.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::Line;
use crate::caching::outcome::Reason;
use crate::semantics::UnixMillis;

/// Longer targets are cut in the log, and nowhere else.
const TARGET_SHOWN: usize = 2048;
/// Longer hosts likewise: no name of DNS is.
const HOST_SHOWN: usize = 256;

/// The date of the last line: those of one second share it.
#[derive(Debug, Default)]
pub(super) struct Second {
    since_epoch: Option<u64>,
    date: String,
}

/// Appends `key=value` pairs.
pub(super) fn text(text: &mut String, second: &mut Second, line: &Line<'_>) {
    second.put(text, line.at);
    text.push_str(" client=");
    address(text, line.client);
    pair(text, " method=", line.method.as_str());
    text.push_str(" host=");
    quoted(text, shown(line.host, HOST_SHOWN));
    text.push_str(" target=");
    quoted(text, shown(line.target, TARGET_SHOWN));
    text.push_str(" status=");
    number(text, line.status.as_u16().into());
    text.push_str(" bytes=");
    number(text, line.bytes);
    pair(text, " route=", line.route);
    pair(text, " result=", line.result.label());
    pair(text, " reason=", line.reason.map_or("-", Reason::code));
    pair(text, " tier=", line.tier.unwrap_or("-"));
    text.push_str(" total_ms=");
    millis(text, line.total);
    text.push_str(" origin_ms=");
    match line.origin {
        Some(origin) => millis(text, origin),
        None => text.push('-'),
    }
    if line.broken {
        text.push_str(" broken=true");
    }
    text.push('\n');
}

/// Appends one JSON object.
pub(super) fn json(text: &mut String, second: &mut Second, line: &Line<'_>) {
    text.push_str("{\"at\":\"");
    second.put(text, line.at);
    text.push_str("\",\"client\":\"");
    address(text, line.client);
    text.push_str("\",\"method\":");
    string(text, line.method.as_str());
    text.push_str(",\"host\":");
    string(text, shown(line.host, HOST_SHOWN));
    text.push_str(",\"target\":");
    string(text, shown(line.target, TARGET_SHOWN));
    text.push_str(",\"status\":");
    number(text, line.status.as_u16().into());
    text.push_str(",\"bytes\":");
    number(text, line.bytes);
    text.push_str(",\"route\":");
    string(text, line.route);
    text.push_str(",\"result\":");
    string(text, line.result.label());
    text.push_str(",\"reason\":");
    optional(text, line.reason.map(Reason::code), string);
    text.push_str(",\"tier\":");
    optional(text, line.tier, string);
    text.push_str(",\"total_ms\":");
    millis(text, line.total);
    text.push_str(",\"origin_ms\":");
    optional(text, line.origin, millis);
    pair(text, ",\"broken\":", if line.broken { "true" } else { "false" });
    text.push_str("}\n");
}

impl Second {
    /// RFC 3339 in UTC with milliseconds.
    fn put(&mut self, text: &mut String, at: UnixMillis) {
        let (since_epoch, millis) = (at.0 / 1000, at.0 % 1000);
        if self.since_epoch != Some(since_epoch) {
            self.since_epoch = Some(since_epoch);
            self.date = date(since_epoch);
        }
        text.push_str(&self.date);
        text.push('.');
        three_digits(text, millis);
        text.push('Z');
    }
}

/// Date and time of a second since the epoch. Civil date from days since the epoch by the usual
/// 400-year-era arithmetic, which starts years in March so that leap days come last.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn pair(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str(value);
}

fn number(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

fn three_digits(text: &mut String, number: u64) {
    for unit in [100, 10, 1] {
        text.push(char::from(b'0' + u8::try_from(number / unit % 10).unwrap_or(0)));
    }
}

/// Milliseconds, to the microsecond.
fn millis(text: &mut String, took: Duration) {
    let micros = u64::try_from(took.as_nanos().saturating_add(500) / 1_000).unwrap_or(u64::MAX);
    number(text, micros / 1_000);
    text.push('.');
    three_digits(text, micros % 1_000);
}

fn address(text: &mut String, client: IpAddr) {
    match client {
        IpAddr::V4(client) => {
            for (n, octet) in client.octets().into_iter().enumerate() {
                if n > 0 {
                    text.push('.');
                }
                number(text, octet.into());
            }
        }
        IpAddr::V6(client) => {
            let _ = write!(text, "{client}");
        }
    }
}

/// A JSON value, or `null`.
fn optional<T>(text: &mut String, value: Option<T>, put: impl Fn(&mut String, T)) {
    match value {
        Some(value) => put(text, value),
        None => text.push_str("null"),
    }
}

/// A JSON string.
fn string(text: &mut String, raw: &str) {
    if plain(raw) {
        text.push('"');
        text.push_str(raw);
        text.push('"');
    } else {
        text.push_str(&serde_json::Value::from(raw).to_string());
    }
}

/// The beginning of what a client sent, so that lines that wait are bounded.
fn shown(raw: &str, most: usize) -> &str {
    let mut end = raw.len().min(most);
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    raw.get(..end).unwrap_or_default()
}

/// In double quotes, with quotes, backslashes and everything that is not printable ASCII escaped.
fn quoted(text: &mut String, raw: &str) {
    text.push('"');
    if plain(raw) {
        text.push_str(raw);
        text.push('"');
        return;
    }
    for c in raw.chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            ' '..='~' => text.push(c),
            _ => {
                let _ = write!(text, "\\u{{{:x}}}", c as u32);
            }
        }
    }
    text.push('"');
}

/// Whether it may stand between double quotes as it is.
fn plain(raw: &str) -> bool {
    raw.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

#[cfg(test)]
pub(super) mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::caching::outcome::CacheResult;

    pub(in super::super) fn line(target: &str) -> Line<'_> {
        Line {
            at: UnixMillis(1_700_000_000_123),
            client: IpAddr::from([127, 0, 0, 1]),
            method: &Method::GET,
            host: "shop.example",
            target,
            status: StatusCode::OK,
            bytes: 12,
            route: "product",
            result: CacheResult::Hit,
            reason: None,
            tier: Some("memory"),
            total: Duration::from_micros(123),
            origin: None,
            broken: false,
        }
    }

    fn spelled(form: fn(&mut String, &mut Second, &Line<'_>), line: &Line<'_>) -> String {
        let mut text = String::new();
        form(&mut text, &mut Second::default(), line);
        text
    }

    #[test]
    fn a_text_line_reads_as_pairs() {
        assert_eq!(
            spelled(super::text, &line("/a?b=1")),
            "2023-11-14T22:13:20.123Z client=127.0.0.1 method=GET host=\"shop.example\" target=\"/a?b=1\" \
             status=200 bytes=12 route=product result=hit reason=- tier=memory total_ms=0.123 origin_ms=-\n"
        );
    }

    #[test]
    fn a_line_is_bounded_whatever_a_client_sends() {
        let long = "h".repeat(32 * 1024);
        for form in [super::text, json] {
            assert!(spelled(form, &Line { host: &long, ..line(&long) }).len() < 3 * 1024);
        }
    }

    #[test]
    fn a_json_line_is_an_object() {
        let read =
            |line: &Line<'_>| serde_json::from_str::<serde_json::Value>(&spelled(json, line)).expect("JSON");
        let (plain, other) = (line("/a?b=1"), line("/\"\u{7f}ü"));
        let expected = serde_json::json!({
            "at": "2023-11-14T22:13:20.123Z", "client": "127.0.0.1", "method": "GET", "host": "shop.example",
            "target": "/a?b=1", "status": 200, "bytes": 12, "route": "product", "result": "hit", "reason": null,
            "tier": "memory", "total_ms": 0.123, "origin_ms": null, "broken": false,
        });
        assert_eq!(read(&plain), expected);
        let other = Line {
            client: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
            reason: Some(Reason::NothingStored),
            tier: None,
            origin: Some(Duration::from_nanos(12_034_567_499)),
            broken: true,
            ..other
        };
        let read = read(&other);
        assert_eq!(read["target"], "/\"\u{7f}ü");
        assert_eq!(read["client"], "fe80::1");
        assert_eq!(read["reason"], "nothing-stored");
        assert_eq!(read["tier"], serde_json::Value::Null);
        assert_eq!(read["origin_ms"], 12_034.567);
        assert_eq!(read["broken"], true);
    }

    #[test]
    fn lines_of_one_second_share_its_date() {
        let (mut second, mut text) = (Second::default(), String::new());
        for at in [1_000, 1_999, 2_000, 1_001] {
            second.put(&mut text, UnixMillis(at));
            text.push(' ');
        }
        let expected = ["01.000", "01.999", "02.000", "01.001"].map(|at| format!("1970-01-01T00:00:{at}Z "));
        assert_eq!(text, expected.concat());
    }

    #[test]
    fn dates_are_civil() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut put = String::new();
            Second::default().put(&mut put, UnixMillis(at));
            assert_eq!(put, text);
        }
    }

    #[test]
    fn nothing_from_a_client_forges_a_line() {
        let text = spelled(super::text, &line("/\" status=500\n2023 \u{202e}"));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.contains(r#"target="/\" status=500\u{a}2023 \u{202e}""#), "{text}");
        let json = spelled(json, &line("/\"\n"));
        assert_eq!(json.matches('\n').count(), 1);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }
}
