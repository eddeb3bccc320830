//! Durations and sizes as they are written: `"250ms"`, `"64KiB"`.
//!
//! Decides: which texts are one, and what was probably meant by the others. Errors are the end of a
//! sentence that begins with the key.

use std::fmt;
use std::time::Duration;

/// Reads a duration: a whole number and `ms`, `s`, `m`, `h` or `d`; or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let example = "a duration such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\"";
    let (number, unit) = split(text, example)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 0,
        "" => return Err(format!("{text:?} has no unit; did you mean \"{text}s\"?")),
        _ => {
            let meant = match unit.to_ascii_lowercase().as_str() {
                "ms" | "msec" | "msecs" | "millis" | "milliseconds" => "ms",
                "s" | "sec" | "secs" | "second" | "seconds" => "s",
                "min" | "mins" | "minute" | "minutes" => "m",
                "h" | "hr" | "hour" | "hours" => "h",
                "d" | "day" | "days" => "d",
                _ => return Err(format!("{text:?} is not {example}")),
            };
            return Err(format!(
                "{text:?} has no unit that is known here; did you mean \"{number}{meant}\"?"
            ));
        }
    };
    let total = number.checked_mul(millis).ok_or_else(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(total))
}

/// Reads a size in bytes: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`; or `0`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let example = "a size such as \"64KiB\", \"256MiB\", \"1GiB\" or \"0\"";
    let (number, unit) = split(text, example)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "" if number == 0 => 0,
        "" => return Err(format!("{text:?} has no unit; did you mean \"{text}B\"?")),
        _ => {
            let meant = match unit.to_ascii_lowercase().as_str() {
                "b" | "bytes" => "B",
                "k" | "kb" | "kib" => "KiB",
                "m" | "mb" | "mib" => "MiB",
                "g" | "gb" | "gib" => "GiB",
                "t" | "tb" | "tib" => "TiB",
                _ => return Err(format!("{text:?} is not {example}")),
            };
            return Err(format!(
                "{text:?} has no unit that is known here; did you mean \"{number}{meant}\"?"
            ));
        }
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

/// A whole number and what follows it; blanks between them are forgiven.
fn split<'t>(text: &'t str, example: &str) -> Result<(u64, &'t str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    if number.is_empty() {
        return Err(format!("{text:?} is not {example}"));
    }
    if unit.starts_with(['.', ',']) {
        return Err(format!("{text:?} is not a whole number; use a smaller unit"));
    }
    let number = number.parse().map_err(|_| format!("{text:?} is too large a number"))?;
    Ok((number, unit.trim_start_matches(' ')))
}

/// A duration in the largest unit that divides it.
pub(super) struct Shown(pub(super) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (length, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if millis > 0 && millis.is_multiple_of(length) {
                return write!(f, "{}{unit}", millis / length);
            }
        }
        write!(f, "{millis}ms")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("30 s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let example = "is not a duration such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\"";
        for (text, error) in [
            ("", format!("\"\" {example}")),
            ("s", format!("\"s\" {example}")),
            ("-1s", format!("\"-1s\" {example}")),
            ("1h30m", format!("\"1h30m\" {example}")),
            ("10", "\"10\" has no unit; did you mean \"10s\"?".to_owned()),
            ("10sec", "\"10sec\" has no unit that is known here; did you mean \"10s\"?".to_owned()),
            ("10 Minutes", "\"10 Minutes\" has no unit that is known here; did you mean \"10m\"?".to_owned()),
            ("1.5s", "\"1.5s\" is not a whole number; use a smaller unit".to_owned()),
            ("99999999999999999999s", "\"99999999999999999999s\" is too large a number".to_owned()),
            ("9999999999999999999s", "\"9999999999999999999s\" is too long".to_owned()),
        ] {
            assert_eq!(duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("0B", 0), ("100B", 100), ("64KiB", 65_536), ("256 MiB", 256 << 20), ("1GiB", 1 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        let example = "is not a size such as \"64KiB\", \"256MiB\", \"1GiB\" or \"0\"";
        for (text, error) in [
            ("", format!("\"\" {example}")),
            ("big", format!("\"big\" {example}")),
            ("1XiB", format!("\"1XiB\" {example}")),
            ("64", "\"64\" has no unit; did you mean \"64B\"?".to_owned()),
            ("64KB", "\"64KB\" has no unit that is known here; did you mean \"64KiB\"?".to_owned()),
            ("64m", "\"64m\" has no unit that is known here; did you mean \"64MiB\"?".to_owned()),
            ("0.5GiB", "\"0.5GiB\" is not a whole number; use a smaller unit".to_owned()),
            ("99999999TiB", "\"99999999TiB\" is too large".to_owned()),
        ] {
            assert_eq!(size(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_the_same(millis in 0_u64..=u64::MAX / 2, shift in 0_u32..64) {
            let length = Duration::from_millis(millis >> shift);
            prop_assert_eq!(duration(&Shown(length).to_string()), Ok(length));
        }

        #[test]
        fn no_text_panics(text in "[0-9]{0,22}\\PC{0,6}") {
            let _ = duration(&text);
            let _ = size(&text);
        }
    }
}
