//! Parts shared by reports of runs and comparisons: calibration, surprisal heatmaps, samples.

use maud::{Markup, html};
use surprisal_engine::text::many;

use super::memorization::longest_common_substring;
use super::plot::{self, MIN_BIN_TOKENS};
use surprisal_engine::compare::diagnostics::{
    CalibrationSummary, Diagnostics, ReliabilityBin, TokenSurprisal, WithTemperature,
};
use surprisal_engine::data::Dataset;
use surprisal_engine::error::Result;

/// The surprisal, in nats, with the strongest colour.
const MAX_SHOWN_NATS: f64 = 6.0;
/// The difference in surprisal, in nats, with the strongest colour.
const MAX_SHOWN_DIFFERENCE: f64 = 3.0;
/// The smallest saving, in nats per token, that makes a correction worthwhile: 0.05 % of
/// perplexity.
const MIN_SAVED_NATS: f64 = 5e-4;
/// Tokens of training text shown before and after the common substring.
const CONTEXT_TOKENS: usize = 60;

/// The first `digits` hexadecimal digits of a BLAKE3 hash.
pub(super) fn hash(bytes: &[u8], digits: usize) -> String {
    format!("{}…", &blake3::hash(bytes).to_hex().as_str()[..digits])
}

/// A card with a model's reliability diagram and the histogram of the entropy of its predictions.
pub(super) fn calibration(name: &str, measure: &Diagnostics, vocab_size: usize) -> Result<Markup> {
    let most = (vocab_size as f64).ln();
    Ok(html! {
        div.card.calibration {
            h3 { (name) }
            @if let Some(calibration) = &measure.calibration {
                figure.small { (diagram(calibration)?) }
                p.soft { (in_words(calibration)) }
            }
            figure.small {
                (plot::histogram(&measure.entropy_histogram, most, "entropy of the prediction, nats")?)
                figcaption {
                    (format!("Mean entropy of its predictions: {:.3} nats, of ln |V| = {most:.3}.", measure.entropy))
                }
            }
        }
    })
}

/// A reliability diagram with its legend and the calibration in words.
pub(super) fn reliability(calibration: &CalibrationSummary) -> Result<Markup> {
    Ok(html! {
        figure.small { (diagram(calibration)?) }
        (calibration_legend())
        p { (in_words(calibration)) }
    })
}

fn diagram(calibration: &CalibrationSummary) -> Result<Markup> {
    let mut series = vec![merge_small_bins(&calibration.gaps.reliability)];
    series.extend(calibration.scaled.as_ref().map(|scaled| merge_small_bins(&scaled.gaps.reliability)));
    plot::reliability(&series)
}

/// Merges bins of few tokens with the next bin until they have enough; a small last bin is merged
/// into the one before.
fn merge_small_bins(bins: &[ReliabilityBin]) -> Vec<ReliabilityBin> {
    let mut groups: Vec<ReliabilityBin> = Vec::new();
    for &bin in bins {
        match groups.last_mut() {
            Some(last) if last.count < MIN_BIN_TOKENS => *last = merge_bins(*last, bin),
            _ => groups.push(bin),
        }
    }
    if let [.., before, last] = groups.as_mut_slice()
        && last.count < MIN_BIN_TOKENS
    {
        *before = merge_bins(*before, *last);
        groups.pop();
    }
    groups
}

fn merge_bins(a: ReliabilityBin, b: ReliabilityBin) -> ReliabilityBin {
    let count = a.count + b.count;
    let mean = |x: f64, y: f64| (x * a.count as f64 + y * b.count as f64) / count as f64;
    let (confidence, accuracy) = (mean(a.confidence, b.confidence), mean(a.accuracy, b.accuracy));
    ReliabilityBin { confidence, accuracy, count }
}

fn in_words(calibration: &CalibrationSummary) -> String {
    let before = format!(
        "ECE {:.2} % (equal mass {:.2} %), Brier {:.4}",
        100.0 * calibration.gaps.ece,
        100.0 * calibration.gaps.ece_equal_mass,
        calibration.gaps.brier
    );
    match &calibration.scaled {
        None => format!("{before}. A token that occurred had probability zero: no temperature helps."),
        Some(scaled) => format!(
            "{before}; at temperature {:.3} ECE {:.2} % (equal mass {:.2} %), Brier {:.4}. {}",
            scaled.temperature,
            100.0 * scaled.gaps.ece,
            100.0 * scaled.gaps.ece_equal_mass,
            scaled.gaps.brier,
            verdict(scaled, calibration.tokens)
        ),
    }
}

