//! The patterns of a route: a host, and a path of segments.
//!
//! Decides: how a pattern is written, what is wrong with one, and what its `{name}`s stand for in
//! a path that matched. Never touches: precedence between routes (`select`). Paths are compared as
//! raw bytes, as they are forwarded: nothing is decoded, no dot segment is removed.

use std::fmt;

/// Longest host name (RFC 1035 2.3.4).
pub(super) const MAX_HOST: usize = 253;
/// Most segments of a pattern; bounds the depth of selection.
const MAX_SEGMENTS: usize = 64;

/// Hosts a route answers for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// No `host`: every host.
    #[default]
    Any,
    /// One host, lower case, without port.
    Exact(String),
    /// `*.suffix`: every host that ends in `.suffix`, with one label or several before it; holds the
    /// suffix, lower case, without its leading dot.
    Suffix(String),
}

impl HostPattern {
    /// Reads `host`.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let lower = text.to_ascii_lowercase();
        let (name, suffix) = match lower.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (lower.as_str(), false),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.starts_with('[') && !suffix {
            let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
            return match address.map(str::parse::<std::net::Ipv6Addr>) {
                Some(Ok(_)) => Ok(Self::Exact(name.to_owned())),
                _ if name.contains("]:") => Err(PatternError::HostPort),
                _ => Err(PatternError::HostName),
            };
        }
        if name.contains(':') {
            return Err(PatternError::HostPort);
        }
        if name.contains('*') {
            return Err(PatternError::HostStar);
        }
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > MAX_HOST || !name.split('.').all(label) {
            return Err(PatternError::HostName);
        }
        Ok(if suffix { Self::Suffix(name.to_owned()) } else { Self::Exact(name.to_owned()) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any host"),
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(name) => write!(f, "*.{name}"),
        }
    }
}

/// Paths a route answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

/// What stands between two slashes of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// These bytes; an empty last one is a trailing slash.
    Fixed(String),
    /// `{name}`: one segment that is not empty.
    Name(String),
    /// `{*name}`: whatever is left, even nothing.
    Rest(String),
}

