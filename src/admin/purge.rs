//! `POST /purge`: what is to be invalidated, read from JSON.
//!
//! Decides: which bodies are a purge and what is wrong with the others. Never touches: what a URL, a
//! tag or a prefix stands for, or how the fleet is told (`proxy::purge`).

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::Admin;
use crate::config::did_you_mean;
use crate::proxy::purge::{LONGEST, Mode, Purge, Source};
use crate::proxy::purge_method::carry_out;

/// The largest body, in bytes.
pub(super) const MAX_BODY: usize = 4 << 20;

/// The most URLs, tags, prefixes and hosts of one purge, all together.
const MAX_ENTRIES: usize = 10_000;

/// What a purge may say.
const NAMES: [&str; 6] = ["urls", "tags", "prefixes", "hosts", "all", "mode"];

impl Admin {
    /// Carries out what a body asks for, all of it or nothing.
    pub(super) async fn purge(&self, body: &[u8]) -> (StatusCode, Value) {
        let purge = match parse(body) {
            Ok(purge) => purge,
            Err(error) => return (StatusCode::BAD_REQUEST, json!({ "error": error.to_string() })),
        };
        let (shared, site) = (Arc::clone(&self.instance.shared), self.instance.site.load_full());
        carry_out(shared, site, purge, Source::Admin).await
    }
}

/// Reads a purge; an error names the part that is wrong, the nearest valid name, and the place.
fn parse(body: &[u8]) -> Result<Purge, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let purge = reader.deserialize_map(Body)?;
    reader.end()?;
    Ok(purge)
}

struct Body;

impl<'de> Visitor<'de> for Body {
    type Value = Purge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object such as {\"tags\": [\"product:7\"]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Purge, A::Error> {
        let mut purge = Purge::default();
        let mut room = MAX_ENTRIES;
        let mut seen = [false; NAMES.len()];
        while let Some(name) = map.next_key::<String>()? {
            let Some(at) = NAMES.iter().position(|known| *known == name) else {
                let shown: String = name.chars().take(64).collect();
                let hint = did_you_mean(&shown, NAMES);
                let valid = if hint.is_empty() { format!("; valid are {}", NAMES.join(", ")) } else { hint };
                return Err(A::Error::custom(format!("a purge has no {shown:?}{valid}")));
            };
            if let Some(seen) = seen.get_mut(at)
                && std::mem::replace(seen, true)
            {
                return Err(A::Error::custom(format!("{name:?} is there twice")));
            }
            let room = &mut room;
            match name.as_str() {
                "urls" => purge.urls = map.next_value_seed(Texts { name: "urls", room })?,
                "tags" => purge.tags = map.next_value_seed(Texts { name: "tags", room })?,
                "prefixes" => purge.prefixes = map.next_value_seed(Texts { name: "prefixes", room })?,
                "hosts" => purge.hosts = map.next_value_seed(Texts { name: "hosts", room })?,
                "all" => purge.all = map.next_value_seed(Flag)?,
                "mode" => purge.mode = map.next_value_seed(ModeName)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let lists = [&purge.urls, &purge.tags, &purge.prefixes, &purge.hosts];
        if !purge.all && lists.iter().all(|list| list.is_empty()) {
            return Err(A::Error::custom("nothing is named: give urls, tags, prefixes, hosts or all"));
        }
        Ok(purge)
    }
}

/// A list of texts under a name.
struct Texts<'r> {
    name: &'static str,
    /// How many more entries the body may have.
    room: &'r mut usize,
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of strings for {:?}", self.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element_seed(Text { name: self.name, at: texts.len() })? {
            *self.room = self.room.checked_sub(1).ok_or_else(|| {
                A::Error::custom(format!("more than {MAX_ENTRIES} entries; send several requests"))
            })?;
            texts.push(text);
        }
        Ok(texts)
    }
}

/// One text of a list.
struct Text {
    name: &'static str,
    at: usize,
}

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string for {}[{}]", self.name, self.at)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        let Self { name, at } = self;
        match text.len() {
            0 => Err(E::custom(format!("{name}[{at}] is empty"))),
            1..=LONGEST => Ok(text.to_owned()),
            _ => Err(E::custom(format!("{name}[{at}] is longer than {LONGEST} bytes"))),
        }
    }
}

/// `all`.
struct Flag;

impl<'de> DeserializeSeed<'de> for Flag {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_bool(self)
    }
}

impl Visitor<'_> for Flag {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false for \"all\"")
    }

    fn visit_bool<E: Error>(self, all: bool) -> Result<bool, E> {
        Ok(all)
    }
}

