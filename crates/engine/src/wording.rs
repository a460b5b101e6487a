//! Numbers as text.

pub use surprisal_text::{many, thousands};

/// A duration, such as "1 min 05 s".
pub fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// An amount of memory, such as "1.5 kB".
pub fn bytes(count: u64) -> String {
    match count as f64 {
        c if c < 1e3 => format!("{count} B"),
        c if c < 1e6 => format!("{:.1} kB", c / 1e3),
        c if c < 1e9 => format!("{:.1} MB", c / 1e6),
        c if c < 1e15 => format!("{:.1} GB", c / 1e9),
        c => format!("{c:.1e} bytes"),
    }
}

/// A share, such as "2.50 %".
pub fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole as f64)
}

/// A number with `digits` decimals; from a million with an exponent.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_finite() && value.abs() >= 1e6 {
        return format!("{value:.3e}");
    }
    let shown = format!("{value:.digits$}");
    match shown.strip_prefix('-') {
        // Zero has no sign.
        Some(zero) if zero.bytes().all(|byte| matches!(byte, b'0' | b'.')) => zero.to_owned(),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(duration(1.26), "1.3 s");
        assert_eq!(duration(59.7), "1 min 00 s");
        assert_eq!(duration(3720.0), "1 h 02 min");
        assert_eq!(bytes(1500), "1.5 kB");
        assert_eq!(number(999_999.25, 3), "999999.250");
        assert_eq!([number(-0.00004, 4), number(-0.00006, 4)], ["0.0000", "-0.0001"]);
        assert_eq!([number(3.3e83, 4), number(-1e6, 1)], ["3.300e83", "-1.000e6"]);
        assert_eq!((number(f64::INFINITY, 3), number(f64::NAN, 3)), ("inf".to_owned(), "NaN".to_owned()));
    }
}
