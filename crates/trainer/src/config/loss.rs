//! `[loss]`: what is minimised.

use serde::{Deserialize, Serialize};
use surprisal_loss::information;

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
    pub(crate) fn is_plain(&self) -> bool {
        let parts = [self.label_smoothing, self.add_k, self.confidence_penalty, self.z_loss];
        parts.iter().all(|part| *part == 0.0)
    }

    /// What a person should know who looks at the objective.
    pub(crate) fn describe(&self, vocab_size: usize) -> Option<String> {
        let compare = "compare the NLL, not the objective";
        let epsilon = self.label_smoothing;
        if self.add_k > 0.0 {
            return Some(format!(
                "targets are smoothed as by adding {} to every count; {compare}",
                self.add_k
            ));
        }
        if epsilon > 0.0 && self.smooth_toward == "uniform" {
            return Some(format!(
                "label smoothing {epsilon}: the objective cannot fall below {:.4} nats, the entropy of the smoothed \
                 target; {compare}",
                information::smoothed_floor(epsilon, vocab_size).unwrap_or(f64::NAN)
            ));
        }
        if epsilon > 0.0 {
            let toward = match self.smooth_toward.as_str() {
                "unigram" => "the unigram distribution of the training text".to_owned(),
                _ => format!("a Kneser-Ney model of order {}", self.smooth_order),
            };
            return Some(format!("label smoothing {epsilon} toward {toward}; {compare}"));
        }
        if self.confidence_penalty > 0.0 {
            return Some(format!("confidence penalty {}: {compare}", self.confidence_penalty));
        }
        None
    }
}
