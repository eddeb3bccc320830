//! The query of a request, and the refusals that bad input meets.
//!
//! Decides: how parameters are decoded, and that one given twice is an error rather than a guess.
//! Never touches: what parameters mean. A parameter nobody asks for is ignored, as campaigns add
//! theirs to every address.

use http::StatusCode;

/// The most parameters a query may have.
const MAX_PARAMETERS: usize = 32;

/// Why a request is not answered as it stands: a status, and a sentence for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

/// Decoded parameters, in the order they came.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `name=value&…` as forms write it.
    ///
    /// # Errors
    /// 400 for a broken percent-encoding, bytes that are not UTF-8, or too many parameters.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut pairs = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(Refusal::bad(format!("more than {MAX_PARAMETERS} query parameters")));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => pairs.push((name, value)),
                _ => return Err(Refusal::bad("the query is not percent-encoded UTF-8")),
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter, when it was given.
    ///
    /// # Errors
    /// 400 when it was given more than once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Refusal::bad(format!("{name} is given more than once"))),
        }
    }

    /// A parameter that must be a whole number in `range`, or `default` when it was not given.
    ///
    /// # Errors
    /// 400 when it is anything else.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, Refusal> {
        let Some(text) = self.one(name)? else { return Ok(default) };
        whole_number(text).filter(|number| range.contains(number)).ok_or_else(|| {
            Refusal::bad(format!("{name} must be a whole number from {} to {}", range.start(), range.end()))
        })
    }
}

/// Digits and nothing else: no sign, no blank.
pub(super) fn whole_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Percent-decoding, with `+` for a blank. `None`: broken, or not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high << 4 | low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse(Some("q=tea+pot%21&empty=&flag&&utm_source=x")).unwrap();
        assert_eq!(query.one("q"), Ok(Some("tea pot!")));
        assert_eq!(query.one("empty"), Ok(Some("")));
        assert_eq!(query.one("flag"), Ok(Some("")));
        assert_eq!(query.one("absent"), Ok(None));
        assert_eq!(Query::parse(None).unwrap().one("q"), Ok(None));
    }

    #[test]
    fn what_is_broken_is_refused() {
        let many = "a=1&".repeat(MAX_PARAMETERS + 1);
        for text in ["q=%", "q=%4", "q=%zz", "q=%+1", "%ff=1", "q=%c3%28", &many] {
            assert!(Query::parse(Some(text)).is_err(), "{text}");
        }
        let twice = Query::parse(Some("page=1&page=2")).unwrap();
        assert!(twice.one("page").unwrap_err().message.contains("more than once"));
    }

    #[test]
    fn numbers_are_digits_in_range() {
        let query = Query::parse(Some("a=5&b=+5&c=-1&d=11&e=&f=99999999999999999999999")).unwrap();
        assert_eq!(query.number("a", 1..=10, 1), Ok(5));
        assert_eq!(query.number("none", 1..=10, 7), Ok(7));
        for name in ["b", "c", "d", "e", "f"] {
            assert!(query.number(name, 1..=10, 1).is_err(), "{name}");
        }
    }
}
