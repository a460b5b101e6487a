//! The table printed during training: baselines, then a line per evaluation.

use surprisal_engine::{Evaluated, Evaluation};

use crate::wording::{duration, many, number, thousands};

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Table {
    /// Whether objective and NLL differ, because of label smoothing or z-loss.
    pub(crate) smoothed: bool,
    pub(crate) gap: bool,
    /// Whether the validation text has unknown tokens.
    pub(crate) oov: bool,
    /// The width in columns of characters.
    pub(crate) width: usize,
}

/// A column: heading, width, drop rank if space is short (highest first; 0: never), and value.
type Column = (&'static str, usize, u8, fn(&Evaluated) -> String);

const OBJECTIVE: &str = "objective";
const GAP: &str = "gap to H(p)";
const BEST: &str = "  best";
const WITHOUT_OOV: &str = "w/o <unk>";
const COLUMNS: [Column; 12] = [
    ("epoch", 6, 0, |row| format!("{:.2}", row.epoch)),
    ("step", 6, 0, |row| row.step.to_string()),
    (OBJECTIVE, 9, 0, |row| number(row.objective, 4)),
    ("train nll", 9, 0, |row| number(row.train_nll, 4)),
    ("val nats", 8, 0, |row| number(row.eval.nats_per_token(), 4)),
    ("perplexity", 10, 1, |row| number(row.eval.perplexity(), 3)),
    (WITHOUT_OOV, 10, 0, |row| number(row.eval.perplexity_excluding_oov(), 3)),
    ("bits/byte", 9, 2, |row| row.eval.bits_per_byte_shown()),
    (GAP, 11, 0, |row| format!("{:+.4}", row.eval.kl().unwrap_or(f64::NAN))),
    ("tokens/s", 8, 4, |row| thousands(row.tokens_per_second as u64)),
    ("time", 11, 5, |row| duration(row.train_seconds)),
    ("left", 11, 3, |row| duration(row.left_seconds)),
];

impl Table {
    pub(crate) fn baseline_header(self) -> String {
        let oov = if self.oov { format!("  {WITHOUT_OOV:>10}") } else { String::new() };
        let gap = if self.gap { "  gap to H(p)" } else { "" };
        format!("baseline          val nats  perplexity{oov}  bits/byte{gap}")
    }

    pub(crate) fn baseline(self, name: &str, evaluation: &Evaluation) -> String {
        let mut line = format!(
            "{name:<16} {:>9}  {:>10}",
            number(evaluation.nats_per_token(), 4),
            number(evaluation.perplexity(), 3)
        );
        if self.oov {
            line.push_str(&format!("  {:>10}", number(evaluation.perplexity_excluding_oov(), 3)));
        }
        line.push_str(&format!("  {:>9}", evaluation.bits_per_byte_shown()));
        if self.gap {
            line.push_str(&format!("  {:>+11.4}", evaluation.kl().unwrap_or(f64::NAN)));
        }
        if evaluation.zero_probability > 0 {
            let impossible = thousands(evaluation.zero_probability);
            let note =
                format!("  ({impossible} of {} have zero probability)", many(evaluation.tokens, "token"));
            if line.chars().count() + note.chars().count() > self.width {
                line.push('\n');
            }
            line.push_str(&note);
        }
        line
    }

    /// The columns that have values and fit the width.
    fn columns(self) -> Vec<Column> {
        let has_values = |column: &Column| match column.0 {
            OBJECTIVE => self.smoothed,
            GAP => self.gap,
            WITHOUT_OOV => self.oov,
            _ => true,
        };
        let mut columns: Vec<Column> = COLUMNS.into_iter().filter(has_values).collect();
        let needed = |columns: &[Column]| columns.iter().map(|column| column.1 + 2).sum::<usize>() - 2;
        for rank in (1..=5).rev() {
            if needed(&columns) + BEST.len() > self.width {
                columns.retain(|column| column.2 != rank);
            }
        }
        columns
    }

    fn line(self, cell: impl Fn(&Column) -> String) -> String {
        let columns = self.columns();
        let cells = columns.iter().map(|column| format!("{:>width$}", cell(column), width = column.1));
        cells.collect::<Vec<_>>().join("  ")
    }

    pub(crate) fn header(self) -> String {
        self.line(|column| column.0.to_owned())
    }

    pub(crate) fn row(self, row: &Evaluated) -> String {
        self.line(|column| column.3(row)) + if row.best { BEST } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        Evaluation {
            total_nll: 200.0,
            nll_in_vocabulary: 200.0,
            nll_nonzero: 200.0,
            tokens: 100,
            bytes: 100,
            source_nats: Some(150.0),
            ..Evaluation::default()
        }
    }

    #[test]
    fn columns_stand_under_their_headings() {
        let kinds = [
            [false; 3],
            [true, false, false],
            [false, true, false],
            [true, true, false],
            [false, false, true],
        ];
        for ([smoothed, gap, oov], width) in
            kinds.into_iter().flat_map(|kind| [60, 80, 200].map(|width| (kind, width)))
        {
            let table = Table { smoothed, gap, oov, width };
            let row = Evaluated {
                epoch: 1.0,
                step: 1307,
                objective: 2.1,
                train_nll: 2.0,
                eval: evaluation(),
                tokens_per_second: 25301.0,
                train_seconds: 3599.0,
                left_seconds: 930.0,
                best: false,
            };
            let best = table.row(&Evaluated { best: true, ..row });
            let fits = width < 80 && (smoothed || gap) || best.chars().count() <= width;
            assert!(fits && best.ends_with("best"), "{width}: {best}");
            assert_eq!(table.header().contains("gap to H(p)"), gap);
            assert_eq!(table.header().contains("objective"), smoothed);
            assert_eq!(table.header().contains(WITHOUT_OOV), oov);
            assert_eq!(table.header().contains("tokens/s"), width == 200);
            assert_eq!(
                table.header().contains("left"),
                width == 200 || width == 80 && !smoothed && !gap && !oov
            );
            assert_eq!(
                table.header().len(),
                table.row(&row).len(),
                "\n{}\n{}",
                table.header(),
                table.row(&row)
            );
            let baseline = table.baseline("bigram MLE", &evaluation());
            assert_eq!(
                table.baseline_header().len(),
                baseline.len(),
                "\n{}\n{baseline}",
                table.baseline_header()
            );
        }
    }

    #[test]
    fn an_infinite_loss_is_explained() {
        let impossible = Evaluation { total_nll: f64::INFINITY, zero_probability: 3, ..evaluation() };
        let table = Table { width: 100, ..Table::default() };
        let line = table.baseline("bigram MLE", &impossible);
        assert!(line.contains("inf") && line.ends_with("(3 of 100 tokens have zero probability)"), "{line}");
        let narrow = Table { width: 80, ..table }.baseline("bigram MLE", &impossible);
        assert!(
            narrow.lines().count() == 2 && narrow.lines().all(|line| line.chars().count() <= 80),
            "{narrow}"
        );
    }
}
