//! The cache key: the bytes that are forwarded, less what the route's recipe names.
//!
//! Decides: which bytes of a request make its primary key. Never touches: variants (that is `vary`).
//! Nothing is normalised here that is not normalised on the wire: `Shop.example` and `shop.example`
//! are two keys because the origin sees two hosts, `/a%41` and `/aA` are two because it sees two paths.
//!
//! The text is readable and says everything the hash covers:
//! ```text
//! http://shop.example/products?id=7
//! header accept-language:2:en
//! cookie 11:currency=EU
//! ```
//! It is unambiguous: the target holds no line feed, and each value after it is preceded by its length.
//!
//! A recipe errs on the side of the key: `query_exclude` leaves out only what is spelt exactly as it
//! says, `query_include` keeps whatever an origin might read as the name it says (percent-encoded, in
//! another case, with a `[]` suffix), and a parameter with a `;` in it always counts, since some
//! origins split there. A parameter that the key forgets and the origin reads would let anyone choose
//! what others are given.
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9111 2, 4: the key is the target URI (and what the route adds) | [`KeyRecipe::key`] | `rfc9111_2_keys_are_the_forwarded_bytes` |
//! | RFC 9110 4.2.3: equivalent URIs may stay distinct keys | [`KeyRecipe::key`] | `rfc9111_2_keys_are_the_forwarded_bytes` |
//! | RFC 9111 7.1: no other request shares a key by disguise | [`KeyRecipe::key`] | `a_recipe_errs_on_the_side_of_the_key`, `keys_are_injective` |

use bytes::Bytes;
use http::header::{COOKIE, HeaderMap, HeaderName};
use xxhash_rust::xxh3::xxh3_128;

use super::url;
use crate::semantics::fields::trim_ows;

/// Query parameters that tell advertisers where a visitor came from and origins nothing: what
/// `@tracking` in `query_exclude` stands for. A trailing `*` matches any ending.
pub const TRACKING: &[&str] = &[
    "utm_*",
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "gad_source",
    "gad_campaignid",
    "_ga",
    "_gl",
    "fbclid",
    "fb_action_ids",
    "fb_action_types",
    "fb_source",
    "igshid",
    "igsh",
    "msclkid",
    "ttclid",
    "twclid",
    "li_fat_id",
    "yclid",
    "ysclid",
    "_openstat",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "_hsenc",
    "_hsmi",
    "__hssc",
    "__hstc",
    "__hsfp",
    "hsCtaTracking",
    "_kx",
    "vero_conv",
    "vero_id",
    "oly_anon_id",
    "oly_enc_id",
    "s_kwcid",
    "ef_id",
    "epik",
    "srsltid",
    "rb_clickid",
    "wickedid",
    "irclickid",
    "pk_*",
    "piwik_*",
    "mtm_*",
    "matomo_*",
];

/// The longest key, in bytes of text. Longer ones are refused, never cut.
pub const MAX_KEY: usize = 16 << 10;

/// The primary key of a request: readable text, and its 128-bit hash under which records live.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrimaryKey {
    /// xxh3-128 of `text`.
    pub hash: u128,
    /// The key before hashing: compared on every hit, since the hash is not collision resistant.
    pub text: Bytes,
}

/// The key would be longer than [`MAX_KEY`]: the request is forwarded and nothing of it stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTooLong;

/// `key = { … }` of a route, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRecipe {
    /// Query parameter names left out; a trailing `*` matches any ending.
    pub query_exclude: Vec<String>,
    /// When not empty, only these query parameters count; a trailing `*` matches any ending.
    pub query_include: Vec<String>,
    /// Parameters are sorted by name (stable) in the key; the origin sees them as they came.
    pub sort_query: bool,
    /// Request fields whose values are part of the key.
    pub headers: Vec<HeaderName>,
    /// Cookies whose values are part of the key.
    pub cookies: Vec<String>,
}

