//! The gradient audit: does every parameter learn?
//!
//! Several tensor libraries have layers that cut gradients without a word; the loss still falls, because the head
//! learns. So the first steps of a run can list every parameter's gradient and update, and say what looks wrong.

use crate::events::ParameterAudit;

impl ParameterAudit {
    /// Judges the numbers, per value (root mean square) so that large matrices are not suspicious for their size.
    pub(crate) fn judge(&mut self) {
        let scale = (self.values as f64).sqrt();
        let gradient = self.gradient_norm / scale;
        self.flag = if !gradient.is_finite() {
            Some("not finite")
        } else if gradient == 0.0 {
            Some("zero gradient")
        } else if gradient < 1e-10 {
            Some("vanishing gradient")
        } else if gradient > 1e2 {
            Some("exploding gradient")
        } else if self.weight_norm > 0.0 && self.update_norm > 0.5 * self.weight_norm && self.values > 1 {
            Some("update half the size of the weights")
        } else {
            None
        };
    }
}

/// ‖x‖ in f64.
pub(crate) fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(gradient_norm: f64, update_norm: f64) -> Option<&'static str> {
        let mut audit = ParameterAudit {
            name: "w".into(),
            values: 4,
            weight_norm: 1.0,
            gradient_norm,
            update_norm,
            flag: None,
        };
        audit.judge();
        audit.flag
    }

    #[test]
    fn flags_what_cannot_learn() {
        assert_eq!(flag(0.1, 1e-3), None);
        assert_eq!(flag(0.0, 0.0), Some("zero gradient"));
        assert_eq!(flag(1e-12, 1e-3), Some("vanishing gradient"));
        assert_eq!(flag(1e3, 1e-3), Some("exploding gradient"));
        assert_eq!(flag(f64::NAN, 1e-3), Some("not finite"));
        assert_eq!(flag(0.1, 0.9), Some("update half the size of the weights"));
    }
}
