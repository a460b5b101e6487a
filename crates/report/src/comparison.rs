//! The report of a comparison.

use std::path::Path;

use maud::{Markup, html};
use surprisal_engine::store::read::{read_regular, regular_text};

use super::cards::{self, hash};
use super::page::{facts, page, table};
use super::plot;
use surprisal_engine::compare::Comparison;
use surprisal_engine::compare::diagnostics::Diagnostics;
use surprisal_engine::compare::learning_curve::{LearningCurve, MORE_TEXT};
use surprisal_engine::compare::statistics::Mean;
use surprisal_engine::compare::summary::{Difference, Unit, VariantSummary};
use surprisal_engine::compare::tables;
use surprisal_engine::compare::trial::{SharedText, TrialRecord};
use surprisal_engine::error::Result;

/// The largest number of cards with calibration or samples, so that the page stays readable.
const MAX_CARDS: usize = 40;

/// The report page of a comparison.
///
/// # Errors
/// A figure that cannot be drawn, or a file that cannot be read.
pub fn render_comparison(comparison: &Comparison) -> Result<String> {
    let Comparison { name, rows, differences, root, .. } = comparison;
    let texts: Vec<&SharedText> = (0..rows.len()).map(|row| comparison.text(row)).collect();
    let texts = texts.as_slice();
    let body = html! {
        h1 { (name) }
        (head(rows, texts))
        (verdicts(differences))
        h2 { "All variants" }
        p.soft {
            "Lower is better in all columns. ECE is the expected calibration error: the difference between a model's confidence and \
             its accuracy, on average. T is the temperature that corrects it best; Brier is the mean squared error of its \
             probabilities."
        }
        (table("variants", &tables::variants(rows), None))
        @for note in tables::notes(rows, differences) { p { "Note: " (note) } }
        (loss_plot(rows)?)
        (loss_parts(rows))
        @if let Some(differences) = tables::differences(differences) {
            h2 { "Differences" }
            (table("differences", &differences, None))
        }
        (learning_curves(&comparison.curves)?)
        @for line in tables::legend(rows, !differences.is_empty(), &comparison.curves).lines() { p.soft { (line) } }
        (calibration(rows, texts)?)
        (passage(rows))
        (samples(rows, texts))
        (settings(rows, root))
    };
    Ok(page(&format!("{name} · Surprisal"), &body))
}

fn nats(row: &VariantSummary) -> Option<f64> {
    row.number("/eval/nats_per_token").map(|mean| mean.value)
}

/// The loss that all rows can be compared by: nats per token if all have the same tokens, otherwise
/// bits per byte.
fn common_scale(rows: &[VariantSummary]) -> (Unit, fn(&VariantSummary) -> Option<Mean>) {
    if is_one_text(rows) {
        (Unit::NatsPerToken, |row| row.number("/eval/nats_per_token"))
    } else {
        (Unit::BitsPerByte, VariantSummary::bits_per_byte)
    }
}

fn is_one_text(rows: &[VariantSummary]) -> bool {
    rows.windows(2).all(|pair| pair[0].evaluated_on == pair[1].evaluated_on)
}

/// Rows whose loss is finite, best first.
fn ranked(rows: &[VariantSummary]) -> Vec<&VariantSummary> {
    let (_, loss) = common_scale(rows);
    let mut finite: Vec<(&VariantSummary, f64)> =
        rows.iter().filter_map(|row| Some((row, loss(row)?.value))).collect();
    finite.sort_by(|a, b| a.1.total_cmp(&b.1));
    finite.into_iter().map(|(row, _)| row).collect()
}

fn head(rows: &[VariantSummary], texts: &[&SharedText]) -> Markup {
    let cells: usize = rows.iter().map(|row| row.trials.len()).sum();
    let mut numbers = vec![("variants", rows.len().to_string()), ("runs", cells.to_string())];
    let ranked = ranked(rows);
    let best = ranked.first().filter(|_| is_one_text(rows));
    if let Some(text) = texts.first().filter(|_| is_one_text(rows)) {
        let thousands = surprisal_engine::wording::thousands;
        numbers.push(("validation tokens", thousands(text.data.val.scored())));
        numbers.push(("training tokens", thousands(text.data.train.scored())));
    }
    if let Some(best) = best {
        numbers
            .push(("least nats per token", nats(best).map_or_else(String::new, |nats| format!("{nats:.4}"))));
    }
    html! {
        (facts(&numbers))
        @if let Some(best) = best { p { "Lowest loss: " strong { (best.name) } "." } }
    }
}

