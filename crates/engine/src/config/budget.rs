//! Durations as people write them: `90s`, `3min`, `1h30min`, `2.5h`.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words::short;

/// A duration that is saved in the spelling that was read: at most a year, in hours, minutes and
/// seconds.
///
/// ```
/// use surprisal_engine::config::Budget;
/// let budget: Budget = "1h30min".parse().unwrap();
/// assert_eq!(budget.duration().as_secs(), 5400);
/// assert!("soon".parse::<Budget>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Budget {
    written: String,
    duration: Duration,
}

impl Budget {
    /// The duration, which is positive.
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("is \"{}\", not a duration such as 90s, 3min or 1h30min", short(text));
        let seconds = seconds(text).filter(|seconds| *seconds > 0.0 && *seconds <= 366.0 * 86400.0);
        let duration = Duration::from_secs_f64(seconds.ok_or_else(wrong)?);
        Ok(Self { written: text.to_owned(), duration })
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.written
    }
}

/// The sum of all numbers, each times its unit; `None` where the text is anything else.
fn seconds(text: &str) -> Option<f64> {
    let mut seconds = 0.0f64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = rest[letters..].trim_start();
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_writes_it_back() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("3min", 180.0),
            ("1h30min", 5400.0),
            ("2.5h", 9000.0),
            ("45", 45.0),
            ("1 min 5 s", 65.0),
        ] {
            let budget: Budget = text.parse().unwrap();
            assert_eq!(budget.duration(), Duration::from_secs_f64(seconds), "{text}");
            assert_eq!(String::from(budget), text);
        }
    }

    #[test]
    fn refuses_other_texts() {
        for text in ["", "0s", "-3min", "three minutes", "3 fortnights", "1e9h", "min", "..s"] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }
}
