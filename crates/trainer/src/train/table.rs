//! The lines a person sees while a model trains: baselines first, then one line an epoch.

use crate::evaluate::Evaluation;
use crate::output::{duration, number, thousands};

/// What one line reports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) epoch: f64,
    pub(crate) step: usize,
    /// Mean of what was minimised since the last line, in nats a token.
    pub(crate) objective: f64,
    /// Mean unsmoothed −ln q of the same tokens.
    pub(crate) nll: f64,
    pub(crate) evaluation: Evaluation,
    pub(crate) tokens_per_second: f64,
    pub(crate) train_seconds: f64,
    pub(crate) left_seconds: f64,
    pub(crate) best: bool,
}

/// Which columns there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// Objective and NLL differ: label smoothing or z-loss is on.
    pub(crate) smoothed: bool,
    /// The source's entropy is known.
    pub(crate) gap: bool,
}

impl Table {
    pub(crate) fn baseline_header(self) -> String {
        let gap = if self.gap { "  gap to H(p)" } else { "" };
        format!("baseline          val nats  perplexity  bits/byte{gap}")
    }

    pub(crate) fn baseline(self, name: &str, evaluation: &Evaluation) -> String {
        let mut line = format!("{name:<16} {}", numbers(evaluation));
        if self.gap {
            line.push_str(&format!("  {:>+11.4}", evaluation.kl().unwrap_or(f64::NAN)));
        }
        if evaluation.zero_probability > 0 {
            line.push_str(&format!(
                "  ({} of {} tokens held impossible)",
                thousands(evaluation.zero_probability),
                thousands(evaluation.tokens)
            ));
        }
        line
    }

    pub(crate) fn header(self) -> String {
        let objective = if self.smoothed { " objective" } else { "" };
        let gap = if self.gap { "  gap to H(p)" } else { "" };
        format!(
            " epoch    step {objective} train nll  val nats  perplexity  bits/byte{gap}  tokens/s       time       left"
        )
    }

    pub(crate) fn row(self, row: &Row) -> String {
        let mut line = format!("{:>6.2} {:>7} ", row.epoch, row.step);
        if self.smoothed {
            line.push_str(&format!(" {:>9.4}", row.objective));
        }
        line.push_str(&format!(" {:>9.4} {}", row.nll, numbers(&row.evaluation)));
        if self.gap {
            line.push_str(&format!("  {:>+11.4}", row.evaluation.kl().unwrap_or(f64::NAN)));
        }
        line.push_str(&format!(
            "  {:>8} {:>10} {:>10}{}",
            thousands(row.tokens_per_second as u64),
            duration(row.train_seconds),
            duration(row.left_seconds),
            if row.best { "  best" } else { "" }
        ));
        line
    }
}

/// nats, perplexity, bits a byte.
fn numbers(evaluation: &Evaluation) -> String {
    format!(
        "{:>9.4}  {:>10}  {:>9.4}",
        evaluation.nats_per_token(),
        number(evaluation.perplexity(), 3),
        evaluation.bits_per_byte()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        Evaluation {
            nats: 200.0,
            nats_in_vocabulary: 200.0,
            nats_possible: 200.0,
            tokens: 100,
            bytes: 100,
            source_nats: Some(150.0),
            ..Evaluation::default()
        }
    }

    #[test]
    fn columns_stand_under_their_headings() {
        for (smoothed, gap) in [(false, false), (true, false), (false, true), (true, true)] {
            let table = Table { smoothed, gap };
            let row = Row {
                epoch: 1.0,
                step: 1307,
                objective: 2.1,
                nll: 2.0,
                evaluation: evaluation(),
                tokens_per_second: 25301.0,
                train_seconds: 38.0,
                left_seconds: 21.0,
                best: false,
            };
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
        let impossible = Evaluation { nats: f64::INFINITY, zero_probability: 3, ..evaluation() };
        let line = Table { smoothed: false, gap: false }.baseline("bigram MLE", &impossible);
        assert!(line.contains("inf") && line.ends_with("(3 of 100 tokens held impossible)"), "{line}");
    }
}