/// A sentence per difference.
fn verdicts(differences: &[Difference]) -> Markup {
    html! {
        @if !differences.is_empty() {
            h2 { "Results" }
            ul {
                @for difference in differences {
                    li {
                        strong { (difference.name) } " against " (difference.against) ": " (difference.verdict())
                        (numbers(difference))
                    }
                }
            }
        }
    }
}

/// The numbers behind a verdict, if it was tested.
fn numbers(difference: &Difference) -> String {
    let (Some(mean), Some(p)) = (difference.over_seeds, difference.p_holm) else { return String::new() };
    let calibration = difference.ece.map_or_else(
        || "calibration cannot be compared".to_owned(),
        |ece| {
            let points = 100.0 * ece.value;
            format!(
                "calibration: {} ({points:+.2} points of expected calibration error)",
                difference.ece_verdict()
            )
        },
    );
    let perplexity = match difference.unit {
        Unit::NatsPerToken => format!(", {} perplexity", tables::perplexity_change(mean.value)),
        Unit::BitsPerByte => String::new(),
    };
    format!(
        " ({:+.4} {}{perplexity}, p {}{}); {calibration}",
        mean.value,
        difference.unit.name(),
        if p < tables::MIN_P { "" } else { "= " },
        tables::p_value(p)
    )
}

fn loss_plot(rows: &[VariantSummary]) -> Result<Markup> {
    let ranked = ranked(rows);
    if ranked.is_empty() {
        return Ok(html! {});
    }
    let (unit, loss) = common_scale(rows);
    let unit = unit.name();
    let names: Vec<String> = ranked.iter().map(|row| row.name.clone()).collect();
    let values: Vec<(f64, f64)> = ranked
        .iter()
        .filter_map(|row| loss(row))
        .map(|mean| (mean.value, mean.std_error.unwrap_or(0.0)))
        .collect();
    let entropy = ranked.iter().filter(|_| is_one_text(rows));
    let entropy = entropy.filter_map(|row| row.number("/eval/source_entropy")).map(|mean| mean.value).next();
    let mut caption = format!("Validation loss in {unit}, lowest first");
    if values.iter().any(|value| value.1 > 0.0) {
        caption.push_str("; lines: the standard error over seeds");
    }
    if entropy.is_some() {
        caption.push_str("; dashed: H(p), the lower bound");
    }
    if ranked.len() < rows.len() {
        caption.push_str(". Variants whose loss is infinite are left out");
    }
    if !is_one_text(rows) {
        caption.push_str(". Their tokens or texts differ, so none is called the best");
    }
    Ok(html! {
        figure {
            (plot::forest_plot(&names, &values, unit, entropy)?)
            figcaption { (caption) "." }
        }
    })
}

/// Losses by the size of the text with their extrapolations, and KL beside that of maximum
/// likelihood.
fn learning_curves(curves: &[LearningCurve]) -> Result<Markup> {
    let Some(table_of_curves) = tables::learning_curves(curves) else { return Ok(html! {}) };
    let mut units: Vec<Unit> = curves.iter().map(|curve| curve.unit).collect();
    units.dedup();
    let figures = units.iter().map(|unit| {
        let of_unit: Vec<_> = curves.iter().filter(|curve| curve.unit == *unit).collect();
        let mut series = Vec::new();
        for (index, curve) in of_unit.iter().enumerate() {
            let colour = index % plot::REFERENCE;
            let points = curve.points.iter().map(|point| (point.tokens as f64, point.loss.value)).collect();
            series.push(plot::Series { name: curve.name.clone(), colour, dashed: false, points });
        }
        let key = plot::legend(&series);
        for (index, curve) in of_unit.iter().enumerate() {
            series.extend(extrapolated(curve, index % plot::REFERENCE));
        }
        let figure = plot::log_lines("training tokens", unit.name(), false, &series)?;
        Ok(html! { figure {
            (key) (figure)
            figcaption { "Dashed: the power law to " (MORE_TEXT) " times the text, and its 95 % interval there." }
        } })
    });
    let figures = figures.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        h2 { "What more text buys" }
        @for figure in figures { (figure) }
        (table("curves", &table_of_curves, None))
        @if let Some(consistency) = tables::consistency(curves) {
            h3 { "Consistency: how fast KL falls" }
            (kl_plot(curves)?)
            (table("consistency", &consistency, None))
        }
        @for note in tables::curve_notes(curves) { p { "Note: " (note) "." } }
    })
}

