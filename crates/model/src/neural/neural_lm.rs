//! A neural model as a distribution over the next token: by windows over a text, or, for a network
//! with a state, by one pass over it.

use std::ops::Range;
use std::sync::atomic::Ordering;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use surprisal_ops::Context;
use surprisal_ops::tensor_slice::read;

use super::state_session::StateSession;
use super::{Mode, Neural, Output, Windows};
use crate::{Error, LanguageModel, RecomputeSession, Result, Session, Visit, check_tokens, scored};

/// Tokens per scoring task, about: fixed, so that results do not depend on the number of threads.
const TOKENS_PER_TASK: usize = 2048;

/// Rows of logits that a task holds at a time, at least; of a small vocabulary more.
const ROWS: usize = 256;
/// Logits that a task may hold at a time, where they are more than [`ROWS`] rows.
const LOGITS: usize = 1 << 20;

/// A neural model that reads a text through windows of its block size.
///
/// The first window of a text scores `block_size` tokens. Each further window moves by
/// [`Self::stride`] tokens and scores those, so they have at least `block_size − stride` tokens of
/// context. The first token of a text has no context, which the model was never trained for, and
/// gets the uniform distribution; in line mode it is `<s>` and not scored.
///
/// A network with a state ([`Windows::Following`]) reads the text once, from its beginning, and has
/// no window: all tokens before a token are its context.
///
/// Windows are computed on the current rayon pool; results do not depend on its number of threads.
///
/// ```
/// # use rand::SeedableRng;
/// # use surprisal_model::{LanguageModel, neural::{BigramConfig, Neural, NeuralConfig, NeuralLm}};
/// # fn main() -> surprisal_model::Result<()> {
/// let config = NeuralConfig::Bigram(BigramConfig { vocab_size: 4, block_size: 8 });
/// let neural = Neural::new(&config, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1))?;
/// let log_probs = NeuralLm { neural, stride: 8 }.log_probs(&[2, 0, 1], 0)?;
/// assert!(log_probs.iter().all(|l| (l + 4f64.ln()).abs() < 1e-6)); // it has learned nothing yet
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NeuralLm {
    /// The model.
    pub neural: Neural,
    /// Tokens that the window moves by, from 1 to the block size; unused with a state.
    pub stride: usize,
}

/// Targets to score, with the tokens from `start` on as context.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: usize,
    targets: (usize, usize),
}

impl NeuralLm {
    /// Whether the network sees only the last `block_size` tokens.
    fn has_window(&self) -> bool {
        self.neural.windows() == Windows::Shuffled
    }

