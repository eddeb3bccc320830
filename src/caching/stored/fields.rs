//! The field lines of a stored response, as they are, packed, or as text.
//!
//! Decides: nothing. Each form reads as the same lines in the same order; packing keeps what many
//! responses have in common (names, and the values of some fields) once for all of them, and text is what a
//! store outside the process holds. Never touches: which lines are in common; the memory tier knows, whose
//! memory it is.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::slice;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::lines::{Kind, Pair, TextLines};

/// Field lines in order; several lines of one name stay several.
#[derive(Clone)]
pub struct Fields(Lines);

#[derive(Clone)]
enum Lines {
    Single(Single),
    Packed { template: Arc<Template>, own: Box<[HeaderValue]> },
}

/// Lines of one response alone. An enum within the other: this one's room is found where the other has none of
/// its own, so that both together are three words.
#[derive(Clone)]
enum Single {
    Loose(Box<[Pair]>),
    Text(Arc<TextLines>),
}

impl Single {
    fn pairs(&self) -> &[Pair] {
        match self {
            Self::Loose(lines) => lines,
            Self::Text(lines) => lines.pairs(),
        }
    }
}

/// What several responses have in common: the names of all their lines, and the values of some.
#[derive(Clone, Debug)]
pub struct Template {
    lines: Box<[(HeaderName, Option<HeaderValue>)]>,
    /// The lines as they go out, but for the values that they leave open. `None` where nobody prepared them, or
    /// one of them is not told as it stands.
    text: Option<Text>,
}

/// Lines as text, with gaps for the values of each response.
#[derive(Clone, Debug)]
struct Text {
    bytes: Box<[u8]>,
    /// Where the gaps are.
    gaps: Box<[usize]>,
    is_dated: bool,
}

/// All lines of a response as text, each with its CR LF.
#[derive(Clone, Debug)]
pub struct FieldText<'a>(Telling<'a>);

#[derive(Clone, Debug)]
enum Telling<'a> {
    Prepared { text: &'a Text, own: &'a [HeaderValue] },
    Whole(&'a TextLines),
}

impl<'a> FieldText<'a> {
    /// Hands its pieces to `put`, in order.
    pub fn write(&self, mut put: impl FnMut(&[u8])) {
        let (Text { bytes, gaps, .. }, own) = match &self.0 {
            Telling::Whole(lines) => return put(lines.text()),
            Telling::Prepared { text, own } => (text, own),
        };
        let mut begin = 0;
        for (gap, value) in gaps.iter().zip(*own) {
            put(bytes.get(begin..*gap).unwrap_or_default());
            put(value.as_bytes());
            begin = *gap;
        }
        put(bytes.get(begin..).unwrap_or_default());
    }

    /// Whether `Date` is among them.
    #[must_use]
    pub const fn is_dated(&self) -> bool {
        match &self.0 {
            Telling::Whole(lines) => lines.is_dated(),
            Telling::Prepared { text, .. } => text.is_dated,
        }
    }
}

impl Template {
    /// Lines in order; `None` where each response has a value of its own.
    #[must_use]
    pub fn new(lines: Vec<(HeaderName, Option<HeaderValue>)>) -> Self {
        Self { lines: lines.into_boxed_slice(), text: None }
    }

    /// The same with its text prepared, which is worth its bytes where many answers are made of it. Not where a
    /// line depends on who asks.
    #[must_use]
    pub fn prepared(mut self) -> Self {
        let mut text = Text { bytes: Box::default(), gaps: Box::default(), is_dated: false };
        let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
        for (name, value) in &self.lines {
            match Kind::of(name.as_str().as_bytes()) {
                Kind::Varying => return self,
                Kind::Dated => text.is_dated = true,
                Kind::Plain | Kind::Refused => {}
            }
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            match value {
                Some(value) => bytes.extend_from_slice(value.as_bytes()),
                None => gaps.push(bytes.len()),
            }
            bytes.extend_from_slice(b"\r\n");
        }
        (text.bytes, text.gaps) = (bytes.into(), gaps.into());
        self.text = Some(text);
        self
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self) -> &[(HeaderName, Option<HeaderValue>)] {
        &self.lines
    }

