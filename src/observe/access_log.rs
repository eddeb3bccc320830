//! The access log: one line per request, as text or JSON, on standard output.
//!
//! A request never waits for its line: lines go through a bounded queue to a thread that writes
//! them in batches; when the reader of the log is too slow, lines are given up and counted.
//! Whatever came from a client is escaped, so that no request can forge a line.

use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use crate::caching::outcome::{CacheResult, Reason};
use crate::semantics::UnixMillis;

/// Lines that may wait for the writing thread.
const QUEUE: usize = 8192;
/// Longer targets are cut in the log, and nowhere else.
const TARGET_SHOWN: usize = 2048;
/// Longer hosts likewise: no name of DNS is.
const HOST_SHOWN: usize = 256;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// No access log.
    Off,
    /// `key=value` pairs a person can read.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What a line tells.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// When the request's head was read.
    pub at: UnixMillis,
    /// The client's address.
    pub client: IpAddr,
    /// Request method.
    pub method: &'a Method,
    /// Authority the request was for.
    pub host: &'a str,
    /// Request target as it came.
    pub target: &'a str,
    /// Final status sent.
    pub status: StatusCode,
    /// Bytes of content sent.
    pub bytes: u64,
    /// Route name.
    pub route: &'a str,
    /// How the cache answered.
    pub result: CacheResult,
    /// Why.
    pub reason: Option<Reason>,
    /// Tier that answered.
    pub tier: Option<&'static str>,
    /// From the request's head to the last byte.
    pub total: Duration,
    /// From sending the upstream request to its response head, if one was sent.
    pub origin: Option<Duration>,
    /// Whether the answer broke off before its end.
    pub broken: bool,
}

/// Handle of the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: Format,
    queue: Option<SyncSender<String>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the writing thread (none when the log is off).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(format: Format) -> std::io::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        if format == Format::Off {
            return Ok(Self { format, queue: None, dropped });
        }
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(&lines, &mut std::io::stdout()))?;
        Ok(Self { format, queue: Some(queue), dropped })
    }

    /// Whether lines are wanted at all.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues a line; never waits.
    pub fn record(&self, line: &Line<'_>) {
        let Some(queue) = &self.queue else { return };
        let text = match self.format {
            Format::Json => json_line(line),
            Format::Text | Format::Off => text_line(line),
        };
        if queue.try_send(text).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines given up so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes lines in batches until the last handle is gone; a closed standard output ends the log,
/// never the proxy.
fn write_lines(lines: &Receiver<String>, out: &mut impl Write) {
    let mut batch = String::with_capacity(64 * 1024);
    while let Ok(first) = lines.recv() {
        batch.push_str(&first);
        while batch.len() < 48 * 1024 {
            let Ok(next) = lines.try_recv() else { break };
            batch.push_str(&next);
        }
        if out.write_all(batch.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
        batch.clear();
    }
}

fn text_line(line: &Line<'_>) -> String {
    let mut text = String::with_capacity(224 + line.target.len().min(TARGET_SHOWN));
    text.push_str(&rfc3339(line.at));
    let _ = write!(text, " client={} method={} host=", line.client, line.method);
    quoted(&mut text, shown(line.host, HOST_SHOWN));
    text.push_str(" target=");
    quoted(&mut text, shown(line.target, TARGET_SHOWN));
    let _ = write!(
        text,
        " status={} bytes={} route={} result={} reason={} tier={} total_ms={:.3}",
        line.status.as_u16(),
        line.bytes,
        line.route,
        line.result.label(),
        line.reason.map_or("-", Reason::code),
        line.tier.unwrap_or("-"),
        millis(line.total),
    );
    match line.origin {
        Some(origin) => {
            let _ = write!(text, " origin_ms={:.3}", millis(origin));
        }
        None => text.push_str(" origin_ms=-"),
    }
    if line.broken {
        text.push_str(" broken=true");
    }
    text.push('\n');
    text
}

fn json_line(line: &Line<'_>) -> String {
    let mut text = json!({
        "at": rfc3339(line.at),
        "client": line.client,
        "method": line.method.as_str(),
        "host": shown(line.host, HOST_SHOWN),
        "target": shown(line.target, TARGET_SHOWN),
        "status": line.status.as_u16(),
        "bytes": line.bytes,
        "route": line.route,
        "result": line.result.label(),
        "reason": line.reason.map(Reason::code),
        "tier": line.tier,
        "total_ms": millis(line.total),
        "origin_ms": line.origin.map(millis),
        "broken": line.broken,
    })
    .to_string();
    text.push('\n');
    text
}

/// RFC 3339 in UTC with milliseconds. Civil date from days since the epoch by the usual
/// 400-year-era arithmetic, which starts years in March so that leap days come last.
fn rfc3339(at: UnixMillis) -> String {
    let (seconds, millis) = (at.0 / 1000, at.0 % 1000);
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
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str) -> Line<'_> {
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

    #[test]
    fn a_text_line_reads_as_pairs() {
        assert_eq!(
            text_line(&line("/a?b=1")),
            "2023-11-14T22:13:20.123Z client=127.0.0.1 method=GET host=\"shop.example\" target=\"/a?b=1\" \
             status=200 bytes=12 route=product result=hit reason=- tier=memory total_ms=0.123 origin_ms=-\n"
        );
    }

    #[test]
    fn a_line_is_bounded_whatever_a_client_sends() {
        let long = "h".repeat(32 * 1024);
        for text in [text_line, json_line] {
            assert!(text(&Line { host: &long, ..line(&long) }).len() < 3 * 1024);
        }
    }

    #[test]
    fn dates_are_civil() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UnixMillis(at)), text);
        }
    }

    #[test]
    fn nothing_from_a_client_forges_a_line() {
        let text = text_line(&line("/\" status=500\n2023 \u{202e}"));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.contains(r#"target="/\" status=500\u{a}2023 \u{202e}""#), "{text}");
        let json = json_line(&line("/\"\n"));
        assert_eq!(json.matches('\n').count(), 1);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }
}
