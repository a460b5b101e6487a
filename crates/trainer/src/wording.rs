//! Numbers, names and texts as people are shown them.

use std::borrow::Cow;
use std::path::Path;

pub use surprisal_engine::wording::{bytes, duration, many, number, thousands};

/// `text` with a visible stand-in for every character that a terminal would obey, or that would hide or reorder
/// what stands around it. Line ends and tabs stay, and so do the joiners that scripts and emoji are written with.
pub fn visible(text: &str) -> Cow<'_, str> {
    replace_unsafe(text, |character, shown| match character as u32 {
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
    replace_unsafe(line, |character, shown| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

/// `text` with `instead` of every character that must not reach a terminal.
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

/// Controls (C0, DEL, C1), separators of lines and paragraphs, directions, and what has no width and no meaning.
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
