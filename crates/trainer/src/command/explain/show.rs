//! Surprisal as colours, digits and bars.

use super::{Reading, label, quoted};
use crate::wording::{number, one_line, visible};
use surprisal_engine::compare::tables::perplexity_change;

const WIDTH: usize = 72;
/// The length of a full bar, which shows [`MAX_BAR_NATS`] or more.
const BAR_WIDTH: usize = 12;
const MAX_BAR_NATS: f64 = 6.0;
/// Backgrounds in the 256-colour palette, one for each whole nat from 0.
const COLOURS: [u8; 8] = [194, 193, 229, 223, 217, 210, 203, 196];

/// The text with each token on the colour of its surprisal, or with a digit under each token
/// without colours.
pub(super) fn strip(reading: &Reading, colours: bool) -> String {
    let mut text = String::new();
    let (mut above, mut below) = (String::new(), String::new());
    let mut end = |above: &mut String, below: &mut String| {
        text.push_str(&if colours {
            format!("{above}\n")
        } else {
            format!("  {above}\n  {}\n", below.trim_end())
        });
        above.clear();
        below.clear();
    };
    for scored in &reading.explanation.tokens {
        let token = label(&scored.token, scored.unknown).replace('\t', "⇥");
        let token = visible(&token);
        let width = token.chars().count().max(1);
        let space = if reading.explanation.words && !above.is_empty() { " " } else { "" };
        if colours {
            let colour = if scored.nats.is_finite() {
                COLOURS[(scored.nats.max(0.0) as usize).min(COLOURS.len() - 1)]
            } else {
                201
            };
            above.push_str(&format!("{space}\x1b[48;5;{colour};38;5;16m{token}\x1b[0m"));
        } else {
            if above.chars().count() + space.len() + width > WIDTH && !above.is_empty() {
                end(&mut above, &mut below);
            }
            let space = if above.is_empty() { "" } else { space };
            let digit = match scored.nats {
                nats if nats.is_infinite() => '!',
                nats => char::from(b'0' + (nats.max(0.0) as u8).min(9)),
            };
            above.push_str(&format!("{space}{token:<width$}"));
            below.push_str(&format!("{space}{digit:<width$}"));
        }
        // A line end of the text ends the line here.
        if scored.token == "⏎" || scored.token == "</s>" {
            end(&mut above, &mut below);
        }
    }
    if !above.is_empty() {
        end(&mut above, &mut below);
    }
    text
}

pub(super) fn legend(colours: bool) -> String {
    if !colours {
        return "under each token its surprisal in whole nats (9: nine or more, !: probability zero)\n"
            .to_owned();
    }
    let mut line = "surprisal in nats: ".to_owned();
    for (nats, colour) in COLOURS.iter().enumerate() {
        let more = if nats + 1 == COLOURS.len() { "+" } else { " " };
        line.push_str(&format!("\x1b[48;5;{colour};38;5;16m {nats}{more}\x1b[0m"));
    }
    line.push('\n');
    line
}

/// A row per token: each model's nats with a bar, and its most likely tokens.
pub(super) fn table(readings: &[Reading]) -> Vec<Vec<String>> {
    let Some(first) = readings.first() else { return Vec::new() };
    let tokens = |reading: &Reading| {
        reading.explanation.tokens.iter().map(|scored| scored.token.clone()).collect::<Vec<_>>()
    };
    let together = readings.iter().all(|reading| tokens(reading) == tokens(first));
    let groups: Vec<&[Reading]> = if together { vec![readings] } else { readings.chunks(1).collect() };
    let mut table = Vec::new();
    for group in groups {
        let mut heading = vec!["token".to_owned()];
        for reading in group {
            heading.extend([format!("nats: {}", short(&reading.name)), String::new(), "expected".to_owned()]);
        }
        table.push(heading);
        for (index, token) in tokens(&group[0]).iter().enumerate() {
            // A token unknown to only some models is marked in their columns.
            let to_all = group.iter().all(|reading| reading.explanation.tokens[index].unknown);
            let mut row = vec![quoted(&label(token, to_all))];
            for reading in group {
                let scored = &reading.explanation.tokens[index];
                let unknown = if scored.unknown && !to_all { "unknown " } else { "" };
                let expected: Vec<String> = scored
                    .likeliest
                    .iter()
                    .map(|guess| format!("{} {:.0} %", quoted(&guess.token), 100.0 * guess.probability))
                    .collect();
                row.extend([
                    format!("{unknown}{}", number(scored.nats, 3)),
                    bar(scored.nats),
                    expected.join("  "),
                ]);
            }
            table.push(row);
        }
    }
    table
}

fn short(name: &str) -> String {
    let name = name.trim_end_matches('/');
    let mut parts = name.rsplit('/');
    one_line(match (parts.next(), parts.next()) {
        // A run of a comparison: keeps the variant, because the seed alone does not identify it.
        (Some(last), Some(before)) if last.starts_with("seed-") => {
            &name[name.len() - last.len() - before.len() - 1..]
        }
        (Some(last), _) => last,
        _ => name,
    })
}

/// A bar in eighths of a column, padded to the full width.
fn bar(nats: f64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (nats.clamp(0.0, MAX_BAR_NATS) / MAX_BAR_NATS * (8 * BAR_WIDTH) as f64).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    let width = bar.chars().count();
    bar + &" ".repeat(BAR_WIDTH - width.min(BAR_WIDTH))
}

/// The effect of 0.1 nats per token on these perplexities.
pub(super) fn tenth_of_a_nat(readings: &[Reading]) -> String {
    let mut lines = String::new();
    for reading in readings {
        let perplexity = reading.explanation.evaluation.perplexity();
        if perplexity.is_finite() {
            let less = (reading.explanation.evaluation.nats_per_token() - 0.1).exp();
            lines.push_str(&format!(
                "0.1 nats per token less would change {} from perplexity {} to {}: {}\n",
                short(&reading.name),
                number(perplexity, 3),
                number(less, 3),
                perplexity_change(-0.1)
            ));
        }
    }
    lines
}