impl PathPattern {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(inner) = text.strip_prefix('/') else { return Err(PatternError::NoSlash) };
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(PatternError::NotOnTheWire(bad));
        }
        if let Some(bad) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(PatternError::NotInAPath(bad));
        }
        let mut segments = Vec::new();
        for segment in inner.split('/') {
            if matches!(segments.last(), Some(Segment::Rest(_))) {
                return Err(PatternError::RestNotLast);
            }
            if segments.len() == MAX_SEGMENTS {
                return Err(PatternError::TooLong);
            }
            let segment = Self::segment(segment)?;
            if let Segment::Name(name) | Segment::Rest(name) = &segment {
                let same = |s: &Segment| matches!(s, Segment::Name(n) if n == name);
                if segments.iter().any(same) {
                    return Err(PatternError::NameTwice(name.clone()));
                }
            }
            segments.push(segment);
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// What stands in a fixed segment and is a wildcard elsewhere: what is its like here.
    #[must_use]
    pub fn habit(&self) -> Option<&'static str> {
        let last = self.segments.len().saturating_sub(1);
        self.segments.iter().enumerate().find_map(|(at, segment)| match segment {
            Segment::Fixed(text) if text.contains('*') => Some(if at == last { "{*rest}" } else { "{name}" }),
            Segment::Fixed(text) if text.len() > 1 && text.starts_with(':') => Some("{name}"),
            _ => None,
        })
    }

    fn segment(text: &str) -> Result<Segment, PatternError> {
        if !text.contains(['{', '}']) {
            return Ok(Segment::Fixed(text.to_owned()));
        }
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        let Some(inner) = inner.filter(|i| !i.contains(['{', '}'])) else {
            return Err(PatternError::PartOfASegment(text.to_owned()));
        };
        let (name, rest) = match inner.strip_prefix('*') {
            Some(name) => (name, true),
            None => (inner, false),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(PatternError::Name(text.to_owned()));
        }
        Ok(if rest { Segment::Rest(name.to_owned()) } else { Segment::Name(name.to_owned()) })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Fixed(_) => None,
            Segment::Name(name) | Segment::Rest(name) => Some(name.as_str()),
        })
    }

    /// The parameters of a path that this pattern matched. Costs nothing until asked.
    #[must_use]
    pub const fn params<'r, 'p>(&'r self, path: &'p str) -> Params<'r, 'p> {
        Params { pattern: self, path }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parameters of a path, read from it when asked.
#[derive(Clone, Copy, Debug)]
pub struct Params<'r, 'p> {
    pattern: &'r PathPattern,
    path: &'p str,
}

impl<'r, 'p> Params<'r, 'p> {
    /// What `{name}` stands for, in raw bytes as they came.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'p str> {
        self.iter().find_map(|(n, value)| (n == name).then_some(value))
    }

    /// Every parameter and its value, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&'r str, &'p str)> + use<'r, 'p> {
        let mut left = self.path.strip_prefix('/');
        self.pattern.segments.iter().filter_map(move |segment| {
            let here = left?;
            if let Segment::Rest(name) = segment {
                left = None;
                return Some((name.as_str(), here));
            }
            let value = match here.split_once('/') {
                Some((value, after)) => {
                    left = Some(after);
                    value
                }
                None => {
                    left = None;
                    here
                }
            };
            match segment {
                Segment::Name(name) => Some((name.as_str(), value)),
                Segment::Fixed(_) | Segment::Rest(_) => None,
            }
        })
    }
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// A host with a port.
    HostPort,
    /// A `*` that is not a whole first label.
    HostStar,
    /// Not a host name.
    HostName,
    /// A path that does not begin with a slash.
    NoSlash,
    /// A character that no request target carries.
    NotOnTheWire(char),
    /// A query or fragment.
    NotInAPath(char),
    /// A brace beside other characters.
    PartOfASegment(String),
    /// A parameter without a proper name.
    Name(String),
    /// Two parameters of one name.
    NameTwice(String),
    /// `{*rest}` followed by more.
    RestNotLast,
    /// More segments than `MAX_SEGMENTS`.
    TooLong,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostPort => {
                f.write_str("a host is written without a port; ports are ignored when routes are chosen")
            }
            Self::HostStar => {
                f.write_str("a * can only stand for whole labels in front, as in \"*.shop.example\"")
            }
            Self::HostName => f.write_str("not a host name"),
            Self::NoSlash => f.write_str("a path begins with /"),
            Self::NotOnTheWire(c) => {
                write!(f, "{c:?} never occurs in a request target; write it percent-encoded, as it is sent")
            }
            Self::NotInAPath(c) => write!(f, "{c:?} ends a path; routes are chosen by path alone"),
            Self::PartOfASegment(s) => {
                write!(f, "{s:?}: a {{name}} stands for a whole segment, between one / and the next")
            }
            Self::Name(s) => write!(f, "{s:?}: a name consists of letters, digits and _"),
            Self::NameTwice(name) => write!(f, "{{{name}}} occurs twice"),
            Self::RestNotLast => f.write_str("nothing can follow {*rest}"),
            Self::TooLong => write!(f, "more than {MAX_SEGMENTS} segments"),
        }
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_of_other_servers_are_recognised() {
        for (path, meant) in [
            ("/a/*", Some("{*rest}")),
            ("/**", Some("{*rest}")),
            ("/a/*.jpg", Some("{*rest}")),
            ("/a/*/b", Some("{name}")),
            ("/users/:id/x", Some("{name}")),
            ("/a/{*rest}", None),
            ("/a/{id}/b:c", None),
            ("/a/:", None),
        ] {
            assert_eq!(PathPattern::parse(path).unwrap().habit(), meant, "{path}");
        }
    }

    #[test]
    fn hosts() {
        for (text, host) in [
            ("shop.example", HostPattern::Exact("shop.example".to_owned())),
            ("SHOP.Example.", HostPattern::Exact("shop.example".to_owned())),
            ("*.Shop.example", HostPattern::Suffix("shop.example".to_owned())),
            ("localhost", HostPattern::Exact("localhost".to_owned())),
            ("127.0.0.1", HostPattern::Exact("127.0.0.1".to_owned())),
            ("[::1]", HostPattern::Exact("[::1]".to_owned())),
        ] {
            assert_eq!(HostPattern::parse(text), Ok(host), "{text}");
        }
        for (text, error) in [
            ("", PatternError::HostName),
            ("shop.example:8080", PatternError::HostPort),
            ("[::1]:80", PatternError::HostPort),
            ("[::1", PatternError::HostName),
            ("::1", PatternError::HostPort),
            ("*", PatternError::HostStar),
            ("shop.*", PatternError::HostStar),
            ("*shop.example", PatternError::HostStar),
            ("a..b", PatternError::HostName),
            ("a b", PatternError::HostName),
            ("münchen.example", PatternError::HostName),
            ("http://a", PatternError::HostPort),
        ] {
            assert_eq!(HostPattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn paths_that_cannot_be_meant() {
        for (text, error) in [
            ("", "a path begins with /"),
            ("api", "a path begins with /"),
            ("/a b", "' ' never occurs in a request target; write it percent-encoded, as it is sent"),
            ("/ü", "'ü' never occurs in a request target; write it percent-encoded, as it is sent"),
            ("/a?b=1", "'?' ends a path; routes are chosen by path alone"),
            ("/a{id}", "\"a{id}\": a {name} stands for a whole segment, between one / and the next"),
            ("/{id}.json", "\"{id}.json\": a {name} stands for a whole segment, between one / and the next"),
            ("/{a}{b}", "\"{a}{b}\": a {name} stands for a whole segment, between one / and the next"),
            ("/{id", "\"{id\": a {name} stands for a whole segment, between one / and the next"),
            ("/{}", "\"{}\": a name consists of letters, digits and _"),
            ("/{*}", "\"{*}\": a name consists of letters, digits and _"),
            ("/{a-b}", "\"{a-b}\": a name consists of letters, digits and _"),
            ("/{a}/{a}", "{a} occurs twice"),
            ("/{*rest}/a", "nothing can follow {*rest}"),
        ] {
            assert_eq!(PathPattern::parse(text).unwrap_err().to_string(), error, "{text}");
        }
        assert_eq!(PathPattern::parse(&"/a".repeat(65)), Err(PatternError::TooLong));
        assert!(PathPattern::parse(&"/a".repeat(64)).is_ok());
    }

    #[test]
    fn parameters_are_the_raw_bytes() {
        let pattern = PathPattern::parse("/{a}/x/{b}/{*rest}").unwrap();
        let params = pattern.params("/1/x/%2F/c//d");
        assert_eq!(params.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "%2F"), ("rest", "c//d")]);
        assert_eq!(params.get("b"), Some("%2F"));
        assert_eq!(params.get("c"), None);
        let pattern = PathPattern::parse("/a/{*rest}").unwrap();
        assert_eq!(pattern.params("/a/").get("rest"), Some(""));
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_path_panics(pattern in "/?([a-z{}*/?%ü ]|/\\{[a-z]\\}){0,20}", path in "\\PC{0,30}") {
            if let Ok(pattern) = PathPattern::parse(&pattern) {
                let _ = pattern.params(&path).iter().count();
            }
            let _ = HostPattern::parse(&path);
        }
    }
}
