//! Figures by themselves, for pages that show numbers while they change.

use maud::html;
use surprisal_engine::compare::diagnostics::CalibrationSummary;
use surprisal_engine::compare::{Comparison, tables};
use surprisal_engine::error::Result;

use super::plot::{self, REFERENCE, Series};
use super::{cards, page};

pub use super::plot::STYLE;

/// A line of a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// A curve without the points that are no numbers.
    pub fn new(name: impl Into<String>, mut points: Vec<(f64, f64)>) -> Self {
        points.retain(|(x, y)| x.is_finite() && y.is_finite());
        Self { name: name.into(), points }
    }
}

/// Curves over dashed levels (name and value), with a legend, as HTML: drawn for wide and for
/// narrow screens, in elements of the classes `wide` and `narrow`.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn curves(x_name: &str, y_name: &str, curves: &[Curve], levels: &[(String, f64)]) -> Result<String> {
    let mut series: Vec<Series> = Vec::new();
    for (colour, Curve { name, points }) in (0..REFERENCE).cycle().zip(curves) {
        series.push(Series { name: name.clone(), colour, dashed: false, points: points.clone() });
    }
    let xs = || curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let (from, to) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    let (from, to) = if from < to { (from, to) } else { (0.0, if to > 0.0 { to } else { 1.0 }) };
    for (place, (name, value)) in levels.iter().enumerate() {
        // From the last colour backwards, away from those of the curves.
        let colour = REFERENCE - place % (REFERENCE + 1);
        let name = format!("{name} {value:.4}");
        series.push(Series { name, colour, dashed: true, points: vec![(from, *value), (to, *value)] });
    }
    Ok(plot::lines(x_name, y_name, &series)?.into_string() + &plot::legend(&series).into_string())
}

/// Curves over logarithmic axes, with a legend.
///
/// # Errors
/// As [`curves`].
pub fn log_curves(x_name: &str, y_name: &str, curves: &[Curve]) -> Result<String> {
    let line = |(colour, Curve { name, points }): (usize, &Curve)| Series {
        name: name.clone(),
        colour,
        dashed: colour % 2 == 1,
        points: points.iter().copied().filter(|(x, y)| *x > 0.0 && *y > 0.0).collect(),
    };
    let series: Vec<Series> = (0..=REFERENCE).cycle().zip(curves).map(line).collect();
    Ok(plot::log_lines(x_name, y_name, true, &series)?.into_string() + &plot::legend(&series).into_string())
}

/// A reliability diagram with its calibration in words.
///
/// # Errors
/// As [`curves`].
pub fn reliability(calibration: &CalibrationSummary) -> Result<String> {
    Ok(cards::reliability(calibration)?.into_string())
}

/// The tables of a comparison: its variants, their differences with verdicts, and notes.
pub fn comparison(comparison: &Comparison) -> String {
    let Comparison { rows, differences, .. } = comparison;
    let found = html! {
        (page::table("variants", &tables::variants(rows), None))
        @if let Some(parts) = tables::parts(rows) { (page::table("parts", &parts, None)) }
        @if let Some(differences) = tables::differences(differences) {
            (page::table("differences", &differences, None))
        }
        @for note in tables::notes(rows, differences) { p { "Note: " (note) } }
    };
    found.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_every_point_is_drawn() {
        let curve = Curve::new("<b>", vec![(0.0, 3.0), (1.0, f64::NAN), (2.0, 1.0)]);
        assert_eq!(curve.points.len(), 2);
        let figure = curves("step", "nats", &[curve], &[("H(p) & more".into(), 0.5)]).unwrap();
        assert!(figure.contains("&lt;b&gt;") && !figure.contains("<b>"), "{figure}");
        assert!(figure.contains("H(p) &amp; more 0.5000") && figure.contains("class=\"narrow\""));
        assert!(!figure.contains("style="), "a strict policy forbids it");
        assert!(curves("step", "nats", &[], &[("a".into(), 1.0)]).is_ok());
    }
}
