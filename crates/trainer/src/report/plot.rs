//! Figures as SVG. Colours are few and known, so that the page's style can change them for the dark.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::failure::{Failure, Result};

/// Colours by index; page.css has their counterparts for the dark. The last is for references.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0x0B, 0x62, 0xB5),
    RGBColor(0xB0, 0x5A, 0x00),
    RGBColor(0x1E, 0x7D, 0x45),
    RGBColor(0x8A, 0x3F, 0xA6),
    RGBColor(0xB3, 0x26, 0x3A),
    RGBColor(0x5B, 0x6B, 0x7B),
];
pub(super) const REFERENCE: usize = 5;
/// Characters of a name at an axis.
const LONGEST_NAME: usize = 52;
const MESH: RGBColor = RGBColor(0xD5, 0xDA, 0xE0);

/// A line of a figure.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An axis: what it is called, from where to where, and about how many labels it has.
struct Axis<'a> {
    name: &'a str,
    range: Range<f64>,
    labels: usize,
}

/// How much room a figure leaves: around it, at its right, under it and at its left.
struct Room(u32, u32, u32, u32);

const LARGE: Room = Room(8, 20, 42, 58);
const SMALL: Room = Room(6, 16, 38, 46);

fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot draw a figure: {error}"))
}

/// Draws into a text.
fn svg(size: (u32, u32), label: &str, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(wrong)?;
    }
    let label = super::page::escape(label);
    // The namespace is not needed inside HTML, and the page is to hold no address at all.
    Ok(text.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "").replacen(
        "<svg ",
        &format!("<svg role=\"img\" aria-label=\"{label}\" "),
        1,
    ))
}

/// A number at an axis, as short as it can be.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library's signature")]
fn tick(value: &f64) -> String {
    if value.abs() >= 1000.0 {
        return crate::output::thousands(value.abs().round() as u64);
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The range of the values with a little room around it.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-6);
    (low - room, high + room)
}

/// Two axes with their mesh, to be drawn into.
fn chart<'a>(area: &Area<'a>, room: &Room, x: &Axis<'_>, y: &Axis<'_>) -> Result<Chart<'a>> {
    let Room(margin, right, below, left) = *room;
    let mut chart = ChartBuilder::on(area)
        .margin(margin)
        .margin_right(right)
        .x_label_area_size(below)
        .y_label_area_size(left)
        .build_cartesian_2d(x.range.clone(), y.range.clone())
        .map_err(wrong)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(MESH)
        .x_labels(x.labels)
        .y_labels(y.labels)
        .x_desc(x.name)
        .y_desc(y.name)
        .x_label_formatter(&tick)
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(wrong)?;
    Ok(chart)
}

/// A line with a dot at each of its points.
fn curve(chart: &mut Chart<'_>, line: &Series) -> Result<()> {
    let colour = COLOURS[line.colour];
    let points = line.points.iter().copied();
    chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2))).map_err(wrong)?;
    chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled()))).map_err(wrong)?;
    Ok(())
}

/// Lines over a common axis; dashed ones are references.
pub(super) fn lines(x_name: &str, y_name: &str, series: &[Series]) -> Result<String> {
    let points = || series.iter().flat_map(|series| series.points.iter());
    let (x0, x1) = range(points().map(|point| point.0));
    let (y0, y1) = range(points().map(|point| point.1));
    svg((760, 340), &format!("{y_name} by {x_name}"), |area| {
        let x = Axis { name: x_name, range: x0..x1, labels: 11 };
        let mut chart = chart(area, &LARGE, &x, &Axis { name: y_name, range: y0..y1, labels: 11 })?;
        for line in series {
            if line.dashed {
                let style = COLOURS[line.colour].stroke_width(2);
                chart
                    .draw_series(DashedLineSeries::new(line.points.iter().copied(), 6, 4, style))
                    .map_err(wrong)?;
            } else {
                curve(&mut chart, line)?;
            }
        }
        Ok(())
    })
}

/// The lines' names, for under the figure.
pub(super) fn key(series: &[Series]) -> String {
    let items: String = series
        .iter()
        .map(|line| {
            let RGBColor(r, g, b) = COLOURS[line.colour];
            let dash = if line.dashed { " stroke-dasharray=\"5 3\"" } else { "" };
            format!(
                "<li><svg width=\"26\" height=\"8\" aria-hidden=\"true\"><path d=\"M0 4H26\" \
                 stroke=\"#{r:02X}{g:02X}{b:02X}\" stroke-width=\"2.5\"{dash}/></svg>{}</li>",
                super::page::escape(&line.name)
            )
        })
        .collect();
    format!("<ul class=\"key\">{items}</ul>\n")
}

