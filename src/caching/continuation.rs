//! Continuing an answer whose stored content is lost on its way to the client (RFC 9110 13.1.5, 14.2).
//!
//! Decides: of which stored responses the origin may be asked for the bytes that were not sent yet, with
//! which fields it is asked, and whether its answer is those bytes. Never touches: the bytes; whether they
//! are as many as the answer says is for whoever passes them on. Pure.
//!
//! | the origin answers | then |
//! |---|---|
//! | 206 with exactly the range that was asked for, of the same complete length | its content is the rest |
//! | 200 of the same length | the rest is its content behind what was sent already |
//! | either with another strong entity tag, or none, or another `Content-Encoding` | it is of no use |
//! | anything else | nor is that |

use http::header::{CONTENT_ENCODING, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::partial::{self, Completion};
use super::stored::{Part, StoredHead};
use crate::semantics::fields;
use crate::semantics::validator::EntityTag;

/// Bytes of a representation that an answer promised, and that are not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Where they are in the representation, and how long that is.
    range: Part,
    /// The strong entity tag of the representation.
    etag: HeaderValue,
    /// Its content codings, in lower case and in order.
    codings: Vec<Vec<u8>>,
}

/// What an origin's answer to the question for missing bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// They are its content, all of it.
    Rest,
    /// They are in its content, behind this many others; what follows them is not wanted.
    Whole {
        /// Bytes before them.
        skip: u64,
    },
    /// They are not in it.
    Unfit(Unfit),
}

/// Why an answer does not hold the missing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is neither 206 nor 200.
    Status,
    /// Its entity tag is another one, or weak, or missing: it may be of another representation.
    Validator,
    /// Its content is coded otherwise.
    Encoding,
    /// Its range is not the one that was asked for, or not of what was asked for.
    Range,
    /// The whole is of another length, or of one that is not stated.
    Length,
}

impl Missing {
    /// The bytes from `first` to `last`, inclusive, of stored content of `length` bytes, all of them still to
    /// be sent. `None` where the origin could not be asked for some of them: there is no strong entity tag to
    /// hold it to, or the response is neither a complete 200 nor a known part of one.
    #[must_use]
    pub fn of(head: &StoredHead, length: u64, (first, last): (u64, u64)) -> Option<Self> {
        let held = match head.part {
            Some(part) if part.len() == length => part,
            None if head.status == StatusCode::OK => {
                Part { first: 0, last: length.checked_sub(1)?, complete: length }
            }
            Some(_) | None => return None,
        };
        let etag = head.field(&ETAG)?;
        if !EntityTag::parse(etag.as_bytes())?.is_strong() || first > last || last >= length {
            return None;
        }
        let at = |offset: u64| held.first.checked_add(offset);
        let range = Part { first: at(first)?, last: at(last)?, ..held };
        let lines = head.fields.iter().filter(|(name, _)| *name == CONTENT_ENCODING);
        let members = lines.flat_map(|(_, line)| fields::split_list(line.as_bytes()));
        let codings = members.map(<[u8]>::to_ascii_lowercase).collect();
        Some(Self { range, etag: etag.clone(), codings })
    }

    /// What is still missing when `sent` more bytes were sent; `None` when nothing is.
    #[must_use]
    pub fn after(mut self, sent: u64) -> Option<Self> {
        self.range.first = self.range.first.checked_add(sent)?;
        (self.range.first <= self.range.last).then_some(self)
    }

