//! The tables of a comparison, for people.

use super::statistics::Mean;
use super::summary::{Apart, Difference, LEVEL, Row};
use crate::wording::{duration, many, number, one_line, thousands};

/// Columns as wide as their widest cell; the first one to the left, the others to the right.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    // Before anything is measured: a stand-in may be wider.
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

/// "1.2345 ± 0.0012"; `missing` where there is no number.
pub(crate) fn plus_minus(mean: Option<Mean>, digits: usize, missing: &str) -> String {
    match mean {
        None => missing.to_owned(),
        Some(Mean { value, error: Some(error), .. }) => format!("{value:.digits$} ± {error:.digits$}"),
        Some(Mean { value, .. }) => format!("{value:.digits$}"),
    }
}

fn percent(mean: Option<Mean>, digits: usize) -> String {
    let scaled = mean.map(|m| Mean { value: 100.0 * m.value, error: m.error.map(|e| 100.0 * e), ..m });
    plus_minus(scaled, digits, "–")
}

/// The table itself.
pub(crate) fn variants(rows: &[Row]) -> Vec<Vec<String>> {
    let gap = rows.iter().any(|row| row.number("/eval/kl").is_some());
    let mut heading = vec!["variant", "n", "nats a token", "perplexity", "bits a byte"];
    if gap {
        heading.push("gap to H(p)");
    }
    heading.extend(["ECE %", "ECE % after T", "T", "Brier", "parameters", "training"]);
    let mut table = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for row in rows {
        let mut cells = vec![
            row.name.clone(),
            row.cells.len().to_string(),
            plus_minus(row.number("/eval/nats_per_token"), 4, "inf"),
            row.number("/eval/perplexity").map_or("inf".to_owned(), |mean| number(mean.value, 3)),
            row.number("/eval/bits_per_byte").map_or("inf".to_owned(), |mean| format!("{:.4}", mean.value)),
        ];
        if gap {
            cells.push(row.number("/eval/kl").map_or("inf".to_owned(), |mean| format!("{:+.4}", mean.value)));
        }
        cells.extend([
            percent(row.ece(), 2),
            percent(row.ece_scaled(), 2),
            row.temperature().map_or("–".to_owned(), |mean| format!("{:.3}", mean.value)),
            plus_minus(row.brier(), 4, "–"),
            row.number("/parameters").map_or("–".to_owned(), |mean| thousands(mean.value.round() as u64)),
            row.number("/train_seconds").map_or("–".to_owned(), |mean| duration(mean.value)),
        ]);
        table.push(cells);
    }
    table
}

/// What is to be known of rows and differences beside their numbers.
pub(crate) fn notes(rows: &[Row], differences: &[Difference]) -> Vec<String> {
    let mut notes = Vec::new();
    for row in rows {
        if let Some((impossible, tokens)) = row.impossible() {
            notes.push(format!(
                "{}: {} of {} held impossible, so the loss is infinite; there is no temperature for that",
                row.name,
                thousands(impossible.round() as u64),
                many(tokens as u64, "token")
            ));
        }
        if let Some(oov) = row.number("/eval/oov").filter(|oov| oov.value > 0.0) {
            let unknown = many(oov.value.round() as u64, "unknown validation token");
            notes.push(format!("{}: {unknown}, read as <unk>", row.name));
        }
        let diverged = row.diverged();
        if diverged > 0 {
            notes.push(format!("{}: {diverged} of {} runs diverged", row.name, row.cells.len()));
        }
    }
    for difference in differences {
        let why = match difference.apart {
            None => continue,
            Some(Apart::Texts) => {
                "were judged by different validation texts, so their numbers do not compare"
            }
            Some(Apart::Tokens) => {
                "have different tokens, so nats a token do not compare; bits a byte can be set side by side, \
                 without a verdict"
            }
        };
        notes.push(format!("\"{}\" and \"{}\" {why}", difference.name, difference.against));
    }
    if differences.iter().any(|difference| difference.apart == Some(Apart::Tokens)) {
        for row in rows {
            if let Some(unknown) = row.number("/eval/oov").filter(|unknown| unknown.value > 0.0) {
                notes.push(format!(
                    "{}: its bits a byte leave out what {} of {} tokens, unknown to it, would cost to spell",
                    row.name,
                    thousands(unknown.value.round() as u64),
                    thousands(row.number("/eval/tokens").map_or(0.0, |mean| mean.value) as u64)
                ));
            }
        }
    }
    if differences.iter().any(Difference::has_one_seed) {
        notes.push(
            "one seed of a trained model tells nothing beyond these very runs: another seed may turn the difference \
             round (give more, for example --seeds 1,2,3,4,5)"
                .to_owned(),
        );
    } else if differences.iter().any(Difference::has_two_seeds) {
        notes.push(
            "from two seeds hardly any difference can be shown: it has to be 13 times its standard error over seeds, and \
             more where several are compared (from five seeds: 2.8 times)"
                .to_owned(),
        );
    }
    notes
}

