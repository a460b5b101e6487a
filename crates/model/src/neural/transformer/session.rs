//! Reading a text token by token with a key-value cache: a new token costs one position.
//!
//! A full cache is filled again with the last half block from position zero, so a token has at
//! least half a block of context, and half a block is recomputed every half block.

use surprisal_ops::layers::KvCache;

use super::super::state_session::log_softmax;
use super::Transformer;
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
