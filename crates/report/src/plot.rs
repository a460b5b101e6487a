//! SVG figures. They use a fixed set of colours, which the page's style replaces in dark mode.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use surprisal_engine::compare::diagnostics::ReliabilityBin;
use surprisal_engine::error::{Error, Result};

/// The style of figures, for light and dark themes and for narrow screens; it uses the colours
/// `--ink`, `--paper` and `--line` of the page.
pub const STYLE: &str = include_str!("figure.css");

/// Colours by index; figure.css has the dark variants. The last is for reference lines.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0x0B, 0x62, 0xB5),
    RGBColor(0xB0, 0x5A, 0x00),
    RGBColor(0x1E, 0x7D, 0x45),
    RGBColor(0x8A, 0x3F, 0xA6),
    RGBColor(0xB3, 0x26, 0x3A),
    RGBColor(0x5B, 0x6B, 0x7B),
];
pub(super) const REFERENCE: usize = 5;
/// The largest number of characters of a name at an axis.
const MAX_NAME_CHARS: usize = 52;
/// The characters that fit the width of a phone; longer names are set smaller there.
const PHONE_NAME_CHARS: u32 = 42;
const MESH: RGBColor = RGBColor(0xD5, 0xDA, 0xE0);
/// 12 pixels high in the SVG.
const FONT: (&str, u32) = ("sans-serif", 15);

/// A line of a figure.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An axis: its name, range and approximate number of labels (0: the axis is hidden).
struct Axis<'a> {
    name: &'a str,
    range: Range<f64>,
    labels: usize,
    /// Whether its values are decadic logarithms of those shown.
    log: bool,
}

impl<'a> Axis<'a> {
    fn new(name: &'a str, range: Range<f64>, labels: usize) -> Self {
        Self { name, range, labels, log: false }
    }
}

/// The margins of a figure in pixels: around it, right, below, left.
struct Margins(u32, u32, u32, u32);

const LARGE: Margins = Margins(8, 20, 44, 62);
// The largest dot has 9 pixels to each side.
const SMALL: Margins = Margins(10, 12, 38, 46);

fn figure_error(error: impl std::fmt::Display) -> Error {
    Error::failed(format!("cannot draw a figure: {error}"))
}

/// Draws a figure as SVG text.
fn svg(size: (u32, u32), label: &str, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<Markup> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(figure_error)?;
    }
    let label = html! { (label) }.into_string();
    // HTML does not need the namespace, and the page must not contain an address.
    Ok(PreEscaped(text.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "").replacen(
        "<svg ",
        &format!("<svg role=\"img\" aria-label=\"{label}\" "),
        1,
    )))
}

/// The label of an axis value, without trailing zeros.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library's signature")]
fn tick(value: &f64) -> String {
    if value.abs() >= 1000.0 {
        return surprisal_engine::wording::thousands(value.abs().round() as u64);
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The label of the decadic logarithm of an axis value, with two digits.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library's signature")]
fn log_tick(logarithm: &f64) -> String {
    let unit = 10f64.powf(logarithm.floor() - 1.0);
    let value = (10f64.powf(*logarithm) / unit).round() * unit;
    if value < 0.01 { format!("{value:.1e}") } else { tick(&value) }
}

/// The range of the finite values, with a small margin.
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

/// A chart with two axes and a mesh.
fn chart<'a>(area: &Area<'a>, room: &Margins, x: &Axis<'_>, y: &Axis<'_>) -> Result<Chart<'a>> {
    let Margins(margin, right, below, left) = *room;
    let mut chart = ChartBuilder::on(area)
        .margin(margin)
        .margin_right(right)
        .x_label_area_size(below)
        .y_label_area_size(left)
        .build_cartesian_2d(x.range.clone(), y.range.clone())
        .map_err(figure_error)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(MESH).label_style(FONT);
    let formatter = |axis: &Axis<'_>| if axis.log { log_tick } else { tick };
    let (x_tick, y_tick) = (formatter(x), formatter(y));
    mesh.x_labels(x.labels).x_desc(x.name).x_label_formatter(&x_tick).y_labels(y.labels);
    if y.labels == 0 {
        mesh.disable_y_mesh();
    } else {
        mesh.y_desc(y.name).y_label_formatter(&y_tick);
    }
    mesh.draw().map_err(figure_error)?;
    Ok(chart)
}

