//! What is wrong with a configuration: all of it at once, each with file, line and key.
//!
//! Decides: how a problem reads, in which order, and which name was probably meant. Never touches:
//! what counts as a problem.

use std::fmt;
use std::ops::Range;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// Allowed, and probably not meant.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, from 1; 0 when the problem is no line's.
    pub line: usize,
    /// How bad it is.
    pub severity: Severity,
    /// The key, as in `route.ttl`; empty when the problem is no key's.
    pub key: String,
    /// What is wrong and, where there is one, the nearest valid name.
    pub message: String,
}

/// Everything that is wrong with one configuration, in the order of its lines.
///
/// It reads as `proxy.toml:12: route.tttl: unknown key; did you mean "ttl"?`, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file, as it was named by whoever asked for it.
    pub file: String,
    /// The problems; never empty in an `Err`.
    pub list: Vec<Problem>,
}

impl Problems {
    /// One problem of the file as a whole.
    pub(super) fn of_file(file: &str, message: String) -> Self {
        let problem = Problem { line: 0, severity: Severity::Error, key: String::new(), message };
        Self { file: file.to_owned(), list: vec![problem] }
    }

    /// Whether any of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// The problems as they are printed, one line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|problem| {
            let mut line = self.file.clone();
            if problem.line > 0 {
                line.push_str(&format!(":{}", problem.line));
            }
            line.push_str(": ");
            if problem.severity == Severity::Warning {
                line.push_str("warning: ");
            }
            if !problem.key.is_empty() {
                line.push_str(&problem.key);
                line.push_str(": ");
            }
            line.push_str(&problem.message);
            line
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, line) in self.lines().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Gathers problems while a text is read, and knows its lines.
pub(super) struct Gathered {
    file: String,
    /// Offsets at which lines begin, the first one's 0 left out.
    line_starts: Vec<usize>,
    list: Vec<Problem>,
}

impl Gathered {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let line_starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1).collect();
        Self { file: file.to_owned(), line_starts, list: Vec::new() }
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.line_starts.partition_point(|&start| start <= span.start) + 1
    }

    pub(super) fn error(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        self.push(Severity::Error, span, key, message.into());
    }

    pub(super) fn warning(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        self.push(Severity::Warning, span, key, message.into());
    }

    fn push(&mut self, severity: Severity, span: &Range<usize>, key: &str, message: String) {
        self.list.push(Problem { line: self.line(span), severity, key: key.to_owned(), message });
    }

    /// An error of the text as a whole.
    pub(super) fn error_of_file(&mut self, message: &str) {
        self.push_of_file(Severity::Error, message);
    }

    /// A warning about the text as a whole.
    pub(super) fn warning_of_file(&mut self, message: &str) {
        self.push_of_file(Severity::Warning, message);
    }

    fn push_of_file(&mut self, severity: Severity, message: &str) {
        self.list.push(Problem { line: 0, severity, key: String::new(), message: message.to_owned() });
    }

    /// In the order of lines; what was found twice (a value of `[defaults]` is read for every route)
    /// is said once.
    pub(super) fn finish(self) -> Problems {
        let Self { file, mut list, .. } = self;
        list.sort();
        list.dedup();
        Problems { file, list }
    }
}

/// The valid name that was probably meant.
pub(super) fn nearest<'n>(written: &str, valid: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Longer texts than this are no typing error of a name, and the distance costs their product.
    if written.len() > 64 {
        return None;
    }
    let written = written.to_ascii_lowercase();
    valid
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(written.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `; did you mean "name"?`, or nothing.
pub(crate) fn did_you_mean<'n>(written: &str, valid: impl IntoIterator<Item = &'n str>) -> String {
    nearest(written, valid).map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let valid = ["ttl", "max_ttl", "min_ttl", "keep", "stale_if_error"];
        for (written, meant) in [
            ("tttl", Some("ttl")),
            ("TTL", Some("ttl")),
            ("maxttl", Some("max_ttl")),
            ("stale_if_eror", Some("stale_if_error")),
            ("kepe", Some("keep")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, valid), meant, "{written}");
        }
        assert_eq!(nearest(&"t".repeat(65), valid), None);
    }

    #[test]
    fn problems_are_told_in_the_order_of_lines_and_once() {
        let mut gathered = Gathered::new("proxy.toml", "a\nb\nc");
        gathered.warning(&(4..5), "c", "odd");
        gathered.error(&(2..3), "b", "wrong");
        gathered.error(&(2..3), "b", "wrong");
        gathered.error(&(0..1), "", "no key");
        gathered.error_of_file("empty");
        assert_eq!(
            gathered.finish().to_string(),
            "proxy.toml: empty\nproxy.toml:1: no key\nproxy.toml:2: b: wrong\nproxy.toml:3: warning: c: odd"
        );
    }
}
