//! Reading a text token by token with the state of a recurrent network.

use candle_core::{Device, Tensor};
use surprisal_kernels::elementary::Elementary;
use surprisal_ops::Context;

use super::{Mode, Neural};
use crate::{Result, Session, check_tokens};

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
pub(super) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let by = Elementary::current();
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&z| by.exp(f64::from(z - max))).sum();
    logits.iter().map(|&z| f64::from(z - max) - by.ln(sum)).collect()
}
