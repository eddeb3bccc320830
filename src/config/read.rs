//! Typed values out of a parsed text, each with its place and full key.
//!
//! Decides: which names exist, which table answers for a key, what `"${VAR}"` stands for. Never
//! touches: what a single value may be (`value`) or how values relate to each other (`compile`).
//!
//! A getter that answers `None` has reported why. Callers ask for every key first and give up
//! afterwards, so that one run reports all there is.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Env;
use super::problem::{Gathered, Problems, nearest};
use super::schema::{self, Key};
use super::value::{Leaf, a};

/// A value and where it stands: in the file, or where the file could have said it.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
    /// The whole key, as in `route.ttl`.
    pub(super) key: String,
    /// Whether the file says it; otherwise it is the default.
    pub(super) given: bool,
}

impl<T> At<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), span: self.span, key: self.key, given: self.given }
    }
}

/// A table, or several of which the first that has a key answers (`[[route]]` over `[defaults]`).
#[derive(Clone, Debug)]
pub(super) struct Section<'t, 'i> {
    layers: Vec<Layer<'t, 'i>>,
    schemas: &'static [&'static [Key]],
    /// Where missing keys are reported.
    pub(super) span: Range<usize>,
    /// What its keys are called in problems.
    pub(super) path: String,
}

#[derive(Clone, Debug)]
struct Layer<'t, 'i> {
    path: String,
    table: &'t DeTable<'i>,
}

impl<'t, 'i> Section<'t, 'i> {
    /// A table as it stands in the file.
    pub(super) fn new(
        path: &str,
        table: &'t DeTable<'i>,
        span: Range<usize>,
        schemas: &'static [&'static [Key]],
    ) -> Self {
        let layer = Layer { path: path.to_owned(), table };
        Self { layers: vec![layer], schemas, span, path: path.to_owned() }
    }

    /// A table that the file does not have: every key has its default.
    pub(super) fn absent(path: &str, schemas: &'static [&'static [Key]]) -> Self {
        Self { layers: Vec::new(), schemas, span: 0..0, path: path.to_owned() }
    }

    /// This section, and `below` for the keys that it does not have.
    pub(super) fn over(mut self, below: &Self) -> Self {
        self.layers.extend(below.layers.iter().cloned());
        self
    }

    /// Names that the topmost table itself has.
    pub(super) fn own_keys(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let keys = self.layers.first().into_iter().flat_map(|layer| layer.table.keys());
        keys.map(|key| (key.get_ref().as_ref(), key.span()))
    }

    fn find(&self, name: &str) -> Option<(String, Range<usize>, &'t Spanned<DeValue<'i>>)> {
        self.layers.iter().find_map(|layer| {
            let (key, value) = layer.table.get_key_value(name)?;
            Some((format!("{}.{name}", layer.path), key.span(), value))
        })
    }

    fn default(&self, name: &str) -> &'static str {
        let mut keys = self.schemas.iter().flat_map(|keys| keys.iter());
        keys.find(|key| key.name == name).map_or(schema::NONE, |key| key.default)
    }
}

/// Reads one text; gathers its problems.
pub(super) struct Reading<'a> {
    pub(super) found: Gathered,
    env: Env<'a>,
}

impl<'a> Reading<'a> {
    pub(super) const fn new(found: Gathered, env: Env<'a>) -> Self {
        Self { found, env }
    }

    pub(super) fn finish(self) -> Problems {
        self.found.finish()
    }

