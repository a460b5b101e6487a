//! What reports of runs and of comparisons share: calibration cards, coloured passages, samples.

use surprisal_text::{TokenText, Tokenizer, many};

use super::memory::longest_common;
use super::page::escape;
use super::plot::{self, FEWEST, Group};
use crate::compare::measure::{Calibrated, Measure, Place, ReliabilityBin, Scaled};
use crate::failure::Result;

/// Surprise that is coloured as strongly as can be, in nats.
const LOUDEST: f64 = 6.0;
/// A difference that is.
const LOUDEST_DIFFERENCE: f64 = 3.0;
/// Nats a token below which a correction is not worth making: a twentieth of a percent of perplexity.
const WORTH: f64 = 5e-4;
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
    let figure = plot::histogram(&measure.entropies, most, "entropy of the prediction, nats")?;
    html.push_str(&format!(
        "<figure class=\"small\">{figure}<figcaption>Mean entropy of its predictions: {:.3} nats, of ln |V| = {most:.3}.\
         </figcaption></figure></div>\n",
        measure.entropy
    ));
    Ok(html)
}

fn diagram(calibration: &Calibrated) -> Result<String> {
    let mut series = vec![joined(&calibration.reliability)];
    series.extend(calibration.scaled.as_ref().map(|scaled| joined(&scaled.reliability)));
    plot::reliability(&series)
}

/// Bins in order, those of few tokens joined with the next until they are enough; what is left over goes to the last.
fn joined(bins: &[ReliabilityBin]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for bin in bins {
        let bin = Group { confidence: bin.confidence, accuracy: bin.accuracy, count: bin.count };
        match groups.last_mut() {
            Some(last) if last.count < FEWEST => *last = together(*last, bin),
            _ => groups.push(bin),
        }
    }
    if let [.., before, last] = groups.as_mut_slice()
        && last.count < FEWEST
    {
        *before = together(*before, *last);
        groups.pop();
    }
    groups
}

fn together(a: Group, b: Group) -> Group {
    let count = a.count + b.count;
    let mean = |x: f64, y: f64| (x * a.count as f64 + y * b.count as f64) / count as f64;
    Group { confidence: mean(a.confidence, b.confidence), accuracy: mean(a.accuracy, b.accuracy), count }
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
            verdict(scaled, calibration.tokens)
        ),
    }
}

/// What the temperature says of the model, by what it saves on the half of the text that it was not fitted to.
fn verdict(scaled: &Scaled, tokens: usize) -> String {
    let saved = scaled.nats_before - scaled.nats_after;
    // Half of 3.84: below this, a number fitted to so many tokens saves as much by chance (χ², 95 %).
    let chance = 1.92 / tokens as f64;
    if saved < chance {
        return "No correction worth making: on the other half it saves no more than chance would."
            .to_owned();
    }
    if saved < WORTH {
        return format!(
            "No correction worth making: it saves {saved:.5} nats a token, too little to matter."
        );
    }
    let sure = if scaled.temperature > 1.0 {
        "Above 1: it was too sure of itself"
    } else {
        "Below 1: it was too timid"
    };
    format!("{sure}; the correction saves {saved:.4} nats a token.")
}

/// What the marks of the calibration cards are, and their words.
pub(super) fn calibration_key() -> String {
    let key = plot::reliability_key([
        "as it is",
        "with the temperature fitted on the first half",
        "as often right as it says",
    ]);
    format!(
        "{key}<p class=\"soft\">The larger a dot, the more tokens; the line through it: where its accuracy may lie by chance (95 %). \
         Bins of fewer than {FEWEST} tokens are joined with their neighbours. Expected calibration error (ECE): how far confidence \
         and accuracy are apart, on average over the tokens, in bins of equal width or of equal mass (as many tokens each). \
         Brier: the mean squared error of all probabilities.</p>\n"
    )
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
        won += u64::from(gain > 0.0);
        lost += u64::from(gain < 0.0);
        let class = if gain >= 0.0 { "a" } else { "b" };
        let style =
            format!("class=\"{class}\" style=\"--s:{:.2}\"", strength(gain.abs(), LOUDEST_DIFFERENCE));
        let text =
            format!("{:?}: {} {:.3} nats, {} {:.3} nats", of_a.token, a.0, nats(of_a), b.0, nats(of_b));
        spans.push_str(if of_a.apart { " " } else { "" });
        spans.push_str(&span(&of_a.token, &style, &text));
    }
    format!(
        "<div class=\"card\"><h3>Where each wins</h3>\n<p class=\"soft\">Blue: {} is less surprised ({}). Orange: {} is \
         ({}). Full colour: {LOUDEST_DIFFERENCE} nats and more.</p>\n<div class=\"heat diff\">{spans}</div></div>\n",
        escape(a.0),
        many(won, "token"),
        escape(b.0),
        many(lost, "token")
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
    if decode(&ids) != sample {
        // What was drawn is not what its text is read as, unknown tokens most of all: nothing to compare.
        return format!("{html}<pre>{}</pre></div>\n", escape(sample));
    }
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
        "<p class=\"soft\">The longest run that it shares with the training text has {} (marked); a passage of the \
         validation text of the same length shares {own}. In the training text:</p>\n",
        many(common.len as u64, "token")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(confidence: f64, accuracy: f64, count: usize) -> ReliabilityBin {
        ReliabilityBin { confidence, accuracy, count }
    }

    #[test]
    fn bins_of_few_tokens_are_joined_and_none_is_lost() {
        let bins = [bin(0.1, 0.0, 5), bin(0.2, 0.5, 15), bin(0.3, 0.25, 40), bin(0.9, 1.0, 3)];
        let groups = joined(&bins);
        assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [20, 43]);
        assert!((groups[0].confidence - 0.175).abs() < 1e-12 && (groups[0].accuracy - 0.375).abs() < 1e-12);
        assert!((groups[1].accuracy - 13.0 / 43.0).abs() < 1e-12);
        assert_eq!(joined(&[bin(0.5, 1.0, 3)])[0].count, 3, "all there is");
        assert!(joined(&[]).is_empty());
    }

    fn scaled(temperature: f64, saved: f64) -> Scaled {
        Scaled {
            temperature,
            nats_before: 2.0,
            nats_after: 2.0 - saved,
            ece: 0.01,
            ece_equal_mass: 0.01,
            brier: 0.5,
            reliability: Vec::new(),
            saved: None,
        }
    }

    #[test]
    fn a_temperature_is_judged_by_what_it_saves() {
        let timid = verdict(&scaled(0.999, 1e-6), 100_000);
        assert!(timid.starts_with("No correction worth making") && timid.contains("chance"), "{timid}");
        // So much from so few tokens is chance, and so little from many is too little.
        assert!(verdict(&scaled(1.3, 0.01), 100).contains("no more than chance"));
        assert!(verdict(&scaled(1.01, 1e-4), 1_000_000).contains("too little to matter"));
        assert!(verdict(&scaled(0.9, -0.01), 1000).starts_with("No correction"), "the halves differ");
        assert_eq!(
            verdict(&scaled(1.3, 0.0213), 10_000),
            "Above 1: it was too sure of itself; the correction saves 0.0213 nats a token."
        );
        assert!(verdict(&scaled(0.8, 0.02), 10_000).starts_with("Below 1: it was too timid"));
    }
}
