//! The report of a comparison.

use std::path::Path;

use surprisal_store::read::{read_regular, regular_text};

use super::page::{Cell, escape, facts, page, table};
use super::parts;
use super::plot;
use crate::compare::cell::{Finished, Text};
use crate::compare::measure::Measure;
use crate::compare::statistics::Mean;
use crate::compare::summary::{Difference, Row};
use crate::compare::table as plain;
use crate::failure::Result;

/// Cards of calibration and samples, at most so many: a report is to be read.
const MOST_CARDS: usize = 40;

/// The page.
///
/// # Errors
/// A figure that cannot be drawn; a file that cannot be read.
pub(crate) fn render(
    name: &str,
    rows: &[Row],
    texts: &[&Text],
    differences: &[Difference],
    root: &Path,
) -> Result<String> {
    let mut body = format!("<h1>{}</h1>\n", escape(name));
    body.push_str(&head(rows, texts));
    body.push_str(&verdicts(differences));
    body.push_str(
        "<h2>All variants</h2>\n<p class=\"soft\">Less is better everywhere. ECE is the expected calibration error: how far a \
         model's confidence is from how often it is right, on average. T is the temperature that would correct it best; \
         Brier is the mean squared error of its probabilities.</p>\n",
    );
    body.push_str(&sorted(&plain::variants(rows), "variants", |row, column| {
        variant_value(&rows[row], column)
    }));
    for note in plain::notes(rows, differences) {
        body.push_str(&format!("<p>Note: {}</p>\n", escape(&note)));
    }
    body.push_str(&dots(rows)?);
    if rows.iter().any(|row| row.cells.iter().any(|cell| cell.parts.is_some())) {
        body.push_str(&loss_parts(rows));
    }
    if !differences.is_empty() {
        body.push_str("<h2>Differences</h2>\n");
        let lines = plain::differences(differences);
        body.push_str(&sorted(&lines, "differences", |row, column| {
            difference_value(&differences[row], column)
        }));
    }
    for line in plain::legend(rows, !differences.is_empty()).lines() {
        body.push_str(&format!("<p class=\"soft\">{}</p>\n", escape(line)));
    }
    body.push_str(&calibration(rows, texts)?);
    body.push_str(&passage(rows));
    body.push_str(&samples(rows, texts));
    body.push_str(&settings(rows, root));
    Ok(page(&format!("{name} · Surprisal"), &body))
}

fn nats(row: &Row) -> Option<f64> {
    row.number("/eval/nats_per_token").map(|mean| mean.value)
}

/// What all rows can be set side by side by: a number of theirs and its unit. Nats a token, where all have the same tokens.
fn common_scale(rows: &[Row]) -> (&'static str, &'static str) {
    if is_one_text(rows) {
        ("/eval/nats_per_token", "nats a token")
    } else {
        ("/eval/bits_per_byte", "bits a byte")
    }
}

fn is_one_text(rows: &[Row]) -> bool {
    rows.windows(2).all(|pair| pair[0].judged_by == pair[1].judged_by)
}

/// Rows whose loss is finite, best first.
fn ranked(rows: &[Row]) -> Vec<&Row> {
    let (pointer, _) = common_scale(rows);
    let mut finite: Vec<(&Row, f64)> =
        rows.iter().filter_map(|row| Some((row, row.number(pointer)?.value))).collect();
    finite.sort_by(|a, b| a.1.total_cmp(&b.1));
    finite.into_iter().map(|(row, _)| row).collect()
}

fn head(rows: &[Row], texts: &[&Text]) -> String {
    let cells: usize = rows.iter().map(|row| row.cells.len()).sum();
    let mut numbers = vec![("variants", rows.len().to_string()), ("runs", cells.to_string())];
    let ranked = ranked(rows);
    let best = ranked.first().filter(|_| is_one_text(rows));
    if let Some(text) = texts.first().filter(|_| is_one_text(rows)) {
        let thousands = crate::wording::thousands;
        numbers.push(("validation tokens", thousands(text.data.val.scored())));
        numbers.push(("training tokens", thousands(text.data.train.scored())));
    }
    if let Some(best) = best {
        numbers
            .push(("least nats a token", nats(best).map_or_else(String::new, |nats| format!("{nats:.4}"))));
    }
    let mut html = facts(&numbers);
    if let Some(best) = best {
        html.push_str(&format!("<p>Least surprised: <strong>{}</strong>.</p>\n", escape(&best.name)));
    }
    html
}

/// What was found, a sentence each.
fn verdicts(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut html = "<h2>What was found</h2>\n<ul>\n".to_owned();
    for difference in differences {
        let sentence = match (difference.seeds, difference.p) {
            (Some(mean), Some(p)) => format!(
                "<strong>{}</strong> against {}: {} ({:+.4} nats a token, {} perplexity, p {}); {}",
                escape(&difference.name),
                escape(&difference.against),
                difference.verdict(),
                mean.value,
                plain::perplexity_change(mean.value),
                escape(&p_shown(p)),
                difference.ece.map_or_else(
                    || "calibration cannot be compared".to_owned(),
                    |ece| format!(
                        "calibration: {} ({:+.2} points of expected calibration error)",
                        difference.ece_verdict(),
                        100.0 * ece.value
                    )
                )
            ),
            _ => format!(
                "<strong>{}</strong> against {}: {}",
                escape(&difference.name),
                escape(&difference.against),
                difference.verdict()
            ),
        };
        html.push_str(&format!("<li>{sentence}</li>\n"));
    }
    html.push_str("</ul>\n");
    html
}