    /// An error about a value that was read.
    pub(super) fn error<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.found.error(&at.span, &at.key, message);
    }

    /// A warning about a value that was read.
    pub(super) fn warning<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.found.warning(&at.span, &at.key, message);
    }

    /// Reports the keys of `table` that none of `schemas` has.
    pub(super) fn unknown_keys(&mut self, path: &str, table: &DeTable<'_>, schemas: &[&'static [Key]]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            let valid = || schemas.iter().flat_map(|keys| keys.iter()).map(|key| key.name);
            if valid().any(|v| v == name) {
                continue;
            }
            let whole = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let hint = match (nearest(name, valid()), schema::tables_with(name).next()) {
                (Some(near), _) => format!("; did you mean {near:?}?"),
                (None, Some(table)) => format!("; it belongs in {table}"),
                (None, None) => String::new(),
            };
            self.found.error(&key.span(), &whole, format!("unknown key{hint}"));
        }
    }

    /// The table `name` of the root, its keys checked; `None` when it is something else.
    pub(super) fn table<'t, 'i>(
        &mut self,
        root: &'t DeTable<'i>,
        name: &str,
        schemas: &'static [&'static [Key]],
    ) -> Option<Section<'t, 'i>> {
        let Some((key, value)) = root.get_key_value(name) else {
            return Some(Section::absent(name, schemas));
        };
        let Some(table) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            self.found.error(&key.span(), name, format!("expected a table, [{name}], found {}", a(found)));
            return None;
        };
        self.unknown_keys(name, table, schemas);
        Some(Section::new(name, table, key.span(), schemas))
    }

    /// The table under key `name` of a section, layer over layer, keys checked.
    pub(super) fn inner_table<'t, 'i>(
        &mut self,
        section: &Section<'t, 'i>,
        name: &str,
        schemas: &'static [&'static [Key]],
    ) -> Option<Section<'t, 'i>> {
        let path = format!("{}.{name}", section.path);
        let mut inner = Section::absent(&path, schemas);
        inner.span = section.span.clone();
        for layer in &section.layers {
            let Some((key, value)) = layer.table.get_key_value(name) else { continue };
            let path = format!("{}.{name}", layer.path);
            let Some(table) = value.get_ref().as_table() else {
                let found = a(value.get_ref().type_str());
                self.found.error(&key.span(), &path, format!("expected a table, {{ … }}, found {found}"));
                return None;
            };
            self.unknown_keys(&path, table, schemas);
            inner.layers.push(Layer { path, table });
        }
        Some(inner)
    }

    /// The entries of the table under key `name`, from the first layer that has it.
    pub(super) fn entries<'t, 'i>(
        &mut self,
        section: &Section<'t, 'i>,
        name: &str,
    ) -> Option<Vec<(At<String>, &'t Spanned<DeValue<'i>>)>> {
        let Some((path, span, value)) = section.find(name) else { return Some(Vec::new()) };
        let Some(table) = value.get_ref().as_table() else {
            let found = a(value.get_ref().type_str());
            self.found.error(&span, &path, format!("expected a table, {{ … }}, found {found}"));
            return None;
        };
        let entry = |(key, value): (&Spanned<_>, &'t _)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            let at = At {
                value: name.clone().into_owned(),
                span: key.span(),
                key: format!("{path}.{name}"),
                given: true,
            };
            (at, value)
        };
        Some(table.iter().map(entry).collect())
    }

    /// The value of a key that has a default or must be there.
    pub(super) fn get<T>(
        &mut self,
        section: &Section<'_, '_>,
        name: &str,
        parse: impl Fn(&Leaf) -> Result<T, String>,
    ) -> Option<At<T>> {
        let value = self.optional(section, name, parse)?;
        if value.is_none() {
            self.missing(section, name);
        }
        value
    }

    /// The value of a key; `Some(None)` when the file has none and there is no default.
    pub(super) fn optional<T>(
        &mut self,
        section: &Section<'_, '_>,
        name: &str,
        parse: impl Fn(&Leaf) -> Result<T, String>,
    ) -> Option<Option<At<T>>> {
        if let Some((key, _, value)) = section.find(name) {
            let place = At { value: (), span: value.span(), key, given: true };
            return self.value(place, value.get_ref(), parse).map(Some);
        }
        let Some((place, value)) = self.default(section, name) else { return Some(None) };
        self.value(place, value.get_ref(), parse).map(Some)
    }

    /// The values of a key that is an array; with neither value nor default it must be there.
    pub(super) fn list<T>(
        &mut self,
        section: &Section<'_, '_>,
        name: &str,
        parse: impl Fn(&Leaf) -> Result<T, String>,
    ) -> Option<At<Vec<At<T>>>> {
        if let Some((key, _, value)) = section.find(name) {
            let place = At { value: (), span: value.span(), key, given: true };
            return self.items(place, value.get_ref(), parse);
        }
        match self.default(section, name) {
            Some((place, value)) => self.items(place, value.get_ref(), parse),
            None => {
                self.missing(section, name);
                None
            }
        }
    }

    fn items<T>(
        &mut self,
        place: At<()>,
        value: &DeValue<'_>,
        parse: impl Fn(&Leaf) -> Result<T, String>,
    ) -> Option<At<Vec<At<T>>>> {
        let Some(array) = value.as_array() else {
            let hint = match value {
                DeValue::String(text) => format!("; did you mean [{text:?}]?"),
                _ => String::new(),
            };
            let found = a(value.type_str());
            self.error(&place, format!("expected an array, found {found}{hint}"));
            return None;
        };
        let mut items = Vec::with_capacity(array.len());
        for item in array.iter() {
            let span = if place.given { item.span() } else { place.span.clone() };
            let at = At { value: (), span, key: place.key.clone(), given: place.given };
            items.push(self.value(at, item.get_ref(), &parse));
        }
        let items = items.into_iter().collect::<Option<Vec<_>>>()?;
        Some(place.map(|()| items))
    }

    /// One value: variables resolved, then given to `parse`.
    pub(super) fn value<T>(
        &mut self,
        place: At<()>,
        value: &DeValue<'_>,
        parse: impl Fn(&Leaf) -> Result<T, String>,
    ) -> Option<At<T>> {
        match self.leaf(value).and_then(|leaf| parse(&leaf)) {
            Ok(value) => Some(place.map(|()| value)),
            Err(message) => {
                self.error(&place, message);
                None
            }
        }
    }

    fn leaf(&self, value: &DeValue<'_>) -> Result<Leaf, String> {
        Ok(match value {
            DeValue::String(text) => {
                Leaf::Text { written: text.clone().into_owned(), value: resolve(text, self.env)? }
            }
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                Leaf::Integer(parsed.map_err(|_| format!("{number} is too large a number"))?)
            }
            DeValue::Float(number) => {
                let parsed = number.as_str().parse();
                Leaf::Float(parsed.map_err(|_| format!("{number} is not a number"))?)
            }
            DeValue::Boolean(yes) => Leaf::Boolean(*yes),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Leaf::Other(value.type_str()),
        })
    }

    fn default(
        &mut self,
        section: &Section<'_, '_>,
        name: &str,
    ) -> Option<(At<()>, Spanned<DeValue<'static>>)> {
        let text = section.default(name);
        if text == schema::NONE {
            return None;
        }
        let place = At {
            value: (),
            span: section.span.clone(),
            key: format!("{}.{name}", section.path),
            given: false,
        };
        match DeValue::parse(text) {
            Ok(value) => Some((place, value)),
            Err(error) => {
                self.error(&place, format!("its default is not TOML: {}", error.message()));
                None
            }
        }
    }

    fn missing(&mut self, section: &Section<'_, '_>, name: &str) {
        self.found.error(&section.span, &section.path, format!("{name:?} is missing"));
    }
}

/// `text` with every `${NAME}` replaced by that variable of the environment.
fn resolve(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut resolved = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        resolved.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err("has a ${ without its }".to_owned());
        };
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !valid {
            return Err(format!("{name:?} is not the name of an environment variable"));
        }
        let Some(value) = env(name) else {
            return Err(format!("the environment variable {name} is not set"));
        };
        resolved.push_str(&value);
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}
