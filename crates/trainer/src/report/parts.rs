//! What reports of runs and of comparisons share: calibration cards, coloured passages, samples.

use surprisal_text::{TokenText, Tokenizer};

use super::memory::longest_common;
use super::page::escape;
use super::plot::{self, Series};
use crate::compare::measure::{Calibrated, Measure, Place, ReliabilityBin};
use crate::failure::Result;

/// Surprise that is coloured as strongly as can be, in nats.
const LOUDEST: f64 = 6.0;
/// A difference that is.
const LOUDEST_DIFFERENCE: f64 = 3.0;
/// Tokens of training text shown around what a sample shares with it.
const AROUND: usize = 60;

/// A card with a model's reliability diagram and the entropy of its predictions.
pub(super) fn calibration(name: &str, measure: &Measure, vocab_size: usize) -> Result<String> {
    let mut html = format!("<div class=\"card calibration\"><h3>{}</h3>\n", escape(name));
    if let Some(calibration) = &measure.calibration {
        html.push_str(&format!("<figure class=\"small\">{}</figure>\n", diagram(calibration)?));
        html.push_str(&format!("<p class=\"soft\">{}</p>\n", escape(&in_words(calibration))));
    }
    let most = (vocab_size as f64).ln();
    let figure = plot::histogram(&measure.entropies, most, "entropy in nats")?;
    html.push_str(&format!(
        "<figure class=\"small\">{figure}<figcaption>Mean entropy of its predictions: {:.3} nats, of ln |V| = {most:.3}.\
         </figcaption></figure></div>\n",
        measure.entropy
    ));
    Ok(html)
}

fn diagram(calibration: &Calibrated) -> Result<String> {
    let points = |bins: &[ReliabilityBin]| bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
    let mut series = vec![Series {
        name: String::new(),
        colour: 0,
        dashed: false,
        points: points(&calibration.reliability),
    }];
    if let Some(scaled) = &calibration.scaled {
        series.push(Series {
            name: String::new(),
            colour: 1,
            dashed: false,
            points: points(&scaled.reliability),
        });
    }
    plot::reliability(&series)
}

fn in_words(calibration: &Calibrated) -> String {
    let before = format!(
        "ECE {:.2} % (equal mass {:.2} %), Brier {:.4}",
        100.0 * calibration.ece,
        100.0 * calibration.ece_equal_mass,
        calibration.brier
    );
    match &calibration.scaled {
        None => format!("{before}. A token that came was held impossible: no temperature helps."),
        Some(scaled) => format!(
            "{before}; at temperature {:.3} ECE {:.2} % (equal mass {:.2} %), Brier {:.4}. {}",
            scaled.temperature,
            100.0 * scaled.ece,
            100.0 * scaled.ece_equal_mass,
            scaled.brier,
            if scaled.temperature > 1.0 {
                "Above 1: it was too sure of itself."
            } else {
                "Below 1: it was too timid."
            }
        ),
    }
}

/// What the two lines of a reliability diagram are.
pub(super) fn calibration_key() -> String {
    let line = |name: &str, colour| Series { name: name.into(), colour, dashed: false, points: Vec::new() };
    let ideal = Series {
        name: "as often right as it says".into(),
        colour: plot::REFERENCE,
        dashed: true,
        points: Vec::new(),
    };
    plot::key(&[line("as it is", 0), line("with the temperature fitted on the first half", 1), ideal])
}

/// Two models on one passage, and where each of them wins.
pub(super) fn heat(a: (&str, &[Place]), b: Option<(&str, &[Place])>) -> String {
    let ramp: String = (0..=6)
        .map(|nats| format!("<i style=\"--s:{:.2}\"></i>", strength(f64::from(nats), LOUDEST)))
        .collect();
    let mut html =
        format!("<p class=\"soft\">0 <span class=\"ramp\">{ramp}</span> {LOUDEST} nats and more</p>\n");
    html.push_str("<div class=\"pair\">\n");
    for (name, places) in [Some(a), b].into_iter().flatten() {
        html.push_str(&format!("<div class=\"card\"><h3>{}</h3>\n<div class=\"heat\">", escape(name)));
        for place in places {
            let nats = place.nats.unwrap_or(f64::INFINITY);
            let style = format!("style=\"--s:{:.2}\"", strength(nats, LOUDEST));
            html.push_str(if place.apart { " " } else { "" });
            html.push_str(&span(&place.token, &style, &tip(place)));
        }
        html.push_str("</div></div>\n");
    }
    html.push_str("</div>\n");
    if let Some((name, places)) = b
        && a.1.iter().map(|place| &place.token).eq(places.iter().map(|place| &place.token))
    {
        html.push_str(&difference(a, (name, places)));
    }
    html
}