/// A curve's power law beyond its largest text, and the interval at the end of it.
fn extrapolated(curve: &LearningCurve, colour: usize) -> Vec<plot::Series> {
    let (Some(law), Some(last), Some(end)) = (&curve.power_law, curve.points.last(), curve.with_more_text())
    else {
        return Vec::new();
    };
    let from = last.tokens as f64;
    let on_law = (0..=20).map(|step| from * MORE_TEXT.powf(f64::from(step) / 20.0));
    let dashed = |points| plot::Series { name: String::new(), colour, dashed: true, points };
    let interval = vec![(from * MORE_TEXT, end.low), (from * MORE_TEXT, end.high)];
    vec![dashed(on_law.map(|tokens| (tokens, law.at(tokens).value)).collect()), dashed(interval)]
}

/// KL by the number of tokens, with the line k / 2N of maximum likelihood.
fn kl_plot(curves: &[LearningCurve]) -> Result<Markup> {
    let mut series = Vec::new();
    let with_cells = curves.iter().filter(|curve| curve.cover().is_some());
    for (index, curve) in with_cells.enumerate() {
        let points: Vec<_> =
            curve.points.iter().filter_map(|point| Some((point.tokens as f64, point.kl?))).collect();
        if index == 0 {
            let expected = curve
                .points
                .iter()
                .filter_map(|point| Some((point.tokens as f64, point.consistency?.expected_kl())));
            let (name, points) = ("k / 2N".to_owned(), expected.collect());
            series.push(plot::Series { name, colour: plot::REFERENCE, dashed: true, points });
        }
        let colour = index % plot::REFERENCE;
        series.push(plot::Series { name: curve.name.clone(), colour, dashed: false, points });
    }
    Ok(html! { figure {
        (plot::legend(&series))
        (plot::log_lines("training tokens", "KL(p‖q), nats per token", true, &series)?)
        figcaption { "Both axes are logarithmic: maximum likelihood falls along the dashed line." }
    } })
}

/// The decomposition of the loss, as a table with bars.
fn loss_parts(rows: &[VariantSummary]) -> Markup {
    let Some(parts) = tables::parts(rows) else { return html! {} };
    let most = rows.iter().filter_map(nats).fold(0.0, f64::max);
    let bars: Vec<Markup> = rows.iter().map(|row| bar(row, most)).collect();
    html! {
        h2 { "Decomposition of the loss" }
        ul.key {
            @for (index, name) in ["H(p)", "approximation", "estimation", "miscalibration"].iter().enumerate() {
                li { i class={ "swatch p" (index) } {} (name) }
            }
        }
        p.soft { (format!("All in nats per token; a full bar is {most:.4} nats.")) }
        (table("parts", &parts, Some(("the parts", &bars))))
    }
}

fn bar(row: &VariantSummary, most: f64) -> Markup {
    let part =
        |number: fn(&TrialRecord) -> Option<f64>| row.mean(number).map_or(0.0, |mean| mean.value.max(0.0));
    let widths = [
        part(|cell| Some(cell.decomposition?.entropy)),
        part(|cell| cell.decomposition?.approximation),
        part(|cell| Some(cell.decomposition?.estimation)),
        part(|cell| Some(cell.decomposition?.miscalibration)),
    ];
    html! {
        div.stack aria-hidden="true" {
            @for (index, width) in widths.iter().enumerate() {
                i class={ "p" (index) } style=(format!("width:{:.2}%", 100.0 * width / most.max(1e-9))) {}
            }
        }
    }
}

