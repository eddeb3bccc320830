//! `Cache-Control` (RFC 9111 5.2) and `Pragma` (5.4), read once per message.
//!
//! Decides: which directives a message carries and with which arguments, whatever their spelling.
//! Never touches: what follows from them (`storability`, `freshness`, `reuse`).
//!
//! Where a field is malformed, whatever restricts is honoured and whatever permits is not: a
//! prohibition counts with any argument, a lifetime that cannot be read is [`DeltaSeconds::Invalid`],
//! which is a lifetime of zero and not an absent one (RFC 9111 4.2.1). `max-age = 60`, `max-age=60;x`
//! and anything on a line with an unclosed quote are malformed.
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9111 1.2.2: delta-seconds, overflow is 2^31 | [`DeltaSeconds::parse`] | `rfc9111_1_2_2_delta_seconds` |
//! | RFC 9111 4.2.1: invalid freshness is stale | [`DeltaSeconds::Invalid`] | `rfc9111_4_2_1_invalid_is_not_absent` |
//! | RFC 9111 4.2.1: several values: the smallest | [`ResponseDirectives::parse`] | `rfc9111_4_2_1_duplicates` |
//! | RFC 9111 5.2: names in any case, both argument forms | [`ResponseDirectives::parse`] | `rfc9111_5_2_spellings` |
//! | RFC 9111 5.2.1.1-5.2.1.7 | [`RequestDirectives::parse`] | `rfc9111_5_2_1_requests` |
//! | RFC 9111 5.2.2.1-5.2.2.10 | [`ResponseDirectives::parse`] | `rfc9111_5_2_2_responses` |
//! | RFC 9111 5.2.2.4, 5.2.2.7: qualified forms | [`ResponseDirectives::no_cache_fields`], [`ResponseDirectives::private_fields`] | `rfc9111_5_2_2_qualified` |
//! | RFC 9111 5.2.3: unknown directives are ignored | [`ResponseDirectives::parse`] | `rfc9111_5_2_3_neighbours` |
//! | RFC 9111 5.4: Pragma only without Cache-Control | [`RequestDirectives::parse`] | `rfc9111_5_4_pragma` |
//! | RFC 5861 3, 4; RFC 8246 2 | [`ResponseDirectives::parse`] | `rfc9111_5_2_2_responses` |

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, PRAGMA};

use crate::semantics::fields;

/// A lifetime in whole seconds as a directive states it (RFC 9111 1.2.2).
///
/// Ordered so that the smaller is the more restrictive: `Invalid` before every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeltaSeconds {
    /// The directive is there but its argument cannot be read: counts as zero, not as absent.
    Invalid,
    /// Seconds, at most [`DeltaSeconds::MAX`].
    Seconds(u32),
}

impl DeltaSeconds {
    /// 2^31: what every larger value means (RFC 9111 1.2.2).
    pub const MAX: u32 = 1 << 31;

    /// Reads `1*DIGIT`; signs, fractions, blanks and the empty string are invalid.
    ///
    /// ```
    /// use forebay::caching::cache_control::DeltaSeconds;
    /// assert_eq!(DeltaSeconds::parse(b"3600"), DeltaSeconds::Seconds(3600));
    /// assert_eq!(DeltaSeconds::parse(b"99999999999"), DeltaSeconds::Seconds(1 << 31));
    /// assert_eq!(DeltaSeconds::parse(b"1.5"), DeltaSeconds::Invalid);
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        fields::digits(text).map_or(Self::Invalid, Self::from_seconds)
    }

    /// `seconds`, capped at [`DeltaSeconds::MAX`].
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        Self::Seconds(u32::try_from(seconds).unwrap_or(Self::MAX).min(Self::MAX))
    }

    /// The lifetime in milliseconds; zero when invalid.
    #[must_use]
    pub const fn millis(self) -> u64 {
        match self {
            Self::Invalid => 0,
            Self::Seconds(seconds) => seconds as u64 * 1000,
        }
    }
}

