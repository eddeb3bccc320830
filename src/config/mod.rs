//! Configuration: a TOML text, read once, becomes [`Rules`] or the list of everything wrong with it.
//!
//! Decides: what a configuration may say. Never touches: what its settings do. In order:
//! `schema` names every key and its default, `read` and `value` turn the text into typed values with
//! their places, `compile` checks them against each other and resolves them, `reload` keeps the last good
//! result of a file. Nothing half-valid leaves this module, and nothing is ever silently ignored.
//!
//! The text is walked by hand instead of through serde: a deserializer stops at the first value of
//! the wrong type, and a configuration is to be told everything at once.

mod compile;
mod endpoint;
mod problem;
mod read;
mod redis_url;
mod reload;
mod schema;
mod units;
mod value;

use toml::de::DeTable;

use self::problem::Gathered;
pub(crate) use self::problem::did_you_mean;
pub use self::problem::{Problem, Problems, Severity};
use self::read::Reading;
pub use self::reload::{Live, load};
use crate::rules::Rules;

/// Where `"${VAR}"` is looked up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process. A variable that is not valid UTF-8 counts as not set.
#[must_use]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a configuration; `file` is what problems call it.
///
/// # Errors
/// Every problem of the text, warnings included; at least one of them an error. Where the text is
/// not TOML at all, the problems of its syntax alone, since what it says is not known.
pub fn parse(text: &str, file: &str, env: Env<'_>) -> Result<Rules, Problems> {
    let (root, syntax) = DeTable::parse_recoverable(text);
    let mut found = Gathered::new(file, text);
    if !syntax.is_empty() {
        for error in syntax {
            let span = error.span().unwrap_or(0..0);
            let message = error.message();
            let name = match text.get(span.clone()) {
                Some(name) if message == "duplicate key" => format!(" {name:?}"),
                _ => String::new(),
            };
            found.error(&span, "", format!("not valid TOML: {message}{name}"));
        }
        return Err(found.finish());
    }
    let mut reading = Reading::new(found, env);
    let rules = compile::rules(&mut reading, root.get_ref());
    let mut problems = reading.finish();
    match rules {
        Some(mut rules) if !problems.has_errors() => {
            rules.warnings = problems.lines().collect();
            Ok(rules)
        }
        rules => {
            // Whatever is missing has said why; this is for the reader of a defect in that promise.
            if rules.is_none() && !problems.has_errors() {
                problems = Problems::of_file(file, "refused without a reason, which is a defect".to_owned());
            }
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests;
