//! The tables of a comparison as typed rows, which text and pages draw each in its own way, and the notes beneath them.

use super::cell::Parts;
use super::measure::{AgainstTruth, BLOCKS};
use super::statistics::Mean;
use super::summary::{Apart, Difference, LEVEL, Row};
use crate::wording::{duration, many, number, thousands};

/// A cell of a table. All cells of a column are of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Something to read.
    Words(String),
    /// A number as it is read and as it sorts; `None` where something else stands in its place.
    Number(String, Option<f64>),
}

impl Cell {
    /// What is read.
    pub fn shown(&self) -> &str {
        let (Self::Words(shown) | Self::Number(shown, _)) = self;
        shown
    }
}

/// Headings, and as many cells in each row.
#[derive(Debug)]
pub struct Table {
    /// One a column.
    pub headings: Vec<&'static str>,
    /// Cells, one a heading.
    pub rows: Vec<Vec<Cell>>,
}

type Column<T> = (&'static str, fn(&T) -> Cell);

impl Table {
    fn of<T>(rows: &[T], columns: &[Column<T>]) -> Self {
        Self {
            headings: columns.iter().map(|(heading, _)| *heading).collect(),
            rows: rows.iter().map(|row| columns.iter().map(|(_, cell)| cell(row)).collect()).collect(),
        }
    }
}

fn words(text: &str) -> Cell {
    Cell::Words(text.to_owned())
}

/// A number as `show` writes it; `missing` where there is none.
fn value(value: Option<f64>, missing: &str, show: impl Fn(f64) -> String) -> Cell {
    Cell::Number(value.map_or_else(|| missing.to_owned(), show), value)
}

fn mean(mean: Option<Mean>, missing: &str, show: impl Fn(f64) -> String) -> Cell {
    value(mean.map(|mean| mean.value), missing, show)
}

fn fixed(of: Option<Mean>, digits: usize, missing: &str) -> Cell {
    mean(of, missing, |value| number(value, digits))
}

/// "1.2345 ± 0.0012".
fn interval(of: Option<Mean>, digits: usize, missing: &str) -> Cell {
    let error = of.and_then(|mean| mean.error);
    let error = error.map_or_else(String::new, |error| format!(" ± {error:.digits$}"));
    mean(of, missing, |value| format!("{value:.digits$}{error}"))
}

fn percent(of: Option<Mean>) -> Option<Mean> {
    of.map(|mean| Mean { value: 100.0 * mean.value, error: mean.error.map(|error| 100.0 * error), ..mean })
}

/// What is missing where the source is known is infinite.
fn missing(is_known: bool) -> &'static str {
    if is_known { "inf" } else { "–" }
}

/// The variants and their numbers.
pub fn variants(rows: &[Row]) -> Table {
    let mut columns: Vec<Column<Row>> = vec![
        ("variant", |row| words(&row.name)),
        ("n", |row| value(Some(row.cells.len() as f64), "", |n| n.to_string())),
        ("nats a token", |row| interval(row.number("/eval/nats_per_token"), 4, "inf")),
        ("perplexity", |row| mean(row.number("/eval/perplexity"), "inf", |value| number(value, 3))),
        ("bits a byte", |row| fixed(row.number("/eval/bits_per_byte"), 4, "inf")),
    ];
    if rows.iter().any(|row| row.number("/eval/kl").is_some()) {
        columns.push(("gap to H(p)", |row| {
            let missing = missing(row.number("/eval/source_entropy").is_some());
            mean(row.number("/eval/kl"), missing, |value| format!("{value:+.4}"))
        }));
    }
    columns.extend::<[Column<Row>; 6]>([
        ("ECE %", |row| interval(percent(row.calibrated(|c| c.gaps.ece)), 2, "–")),
        ("ECE % after T", |row| interval(percent(row.scaled(|scaled| scaled.gaps.ece)), 2, "–")),
        ("T", |row| fixed(row.scaled(|scaled| scaled.temperature), 3, "–")),
        ("Brier", |row| interval(row.calibrated(|c| c.gaps.brier), 4, "–")),
        ("parameters", |row| mean(row.number("/parameters"), "–", |value| thousands(value.round() as u64))),
        ("training", |row| mean(row.number("/train_seconds"), "–", duration)),
    ]);
    Table::of(rows, &columns)
}