/// The directives of a response (RFC 9111 5.2.2, RFC 5861, RFC 8246).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `max-age` (5.2.2.1).
    pub max_age: Option<DeltaSeconds>,
    /// `s-maxage` (5.2.2.10): beats `max-age` and implies `proxy-revalidate` here.
    pub s_maxage: Option<DeltaSeconds>,
    /// `no-store` (5.2.2.5).
    pub no_store: bool,
    /// Unqualified `no-cache` (5.2.2.4), or a qualified one whose names cannot be read.
    pub no_cache: bool,
    /// Fields of the qualified `no-cache="…"`: not to be reused without validation.
    pub no_cache_fields: Vec<HeaderName>,
    /// Unqualified `private` (5.2.2.7), or a qualified one whose names cannot be read.
    pub private: bool,
    /// Fields of the qualified `private="…"`: not to be stored by a shared cache.
    pub private_fields: Vec<HeaderName>,
    /// `public` (5.2.2.9).
    pub public: bool,
    /// `must-revalidate` (5.2.2.2).
    pub must_revalidate: bool,
    /// `proxy-revalidate` (5.2.2.8).
    pub proxy_revalidate: bool,
    /// `must-understand` (5.2.2.3).
    pub must_understand: bool,
    /// `no-transform` (5.2.2.6); this proxy transforms nothing.
    pub no_transform: bool,
    /// `immutable` (RFC 8246 2).
    pub immutable: bool,
    /// `stale-while-revalidate` (RFC 5861 3).
    pub stale_while_revalidate: Option<DeltaSeconds>,
    /// `stale-if-error` (RFC 5861 4).
    pub stale_if_error: Option<DeltaSeconds>,
}

impl ResponseDirectives {
    /// Reads all `Cache-Control` lines. Never fails: what cannot be read is ignored or restricts.
    ///
    /// ```
    /// use forebay::caching::cache_control::{DeltaSeconds, ResponseDirectives};
    /// let mut headers = http::HeaderMap::new();
    /// headers.insert("cache-control", http::HeaderValue::from_static(r#"a="b, max-age=3600", Max-Age="1""#));
    /// let directives = ResponseDirectives::parse(&headers);
    /// assert_eq!(directives.max_age, Some(DeltaSeconds::Seconds(1)));
    /// ```
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for_each_directive(headers, |name, argument| directives.apply(name, argument));
        directives
    }

    /// Takes in one directive; `name` is in lower case. The same for every field that carries
    /// response directives (RFC 9213 2.2).
    pub(super) fn apply(&mut self, name: &[u8], argument: &Argument<'_>) {
        // What permits counts only as it is defined: without an argument, on a line that is well formed.
        let plain = matches!(argument, Argument::Absent);
        match name {
            b"max-age" => keep_smallest(&mut self.max_age, argument.seconds()),
            b"s-maxage" => keep_smallest(&mut self.s_maxage, argument.seconds()),
            b"stale-while-revalidate" => keep_smallest(&mut self.stale_while_revalidate, argument.seconds()),
            b"stale-if-error" => keep_smallest(&mut self.stale_if_error, argument.seconds()),
            b"no-store" => self.no_store = true,
            b"no-cache" => argument.qualify(&mut self.no_cache, &mut self.no_cache_fields),
            b"private" => argument.qualify(&mut self.private, &mut self.private_fields),
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"no-transform" => self.no_transform = true,
            b"public" => self.public |= plain,
            b"must-understand" => self.must_understand |= plain,
            b"immutable" => self.immutable |= plain,
            _ => {}
        }
    }
}

/// How stale a response a client accepts (RFC 9111 5.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxStale {
    /// `max-stale` without an argument: any age.
    Any,
    /// At most this much past its freshness.
    Within(DeltaSeconds),
}

/// The directives of a request (RFC 9111 5.2.1, RFC 5861 4), honoured where the route says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache` (5.2.1.4), or `Pragma: no-cache` (5.4).
    pub no_cache: bool,
    /// `no-store` (5.2.1.5).
    pub no_store: bool,
    /// `max-age` (5.2.1.1); one that cannot be read is zero.
    pub max_age: Option<DeltaSeconds>,
    /// `min-fresh` (5.2.1.3); the largest of several, one that cannot be read is ignored.
    pub min_fresh: Option<DeltaSeconds>,
    /// `max-stale` (5.2.1.2); the smallest of several, one that cannot be read is ignored.
    pub max_stale: Option<MaxStale>,
    /// `only-if-cached` (5.2.1.7).
    pub only_if_cached: bool,
    /// `stale-if-error` (RFC 5861 4); one that cannot be read is ignored.
    pub stale_if_error: Option<DeltaSeconds>,
}

