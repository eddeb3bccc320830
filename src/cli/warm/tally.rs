//! What became of the pages of a warm-up: each answer judged, all of them counted.
//!
//! Decides: what an answer says of the cache. `Cache-Status` (RFC 9211) says it; its last member is
//! that of the proxy that was asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use http::header::CACHE_STATUS;
use http::{HeaderMap, StatusCode};
use sfv::{BareItem, List, ListEntry, Parser};

/// Failures that are told one by one.
const TOLD: usize = 20;

/// What became of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Fetched, and stored.
    Filled,
    /// It was there already.
    Fresh,
    /// Fetched and not stored, for this reason.
    NotStored(String),
    /// There was no answer, or none that anybody would want.
    Failed(String),
}

impl Fate {
    /// What an answer that arrived whole says.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let said = ours(headers);
        let detail = said.as_ref().and_then(|said| said.detail.clone());
        if status.is_client_error() || status.is_server_error() {
            let why = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
            return Self::Failed(format!("answered {}{why}", status.as_u16()));
        }
        match said {
            // One that is renewed behind its answer is as good as fresh; one that stands in for it is not.
            Some(said) if said.is_hit => match detail.as_deref() {
                Some("stale-while-revalidate") => Self::Fresh,
                _ if said.is_stale => Self::Failed(format!(
                    "answered stale ({})",
                    detail.unwrap_or_else(|| "no reason".to_owned())
                )),
                _ => Self::Fresh,
            },
            Some(said) if said.is_stored => Self::Filled,
            Some(_) => Self::NotStored(detail.unwrap_or_else(|| "no reason".to_owned())),
            None => Self::NotStored("no Cache-Status: not a cache's answer".to_owned()),
        }
    }
}

/// The member of `Cache-Status` that is the proxy's own.
struct Said {
    is_hit: bool,
    is_stale: bool,
    is_stored: bool,
    detail: Option<String>,
}

fn ours(headers: &HeaderMap) -> Option<Said> {
    let lines: Vec<&[u8]> = headers.get_all(CACHE_STATUS).iter().map(http::HeaderValue::as_bytes).collect();
    let list: List = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
    let Some(ListEntry::Item(item)) = list.last() else { return None };
    let has = |name: &str| item.params.get(name).is_some_and(|value| *value == BareItem::Boolean(true));
    let detail = item.params.get("detail").and_then(|detail| match detail {
        BareItem::Token(token) => Some(token.as_str().to_owned()),
        BareItem::String(text) => Some(text.as_str().to_owned()),
        _ => None,
    });
    let is_stale = matches!(item.params.get("ttl"), Some(BareItem::Integer(ttl)) if i64::from(*ttl) < 0);
    Some(Said { is_hit: has("hit"), is_stale, is_stored: has("stored"), detail })
}

/// All pages so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    filled: u64,
    fresh: u64,
    not_stored: BTreeMap<String, u64>,
    failed: u64,
    failures: Vec<String>,
    bytes: u64,
}

impl Tally {
    /// Counts a page and the bytes of its content.
    pub(super) fn count(&mut self, page: &str, fate: Fate, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        match fate {
            Fate::Filled => self.filled += 1,
            Fate::Fresh => self.fresh += 1,
            Fate::NotStored(reason) => {
                // Reasons are a closed list where the peer is forebay, and bounded where it is not.
                let known = self.not_stored.len() < 100 || self.not_stored.contains_key(&reason);
                let reason = if known { reason } else { "others".to_owned() };
                *self.not_stored.entry(reason).or_default() += 1;
            }
            Fate::Failed(why) => {
                self.failed += 1;
                if self.failures.len() < TOLD {
                    self.failures.push(format!("{page}: {why}"));
                }
            }
        }
    }

    /// Pages in all.
    pub(super) fn pages(&self) -> u64 {
        self.filled + self.fresh + self.not_stored.values().sum::<u64>() + self.failed
    }

    /// Pages that failed.
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    /// One line while it goes on.
    pub(super) fn progress(&self) -> String {
        let Self { filled, fresh, failed, .. } = self;
        format!("{} done: {filled} filled, {fresh} already fresh, {failed} failed", self.pages())
    }

