//! Texts in a field of records: JSON lines, CSV and TSV.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use serde_json::Value;

use crate::clean::{InvalidBytes, first_invalid};
use crate::error::{Error, Result};
use crate::warnings::{Counted, TextWarnings, lock};

/// A reader that can move to another thread.
pub(crate) type Source = Box<dyn Read + Send>;

/// The byte that ends each record's text; it is never in UTF-8.
pub(crate) const RECORD_END: u8 = 0xFF;
/// The longest record.
const MAX_RECORD_BYTES: u64 = 1 << 26;

/// The format of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonLines,
    Separated { delimiter: u8 },
}

impl Format {
    /// The format of records that start with `head`.
    fn of(head: &[u8]) -> Option<Self> {
        match head.trim_ascii_start().first() {
            Some(b'{') => Some(Self::JsonLines),
            // An array of objects is one line of JSON.
            Some(b'[') => None,
            _ => {
                let header = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
                let delimiter = *b"\t,;".iter().find(|byte| header.contains(byte)).unwrap_or(&b',');
                Some(Self::Separated { delimiter })
            }
        }
    }
}

/// A hint if a text that starts with `head`, and has no `data.field`, looks like records.
pub(crate) fn suspect(path: &Path, head: &[u8]) -> Option<String> {
    let mut lines = head.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let shown = path.display();
    let object = |line: &[u8]| {
        serde_json::from_slice::<serde_json::Map<String, Value>>(line).ok().filter(|keys| !keys.is_empty())
    };
    if head.starts_with(b"{")
        && let Some(keys) = lines.clone().next().and_then(object)
        && lines.nth(1).is_none_or(|line| object(line).is_some())
    {
        let text = keys.iter().filter_map(|(key, value)| Some((value.as_str()?.len(), key)));
        let field = text.max().map_or("text", |(_, key)| key);
        return Some(format!(
            "{shown} looks like JSON lines, and is read as plain text with its braces and keys; \
             data.field = \"{field}\" reads one field"
        ));
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_table = ["csv", "tsv"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    let header = std::str::from_utf8(lines.next()?).ok()?.trim_end();
    let Some(Format::Separated { delimiter }) = Format::of(head).filter(|_| is_table) else { return None };
    let columns: Vec<&str> = header.split(char::from(delimiter)).map(|name| name.trim_matches('"')).collect();
    let name = columns.iter().find(|name| name.eq_ignore_ascii_case("text")).or(columns.last())?;
    (columns.len() > 1).then(|| {
        format!(
            "{shown} looks like a table, and is read as plain text with its separators; \
             data.field = \"{name}\" reads one column"
        )
    })
}

/// The text of one field of each record, each followed by [`RECORD_END`].
pub(crate) struct RecordReader {
    name: String,
    field: String,
    invalid: InvalidBytes,
    keep_nuls: bool,
    found: Counted,
    records: Records,
    /// The text of a record.
    ready: Cursor<Vec<u8>>,
}

enum Records {
    JsonLines { source: BufReader<Source>, line: u64 },
    Separated { source: Box<csv::Reader<RecordLimit>>, column: usize, record: csv::ByteRecord },
}

/// A reader that fails after [`MAX_RECORD_BYTES`] of one record, which an open quote may not end.
struct RecordLimit {
    source: Source,
    left: u64,
}

impl Read for RecordLimit {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let limit = MAX_RECORD_BYTES >> 20;
            return Err(io::Error::other(format!("a record is longer than {limit} MiB")));
        }
        let most = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.source.read(&mut out[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

impl RecordReader {
    /// # Errors
    /// A file that is neither JSON lines nor a table; a table without the column.
    pub(crate) fn new(
        name: &str,
        field: &str,
        head: &[u8],
        source: Source,
        (invalid, keep_nuls): (InvalidBytes, bool),
        found: Counted,
    ) -> Result<Self> {
        let records = match Format::of(head) {
            None => {
                return Err(Error::Record {
                    name: name.to_owned(),
                    line: 1,
                    problem: "this is a JSON array, and JSON lines have one object on each line".into(),
                    hint: Some("make lines of it: jq -c '.[]' OLD > NEW".into()),
                });
            }
            Some(Format::JsonLines) => Records::JsonLines { source: BufReader::new(source), line: 0 },
            Some(Format::Separated { delimiter }) => {
                let source = RecordLimit { source, left: MAX_RECORD_BYTES };
                let mut source = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(source);
                let header = source.byte_headers().map_err(|error| csv_error(name, error))?;
                let columns: Vec<String> =
                    header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                let Some(column) = columns.iter().position(|name| name == field) else {
                    return Err(no_field(name, 1, field, &columns));
                };
                Records::Separated { source: Box::new(source), column, record: csv::ByteRecord::new() }
            }
        };
        let (name, field) = (name.to_owned(), field.to_owned());
        Ok(Self { name, field, invalid, keep_nuls, found, records, ready: Cursor::default() })
    }

    fn count(&self, add: impl FnOnce(&mut TextWarnings)) {
        add(&mut lock(&self.found));
    }

    /// Reads the next record that has text into `ready`; false at the end.
    fn fill(&mut self) -> Result<bool> {
        loop {
            let (line, text) = match &mut self.records {
                Records::JsonLines { source, line } => {
                    let mut bytes = Vec::new();
                    *line += 1;
                    let read = source.take(MAX_RECORD_BYTES).read_until(b'\n', &mut bytes);
                    let count = read.map_err(|reason| Error::of_io(&self.name, reason))?;
                    if count == 0 {
                        return Ok(false);
                    }
                    let line = *line;
                    if count as u64 == MAX_RECORD_BYTES && bytes.last() != Some(&b'\n') {
                        let problem = format!("a record is longer than {} MiB", MAX_RECORD_BYTES >> 20);
                        return Err(Error::Record { name: self.name.clone(), line, problem, hint: None });
                    }
                    (line, bytes)
                }
                Records::Separated { source, column, record } => {
                    source.get_mut().left = MAX_RECORD_BYTES;
                    if !source.read_byte_record(record).map_err(|error| csv_error(&self.name, error))? {
                        return Ok(false);
                    }
                    let line = record.position().map_or(0, csv::Position::line);
                    (line, record.get(*column).unwrap_or_default().to_vec())
                }
            };
            let Some(text) = self.valid(line, text)? else { continue };
            let text = match &self.records {
                Records::Separated { .. } => text,
                Records::JsonLines { .. } if text.trim().is_empty() => continue,
                Records::JsonLines { .. } => match json_text(&self.name, line, &self.field, &text) {
                    Ok(text) => text,
                    Err(_) if self.invalid == InvalidBytes::SkipLine => {
                        self.count(|found| found.skipped_lines += 1);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if !text.is_empty() {
                let mut bytes = text.into_bytes();
                bytes.push(RECORD_END);
                self.ready = Cursor::new(bytes);
                return Ok(true);
            }
        }
    }

    /// The bytes as UTF-8; `None` for a record that is left out.
    fn valid(&self, line: u64, bytes: Vec<u8>) -> Result<Option<String>> {
        let Some(at) = first_invalid(&bytes, self.keep_nuls) else {
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        };
        match self.invalid {
            InvalidBytes::Error => {
                Err(Error::InvalidRecord { name: self.name.clone(), line, byte: bytes[at] })
            }
            InvalidBytes::Replace => {
                self.count(|found| found.replaced += 1);
                let text = String::from_utf8_lossy(&bytes);
                Ok(Some(if self.keep_nuls { text.into_owned() } else { text.replace('\0', "\u{FFFD}") }))
            }
            InvalidBytes::SkipLine => {
                self.count(|found| found.skipped_lines += 1);
                Ok(None)
            }
        }
    }
}

impl Read for RecordReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.ready.read(out)?;
            if count > 0 || out.is_empty() || !self.fill().map_err(io::Error::other)? {
                return Ok(count);
            }
        }
    }
}

/// The text in a line's field: a key, or a path of keys and indices with dots between them.
fn json_text(name: &str, line: u64, field: &str, json: &str) -> Result<String> {
    let wrong = |problem: String, hint: Option<String>| {
        Err(Error::Record { name: name.to_owned(), line, problem, hint })
    };
    let value: Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => {
            let hint = "JSON lines have one whole object on each line; --invalid skip-line leaves out others";
            return wrong(format!("this is not JSON: {error}"), Some(hint.into()));
        }
    };
    let path = format!("/{}", field.replace('~', "~0").replace('/', "~1").replace('.', "/"));
    match value.get(field).or_else(|| value.pointer(&path)) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => {
            let is = match other {
                Value::Null => "null",
                Value::Bool(_) => "true or false",
                Value::Number(_) => "a number",
                Value::Array(_) => "an array",
                Value::Object(_) => "an object",
                Value::String(_) => "a text",
            };
            wrong(format!("the field \"{field}\" is {is}, not a text"), None)
        }
        None => {
            let keys: Vec<String> =
                value.as_object().into_iter().flat_map(|keys| keys.keys().cloned()).collect();
            Err(no_field(name, line, field, &keys))
        }
    }
}

fn no_field(name: &str, line: u64, field: &str, fields: &[String]) -> Error {
    let problem = format!("there is no field \"{field}\"");
    let hint = (!fields.is_empty()).then(|| format!("there are: {}", fields.join(", ")));
    Error::Record { name: name.to_owned(), line, problem, hint }
}

fn csv_error(name: &str, error: csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(reason) => Error::of_io(name, reason),
        _ => Error::Record { name: name.to_owned(), line, problem, hint: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn read(text: &'static [u8], field: &str, invalid: InvalidBytes) -> (io::Result<String>, TextWarnings) {
        let found = Counted::default();
        let source: Source = Box::new(text);
        let reader = RecordReader::new("it", field, text, source, (invalid, false), Arc::clone(&found));
        let mut bytes = Vec::new();
        let read = reader
            .map_err(io::Error::other)
            .and_then(|mut reader| reader.read_to_end(&mut bytes))
            .map(|_| {
                String::from_utf8(bytes.into_iter().map(|b| if b == RECORD_END { b'|' } else { b }).collect())
                    .unwrap()
            });
        let found = *lock(&found);
        (read, found)
    }

    #[test]
    fn a_field_is_a_key_or_a_path() {
        let text = b"{\"a\": {\"b\": [\"x\", \"one\\n\"]}, \"c.d\": \"dot\"}\r\n\n{\"a\": {\"b\": [1, \"\"]}, \"c.d\": \"\xC3\xA9\"}";
        assert_eq!(read(text, "a.b.1", InvalidBytes::Error).0.unwrap(), "one\n|");
        assert_eq!(read(text, "c.d", InvalidBytes::Error).0.unwrap(), "dot|é|");
        let error = read(text, "a.b.0", InvalidBytes::Error).0.unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("a number"), "{error}");
        let error = read(text, "e", InvalidBytes::Error).0.unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(error.hint().unwrap(), "there are: a, c.d");
    }

    #[test]
    fn a_column_is_read_with_its_quotes_and_newlines() {
        let text = b"id,text\n1,\"a \"\"b\"\",\nc\"\n2,\n3,d\n";
        assert_eq!(read(text, "text", InvalidBytes::Error).0.unwrap(), "a \"b\",\nc|d|");
        assert_eq!(read(b"id\ttext\n1\ta,b\n", "text", InvalidBytes::Error).0.unwrap(), "a,b|");
        assert!(read(text, "no", InvalidBytes::Error).0.unwrap_err().to_string().contains("no field"));
        let error = read(b"a,b\n1,2\n1,2,3\n", "a", InvalidBytes::Error).0.unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn records_that_are_no_text_are_refused_replaced_or_left_out() {
        let text = b"{\"a\": \"x\xFFy\"}\nnot json\n{\"a\": \"z\"}\n";
        let (result, _) = read(text, "a", InvalidBytes::Error);
        assert!(result.unwrap_err().to_string().contains("0xff"));
        let (result, found) = read(text, "a", InvalidBytes::SkipLine);
        assert_eq!((result.unwrap().as_str(), found.skipped_lines), ("z|", 2));
        let (result, found) = read(b"{\"a\": \"x\xFFy\"}\n", "a", InvalidBytes::Replace);
        assert_eq!((result.unwrap().as_str(), found.replaced), ("x\u{FFFD}y|", 1));
        let array = read(b"[{\"a\": \"x\"}]", "a", InvalidBytes::Error).0.unwrap_err().to_string();
        assert!(array.contains("array"), "{array}");
    }

    #[test]
    fn a_record_without_end_is_refused() {
        for (start, field) in [(&b"text\n\"an open quote "[..], "text"), (b"{\"text\": \"no end ", "text")] {
            let endless: Source = Box::new(io::Cursor::new(start).chain(io::repeat(b'x')));
            let how = (InvalidBytes::Error, false);
            let mut reader = RecordReader::new("it", field, start, endless, how, Counted::default()).unwrap();
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains("a record is longer than 64 MiB"), "{error}");
        }
    }

    #[test]
    fn a_plain_text_that_looks_like_records_gets_a_hint() {
        let hint = |name: &str, text: &str| suspect(Path::new(name), text.as_bytes());
        let jsonl = "{\"id\": \"1\", \"body\": \"long text\"}\n{\"id\": \"2\", \"body\": \"\"}\n";
        assert!(hint("a.txt", jsonl).unwrap().contains("data.field = \"body\""));
        assert!(hint("a.csv", "id,text,n\n1,a,2\n").unwrap().contains("data.field = \"text\""));
        assert!(hint("a.TSV", "id\tline\n1\ta\n").unwrap().contains("data.field = \"line\""));
        for (name, text) in [
            ("a.txt", "id,text\n1,a\n"),
            ("a.csv", "one column\na\n"),
            ("a.txt", "{a}\n{b}\n"),
            ("a.csv", ""),
        ] {
            assert_eq!(hint(name, text), None, "{name} {text}");
        }
    }
}
