//! The tables of a comparison as typed rows for terminal and report, with their notes and legend.

use super::consistency::Consistency;
use super::diagnostics::{BLOCKS, SourceComparison};
use super::learning_curve::{LearningCurve, MORE_TEXT, MoreText, Point};
use super::power_law::Estimate;
use super::statistics::Mean;
use super::summary::{Difference, Incomparable, SIGNIFICANCE_LEVEL, Unit, VariantSummary};
use super::trial::{LossDecomposition, TrialRecord};
use crate::wording::{duration, many, number, thousands};

/// A cell of a table; all cells of a column are of one variant.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text.
    Words(String),
    /// A number as shown and as sorted; `None` where a text replaces it.
    Number(String, Option<f64>),
}

impl Cell {
    /// The cell as shown.
    pub fn shown(&self) -> &str {
        let (Self::Words(shown) | Self::Number(shown, _)) = self;
        shown
    }
}

/// A table: headings, and as many cells in each row.
#[derive(Debug)]
pub struct Table {
    /// One for each column.
    pub headings: Vec<&'static str>,
    /// One cell for each heading.
    pub rows: Vec<Vec<Cell>>,
}

type Column<T> = (&'static str, fn(&T) -> Cell);

impl Table {
    fn from_rows<T>(rows: &[T], columns: &[Column<T>]) -> Self {
        Self {
            headings: columns.iter().map(|(heading, _)| *heading).collect(),
            rows: rows.iter().map(|row| columns.iter().map(|(_, cell)| cell(row)).collect()).collect(),
        }
    }
}

fn words(text: &str) -> Cell {
    Cell::Words(text.to_owned())
}

/// A number as `show` formats it; `missing` where there is none.
fn value(value: Option<f64>, missing: &str, show: impl Fn(f64) -> String) -> Cell {
    Cell::Number(value.map_or_else(|| missing.to_owned(), show), value)
}

fn mean(mean: Option<Mean>, missing: &str, show: impl Fn(f64) -> String) -> Cell {
    value(mean.map(|mean| mean.value), missing, show)
}

fn fixed(of: Option<Mean>, digits: usize, missing: &str) -> Cell {
    mean(of, missing, |value| number(value, digits))
}

/// A mean with its standard error, such as "1.2345 ± 0.0012".
fn interval(of: Option<Mean>, digits: usize, missing: &str) -> Cell {
    let error = of.and_then(|mean| mean.std_error);
    let error = error.map_or_else(String::new, |error| format!(" ± {error:.digits$}"));
    mean(of, missing, |value| format!("{value:.digits$}{error}"))
}

fn percent(of: Option<Mean>) -> Option<Mean> {
    of.map(|mean| Mean {
        value: 100.0 * mean.value,
        std_error: mean.std_error.map(|error| 100.0 * error),
        ..mean
    })
}

/// The text for a missing number: where the source is known, the number is infinite.
fn missing(is_known: bool) -> &'static str {
    if is_known { "inf" } else { "–" }
}

/// The table of variants.
pub fn variants(rows: &[VariantSummary]) -> Table {
    let mut columns: Vec<Column<VariantSummary>> = vec![
        ("variant", |row| words(&row.name)),
        ("n", |row| value(Some(row.trials.len() as f64), "", |n| n.to_string())),
        ("nats per token", |row| interval(row.number("/eval/nats_per_token"), 4, "inf")),
        ("perplexity", |row| mean(row.number("/eval/perplexity"), "inf", |value| number(value, 3))),
        ("bits per byte", |row| {
            let missing = missing(row.number("/eval/nats_per_token").is_none());
            fixed(row.bits_per_byte(), 4, missing)
        }),
    ];
    if rows.iter().any(|row| row.spelling_bits_per_byte().is_some_and(|mean| mean.value > 0.0)) {
        columns.push(("of them spelling", |row| fixed(row.spelling_bits_per_byte(), 4, "–")));
    }
    if rows.iter().any(|row| row.number("/eval/kl").is_some()) {
        columns.push(("gap to H(p)", |row| {
            let missing = missing(row.number("/eval/source_entropy").is_some());
            mean(row.number("/eval/kl"), missing, |value| format!("{value:+.4}"))
        }));
    }
    columns.extend::<[Column<VariantSummary>; 6]>([
        ("ECE %", |row| interval(percent(row.calibrated(|c| c.gaps.ece)), 2, "–")),
        ("ECE % after T", |row| interval(percent(row.scaled(|scaled| scaled.gaps.ece)), 2, "–")),
        ("T", |row| fixed(row.scaled(|scaled| scaled.temperature), 3, "–")),
        ("Brier", |row| interval(row.calibrated(|c| c.gaps.brier), 4, "–")),
        ("parameters", |row| mean(row.number("/parameters"), "–", |value| thousands(value.round() as u64))),
        ("training", |row| mean(row.number("/train_seconds"), "–", duration)),
    ]);
    Table::from_rows(rows, &columns)
}

