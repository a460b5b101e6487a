//! Reading a text token by token, for sampling: with the state of a recurrent network, or with a
//! key-value cache. A new token costs one position, not the whole context again.
//!
//! A full cache is filled again with the last half block from position zero, so a token has at
//! least half a block of context, and half a block is recomputed every half block.

use candle_core::{Device, Tensor};
use surprisal_kernels::elementary::Elementary;
use surprisal_ops::Context;
use surprisal_ops::layers::KvCache;

use super::transformer::Transformer;
use super::{Mode, Neural};
use crate::{Result, Session, check_tokens};

/// A text being read by a transformer.
pub(super) struct CachedSession<'a> {
    transformer: &'a Transformer,
    block_size: usize,
    /// ln q of every token before the first.
    start: Vec<f64>,
    /// The tokens in the caches, from position zero.
    cached_tokens: Vec<u32>,
    caches: Vec<KvCache>,
    /// Logits of the next token.
    last: Option<Vec<f32>>,
}

impl<'a> CachedSession<'a> {
    pub(super) fn new(transformer: &'a Transformer, block_size: usize, start: Vec<f64>) -> Self {
        Self {
            transformer,
            block_size,
            start,
            cached_tokens: Vec::new(),
            caches: transformer.caches(),
            last: None,
        }
    }

    /// Fills empty caches with the first tokens of a row.
    fn prefill(&mut self, tokens: &[u32]) -> Result<()> {
        self.caches = self.transformer.caches();
        self.last = Some(self.transformer.prefill(tokens, &mut self.caches)?);
        self.cached_tokens = tokens.to_vec();
        Ok(())
    }

    fn decode_step(&mut self, token: u32) -> Result<()> {
        let block_size = self.block_size;
        if self.cached_tokens.len() == block_size {
            let mut kept = self.cached_tokens.split_off(block_size - block_size / 2);
            kept.push(token);
            return self.prefill(&kept);
        }
        let (before, position) = (self.cached_tokens.last().copied(), self.cached_tokens.len());
        self.last = Some(self.transformer.decode_step(before, token, position, &mut self.caches)?);
        self.cached_tokens.push(token);
        Ok(())
    }
}

impl Session for CachedSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.start.len())?;
        // Earlier tokens would be out of the cache by the end.
        let recent = &tokens[tokens.len().saturating_sub(self.block_size)..];
        if self.cached_tokens.is_empty() && !recent.is_empty() {
            self.prefill(recent)?;
        } else {
            for &token in recent {
                self.decode_step(token)?;
            }
        }
        match &self.last {
            None => Ok(self.start.clone()),
            Some(logits) => Ok(log_softmax(logits)),
        }
    }
}

/// A text being read by a network with a state.
pub(super) struct StateSession<'a> {
    pub(super) neural: &'a Neural,
    pub(super) state: Option<Vec<f32>>,
    /// ln q(· | everything so far).
    pub(super) next: Vec<f64>,
}

impl Session for StateSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.next.len())?;
        if !tokens.is_empty() {
            let ids = Tensor::from_slice(tokens, (1, tokens.len()), &Device::Cpu)?;
            let (context, mode) = (Context::default(), Mode::Evaluate);
            let (output, state) = self.neural.forward_in(&context, &ids, self.state.as_deref(), &mode)?;
            let last = output.rows(tokens.len() - 1, 1)?.logits()?.flatten_all()?.to_vec1::<f32>()?;
            (self.next, self.state) = (log_softmax(&last), Some(state));
        }
        Ok(self.next.clone())
    }
}

/// ln softmax of one row of logits, in f64.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let by = Elementary::current();
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&z| by.exp(f64::from(z - max))).sum();
    logits.iter().map(|&z| f64::from(z - max) - by.ln(sum)).collect()
}