    /// What failed, one line each.
    pub(super) fn failures(&self) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            text.push_str(failure);
            text.push('\n');
        }
        let more = self.failed - self.failures.len() as u64;
        if more > 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "and {more} more");
        }
        text
    }

    /// The summary, one line for each fate.
    pub(super) fn summary(&self, took: Duration) -> String {
        let mut reasons: Vec<_> = self.not_stored.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1));
        let reasons: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let not_stored: u64 = self.not_stored.values().sum();
        let mut text =
            format!("{} pages, {} bytes, in {:.1} s\n", self.pages(), self.bytes, took.as_secs_f64());
        for (label, count, detail) in [
            ("filled", self.filled, String::new()),
            ("already fresh", self.fresh, String::new()),
            ("not stored", not_stored, reasons.join(", ")),
            ("failed", self.failed, String::new()),
        ] {
            let line = format!("  {label:<14} {count:>8}  {detail}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_says_what_became_of_it() {
        let not_stored = |reason: &str| Fate::NotStored(reason.to_owned());
        for (status, lines, fate) in [
            (200, vec!["forebay; hit; ttl=5; detail=memory"], Fate::Fresh),
            (200, vec!["forebay; hit; ttl=-5; detail=stale-while-revalidate"], Fate::Fresh),
            (
                200,
                vec!["forebay; hit; ttl=-5; detail=stale-if-error"],
                Fate::Failed("answered stale (stale-if-error)".to_owned()),
            ),
            (200, vec!["forebay; fwd=uri-miss; stored; detail=nothing-stored"], Fate::Filled),
            (200, vec!["origin; hit", "forebay; fwd=uri-miss; detail=private"], not_stored("private")),
            (200, vec!["origin; fwd=miss; stored, forebay; hit"], Fate::Fresh),
            (301, vec!["forebay; fwd=uri-miss; stored"], Fate::Filled),
            (200, vec!["forebay; fwd=bypass; detail=\"route-not-cached\""], not_stored("route-not-cached")),
            (200, vec!["forebay; fwd=bypass"], not_stored("no reason")),
            (200, vec![], not_stored("no Cache-Status: not a cache's answer")),
            (200, vec!["(forebay); hit"], not_stored("no Cache-Status: not a cache's answer")),
            (
                404,
                vec!["forebay; fwd=uri-miss; stored; detail=nothing-stored"],
                Fate::Failed("answered 404 (nothing-stored)".to_owned()),
            ),
            (502, vec![], Fate::Failed("answered 502".to_owned())),
        ] {
            let headers: HeaderMap =
                lines.iter().map(|line| (CACHE_STATUS, http::HeaderValue::from_static(line))).collect();
            assert_eq!(Fate::of(StatusCode::from_u16(status).unwrap(), &headers), fate, "{status} {lines:?}");
        }
    }

    #[test]
    fn the_summary() {
        let mut tally = Tally::default();
        for (n, fate) in [Fate::Filled, Fate::Filled, Fate::Fresh, Fate::NotStored("private".to_owned())]
            .into_iter()
            .enumerate()
        {
            tally.count("http://a/", fate, n as u64);
        }
        for _ in 0..2 {
            tally.count("http://a/", Fate::NotStored("set-cookie".to_owned()), 0);
        }
        for n in 0..30 {
            tally.count(&format!("http://a/{n}"), Fate::Failed("answered 502".to_owned()), 0);
        }
        assert_eq!((tally.pages(), tally.failed()), (36, 30));
        assert_eq!(tally.progress(), "36 done: 2 filled, 1 already fresh, 30 failed");
        insta::assert_snapshot!(tally.summary(Duration::from_millis(1250)), @r"
        36 pages, 6 bytes, in 1.2 s
          filled                2
          already fresh         1
          not stored            3  set-cookie 2, private 1
          failed               30
        ");
        let told = tally.failures();
        assert!(told.starts_with("http://a/0: answered 502\n") && told.ends_with("and 10 more\n"), "{told}");
        for n in 0..200 {
            tally.count("http://a/", Fate::NotStored(format!("reason {n}")), 0);
        }
        assert!(tally.not_stored.len() <= 101);
    }
}