/// The table of loss decompositions; `None` where no source is known.
pub fn parts(rows: &[VariantSummary]) -> Option<Table> {
    fn part(row: &VariantSummary, part: fn(&LossDecomposition) -> Option<f64>) -> Cell {
        fixed(row.mean(|trial| part(trial.decomposition.as_ref()?)), 4, "–")
    }
    fn truth(row: &VariantSummary, part: fn(&SourceComparison) -> Option<f64>) -> Cell {
        let of = |part: fn(&SourceComparison) -> Option<f64>| {
            row.measured(|measure| part(measure.source.as_ref()?))
        };
        fixed(of(part), 6, missing(of(|truth| Some(truth.entropy)).is_some()))
    }
    fn approximation(row: &VariantSummary) -> Cell {
        let uncertainty = row.mean(|trial| Some(trial.decomposition?.approximation_uncertainty));
        let about = uncertainty.is_some_and(|mean| mean.value > 0.0);
        let missing = if uncertainty.is_some() { "(with the next)" } else { "–" };
        mean(row.mean(|trial| trial.decomposition?.approximation), missing, |value| {
            format!("{}{}", if about { "≈ " } else { "" }, number(value, 4))
        })
    }
    let columns: [Column<VariantSummary>; 8] = [
        ("of the loss", |row| words(&row.name)),
        ("H(p)", |row| part(row, |parts| Some(parts.entropy))),
        ("+ approximation", approximation),
        ("+ estimation", |row| part(row, |parts| Some(parts.estimation))),
        ("+ miscalibration", |row| part(row, |parts| Some(parts.miscalibration))),
        ("= nats per token", |row| part(row, |parts| Some(parts.sum()))),
        ("KL by itself", |row| truth(row, |truth| truth.kl)),
        ("H(p, q) − H(p)", |row| truth(row, |truth| Some(truth.cross_entropy? - truth.entropy))),
    ];
    has_parts(rows).then(|| Table::from_rows(rows, &columns))
}

fn has_parts(rows: &[VariantSummary]) -> bool {
    rows.iter().any(|row| row.trials.iter().any(|trial| trial.decomposition.is_some()))
}

/// The table of paired differences; `None` where there are none.
pub fn differences(differences: &[Difference]) -> Option<Table> {
    fn error(mean: Option<Mean>) -> Cell {
        value(mean.and_then(|mean| mean.std_error), "–", |error| format!("{error:.4}"))
    }
    let in_bits = differences.iter().any(|difference| difference.unit == Unit::BitsPerByte);
    let delta = if in_bits { "Δ loss" } else { "Δ nats" };
    let columns: [Column<Difference>; 10] = [
        ("difference", |difference| words(&difference.name)),
        ("against", |difference| words(&difference.against)),
        (delta, |difference| {
            mean(difference.over_seeds, "–", |value| match difference.unit {
                Unit::NatsPerToken => format!("{value:+.4}"),
                Unit::BitsPerByte => format!("{value:+.4} bits/byte"),
            })
        }),
        ("± seeds", |difference| error(difference.over_seeds)),
        ("± text", |difference| error(difference.over_blocks)),
        ("Δ perplexity", |difference| {
            let nats = difference.over_seeds.filter(|_| difference.unit == Unit::NatsPerToken);
            mean(nats, "–", perplexity_change)
        }),
        ("p", |difference| value(difference.p_holm, "–", p_value)),
        ("verdict", |difference| words(difference.verdict())),
        ("Δ ECE %", |difference| mean(percent(difference.ece), "–", |value| format!("{value:+.2}"))),
        ("calibration", |difference| words(difference.ece_verdict())),
    ];
    (!differences.is_empty()).then(|| Table::from_rows(differences, &columns))
}

