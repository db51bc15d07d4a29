//! What a run found: as text, as JSON, and as a page with plots that needs
//! nothing but itself.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// A table of texts.
pub(crate) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.to_owned(), columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.columns]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = format!("{}\n", self.title);
        for row in [&self.columns].into_iter().chain(&self.rows) {
            for (cell, width) in row.iter().zip(&widths) {
                let gap = width - cell.chars().count();
                push(&mut out, format_args!("  {}{cell}", " ".repeat(gap)));
            }
            out.push('\n');
        }
        out
    }

    fn html(&self) -> String {
        let mut out = format!("<h2>{}</h2>\n<table>\n<tr>", escaped(&self.title));
        for column in &self.columns {
            push(&mut out, format_args!("<th>{}</th>", escaped(column)));
        }
        out.push_str("</tr>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for cell in row {
                push(&mut out, format_args!("<td>{}</td>", escaped(cell)));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table>\n");
        out
    }

    fn json(&self) -> Value {
        let cell = |text: &String| text.parse::<f64>().map_or_else(|_| json!(text), |it| json!(it));
        let row = |row: &Vec<String>| -> Value {
            let cells = self.columns.iter().zip(row);
            cells.map(|(column, text)| (column.clone(), cell(text))).collect()
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

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
const TOP: f64 = 20.0;
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

    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let across = Axis::over(self.scale, points().map(|(x, _)| *x));
        let up = Axis::over(self.scale, points().map(|(_, y)| *y));
        let x = |value: f64| LEFT + across.share(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - up.share(value) * (HEIGHT - BOTTOM - TOP);
        let mut out = format!(
            "<h2>{}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\">\n",
            escaped(&self.title)
        );
        for tick in across.ticks() {
            let at = x(tick);
            push(
                &mut out,
                format_args!(
                    "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{}\" class=\"grid\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                    HEIGHT - BOTTOM,
                    HEIGHT - BOTTOM + 18.0,
                    label(tick)
                ),
            );
        }
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
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        push(
            &mut out,
            format_args!(
                "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n<text x=\"{LEFT}\" y=\"12\" text-anchor=\"end\">{}</text>\n",
                HEIGHT - 8.0,
                escaped(&self.across),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// An axis, and where its lines are.
struct Axis {
    scale: Scale,
    ticks: Vec<f64>,
}

impl Axis {
    /// From one power of ten to another, or from zero in round steps.
    fn over(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        let ticks = match scale {
            _ if most <= 0.0 => vec![1.0, 10.0],
            Scale::Logarithmic => {
                let from = least.log10().floor() as i32;
                let to = (most.log10().ceil() as i32).max(from + 1);
                (from..=to).map(|power| 10_f64.powi(power)).collect()
            }
            Scale::Linear => {
                let step = round_step(most / 6.0);
                let steps = (most / step).ceil() as u32;
                (0..=steps).map(|tick| f64::from(tick) * step).collect()
            }
        };
        Self { scale, ticks }
    }

    /// How far along the axis a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        };
        let (Some(first), Some(last)) = (self.ticks.first(), self.ticks.last()) else { return 0.0 };
        (place(value) - place(*first)) / (place(*last) - place(*first))
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        self.ticks.iter().copied()
    }
}

/// A tick without what computing it left behind the decimal point.
fn label(tick: f64) -> String {
    let text = format!("{tick:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The least of 1, 2, 5, 10, 20 and so on that is not less.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].into_iter().map(|step| step * power);
    steps.into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// All that a run found.
pub(crate) struct Report {
    name: String,
    notes: Vec<String>,
    tables: Vec<Table>,
    plots: Vec<Plot>,
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:66em;padding:0 1em;color:#222;background:#fff}table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:right}svg{max-width:100%;height:auto}svg text{font-size:13px;fill:#333}.grid{stroke:#ddd}code{background:#f3f3f3;padding:.1em .3em}";

impl Report {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), notes: Vec::new(), tables: Vec::new(), plots: Vec::new() }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(crate) fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    pub(crate) fn text(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::text).collect();
        format!("{}\n({})", tables.join("\n"), self.notes.join("; "))
    }

    pub(crate) fn json(&self) -> String {
        let tables: Vec<Value> = self.tables.iter().map(Table::json).collect();
        let report = json!({ "run": self.name, "notes": self.notes, "tables": tables });
        format!("{report:#}\n")
    }

    pub(crate) fn html(&self) -> String {
        let title = format!("luge-loadtest {}", self.name);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        );
        for note in &self.notes {
            push(&mut out, format_args!("<p>{}</p>\n", escaped(note)));
        }
        self.plots.iter().for_each(|plot| out.push_str(&plot.svg()));
        self.tables.iter().for_each(|table| out.push_str(&table.html()));
        out.push_str("</body></html>\n");
        out
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing into a string does not fail");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut table = Table::new("A <table>", &["what", "ms"]);
        table.row(&["first".to_owned(), "1.25".to_owned()]);
        let mut plot = Plot::new("A plot", "rooms", "ms");
        plot.line("a & b", vec![(10.0, 0.5), (1_000.0, 2.0), (5.0, f64::NAN)]);
        let mut report = Report::new("test");
        report.table(table);
        report.plot(plot);
        report
    }

    #[test]
    fn json_has_numbers_where_there_are_numbers() {
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["tables"][0]["rows"][0], json!({"what": "first", "ms": 1.25}));
    }

    #[test]
    fn the_page_shows_texts_and_draws_what_can_be_drawn() {
        let page = report().html();
        assert!(page.contains("A &lt;table&gt;") && page.contains("a &amp; b"));
        assert_eq!(page.matches("<circle").count(), 2, "{page}");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert!(!page.contains("http"), "it needs nothing but itself");
    }

    #[test]
    fn an_axis_spans_its_values() {
        let axis = Axis::over(Scale::Logarithmic, [0.5, 20.0].into_iter());
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.1, 1.0, 10.0, 100.0]);
        assert!(axis.share(0.5) > 0.0 && axis.share(20.0) < 1.0);
        let axis = Axis::over(Scale::Linear, [0.5, 23.0].into_iter());
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        assert_eq!((axis.share(0.0), axis.share(25.0)), (0.0, 1.0));
    }
}
