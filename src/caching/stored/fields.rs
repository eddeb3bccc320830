//! The field lines of a stored response, as they are or packed.
//!
//! Decides: nothing. Either form reads as the same lines in the same order; packing keeps what many
//! responses have in common (names, and the values of some fields) once for all of them. Never touches:
//! which lines are in common; the memory tier knows, whose memory it is.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::slice;
use std::sync::Arc;

use http::header::{AGE, CACHE_STATUS};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::caching::outcome::X_CACHE;

/// Field lines in order; several lines of one name stay several.
#[derive(Clone)]
pub struct Fields(Lines);

#[derive(Clone)]
enum Lines {
    Loose(Box<[(HeaderName, HeaderValue)]>),
    Packed { template: Arc<Template>, own: Box<[HeaderValue]> },
}

/// What several responses have in common: the names of all their lines, and the values of some.
#[derive(Clone, Debug)]
pub struct Template {
    lines: Box<[(HeaderName, Option<HeaderValue>)]>,
    /// The lines in their order, and after them what an answer adds: a copy of it is a head to be filled
    /// in, for a fraction of what it costs to build one. `None` where several lines have one name.
    head: Option<HeaderMap>,
}

impl Template {
    /// Lines in order; `None` where each response has a value of its own.
    #[must_use]
    pub fn new(lines: Vec<(HeaderName, Option<HeaderValue>)>) -> Self {
        Self { lines: lines.into_boxed_slice(), head: None }
    }

    /// The same with a head to copy answers from, which is worth its bytes where many answers are.
    #[must_use]
    pub fn prepared(mut self) -> Self {
        const OPEN: HeaderValue = HeaderValue::from_static("");
        let mut head = HeaderMap::with_capacity(self.lines.len() + 3);
        for (name, value) in &self.lines {
            head.append(name.clone(), value.clone().unwrap_or(OPEN));
        }
        let is_unique = head.keys_len() == self.lines.len();
        for added in [AGE, CACHE_STATUS, X_CACHE] {
            head.entry(added).or_insert(OPEN);
        }
        self.head = is_unique.then_some(head);
        self
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self) -> &[(HeaderName, Option<HeaderValue>)] {
        &self.lines
    }

    /// How many lines its prepared head has; 0 where there is none.
    #[must_use]
    pub fn prepared_lines(&self) -> usize {
        self.head.as_ref().map_or(0, HeaderMap::len)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.lines == other.lines
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lines.hash(state);
    }
}

impl Fields {
    /// The lines of a template and the values that it leaves open, in order. `None` unless there are as
    /// many as it leaves open.
    #[must_use]
    pub fn packed(template: Arc<Template>, own: Box<[HeaderValue]>) -> Option<Self> {
        let open = template.lines.iter().filter(|(_, value)| value.is_none()).count();
        (open == own.len()).then_some(Self(Lines::Packed { template, own }))
    }

    /// Template and own values of packed lines.
    #[must_use]
    pub fn parts(&self) -> Option<(&Arc<Template>, &[HeaderValue])> {
        match &self.0 {
            Lines::Loose(_) => None,
            Lines::Packed { template, own } => Some((template, own)),
        }
    }

    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Lines::Loose(lines) => lines.len(),
            Lines::Packed { template, .. } => template.lines.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every line. Clones are cheap: values are shared.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(match &self.0 {
            Lines::Loose(lines) => Of::Loose(lines.iter()),
            Lines::Packed { template, own } => Of::Packed { lines: template.lines.iter(), own: own.iter() },
        })
    }

    /// The lines as the head of an answer that says its `age`, with room for what is added to it.
    ///
    /// `Cache-Status` and `X-Cache` may be there with an empty value, to be set or taken out: an empty list
    /// is one without members (RFC 9211 2).
    #[must_use]
    pub fn to_answer(&self, age: HeaderValue) -> HeaderMap {
        if let Lines::Packed { template, own } = &self.0
            && let Some(head) = &template.head
        {
            let mut head = head.clone();
            let mut own = own.iter();
            // Names are unique here: values come in the order in which the names were put in.
            for (value, (_, shared)) in head.values_mut().zip(&template.lines) {
                if shared.is_none()
                    && let Some(own) = own.next()
                {
                    value.clone_from(own);
                }
            }
            head.insert(AGE, age);
            return head;
        }
        let mut head = HeaderMap::with_capacity(self.len() + 4);
        head.extend(self.iter().map(|(name, value)| (name.clone(), value.clone())));
        head.insert(AGE, age);
        head
    }

    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Adds a line at the end. Copies all lines.
    pub fn push(&mut self, name: HeaderName, value: HeaderValue) {
        let mut lines = self.to_vec();
        lines.push((name, value));
        *self = lines.into();
    }

    /// A copy of the lines.
    #[must_use]
    pub fn to_vec(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self(Lines::Loose(Box::default()))
    }
}

