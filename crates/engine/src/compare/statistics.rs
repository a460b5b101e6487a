//! Means, standard errors, Student's t-test and Holm's adjustment.

use serde::Serialize;

/// A mean of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    #[serde(rename = "mean")]
    pub value: f64,
    /// Standard error s/√n; `None` for fewer than two values.
    #[serde(rename = "standard_error")]
    pub std_error: Option<f64>,
    /// Number of values.
    pub n: usize,
}

impl Mean {
    /// Mean and standard error; `None` for no values.
    pub fn from_values(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let error = (n > 1).then(|| {
            let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
            (squares / (n - 1) as f64 / n as f64).sqrt()
        });
        Some(Self { value: mean, std_error: error, n })
    }

    /// Two-sided p-value of Student's t-test that the true mean is 0; `None` for fewer than two
    /// values.
    pub fn t_test_p(&self) -> Option<f64> {
        let error = self.std_error?;
        if error == 0.0 {
            return Some(if self.value == 0.0 { 1.0 } else { 0.0 });
        }
        Some(t_two_sided_p(self.value / error, (self.n - 1) as f64))
    }
}

/// Two-sided p-value P(|t| ≥ |x|) of Student's t distribution: the regularised incomplete beta
/// function I_z(ν/2, 1/2) at z = ν/(ν + x²).
pub fn t_two_sided_p(x: f64, degrees: f64) -> f64 {
    incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + x * x))
}

/// The 97.5 % point of Student's t distribution, by bisection.
pub fn t_quantile_95(degrees: f64) -> f64 {
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if t_two_sided_p(middle, degrees) > 0.05 { low = middle } else { high = middle }
    }
    low
}

/// Replaces zero in a divisor.
const TINY: f64 = 1e-300;

/// I_x(a, b), by the continued fraction (Abramowitz and Stegun 26.5.8, evaluated by Lentz's
/// method).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let (mut c, mut d) = (1.0, 1.0 / clamp(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / clamp(1.0 + numerator * d);
            c = clamp(1.0 + numerator / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

fn clamp(value: f64) -> f64 {
    if value.abs() < TINY { TINY } else { value }
}

/// ln Γ(x) for x > 0: Stirling's series, after raising x to where the series is accurate.
fn ln_gamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 12.0 {
        below += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}

/// P-values adjusted for multiple comparisons (Holm 1979).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, &index) in order.iter().enumerate() {
        largest = largest.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn means_and_their_errors() {
        let mean = Mean::from_values(&[1.0, 2.0, 4.0]).unwrap();
        close(mean.value, 7.0 / 3.0);
        close(mean.std_error.unwrap(), (7.0f64 / 3.0 / 3.0).sqrt());
        assert_eq!(Mean::from_values(&[5.0]).unwrap(), Mean { value: 5.0, std_error: None, n: 1 });
        assert_eq!(Mean::from_values(&[]), None);
        assert_eq!(Mean::from_values(&[2.0, 2.0]).unwrap().t_test_p(), Some(0.0));
        assert_eq!(Mean::from_values(&[0.0, 0.0]).unwrap().t_test_p(), Some(1.0));
    }

    #[test]
    fn students_distribution_has_its_closed_forms() {
        // ν = 1 is Cauchy's distribution, ν = 2 algebraic, and ν = 4 as well.
        for x in [0.1, 0.7, 1.0, 2.5, 12.0] {
            close(t_two_sided_p(x, 1.0), 1.0 - 2.0 / std::f64::consts::PI * f64::atan(x));
            close(t_two_sided_p(-x, 2.0), 1.0 - x / (2.0 + x * x).sqrt());
            let z = x / (4.0 + x * x).sqrt();
            close(t_two_sided_p(x, 4.0), 1.0 - z * (1.5 - 0.5 * z * z));
        }
        // The 97.5 % points of the tables.
        for (degrees, point) in [(4.0, 2.776445105197799), (63.0, 1.998340542520741)] {
            close(t_two_sided_p(point, degrees), 0.05);
            close(t_quantile_95(degrees), point);
        }
        close(t_two_sided_p(0.0, 7.0), 1.0);
    }

    #[test]
    fn holm_steps_down() {
        assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
        assert_eq!(holm(&[0.6, 0.9]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
