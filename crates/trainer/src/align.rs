//! Plain-text tables.

use surprisal_engine::compare::tables::Table;

use crate::wording::one_line;

/// The rows as text, with the first column left-aligned and the others right-aligned.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    // Escapes first, because they change the width.
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - cell.chars().count());
            if column == 0 {
                line.push_str(&format!("{cell}{space}"));
            } else {
                line.push_str(&format!("  {space}{cell}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn plain(table: &Table) -> String {
    let mut rows = vec![table.headings.iter().map(|&heading| heading.to_owned()).collect()];
    rows.extend(table.rows.iter().map(|row| row.iter().map(|cell| cell.shown().to_owned()).collect()));
    align(&rows)
}
