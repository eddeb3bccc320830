//! Single values: what text, number, duration, size or word a key may hold.
//!
//! Decides: types and bounds. Never touches: keys, places or the environment. Errors are the end of a
//! sentence that begins with the key.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::did_you_mean;
use super::units::{self, Shown};
use crate::rules::settings::Size;

/// A value that is no table and no array, `"${VAR}"` resolved.
#[derive(Debug)]
pub(super) enum Leaf {
    Text {
        /// As in the file.
        written: String,
        /// With variables resolved. Keys that hold secrets never repeat it in an error.
        value: String,
    },
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Of no type that any key has; its name.
    Other(&'static str),
}

impl Leaf {
    fn found(&self) -> String {
        match self {
            Self::Text { written, .. } => format!("the string {written:?}"),
            Self::Integer(number) => format!("the integer {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Boolean(yes) => format!("{yes}"),
            Self::Other(kind) => a(kind),
        }
    }

    /// Text that came from the environment may stand for any type.
    fn env_text(&self) -> Option<&str> {
        match self {
            Self::Text { written, value } if written.contains("${") => Some(value.trim()),
            _ => None,
        }
    }
}

/// Any text.
pub(super) fn text(leaf: &Leaf) -> Result<String, String> {
    match leaf {
        Leaf::Text { value, .. } => Ok(value.clone()),
        other => Err(format!("expected a string, found {}", other.found())),
    }
}

/// A text that `parse` understands.
pub(super) fn text_as<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&Leaf) -> Result<T, String> {
    move |leaf| parse(&text(leaf)?)
}

/// `true` or `false`.
pub(super) fn boolean(leaf: &Leaf) -> Result<bool, String> {
    match (leaf, leaf.env_text()) {
        (Leaf::Boolean(yes), _) => Ok(*yes),
        (_, Some("true")) => Ok(true),
        (_, Some("false")) => Ok(false),
        _ => Err(format!("expected true or false, found {}", leaf.found())),
    }
}

/// A whole number within bounds.
pub(super) fn number(bounds: RangeInclusive<i64>) -> impl Fn(&Leaf) -> Result<usize, String> {
    move |leaf| {
        let number = match (leaf, leaf.env_text().map(str::parse::<i64>)) {
            (Leaf::Integer(number), _) => *number,
            (_, Some(Ok(number))) => number,
            _ => return Err(format!("expected a whole number, found {}", leaf.found())),
        };
        within(&number, &bounds, i64::to_string)?;
        usize::try_from(number).map_err(|_| format!("{number} is less than 0, the least allowed"))
    }
}

/// A number with or without fraction, within bounds.
pub(super) fn fraction(bounds: RangeInclusive<f64>) -> impl Fn(&Leaf) -> Result<f64, String> {
    move |leaf| {
        let number = match (leaf, leaf.env_text().map(str::parse::<f64>)) {
            (Leaf::Float(number), _) => *number,
            #[expect(clippy::cast_precision_loss, reason = "beyond 2^52 it is out of bounds anyway")]
            (Leaf::Integer(number), _) => *number as f64,
            (_, Some(Ok(number))) => number,
            _ => return Err(format!("expected a number, found {}", leaf.found())),
        };
        if number.is_nan() {
            return Err("nan is no number that could be meant".to_owned());
        }
        within(&number, &bounds, f64::to_string)?;
        Ok(number)
    }
}

/// A duration within bounds.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&Leaf) -> Result<Duration, String> {
    move |leaf| match leaf {
        Leaf::Text { value, .. } => {
            let length = units::duration(value)?;
            within(&length, &bounds, |d| format!("\"{}\"", Shown(*d)))?;
            Ok(length)
        }
        Leaf::Integer(number) => {
            Err(format!("expected a duration, found {}; did you mean \"{number}s\"?", leaf.found()))
        }
        other => Err(format!("expected a duration such as \"30s\", found {}", other.found())),
    }
}

/// A size within bounds, in bytes.
pub(super) fn size(bounds: RangeInclusive<u64>) -> impl Fn(&Leaf) -> Result<u64, String> {
    move |leaf| match leaf {
        Leaf::Text { value, .. } => {
            let bytes = units::size(value)?;
            within(&bytes, &bounds, |b| format!("\"{}\"", Size(*b)))?;
            Ok(bytes)
        }
        Leaf::Integer(number) => {
            let unit = if *number == 0 { "" } else { "B" };
            Err(format!("expected a size, found {}; did you mean \"{number}{unit}\"?", leaf.found()))
        }
        other => Err(format!("expected a size such as \"64KiB\", found {}", other.found())),
    }
}

/// One of a closed list of words.
pub(super) fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&Leaf) -> Result<T, String> {
    move |leaf| {
        let valid = || words.iter().map(|(word, _)| *word);
        let list = || valid().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let Leaf::Text { value, .. } = leaf else {
            return Err(format!("expected one of {}, found {}", list(), leaf.found()));
        };
        match words.iter().find(|(word, _)| word == value) {
            Some((_, meaning)) => Ok(*meaning),
            None => Err(format!("{value:?} is not one of {}{}", list(), did_you_mean(value, valid()))),
        }
    }
}

fn within<T: PartialOrd>(
    value: &T,
    bounds: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<(), String> {
    if value < bounds.start() {
        return Err(format!("{} is less than {}, the least allowed", show(value), show(bounds.start())));
    }
    if value > bounds.end() {
        return Err(format!("{} is more than {}, the most allowed", show(value), show(bounds.end())));
    }
    Ok(())
}

/// A type with its article.
pub(super) fn a(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}
