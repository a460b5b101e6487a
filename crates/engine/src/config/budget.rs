//! Amounts of time as people write them: `90s`, `3min`, `1h30min`, `2.5h`.

use std::time::Duration;

/// Reads an amount of time; `None` when it is not one, is not positive, or is longer than a year.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0f64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
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
    (seconds > 0.0 && seconds <= 366.0 * 86400.0).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("3min", 180.0),
            ("1h30min", 5400.0),
            ("2.5h", 9000.0),
            ("45", 45.0),
            ("1 min 5 s", 65.0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "0s", "-3min", "three minutes", "3 fortnights", "1e9h", "min", "..s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
