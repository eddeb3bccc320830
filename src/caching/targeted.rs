//! Targeted cache control (RFC 9213): directives for this cache alone.
//!
//! Decides: which field governs a response, and what it says. Never touches: what follows from it;
//! the directives mean what they mean in `Cache-Control`.
//!
//! The target list is `Forebay-Cache-Control`, then `CDN-Cache-Control`. The first that is a valid,
//! non-empty structured Dictionary governs, and then `Cache-Control` and `Expires` say nothing to
//! this cache; one that is invalid or empty is as if it were absent. Being structured it is stricter
//! than `Cache-Control`: a name in upper case, a blank around `=` or a comma at the end makes the
//! whole field invalid, and of a repeated name the last counts.
//!
//! A value of the wrong type is not used (RFC 9213 2.1): a lifetime that is no Integer is invalid and
//! so stale, what permits does not permit, what prohibits still does unless it is `?0`.
//!
//! What clients see: every field as the origin sent it. Both targeted fields pass on: there may be
//! another CDN or another forebay in front of this one (RFC 9213 3), and they stay with the stored
//! response, so that a 304 that does not repeat them still finds them. `Cache-Control` and `Expires`
//! are the clients' own. Nothing is filtered at a hit.
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9213 2.1: Dictionary; empty or invalid is absent | [`targeted`] | `rfc9213_2_1_invalid_is_absent` |
//! | RFC 9213 2.1: types of values, parameters ignored | [`targeted`] | `rfc9213_2_1_types` |
//! | RFC 9213 2.2: first of the target list; Cache-Control and Expires ignored | [`targeted`], [`Governing`] | `rfc9213_2_2_target_list` |
//! | RFC 9213 2.2: max-age, must-revalidate, no-store, no-cache, private | [`targeted`] | `rfc9213_2_2_directives` |
//! | RFC 9213 3.1: the examples | [`governing`] | `rfc9213_3_1_examples` |

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::{Argument, DeltaSeconds, ResponseDirectives};

/// `Forebay-Cache-Control`.
pub static FOREBAY_CACHE_CONTROL: HeaderName = HeaderName::from_static("forebay-cache-control");

/// `CDN-Cache-Control` (RFC 9213 3).
pub static CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The target list of this cache, most applicable first (RFC 9213 2.2).
pub const TARGETS: [&HeaderName; 2] = [&FOREBAY_CACHE_CONTROL, &CDN_CACHE_CONTROL];

/// The field whose directives govern a response in this cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Governing {
    /// A member of [`TARGETS`]: `Cache-Control` and `Expires` are to be ignored.
    Targeted(&'static HeaderName),
    /// `Cache-Control`, and `Expires` with it.
    CacheControl,
}

/// The directives that govern a response, and the field they stand in.
///
/// ```
/// use forebay::caching::cache_control::DeltaSeconds;
/// use forebay::caching::targeted::{Governing, governing};
/// let mut headers = http::HeaderMap::new();
/// headers.insert("cache-control", http::HeaderValue::from_static("no-store"));
/// headers.insert("cdn-cache-control", http::HeaderValue::from_static("max-age=600"));
/// let (field, directives) = governing(&headers);
/// assert!(matches!(field, Governing::Targeted(_)));
/// assert!(!directives.no_store && directives.max_age == Some(DeltaSeconds::Seconds(600)));
/// ```
#[must_use]
pub fn governing(headers: &HeaderMap) -> (Governing, ResponseDirectives) {
    match targeted(headers) {
        Some((name, directives)) => (Governing::Targeted(name), directives),
        None => (Governing::CacheControl, ResponseDirectives::parse(headers)),
    }
}

/// The directives of the first valid, non-empty field of [`TARGETS`].
#[must_use]
pub fn targeted(headers: &HeaderMap) -> Option<(&'static HeaderName, ResponseDirectives)> {
    TARGETS.into_iter().find_map(|name| Some((name, read(headers, name)?)))
}

/// One targeted field over all its lines; `None` when it is absent, empty or invalid.
fn read(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let value = joined(headers, name)?;
    let members: Dictionary = Parser::new(value.as_ref()).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives::default();
    for (name, member) in &members {
        if let Some(argument) = argument(member) {
            directives.apply(name.as_str().as_bytes(), &argument);
        }
    }
    Some(directives)
}

