//! Counting is learning: the grid of pairs, learnt by gradient descent step by step.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{App, Ask};
use crate::bigrams::Bigrams;
use crate::problem::Result;
use crate::stream::{Next, Stream};

/// Steps between frames.
const STEPS_PER_FRAME: usize = 10;
/// Steps after which a descent ends.
const MOST_STEPS: usize = 4000;

/// A table of logits that learns the pairs of a text, all of them at every step.
#[derive(Debug)]
struct Descent {
    bigrams: Arc<Bigrams>,
    /// The logits, row by row; they start at zero, where every row is uniform.
    z: Vec<f64>,
    lr: f64,
    epsilon: f64,
    k: f64,
    step: usize,
}

/// ln of the sum of e^z, and the softmax of `z`.
fn softmax(z: &[f64]) -> (f64, Vec<f64>) {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| (z - max).exp()).sum();
    let lse = max + sum.ln();
    (lse, z.iter().map(|z| (z - lse).exp()).collect())
}

impl Descent {
    fn new(bigrams: Arc<Bigrams>, lr: f64, epsilon: f64, k: f64) -> Self {
        let z = vec![0.0; bigrams.pairs.len()];
        Self { bigrams, z, lr, epsilon, k, step: 0 }
    }

    /// Descends the gradient of the mean −Σ p' ln q, which is q − p' times the share of the row,
    /// with p' = (1 − ε) p + ε / |V|.
    fn descend(&mut self) {
        let (width, all) = (self.bigrams.width(), self.bigrams.totals.iter().sum::<f64>());
        let rows = self.z.chunks_mut(width).zip(self.bigrams.pairs.chunks(width));
        for ((z, pairs), &total) in rows.zip(&self.bigrams.totals).filter(|(_, total)| **total > 0.0) {
            let (_, q) = softmax(z);
            let rate = self.lr * total / all;
            for ((z, q), pair) in z.iter_mut().zip(q).zip(pairs) {
                let target = (1.0 - self.epsilon) * pair / total + self.epsilon / width as f64;
                *z -= rate * (q - target);
            }
        }
        self.step += 1;
    }

    /// The learnt grid with its mean loss, and its KL divergence from the counted grid and from the
    /// one with k added to every count.
    fn frame(&self) -> Value {
        let (width, all) = (self.bigrams.width(), self.bigrams.totals.iter().sum::<f64>());
        let (mut loss, mut kl, mut kl_add_k, mut grid) = (0.0, 0.0, 0.0, Vec::new());
        let rows = self.z.chunks(width).zip(self.bigrams.pairs.chunks(width));
        for ((z, pairs), &total) in rows.zip(&self.bigrams.totals) {
            let (lse, q) = softmax(z);
            for (&z, &pair) in z.iter().zip(pairs).filter(|_| total > 0.0) {
                let (nats, counted) = (lse - z, pair / total);
                let added = (pair + self.k) / (total + self.k * width as f64);
                if pair > 0.0 {
                    loss += pair / all * nats;
                    kl += pair / all * (counted.ln() + nats);
                }
                if added > 0.0 {
                    kl_add_k += total / all * added * (added.ln() + nats);
                }
            }
            grid.push(q);
        }
        json!({
            "step": self.step, "loss": loss, "kl": kl.max(0.0), "kl_add_k": kl_add_k.max(0.0), "q": grid,
            "done": self.step >= MOST_STEPS,
        })
    }
}

fn descent(app: &App, ask: &Ask) -> Result<Descent> {
    let bigrams = app.bigrams(&app.text_id(ask))?;
    let lr = ask.query.number("lr", 10.0, 0.01..=20.0)?;
    let epsilon = ask.query.number("epsilon", 0.0, 0.0..=0.9)?;
    let k = ask.query.number("k", 0.0, 0.0..=1e6)?;
    Ok(Descent::new(bigrams, lr, epsilon, k))
}

/// Frames of a descent from the start.
pub(crate) fn stream(app: &App, ask: &Ask) -> Result<Stream> {
    let mut descent = descent(app, ask)?;
    let mut is_first = true;
    Ok(Stream::new(move |_| {
        if descent.step >= MOST_STEPS {
            return Next::End;
        }
        // The first frame is the uniform grid.
        if !std::mem::take(&mut is_first) {
            (0..STEPS_PER_FRAME).for_each(|_| descent.descend());
        }
        Next::Event(descent.frame().to_string())
    }))
}

