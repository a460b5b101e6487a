//! Texts in a field of records: JSON lines, CSV and TSV.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::clean::{InvalidBytes, first_invalid};
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::numbers::many;
use crate::utf16::UTF8_MARK;
use crate::warnings::{Counted, TextWarnings, lock};

/// A reader that can move to another thread.
pub(crate) type Source = Box<dyn Read + Send>;

/// The byte that ends each record's text; it is never in UTF-8.
pub(crate) const RECORD_END: u8 = 0xFF;
/// The longest record.
const MAX_RECORD_BYTES: usize = 1 << 26;
/// Names of fields that are the text before others.
const TEXT_FIELDS: [&str; 4] = ["text", "content", "body", "story"];
/// The rows of a table's start by which it is told from prose.
const SAMPLE_ROWS: usize = 20;
/// Characters, of no text, for an invalid byte that becomes U+FFFD and for one after it.
const INVALID: char = '\u{FDD0}';
const INVALID_TOO: char = '\u{FDD1}';

const SKIP: &str = "--invalid skip-line leaves out such records";
const QUOTES: &str = "a field that starts with a quote ends with one, and quotes within it are doubled";

/// The format of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonLines,
    Separated { delimiter: u8 },
}

impl Format {
    /// The format of records that start with `head`.
    fn of(head: &[u8]) -> Option<Self> {
        let head = head.trim_ascii_start();
        match head.first() {
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

/// The rest of a hint after a file's name if a text that starts with `head`, and has no
/// `data.field`, looks like records.
pub(crate) fn suspect(path: &Path, head: &[u8]) -> Option<String> {
    let head = head.trim_ascii_start();
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let object = |line: &[u8]| serde_json::from_slice::<Map<String, Value>>(line).ok();
    let first = lines.next()?;
    let opens = |open: u8, next: u8| {
        head.strip_prefix(&[open]).is_some_and(|rest| rest.trim_ascii_start().first() == Some(&next))
    };
    if let Some(keys) = object(first).filter(|keys| !keys.is_empty())
        && (lines.next().is_none_or(|line| object(line).is_some() || lines.next().is_none()))
    {
        let how = text_field(&keys, "").map_or("data.field reads one field".into(), |(_, field)| {
            format!("data.field = \"{field}\" reads one field")
        });
        return Some(format!(
            "looks like JSON lines, and is read as plain text with its braces and keys; {how}"
        ));
    }
    if opens(b'[', b'{') || first == b"{" && opens(b'{', b'"') {
        return Some(
            "looks like JSON, and is read as plain text; data.field reads JSON lines, one record a line, which \
             jq -c '.[]' makes of an array and jq -c . of objects"
                .into(),
        );
    }
    let name = if Compression::by_name(path).is_some() { path.file_stem().map(Path::new)? } else { path };
    let extension = name.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_named = ["csv", "tsv"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    let Some(Format::Separated { delimiter }) = Format::of(head) else { return None };
    let mut rows = Lines::new("", Box::new(Cursor::new(head.to_vec())), Counted::default());
    let mut table = Table::new(delimiter);
    table.read(&mut rows).ok()??.1.ok()?;
    let columns: Vec<String> =
        table.fields().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let (mut lengths, mut count, mut is_even) = (vec![0; columns.len()], 0, true);
    while count < SAMPLE_ROWS
        && let Ok(Some((_, Ok(())))) = table.read(&mut rows)
    {
        // The last row of the head may be cut.
        let is_cut = rows.is_at_end();
        is_even &= table.ends.len() == columns.len() || is_cut;
        lengths.iter_mut().zip(table.fields()).for_each(|(length, field)| *length += field.len());
        count += 1;
    }
    let known =
        TEXT_FIELDS.iter().find_map(|known| columns.iter().find(|name| name.eq_ignore_ascii_case(known)));
    let is_word = |name: &String| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    // Verse has commas, too.
    let is_table = is_even && columns.iter().all(is_word) && count >= if known.is_some() { 1 } else { 5 };
    let longest = (0..columns.len()).max_by_key(|&at| lengths[at]);
    let name = known.or(longest.map(|at| &columns[at]))?;
    (columns.len() > 1 && (is_named || is_table)).then(|| {
        format!(
            "looks like a table, and is read as plain text with its separators; \
             data.field = \"{name}\" reads one column"
        )
    })
}

/// The field of `keys` that is most likely the text: by its name, or the longest; with its rank.
fn text_field(keys: &Map<String, Value>, within: &str) -> Option<((usize, usize), String)> {
    let rank = |(key, value): (&String, &Value)| {
        let path = format!("{within}{key}");
        match value {
            Value::String(text) => {
                let known = TEXT_FIELDS.iter().rev().position(|known| key.eq_ignore_ascii_case(known));
                Some(((known.map_or(0, |at| at + 1), text.len()), path))
            }
            Value::Object(keys) => text_field(keys, &format!("{path}.")),
            _ => None,
        }
    };
    keys.iter().filter_map(rank).max()
}

/// The lines of a text.
struct Lines {
    name: String,
    source: BufReader<Source>,
    found: Counted,
    /// The number of the last line.
    number: u64,
    bytes: Vec<u8>,
    /// Whether the last line was too long and has a rest.
    is_cut: bool,
}

impl Lines {
    fn new(name: &str, source: Source, found: Counted) -> Self {
        let source = BufReader::new(source);
        Self { name: name.to_owned(), source, found, number: 0, bytes: Vec::new(), is_cut: false }
    }

    /// Reads the next line into `bytes`; whether it has fewer than `room` bytes, `None` at the end.
    fn next(&mut self, room: usize) -> Result<Option<bool>> {
        let failed = |reason| Error::of_io(&self.name, reason);
        if std::mem::take(&mut self.is_cut) {
            self.source.skip_until(b'\n').map_err(failed)?;
        }
        self.bytes.clear();
        let read = (&mut self.source).take(room as u64).read_until(b'\n', &mut self.bytes).map_err(failed)?;
        self.number += 1;
        self.is_cut = read == room && self.bytes.last() != Some(&b'\n');
        Ok((read > 0 || room == 0).then_some(!self.is_cut))
    }

    /// Removes the byte-order mark of a text that was appended.
    fn without_mark(&mut self) {
        if self.bytes.starts_with(UTF8_MARK) {
            self.bytes.drain(..UTF8_MARK.len());
            lock(&self.found).marks += 1;
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.source.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    fn wrong(&self, line: u64, problem: impl Into<String>, hint: impl Into<Option<String>>) -> Error {
        Error::Record { name: self.name.clone(), line, problem: problem.into(), hint: hint.into() }
    }

    fn too_long(&self, line: u64, hint: &str) -> Error {
        self.wrong(line, format!("a record is longer than {} MiB", MAX_RECORD_BYTES >> 20), hint.to_owned())
    }
}

/// The rows of a table.
struct Table {
    delimiter: u8,
    /// The number of columns, and the one that is the text.
    columns: usize,
    column: usize,
    /// The fields of a row, one after another, and their ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Table {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, columns: 0, column: 0, bytes: Vec::new(), ends: Vec::new() }
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// Reads a row: the number of its first line, and what is wrong with it alone; `None` at the
    /// end.
    ///
    /// # Errors
    /// A quote that may have swallowed rows.
    fn read(&mut self, lines: &mut Lines) -> Result<Option<(u64, Result<()>)>> {
        // The type text/tab-separated-values has no quotes.
        let has_quotes = self.delimiter != b'\t';
        self.bytes.clear();
        self.ends.clear();
        let (mut first, mut open) = (None, None);
        loop {
            let fits = lines.next(MAX_RECORD_BYTES - self.bytes.len())?;
            let start = *first.get_or_insert(lines.number);
            match (fits, open) {
                (None, None) => return Ok(None),
                (None, Some(line)) => {
                    return Err(lines.wrong(
                        line,
                        "a quote opens a field here, and none closes it",
                        QUOTES.to_owned(),
                    ));
                }
                (Some(false), Some(line)) => return Err(lines.too_long(line, QUOTES)),
                (Some(false), None) => return Ok(Some((start, Err(lines.too_long(start, QUOTES))))),
                (Some(true), _) => {}
            }
            if open.is_none() {
                lines.without_mark();
            }
            let (mut rest, end) = match lines.bytes.as_slice() {
                [line @ .., b'\r', b'\n'] => (line, &b"\r\n"[..]),
                [line @ .., b'\n'] => (line, &b"\n"[..]),
                line => (line, &b""[..]),
            };
            if open.is_none() && rest.is_empty() {
                first = None;
                continue;
            }
            loop {
                let Some(opened) = open else {
                    if let Some(quoted) = rest.strip_prefix(b"\"").filter(|_| has_quotes) {
                        (open, rest) = (Some(lines.number), quoted);
                        continue;
                    }
                    let at = memchr::memchr(self.delimiter, rest);
                    self.bytes.extend_from_slice(&rest[..at.unwrap_or(rest.len())]);
                    self.ends.push(self.bytes.len());
                    let Some(at) = at else { return Ok(Some((start, self.check(lines, start)))) };
                    rest = &rest[at + 1..];
                    continue;
                };
                let Some(at) = memchr::memchr(b'"', rest) else {
                    self.bytes.extend_from_slice(rest);
                    self.bytes.extend_from_slice(end);
                    break;
                };
                self.bytes.extend_from_slice(&rest[..at]);
                rest = &rest[at + 1..];
                if let Some(after) = rest.strip_prefix(b"\"") {
                    self.bytes.push(b'"');
                    rest = after;
                    continue;
                }
                (open, rest) = (None, rest.trim_ascii_start());
                self.ends.push(self.bytes.len());
                match rest.split_first() {
                    None => return Ok(Some((start, self.check(lines, start)))),
                    Some((&byte, after)) if byte == self.delimiter => rest = after,
                    Some(_) => {
                        let problem = "a field starts with a quote, and text follows the next one";
                        let error = lines.wrong(opened, problem, QUOTES.to_owned());
                        // Within one line, no other row is concerned.
                        return if start == lines.number {
                            Ok(Some((start, Err(error))))
                        } else {
                            Err(error)
                        };
                    }
                }
            }
        }
    }

    /// Checks the number of fields.
    fn check(&self, lines: &Lines, line: u64) -> Result<()> {
        let (fields, columns) = (self.ends.len(), self.columns);
        if columns == 0 || fields == columns {
            return Ok(());
        }
        let hint = format!("a field with a separator in it needs quotes around it; {SKIP}");
        Err(lines.wrong(
            line,
            format!("this row has {}, and the header {columns}", many(fields as u64, "field")),
            hint,
        ))
    }
}

/// The reason to leave out a record.
enum Fault {
    Bytes,
    NoField,
    Damaged,
}

/// The text of one field of each record, each followed by [`RECORD_END`].
pub(crate) struct RecordReader {
    field: String,
    invalid: InvalidBytes,
    keep_nuls: bool,
    lines: Lines,
    /// The table, if these are not JSON lines.
    table: Option<Table>,
    /// Whether a record has had the field, and the error of the first without it.
    has_field: bool,
    missing: Option<Error>,
    /// The text of a record.
    ready: Cursor<Vec<u8>>,
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
        let mut lines = Lines::new(name, source, found);
        let table = match Format::of(head) {
            None => {
                let hint = "make lines of it: jq -c '.[]' OLD > NEW".to_owned();
                let problem = "this is a JSON array, and JSON lines have one object on each line";
                return Err(lines.wrong(1, problem, hint));
            }
            Some(Format::JsonLines) => None,
            Some(Format::Separated { delimiter }) => {
                let mut table = Table::new(delimiter);
                let line = match table.read(&mut lines)? {
                    Some((line, read)) => read.map(|()| line)?,
                    None => 1,
                };
                let columns: Vec<String> =
                    table.fields().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                let Some(column) = columns.iter().position(|name| name == field) else {
                    return Err(no_field(&lines, line, field, &columns));
                };
                (table.columns, table.column) = (columns.len(), column);
                Some(table)
            }
        };
        let has_field = table.is_some();
        let (field, ready) = (field.to_owned(), Cursor::default());
        Ok(Self { field, invalid, keep_nuls, lines, table, has_field, missing: None, ready })
    }

    fn count(&self, add: impl FnOnce(&mut TextWarnings)) {
        add(&mut lock(&self.lines.found));
    }

    /// Reads the next record that has text into `ready`; false at the end.
    fn fill(&mut self) -> Result<bool> {
        loop {
            let (line, read) = match &mut self.table {
                None => match self.lines.next(MAX_RECORD_BYTES)? {
                    None => break,
                    Some(true) => (self.lines.number, Ok(())),
                    Some(false) => (self.lines.number, Err(self.lines.too_long(self.lines.number, SKIP))),
                },
                Some(table) => match table.read(&mut self.lines)? {
                    None => break,
                    Some(row) => row,
                },
            };
            let text = match read {
                Ok(()) if self.table.is_some() => self.column_text(line),
                Ok(()) => self.json_text(line),
                Err(error) => Err((Fault::Damaged, error)),
            };
            match text {
                Ok(text) if text.is_empty() => {}
                Ok(text) => {
                    let mut bytes = text.into_bytes();
                    bytes.push(RECORD_END);
                    self.ready = Cursor::new(bytes);
                    return Ok(true);
                }
                Err((fault, error)) => self.leave_out(fault, error)?,
            }
        }
        match self.missing.take() {
            Some(error) if !self.has_field => Err(error),
            _ => Ok(false),
        }
    }

    fn leave_out(&mut self, fault: Fault, error: Error) -> Result<()> {
        if self.invalid != InvalidBytes::SkipLine {
            return Err(error);
        }
        self.count(|found| match fault {
            Fault::Bytes => found.skipped_lines += 1,
            Fault::NoField => found.without_field += 1,
            Fault::Damaged => found.damaged_records += 1,
        });
        if matches!(fault, Fault::NoField) {
            self.missing.get_or_insert(error);
        }
        Ok(())
    }

    fn column_text(&self, line: u64) -> Result<String, (Fault, Error)> {
        let bytes =
            self.table.as_ref().and_then(|table| table.fields().nth(table.column)).unwrap_or_default();
        let text = self.marked(line, bytes)?;
        Ok(self.unmarked(text))
    }

    /// The text in a line's field: a key, or a path of keys and indices with dots between them.
    fn json_text(&mut self, line: u64) -> Result<String, (Fault, Error)> {
        self.lines.without_mark();
        let mut json = self.marked(line, &self.lines.bytes)?;
        if json.trim().is_empty() {
            return Ok(String::new());
        }
        let mut read = serde_json::from_str(&json);
        if read.is_err() && self.invalid == InvalidBytes::Replace {
            json = without_half_pairs(&json);
            read = serde_json::from_str(&json);
        }
        let value: Value = read.map_err(|error| {
            let said = error.to_string();
            // The position in it is that in the line.
            let said = said.split(" at line ").next().unwrap_or_default();
            let hint = if said.contains("surrogate") {
                "half of a character's \\u escapes; --invalid replace puts U+FFFD there".to_owned()
            } else {
                format!("JSON lines have one whole object on each line; {SKIP}")
            };
            let problem = format!("this is not JSON at column {}: {said}", error.column());
            (Fault::Damaged, self.lines.wrong(line, problem, hint))
        })?;
        let field = &self.field;
        let path = format!("/{}", field.replace('~', "~0").replace('/', "~1").replace('.', "/"));
        let is = match value.get(field).or_else(|| value.pointer(&path)) {
            Some(Value::String(text)) => {
                self.has_field = true;
                // An escape can be a NUL.
                let text = self.unmarked(text.clone());
                let text = self.marked(line, text.as_bytes())?;
                return Ok(self.unmarked(text));
            }
            Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "true or false",
            Some(Value::Number(_)) => "a number",
            Some(Value::Array(_)) => "an array",
            Some(Value::Object(_)) => "an object",
            None => {
                let keys: Vec<String> =
                    value.as_object().into_iter().flat_map(|keys| keys.keys().cloned()).collect();
                return Err((Fault::NoField, no_field(&self.lines, line, field, &keys)));
            }
        };
        let problem = format!("the field \"{field}\" is {is}, not a text");
        Err((Fault::NoField, self.lines.wrong(line, problem, SKIP.to_owned())))
    }

    /// The bytes as UTF-8, with marks where some are no text.
    fn marked(&self, line: u64, bytes: &[u8]) -> Result<String, (Fault, Error)> {
        if let Some(at) = first_invalid(bytes, self.keep_nuls)
            && self.invalid != InvalidBytes::Replace
        {
            let name = self.lines.name.clone();
            return Err((Fault::Bytes, Error::InvalidRecord { name, line, byte: bytes[at] }));
        }
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend((0..chunk.invalid().len()).map(|n| if n == 0 { INVALID } else { INVALID_TOO }));
        }
        Ok(if self.keep_nuls { text } else { text.replace('\0', &INVALID.to_string()) })
    }

    /// The text with U+FFFD for what is marked, which is counted.
    fn unmarked(&self, text: String) -> String {
        if self.invalid != InvalidBytes::Replace || !text.contains([INVALID, INVALID_TOO]) {
            return text;
        }
        self.count(|found| found.replaced += text.matches([INVALID, INVALID_TOO]).count() as u64);
        text.replace(INVALID, "\u{FFFD}").replace(INVALID_TOO, "")
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

/// `json` with a mark for each escape of half a pair of UTF-16, which is no character.
fn without_half_pairs(json: &str) -> String {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut text, mut at) = (String::with_capacity(json.len()), 0);
    while let Some(before) = json[at..].find('\\') {
        let escape = at + before;
        let end = match (unit(escape), unit(escape + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => escape + 12,
            (Some(0xD800..=0xDFFF), _) => escape,
            _ => escape + 1 + json[escape + 1..].chars().next().map_or(0, char::len_utf8),
        };
        text.push_str(&json[at..end]);
        at = end;
        if end == escape {
            text.push(INVALID);
            at += 6;
        }
    }
    text + &json[at..]
}

fn no_field(lines: &Lines, line: u64, field: &str, fields: &[String]) -> Error {
    let hint = (!fields.is_empty()).then(|| format!("there are: {}", fields.join(", ")));
    lines.wrong(line, format!("there is no field \"{field}\""), hint)
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
        // A table of one type has no quotes.
        assert_eq!(read(b"id\ttext\n1\t\"a\n2\tb\"c\n", "text", InvalidBytes::Error).0.unwrap(), "\"a|b\"c|");
        let text = b"\xEF\xBB\xBFid,text\r\n\r\n1, a \r\n\xEF\xBB\xBF2,\"b\r\nc\" \r\n3,";
        let (result, found) = read(text, "text", InvalidBytes::Error);
        assert_eq!((result.unwrap().as_str(), found.marks), (" a |b\r\nc|", 2));
    }

    #[test]
    fn a_quote_that_is_not_closed_swallows_no_rows() {
        let open = b"id,text\n1,a\n2,\"open\n3,b\n4,c\n";
        let middle = b"id,text\n1,a\n2,\"open\n3,\"b, c\"\n";
        for text in [&open[..], middle] {
            for invalid in [InvalidBytes::Error, InvalidBytes::SkipLine] {
                let error = read(text, "text", invalid).0.unwrap_err().downcast::<Error>().unwrap();
                assert!(error.to_string().contains("line 3: a ") && error.hint().is_some(), "{error}");
            }
        }
        let inside = b"id,text\n1,\"a \"b\" c\"\n2,d\n";
        assert!(read(inside, "text", InvalidBytes::Error).0.unwrap_err().to_string().contains("line 2"));
        let (result, found) = read(inside, "text", InvalidBytes::SkipLine);
        assert_eq!((result.unwrap().as_str(), found.damaged_records), ("d|", 1));
    }

    #[test]
    fn records_are_left_out_for_what_they_are_and_have_true_lines() {
        let ragged = b"id,text\n\n1,\"a\nb\"\n2,c,d\n3,e\n";
        let error = read(ragged, "text", InvalidBytes::Error).0.unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(error.to_string(), "it, line 5: this row has 3 fields, and the header 2");
        assert!(error.hint().unwrap().contains("skip-line"));
        let (result, found) = read(ragged, "text", InvalidBytes::SkipLine);
        assert_eq!((result.unwrap().as_str(), found.damaged_records), ("a\nb|e|", 1));
        let json = b"{\"a\": null}\n\n{\"a\": 1}\n{\"b\": 1}\n{\"a\": \"\"}\n{\"a\": \"x\\u0000\"}\n{]\n{\"a\": \"y\"}";
        let (result, found) = read(json, "a", InvalidBytes::SkipLine);
        assert_eq!(result.unwrap(), "y|");
        assert_eq!((found.without_field, found.damaged_records, found.skipped_lines), (3, 1, 1));
        let error = read(json, "c", InvalidBytes::SkipLine).0.unwrap_err().to_string();
        assert!(error.contains("line 1: there is no field \"c\""), "{error}");
        let nul = b"\n{\"a\": \"\"}\n{\"a\": \"x\\u0000\"}";
        assert!(read(nul, "a", InvalidBytes::Error).0.unwrap_err().to_string().contains("line 3: byte 0x00"));
        let error = read(b"\n{\"a\" 1}", "a", InvalidBytes::Error).0.unwrap_err().to_string();
        assert_eq!(error, "it, line 2: this is not JSON at column 6: expected `:`");
        let dirty = b"{\"b\": \"\xFF\", \"a\": \"\xF0\x9F\x98 \\ud83d \\\\ud83d \\ud83d\\ude00\"}";
        let (result, found) = read(dirty, "a", InvalidBytes::Replace);
        assert_eq!((result.unwrap().as_str(), found.replaced), ("\u{FFFD} \u{FFFD} \\ud83d \u{1F600}|", 4));
    }

    #[test]
    fn records_that_are_no_text_are_refused_replaced_or_left_out() {
        let text = b"{\"a\": \"x\xFFy\"}\nnot json\n{\"a\": \"z\"}\n";
        let (result, _) = read(text, "a", InvalidBytes::Error);
        assert!(result.unwrap_err().to_string().contains("0xff"));
        let (result, found) = read(text, "a", InvalidBytes::SkipLine);
        assert_eq!((result.unwrap().as_str(), found.skipped_lines), ("z|", 1));
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
            assert!(error.contains("a record is longer than 64 MiB") && error.contains("line "), "{error}");
        }
        let long = io::repeat(b'x').take(MAX_RECORD_BYTES as u64 + 9).chain(&b"\n{\"a\": \"b\"}\n"[..]);
        let how = (InvalidBytes::SkipLine, false);
        let mut reader = RecordReader::new("it", "a", b"{", Box::new(long), how, Counted::default()).unwrap();
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"b\xFF");
    }

    #[test]
    fn a_plain_text_that_looks_like_records_gets_a_hint() {
        let hint = |name: &str, text: &str| suspect(Path::new(name), text.as_bytes());
        let nested = "\n{\"n\": 1, \"doc\": {\"text\": \"a\", \"title\": \"longer\"}}\n";
        let rows = "id,line\n".to_owned() + &"1,\"a, b\"\n".repeat(5);
        for (name, text, says) in [
            ("it", nested, "\"doc.text\""),
            ("it", "{\"n\": 1}\n", "data.field reads"),
            ("it", "[\n {\"text\": \"a\"}]", "one record a line"),
            ("it", "{\n  \"text\": \"a\"\n}\n", "one record a line"),
            ("a.csv.gz", "a,b\nlong,1\n", "\"a\""),
            ("standard input", "id,Text\n1,a\n2,b", "\"Text\""),
            ("a.txt", &rows, "\"line\""),
        ] {
            assert!(
                hint(name, text).is_some_and(|hint| hint.contains(says)),
                "{text} {:?}",
                hint(name, text)
            );
        }
        let jsonl = "{\"id\": \"1\", \"body\": \"long text\"}\n{\"id\": \"2\", \"body\": \"\"}\n";
        assert!(hint("a.txt", jsonl).unwrap().contains("data.field = \"body\""));
        assert!(hint("a.csv", "id,text,n\n1,a,2\n").unwrap().contains("data.field = \"text\""));
        assert!(hint("a.TSV", "id\tline\n1\ta\n").unwrap().contains("data.field = \"line\""));
        for (name, text) in [
            ("a.txt", "Friends, Romans\nlend me, your\nears, I\ncome, to\nbury, Caesar\nnot, to\n"),
            ("a.txt", "[a] {b}\n"),
            ("a.txt", "{\n  not json\n}\n"),
            ("a.csv", "one column\na\n"),
            ("a.txt", "{a}\n{b}\n"),
            ("a.csv", ""),
        ] {
            assert_eq!(hint(name, text), None, "{name} {text}");
        }
    }
}
