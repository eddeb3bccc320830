//! What stored responses have in common, kept once.
//!
//! Decides: which values are taken to be common, and how many templates are remembered. Never touches:
//! records. An origin says `content-type: application/json` and names the same fields in the same order
//! a million times; a line that is kept whole takes 72 bytes before its text.
//!
//! Values are common by the name of their field, of a closed list: those that tell responses apart
//! (dates, tags, cookies, identifiers) would make every template another one. What an origin makes up
//! all the same is bounded: with no room left, responses keep templates of their own, and weigh more.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ALT_SVC, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, PRAGMA,
    REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY, VARY, VIA, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
};
use http::{HeaderName, HeaderValue};

use super::weight::template_weight;
use crate::caching::stored::{Fields, Template};

/// Fields with few values among many responses.
const COMMON: [HeaderName; 21] = [
    ACCEPT_RANGES,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    ALT_SVC,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    PRAGMA,
    REFERRER_POLICY,
    SERVER,
    STRICT_TRANSPORT_SECURITY,
    VARY,
    VIA,
    X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
];
/// Longest common value.
const LONGEST: usize = 128;

/// The templates of one tier.
pub(super) struct Templates {
    known: Mutex<Known>,
    /// Bytes that they may take.
    room: u64,
}

#[derive(Default)]
struct Known {
    templates: HashSet<Arc<Template>>,
    bytes: u64,
}

/// A template, and who keeps it.
pub(super) struct Found {
    pub(super) template: Arc<Template>,
    /// Whether it is remembered here. If not, it is its response's own.
    pub(super) shared: bool,
}

impl Templates {
    pub(super) fn new(room: u64) -> Self {
        Self { known: Mutex::default(), room }
    }

    /// The template of these lines; the values it leaves open are [`open`] ones. Its bytes are its own.
    pub(super) fn of(&self, fields: &Fields) -> Found {
        let value = |name: &_, value: &HeaderValue| is_common(name, value).then(|| value.clone());
        let wanted = Template::new(fields.iter().map(|(n, v)| (n.clone(), value(n, v))).collect());
        let mut known = self.known();
        if let Some(template) = known.templates.get(&wanted) {
            return Found { template: Arc::clone(template), shared: true };
        }
        let template = exact(&wanted);
        let prepared = Arc::new(template.clone().prepared());
        let weight = template_weight(&prepared);
        if known.bytes + weight > self.room {
            known.templates.retain(|template| Arc::strong_count(template) > 1);
            known.bytes = known.templates.iter().map(|template| template_weight(template)).sum();
        }
        let shared = known.bytes + weight <= self.room;
        if !shared {
            return Found { template: Arc::new(template), shared };
        }
        known.bytes += weight;
        known.templates.insert(Arc::clone(&prepared));
        Found { template: prepared, shared }
    }

    /// Bytes that the templates remembered here take.
    pub(super) fn bytes(&self) -> u64 {
        self.known().bytes
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What a panicking thread left is at worst counted wrong until there is no room.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of lines that their template leaves open.
pub(super) fn open(fields: &Fields) -> impl Iterator<Item = &HeaderValue> {
    fields.iter().filter(|(name, value)| !is_common(name, value)).map(|(_, value)| value)
}

fn is_common(name: &HeaderName, value: &HeaderValue) -> bool {
    value.len() <= LONGEST && !value.is_sensitive() && COMMON.contains(name)
}

/// The same with values that keep no read buffer alive; names never do.
fn exact(template: &Template) -> Template {
    let own =
        |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    let lines = template.lines().iter();
    Template::new(lines.map(|(name, value)| (name.clone(), value.as_ref().map(own))).collect())
}

#[cfg(test)]
mod tests {
    use http::header::{DATE, ETAG};

    use super::*;

    fn fields(content_type: &str, etag: &str) -> Fields {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        [(CONTENT_TYPE, value(content_type)), (ETAG, value(etag)), (DATE, value("today"))]
            .into_iter()
            .collect()
    }

    #[test]
    fn responses_alike_share_one_template() {
        let templates = Templates::new(1 << 16);
        let (one, other) = (fields("text/html", "\"1\""), fields("text/html", "\"2\""));
        let first = templates.of(&one);
        let second = templates.of(&other);
        assert!(first.shared && second.shared && Arc::ptr_eq(&first.template, &second.template));
        assert_eq!(open(&one).collect::<Vec<_>>(), ["\"1\"", "today"]);
        let again = Fields::packed(first.template, open(&one).cloned().collect()).expect("as many");
        assert_eq!(again, one);
        let third = templates.of(&fields("text/plain", "\"1\""));
        assert!(!Arc::ptr_eq(&third.template, &second.template));
        assert_eq!(templates.bytes(), template_weight(&second.template) + template_weight(&third.template));
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(open(&fields(&long, "a")).count(), 3, "not common, whatever its name");
    }

    #[test]
    fn templates_are_bounded() {
        let weight = template_weight(&Templates::new(1 << 16).of(&fields("t/100", "")).template);
        let templates = Templates::new(weight * 10);
        let mut held = Vec::new();
        for n in 100..200 {
            let found = templates.of(&fields(&format!("t/{n}"), ""));
            assert_eq!(found.shared, n < 110, "{n}");
            held.push(found.template);
            assert!(templates.bytes() <= weight * 10);
        }
        drop(held.drain(..5));
        assert!(templates.of(&fields("t/300", "")).shared, "in the place of what nobody uses");
        assert_eq!(templates.bytes(), weight * 6);
    }
}