fn p_shown(p: f64) -> String {
    let text = plain::p_value(p);
    if text.starts_with('<') { text } else { format!("= {text}") }
}

/// A printed table as one that sorts.
fn sorted(lines: &[Vec<String>], id: &str, value: impl Fn(usize, usize) -> Option<f64>) -> String {
    let Some((headings, lines)) = lines.split_first() else { return String::new() };
    let rows: Vec<Vec<Cell>> = lines
        .iter()
        .enumerate()
        .map(|(row, line)| {
            let cell = |(column, text): (usize, &String)| match value(row, column) {
                Some(value) => Cell::number(text.clone(), Some(value)),
                None => Cell::text(text.clone()),
            };
            line.iter().enumerate().map(cell).collect()
        })
        .collect();
    table(id, headings, &rows)
}

fn variant_value(row: &Row, column: usize) -> Option<f64> {
    let gap = usize::from(row.number("/eval/source_entropy").is_some());
    let value = |mean: Option<Mean>| mean.map(|mean| mean.value);
    match (column, gap) {
        (1, _) => Some(row.cells.len() as f64),
        (2, _) => nats(row),
        (3, _) => value(row.number("/eval/perplexity")),
        (4, _) => value(row.number("/eval/bits_per_byte")),
        (5, 1) => value(row.number("/eval/kl")),
        (column, gap) => match column.checked_sub(gap)? {
            5 => value(row.ece()),
            6 => value(row.ece_scaled()),
            7 => value(row.temperature()),
            8 => value(row.brier()),
            9 => value(row.number("/parameters")),
            10 => value(row.number("/train_seconds")),
            _ => None,
        },
    }
}

fn difference_value(difference: &Difference, column: usize) -> Option<f64> {
    match column {
        2 => difference.seeds.map(|mean| mean.value),
        3 => difference.seeds?.error,
        4 => difference.text?.error,
        5 => difference.seeds.map(|mean| mean.value.exp()),
        6 => difference.p,
        8 => difference.ece.map(|mean| mean.value),
        _ => None,
    }
}

fn dots(rows: &[Row]) -> Result<String> {
    let ranked = ranked(rows);
    if ranked.is_empty() {
        return Ok(String::new());
    }
    let (pointer, unit) = common_scale(rows);
    let names: Vec<String> = ranked.iter().map(|row| row.name.clone()).collect();
    let values: Vec<(f64, f64)> = ranked
        .iter()
        .filter_map(|row| row.number(pointer))
        .map(|mean| (mean.value, mean.error.unwrap_or(0.0)))
        .collect();
    let entropy = ranked.iter().filter(|_| is_one_text(rows));
    let entropy = entropy.filter_map(|row| row.number("/eval/source_entropy")).map(|mean| mean.value).next();
    let mut caption = format!("Validation loss in {unit}, least first");
    if values.iter().any(|value| value.1 > 0.0) {
        caption.push_str("; lines: the standard error over seeds");
    }
    if entropy.is_some() {
        caption.push_str("; dashed: H(p), the least there is");
    }
    if ranked.len() < rows.len() {
        caption.push_str(". Variants whose loss is infinite are left out");
    }
    if !is_one_text(rows) {
        caption.push_str(
            ". Their tokens or texts differ, so they stand side by side and none is called the best",
        );
    }
    Ok(format!(
        "<figure>{}<figcaption>{caption}.</figcaption></figure>\n",
        plot::dots(&names, &values, unit, entropy)?
    ))
}

/// The loss in its parts, as numbers and as bars.
fn loss_parts(rows: &[Row]) -> String {
    let lines = plain::parts(rows);
    let Some((headings, lines)) = lines.split_first() else { return String::new() };
    let mut headings = headings.clone();
    headings.insert(1, "the parts".into());
    let most = rows.iter().filter_map(nats).fold(0.0, f64::max);
    let mut html = "<h2>What the loss is made of</h2>\n<ul class=\"key\">".to_owned();
    for (index, name) in ["H(p)", "approximation", "estimation", "miscalibration"].iter().enumerate() {
        html.push_str(&format!("<li><i class=\"swatch p{index}\"></i>{name}</li>"));
    }
    html.push_str(&format!(
        "</ul>\n<p class=\"soft\">All in nats a token; a full bar is {most:.4} of them.</p>\n"
    ));
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .zip(lines)
        .map(|(row, line)| {
            let mut cells: Vec<Cell> = line
                .iter()
                .enumerate()
                .map(|(column, text)| {
                    let number = text.trim_start_matches("≈ ").parse().ok();
                    if column == 0 { Cell::text(text.clone()) } else { Cell::number(text.clone(), number) }
                })
                .collect();
            cells.insert(1, Cell::html(bar(row, most)));
            cells
        })
        .collect();
    html.push_str(&table("parts", &headings, &cells));
    html
}