/// `mode`; `null` is the mode that suits what is purged.
struct ModeName;

impl<'de> DeserializeSeed<'de> for ModeName {
    type Value = Option<Mode>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Mode>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for ModeName {
    type Value = Option<Mode>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"soft\" or \"hard\" for \"mode\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<Mode>, E> {
        match text {
            "soft" => Ok(Some(Mode::Soft)),
            "hard" => Ok(Some(Mode::Hard)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text.get(..64).unwrap_or(text)), &self)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Mode>, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_purge_says_what_and_how() {
        let purge = parse(
            br#" {"urls": ["http://a/"], "tags": ["t", "\u00fc"], "prefixes": ["/b/"], "hosts": ["a"], "all": true, "mode": "soft"} "#,
        );
        assert_eq!(
            purge.unwrap(),
            Purge {
                urls: vec!["http://a/".to_owned()],
                tags: vec!["t".to_owned(), "ü".to_owned()],
                prefixes: vec!["/b/".to_owned()],
                hosts: vec!["a".to_owned()],
                all: true,
                mode: Some(Mode::Soft),
            }
        );
        for (body, mode) in [
            (r#"{"tags": ["t"]}"#, None),
            (r#"{"tags": ["t"], "mode": null}"#, None),
            (r#"{"mode": "hard", "tags": ["t"]}"#, Some(Mode::Hard)),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap().mode, mode, "{body}");
        }
    }

    #[test]
    fn errors_name_what_and_where() {
        for (body, error) in [
            ("", "EOF while parsing a value at line 1 column"),
            (
                "[]",
                "invalid type: sequence, expected an object such as {\"tags\": [\"product:7\"]} at line 1 column",
            ),
            ("{}", "nothing is named: give urls, tags, prefixes, hosts or all at line 1 column"),
            (
                "{\"urls\": [], \"all\": false}",
                "nothing is named: give urls, tags, prefixes, hosts or all at line 1 column",
            ),
            ("{\"tag\": [\"a\"]}", "a purge has no \"tag\"; did you mean \"tags\"? at line 1 column"),
            (
                "{\"everything\": true}",
                "a purge has no \"everything\"; valid are urls, tags, prefixes, hosts, all, mode at line 1 column",
            ),
            (
                "{\n\"tags\": \"a\"}",
                "invalid type: string \"a\", expected a list of strings for \"tags\" at line 2 column",
            ),
            (
                "{\"urls\": [\"http://a/\", 7]}",
                "invalid type: integer `7`, expected a string for urls[1] at line 1 column",
            ),
            ("{\"tags\": [\"a\", \"\"]}", "tags[1] is empty at line 1 column"),
            (
                "{\"all\": 1}",
                "invalid type: integer `1`, expected true or false for \"all\" at line 1 column",
            ),
            (
                "{\"all\": true, \"mode\": \"firm\"}",
                "invalid value: string \"firm\", expected \"soft\" or \"hard\" for \"mode\" at line 1 column",
            ),
            ("{\"all\": true, \"all\": true}", "\"all\" is there twice at line 1 column"),
            ("{\"all\": true} {}", "trailing characters at line 1 column"),
            ("{\"all\": tru", "EOF while parsing a value at line 1 column"),
        ] {
            let told = parse(body.as_bytes()).unwrap_err().to_string();
            assert_eq!(told.trim_end_matches(|c: char| c.is_ascii_digit()), format!("{error} "), "{body}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused_and_never_cut() {
        let entries =
            |n: usize| json!({ "tags": vec!["t"; n / 2], "urls": vec!["u"; n - n / 2] }).to_string();
        assert!(parse(entries(MAX_ENTRIES).as_bytes()).is_ok());
        let error = parse(entries(MAX_ENTRIES + 1).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("more than 10000 entries; send several requests"), "{error}");
        let long = |n: usize| json!({ "tags": ["x".repeat(n)] }).to_string();
        assert!(parse(long(LONGEST).as_bytes()).is_ok());
        let error = parse(long(LONGEST + 1).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("tags[0] is longer than 8192 bytes"), "{error}");
    }

    proptest! {
        /// Whatever comes, there is an answer, and what is accepted comes back.
        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = parse(&body);
            let _ = parse(text.as_bytes());
            let _ = parse(json!({ &text: [&text] }).to_string().as_bytes());
            let _ = parse(json!({ "all": true, "mode": &text }).to_string().as_bytes());
            if !text.is_empty() {
                let purge = parse(json!({ "tags": [&text] }).to_string().as_bytes()).unwrap();
                prop_assert_eq!(purge.tags, [text]);
            }
        }
    }
}
