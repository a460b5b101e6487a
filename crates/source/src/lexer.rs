//! Cuts source files into lines of tokens: words, weights, quoted strings. `#` starts a comment.

use super::{Error, Result};

/// The largest source file that is read.
const MAX_BYTES: usize = 1 << 20;
const MAX_WEIGHT: f64 = 1e9;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    Weight(f64),
    /// A quoted string, with `\n`, `\"` and `\\` replaced.
    Text(String),
    Colon,
}

/// A line that is not empty.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) indented: bool,
    pub(super) tokens: Vec<Token>,
}

impl Line {
    /// The strings of `tokens` with their weights, which precede them and default to 1.
    pub(super) fn weighted(&self, tokens: &[Token]) -> Result<Vec<(f64, String)>> {
        let mut strings = Vec::new();
        let mut weight = None;
        for token in tokens {
            match token {
                Token::Weight(value) if weight.is_none() => weight = Some(*value),
                Token::Text(text) => strings.push((weight.take().unwrap_or(1.0), text.clone())),
                _ => return Err(Error::parse(self.number, "a weight or a quoted string is expected here")),
            }
        }
        if weight.is_some() {
            return Err(Error::parse(self.number, "the last weight has no string"));
        }
        Ok(strings)
    }
}

/// The lines that are not empty.
pub(super) fn lines(text: &str) -> Result<Vec<Line>> {
    if text.len() > MAX_BYTES {
        let problem = format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len());
        return Err(Error::parse(1, problem));
    }
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let tokens = tokens(index + 1, line)?;
        if !tokens.is_empty() {
            lines.push(Line { number: index + 1, indented: line.starts_with([' ', '\t']), tokens });
        }
    }
    Ok(lines)
}

fn tokens(number: usize, line: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let after = match first {
            '#' => break,
            ':' => {
                tokens.push(Token::Colon);
                &rest[1..]
            }
            '"' => {
                let (text, after) = quoted(number, &rest[1..])?;
                tokens.push(Token::Text(text));
                after
            }
            '0'..='9' | '.' => {
                let (digits, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
                let weight = digits.parse().ok().filter(|weight| *weight > 0.0 && *weight <= MAX_WEIGHT);
                let problem = || format!("a weight is a number above 0 and up to 1e9, not `{digits}`");
                tokens.push(Token::Weight(weight.ok_or_else(|| Error::parse(number, problem()))?));
                after
            }
            letter if letter.is_ascii_alphabetic() => {
                let (word, after) = split(rest, |c| c.is_ascii_alphanumeric() || c == '_');
                tokens.push(Token::Word(word.to_owned()));
                after
            }
            other => return Err(Error::parse(number, format!("`{}` begins nothing", other.escape_debug()))),
        };
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn split(text: &str, inside: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !inside(c)).unwrap_or(text.len()))
}

/// The string up to the closing quote, and what follows it.
fn quoted(number: usize, text: &str) -> Result<(String, &str)> {
    let mut string = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((string, &text[index + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => string.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => string.push(escaped),
                _ => return Err(Error::parse(number, "after `\\` comes `n`, `\"` or `\\`")),
            },
            other => string.push(other),
        }
    }
    Err(Error::parse(number, "the string has no closing quote"))
}