/// H(p, q) in its parts, where the source is known; `None` where it is known of no row.
pub fn parts(rows: &[Row]) -> Option<Table> {
    fn part(row: &Row, part: fn(&Parts) -> Option<f64>) -> Cell {
        fixed(row.mean(|cell| part(cell.parts.as_ref()?)), 4, "–")
    }
    fn truth(row: &Row, part: fn(&AgainstTruth) -> Option<f64>) -> Cell {
        let of =
            |part: fn(&AgainstTruth) -> Option<f64>| row.measured(|measure| part(measure.truth.as_ref()?));
        fixed(of(part), 6, missing(of(|truth| Some(truth.entropy)).is_some()))
    }
    fn approximation(row: &Row) -> Cell {
        let uncertainty = row.mean(|cell| Some(cell.parts?.approximation_uncertainty));
        let about = uncertainty.is_some_and(|mean| mean.value > 0.0);
        let missing = if uncertainty.is_some() { "(with the next)" } else { "–" };
        mean(row.mean(|cell| cell.parts?.approximation), missing, |value| {
            format!("{}{}", if about { "≈ " } else { "" }, number(value, 4))
        })
    }
    let columns: [Column<Row>; 8] = [
        ("of the loss", |row| words(&row.name)),
        ("H(p)", |row| part(row, |parts| Some(parts.entropy))),
        ("+ approximation", approximation),
        ("+ estimation", |row| part(row, |parts| Some(parts.estimation))),
        ("+ miscalibration", |row| part(row, |parts| Some(parts.miscalibration))),
        ("= nats a token", |row| part(row, |parts| Some(parts.sum()))),
        ("KL by itself", |row| truth(row, |truth| truth.kl)),
        ("H(p, q) − H(p)", |row| truth(row, |truth| Some(truth.cross_entropy? - truth.entropy))),
    ];
    has_parts(rows).then(|| Table::of(rows, &columns))
}

fn has_parts(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.cells.iter().any(|cell| cell.parts.is_some()))
}

/// Paired differences; `None` where there are none.
pub fn differences(differences: &[Difference]) -> Option<Table> {
    fn error(mean: Option<Mean>) -> Cell {
        value(mean.and_then(|mean| mean.error), "–", |error| format!("{error:.4}"))
    }
    let columns: [Column<Difference>; 10] = [
        ("difference", |difference| words(&difference.name)),
        ("against", |difference| words(&difference.against)),
        ("Δ nats", |difference| mean(difference.seeds, "–", |value| format!("{value:+.4}"))),
        ("± seeds", |difference| error(difference.seeds)),
        ("± text", |difference| error(difference.text)),
        ("Δ perplexity", |difference| mean(difference.seeds, "–", perplexity_change)),
        ("p", |difference| value(difference.p, "–", p_value)),
        ("verdict", |difference| words(difference.verdict())),
        ("Δ ECE %", |difference| mean(percent(difference.ece), "–", |value| format!("{value:+.2}"))),
        ("calibration", |difference| words(difference.ece_verdict())),
    ];
    (!differences.is_empty()).then(|| Table::of(differences, &columns))
}

/// What a difference in nats a token is in perplexity.
pub fn perplexity_change(nats: f64) -> String {
    let percent = 100.0 * (nats.exp() - 1.0);
    let plus = if percent < 0.0 { "" } else { "+" };
    format!("{plus}{} %", number(percent, 1))
}

/// Smaller p-values are not told apart.
pub const LEAST_P: f64 = 0.0001;

/// A p-value as it is read.
pub fn p_value(p: f64) -> String {
    if p < LEAST_P { format!("< {LEAST_P}") } else { format!("{p:.4}") }
}

/// What is to be known of rows and differences beside their numbers.
pub fn notes(rows: &[Row], differences: &[Difference]) -> Vec<String> {
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

/// What the columns mean.
pub fn legend(rows: &[Row], any_difference: bool) -> String {
    let mut lines = vec![
        "± is the standard error of the mean over seeds (n runs). ECE, T and Brier: on the second half of the \
         validation text; T is fitted on the first."
            .to_owned(),
    ];
    if any_difference {
        lines.push(format!(
            "Differences are paired by seed, and over {BLOCKS} blocks of the validation text; p is the larger of the two, \
             adjusted for the number of comparisons (Holm). Below {LEVEL} a difference is called one. 0.1 nats ≈ 10 % \
             perplexity."
        ));
    }
    if has_parts(rows) {
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
