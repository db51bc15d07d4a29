//! Pictures for a report's page, as SVG: lines over an axis, and dots that compare.

use crate::report::{escaped, push};

/// A plot of lines.
pub(crate) struct Plot {
    scale: Scale,
    title: String,
    across: String,
    up: String,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 50.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 34.0;
/// Points of a line that are marked one by one.
const MARKS_MAX: usize = 60;
const COLOURS: [&str; 6] = ["#1b6ca8", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#555555"];

impl Plot {
    /// A plot with logarithmic axes.
    pub(crate) fn new(title: &str, across: &str, up: &str) -> Self {
        let (title, across, up) = (title.into(), across.into(), up.into());
        Self { scale: Scale::Logarithmic, title, across, up, lines: Vec::new() }
    }

    /// The same with axes from zero on, where each step is as long as the others.
    pub(crate) fn linear(title: &str, across: &str, up: &str) -> Self {
        Self { scale: Scale::Linear, ..Self::new(title, across, up) }
    }

    pub(crate) fn line(&mut self, name: &str, points: Vec<(f64, f64)>) {
        let drawn = |(x, y): &(f64, f64)| *x > 0.0 && *y > 0.0 && x.is_finite() && y.is_finite();
        self.lines.push((name.to_owned(), points.into_iter().filter(drawn).collect()));
    }

    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let across = Axis::over(self.scale, points().map(|(x, _)| *x));
        let up = Axis::over(self.scale, points().map(|(_, y)| *y));
        let x = |value: f64| LEFT + across.share(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - up.share(value) * (HEIGHT - BOTTOM - TOP);
        let mut out = begin(&self.title, HEIGHT);
        upright(&mut out, &across, &x, (TOP, HEIGHT - BOTTOM));
        for tick in up.ticks() {
            let at = y(tick);
            push(
                &mut out,
                format_args!(
                    "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" class=\"grid\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                    WIDTH - RIGHT,
                    LEFT - 8.0,
                    at + 4.0,
                    label(tick)
                ),
            );
        }
        caption(&mut out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0, &self.across);
        push(
            &mut out,
            format_args!(
                "<text x=\"{}\" y=\"14\" text-anchor=\"end\">{}</text>\n",
                LEFT - 8.0,
                escaped(&self.up)
            ),
        );
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: Vec<String> =
                points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
            push(
                &mut out,
                format_args!(
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
                    path.join(" ")
                ),
            );
            // So many marks would hide the line.
            let marked: &[(f64, f64)] = if points.len() <= MARKS_MAX { points } else { &[] };
            for (px, py) in marked {
                push(
                    &mut out,
                    format_args!(
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>\n",
                        x(*px),
                        y(*py)
                    ),
                );
            }
            let at = TOP + 14.0 + index as f64 * 20.0;
            let left = WIDTH - RIGHT + 14.0;
            push(
                &mut out,
                format_args!(
                    "<rect x=\"{left}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"{at}\">{}</text>\n",
                    at - 10.0,
                    left + 18.0,
                    escaped(name)
                ),
            );
        }
        out.push_str("</svg>\n");
        out
    }
}

/// A few things side by side, over one logarithmic axis: for each row a dot for
/// each of the series.
pub(crate) struct Dots {
    title: String,
    across: String,
    series: Vec<String>,
    rows: Vec<(String, Vec<f64>)>,
}

/// For the names of rows.
const NAMES: f64 = 230.0;
/// For the figure beside the last dot.
const FIGURE: f64 = 90.0;
const DOT_STEP: f64 = 19.0;
const ROW_GAP: f64 = 13.0;
const LEGEND: f64 = 26.0;

impl Dots {
    pub(crate) fn new(title: &str, across: &str, series: &[&str]) -> Self {
        let series = series.iter().map(|name| (*name).to_owned()).collect();
        Self { title: title.into(), across: across.into(), series, rows: Vec::new() }
    }

    /// A row with a value for each of the series; zero has a place of its own, and
    /// what is no number none.
    pub(crate) fn row(&mut self, name: &str, values: &[f64]) {
        self.rows.push((name.to_owned(), values.to_vec()));
    }

    pub(crate) fn svg(&self) -> String {
        let drawn = |value: &f64| *value > 0.0 && value.is_finite();
        let values = self.rows.iter().flat_map(|(_, values)| values).copied();
        let axis = Axis::over(Scale::Logarithmic, values.filter(drawn));
        let x = |value: f64| NAMES + axis.share(value) * (WIDTH - NAMES - FIGURE);
        let row_height = DOT_STEP * self.series.len() as f64 + ROW_GAP;
        let foot = LEGEND + row_height * self.rows.len() as f64;
        let mut out = begin(&self.title, foot + BOTTOM);
        let mut left = NAMES;
        for (name, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            push(
                &mut out,
                format_args!(
                    "<circle cx=\"{}\" cy=\"9\" r=\"6\" fill=\"{colour}\"/><text x=\"{}\" y=\"14\">{}</text>\n",
                    left + 6.0,
                    left + 18.0,
                    escaped(name)
                ),
            );
            left += 50.0 + 8.0 * name.chars().count() as f64;
        }
        upright(&mut out, &axis, &x, (LEGEND, foot));
        caption(&mut out, (NAMES + WIDTH - FIGURE) / 2.0, foot + 40.0, &self.across);
        for (index, (name, values)) in self.rows.iter().enumerate() {
            let top = LEGEND + row_height * index as f64 + ROW_GAP / 2.0;
            push(
                &mut out,
                format_args!(
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                    NAMES - 12.0,
                    top + DOT_STEP * self.series.len() as f64 / 2.0 + 4.0,
                    escaped(name)
                ),
            );
            let dots = values.iter().zip(COLOURS.iter().cycle()).enumerate();
            for (place, (value, colour)) in dots.filter(|(_, (value, _))| value.is_finite()) {
                let y = top + DOT_STEP * (place as f64 + 0.5);
                let at = if drawn(value) { x(*value) } else { NAMES };
                push(
                    &mut out,
                    format_args!(
                        "<line x1=\"{NAMES}\" y1=\"{y:.1}\" x2=\"{at:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.35\" stroke-width=\"2\"/><circle cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"6\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                        at + 12.0,
                        y + 4.5,
                        figure(*value)
                    ),
                );
            }
        }
        out.push_str("</svg>\n");
        out
    }
}

/// The heading and the beginning of a picture.
fn begin(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<h2>{title}</h2>\n<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" role=\"img\" aria-label=\"{title}\">\n"
    )
}

