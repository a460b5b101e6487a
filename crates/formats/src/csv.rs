//! CSV (RFC 4180) of `metrics.jsonl`, for spreadsheets.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Error, Result};

/// The events of `metrics.jsonl` as CSV: one row per event, one column per key, in the order of
/// first appearance.
///
/// Nested keys are joined by a dot (`eval.nats_per_token`), a list stays JSON, and a missing key
/// gives an empty cell. Numbers keep their spelling.
///
/// # Errors
/// [`Malformed`](surprisal_store::Error::Malformed) with the number of a line that is not a JSON
/// object.
pub fn from_json_lines(text: &str) -> Result<String> {
    let mut columns: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let failed = |problem: &dyn std::fmt::Display| {
            Error::malformed(format!("line {} of the metrics", index + 1), problem)
        };
        let event: Value = serde_json::from_str(line).map_err(|error| failed(&error))?;
        if !event.is_object() {
            return Err(failed(&"it is not a JSON object"));
        }
        let mut cells = BTreeMap::new();
        flatten("", &event, &mut columns, &mut cells);
        rows.push(cells);
    }
    let mut csv = line_of(columns.iter().map(String::as_str));
    for cells in rows {
        csv += &line_of(columns.iter().map(|column| cells.get(column).map_or("", String::as_str)));
    }
    Ok(csv)
}

fn flatten(key: &str, value: &Value, columns: &mut Vec<String>, cells: &mut BTreeMap<String, String>) {
    let cell = match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, field, columns, cells);
            }
            return;
        }
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if !columns.iter().any(|column| column == key) {
        columns.push(key.to_owned());
    }
    cells.insert(key.to_owned(), cell);
}

/// One CSV record. Cells with a comma, a quote or a line break are quoted, and quotes doubled.
fn line_of<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells = cells.map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    });
    cells.collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_columns_and_events_rows() {
        let text = r#"{"event":"step","step":1,"loss":2.50}
{"event":"result","eval":{"tokens":10,"list":[1,2]},"note":"a \"b\", c","kl":null}
"#;
        let csv = from_json_lines(text).unwrap();
        let lines: Vec<_> = csv.split_terminator("\r\n").collect();
        let mut columns: Vec<_> = lines[0].split(',').collect();
        columns.sort_unstable();
        assert_eq!(columns, ["eval.list", "eval.tokens", "event", "kl", "loss", "note", "step"]);
        let step = lines[0].split(',').position(|column| column == "loss").unwrap();
        assert_eq!(lines[1].split(',').nth(step).unwrap(), "2.5");
        assert!(lines[2].contains(r#""a ""b"", c""#) && lines[2].contains(r#""[1,2]""#), "{}", lines[2]);
    }

    #[test]
    fn nothing_but_objects_is_taken() {
        let error = from_json_lines("{}\n[1]\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2 of the metrics"), "{error}");
        assert!(from_json_lines("{\"a\":").is_err());
    }
}
