//! Numbers, names and texts as people are shown them.

use std::borrow::Cow;
use std::path::Path;

pub use surprisal_text::{many, thousands};

/// `text` with a visible stand-in for every character that a terminal would obey, or that would hide or reorder
/// what stands around it. Line ends and tabs stay, and so do the joiners that scripts and emoji are written with.
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, |character, shown| match character as u32 {
        control @ 0..0x20 => shown.extend(char::from_u32(0x2400 + control)),
        0x7f => shown.push('␡'),
        _ => shown.extend(character.escape_unicode()),
    })
}

/// [`visible`] text, whose line ends are shown, too: what is quoted within a line stays on it.
pub(crate) fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\n")
}

/// The name of a file or a folder within a line.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// Labels, and what stands beside them.
pub(crate) fn labelled(lines: &[(impl AsRef<str>, String)], width: usize) -> String {
    lines.iter().map(|(label, value)| format!("{:<width$}{}\n", label.as_ref(), one_line(value))).collect()
}

/// A line of JSON with the same characters as escapes, which stand for the same values.
pub(crate) fn in_json(line: &str) -> Cow<'_, str> {
    replaced(line, |character, shown| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

/// `text` with `instead` of every character that must not reach a terminal.
fn replaced(text: &str, instead: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(drives_a_terminal) else { return text.into() };
    let mut shown = text[..first].to_owned();
    for character in text[first..].chars() {
        if drives_a_terminal(character) {
            instead(character, &mut shown);
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

/// Controls (C0, DEL, C1), separators of lines and paragraphs, directions, and what has no width and no meaning.
fn drives_a_terminal(character: char) -> bool {
    let kept = matches!(character, '\n' | '\t');
    let unseen = matches!(character, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}');
    character.is_control() && !kept || unseen
}

/// Seconds as people say them.
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

/// Bytes as people say them.
pub fn bytes(count: u64) -> String {
    match count as f64 {
        c if c < 1e3 => format!("{count} B"),
        c if c < 1e6 => format!("{:.1} kB", c / 1e3),
        c if c < 1e9 => format!("{:.1} MB", c / 1e6),
        c if c < 1e15 => format!("{:.1} GB", c / 1e9),
        c => format!("{c:.1e} bytes"),
    }
}

/// A number with so many `digits` behind the point; one of a million and more, as a perplexity can be, with an exponent.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_finite() && value.abs() >= 1e6 { format!("{value:.3e}") } else { format!("{value:.digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_safe_and_mean_the_same() {
        for code in (0..0x3000).chain(0xe0000..0xe0100) {
            let Some(character) = char::from_u32(code) else { continue };
            let value = serde_json::json!(format!("a{character}b"));
            let line = in_json(&value.to_string()).into_owned();
            assert!(!line.contains(drives_a_terminal) && !line.contains('\n'), "{line:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(duration(1.26), "1.3 s");
        assert_eq!(duration(59.7), "1 min 00 s");
        assert_eq!(duration(3720.0), "1 h 02 min");
        assert_eq!(bytes(1500), "1.5 kB");
        assert_eq!(number(999_999.25, 3), "999999.250");
        assert_eq!([number(3.3e83, 4), number(-1e6, 1)], ["3.300e83", "-1.000e6"]);
        assert_eq!((number(f64::INFINITY, 3), number(f64::NAN, 3)), ("inf".to_owned(), "NaN".to_owned()));
    }
}