/// The lines of an axis that runs across, from `top` to `foot`, with their labels.
fn upright(out: &mut String, axis: &Axis, x: &dyn Fn(f64) -> f64, (top, foot): (f64, f64)) {
    for tick in axis.ticks() {
        let at = x(tick);
        push(
            out,
            format_args!(
                "<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{foot}\" class=\"grid\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                foot + 18.0,
                label(tick)
            ),
        );
    }
}

fn caption(out: &mut String, x: f64, y: f64, text: &str) {
    push(
        out,
        format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>\n", escaped(text)),
    );
}

/// A value as exact as a picture is.
fn figure(value: f64) -> String {
    if value <= 0.0 {
        return label(value);
    }
    let digits = (2.0 - value.log10().floor()).clamp(0.0, 6.0) as usize;
    label(format!("{value:.digits$}").parse().unwrap_or(value))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// An axis, and where its lines are.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

/// Lines of an axis with those at 2 and 5 among them.
const TICKS_MAX: usize = 9;

impl Axis {
    /// From zero in round steps; or, where it is logarithmic, from below the least
    /// value, which is above zero.
    fn over(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        let ticks = match scale {
            _ if most <= 0.0 => vec![1.0, 10.0],
            Scale::Logarithmic => {
                let powers = least.log10().floor() as i32 - 1..=most.log10().ceil() as i32;
                let steps: Vec<f64> = powers
                    .flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)))
                    .collect();
                let from = steps.iter().rposition(|step| *step < least * 0.999).unwrap_or(0);
                let to = steps.iter().position(|step| *step > most * 0.999);
                steps[from..=to.unwrap_or(steps.len() - 1)].to_vec()
            }
            Scale::Linear => {
                let step = round_step(most / 6.0);
                let steps = (most / step).ceil() as u32;
                (0..=steps).map(|tick| f64::from(tick) * step).collect()
            }
        };
        let (from, to) = (ticks[0], ticks[ticks.len() - 1]);
        let is_power = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
        let thin = scale == Scale::Logarithmic && ticks.len() > TICKS_MAX;
        let ticks = ticks.into_iter().filter(|tick| !thin || is_power(tick)).collect();
        Self { scale, from, to, ticks }
    }

    /// How far along the axis a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        };
        (place(value) - place(self.from)) / (place(self.to) - place(self.from))
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        self.ticks.iter().copied()
    }
}

/// A tick without what computing it left behind the decimal point, and with its
/// thousands apart.
fn label(tick: f64) -> String {
    let text = format!("{tick:.6}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut label = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            label.push(',');
        }
        label.push(digit);
    }
    let part = part.trim_end_matches('0');
    if part.is_empty() { label } else { format!("{label}.{part}") }
}

/// The least of 1, 2, 5, 10, 20 and so on that is not less.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].into_iter().map(|step| step * power);
    steps.into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_spans_its_values() {
        let axis = Axis::over(Scale::Logarithmic, [0.5, 20.0].into_iter());
        let labels: Vec<String> = axis.ticks().map(label).collect();
        assert_eq!(labels, ["0.2", "0.5", "1", "2", "5", "10", "20"]);
        assert!(axis.share(0.5) > 0.0 && (axis.share(20.0) - 1.0).abs() < 1e-9);
        let axis = Axis::over(Scale::Logarithmic, [0.6, 90_000.0].into_iter());
        let labels: Vec<String> = axis.ticks().map(label).collect();
        assert_eq!(labels, ["1", "10", "100", "1,000", "10,000", "100,000"]);
        assert!(axis.share(0.6) > 0.0 && axis.share(90_000.0) < 1.0);
        let axis = Axis::over(Scale::Linear, [0.5, 23.0].into_iter());
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        assert_eq!((axis.share(0.0), axis.share(25.0)), (0.0, 1.0));
    }

    #[test]
    fn dots_have_their_figures_beside_them_and_what_is_no_number_has_none() {
        let mut dots = Dots::new("Side by side", "ms", &["a & b", "other"]);
        dots.row("first", &[0.41234, 186.4]);
        dots.row("nothing", &[0.0, f64::NAN]);
        let svg = dots.svg();
        // Two in the legend, two in the first row, and that of nothing.
        assert_eq!(svg.matches("<circle").count(), 5, "{svg}");
        assert!(svg.contains(">0<") && svg.contains(">0.412<") && svg.contains(">186<"), "{svg}");
        assert!(svg.contains("a &amp; b") && !svg.contains("NaN"), "{svg}");
    }
}
