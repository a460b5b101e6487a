//! Dynamic evaluation: a network takes a step of gradient descent on each segment of a text after
//! it has scored it (Krause et al. 2018, "Dynamic evaluation of neural sequence models").

use surprisal_loss::{IGNORE_INDEX, ObjectiveConfig};
use surprisal_model::LanguageModel;
use surprisal_model::neural::{NeuralLm, Windows};
use surprisal_ops::Precision;
use surprisal_platform::threads::Pool;
use surprisal_text::{Batch, TokenText};

use crate::config::{Optim, OptimKind};
use crate::error::Result;
use crate::train::objective::ConfiguredObjective;
use crate::train::optimiser::Optimiser;
use crate::train::step::{Hidden, Step};
use crate::train::weights::{restore, weights};

/// A network that learns from what it has scored. Its weights are put back by [`Self::end`].
pub(crate) struct DynamicEvaluation<'a> {
    lm: &'a NeuralLm,
    rate: f64,
    optimiser: Optimiser,
    objective: ConfiguredObjective,
    original: Vec<Vec<f32>>,
    pool: &'a Pool,
}

impl<'a> DynamicEvaluation<'a> {
    /// Of `lm`, at a learning rate above 0; `None` for a network whose state is carried from window
    /// to window: its weights stay.
    pub(crate) fn new(lm: &'a NeuralLm, rate: f64, pool: &'a Pool) -> Result<Option<Self>> {
        if lm.neural.windows() != Windows::Shuffled || rate <= 0.0 {
            return Ok(None);
        }
        // Adam's division by the mean square of the gradients is the RMS rule of the paper.
        let settings = Optim {
            kind: OptimKind::AdamW,
            lr: rate,
            betas: [0.9, 0.999],
            weight_decay: 0.0,
            ema: 0.0,
            ..Optim::default()
        };
        let (plain, text) = (ObjectiveConfig::default(), TokenText::default());
        Ok(Some(Self {
            lm,
            rate,
            optimiser: Optimiser::new(&lm.neural, &settings, Precision::F32, 1)?,
            objective: ConfiguredObjective::new(&plain, &text, lm.vocab_size(), pool)?,
            original: weights(&lm.neural)?,
            pool,
        }))
    }

    /// Visits the index of each of `tokens[from..]` and ln q of every token there, before anything
    /// is learnt from it.
    pub(crate) fn each_distribution(
        &mut self,
        tokens: &[u32],
        from: usize,
        visit: &mut (dyn FnMut(usize, &[f64]) + Send),
    ) -> Result<()> {
        let block_size = self.lm.neural.config().block_size();
        let mut start = from;
        while start < tokens.len() {
            let end = tokens.len().min(start + block_size.div_ceil(2));
            // The last token of a window is a target only.
            let first = end.saturating_sub(block_size + 1).min(start);
            self.pool.install(|| {
                let mut seen = |i: usize, row: &[f64]| visit(first + i, row);
                self.lm.for_each_distribution(&tokens[first..end], start - first, &mut seen)
            })?;
            self.learn(&tokens[first..end], start - first)?;
            start = end;
        }
        Ok(())
    }

    /// Takes a step on the mean loss of `window[from..]`.
    fn learn(&mut self, window: &[u32], from: usize) -> Result<()> {
        let Some((_, inputs)) = window.split_last().filter(|(_, inputs)| !inputs.is_empty()) else {
            return Ok(());
        };
        let mut targets = window[1..].to_vec();
        targets[..from.saturating_sub(1)].fill(IGNORE_INDEX);
        let targets_count = targets.len() - from.saturating_sub(1);
        let cols = inputs.len();
        let batch = Batch { inputs: inputs.to_vec(), targets, rows: 1, cols, targets_count, begins: true };
        let step = Step {
            neural: &self.lm.neural,
            objective: &self.objective,
            precision: Precision::F32,
            pool: self.pool,
            team: None,
        };
        let (seed, mut hidden) = (self.optimiser.step as u64, Hidden::new(Windows::Shuffled, 1));
        step.gradients(&[batch], seed, &mut self.optimiser.gradients, &mut hidden)?;
        let norm = self.optimiser.gradient_norm(&self.lm.neural, self.pool)?;
        self.optimiser.update(&self.lm.neural, self.rate, norm, self.pool)
    }

    /// Puts the weights back.
    pub(crate) fn end(self) -> Result<()> {
        restore(&self.lm.neural, &self.original)
    }
}

#[cfg(test)]
mod tests {
    use surprisal_model::neural::{Neural, NeuralConfig, TransformerConfig};

    use super::*;
    use crate::rng::{RngStream, rng_for};

    fn network() -> NeuralLm {
        let config = TransformerConfig { n_layer: 1, n_head: 2, n_embd: 8, ..TransformerConfig::default() };
        let config = NeuralConfig::Transformer(config).sized(5, 8);
        let neural = Neural::new(&config, &mut rng_for(1, RngStream::Init)).unwrap();
        NeuralLm { neural, stride: 4 }
    }

    fn rows(lm: &NeuralLm, tokens: &[u32], from: usize, threads: usize) -> Vec<(usize, Vec<f64>)> {
        let pool = Pool::new(threads).unwrap();
        let mut dynamic = DynamicEvaluation::new(lm, 0.01, &pool).unwrap().unwrap();
        let mut rows = Vec::new();
        let visit = &mut |i: usize, row: &[f64]| rows.push((i, row.to_vec()));
        dynamic.each_distribution(tokens, from, visit).unwrap();
        dynamic.end().unwrap();
        rows
    }

    #[test]
    fn each_token_is_scored_before_it_is_learnt_and_the_weights_come_back() {
        let lm = network();
        let before = weights(&lm.neural).unwrap();
        let tokens: Vec<u32> = (0..101_u32).map(|i| i * i % 5).collect();
        for from in [0, 1, 3] {
            let whole = rows(&lm, &tokens, from, 2);
            assert!(whole.iter().map(|(i, _)| *i).eq(from..tokens.len()));
            for (_, row) in &whole {
                assert!((row.iter().map(|log_prob| log_prob.exp()).sum::<f64>() - 1.0).abs() < 1e-6);
            }
            // No distribution depends on its own token or a later one, nor on threads.
            let mut other = tokens.clone();
            other[60..].fill(4);
            assert_eq!(rows(&lm, &other, from, 1)[..61 - from], whole[..61 - from]);
            assert_eq!(weights(&lm.neural).unwrap(), before);
        }
        // The text has a period, which is learnt.
        let nats = |rows: &[(usize, Vec<f64>)], part: std::ops::Range<usize>| -> f64 {
            part.map(|i| -rows[i - 1].1[tokens[i] as usize]).sum()
        };
        let dynamic = rows(&lm, &tokens, 1, 2);
        let mut frozen = Vec::new();
        lm.for_each_distribution(&tokens, 1, &mut |i, row| frozen.push((i, row.to_vec()))).unwrap();
        assert_eq!(dynamic[..4], frozen[..4]);
        assert!(nats(&dynamic, 60..100) < nats(&frozen, 60..100) - 5.0);
    }
}