/// Accuracy by confidence, against the diagonal of a model that is right as often as it says.
pub(super) fn reliability(series: &[Series]) -> Result<String> {
    svg((280, 270), "accuracy by confidence", |area| {
        let axis = |name| Axis { name, range: 0.0..1.0, labels: 5 };
        let mut chart = chart(area, &SMALL, &axis("confidence"), &axis("accuracy"))?;
        let diagonal =
            DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 3, 3, COLOURS[REFERENCE].stroke_width(1));
        chart.draw_series(diagonal).map_err(wrong)?;
        for line in series {
            curve(&mut chart, line)?;
        }
        Ok(())
    })
}

/// Shares in equal parts of 0 to `most`.
pub(super) fn histogram(counts: &[u64], most: f64, x_name: &str) -> Result<String> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let highest = counts.iter().max().copied().unwrap_or(1) as f64 / total;
    let width = most / counts.len().max(1) as f64;
    svg((280, 200), &format!("how many predictions by {x_name}"), |area| {
        let x = Axis { name: x_name, range: 0.0..most, labels: 5 };
        let shares = 0.0..(100.0 * highest * 1.05).max(1e-9);
        let mut chart = chart(area, &SMALL, &x, &Axis { name: "% of tokens", range: shares, labels: 4 })?;
        let bars = counts.iter().enumerate().map(|(i, count)| {
            let corners =
                [(i as f64 * width, 0.0), ((i as f64 + 0.9) * width, 100.0 * *count as f64 / total)];
            Rectangle::new(corners, COLOURS[0].filled())
        });
        chart.draw_series(bars).map_err(wrong)?;
        Ok(())
    })
}

/// A dot and its error a line, best first as given; `reference` is drawn through all of them.
pub(super) fn dots(
    names: &[String],
    values: &[(f64, f64)],
    x_name: &str,
    reference: Option<f64>,
) -> Result<String> {
    let n = names.len();
    let ends = values.iter().flat_map(|(value, error)| [value - error, value + error]);
    let (x0, x1) = range(ends.chain(reference));
    let height = 60 + 20 * n as u32;
    let longest = names.iter().map(|name| name.chars().count().min(LONGEST_NAME)).max().unwrap_or(0);
    svg((760, height), &format!("{x_name} of every variant"), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(20)
            .x_label_area_size(42)
            .y_label_area_size(24 + 7 * longest as u32)
            .build_cartesian_2d(x0..x1, -0.6..n as f64 - 0.4)
            .map_err(wrong)?;
        let name = |y: &f64| {
            let index = y.round();
            let on = (index - y).abs() < 1e-6 && index >= 0.0;
            // The first is on top.
            let name = if on { names.get((n as f64 - 1.0 - index) as usize) } else { None };
            name.map_or_else(String::new, |name| shortened(name, LONGEST_NAME))
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(MESH)
            .y_labels(2 * n + 2)
            .y_label_formatter(&name)
            .x_desc(x_name)
            .x_label_formatter(&tick)
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(wrong)?;
        if let Some(x) = reference {
            let line = [(x, -0.6), (x, n as f64 - 0.4)];
            chart
                .draw_series(DashedLineSeries::new(line, 6, 4, COLOURS[REFERENCE].stroke_width(2)))
                .map_err(wrong)?;
        }
        for (index, (value, error)) in values.iter().enumerate() {
            let y = n as f64 - 1.0 - index as f64;
            let bar = [(value - error, y), (value + error, y)];
            chart.draw_series(LineSeries::new(bar, COLOURS[0].stroke_width(2))).map_err(wrong)?;
            chart.draw_series([Circle::new((*value, y), 4, COLOURS[0].filled())]).map_err(wrong)?;
        }
        Ok(())
    })
}

/// As much of a name as there is room for.
fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_svg_without_addresses() {
        let line =
            |dashed| Series { name: "a".into(), colour: 0, dashed, points: vec![(0.0, 1.0), (2.0, 0.5)] };
        let dots_names = ["a".to_owned(), "b < c".to_owned()];
        for figure in [
            lines("step", "nats", &[line(false), line(true)]).unwrap(),
            lines("step", "nats", &[]).unwrap(),
            reliability(&[line(false)]).unwrap(),
            histogram(&[1, 5, 0], 3.0, "nats").unwrap(),
            histogram(&[], 3.0, "nats").unwrap(),
            dots(&dots_names, &[(1.0, 0.1), (1.0, 0.0)], "nats", Some(0.5)).unwrap(),
        ] {
            assert!(
                figure.starts_with("<svg role=\"img\"") && figure.trim_end().ends_with("</svg>"),
                "{figure}"
            );
            assert!(!figure.contains("http"), "{figure}");
        }
    }
}
