//! The uniform distribution.

use crate::{LanguageModel, Result, check_tokens, scored};

/// q(w | h) = 1/|V|: the cross-entropy of every text is ln |V|.
///
/// ```
/// # use surprisal_model::{LanguageModel, ngram::Uniform};
/// assert_eq!(Uniform::new(8, None).log_probs(&[3, 1], 0).unwrap(), [-8f64.ln(), -8f64.ln()]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uniform {
    vocab_size: usize,
    bos: Option<u32>,
}

impl Uniform {
    /// Over `vocab_size` tokens; `<s>` has probability zero.
    pub fn new(vocab_size: usize, bos: Option<u32>) -> Self {
        Self { vocab_size, bos }
    }

    fn log_prob(&self) -> f64 {
        -((self.vocab_size - usize::from(self.bos.is_some())) as f64).ln()
    }
}

impl LanguageModel for Uniform {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>> {
        let log_prob =
            |&token: &u32| if Some(token) == self.bos { f64::NEG_INFINITY } else { self.log_prob() };
        Ok(scored(tokens, from, self.vocab_size)?.iter().map(log_prob).collect())
    }

    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>> {
        check_tokens(context, self.vocab_size)?;
        let mut distribution = vec![self.log_prob(); self.vocab_size];
        if let Some(bos) = self.bos {
            distribution[bos as usize] = f64::NEG_INFINITY;
        }
        Ok(distribution)
    }
}