impl RequestDirectives {
    /// Reads all `Cache-Control` lines, and `Pragma` where there is no `Cache-Control` at all.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if headers.contains_key(CACHE_CONTROL) {
            for_each_directive(headers, |name, argument| directives.apply(name, argument));
        } else if headers.contains_key(PRAGMA) {
            directives.no_cache = fields::has_token(headers, &PRAGMA, "no-cache");
        }
        directives
    }

    fn apply(&mut self, name: &[u8], argument: &Argument<'_>) {
        match name {
            b"no-cache" => self.no_cache = true,
            b"no-store" => self.no_store = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => keep_smallest(&mut self.max_age, argument.seconds()),
            b"min-fresh" => {
                let seconds = argument.seconds();
                if seconds != DeltaSeconds::Invalid {
                    self.min_fresh = self.min_fresh.max(Some(seconds));
                }
            }
            b"max-stale" => self.max_stale = narrower(self.max_stale, argument),
            b"stale-if-error" => {
                let seconds = argument.seconds();
                if seconds != DeltaSeconds::Invalid {
                    keep_smallest(&mut self.stale_if_error, seconds);
                }
            }
            _ => {}
        }
    }
}

/// What stands after a directive's name.
#[derive(Debug)]
pub(super) enum Argument<'a> {
    /// Nothing.
    Absent,
    /// A token or the text of a quoted string: `Cache-Control` does not say which type it is.
    Text(Cow<'a, [u8]>),
    /// A structured integer (RFC 9213 2.1).
    Integer(DeltaSeconds),
    /// A structured string (RFC 9213 2.1): field names, never a number.
    Names(&'a [u8]),
    /// Something that is neither.
    Malformed,
}

impl Argument<'_> {
    fn seconds(&self) -> DeltaSeconds {
        match self {
            Self::Text(text) => DeltaSeconds::parse(text),
            Self::Integer(seconds) => *seconds,
            Self::Absent | Self::Names(_) | Self::Malformed => DeltaSeconds::Invalid,
        }
    }

    /// Sets `all`, or adds the named fields to `names`. An argument that does not name fields makes
    /// the directive count for the whole response.
    fn qualify(&self, all: &mut bool, names: &mut Vec<HeaderName>) {
        let text = match self {
            Self::Text(text) => text.as_ref(),
            Self::Names(text) => text,
            Self::Absent | Self::Integer(_) | Self::Malformed => {
                *all = true;
                return;
            }
        };
        let before = names.len();
        for member in fields::split_list(text) {
            match HeaderName::from_bytes(member) {
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(_) => *all = true,
            }
        }
        // `no-cache=""` names nothing; `no-cache="a", no-cache="a"` names what is already there.
        *all |= names.len() == before && fields::split_list(text).next().is_none();
    }
}

fn keep_smallest(slot: &mut Option<DeltaSeconds>, seconds: DeltaSeconds) {
    *slot = Some(slot.map_or(seconds, |present| present.min(seconds)));
}

fn narrower(present: Option<MaxStale>, argument: &Argument<'_>) -> Option<MaxStale> {
    let stated = match argument {
        Argument::Absent => MaxStale::Any,
        other => match other.seconds() {
            DeltaSeconds::Invalid => return present,
            seconds => MaxStale::Within(seconds),
        },
    };
    Some(match (present, stated) {
        (Some(MaxStale::Within(a)), MaxStale::Within(b)) => MaxStale::Within(a.min(b)),
        (Some(present @ MaxStale::Within(_)), MaxStale::Any) => present,
        (_, stated) => stated,
    })
}

/// The longest name of a directive known here is `stale-while-revalidate`.
const LONGEST_NAME: usize = 24;