/// The verdict on a fitted temperature, by its saving on the half of the text that it was not
/// fitted to.
fn verdict(scaled: &WithTemperature, tokens: usize) -> String {
    let saved = scaled.nats_before - scaled.nats_after;
    // Half of 3.84 (χ², 95 %): one fitted number saves as much on so many tokens by chance.
    let chance = 1.92 / tokens as f64;
    if saved < chance {
        return "No correction is worthwhile: on the other half it saves no more than by chance.".to_owned();
    }
    if saved < MIN_SAVED_NATS {
        return format!("No correction is worthwhile: it saves only {saved:.5} nats per token.");
    }
    let sure = if scaled.temperature > 1.0 {
        "Above 1: the model is overconfident"
    } else {
        "Below 1: the model is underconfident"
    };
    format!("{sure}; the correction saves {saved:.4} nats per token.")
}

/// The legend of calibration cards.
pub(super) fn calibration_legend() -> Markup {
    let names = ["unchanged", "with the temperature fitted on the first half", "perfectly calibrated"];
    html! {
        (plot::reliability_legend(names))
        p.soft {
            "Larger dots have more tokens; the line through a dot is the 95 % confidence interval of its accuracy. Bins of fewer \
             than " (MIN_BIN_TOKENS) " tokens are merged with their neighbours. Expected calibration error (ECE): the difference between confidence \
             and accuracy, on average over the tokens, in bins of equal width or of equal mass (the same number of tokens \
             each). Brier: the mean squared error of all probabilities."
        }
    }
}

/// A passage with the surprisal of one or two models as colours, and with two their difference.
pub(super) fn surprisal_heatmap(
    a: (&str, &[TokenSurprisal]),
    b: Option<(&str, &[TokenSurprisal])>,
) -> Markup {
    let is_same = |(x, y): (&TokenSurprisal, &TokenSurprisal)| x.token == y.token;
    let b_of_same = b.filter(|b| a.1.len() == b.1.len() && a.1.iter().zip(b.1).all(is_same));
    html! {
        p.soft {
            "0 "
            span.ramp { @for nats in 0..=6 { i style=(strength(f64::from(nats), MAX_SHOWN_NATS)) {} } }
            " " (MAX_SHOWN_NATS) " nats or more"
        }
        div.pair {
            @for (name, places) in [Some(a), b].into_iter().flatten() {
                div.card {
                    h3 { (name) }
                    div.heat { @for place in places { (token(place, None, nats(place), MAX_SHOWN_NATS, &tooltip(place))) } }
                }
            }
        }
        @if let Some(b) = b_of_same { (difference(a, b)) }
    }
}

fn difference(a: (&str, &[TokenSurprisal]), b: (&str, &[TokenSurprisal])) -> Markup {
    // Two infinite surprisals do not differ.
    let gain = |of_a: &TokenSurprisal, of_b: &TokenSurprisal| match (of_a.nats, of_b.nats) {
        (None, None) => 0.0,
        _ => nats(of_b) - nats(of_a),
    };
    let pairs: Vec<(&TokenSurprisal, &TokenSurprisal, f64)> =
        a.1.iter().zip(b.1).map(|(of_a, of_b)| (of_a, of_b, gain(of_a, of_b))).collect();
    let count = |wins: fn(f64) -> bool| pairs.iter().filter(|pair| wins(pair.2)).count() as u64;
    html! {
        div.card {
            h3 { "Where each model is better" }
            p.soft {
                "Blue: " (a.0) " has the lower surprisal (" (many(count(|gain| gain > 0.0), "token")) "). Orange: " (b.0) " has it ("
                (many(count(|gain| gain < 0.0), "token")) "). Full colour: " (MAX_SHOWN_DIFFERENCE) " nats or more."
            }
            div.heat.diff {
                @for (of_a, of_b, gain) in &pairs {
                    @let tip = format!("{:?}: {} {:.3} nats, {} {:.3} nats", of_a.token, a.0, nats(of_a), b.0, nats(of_b));
                    @let class = if *gain >= 0.0 { "a" } else { "b" };
                    (token(of_a, Some(class), gain.abs(), MAX_SHOWN_DIFFERENCE, &tip))
                }
            }
        }
    }
}

fn nats(place: &TokenSurprisal) -> f64 {
    place.nats.unwrap_or(f64::INFINITY)
}

/// The CSS colour strength of a surprisal or difference.
fn strength(nats: f64, loudest: f64) -> String {
    format!("--s:{:.2}", 0.85 * (nats / loudest).clamp(0.0, 1.0))
}