impl From<Vec<(HeaderName, HeaderValue)>> for Fields {
    fn from(lines: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self(Lines::Loose(lines.into_boxed_slice()))
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: T) -> Self {
        Self(Lines::Loose(lines.into_iter().collect()))
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The lines of [`Fields`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(Of<'a>);

#[derive(Clone, Debug)]
enum Of<'a> {
    Loose(slice::Iter<'a, (HeaderName, HeaderValue)>),
    Packed { lines: slice::Iter<'a, (HeaderName, Option<HeaderValue>)>, own: slice::Iter<'a, HeaderValue> },
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a HeaderName, &'a HeaderValue);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Of::Loose(lines) => lines.next().map(|(name, value)| (name, value)),
            Of::Packed { lines, own } => {
                let (name, shared) = lines.next()?;
                let value = match shared {
                    Some(value) => value,
                    None => own.next()?,
                };
                Some((name, value))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Of::Loose(lines) => lines.size_hint(),
            Of::Packed { lines, .. } => lines.size_hint(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_TYPE, DATE, ETAG, SET_COOKIE};

    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn both_forms_read_alike() {
        let lines = vec![
            (CONTENT_TYPE, value("text/html")),
            (SET_COOKIE, value("a")),
            (DATE, value("today")),
            (SET_COOKIE, value("b")),
        ];
        let loose = Fields::from(lines.clone());
        let open = |(name, value): &(HeaderName, HeaderValue)| {
            (name.clone(), (*name == CONTENT_TYPE).then(|| value.clone()))
        };
        let template = Arc::new(Template::new(lines.iter().map(open).collect()));
        let own = || lines.iter().skip(1).map(|(_, value)| value.clone());
        let packed = Fields::packed(Arc::clone(&template), own().collect()).expect("as many");
        for fields in [&loose, &packed] {
            assert_eq!(fields.to_vec(), lines);
            assert_eq!((fields.len(), fields.iter().len(), fields.is_empty()), (4, 4, false));
            assert_eq!(fields.get(&SET_COOKIE).unwrap(), "a");
            assert_eq!(fields.get(&ETAG), None);
        }
        assert_eq!(loose, packed);
        assert!(Fields::packed(Arc::clone(&template), own().skip(1).collect()).is_none());
        assert!(Fields::packed(template, own().chain([value("c")]).collect()).is_none());
        let mut longer = packed.clone();
        longer.push(ETAG, value("\"a\""));
        assert_ne!(longer, packed);
        assert_eq!(longer.iter().last().map(|(name, _)| name), Some(&ETAG));
        assert!(Fields::default().is_empty());
    }

    #[test]
    fn an_answers_head_is_the_same_from_either_form() {
        let lines = [
            (CONTENT_TYPE, value("text/html")),
            (AGE, value("7")),
            (DATE, value("today")),
            (ETAG, value("\"a\"")),
        ];
        for length in 0..=lines.len() {
            for repeated in [false, true] {
                let mut lines = lines[..length].to_vec();
                if repeated {
                    lines.extend([(SET_COOKIE, value("a")), (SET_COOKIE, value("b"))]);
                }
                let loose = Fields::from(lines.clone());
                let template = Template::new(
                    lines.iter().map(|(n, v)| (n.clone(), (*n == CONTENT_TYPE).then(|| v.clone()))).collect(),
                );
                let own = lines.iter().filter(|(n, _)| *n != CONTENT_TYPE).map(|(_, value)| value.clone());
                let packed = Fields::packed(Arc::new(template.prepared()), own.collect()).expect("as many");
                let mut answers = [loose, packed].map(|fields| fields.to_answer(value("9")));
                for answer in &mut answers {
                    assert_eq!(answer[AGE], "9");
                    for added in [CACHE_STATUS, X_CACHE] {
                        if answer.get(&added).is_some_and(HeaderValue::is_empty) {
                            answer.remove(added);
                        }
                    }
                }
                assert_eq!(answers[0], answers[1]);
            }
        }
    }

    #[test]
    fn fields_are_three_words() {
        assert_eq!(size_of::<Fields>(), 24);
    }
}