fn bar(row: &Row, most: f64) -> String {
    let part =
        |number: fn(&Finished) -> Option<f64>| row.mean(number).map_or(0.0, |mean| mean.value.max(0.0));
    let widths = [
        part(|cell| Some(cell.parts?.entropy)),
        part(|cell| cell.parts?.approximation),
        part(|cell| Some(cell.parts?.estimation)),
        part(|cell| Some(cell.parts?.miscalibration)),
    ];
    let bars: String = widths
        .iter()
        .enumerate()
        .map(|(index, width)| {
            format!("<i class=\"p{index}\" style=\"width:{:.2}%\"></i>", 100.0 * width / most.max(1e-9))
        })
        .collect();
    format!("<div class=\"stack\" aria-hidden=\"true\">{bars}</div>")
}

/// The measurements of a row's first cell.
fn first(row: &Row) -> Option<&Measure> {
    row.cells.iter().find_map(|cell| cell.measure.as_ref())
}

fn calibration(rows: &[Row], texts: &[&Text]) -> Result<String> {
    let mut html = "<h2>Do they mean what they say?</h2>\n<p>One seed of each, on the second half of the validation text: of \
                    the tokens predicted with so much confidence, how many came?</p>\n"
        .to_owned();
    html.push_str(&parts::calibration_key());
    html.push_str("<div class=\"grid\">\n");
    for (row, text) in rows.iter().zip(texts).take(MOST_CARDS) {
        if let Some(measure) = first(row) {
            html.push_str(&parts::calibration(&row.name, measure, text.data.tokenizer.vocab_size())?);
        }
    }
    html.push_str("</div>\n");
    Ok(html)
}

/// The best model beside the best of the other making.
fn passage(rows: &[Row]) -> String {
    let ranked = ranked(rows);
    let Some((best, measure)) = ranked.iter().find_map(|row| Some((*row, first(row)?))) else {
        return String::new();
    };
    let counted = |row: &Row| row.cells.first().is_some_and(|cell| cell.kind == "ngram");
    let beside = ranked
        .iter()
        .filter(|row| row.name != best.name)
        .find(|row| counted(row) != counted(best))
        .or_else(|| ranked.get(1))
        .and_then(|row| Some((row.name.as_str(), first(row)?.passage.as_slice())));
    let which = match (is_one_text(rows), rows.iter().all(|row| row.cells.len() > 1 || counted(row))) {
        (false, _) => "two of the models",
        (true, false) => "the one least surprised in these runs, and that of the other making",
        (true, true) => "the best model, and the best that was made the other way",
    };
    let mut html = format!(
        "<h2>Where are they surprised?</h2>\n<p>From the middle of the validation text: {which}. Point at a token for its \
         numbers.</p>\n"
    );
    html.push_str(&parts::heat((&best.name, &measure.passage), beside));
    html
}

fn samples(rows: &[Row], texts: &[&Text]) -> String {
    let mut html = String::new();
    for (row, text) in rows.iter().zip(texts).take(MOST_CARDS) {
        let sample = row.cells.first().and_then(|cell| cell.sample.as_ref());
        if let Some(sample) = sample.filter(|sample| !sample.is_empty()) {
            let data = &text.data;
            html.push_str(&parts::sample(&row.name, sample, &data.tokenizer, &data.train, &data.val));
        }
    }
    if html.is_empty() {
        return html;
    }
    format!(
        "<h2>Samples, and what they may have been remembered from</h2>\n<details open><summary>one seed of each</summary>\n\
         <div class=\"samples\">{html}</div></details>\n"
    )
}

fn settings(rows: &[Row], root: &Path) -> String {
    let mut html = "<h2>How it was made</h2>\n<p>Every run is a folder that <code>surprisal train</code> would have made, to the \
                    bit. Hashes are BLAKE3.</p>\n<div class=\"runs\">\n"
        .to_owned();
    for row in rows {
        html.push_str(&format!("<details><summary>{}</summary>\n<ul>\n", escape(&row.name)));
        for cell in &row.cells {
            let folder = root.join(&cell.folder);
            let hash = ["model/model.safetensors", "model/model.ngram"]
                .iter()
                .find_map(|name| read_regular(folder.join(name)).ok())
                .map_or_else(String::new, |bytes| {
                    format!(": <code>{}…</code>", &blake3::hash(&bytes).to_hex().as_str()[..24])
                });
            html.push_str(&format!("<li>{}{hash}</li>\n", escape(&cell.folder.display().to_string())));
        }
        html.push_str("</ul>\n");
        if let Some(cell) = row.cells.first()
            && let Ok(config) = regular_text(root.join(&cell.folder).join("config.toml"))
        {
            html.push_str(&format!("<pre>{}</pre>\n", escape(&config)));
        }
        html.push_str("</details>\n");
    }
    html + "</div>\n"
}