/// Calls `take` with each directive's name in lower case and its argument.
fn for_each_directive(headers: &HeaderMap, mut take: impl FnMut(&[u8], &Argument<'_>)) {
    for line in headers.get_all(CACHE_CONTROL) {
        let line = line.as_bytes();
        let intact = fields::quotes_are_closed(line);
        for member in fields::split_list(line) {
            read_member(member, intact, &mut take);
        }
    }
}

/// Reads `name [ "=" argument ]`. Whatever follows (as in `max-age=60; private`) is read on for what
/// restricts, and spoils what permits before and after it.
fn read_member(member: &[u8], intact: bool, take: &mut impl FnMut(&[u8], &Argument<'_>)) {
    let mut rest = member;
    let mut intact = intact;
    while !rest.is_empty() {
        let (name, after) = split_token(rest);
        let (argument, after) = read_argument(after);
        intact = intact && after.is_empty() && !name.is_empty();
        let mut lower = [0_u8; LONGEST_NAME];
        if let Some(lower) = lower.get_mut(..name.len()) {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            take(lower, if intact { &argument } else { &Argument::Malformed });
        }
        // One byte at least is consumed in each round.
        rest = if name.is_empty() && after.len() == rest.len() {
            rest.get(1..).unwrap_or_default()
        } else {
            after
        };
    }
}

fn read_argument(text: &[u8]) -> (Argument<'_>, &[u8]) {
    let Some((b'=', value)) = text.split_first() else { return (Argument::Absent, text) };
    if value.first() == Some(&b'"') {
        // One that never closes is left behind as a byte, so that nothing hides in it.
        let (quoted, after) = value.split_at(closing_quote(value).unwrap_or(1));
        return (fields::unquote(quoted).map_or(Argument::Malformed, Argument::Text), after);
    }
    let (token, after) = split_token(value);
    if token.is_empty() {
        (Argument::Malformed, after)
    } else {
        (Argument::Text(Cow::Borrowed(token)), after)
    }
}

/// Length of the quoted string `text` begins with; `None` when it never closes.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = true; // the opening quote
    let end = text.iter().position(|&byte| {
        let closes = !escaped && byte == b'"';
        escaped = !escaped && byte == b'\\';
        closes
    })?;
    Some(end + 1)
}

fn split_token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| !fields::is_tchar(byte)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn lines(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).expect("value"));
        }
        headers
    }

    fn response(line: &str) -> ResponseDirectives {
        ResponseDirectives::parse(&lines(&CACHE_CONTROL, &[line]))
    }

    fn request(line: &str) -> RequestDirectives {
        RequestDirectives::parse(&lines(&CACHE_CONTROL, &[line]))
    }

    fn seconds(seconds: u32) -> Option<DeltaSeconds> {
        Some(DeltaSeconds::Seconds(seconds))
    }

    const INVALID: Option<DeltaSeconds> = Some(DeltaSeconds::Invalid);

    #[test]
    fn rfc9111_1_2_2_delta_seconds() {
        for (text, expected) in [
            ("0", 0),
            ("0060", 60),
            ("2147483647", 2_147_483_647),
            ("2147483648", 2_147_483_648),
            ("2147483649", 2_147_483_648),
            ("4294967296", 2_147_483_648),
            ("18446744073709551617", 2_147_483_648),
            ("99999999999999999999999999999999999999", 2_147_483_648),
        ] {
            assert_eq!(DeltaSeconds::parse(text.as_bytes()), DeltaSeconds::Seconds(expected), "{text}");
        }
        for text in
            ["", "-1", "+1", "1.0", "1.", ".5", " 1", "1 ", "1,5", "0x10", "1e3", "a", "1a", "\u{0661}"]
        {
            assert_eq!(DeltaSeconds::parse(text.as_bytes()), DeltaSeconds::Invalid, "{text:?}");
        }
        assert_eq!(DeltaSeconds::Seconds(DeltaSeconds::MAX).millis(), 2_147_483_648_000);
        assert_eq!(DeltaSeconds::Invalid.millis(), 0);
    }

    #[test]
    fn rfc9111_5_2_spellings() {
        for line in [
            "max-age=60",
            "Max-Age=60",
            "MAX-AGE=\"60\"",
            "  max-age=60  ",
            "\tmax-age=060\t,",
            ",,max-age=60",
            "max-age=\"6\\0\"",
        ] {
            assert_eq!(response(line).max_age, seconds(60), "{line:?}");
        }
    }

    #[test]
    fn rfc9111_4_2_1_invalid_is_not_absent() {
        for line in [
            "max-age",
            "max-age=",
            "max-age=\"\"",
            "max-age=-1",
            "max-age=1.5",
            "max-age=\"60",
            "max-age='60'",
            "max-age =60",
            "max-age= 60",
            "max-age=60 60",
            "max-age=60;x=y",
            "max-age=a60",
            "max-age=60a",
            "max-age=\" 60\"",
            "max-age=\"60\"0",
            "max-age==60",
            "max-age=60, x=\"",
        ] {
            assert_eq!(response(line).max_age, INVALID, "{line:?}");
            assert_eq!(
                response(&format!("s-{}", line.replacen("max-age", "maxage", 1))).s_maxage,
                INVALID,
                "{line:?}"
            );
        }
        assert_eq!(response("\"max-age=60\"").max_age, INVALID);
        for line in ["", "public", "x-max-age=60", "max-ages=60", "maxage=60"] {
            assert_eq!(response(line).max_age, None, "{line:?}");
        }
    }

    #[test]
    fn rfc9111_4_2_1_duplicates() {
        let parsed = ResponseDirectives::parse(&lines(
            &CACHE_CONTROL,
            &["max-age=60, s-maxage=9", "max-age=30, s-maxage=10"],
        ));
        assert_eq!((parsed.max_age, parsed.s_maxage), (seconds(30), seconds(9)));
        assert_eq!(response("max-age=60, max-age=x").max_age, INVALID);
        assert_eq!(response("max-age, max-age=60").max_age, INVALID);
    }

    #[test]
    fn rfc9111_5_2_2_responses() {
        let all = response(
            "max-age=1, s-maxage=2, no-store, no-cache, private, public, must-revalidate, proxy-revalidate, \
             must-understand, no-transform, immutable, stale-while-revalidate=3, stale-if-error=4",
        );
        let expected = ResponseDirectives {
            max_age: seconds(1),
            s_maxage: seconds(2),
            no_store: true,
            no_cache: true,
            private: true,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            no_transform: true,
            immutable: true,
            stale_while_revalidate: seconds(3),
            stale_if_error: seconds(4),
            ..ResponseDirectives::default()
        };
        assert_eq!(all, expected);
        assert_eq!(response(""), ResponseDirectives::default());
    }

    #[test]
    fn restrictions_count_however_they_are_written() {
        for line in [
            "NO-STORE",
            "no-store=1",
            "no-store=\"x\"",
            "no-store ",
            "no-store;x",
            "no-store =1",
            "max-age=60; no-store",
            "max-age=60 no-store",
            "x=\"y, no-store",
            "a\"b, no-store, c\"d, no-store",
            "\"\", no-store",
            "public no-store",
            "x=\"y; no-store",
            "\"no-store\"",
        ] {
            assert!(response(line).no_store, "{line:?}");
        }
        for line in ["x=\"no-store\"", "no-stores", "x-no-store", "x=\"a, no-store\"", "x=no-store"] {
            assert!(!response(line).no_store, "{line:?}");
        }
        for line in ["public=1", "public;x", "x=\"y, public", "immutable=1", "must-understand x"] {
            let read = response(line);
            assert!(!read.public && !read.immutable && !read.must_understand, "{line:?}");
        }
    }

    #[test]
    fn rfc9111_5_2_2_qualified() {
        for (line, all, names) in [
            ("private", true, &[][..]),
            ("private=\"set-cookie\"", false, &["set-cookie"]),
            ("private=Set-Cookie", false, &["set-cookie"]),
            ("private=\"a, B ,,a\"", false, &["a", "b"]),
            ("private=\"a\", private=\"a\"", false, &["a"]),
            ("private=\"a\", private=\"b\"", false, &["a", "b"]),
            ("private=\"a\", private", true, &["a"]),
            ("private=\"\"", true, &[]),
            ("private=\",\"", true, &[]),
            ("private=", true, &[]),
            ("private=\"a b\"", true, &[]),
            ("private=\"a", true, &[]),
            ("private =\"a\"", true, &[]),
        ] {
            let read = response(line);
            let held: Vec<_> = read.private_fields.iter().map(HeaderName::as_str).collect();
            assert_eq!((read.private, &held[..]), (all, names), "{line:?}");
            let read = response(&line.replace("private", "no-cache"));
            let held: Vec<_> = read.no_cache_fields.iter().map(HeaderName::as_str).collect();
            assert_eq!((read.no_cache, &held[..]), (all, names), "{line:?}");
        }
    }

    #[test]
    fn rfc9111_5_2_3_neighbours() {
        for (line, expected) in [
            ("a=\"b, max-age=3600\", max-age=1", 1),
            ("a=\"max-age=3600\\\", max-age=7200\", max-age=1", 1),
            ("community=\"UCI\", max-age=1", 1),
            ("max-age=1, foo, bar=baz, qux=\"\"", 1),
            ("max-age=1, stale-while-revalidate-and-a-long-name=9", 1),
            ("=, max-age=1", 1),
            ("@@@, max-age=1", 1),
        ] {
            assert_eq!(response(line).max_age, seconds(expected), "{line:?}");
        }
    }

    #[test]
    fn rfc9111_5_2_1_requests() {
        let all = request(
            "No-Cache, no-store, max-age=1, min-fresh=2, max-stale=3, only-if-cached, stale-if-error=4, no-transform",
        );
        let expected = RequestDirectives {
            no_cache: true,
            no_store: true,
            max_age: seconds(1),
            min_fresh: seconds(2),
            max_stale: Some(MaxStale::Within(DeltaSeconds::Seconds(3))),
            only_if_cached: true,
            stale_if_error: seconds(4),
        };
        assert_eq!(all, expected);
        for (line, expected) in [
            ("max-stale", Some(MaxStale::Any)),
            ("max-stale, max-stale=5", Some(MaxStale::Within(DeltaSeconds::Seconds(5)))),
            ("max-stale=5, max-stale", Some(MaxStale::Within(DeltaSeconds::Seconds(5)))),
            ("max-stale=5, max-stale=3", Some(MaxStale::Within(DeltaSeconds::Seconds(3)))),
            ("max-stale=x", None),
            ("max-stale=", None),
            ("max-stale;x", None),
        ] {
            assert_eq!(request(line).max_stale, expected, "{line:?}");
        }
        assert_eq!(request("min-fresh=1, min-fresh=5, min-fresh=x").min_fresh, seconds(5));
        assert_eq!(request("max-age=x").max_age, INVALID);
        assert_eq!(request("stale-if-error=x").stale_if_error, None);
    }

    #[test]
    fn rfc9111_5_4_pragma() {
        for (pragma, cache_control, expected) in [
            ("no-cache", None, true),
            ("foo, No-Cache", None, true),
            ("no-cache=1", None, false),
            ("foo=\"no-cache\"", None, false),
            ("no-cache", Some("max-age=1"), false),
            ("no-cache", Some(""), false),
        ] {
            let mut headers = lines(&PRAGMA, &[pragma]);
            if let Some(line) = cache_control {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static(line));
            }
            assert_eq!(RequestDirectives::parse(&headers).no_cache, expected, "{pragma} {cache_control:?}");
            assert!(!ResponseDirectives::parse(&headers).no_cache, "Pragma means nothing in a response");
        }
    }

    /// Pieces from which hostile lines are made.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~\\t]{0,6}",
            Just("max-age=60".to_owned()),
            Just("no-store".to_owned()),
            Just("private=\"a, b\"".to_owned()),
            Just("\"".to_owned()),
            Just("\\".to_owned()),
            Just(", ".to_owned()),
            Just(";".to_owned()),
            Just("=".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.insert(CACHE_CONTROL, value);
                let _ = ResponseDirectives::parse(&headers);
                let _ = RequestDirectives::parse(&headers);
            }
        }

        /// Whatever else a field holds, a lifetime never exceeds the smallest well-formed one, and a
        /// prohibition on a line of its own is never lost.
        #[test]
        fn neighbours_never_loosen(pieces in proptest::collection::vec(piece(), 0..12), max_age in 0_u32..100) {
            let own = format!("max-age={max_age}, no-store, private");
            let mut headers = lines(&CACHE_CONTROL, &[&own]);
            if let Ok(value) = HeaderValue::from_str(&pieces.concat()) {
                headers.append(CACHE_CONTROL, value);
            }
            let read = ResponseDirectives::parse(&headers);
            prop_assert!(read.max_age <= seconds(max_age) && read.max_age.is_some());
            prop_assert!(read.no_store && read.private);
        }

        /// The order of lines and of members decides nothing.
        #[test]
        fn order_is_irrelevant(mut members in proptest::collection::vec("(max-age|s-maxage)=[0-9x]{1,3}|no-cache|public", 0..6)) {
            let forth = response(&members.join(", "));
            members.reverse();
            let lines_of: Vec<&str> = members.iter().map(String::as_str).collect();
            prop_assert_eq!(forth, ResponseDirectives::parse(&lines(&CACHE_CONTROL, &lines_of)));
        }
    }
}