impl KeyRecipe {
    /// The key of a request: `scheme` and `authority` as forwarded, `target` in origin form (path and
    /// query as forwarded), `headers` as forwarded. One allocation and one hash when the recipe says
    /// nothing.
    ///
    /// `authority` and `target` are those of a request that was accepted: without blanks, control
    /// bytes or, in the authority, slashes.
    ///
    /// # Errors
    /// [`KeyTooLong`] above [`MAX_KEY`].
    ///
    /// ```
    /// use forebay::caching::key::KeyRecipe;
    /// let recipe = KeyRecipe { query_exclude: vec!["utm_*".into()], ..KeyRecipe::default() };
    /// let key = recipe.key("http", "shop.example", "/a?utm_id=1&b=2", &http::HeaderMap::new()).unwrap();
    /// assert_eq!(key.text, "http://shop.example/a?b=2");
    /// ```
    pub fn key(
        &self,
        scheme: &str,
        authority: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<PrimaryKey, KeyTooLong> {
        let length = scheme.len() + SEPARATOR.len() + authority.len() + target.len();
        if length > MAX_KEY && !self.touches_query() {
            return Err(KeyTooLong);
        }
        let mut text = Vec::with_capacity(length.min(MAX_KEY));
        text.extend_from_slice(scheme.as_bytes());
        text.extend_from_slice(SEPARATOR);
        text.extend_from_slice(authority.as_bytes());
        match target.split_once('?') {
            Some((path, query)) if self.touches_query() => {
                text.extend_from_slice(path.as_bytes());
                self.put_query(query, &mut text);
            }
            _ => text.extend_from_slice(target.as_bytes()),
        }
        self.put_headers(headers, &mut text)?;
        self.put_cookies(headers, &mut text)?;
        if text.len() > MAX_KEY {
            return Err(KeyTooLong);
        }
        Ok(PrimaryKey { hash: xxh3_128(&text), text: Bytes::from(text) })
    }

    /// What stands for the URL of a request, whatever else is in its `key`: one hash for all fields and
    /// cookies that the key counts in, and for all spellings of the URL. Purges name URLs by it.
    ///
    /// ```
    /// use forebay::caching::key::KeyRecipe;
    /// let (recipe, none) = (KeyRecipe::default(), http::HeaderMap::new());
    /// let one = recipe.key("http", "shop.example", "/a", &none).unwrap();
    /// let other = recipe.key("http", "Shop.example:80", "/%61", &none).unwrap();
    /// assert_ne!(one.hash, other.hash);
    /// assert_eq!(recipe.url("http", "Shop.example:80", "/%61", &other), one.hash);
    /// ```
    #[must_use]
    pub fn url(&self, scheme: &str, authority: &str, target: &str, key: &PrimaryKey) -> u128 {
        let (as_one, way) = (url::authority(authority), url::target(target));
        if self.headers.is_empty() && self.cookies.is_empty() && as_one == authority && way == target {
            return key.hash;
        }
        // Nothing in it is longer than in the key itself.
        self.key(scheme, &as_one, &way, &HeaderMap::new()).map_or(key.hash, |plain| plain.hash)
    }

    const fn touches_query(&self) -> bool {
        !self.query_exclude.is_empty() || !self.query_include.is_empty() || self.sort_query
    }

    /// Appends `?` and the parameters that count; nothing at all when none is left.
    fn put_query(&self, query: &str, text: &mut Vec<u8>) {
        let counted = query.split('&').filter(|parameter| self.counts(parameter));
        let mut separator = b'?';
        let mut put = |parameter: &str| {
            text.push(separator);
            text.extend_from_slice(parameter.as_bytes());
            separator = b'&';
        };
        if self.sort_query {
            let mut parameters: Vec<&str> = counted.collect();
            parameters.sort_by_key(|parameter| name_of(parameter));
            parameters.into_iter().for_each(put);
        } else {
            counted.for_each(&mut put);
        }
    }

    fn counts(&self, parameter: &str) -> bool {
        if parameter.contains(';') {
            return true;
        }
        let name = name_of(parameter);
        let excluded = self.query_exclude.iter().any(|pattern| matches_exactly(pattern, name));
        let included = self.query_include.is_empty() || self.query_include.iter().any(|p| may_mean(p, name));
        included && !excluded
    }

    fn put_headers(&self, headers: &HeaderMap, text: &mut Vec<u8>) -> Result<(), KeyTooLong> {
        for name in &self.headers {
            for value in headers.get_all(name) {
                text.extend_from_slice(b"\nheader ");
                text.extend_from_slice(name.as_str().as_bytes());
                text.push(b':');
                put_counted(value.as_bytes(), text)?;
            }
        }
        Ok(())
    }

    /// Every cookie pair of a chosen name, whole and in the order it came, since origins differ in
    /// which of several they read.
    fn put_cookies(&self, headers: &HeaderMap, text: &mut Vec<u8>) -> Result<(), KeyTooLong> {
        if self.cookies.is_empty() {
            return Ok(());
        }
        let lines = headers.get_all(COOKIE).iter();
        for pair in lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';')).map(trim_ows) {
            let name = pair.split(|&byte| byte == b'=').next().map_or(pair, trim_ows);
            if self.cookies.iter().any(|chosen| chosen.as_bytes() == name) {
                text.extend_from_slice(b"\ncookie ");
                put_counted(pair, text)?;
            }
        }
        Ok(())
    }
}

