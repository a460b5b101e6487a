//! The trait of neural networks.

use std::fmt::Debug;

use candle_core::Tensor;
use surprisal_ops::Context;

use super::{Mode, Pass};
use crate::{Result, Session};

/// A neural network with its parameters: token ids in, logits (or hidden states and head) out.
///
/// Each kind has its own file; [`NeuralConfig`](super::NeuralConfig) lists all kinds. Other crates
/// add kinds through a [`Blueprint`](super::Blueprint).
pub trait Architecture: Debug + Send + Sync {
    /// The output for each of `ids` (B, T), and the state after the last column.
    ///
    /// `state` is (B, `state_width`), row-major, or none for a text that begins; it is data, so no
    /// gradient flows into it (truncated back-propagation through time). A network without a state
    /// is given none and returns an empty one.
    ///
    /// # Errors
    /// A failure of candle.
    fn forward(&self, context: &Context, ids: &Tensor, state: Option<&[f32]>, mode: &Mode) -> Result<Pass>;

    /// The attention weights of each layer, (B, H, T, T), for each of `ids` (B, T); none of a
    /// network without attention.
    ///
    /// # Errors
    /// A failure of candle.
    fn attention_weights(&self, context: &Context, ids: &Tensor) -> Result<Vec<Tensor>> {
        let _ = (context, ids);
        Ok(Vec::new())
    }

    /// A session that is faster than [`Self::forward`] over the whole context for each token, if
    /// the network has one. `uniform` is the distribution before the first token.
    fn session(&self, uniform: Vec<f64>) -> Option<Box<dyn Session + '_>> {
        let _ = uniform;
        None
    }
}

/// Kind of windows in which training reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Windows are independent, and shuffled.
    Shuffled,
    /// Each row of a batch continues the text of the same row of the batch before, and its state.
    Following {
        /// Numbers in the state of one row.
        state_width: usize,
    },
}