/// The table of learning curves and their extrapolation; `None` where there are none.
pub fn learning_curves(curves: &[LearningCurve]) -> Option<Table> {
    fn ends(curve: &LearningCurve, of: fn(&Point) -> String) -> Cell {
        let (first, last) = curve.ends().map_or_else(Default::default, |(a, b)| (of(a), of(b)));
        words(&format!("{first} to {last}"))
    }
    fn estimate(of: Option<Estimate>) -> Cell {
        value(of.map(|of| of.value), "–", |value| {
            let (low, high) = of.map_or((value, value), |of| (of.low, of.high));
            format!("{value:.4} ({low:.4} to {high:.4})")
        })
    }
    let columns: [Column<LearningCurve>; 7] = [
        ("learning curve", |curve| words(&curve.name)),
        ("training tokens", |curve| ends(curve, |point| thousands(point.tokens))),
        ("loss", |curve| ends(curve, |point| format!("{:.4}", point.loss.value))),
        ("10 times the text", |curve| estimate(curve.with_more_text())),
        ("endless text", |curve| estimate(curve.with_endless_text())),
        ("more text", |curve| {
            words(match curve.more_text() {
                None => "not known: fewer than four sizes",
                Some(MoreText::Helps) => "helps",
                Some(MoreText::HardlyHelps) => "hardly helps",
                Some(MoreText::Unclear) => "not clear",
            })
        }),
        ("lower here", |curve| {
            let now = curve.points.last().map_or(0.0, |point| point.loss.value);
            words(
                &curve
                    .best
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), |(name, loss)| format!("{name} ({:+.4})", loss - now)),
            )
        }),
    ];
    (!curves.is_empty()).then(|| Table::from_rows(curves, &columns))
}

/// The table of models beside a Markov source of their own order; `None` where there are none.
pub fn consistency(curves: &[LearningCurve]) -> Option<Table> {
    let rows: Vec<(&str, &Point, Consistency)> = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|point| (curve.name.as_str(), point)))
        .filter_map(|(name, point)| Some((name, point, point.consistency?)))
        .collect();
    let columns: [Column<(&str, &Point, Consistency)>; 6] = [
        ("consistency", |(name, ..)| words(name)),
        ("training tokens", |(_, point, _)| {
            value(Some(point.tokens as f64), "", |_| thousands(point.tokens))
        }),
        ("KL(p‖q)", |(_, point, _)| value(point.kl, "inf", |kl| format!("{kl:.6}"))),
        ("k / 2N", |(.., it)| value(Some(it.expected_kl()), "", |kl| format!("{kl:.6}"))),
        ("ratio", |(_, point, it)| {
            value(point.kl.map(|kl| kl / it.expected_kl()), "inf", |ratio| number(ratio, 2))
        }),
        ("intervals with p", |(.., it)| {
            let share = it.covered as f64 / it.cells as f64;
            value(Some(share), "", |share| format!("{:.1} % of {}", 100.0 * share, it.cells))
        }),
    ];
    (!rows.is_empty()).then(|| Table::from_rows(&rows, &columns))
}

/// Notes on learning curves.
pub fn curve_notes(curves: &[LearningCurve]) -> Vec<String> {
    let note = |curve: &LearningCurve| {
        let (slope, cover) = (curve.kl_slope()?, curve.cover()?);
        Some(format!(
            "{}: ln KL falls with ln N at a slope of {slope:.3} (maximum likelihood: −1); {:.1} % of the 95 % intervals \
             contain the true probability",
            curve.name,
            100.0 * cover
        ))
    };
    let beginnings = curves.iter().any(|curve| curve.from_start).then(|| {
        "the sizes are beginnings of the text: where it changes along its way, a curve shows that, too, and is not to \
         be extrapolated (data.train_part = \"spread\" takes blocks from everywhere)"
            .to_owned()
    });
    beginnings.into_iter().chain(curves.iter().filter_map(note)).collect()
}

/// The relative change of perplexity for a difference in nats per token.
pub fn perplexity_change(nats: f64) -> String {
    let percent = 100.0 * (nats.exp() - 1.0);
    let plus = if percent < 0.0 { "" } else { "+" };
    format!("{plus}{} %", number(percent, 1))
}

/// The smallest p-value that is shown as a number.
pub const MIN_P: f64 = 0.0001;

/// A p-value as shown.
pub fn p_value(p: f64) -> String {
    if p < MIN_P { format!("< {MIN_P}") } else { format!("{p:.4}") }
}

