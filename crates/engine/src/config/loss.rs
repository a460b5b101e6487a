//! `[loss]`: what is minimised.

use serde::{Deserialize, Serialize};

section! {
    /// `[loss]`
    #[expect(clippy::struct_field_names, reason = "z-loss is what the field calls it")]
    Loss {
        /// ε: the target becomes p' = (1 − ε) p + ε π.
        label_smoothing: f64,
        /// π: uniform (1/|V|), unigram (of the training text), or kneser_ney (the row of a counted model for the context).
        smooth_toward: String = "uniform".into(),
        /// How many tokens an n-gram of that counted model has.
        smooth_order: usize = 2,
        /// k: instead of one ε, ε_h = k|V| / (c(h) + k|V|) toward uniform after token h, which is what adding k to every
        /// count does.
        add_k: f64,
        /// β: −β H(q) is added, a reward for hesitating.
        confidence_penalty: f64,
        /// Weight of the squared log-partition, which keeps logits from drifting.
        z_loss: f64,
    }
}

impl Loss {
    /// Whether the objective is the NLL and nothing else.
    pub fn is_plain(&self) -> bool {
        let parts = [self.label_smoothing, self.add_k, self.confidence_penalty, self.z_loss];
        parts.iter().all(|part| *part == 0.0)
    }
}