    /// The part of `context` that the next token is predicted from.
    fn seen<'a>(&self, context: &'a [u32]) -> &'a [u32] {
        let most = if self.has_window() { self.neural.config().block_size() } else { context.len() };
        &context[context.len().saturating_sub(most)..]
    }

    fn check_stop(&self) -> Result<()> {
        if self.neural.stop.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }

    /// Processes `tokens` from the start with a carried state, and calls `visit` for each i ≥
    /// `from.max(1)` with i and ln q(· | `tokens[..i]`).
    fn read_on(&self, tokens: &[u32], from: usize, mut visit: impl FnMut(usize, &[f32])) -> Result<()> {
        let (vocab_size, mut state, mut at) = (self.vocab_size(), None, 1);
        let (context, mode) = (Context::default(), Mode::Evaluate);
        while at < tokens.len() {
            self.check_stop()?;
            let end = tokens.len().min(at + TOKENS_PER_TASK);
            let ids = Tensor::from_slice(&tokens[at - 1..end - 1], (1, end - at), &Device::Cpu)?;
            let (output, after) = self.neural.forward_in(&context, &ids, state.as_deref(), &mode)?;
            let first = at.max(from);
            let starts: Vec<usize> = (first..end).step_by(ROWS).collect();
            let rows = |&start: &usize| log_softmax(&output, start - at, ROWS.min(end - start));
            let parts: Vec<Result<Tensor>> = starts.par_iter().map(rows).collect();
            for (start, part) in starts.into_iter().zip(parts) {
                read(&part?, |values| {
                    values.chunks_exact(vocab_size).zip(start..).for_each(|(row, i)| visit(i, row));
                })?;
            }
            (state, at) = (Some(after), end);
        }
        Ok(())
    }

    fn uniform(&self) -> f64 {
        -(self.vocab_size() as f64).ln()
    }

    /// Logits of the next token after `context`, which has at least one token.
    ///
    /// # Errors
    /// As [`LanguageModel::next_log_probs`].
    pub fn logits(&self, context: &[u32]) -> Result<Vec<f64>> {
        check_tokens(context, self.vocab_size())?;
        let row = self.seen(context);
        let ids = Tensor::from_slice(row, (1, row.len()), &Device::Cpu)?;
        let logits = self.neural.forward(&ids, &Mode::Evaluate)?.logits()?.detach();
        let last: Vec<f32> = logits.get(row.len().saturating_sub(1))?.to_vec1()?;
        Ok(last.into_iter().map(f64::from).collect())
    }

    /// The attention of each layer's heads after `context`, which has at least one token: for each
    /// head the weights with which the last token reads the tokens that the network sees, the
    /// last ones of `context`. None of a network without attention.
    ///
    /// # Errors
    /// As [`LanguageModel::next_log_probs`].
    pub fn attention(&self, context: &[u32]) -> Result<Vec<Vec<Vec<f32>>>> {
        check_tokens(context, self.vocab_size())?;
        let row = self.seen(context);
        if row.is_empty() {
            return Ok(Vec::new());
        }
        let ids = Tensor::from_slice(row, (1, row.len()), &Device::Cpu)?;
        let layers = self.neural.attention_weights(&ids)?;
        let last = |layer: &Tensor| Ok(layer.get(0)?.narrow(1, row.len() - 1, 1)?.squeeze(1)?.to_vec2()?);
        layers.iter().map(last).collect()
    }

    /// Start of the context of the token at `index`, in a text of `len` tokens scored from
    /// `from`.
    pub fn context(&self, len: usize, from: usize, index: usize) -> usize {
        if !self.has_window() {
            return 0;
        }
        self.windows(from, len)
            .iter()
            .find(|window| index < window.targets.1)
            .map_or(0, |window| window.start)
    }

    /// The windows that score `from.max(1)..len`.
    fn windows(&self, from: usize, len: usize) -> Vec<Window> {
        let block_size = self.neural.config().block_size();
        let stride = self.stride.clamp(1, block_size);
        let mut windows = Vec::new();
        let mut at = from.max(1);
        while at < len {
            let step = if at == 1 { block_size } else { stride };
            let end = len.min(at + step);
            // A token's input is the token before it.
            windows.push(Window { start: (end - 1).saturating_sub(block_size), targets: (at, end) });
            at = end;
        }
        windows
    }

    /// The network's output for `inputs` (B, T), all of one length: B·T rows.
    fn forward(&self, inputs: &[&[u32]]) -> Result<Output> {
        self.check_stop()?;
        let t = inputs.first().map_or(0, |row| row.len());
        let ids: Vec<u32> = inputs.iter().flat_map(|row| row.iter().copied()).collect();
        let ids = Tensor::from_vec(ids, (inputs.len(), t), &Device::Cpu)?;
        self.neural.forward(&ids, &Mode::Evaluate)
    }

    /// Windows of equal length, in tasks of a fixed size.
    fn tasks<'a>(&self, windows: &'a [Window]) -> Vec<&'a [Window]> {
        let most = (TOKENS_PER_TASK / self.neural.config().block_size()).max(1);
        windows
            .chunk_by(|a, b| a.targets.1 - a.start == b.targets.1 - b.start)
            .flat_map(|run| run.chunks(most))
            .collect()
    }

    /// Calls `visit` with every target of `windows`, whose inputs have one length, and its ln q(· |
    /// context). Logits are computed for targets alone, and a part at a time: of a large vocabulary
    /// they are most of the memory.
    fn score(&self, tokens: &[u32], windows: &[Window], mut visit: impl FnMut(u32, &[f32])) -> Result<()> {
        let inputs: Vec<&[u32]> = windows.iter().map(|w| &tokens[w.start..w.targets.1 - 1]).collect();
        let (t, vocab_size) = (inputs.first().map_or(0, |row| row.len()), self.vocab_size());
        let output = self.forward(&inputs)?;
        let mut targets = windows.iter().flat_map(|w| &tokens[w.targets.0..w.targets.1]);
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (row, window) in windows.iter().enumerate() {
            let first = row * t + window.targets.0 - 1 - window.start;
            match spans.last_mut() {
                Some(span) if span.end == first => span.end = (row + 1) * t,
                _ => spans.push(first..(row + 1) * t),
            }
        }
        let most = ROWS.max(LOGITS / vocab_size);
        for span in spans {
            for first in span.clone().step_by(most) {
                let part = log_softmax(&output, first, most.min(span.end - first))?;
                read(&part, |values| {
                    let rows = values.chunks_exact(vocab_size).zip(&mut targets);
                    rows.for_each(|(row, &target)| visit(target, row));
                })?;
            }
        }
        Ok(())
    }

    /// ln q of every target of `windows`.
    fn log_probs_of(&self, tokens: &[u32], windows: &[Window]) -> Result<Vec<f64>> {
        let mut scores = Vec::new();
        self.score(tokens, windows, |token, row| scores.push(f64::from(row[token as usize])))?;
        Ok(scores)
    }
}