/// Several lines are one value, joined by a comma (RFC 9651 4.2).
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let mut value = Cow::Borrowed(lines.next()?.as_bytes());
    for line in lines {
        let value = value.to_mut();
        value.extend_from_slice(b", ");
        value.extend_from_slice(line.as_bytes());
    }
    Some(value)
}

/// What a member says after its name, parameters left aside; `None` for `?0`, which says the
/// directive is not there.
fn argument(member: &ListEntry) -> Option<Argument<'_>> {
    let ListEntry::Item(item) = member else { return Some(Argument::Malformed) };
    Some(match &item.bare_item {
        BareItem::Boolean(true) => Argument::Absent,
        BareItem::Boolean(false) => return None,
        BareItem::Integer(number) => {
            let seconds = u64::try_from(i64::from(*number));
            Argument::Integer(seconds.map_or(DeltaSeconds::Invalid, DeltaSeconds::from_seconds))
        }
        BareItem::String(text) => Argument::Names(text.as_str().as_bytes()),
        _ => Argument::Malformed,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    fn cdn(value: &str) -> Option<ResponseDirectives> {
        targeted(&map(&[("cdn-cache-control", value)])).map(|(_, directives)| directives)
    }

    fn seconds(seconds: u32) -> Option<DeltaSeconds> {
        Some(DeltaSeconds::Seconds(seconds))
    }

    #[test]
    fn rfc9213_2_1_invalid_is_absent() {
        for value in [
            "",
            " ",
            ",",
            "max-age=60,",
            "max-age=60, &&&&&",
            "Max-Age=60",
            "max-age =60",
            "max-age= 60",
            "max-age=",
            "max-age=60 no-store",
            "max-age=\"60",
            "max-age='60'",
            "max-age=60;",
            "\"max-age\"=60",
            "max-age=9999999999999999",
            "max-age=(60",
            "max-age=60, x=%",
        ] {
            assert_eq!(cdn(value), None, "{value:?}");
        }
        // Over several lines too: one comma too many spoils all of them.
        let headers = map(&[("cdn-cache-control", "max-age=60"), ("cdn-cache-control", "")]);
        assert_eq!(targeted(&headers), None);
    }

    #[test]
    fn rfc9213_2_1_types() {
        const INVALID: Option<DeltaSeconds> = Some(DeltaSeconds::Invalid);
        for (value, max_age) in [
            ("max-age=60", seconds(60)),
            ("  max-age=60  ", seconds(60)),
            ("max-age=0060", seconds(60)),
            ("max-age=60;a=1;b", seconds(60)),
            ("max-age=60 \t,\t no-transform", seconds(60)),
            ("max-age=999999999999999", seconds(DeltaSeconds::MAX)),
            ("max-age=30, max-age=60", seconds(60)),
            ("max-age=x, max-age=60", seconds(60)),
            ("max-age=\"60\"", INVALID),
            ("max-age=60.0", INVALID),
            ("max-age=-1", INVALID),
            ("max-age", INVALID),
            ("max-age=?1", INVALID),
            ("max-age=sixty", INVALID),
            ("max-age=(60)", INVALID),
            ("max-age=:NjA=:", INVALID),
            ("max-age=@60", INVALID),
            ("max-age=?0", None),
            ("none", None),
        ] {
            assert_eq!(cdn(value).expect("valid").max_age, max_age, "{value:?}");
        }
        // What prohibits stands whatever its value; what permits does not.
        for (value, prohibits) in [
            ("no-store", true),
            ("no-store=?1", true),
            ("no-store;a", true),
            ("no-store=\"x\"", true),
            ("no-store=1", true),
            ("no-store=()", true),
            ("no-store=?0", false),
        ] {
            assert_eq!(cdn(value).expect("valid").no_store, prohibits, "{value:?}");
            let permits = cdn(&value.replace("no-store", "public")).expect("valid").public;
            assert_eq!(permits, matches!(value, "no-store" | "no-store=?1" | "no-store;a"), "{value:?}");
        }
    }

    #[test]
    fn rfc9213_2_2_directives() {
        let all =
            cdn("max-age=1, s-maxage=2, must-revalidate, no-store, no-cache, private, public, immutable, \
             stale-while-revalidate=3, stale-if-error=4, x=y");
        let expected = ResponseDirectives {
            max_age: seconds(1),
            s_maxage: seconds(2),
            must_revalidate: true,
            no_store: true,
            no_cache: true,
            private: true,
            public: true,
            immutable: true,
            stale_while_revalidate: seconds(3),
            stale_if_error: seconds(4),
            ..ResponseDirectives::default()
        };
        assert_eq!(all, Some(expected));
        let qualified = cdn("no-cache=\"a, b\", private=\"set-cookie\"").expect("valid");
        assert!(!qualified.no_cache && !qualified.private);
        assert_eq!(qualified.no_cache_fields, ["a", "b"]);
        assert_eq!(qualified.private_fields, ["set-cookie"]);
        // A Token is not the String that names fields.
        let token = cdn("private=set-cookie").expect("valid");
        assert!(token.private && token.private_fields.is_empty());
    }

    #[test]
    fn rfc9213_2_2_target_list() {
        let both = |forebay: &str, cdn: &str| {
            let headers = map(&[
                ("cache-control", "max-age=1, no-store"),
                ("cdn-cache-control", cdn),
                ("forebay-cache-control", forebay),
                ("surrogate-control", "max-age=4"),
                ("other-cache-control", "max-age=5"),
            ]);
            let (field, directives) = governing(&headers);
            (field, directives.max_age, directives.no_store)
        };
        let of = |name| Governing::Targeted(name);
        assert_eq!(both("max-age=3", "max-age=2"), (of(&FOREBAY_CACHE_CONTROL), seconds(3), false));
        assert_eq!(both("", "max-age=2"), (of(&CDN_CACHE_CONTROL), seconds(2), false));
        assert_eq!(both("Max-Age=3", "max-age=2"), (of(&CDN_CACHE_CONTROL), seconds(2), false));
        assert_eq!(both("none", "max-age=2"), (of(&FOREBAY_CACHE_CONTROL), None, false));
        assert_eq!(both("", "a, b,"), (Governing::CacheControl, seconds(1), true));
    }

    #[test]
    fn rfc9213_3_1_examples() {
        for (fields, field, max_age, no_store) in [
            (
                &[("cache-control", "max-age=60, s-maxage=120"), ("cdn-cache-control", "max-age=600")][..],
                Governing::Targeted(&CDN_CACHE_CONTROL),
                seconds(600),
                false,
            ),
            (
                &[("cdn-cache-control", "max-age=600"), ("cache-control", "no-store")],
                Governing::Targeted(&CDN_CACHE_CONTROL),
                seconds(600),
                false,
            ),
            (&[("cache-control", "no-store")], Governing::CacheControl, None, true),
            (
                &[("cache-control", "no-store"), ("cdn-cache-control", "none")],
                Governing::Targeted(&CDN_CACHE_CONTROL),
                None,
                false,
            ),
        ] {
            let (governs, directives) = governing(&map(fields));
            assert_eq!(
                (governs, directives.max_age, directives.no_store),
                (field, max_age, no_store),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn lines_are_joined() {
        let headers =
            map(&[("cdn-cache-control", "max-age=60"), ("cdn-cache-control", "no-cache, max-age=30")]);
        let (_, directives) = targeted(&headers).expect("valid");
        assert_eq!((directives.max_age, directives.no_cache), (seconds(30), true));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.insert(&CDN_CACHE_CONTROL, value);
                let _ = governing(&headers);
            }
        }

        /// A field without upper case, blanks, quotes or repeated names says the same in both fields.
        #[test]
        fn plain_fields_agree_with_cache_control(
            picked in proptest::sample::subsequence(
                vec!["max-age=5", "s-maxage=7", "no-store", "no-cache", "private", "public", "must-revalidate",
                     "immutable", "stale-if-error=9", "extension=3", "must-understand", "proxy-revalidate"], 1..12,
            ),
        ) {
            let line = picked.join(", ");
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_str(&line).expect("value"));
            prop_assert_eq!(cdn(&line), Some(ResponseDirectives::parse(&headers)));
        }
    }
}
