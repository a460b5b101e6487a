//! Gradient audit: every parameter's gradient and update in the first steps, with likely problems.
//!
//! An operation without a backward pass cuts gradients silently: the loss still falls, because
//! other parameters learn.

/// A likely problem of a parameter with `values` numbers and these norms. Gradients are compared
/// per value (root mean square), so that the size of a matrix does not matter.
pub(crate) fn flag(values: usize, weight: f64, gradient: f64, update: f64) -> Option<&'static str> {
    let gradient = gradient / (values as f64).sqrt();
    if !gradient.is_finite() {
        Some("not finite")
    } else if gradient == 0.0 {
        Some("zero gradient")
    } else if gradient < 1e-10 {
        Some("vanishing gradient")
    } else if gradient > 1e2 {
        Some("exploding gradient")
    } else if weight > 0.0 && update > 0.5 * weight && values > 1 {
        Some("update half the size of the weights")
    } else {
        None
    }
}

pub(crate) fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_what_cannot_learn() {
        assert_eq!(flag(4, 1.0, 0.1, 1e-3), None);
        assert_eq!(flag(4, 1.0, 0.0, 0.0), Some("zero gradient"));
        assert_eq!(flag(4, 1.0, 1e-12, 1e-3), Some("vanishing gradient"));
        assert_eq!(flag(4, 1.0, 1e3, 1e-3), Some("exploding gradient"));
        assert_eq!(flag(4, 1.0, f64::NAN, 1e-3), Some("not finite"));
        assert_eq!(flag(4, 1.0, 0.1, 0.9), Some("update half the size of the weights"));
    }
}