/// The spread of one config's losses over its seeds; `None` for several variants or one seed.
pub fn spread(rows: &[VariantSummary]) -> Option<String> {
    let [row] = rows else { return None };
    let mean = row.number("/eval/nats_per_token")?;
    let deviation = mean.std_error? * (mean.n as f64).sqrt();
    let losses = || row.trials.iter().filter_map(TrialRecord::nats_per_token);
    let (low, high) = (losses().fold(f64::INFINITY, f64::min), losses().fold(0.0, f64::max));
    Some(format!(
        "{:.4} nats per token on average over {} seeds, with a standard deviation of {deviation:.4} ({low:.4} to {high:.4})",
        mean.value, mean.n
    ))
}

/// Notes on variants and differences.
pub fn notes(rows: &[VariantSummary], differences: &[Difference]) -> Vec<String> {
    let mut notes = Vec::new();
    for row in rows {
        if let Some((impossible, tokens)) = row.zero_probability() {
            notes.push(format!(
                "{}: {} of {} have probability zero: the loss is infinite, temperature scaling undefined",
                row.name,
                thousands(impossible.round() as u64),
                many(tokens as u64, "token")
            ));
        }
        if let Some(oov) = row.number("/eval/oov").filter(|oov| oov.value > 0.0) {
            let unknown = many(oov.value.round() as u64, "unknown validation token");
            notes.push(format!("{}: {unknown}, scored as <unk>", row.name));
        }
        let diverged = row.diverged();
        if diverged > 0 {
            notes.push(format!("{}: {diverged} of {} runs diverged", row.name, row.trials.len()));
        }
    }
    for difference in differences {
        let why = match difference.incomparable {
            None => continue,
            Some(Incomparable::Texts) => "have different validation texts, so their numbers do not compare",
            Some(Incomparable::Lossy) => {
                "do not compare: the tokens of one do not determine the text, so its probability is not the text's"
            }
            Some(Incomparable::Unspelled) => {
                "do not compare: the text of the unknown tokens of one is not known, so they cannot be spelled"
            }
            Some(Incomparable::Scores) => "do not compare: the scores of one are not a distribution",
        };
        notes.push(format!("\"{}\" and \"{}\" {why}", difference.name, difference.against));
    }
    if differences.iter().any(Difference::has_one_seed) {
        notes.push(
            "one seed of a trained model is not enough for a test: another seed may reverse the difference (give \
             more, for example --seeds 1,2,3,4,5)"
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

/// Explanation of the columns.
pub fn legend(rows: &[VariantSummary], any_difference: bool, curves: &[LearningCurve]) -> String {
    let mut lines = vec![
        "± is the standard error of the mean over seeds (n runs). ECE, T and Brier: on the second half of the \
         validation text; T is fitted on the first."
            .to_owned(),
    ];
    if any_difference {
        lines.push(format!(
            "Differences are paired by seed, and over {BLOCKS} blocks of the validation text; p is the larger of the two, \
             adjusted for the number of comparisons (Holm). Below {SIGNIFICANCE_LEVEL} there is a difference. 0.1 nats ≈ 10 % \
             perplexity."
        ));
    }
    if rows.iter().any(|row| row.common == Some(Ok(()))) {
        lines.push(
            "Where tokens differ, variants are compared in bits per byte of one text, and of its blocks. Spelling: what the \
             unknown words or characters cost beyond <unk>, by the bytes of the known words."
                .to_owned(),
        );
    }
    if !curves.is_empty() {
        lines.push(format!(
            "Learning curves are extrapolated to {MORE_TEXT} times the largest text and to endless text by the power law L(N) = L∞ \
             + A·N^−α, with its 95 % interval on this validation text, as long as the law holds. What is left with endless text, \
             only another model can gain."
        ));
    }
    if curves.iter().any(|curve| curve.cover().is_some()) {
        lines.push(
            "Consistency: maximum likelihood on N tokens of a Markov source with k free parameters has an expected KL(p‖q) of k / \
             2N, and the 95 % interval of q, q ± 1.96·√(q(1 − q)/n), contains p 95 % of the time. The sizes are parts of one text, \
             so their errors go together."
                .to_owned(),
        );
    }
    if has_parts(rows) {
        lines.push(
            "Approximation: excess loss of the best model with the same context length (≈: estimated by counting 8 MB of fresh \
             text from the source). Estimation: excess loss from learning on finite text. Miscalibration: the part that one \
             temperature would remove. KL by itself is the expectation Σ p ln(p/q) over the source's own predictions: it \
             differs from the gap by chance in this text."
                .to_owned(),
        );
    }
    lines.join("\n")
}