/// A line, with a mark at each point if there are few.
fn curve(chart: &mut Chart<'_>, line: &Series) -> Result<()> {
    let colour = COLOURS[line.colour];
    let points = line.points.iter().copied();
    chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2))).map_err(figure_error)?;
    let size = match line.points.len() {
        0..=8 => 5,
        9..=60 => 3,
        _ => return Ok(()),
    };
    let drawn = match line.colour {
        0 => chart.draw_series(points.map(|point| Circle::new(point, size, colour.filled()))).map(drop),
        1 => chart
            .draw_series(points.map(|point| TriangleMarker::new(point, size + 1, colour.filled())))
            .map(drop),
        _ => chart.draw_series(points.map(|point| Cross::new(point, size, colour.stroke_width(2)))).map(drop),
    };
    drawn.map_err(figure_error)
}

/// A figure drawn for desktops and for phones (`true`); the page's style shows one of them.
fn wide_and_narrow(
    [wide, narrow]: [(u32, u32); 2],
    label: &str,
    draw: impl Fn(&Area<'_>, bool) -> Result<()>,
) -> Result<Markup> {
    Ok(html! {
        div.wide { (svg(wide, label, |area| draw(area, false))?) }
        div.narrow { (svg(narrow, label, |area| draw(area, true))?) }
    })
}

/// A line chart; dashed lines are references.
pub(super) fn lines(x_name: &str, y_name: &str, series: &[Series]) -> Result<Markup> {
    draw_lines(x_name, y_name, [false, false], series)
}

/// A line chart whose horizontal axis is logarithmic, and the vertical one if `log_y`.
pub(super) fn log_lines(x_name: &str, y_name: &str, log_y: bool, series: &[Series]) -> Result<Markup> {
    let logarithm = |line: &Series| Series {
        name: line.name.clone(),
        points: line.points.iter().map(|&(x, y)| (x.log10(), if log_y { y.log10() } else { y })).collect(),
        ..*line
    };
    let series: Vec<Series> = series.iter().map(logarithm).collect();
    draw_lines(x_name, y_name, [true, log_y], &series)
}

fn draw_lines(x_name: &str, y_name: &str, log: [bool; 2], series: &[Series]) -> Result<Markup> {
    let points = || series.iter().flat_map(|series| series.points.iter());
    let (x0, x1) = range(points().map(|point| point.0));
    let (y0, y1) = range(points().map(|point| point.1));
    wide_and_narrow([(760, 340), (358, 300)], &format!("{y_name} by {x_name}"), |area, narrow| {
        let x = Axis { log: log[0], ..Axis::new(x_name, x0..x1, if narrow { 4 } else { 11 }) };
        let y = Axis { log: log[1], ..Axis::new(y_name, y0..y1, 8) };
        let mut chart = chart(area, &LARGE, &x, &y)?;
        for line in series {
            if line.dashed {
                let style = COLOURS[line.colour].stroke_width(2);
                chart
                    .draw_series(DashedLineSeries::new(line.points.iter().copied(), 6, 4, style))
                    .map_err(figure_error)?;
            } else {
                curve(&mut chart, line)?;
            }
        }
        Ok(())
    })
}

/// A legend entry.
fn legend_item(mark: &Markup, name: &str) -> Markup {
    html! { li { svg width="26" height="12" aria-hidden="true" { (mark) } (name) } }
}

fn hex(colour: usize) -> String {
    let RGBColor(r, g, b) = COLOURS[colour];
    format!("#{r:02X}{g:02X}{b:02X}")
}

fn legend_line(colour: usize, dashed: bool) -> Markup {
    html! {
        path d="M0 6H26" stroke=(hex(colour)) stroke-width="2" stroke-dasharray=[dashed.then_some("5 3")] {}
    }
}

/// The legend of a line chart.
pub(super) fn legend(series: &[Series]) -> Markup {
    let mark = |line: &Series| {
        let hex = hex(line.colour);
        html! {
            (legend_line(line.colour, line.dashed))
            @match line.colour {
                _ if line.dashed => {},
                0 => { circle cx="13" cy="6" r="4" fill=(hex) {} },
                1 => { path d="M8 10H18L13 1Z" fill=(hex) {} },
                _ => { path d="M9 2L17 10M9 10L17 2" stroke=(hex) stroke-width="2" {} },
            }
        }
    };
    html! { ul.key { @for line in series { (legend_item(&mark(line), &line.name)) } } }
}

/// The legend of a reliability diagram: the first series is filled, the second rings, then the
/// diagonal.
pub(super) fn reliability_legend([first, second, diagonal]: [&str; 3]) -> Markup {
    let filled = html! { circle cx="13" cy="6" r="5" fill=(hex(0)) {} };
    let ring = html! { circle cx="13" cy="6" r="5" fill="none" stroke=(hex(1)) stroke-width="2" {} };
    html! {
        ul.key {
            (legend_item(&filled, first))
            (legend_item(&ring, second))
            (legend_item(&legend_line(REFERENCE, true), diagonal))
        }
    }
}

/// Bins with fewer tokens are merged.
pub(super) const MIN_BIN_TOKENS: usize = 20;

/// The 95 % confidence interval of an accuracy (Wilson 1927), as if tokens were independent.
fn wilson_interval(group: &ReliabilityBin) -> (f64, f64) {
    let (n, p, z) = (group.count as f64, group.accuracy, 1.96);
    let whole = 1.0 + z * z / n;
    let middle = (p + z * z / (2.0 * n)) / whole;
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / whole;
    (middle - half, middle + half)
}

/// A reliability diagram: accuracy by confidence, with the diagonal of perfect calibration. The
/// area of a dot is its share of the tokens. The first series is filled, the second rings.
pub(super) fn reliability(series: &[Vec<ReliabilityBin>]) -> Result<Markup> {
    let most = series.iter().flatten().map(|group| group.count).max().unwrap_or(1);
    svg((280, 270), "accuracy by confidence", |area| {
        let axis = |name| Axis::new(name, 0.0..1.0, 5);
        let x = axis("confidence: q of the likeliest token");
        let mut chart = chart(area, &SMALL, &x, &axis("accuracy"))?;
        let diagonal =
            DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 3, 3, COLOURS[REFERENCE].stroke_width(1));
        chart.draw_series(diagonal).map_err(figure_error)?;
        for (index, groups) in series.iter().enumerate() {
            for group in groups {
                let (low, high) = wilson_interval(group);
                let faint = if group.count < MIN_BIN_TOKENS { 0.3 } else { 1.0 };
                let colour = COLOURS[index].mix(faint);
                let ends = [(group.confidence, low), (group.confidence, high)];
                let size = (8.0 * (group.count as f64 / most as f64).sqrt()).max(2.0) as i32;
                let ink = if index == 0 { colour.filled() } else { colour.stroke_width(2) };
                let dot = Circle::new((group.confidence, group.accuracy), size, ink);
                chart.draw_series([PathElement::new(ends, colour.stroke_width(1))]).map_err(figure_error)?;
                chart.draw_series([dot]).map_err(figure_error)?;
            }
        }
        Ok(())
    })
}