/// ln q after `count` rows of `output`, from `first` on: (count, V).
fn log_softmax(output: &Output, first: usize, count: usize) -> Result<Tensor> {
    let logits = output.rows(first, count)?.logits_in(&Context::default().inference_mode())?;
    Ok(surprisal_ops::log_softmax(&logits)?)
}

impl LanguageModel for NeuralLm {
    fn vocab_size(&self) -> usize {
        self.neural.config().vocab_size()
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>> {
        scored(tokens, from, self.vocab_size())?;
        let mut scores = Vec::with_capacity(tokens.len() - from);
        if from == 0 && !tokens.is_empty() {
            scores.push(self.uniform());
        }
        if !self.has_window() {
            self.read_on(tokens, from, |i, row| scores.push(f64::from(row[tokens[i] as usize])))?;
            return Ok(scores);
        }
        let windows = self.windows(from, tokens.len());
        let tasks = self.tasks(&windows);
        let parts: Vec<Result<Vec<f64>>> =
            tasks.par_iter().map(|task| self.log_probs_of(tokens, task)).collect();
        for part in parts {
            scores.extend(part?);
        }
        Ok(scores)
    }

    fn for_each_distribution(&self, tokens: &[u32], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        /// Values of distributions in memory at once: fixed, as the tasks are.
        const VALUES: usize = 1 << 25;
        scored(tokens, from, self.vocab_size())?;
        if from == 0 && !tokens.is_empty() {
            visit(0, &vec![self.uniform(); self.vocab_size()]);
        }
        let mut row = vec![0.0; self.vocab_size()];
        let mut visit = |i: usize, values: &[f32]| {
            row.iter_mut().zip(values).for_each(|(wide, &value)| *wide = f64::from(value));
            visit(i, &row);
        };
        if !self.has_window() {
            return self.read_on(tokens, from, visit);
        }
        let windows = self.windows(from, tokens.len());
        let mut at = from.max(1);
        let tasks_at_once = (VALUES / TOKENS_PER_TASK / self.vocab_size()).clamp(2, 16);
        for tasks in self.tasks(&windows).chunks(tasks_at_once) {
            let rows = |task: &&[Window]| {
                let mut rows = Vec::new();
                self.score(tokens, task, |_, row| rows.extend_from_slice(row)).map(|()| rows)
            };
            let parts: Vec<Result<Vec<f32>>> = tasks.par_iter().map(rows).collect();
            for part in parts {
                for values in part?.chunks_exact(self.vocab_size()) {
                    visit(at, values);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn each_log_probs(&self, sequences: &[&[u32]], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        let block_size = if self.has_window() { self.neural.config().block_size() } else { TOKENS_PER_TASK };
        let mut scores = vec![Vec::new(); sequences.len()];
        // Sequences of one window and one length go through the model together.
        let mut short: Vec<usize> = Vec::new();
        for (i, tokens) in sequences.iter().enumerate() {
            if from >= 1 && tokens.len() > from && tokens.len() <= block_size + 1 {
                check_tokens(tokens, self.vocab_size())?;
                short.push(i);
            } else {
                scores[i] = self.log_probs(tokens, from)?;
            }
        }
        short.sort_by_key(|&i| (sequences[i].len(), i));
        for group in short.chunk_by(|&a, &b| sequences[a].len() == sequences[b].len()) {
            let len = sequences[group[0]].len();
            for task in group.chunks((TOKENS_PER_TASK / len).max(1)) {
                let joined: Vec<u32> = task.iter().flat_map(|&i| sequences[i].iter().copied()).collect();
                let window =
                    |row: usize| Window { start: row * len, targets: (row * len + from, (row + 1) * len) };
                let windows: Vec<Window> = (0..task.len()).map(window).collect();
                let all = self.log_probs_of(&joined, &windows)?;
                for (&i, row) in task.iter().zip(all.chunks(len - from)) {
                    scores[i] = row.to_vec();
                }
            }
        }
        for (i, scores) in scores.iter().enumerate() {
            visit(i, scores);
        }
        Ok(())
    }

    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>> {
        check_tokens(context, self.vocab_size())?;
        if context.is_empty() {
            return Ok(vec![self.uniform(); self.vocab_size()]);
        }
        let row = self.seen(context);
        let last: Vec<f32> = log_softmax(&self.forward(&[row])?, row.len() - 1, 1)?.get(0)?.to_vec1()?;
        Ok(last.into_iter().map(f64::from).collect())
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let uniform = vec![self.uniform(); self.vocab_size()];
        if !self.has_window() {
            return Ok(Box::new(StateSession { neural: &self.neural, state: None, next: uniform }));
        }
        let own = self.neural.architecture.session(uniform);
        Ok(own.unwrap_or_else(|| Box::new(RecomputeSession { model: self, tokens: Vec::new() })))
    }
}
