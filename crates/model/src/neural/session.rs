//! Sampling with a key-value cache: a new token costs one position, not the whole context again.
//!
//! When the text has filled the block, the last half of it is read again from position zero and the cache has room once
//! more. So a token is predicted from at least half a block of context, at the price of re-reading half a block, at once,
//! every half block.

use surprisal_kernels::elementary::Elementary;
use surprisal_ops::layers::KvCache;

use super::transformer::Transformer;
use crate::{Result, Session, check_tokens};

/// A text being read by a transformer.
pub(super) struct CachedSession<'a> {
    transformer: &'a Transformer,
    block_size: usize,
    /// ln q of every token where nothing was read.
    start: Vec<f64>,
    /// The tokens in the caches, from position zero.
    read: Vec<u32>,
    caches: Vec<KvCache>,
    /// The logits of what follows them.
    last: Option<Vec<f32>>,
}

impl<'a> CachedSession<'a> {
    pub(super) fn new(transformer: &'a Transformer, block_size: usize, start: Vec<f64>) -> Self {
        Self { transformer, block_size, start, read: Vec::new(), caches: transformer.caches(), last: None }
    }

    /// Reads the first tokens of a row at once.
    fn fill(&mut self, tokens: &[u32]) -> Result<()> {
        self.caches = self.transformer.caches();
        self.last = Some(self.transformer.fill(tokens, &mut self.caches)?);
        self.read = tokens.to_vec();
        Ok(())
    }

    fn push(&mut self, token: u32) -> Result<()> {
        let block_size = self.block_size;
        if self.read.len() == block_size {
            // With a block of one token there is nothing to keep.
            let mut kept = self.read.split_off(block_size - block_size / 2);
            kept.push(token);
            return self.fill(&kept);
        }
        let (before, position) = (self.read.last().copied(), self.read.len());
        self.last = Some(self.transformer.next(before, token, position, &mut self.caches)?);
        self.read.push(token);
        Ok(())
    }
}

impl Session for CachedSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.start.len())?;
        // What lies further back than a block would be forgotten on the way: it is not read at all.
        let recent = &tokens[tokens.len().saturating_sub(self.block_size)..];
        if self.read.is_empty() && !recent.is_empty() {
            self.fill(recent)?;
        } else {
            for &token in recent {
                self.push(token)?;
            }
        }
        match &self.last {
            None => Ok(self.start.clone()),
            Some(logits) => {
                let by = Elementary::current();
                let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = logits.iter().map(|&z| by.exp(f64::from(z - max))).sum();
                Ok(logits.iter().map(|&z| f64::from(z - max) - by.ln(sum)).collect())
            }
        }
    }
}
