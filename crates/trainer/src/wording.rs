//! Formatting of numbers, names and texts for people.

use std::borrow::Cow;
use std::path::Path;

pub use surprisal_engine::wording::{bytes, duration, many, number, percent, thousands};

/// `text` with control characters and invisible or direction-changing characters replaced by
/// visible ones. Line ends, tabs and joiners (used by scripts and emoji) are kept.
pub fn visible(text: &str) -> Cow<'_, str> {
    replace_unsafe(text, |character, shown| match character as u32 {
        control @ 0..0x20 => shown.extend(char::from_u32(0x2400 + control)),
        0x7f => shown.push('␡'),
        _ => shown.extend(character.escape_unicode()),
    })
}

/// [`visible`] text with line ends escaped, for use within a line.
pub(crate) fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\n")
}

/// A path for use within a line.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// Lines of a label, padded to `width`, and a value.
pub(crate) fn labelled(lines: &[(impl AsRef<str>, String)], width: usize) -> String {
    lines.iter().map(|(label, value)| format!("{:<width$}{}\n", label.as_ref(), one_line(value))).collect()
}

/// A line of JSON with the same characters escaped, which does not change its values.
pub(crate) fn in_json(line: &str) -> Cow<'_, str> {
    replace_unsafe(line, |character, shown| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

/// `text` with `instead` applied to every unsafe character.
fn replace_unsafe(text: &str, instead: impl Fn(char, &mut String)) -> Cow<'_, str> {
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

/// Whether a character is a control (C0, DEL, C1), a line or paragraph separator, a direction mark,
/// or invisible.
fn drives_a_terminal(character: char) -> bool {
    let kept = matches!(character, '\n' | '\t');
    let unseen = matches!(character, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}');
    character.is_control() && !kept || unseen
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
}
