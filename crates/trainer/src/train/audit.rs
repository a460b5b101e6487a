//! The gradient audit: does every parameter learn?
//!
//! Several tensor libraries have layers that cut gradients without a word; the loss still falls, because the head
//! learns. So the first steps of a run can list every parameter's gradient and update, and say what looks wrong.

use serde::Serialize;

/// How many steps are listed.
pub(crate) const STEPS: usize = 2;

/// One parameter in one step.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ParameterAudit {
    pub(crate) name: String,
    pub(crate) values: usize,
    /// ‖θ‖ before the step.
    pub(crate) weight_norm: f64,
    /// ‖∂L/∂θ‖ before clipping.
    pub(crate) gradient_norm: f64,
    /// ‖Δθ‖ of the step.
    pub(crate) update_norm: f64,
    /// What looks wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flag: Option<&'static str>,
}

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

/// What a person reads.
pub(crate) fn table(step: usize, parameters: &[ParameterAudit]) -> String {
    let width = parameters.iter().map(|p| p.name.len()).max().unwrap_or(0).max(9);
    let mut text = format!(
        "gradient audit, step {step}\n{:<width$}  {:>10}  {:>10}  {:>10}  {:>10}\n",
        "parameter", "values", "‖weights‖", "‖gradient‖", "‖update‖"
    );
    for p in parameters {
        text.push_str(&format!(
            "{:<width$}  {:>10}  {:>10.3e}  {:>10.3e}  {:>10.3e}  {}\n",
            p.name,
            p.values,
            p.weight_norm,
            p.gradient_norm,
            p.update_norm,
            p.flag.unwrap_or("")
        ));
    }
    text
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

    #[test]
    fn the_table_has_a_line_a_parameter() {
        let audit = ParameterAudit {
            name: "wte.weight".into(),
            values: 4,
            weight_norm: 1.0,
            gradient_norm: 0.0,
            update_norm: 0.0,
            flag: Some("zero gradient"),
        };
        let text = table(1, &[audit]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("wte.weight") && text.contains("zero gradient"), "{text}");
    }
}