    /// How many bytes are missing: at least one.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.range.len()
    }

    /// The fields that ask for them (RFC 9110 13.1.5, 14.2): for these bytes if the representation is still
    /// the same, and else for the whole of what it is now, of which nothing will be read.
    #[must_use]
    pub fn question(&self) -> Option<Completion> {
        let Part { first, last, .. } = self.range;
        let range = HeaderValue::from_str(&format!("bytes={first}-{last}")).ok()?;
        Some(Completion { range, if_range: self.etag.clone() })
    }

    /// Whether an answer holds them. `content_length`: of its content, as its framing states it.
    #[must_use]
    pub fn judge(&self, status: StatusCode, headers: &HeaderMap, content_length: Option<u64>) -> Answered {
        let is_part = match status {
            StatusCode::PARTIAL_CONTENT => true,
            StatusCode::OK => false,
            _ => return Answered::Unfit(Unfit::Status),
        };
        // Strong comparison (RFC 9110 8.8.3.2): ours is strong, and what is equal to it is.
        if fields::sole(headers, &ETAG) != Some(&self.etag) {
            return Answered::Unfit(Unfit::Validator);
        }
        // A part need not repeat what the client has been told (RFC 9110 15.3.7); what it says has to agree.
        let is_told = headers.contains_key(CONTENT_ENCODING);
        if (is_told || !is_part) && !self.is_coded_as(headers) {
            return Answered::Unfit(Unfit::Encoding);
        }
        if is_part {
            return match partial::part(headers, content_length) {
                Some(part) if part == self.range => Answered::Rest,
                _ => Answered::Unfit(Unfit::Range),
            };
        }
        match content_length {
            Some(length) if length == self.range.complete => Answered::Whole { skip: self.range.first },
            _ => Answered::Unfit(Unfit::Length),
        }
    }

    fn is_coded_as(&self, headers: &HeaderMap) -> bool {
        let members = fields::members(headers, &CONTENT_ENCODING).map(<[u8]>::to_ascii_lowercase);
        members.eq(self.codings.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caching::testing::{Case, map};

    fn whole(lines: &[(&str, &str)]) -> StoredHead {
        let lines: Vec<_> = [("cache-control", "max-age=60")].iter().chain(lines).copied().collect();
        Case::new(200, &lines).stored()
    }

    fn part(range: &str) -> StoredHead {
        let lines = [("cache-control", "max-age=60"), ("etag", "\"a\""), ("content-range", range)];
        Case::new(206, &lines).request(&[("range", "bytes=0-")]).stored()
    }

    #[test]
    fn rfc_9110_14_2_what_was_not_sent_is_asked_for() {
        let tagged = whole(&[("etag", "\"a\"")]);
        let rows = [
            (tagged.clone(), 100, (0, 99), 0, Some("bytes=0-99")),
            (tagged.clone(), 100, (0, 99), 40, Some("bytes=40-99")),
            (tagged.clone(), 100, (0, 99), 99, Some("bytes=99-99")),
            (tagged.clone(), 100, (0, 99), 100, None),
            (tagged.clone(), 100, (0, 99), u64::MAX, None),
            (tagged.clone(), 100, (10, 19), 5, Some("bytes=15-19")),
            (tagged.clone(), 100, (10, 100), 0, None),
            (tagged.clone(), 100, (5, 4), 0, None),
            (tagged, 0, (0, 0), 0, None),
            // Content begins where its part does.
            (part("bytes 50-149/1000"), 100, (0, 99), 10, Some("bytes=60-149")),
            (part("bytes 50-149/1000"), 100, (10, 19), 0, Some("bytes=60-69")),
            (part("bytes 50-149/1000"), 99, (0, 98), 0, None),
        ];
        for (head, length, range, sent, expected) in rows {
            let missing = Missing::of(&head, length, range).and_then(|missing| missing.after(sent));
            let asked = missing.as_ref().and_then(Missing::question);
            let told = asked.as_ref().map(|asked| asked.range.to_str().expect("text"));
            assert_eq!(told, expected, "{range:?} of {length}, {sent} sent");
            assert!(asked.is_none_or(|asked| asked.if_range == "\"a\""));
        }
    }

    #[test]
    fn rfc_9110_13_1_5_without_a_strong_tag_nothing_is_asked_for() {
        for lines in [
            &[][..],
            &[("etag", "W/\"a\"")],
            &[("etag", "a")],
            &[("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")],
        ] {
            assert_eq!(Missing::of(&whole(lines), 100, (0, 99)), None, "{lines:?}");
        }
        let mut other = whole(&[("etag", "\"a\"")]);
        other.status = StatusCode::NOT_FOUND;
        assert_eq!(Missing::of(&other, 100, (0, 99)), None, "ranges are of a 200");
    }

    #[test]
    fn only_the_very_bytes_are_taken_for_the_rest() {
        use Answered::{Rest, Whole};
        const NO: fn(Unfit) -> Answered = Answered::Unfit;
        type Row = (u16, &'static [(&'static str, &'static str)], Option<u64>, Answered);
        let (tag, range) = (("etag", "\"a\""), ("content-range", "bytes 40-99/100"));
        let rows: &[Row] = &[
            (206, &[("etag", "\"a\""), ("content-range", "bytes 40-99/100")], Some(60), Rest),
            (206, &[("etag", "\"a\""), ("content-range", "bytes 40-99/100")], None, Rest),
            (206, &[("etag", "\"a\""), ("content-range", "bytes 40-99/100")], Some(59), NO(Unfit::Range)),
            (206, &[("etag", "\"a\""), ("content-range", "bytes 41-99/100")], Some(59), NO(Unfit::Range)),
            (206, &[("etag", "\"a\""), ("content-range", "bytes 39-99/100")], None, NO(Unfit::Range)),
            (206, &[("etag", "\"a\""), ("content-range", "bytes 40-98/100")], None, NO(Unfit::Range)),
            (206, &[("etag", "\"a\""), ("content-range", "bytes 40-99/101")], None, NO(Unfit::Range)),
            (206, &[("etag", "\"a\""), ("content-range", "bytes 40-99/*")], None, NO(Unfit::Range)),
            (206, &[("etag", "\"a\"")], Some(60), NO(Unfit::Range)),
            (206, &[("etag", "\"b\""), ("content-range", "bytes 40-99/100")], None, NO(Unfit::Validator)),
            (206, &[("etag", "W/\"a\""), ("content-range", "bytes 40-99/100")], None, NO(Unfit::Validator)),
            (206, &[("content-range", "bytes 40-99/100")], None, NO(Unfit::Validator)),
            (200, &[("etag", "\"a\"")], Some(100), Whole { skip: 40 }),
            (200, &[("etag", "\"a\"")], Some(99), NO(Unfit::Length)),
            (200, &[("etag", "\"a\"")], None, NO(Unfit::Length)),
            (200, &[("etag", "\"b\"")], Some(100), NO(Unfit::Validator)),
            (200, &[("etag", "W/\"a\"")], Some(100), NO(Unfit::Validator)),
            (203, &[("etag", "\"a\"")], Some(100), NO(Unfit::Status)),
            (304, &[("etag", "\"a\"")], None, NO(Unfit::Status)),
            (412, &[("etag", "\"a\"")], None, NO(Unfit::Status)),
            (416, &[("etag", "\"a\""), ("content-range", "bytes */100")], None, NO(Unfit::Status)),
            (503, &[("etag", "\"a\"")], Some(100), NO(Unfit::Status)),
        ];
        let missing = Missing::of(&whole(&[tag]), 100, (0, 99)).and_then(|missing| missing.after(40));
        let missing = missing.expect("some are missing");
        assert_eq!(missing.length(), 60);
        for (status, lines, length, expected) in rows {
            let status = StatusCode::from_u16(*status).expect("a status");
            assert_eq!(
                missing.judge(status, &map(lines), *length),
                *expected,
                "{status} {lines:?} {length:?}"
            );
        }
        let twice = [tag, ("etag", "\"a\""), range];
        assert_eq!(missing.judge(StatusCode::PARTIAL_CONTENT, &map(&twice), None), NO(Unfit::Validator));
        let several = [tag, range, ("content-type", "multipart/byteranges; boundary=x")];
        assert_eq!(missing.judge(StatusCode::PARTIAL_CONTENT, &map(&several), None), NO(Unfit::Range));
    }

    #[test]
    fn content_that_is_coded_otherwise_is_not_the_rest() {
        let (tag, range) = (("etag", "\"a\""), ("content-range", "bytes 0-99/100"));
        for (stored, told, of_part, of_whole) in [
            (None, None, true, true),
            (Some("gzip"), Some("GZip"), true, true),
            (Some("gzip, br"), Some("gzip,br"), true, true),
            // RFC 9110 15.3.7: a part that answers If-Range need not say it again.
            (Some("gzip"), None, true, false),
            (None, Some("gzip"), false, false),
            (Some("gzip"), Some("br"), false, false),
            (Some("gzip, br"), Some("br, gzip"), false, false),
        ] {
            let stored: Vec<_> = [tag].into_iter().chain(stored.map(|c| ("content-encoding", c))).collect();
            let missing = Missing::of(&whole(&stored), 100, (0, 99)).expect("a strong tag");
            let lines = [tag, range].into_iter().chain(told.map(|c| ("content-encoding", c)));
            let lines = map(&lines.collect::<Vec<_>>());
            let fits = |status| !matches!(missing.judge(status, &lines, Some(100)), Answered::Unfit(_));
            assert_eq!(fits(StatusCode::PARTIAL_CONTENT), of_part, "{stored:?}, told {told:?}");
            assert_eq!(fits(StatusCode::OK), of_whole, "{stored:?}, told {told:?}");
        }
    }

    proptest! {
        /// Whatever an origin says its part is: it is taken for the rest if it is exactly what was asked for.
        #[test]
        fn no_other_range_is_ever_the_rest(
            length in 1_u64..50, marks in (0_u64..60, 0_u64..60, 0_u64..60), said in (0_u64..60, 0_u64..60, 0_u64..60),
        ) {
            let Some(missing) = Missing::of(&whole(&[("etag", "\"a\"")]), length, (marks.0, marks.1))
                .and_then(|missing| missing.after(marks.2))
            else {
                prop_assert!(marks.0 > marks.1 || marks.1 >= length || marks.0 + marks.2 > marks.1);
                return Ok(());
            };
            let told = format!("bytes {}-{}/{}", said.0, said.1, said.2);
            let headers = map(&[("etag", "\"a\""), ("content-range", &told)]);
            let answered = missing.judge(StatusCode::PARTIAL_CONTENT, &headers, None);
            let exactly = said == (marks.0 + marks.2, marks.1, length);
            prop_assert_eq!(answered == Answered::Rest, exactly, "{}", told);
        }
    }
}