const SEPARATOR: &[u8] = b"://";

/// Appends `length:value`.
fn put_counted(value: &[u8], text: &mut Vec<u8>) -> Result<(), KeyTooLong> {
    if text.len() + value.len() > MAX_KEY {
        return Err(KeyTooLong);
    }
    text.extend_from_slice(value.len().to_string().as_bytes());
    text.push(b':');
    text.extend_from_slice(value);
    Ok(())
}

fn name_of(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

/// The same bytes, or the same beginning where the pattern ends in `*`.
fn matches_exactly(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

/// Whether some origin reads `name` as what `pattern` says: percent-decoded, in any case, and up to
/// a `[`.
fn may_mean(pattern: &str, name: &str) -> bool {
    let mut read = PercentDecoded(name.as_bytes());
    let (beginning, open) = pattern.strip_suffix('*').map_or((pattern, false), |beginning| (beginning, true));
    let begins =
        beginning.bytes().all(|byte| read.next().is_some_and(|other| byte.eq_ignore_ascii_case(&other)));
    begins && (open || matches!(read.next(), None | Some(b'[')))
}

struct PercentDecoded<'a>(&'a [u8]);

impl Iterator for PercentDecoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let hex = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        if let [b'%', high, low, rest @ ..] = self.0
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            self.0 = rest;
            return Some(high << 4 | low);
        }
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn recipe(exclude: &[&str], include: &[&str], sort_query: bool) -> KeyRecipe {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        KeyRecipe {
            query_exclude: own(exclude),
            query_include: own(include),
            sort_query,
            ..KeyRecipe::default()
        }
    }

    fn text(recipe: &KeyRecipe, target: &str) -> String {
        let key = recipe.key("http", "h", target, &HeaderMap::new()).expect("short");
        assert_eq!(key.hash, xxh3_128(&key.text));
        String::from_utf8_lossy(&key.text).into_owned()
    }

    #[test]
    fn rfc9111_2_keys_are_the_forwarded_bytes() {
        let plain = KeyRecipe::default();
        for target in ["/", "/a%41?b=%20+&&c", "/?", "/a//../b?x=1&x=2", "/a?b?c", "*"] {
            assert_eq!(text(&plain, target), format!("http://h{target}"));
        }
        let key = |scheme, authority| plain.key(scheme, authority, "/", &HeaderMap::new()).expect("short");
        assert_ne!(key("http", "h"), key("https", "h"));
        assert_ne!(key("http", "h"), key("http", "H"));
        assert_ne!(key("http", "h"), key("http", "h:80"));
    }

    #[test]
    fn queries_lose_what_the_recipe_names() {
        for (exclude, include, sort, target, expected) in [
            (&["utm_*", "gclid"][..], &[][..], false, "/a?utm_a=1&b=2&gclid=3&gclid_x=4", "/a?b=2&gclid_x=4"),
            (&["utm_*"], &[], false, "/a?utm_a=1", "/a"),
            (&["utm_*"], &[], false, "/a?", "/a?"),
            (&["utm_*"], &[], false, "/a?&utm_a", "/a?"),
            (&["utm_*"], &[], false, "/utm_a?b", "/utm_a?b"),
            (&["*"], &[], false, "/a?b=1&c", "/a"),
            (&[], &["id", "p*"], false, "/a?x=1&id=2&page=3&id=4", "/a?id=2&page=3&id=4"),
            (&["page"], &["id", "p*"], false, "/a?page=3&id=4", "/a?id=4"),
            (&[], &[], true, "/a?b=2&a=1&b=1&a", "/a?a=1&a&b=2&b=1"),
            (&["c"], &[], true, "/a?c=1&b=%31&a=?", "/a?a=?&b=%31"),
        ] {
            assert_eq!(
                text(&recipe(exclude, include, sort), target),
                format!("http://h{expected}"),
                "{target}"
            );
        }
    }

    #[test]
    fn a_recipe_errs_on_the_side_of_the_key() {
        // Not spelt as the recipe says: stays in the key.
        for target in ["/?utm%5Fa=1", "/?UTM_a=1", "/?utm_a=1;callback=x", "/?%75tm_a"] {
            assert_eq!(text(&recipe(&["utm_*"], &[], false), target), format!("http://h{target}"));
        }
        // May be read as what the recipe includes: stays in the key.
        for target in ["/?%69d=1", "/?ID=1", "/?id[]=1", "/?i%64%5B0]=1", "/?x=1;id=2", "/?id"] {
            assert_eq!(text(&recipe(&[], &["id"], false), target), format!("http://h{target}"));
        }
        for target in ["/?idx=1", "/?i", "/?i%6=1", "/?%"] {
            assert_eq!(text(&recipe(&[], &["id"], false), target), "http://h/");
        }
    }

    #[test]
    fn tracking_is_a_list_of_exact_names_and_prefixes() {
        let tracking = recipe(TRACKING, &[], false);
        assert_eq!(text(&tracking, "/?utm_source=a&gclid=b&fbclid=c&id=1&msclkid=d&_gl=e"), "http://h/?id=1");
        assert_eq!(
            text(&tracking, "/?q=utm_source&ga=1&ref=x&source=y"),
            "http://h/?q=utm_source&ga=1&ref=x&source=y"
        );
        for pattern in TRACKING {
            assert!(!pattern.trim_end_matches('*').contains('*') && pattern.len() > 2, "{pattern}");
        }
    }

    #[test]
    fn fields_and_cookies_are_counted_in() {
        let recipe = KeyRecipe {
            headers: vec![HeaderName::from_static("x-tenant"), HeaderName::from_static("accept-language")],
            cookies: vec!["currency".into(), "ab".into()],
            ..KeyRecipe::default()
        };
        let mut headers = HeaderMap::new();
        assert_eq!(recipe.key("http", "h", "/", &headers).expect("short").text, "http://h/");
        headers.append("x-tenant", HeaderValue::from_static("a"));
        headers.append("x-tenant", HeaderValue::from_static(""));
        headers.append("cookie", HeaderValue::from_static("sid=1; currency=EU;ab ; AB=2"));
        headers.append("cookie", HeaderValue::from_static("currency=US=x; nothing"));
        assert_eq!(
            recipe.key("http", "h", "/", &headers).expect("short").text,
            "http://h/\nheader x-tenant:1:a\nheader x-tenant:0:\ncookie 11:currency=EU\ncookie 2:ab\ncookie 13:currency=US=x"
        );
    }

    #[test]
    fn rfc9111_4_4_a_url_is_one_whatever_its_key_counts_in() {
        let by_fields = KeyRecipe {
            headers: vec![HeaderName::from_static("x-tenant")],
            cookies: vec!["currency".into()],
            ..recipe(&["utm_*"], &[], true)
        };
        let url = |recipe: &KeyRecipe, authority, target, lines: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            let key = recipe.key("http", authority, target, &headers).expect("short");
            recipe.url("http", authority, target, &key)
        };
        let one = url(&by_fields, "h", "/a?b=1&c=2", &[]);
        for lines in [[("x-tenant", "a"), ("cookie", "currency=EU")], [("x-tenant", "b"), ("cookie", "x=y")]]
        {
            for target in ["/a?b=1&c=2", "/a?c=2&b=1", "/%61?utm_id=1&c=2&b=1"] {
                assert_eq!(url(&by_fields, "H:80", target, &lines), one, "{target}");
            }
        }
        assert_ne!(url(&by_fields, "h", "/a?b=1", &[]), one);
        assert_ne!(url(&by_fields, "h:8080", "/a?b=1&c=2", &[]), one);
        let plain = KeyRecipe::default();
        assert_eq!(url(&plain, "h", "/a%2F", &[]), xxh3_128(b"http://h/a%2F"));
        assert_ne!(url(&plain, "h", "/a%2F", &[]), url(&plain, "h", "/a/", &[]));
    }

    #[test]
    fn long_keys_are_refused() {
        let room = MAX_KEY - "http://h".len();
        let target = format!("/{}", "a".repeat(room - 1));
        assert_eq!(
            KeyRecipe::default().key("http", "h", &target, &HeaderMap::new()).map(|k| k.text.len()),
            Ok(MAX_KEY)
        );
        let longer = format!("{target}a");
        assert_eq!(KeyRecipe::default().key("http", "h", &longer, &HeaderMap::new()), Err(KeyTooLong));
        // What the recipe leaves out does not count, and what it adds does.
        let long_query = format!("/?utm_a={}", "a".repeat(MAX_KEY));
        assert_eq!(text(&recipe(&["utm_*"], &[], false), &long_query), "http://h/");
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_str(&"a".repeat(MAX_KEY)).expect("value"));
        headers
            .insert("cookie", HeaderValue::from_str(&format!("c={}", "a".repeat(MAX_KEY))).expect("value"));
        let by_header = KeyRecipe { headers: vec![HeaderName::from_static("x-a")], ..KeyRecipe::default() };
        let by_cookie = KeyRecipe { cookies: vec!["c".into()], ..KeyRecipe::default() };
        assert_eq!(by_header.key("http", "h", "/", &headers), Err(KeyTooLong));
        assert_eq!(by_cookie.key("http", "h", "/", &headers), Err(KeyTooLong));
    }

    proptest! {
        /// Two requests share a key only when every byte that counts is the same.
        #[test]
        fn keys_are_injective(
            targets in proptest::array::uniform2("/[a:0-9?&= ]{0,4}"),
            values in proptest::array::uniform2(proptest::collection::vec("[a:0-9 ]{0,3}", 0..3)),
            cookies in proptest::array::uniform2("(c|d)=?[a:0-9]{0,3}"),
        ) {
            let recipe = KeyRecipe {
                headers: vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")],
                cookies: vec!["c".into()],
                ..KeyRecipe::default()
            };
            let key = |n: usize| {
                let mut headers = HeaderMap::new();
                for (at, value) in values[n].iter().enumerate() {
                    let name = if at == 0 { "x-b" } else { "x-a" };
                    headers.append(name, HeaderValue::from_str(value).expect("value"));
                }
                headers.append(COOKIE, HeaderValue::from_str(&cookies[n]).expect("value"));
                recipe.key("http", "h", &targets[n], &headers).expect("short")
            };
            let counted = |n: usize| {
                let cookie = cookies[n].split('=').next() == Some("c");
                (&targets[n], &values[n], cookie.then_some(&cookies[n]))
            };
            prop_assert_eq!(key(0).text == key(1).text, counted(0) == counted(1));
        }

        #[test]
        fn any_query_has_a_key(query in "[ -~]{0,60}", sort: bool) {
            let recipe = recipe(&["a*", "b"], &["c", "a*"], sort);
            let key = recipe.key("http", "h", &format!("/?{query}"), &HeaderMap::new()).expect("short");
            prop_assert!(key.text.len() <= "http://h/?".len() + query.len());
        }
    }
}