/// Paired differences.
pub(crate) fn differences(differences: &[Difference]) -> Vec<Vec<String>> {
    let heading = [
        "difference",
        "against",
        "Δ nats",
        "± seeds",
        "± text",
        "Δ perplexity",
        "p",
        "verdict",
        "Δ ECE %",
        "calibration",
    ];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for difference in differences {
        let error = |mean: Option<Mean>| {
            mean.and_then(|mean| mean.error).map_or("–".to_owned(), |error| format!("{error:.4}"))
        };
        table.push(vec![
            difference.name.clone(),
            difference.against.clone(),
            difference.seeds.map_or("–".to_owned(), |mean| format!("{:+.4}", mean.value)),
            error(difference.seeds),
            error(difference.text),
            difference.seeds.map_or("–".to_owned(), |mean| perplexity_change(mean.value)),
            difference.p.map_or("–".to_owned(), p_value),
            difference.verdict().to_owned(),
            difference.ece.map_or("–".to_owned(), |mean| format!("{:+.2}", 100.0 * mean.value)),
            difference.ece_verdict().to_owned(),
        ]);
    }
    table
}

/// What a difference in nats a token is in perplexity.
pub(crate) fn perplexity_change(nats: f64) -> String {
    let percent = 100.0 * (nats.exp() - 1.0);
    let plus = if percent < 0.0 { "" } else { "+" };
    format!("{plus}{} %", number(percent, 1))
}

pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// H(p, q) in its parts, where the source is known.
pub(crate) fn parts(rows: &[Row]) -> Vec<Vec<String>> {
    let heading = [
        "of the loss",
        "H(p)",
        "+ approximation",
        "+ estimation",
        "+ miscalibration",
        "= nats a token",
        "KL by itself",
        "H(p, q) − H(p)",
    ];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        let part = |number: fn(&super::cell::Parts) -> Option<f64>| {
            row.mean(|cell| number(cell.parts.as_ref()?))
                .map_or("–".to_owned(), |mean| format!("{:.4}", mean.value))
        };
        let truth = |number: fn(&super::measure::AgainstTruth) -> Option<f64>| {
            row.measured(|measure| number(measure.truth.as_ref()?))
                .map_or("inf".to_owned(), |mean| format!("{:.6}", mean.value))
        };
        let approximation = row.mean(|cell| cell.parts?.approximation).map_or_else(
            || "(with the next)".to_owned(),
            |mean| {
                let off =
                    row.mean(|cell| Some(cell.parts?.approximation_uncertainty)).map_or(0.0, |m| m.value);
                if off > 0.0 { format!("≈ {:.4}", mean.value) } else { format!("{:.4}", mean.value) }
            },
        );
        let has_parts = row.cells.iter().all(|cell| cell.parts.is_some());
        table.push(vec![
            row.name.clone(),
            part(|parts| Some(parts.entropy)),
            if has_parts { approximation } else { "–".to_owned() },
            part(|parts| Some(parts.estimation)),
            part(|parts| Some(parts.miscalibration)),
            part(|parts| Some(parts.sum())),
            truth(|truth| truth.kl),
            truth(|truth| Some(truth.cross_entropy? - truth.entropy)),
        ]);
    }
    table
}

/// What the columns mean.
pub(crate) fn legend(rows: &[Row], any_difference: bool) -> String {
    let mut lines = vec![
        "± is the standard error of the mean over seeds (n runs). ECE, T and Brier: on the second half of the \
         validation text; T is fitted on the first."
            .to_owned(),
    ];
    if any_difference {
        lines.push(format!(
            "Differences are paired by seed, and over {} blocks of the validation text; p is the larger of the two, \
             adjusted for the number of comparisons (Holm). Below {LEVEL} a difference is called one. 0.1 nats ≈ 10 % \
             perplexity.",
            super::measure::BLOCKS
        ));
    }
    if rows.iter().any(|row| row.cells.iter().any(|cell| cell.parts.is_some())) {
        lines.push(
            "Approximation: what the best model that sees as little context still pays (≈: counted on 8 MB of fresh text \
             from the source, which its own predictions make exact only in the limit). Estimation: what this one pays for \
             having learnt from finite text. Miscalibration: what one temperature would save. KL by itself is Σ p ln(p/q) \
             over the source's own predictions, an expectation: it differs from the gap by the luck of this text."
                .to_owned(),
        );
    }
    lines.join("\n")
}