/// A histogram of `counts` in equal bins from 0 to `most`.
pub(super) fn histogram(counts: &[u64], most: f64, x_name: &str) -> Result<Markup> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let highest = counts.iter().max().copied().unwrap_or(1) as f64 / total;
    let width = most / counts.len().max(1) as f64;
    svg((280, 200), &format!("how many predictions by {x_name}"), |area| {
        let x = Axis::new(x_name, 0.0..most, 5);
        let shares = 0.0..(100.0 * highest * 1.05).max(1e-9);
        let mut chart = chart(area, &SMALL, &x, &Axis::new("% of tokens", shares, 4))?;
        let bars = counts.iter().enumerate().map(|(i, count)| {
            let corners =
                [(i as f64 * width, 0.0), ((i as f64 + 0.9) * width, 100.0 * *count as f64 / total)];
            Rectangle::new(corners, COLOURS[0].filled())
        });
        chart.draw_series(bars).map_err(figure_error)?;
        Ok(())
    })
}

/// A forest plot: a row per name with its value and standard error; `reference` is a vertical line.
pub(super) fn forest_plot(
    names: &[String],
    values: &[(f64, f64)],
    x_name: &str,
    reference: Option<f64>,
) -> Result<Markup> {
    let n = names.len();
    let ends = values.iter().flat_map(|(value, error)| [value - error, value + error]);
    let (x0, x1) = range(ends.chain(reference));
    let longest = names.iter().map(|name| name.chars().count().min(MAX_NAME_CHARS)).max().unwrap_or(0);
    let sizes = [(760, 60 + 22 * n as u32), (358, 60 + 38 * n as u32)];
    wide_and_narrow(sizes, &format!("{x_name} of every variant"), |area, narrow| {
        let room = Margins(8, 20, 44, if narrow { 4 } else { 24 + 7 * longest as u32 });
        let x = Axis::new(x_name, x0..x1, if narrow { 4 } else { 8 });
        let y = Axis::new("", -0.6..n as f64 - 0.4, 0);
        let mut chart = chart(area, &room, &x, &y)?;
        if let Some(x) = reference {
            let line = [(x, -0.6), (x, n as f64 - 0.4)];
            chart
                .draw_series(DashedLineSeries::new(line, 6, 4, COLOURS[REFERENCE].stroke_width(2)))
                .map_err(figure_error)?;
        }
        // Names are left of their lines, on phones above them; the first is at the top.
        let (anchor, by) = if narrow { (HPos::Left, (2, -15)) } else { (HPos::Right, (-8, 0)) };
        let size =
            if narrow { FONT.1 * PHONE_NAME_CHARS / PHONE_NAME_CHARS.max(longest as u32) } else { FONT.1 };
        let style = (FONT.0, size).into_text_style(area).pos(Pos::new(anchor, VPos::Center));
        for (index, (name, (value, error))) in names.iter().zip(values).enumerate() {
            let y = n as f64 - 1.0 - index as f64;
            let name =
                EmptyElement::at((x0, y)) + Text::new(shortened(name, MAX_NAME_CHARS), by, style.clone());
            chart.draw_series([name]).map_err(figure_error)?;
            chart.draw_series([PathElement::new([(x0, y), (x1, y)], MESH)]).map_err(figure_error)?;
            let bar = [(value - error, y), (value + error, y)];
            chart.draw_series([PathElement::new(bar, COLOURS[0].stroke_width(2))]).map_err(figure_error)?;
            chart.draw_series([Circle::new((*value, y), 4, COLOURS[0].filled())]).map_err(figure_error)?;
        }
        Ok(())
    })
}