/// The grid after `steps` steps, with the counted grid, and for every row the k whose smoothing ε
/// is.
pub(crate) fn state(app: &App, ask: &Ask) -> Result<Value> {
    let mut descent = descent(app, ask)?;
    let steps = ask.query.whole("steps", 0, 0..=MOST_STEPS)?;
    (0..steps).for_each(|_| descent.descend());
    let mut frame = descent.frame();
    let bigrams = &descent.bigrams;
    let width = bigrams.width();
    let row = |(pairs, &total): (&[f64], &f64)| -> Vec<f64> {
        pairs.iter().map(|pair| if total > 0.0 { pair / total } else { 1.0 / width as f64 }).collect()
    };
    // (c + k) / (C + k |V|) = (1 − ε) c / C + ε / |V| where ε = k |V| / (C + k |V|).
    let same_k = |&total: &f64| descent.epsilon * total / (width as f64 * (1.0 - descent.epsilon));
    let fields = json!({
        "names": bigrams.names, "totals": bigrams.totals,
        "counted": bigrams.pairs.chunks(width.max(1)).zip(&bigrams.totals).map(row).collect::<Vec<_>>(),
        "same_k": bigrams.totals.iter().map(same_k).collect::<Vec<_>>(),
    });
    if let (Some(frame), Value::Object(fields)) = (frame.as_object_mut(), fields) {
        frame.extend(fields);
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use surprisal_engine::loss::reference::{Targets, cross_entropy};
    use surprisal_engine::loss::{CrossEntropy, Reduction};
    use surprisal_engine::model::ngram::Counts;

    use super::*;

    fn bigrams() -> Arc<Bigrams> {
        let pairs = vec![6.0, 2.0, 0.0, 1.0, 0.0, 3.0, 2.0, 2.0, 4.0];
        Arc::new(Bigrams {
            counts: Counts::new(&[0, 1], 3, 2, None).unwrap(),
            shown: vec![0, 1, 2],
            names: ["a", "b", "c"].map(str::to_owned).into(),
            totals: pairs.chunks(3).map(|row| row.iter().sum()).collect(),
            pairs,
        })
    }

    #[test]
    fn a_step_follows_the_reference_gradient() {
        let mut descent = Descent::new(bigrams(), 2.0, 0.3, 0.0);
        descent.z = vec![0.3, -0.2, 0.1, 1.0, 0.0, -1.0, 0.5, 0.5, 0.2];
        let before = descent.z.clone();
        descent.descend();
        let options = CrossEntropy::new().label_smoothing(0.3).unwrap().reduction(Reduction::None);
        let shares: Vec<f64> = descent.bigrams.totals.iter().map(|total| total / 20.0).collect();
        let rows = descent.bigrams.pairs.chunks(3).zip(&descent.bigrams.totals);
        let targets: Vec<f64> = rows.flat_map(|(row, total)| row.iter().map(move |c| c / total)).collect();
        let reference =
            cross_entropy(&options, &before, 3, Targets::Probabilities(&targets), &shares).unwrap();
        for ((after, before), gradient) in descent.z.iter().zip(&before).zip(&reference.gradient) {
            assert!((after - (before - 2.0 * gradient)).abs() < 1e-12);
        }
    }

    #[test]
    fn learning_ends_at_counting_and_with_smoothing_at_add_k() {
        let end = |epsilon: f64, k: f64| {
            let mut descent = Descent::new(bigrams(), 4.0, epsilon, k);
            let first = descent.frame()["kl"].as_f64().unwrap();
            (0..4000).for_each(|_| descent.descend());
            let frame = descent.frame();
            (first, frame["kl"].as_f64().unwrap(), frame["kl_add_k"].as_f64().unwrap())
        };
        let (first, kl, _) = end(0.0, 0.0);
        assert!(first > 0.2 && kl < 2e-3, "{first} {kl}");
        // With ε = 0.3 and rows of 8, 4 and 8 pairs, row 0 has k = 8/7.
        let (_, kl, same) = end(0.3, 8.0 / 7.0);
        assert!(kl > 0.02 && same < 0.01, "{kl} {same}");
    }
}
