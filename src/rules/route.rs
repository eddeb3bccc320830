//! One compiled route: where its requests go and what caching means for them.
//!
//! Decides: what a tag template becomes. Never touches: which route a request belongs to (`select`).

use std::time::Duration;

use super::matcher::{HostPattern, Params, PathPattern};
use crate::caching::policy::Policy;

/// One `[[route]]`, merged over `[defaults]`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its place in [`super::Rules::routes`].
    pub index: usize,
    /// Its unique name: a metric label and a log field.
    pub name: String,
    /// Hosts it answers for.
    pub host: HostPattern,
    /// Paths it answers for.
    pub path: PathPattern,
    /// Index into [`super::Rules::upstreams`].
    pub upstream: usize,
    /// What caching means here.
    pub policy: Policy,
    /// Tags that its responses bear beside the origin's own.
    pub tags: Vec<TagTemplate>,
    /// A waiter's patience with the fill it joined.
    pub collapse_timeout: Duration,
    /// What a waiter does when that is over.
    pub on_collapse_timeout: OnCollapseTimeout,
}

/// `on_collapse_timeout`: what a waiter does once its patience is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCollapseTimeout {
    /// It asks the origin itself.
    #[default]
    Fetch,
    /// It takes a stale response if there is one, or asks the origin.
    Stale,
    /// It is answered 503.
    Unavailable503,
}

/// One entry of `tags`: text in which `{name}` stands for a parameter of the route's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagTemplate {
    parts: Vec<TagPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TagPart {
    Text(String),
    Param(String),
}

impl TagTemplate {
    /// Reads a template for a route with this path.
    ///
    /// # Errors
    /// What is wrong, as a sentence's end: an empty tag, a blank or control byte, an unfinished or
    /// unknown `{name}`.
    pub fn parse(text: &str, path: &PathPattern) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a tag is empty".to_owned());
        }
        if let Some(bad) = text.chars().find(|c| c.is_whitespace() || c.is_control() || *c == ',') {
            return Err(format!("a tag cannot contain {bad:?}"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("the tag {text:?} has a {{ without its }}"));
            };
            if !path.names().any(|n| n == name) {
                return Err(format!("the path has no {{{name}}}"));
            }
            if !before.is_empty() {
                parts.push(TagPart::Text(before.to_owned()));
            }
            parts.push(TagPart::Param(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(TagPart::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The tag of a request with these parameters.
    #[must_use]
    pub fn expand(&self, params: &Params<'_, '_>) -> String {
        let mut tag = String::new();
        for part in &self.parts {
            match part {
                TagPart::Text(text) => tag.push_str(text),
                TagPart::Param(name) => tag.push_str(params.get(name).unwrap_or_default()),
            }
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_take_the_path_parameters() {
        let path = PathPattern::parse("/{kind}/{id}/{*rest}").unwrap();
        for (template, tag) in [
            ("product:{id}", "product:7"),
            ("{kind}", "shop"),
            ("{kind}-{id}.", "shop-7."),
            ("all", "all"),
            ("{rest}", "a/b"),
        ] {
            let template = TagTemplate::parse(template, &path).unwrap();
            assert_eq!(template.expand(&path.params("/shop/7/a/b")), tag);
        }
    }

    #[test]
    fn tags_that_cannot_be_meant_are_refused() {
        let path = PathPattern::parse("/{id}").unwrap();
        for (template, error) in [
            ("", "a tag is empty"),
            ("a b", "a tag cannot contain ' '"),
            ("a,b", "a tag cannot contain ','"),
            ("a\u{7}", "a tag cannot contain '\\u{7}'"),
            ("p:{id", "the tag \"p:{id\" has a { without its }"),
            ("p:{ie}", "the path has no {ie}"),
        ] {
            assert_eq!(TagTemplate::parse(template, &path).unwrap_err(), error);
        }
    }
}