/// A coloured token with a tooltip.
fn token(place: &TokenSurprisal, class: Option<&str>, nats: f64, loudest: f64, tip: &str) -> Markup {
    let shown = match place.token.as_str() {
        "\n" => "⏎\n".to_owned(),
        other => other.replace('\t', "⇥"),
    };
    html! {
        @if place.space_before { " " }
        span class=[class] style=(strength(nats, loudest)) title=(tip) { (shown) }
    }
}

fn tooltip(place: &TokenSurprisal) -> String {
    let mut text = match place.nats {
        None => format!("{:?}: probability zero", place.token),
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

/// A sample, with the part of the training text that it shares the most with.
pub(super) fn sample(name: &str, sample: &str, data: &Dataset) -> Markup {
    let Dataset { tokenizer, train, val, .. } = data;
    let decode = |ids: &[u32]| tokenizer.decode(ids);
    let marked = |ids: &[u32], start: usize, len: usize| {
        let (before, rest) = ids.split_at(start);
        let (shared, after) = rest.split_at(len);
        html! { (decode(before)) mark { (decode(shared)) } (decode(after)) }
    };
    let ids = tokenizer.encode(sample).unwrap_or_default();
    let common = longest_common_substring(&ids, &train.ids);
    let own = longest_common_substring(&val.ids[..val.ids.len().min(ids.len())], &train.ids).len;
    let from = common.at.saturating_sub(CONTEXT_TOKENS);
    let to = (common.at + common.len + CONTEXT_TOKENS).min(train.ids.len());
    html! {
        div.card.sample {
            h3 { (name) }
            @if decode(&ids) == sample {
                pre { (marked(&ids, common.start, common.len)) }
                p.soft {
                    "The longest substring shared with the training text has " (many(common.len as u64, "token"))
                    " (marked); for a passage of the validation text of the same length it has " (own) ". In the training text:"
                }
                pre { "…" (marked(&train.ids[from..to], common.at - from, common.len)) "…" }
            } @else {
                // Its tokens are not those of the encoded text, mostly because of unknown tokens,
                // so they cannot be compared.
                pre { (sample) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use surprisal_engine::compare::diagnostics::CalibrationErrors;

    use super::*;

    fn bin(confidence: f64, accuracy: f64, count: usize) -> ReliabilityBin {
        ReliabilityBin { confidence, accuracy, count }
    }

    #[test]
    fn bins_of_few_tokens_are_joined_and_none_is_lost() {
        let bins = [bin(0.1, 0.0, 5), bin(0.2, 0.5, 15), bin(0.3, 0.25, 40), bin(0.9, 1.0, 3)];
        let groups = merge_small_bins(&bins);
        assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [20, 43]);
        assert!((groups[0].confidence - 0.175).abs() < 1e-12 && (groups[0].accuracy - 0.375).abs() < 1e-12);
        assert!((groups[1].accuracy - 13.0 / 43.0).abs() < 1e-12);
        assert_eq!(merge_small_bins(&[bin(0.5, 1.0, 3)])[0].count, 3, "all there is");
        assert!(merge_small_bins(&[]).is_empty());
    }

    fn scaled(temperature: f64, saved: f64) -> WithTemperature {
        WithTemperature {
            temperature,
            nats_before: 2.0,
            nats_after: 2.0 - saved,
            gaps: CalibrationErrors { ece: 0.01, ece_equal_mass: 0.01, brier: 0.5, reliability: Vec::new() },
            saved: None,
        }
    }

    #[test]
    fn a_temperature_is_judged_by_what_it_saves() {
        let timid = verdict(&scaled(0.999, 1e-6), 100_000);
        assert!(timid.starts_with("No correction is worthwhile") && timid.contains("chance"), "{timid}");
        // So much from so few tokens is chance, and so little from many is too little.
        assert!(verdict(&scaled(1.3, 0.01), 100).contains("no more than by chance"));
        assert!(verdict(&scaled(1.01, 1e-4), 1_000_000).contains("only 0.00010"));
        assert!(verdict(&scaled(0.9, -0.01), 1000).starts_with("No correction"), "the halves differ");
        assert_eq!(
            verdict(&scaled(1.3, 0.0213), 10_000),
            "Above 1: the model is overconfident; the correction saves 0.0213 nats per token."
        );
        assert!(verdict(&scaled(0.8, 0.02), 10_000).starts_with("Below 1: the model is underconfident"));
    }
}
