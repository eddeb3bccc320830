//! The form of a report: headings, rows, lengths of time.
//!
//! Decides nothing. Whatever came from outside is printed without control characters.

use std::fmt::Write as _;

use http::HeaderValue;

use crate::caching::outcome::Reason;
use crate::semantics::{UnixMillis, http_date};

/// A report on its way: headings at the margin, rows under them.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// `Label     text`, after a blank line.
    pub(super) fn heading(&mut self, label: &str, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.put(&format!("{label:<10}"), text);
    }

    /// `  label     text`
    pub(super) fn row(&mut self, label: &str, text: &str) {
        self.put(&format!("  {label:<23}"), text);
    }

    /// `  no   code                     RFC 9111 3`
    pub(super) fn question(&mut self, answer: &str, reason: Reason) {
        self.put(&format!("  {answer:<5}{:<24}", reason.code()), rule(reason));
    }

    /// `  text`
    pub(super) fn line(&mut self, text: &str) {
        self.put("  ", text);
    }

    /// What a reason says, and what can be done about it.
    pub(super) fn reason(&mut self, reason: Reason) {
        self.line(reason.title());
        self.line(reason.fix());
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn put(&mut self, label: &str, text: &str) {
        let line = format!("{label}{text}");
        for letter in line.trim_end().chars() {
            if letter.is_control() {
                self.text.extend(letter.escape_default());
            } else {
                self.text.push(letter);
            }
        }
        self.text.push('\n');
    }
}

/// `code (RFC 9111 4.2)`
pub(super) fn cited(reason: Reason) -> String {
    format!("{} ({})", reason.code(), rule(reason))
}

/// The section behind a reason, or this proxy's own name.
const fn rule(reason: Reason) -> &'static str {
    if reason.rfc().is_empty() { "forebay" } else { reason.rfc() }
}

/// The text of a field's value.
pub(super) fn value(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// A moment, as fields name it.
pub(super) fn moment(at: UnixMillis) -> String {
    value(&http_date::format(at))
}

/// Milliseconds as people say them: `250 ms`, `60 s`, `1 h 30 min`.
pub(super) fn span(millis: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let (seconds, rest) = (millis / 1000, millis % 1000);
    match (seconds, rest) {
        (0, 1..) => return format!("{rest} ms"),
        (0..120, 0) => return format!("{seconds} s"),
        (0..120, _) => return format!("{seconds}.{rest:03} s"),
        _ => {}
    }
    let mut left = seconds;
    let mut text = String::new();
    for (unit, name) in UNITS {
        if left >= unit {
            let gap = if text.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{gap}{} {name}", left / unit);
            left %= unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (millis, text) in [
            (0, "0 s"),
            (1, "1 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_500, "1.500 s"),
            (90_000, "90 s"),
            (119_001, "119.001 s"),
            (120_000, "2 min"),
            (3_600_000, "1 h"),
            (5_400_000, "1 h 30 min"),
            (86_400_000 * 7 + 61_000, "7 d 1 min 1 s"),
            ((1 << 31) * 1000, "24855 d 3 h 14 min 8 s"),
        ] {
            assert_eq!(span(millis), text);
        }
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        let mut page = Page::default();
        page.row("a", "b\u{1b}[2J\u{9b}c\r\n");
        assert_eq!(page.finish(), "  a                      b\\u{1b}[2J\\u{9b}c\n");
    }
}