/// The diagnostics of a row's first measured run.
fn first(row: &VariantSummary) -> Option<&Diagnostics> {
    row.trials.iter().find_map(|cell| cell.diagnostics.as_ref())
}

fn calibration(rows: &[VariantSummary], texts: &[&SharedText]) -> Result<Markup> {
    Ok(html! {
        h2 { "Calibration: accuracy by confidence (reliability diagrams)" }
        p {
            "One seed of each, on the second half of the validation text: of the tokens predicted with a given confidence, which \
             share was correct?"
        }
        (cards::calibration_legend())
        div.grid {
            @for (row, text) in rows.iter().zip(texts).take(MAX_CARDS) {
                @if let Some(measure) = first(row) {
                    (cards::calibration(&row.name, measure, text.data.tokenizer.vocab_size())?)
                }
            }
        }
    })
}

/// A passage scored by the best model and by the best of the other kind (n-gram or neural).
fn passage(rows: &[VariantSummary]) -> Markup {
    let ranked = ranked(rows);
    let Some((best, measure)) = ranked.iter().find_map(|row| Some((*row, first(row)?))) else {
        return html! {};
    };
    let counted = |row: &VariantSummary| row.trials.first().is_some_and(|cell| cell.kind == "ngram");
    let beside = ranked
        .iter()
        .filter(|row| row.name != best.name)
        .find(|row| counted(row) != counted(best))
        .or_else(|| ranked.get(1))
        .and_then(|row| Some((row.name.as_str(), first(row)?.passage.as_slice())));
    let which = match (is_one_text(rows), rows.iter().all(|row| row.trials.len() > 1 || counted(row))) {
        (false, _) => "two of the models",
        (true, false) => {
            "the model with the lowest loss in these runs, and the best of the other kind (n-gram or neural)"
        }
        (true, true) => "the best model, and the best of the other kind (n-gram or neural)",
    };
    html! {
        h2 { "Surprisal, token by token" }
        p { "From the middle of the validation text: " (which) ". Point to a token to see its numbers." }
        (cards::surprisal_heatmap((&best.name, &measure.passage), beside))
    }
}

fn samples(rows: &[VariantSummary], texts: &[&SharedText]) -> Markup {
    let sample = |(row, text): (&VariantSummary, &&SharedText)| {
        let sample = row.trials.first()?.sample.as_ref().filter(|sample| !sample.is_empty())?;
        Some(cards::sample(&row.name, sample, &text.data))
    };
    let samples: Vec<Markup> = rows.iter().zip(texts).take(MAX_CARDS).filter_map(sample).collect();
    html! {
        @if !samples.is_empty() {
            h2 { "Samples, and the training text that they may repeat" }
            details open {
                summary { "one seed of each" }
                div.samples { @for sample in samples { (sample) } }
            }
        }
    }
}

fn settings(rows: &[VariantSummary], root: &Path) -> Markup {
    let model = |cell: &TrialRecord| {
        let mut files = ["model/model.safetensors", "model/model.ngram"].iter();
        files.find_map(|name| read_regular(root.join(&cell.folder).join(name)).ok())
    };
    let config =
        |row: &VariantSummary| regular_text(root.join(&row.trials.first()?.folder).join("config.toml")).ok();
    html! {
        h2 { "Settings and files" }
        p {
            "Every run is a folder, identical to the bit to one written by " code { "surprisal train" } ". Hashes are BLAKE3."
        }
        div.runs {
            @for row in rows {
                details {
                    summary { (row.name) }
                    ul {
                        @for cell in &row.trials {
                            li {
                                (cell.folder.display())
                                @if let Some(bytes) = model(cell) { ": " code { (hash(&bytes, 24)) } }
                            }
                        }
                    }
                    @if let Some(config) = config(row) { pre { (config) } }
                }
            }
        }
    }
}