fn difference(a: (&str, &[Place]), b: (&str, &[Place])) -> String {
    let (mut won, mut lost) = (0, 0);
    let mut spans = String::new();
    for (of_a, of_b) in a.1.iter().zip(b.1) {
        let nats = |place: &Place| place.nats.unwrap_or(f64::INFINITY);
        let gain = if nats(of_a).to_bits() == nats(of_b).to_bits() { 0.0 } else { nats(of_b) - nats(of_a) };
        won += usize::from(gain > 0.0);
        lost += usize::from(gain < 0.0);
        let class = if gain >= 0.0 { "a" } else { "b" };
        let style =
            format!("class=\"{class}\" style=\"--s:{:.2}\"", strength(gain.abs(), LOUDEST_DIFFERENCE));
        let text =
            format!("{:?}: {} {:.3} nats, {} {:.3} nats", of_a.token, a.0, nats(of_a), b.0, nats(of_b));
        spans.push_str(if of_a.apart { " " } else { "" });
        spans.push_str(&span(&of_a.token, &style, &text));
    }
    format!(
        "<div class=\"card\"><h3>Where each wins</h3>\n<p class=\"soft\">Blue: {} is less surprised ({won} tokens). Orange: {} \
         is ({lost} tokens). Full colour: {LOUDEST_DIFFERENCE} nats and more.</p>\n<div class=\"heat diff\">{spans}</div></div>\n",
        escape(a.0),
        escape(b.0)
    )
}

fn strength(nats: f64, loudest: f64) -> f64 {
    0.85 * (nats / loudest).clamp(0.0, 1.0)
}

fn span(token: &str, attributes: &str, tip: &str) -> String {
    let shown = match token {
        "\n" => "⏎\n".to_owned(),
        other => other.replace('\t', "⇥"),
    };
    format!("<span {attributes} title=\"{}\">{}</span>", escape(tip), escape(&shown))
}

fn tip(place: &Place) -> String {
    let mut text = match place.nats {
        None => format!("{:?}: held impossible", place.token),
        Some(nats) => format!(
            "{:?}: {nats:.3} nats, {:.3} bits, q = {:.4}",
            place.token,
            nats / std::f64::consts::LN_2,
            (-nats).exp()
        ),
    };
    for (index, (token, q)) in place.likeliest.iter().enumerate() {
        text.push_str(if index == 0 { "\nexpected " } else { ", " });
        text.push_str(&format!("{token:?} {:.0} %", 100.0 * q));
    }
    text
}

/// A text that a model wrote, and the training text that is nearest to it.
pub(super) fn sample(
    name: &str,
    sample: &str,
    tokenizer: &Tokenizer,
    train: &TokenText,
    val: &TokenText,
) -> String {
    let mut html = format!("<div class=\"card sample\"><h3>{}</h3>\n", escape(name));
    let ids = tokenizer.encode(sample).unwrap_or_default();
    let common = longest_common(&ids, &train.ids);
    let decode = |ids: &[u32]| tokenizer.decode(ids).unwrap_or_default();
    let (before, rest) = ids.split_at(common.start);
    let (shared, after) = rest.split_at(common.len);
    html.push_str(&format!(
        "<pre>{}<mark>{}</mark>{}</pre>\n",
        escape(&decode(before)),
        escape(&decode(shared)),
        escape(&decode(after))
    ));
    let own = longest_common(&val.ids[..val.ids.len().min(ids.len())], &train.ids).len;
    html.push_str(&format!(
        "<p class=\"soft\">The longest run that it shares with the training text has {} tokens (marked); a passage of the \
         validation text of the same length shares {own}. In the training text:</p>\n",
        common.len
    ));
    let from = common.at.saturating_sub(AROUND);
    let to = (common.at + common.len + AROUND).min(train.ids.len());
    html.push_str(&format!(
        "<pre>…{}<mark>{}</mark>{}…</pre></div>\n",
        escape(&decode(&train.ids[from..common.at])),
        escape(&decode(&train.ids[common.at..common.at + common.len])),
        escape(&decode(&train.ids[common.at + common.len..to]))
    ));
    html
}