/// The name, cut to `most` characters.
fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(figure: &str, tag: &str, name: &str) -> Vec<f64> {
        let tags = figure.split('<').filter(|part| part.starts_with(&format!("{tag} ")));
        tags.map(|part| part.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap())
            .map(|value| value.parse().unwrap())
            .collect()
    }

    #[test]
    fn figures_are_svg_without_addresses() {
        let line =
            |dashed| Series { name: "a".into(), colour: 0, dashed, points: vec![(0.0, 1.0), (2.0, 0.5)] };
        let dots_names = ["a".to_owned(), "b < c".to_owned()];
        let group = ReliabilityBin { confidence: 0.5, accuracy: 0.4, count: 30 };
        for figure in [
            lines("step", "nats", &[line(false), line(true)]).unwrap().into_string(),
            lines("step", "nats", &[]).unwrap().into_string(),
            reliability(&[vec![group]]).unwrap().into_string(),
            histogram(&[1, 5, 0], 3.0, "nats").unwrap().into_string(),
            histogram(&[], 3.0, "nats").unwrap().into_string(),
            forest_plot(&dots_names, &[(1.0, 0.1), (1.0, 0.0)], "nats", Some(0.5)).unwrap().into_string(),
        ] {
            assert!(figure.contains("<svg role=\"img\"") && !figure.contains("b < c"), "{figure}");
            assert_eq!(figure.matches("<svg ").count(), figure.matches("</svg>").count());
            assert!(!figure.contains("http"), "{figure}");
        }
    }

    #[test]
    fn phones_get_figures_of_their_own() {
        let names: Vec<String> =
            (0..6).map(|i| format!("variant number {i} with a name of some length")).collect();
        let values = [(1.0, 0.1); 6];
        for figure in [
            lines("step", "nats", &[]).unwrap().into_string(),
            forest_plot(&names, &values, "nats", None).unwrap().into_string(),
        ] {
            let (wide, narrow) = figure.split_once("<div class=\"narrow\">").unwrap();
            assert!(wide.starts_with("<div class=\"wide\">"));
            assert_eq!(
                (attribute(wide, "svg", "width"), attribute(narrow, "svg", "width")),
                (vec![760.0], vec![358.0])
            );
            // Text stays inside the figure; letters are at most 8 pixels wide.
            for x in attribute(narrow, "text", "x") {
                assert!((0.0..358.0).contains(&x), "{x}");
            }
        }
        // One name per line, and no other mesh lines.
        let figure = forest_plot(&names, &values, "nats", None).unwrap().into_string();
        assert_eq!(figure.matches("variant number").count(), 12);
        let (wide, _) = figure.split_once("<div class=\"narrow\">").unwrap();
        let across =
            wide.split("<polyline ").skip(1).filter(|part| part.contains("stroke=\"#D5DAE0\"")).count();
        assert_eq!(across, 6, "{wide}");
    }

    #[test]
    fn dots_are_as_large_as_their_share_and_few_tokens_are_faint() {
        let group = |confidence, accuracy, count| ReliabilityBin { confidence, accuracy, count };
        let figure = reliability(&[vec![group(0.2, 0.3, 400), group(0.6, 0.5, 100), group(0.9, 1.0, 4)]])
            .unwrap()
            .into_string();
        assert_eq!(attribute(&figure, "circle", "r"), [8.0, 4.0, 2.0]);
        assert_eq!(attribute(&figure, "circle", "opacity"), [1.0, 1.0, 0.3]);
        // Wilson 1927, as tables have it.
        let close = |(a, b): (f64, f64), (x, y): (f64, f64)| (a - x).abs() < 1e-4 && (b - y).abs() < 1e-4;
        assert!(close(wilson_interval(&group(0.5, 0.5, 100)), (0.40383, 0.59617)));
        assert!(close(wilson_interval(&group(0.9, 1.0, 10)), (0.72247, 1.0)));
    }

    #[test]
    fn few_points_are_marked() {
        let line = |n: usize, colour| Series {
            name: "a".into(),
            colour,
            dashed: false,
            points: (0..n).map(|i| (i as f64, 1.0)).collect(),
        };
        let two = lines("step", "nats", &[line(2, 0)]).unwrap().into_string();
        assert_eq!(attribute(&two, "circle", "r"), [5.0; 4], "two for each width");
        assert_eq!(
            lines("step", "nats", &[line(500, 0)]).unwrap().into_string().matches("<circle").count(),
            0
        );
        // Distinguishable without colours.
        let triangles = lines("step", "nats", &[line(2, 1)]).unwrap().into_string();
        assert!(triangles.contains("<polygon") && !triangles.contains("<circle"));
        let key = legend(&[line(1, 0), line(1, 1)]).into_string();
        assert!(key.contains("<circle") && key.contains("L13 1Z"));
    }
}
