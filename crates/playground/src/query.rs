//! The query of an address: its names, values and their ranges.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::problem::{Problem, Result};

/// The names and values after `?`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// The query `text`, percent-decoded; of a name that occurs twice the last value.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_>>().map(Self)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn text(&self, name: &str, default: &'static str) -> &str {
        self.get(name).filter(|value| !value.is_empty()).unwrap_or(default)
    }

    /// A text that is written on the page, or `default` where none is given.
    pub(crate) fn written(&self, default: &'static str, most: usize) -> Result<&str> {
        let text = self.get("written").unwrap_or(default);
        match text.chars().count() {
            0 => Err(Problem::bad("the text is empty: write a letter at least")),
            chars if chars > most => Err(Problem::bad(format!("the text has more than {most} characters"))),
            _ => Ok(text),
        }
    }

    /// The number `name`, or `default` where it is not given.
    pub(crate) fn number(&self, name: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(default) };
        let (low, high) = (range.start(), range.end());
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            Problem::bad(format!("{name} is {text:?}, but must be a number from {low} to {high}"))
        })
    }

    /// The whole number `name`, or `default` where it is not given.
    pub(crate) fn whole(&self, name: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(default) };
        let (low, high) = (range.start(), range.end());
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            Problem::bad(format!("{name} is {text:?}, but must be a whole number from {low} to {high}"))
        })
    }
}

/// Percent-decoding, with `+` for a space.
pub(crate) fn decode(text: &str) -> Result<String> {
    let wrong = || Problem::bad("the address is not percent-encoded UTF-8");
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || (bytes.next()? as char).to_digit(16);
                let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
                (16 * high + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_ranged() {
        let query = Query::parse("text=a%20b+%C3%A9%26&k=0.5&n=7&k=1&empty").unwrap();
        assert_eq!(query.get("text"), Some("a b é&"));
        assert_eq!(query.number("k", 2.0, 0.0..=1.0), Ok(1.0));
        assert_eq!(query.number("none", 2.0, 0.0..=1.0), Ok(2.0));
        assert!(query.number("n", 2.0, 0.0..=1.0).unwrap_err().message.contains("from 0 to 1"));
        assert!(query.number("text", 0.0, 0.0..=1.0).is_err());
        assert_eq!(query.whole("n", 1, 1..=9), Ok(7));
        assert!(query.whole("k", 1, 2..=9).is_err());
        assert_eq!(query.text("empty", "x"), "x");
        for bad in ["a=%", "a=%4", "a=%zz", "a=%FF", "a=%+1"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert!(Query::parse("a=nan").unwrap().number("a", 0.0, 0.0..=1.0).is_err());
    }
}