    /// Bytes that its prepared text takes, in two allocations: of the text and of its gaps. 0 where there is none.
    #[must_use]
    pub fn prepared_bytes(&self) -> (usize, usize) {
        self.text.as_ref().map_or((0, 0), |text| (text.bytes.len(), size_of_val(&*text.gaps)))
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

    pub(super) fn of_text(lines: TextLines) -> Self {
        Self(Lines::Single(Single::Text(Arc::new(lines))))
    }

    /// The same lines as text; `None` where a store would not hold them.
    #[cfg(test)]
    pub(crate) fn as_text(&self) -> Option<Self> {
        let values: Vec<u8> = self.iter().flat_map(|(_, value)| value.as_bytes()).copied().collect();
        let (mut lines, mut text) = (super::LineText::of(&values)?, Vec::new());
        for (name, value) in self {
            lines.put(&mut text, super::Name::Spelt(name.as_str().as_bytes()), value.len())?;
        }
        lines.fields(text.into())
    }

    /// Template and own values of packed lines.
    #[must_use]
    pub fn parts(&self) -> Option<(&Arc<Template>, &[HeaderValue])> {
        match &self.0 {
            Lines::Single(_) => None,
            Lines::Packed { template, own } => Some((template, own)),
        }
    }

    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Lines::Single(Single::Loose(lines)) => lines.len(),
            Lines::Single(Single::Text(lines)) => lines.len(),
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
            Lines::Single(lines) => Of::Single(lines.pairs().iter()),
            Lines::Packed { template, own } => Of::Packed { lines: template.lines.iter(), own: own.iter() },
        })
    }

    /// All lines as text, where it is at hand and told to everybody as it stands.
    #[must_use]
    pub fn text(&self) -> Option<FieldText<'_>> {
        let telling = match &self.0 {
            Lines::Single(Single::Loose(_)) => return None,
            Lines::Single(Single::Text(lines)) => {
                lines.is_told_as_it_stands().then_some(Telling::Whole(lines))?
            }
            Lines::Packed { template, own } => Telling::Prepared { text: template.text.as_ref()?, own },
        };
        Some(FieldText(telling))
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
        Self(Lines::Single(Single::Loose(Box::default())))
    }
}

impl From<Vec<(HeaderName, HeaderValue)>> for Fields {
    fn from(lines: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self(Lines::Single(Single::Loose(lines.into_boxed_slice())))
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: T) -> Self {
        Self(Lines::Single(Single::Loose(lines.into_iter().collect())))
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
    Single(slice::Iter<'a, Pair>),
    Packed { lines: slice::Iter<'a, (HeaderName, Option<HeaderValue>)>, own: slice::Iter<'a, HeaderValue> },
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a HeaderName, &'a HeaderValue);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Of::Single(lines) => lines.next().map(|(name, value)| (name, value)),
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
            Of::Single(lines) => lines.size_hint(),
            Of::Packed { lines, .. } => lines.size_hint(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, SET_COOKIE, TRAILER};

    use super::*;
    use crate::caching::outcome::X_CACHE;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn all_forms_read_alike() {
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
        let text = loose.as_text().expect("lines");
        for fields in [&loose, &packed, &text] {
            assert_eq!(fields.to_vec(), lines);
            assert_eq!((fields, fields.as_text().as_ref()), (&loose, Some(&text)));
            assert_eq!(format!("{fields:?}"), format!("{loose:?}"));
            assert_eq!((fields.len(), fields.iter().len(), fields.is_empty()), (4, 4, false));
            assert_eq!(fields.get(&SET_COOKIE).unwrap(), "a");
            assert_eq!(fields.get(&ETAG), None);
        }
        assert_eq!(loose, packed);
        assert!(Fields::packed(Arc::clone(&template), own().skip(1).collect()).is_none());
        assert!(Fields::packed(template, own().chain([value("c")]).collect()).is_none());
        for short in [packed, text] {
            let mut longer = short.clone();
            longer.push(ETAG, value("\"a\""));
            assert_ne!(longer, short);
            assert_eq!(longer.iter().last().map(|(name, _)| name), Some(&ETAG));
        }
        assert!(Fields::default().is_empty());
        assert_eq!(Fields::default().as_text(), Some(Fields::default()));
    }

    #[test]
    fn prepared_text_says_what_the_lines_say() {
        let lines = [
            (CONTENT_TYPE, value("text/html")),
            (DATE, value("today")),
            (ETAG, value("\"a\"")),
            (SET_COOKIE, value("a")),
            (SET_COOKIE, value("b")),
        ];
        for length in 0..=lines.len() {
            for shared in [&[][..], &[CONTENT_TYPE][..], &[DATE, SET_COOKIE][..]] {
                let lines = &lines[..length];
                let open =
                    |(n, v): &(HeaderName, HeaderValue)| (n.clone(), shared.contains(n).then(|| v.clone()));
                let template = Arc::new(Template::new(lines.iter().map(open).collect()).prepared());
                let own = lines.iter().filter(|(n, _)| !shared.contains(n)).map(|(_, value)| value.clone());
                let packed = Fields::packed(template, own.collect()).expect("as many");
                let of_text = packed.as_text().expect("lines");
                for fields in [&packed, &of_text] {
                    let text = fields.text().expect("prepared");
                    let mut written = Vec::new();
                    text.write(|piece| written.extend_from_slice(piece));
                    let line = |(n, v): (&HeaderName, &HeaderValue)| {
                        format!("{n}: {}\r\n", v.to_str().expect("text"))
                    };
                    assert_eq!(
                        String::from_utf8(written).expect("text"),
                        fields.iter().map(line).collect::<String>()
                    );
                    assert_eq!(text.is_dated(), length > 1);
                }
            }
        }
        for special in [TRAILER, X_CACHE, CONTENT_LENGTH] {
            let template = Template::new(vec![(special, Some(value("1")))]).prepared();
            let packed = Fields::packed(Arc::new(template), Box::default()).expect("none");
            assert!(packed.text().is_none());
            assert!(packed.as_text().expect("lines").text().is_none());
        }
    }

    #[test]
    fn fields_are_three_words() {
        assert_eq!(size_of::<Fields>(), 24);
    }
}
