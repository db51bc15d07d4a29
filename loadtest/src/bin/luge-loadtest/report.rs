//! What a run found: as text, as JSON, and as a page with plots that needs
//! nothing but itself.

use std::fmt::Write as _;

use serde_json::{Value, json};

pub(crate) use crate::plot::{Dots, Plot};

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
        let mut out = format!("<h2>{}</h2>\n<div class=\"wide\"><table>\n", escaped(&self.title));
        let words: Vec<bool> =
            (0..self.columns.len()).map(|column| self.is_words(column)).collect();
        for (kind, row) in
            [("th", &self.columns)].into_iter().chain(self.rows.iter().map(|row| ("td", row)))
        {
            out.push_str("<tr>");
            for (cell, words) in row.iter().zip(&words) {
                let class = if *words { " class=\"words\"" } else { "" };
                push(&mut out, format_args!("<{kind}{class}>{}</{kind}>", escaped(cell)));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table></div>\n");
        out
    }

    /// Whether a column's cells are anything but figures.
    fn is_words(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.any(|cell| !cell.starts_with(|first: char| first.is_ascii_digit() || first == '–'))
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

/// All that a run found.
pub(crate) struct Report {
    name: String,
    notes: Vec<String>,
    tables: Vec<Table>,
    /// As SVG.
    pictures: Vec<String>,
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:66em;padding:0 1em;color:#222;background:#fff}table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:right}svg{max-width:100%;height:auto}svg text{font-size:13px;fill:#333}.grid{stroke:#ddd}.wide{overflow-x:auto}.words{text-align:left;white-space:nowrap}code{background:#f3f3f3;padding:.1em .3em}";

impl Report {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), notes: Vec::new(), tables: Vec::new(), pictures: Vec::new() }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(crate) fn plot(&mut self, plot: &Plot) {
        self.pictures.push(plot.svg());
    }

    pub(crate) fn dots(&mut self, dots: &Dots) {
        self.pictures.push(dots.svg());
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
        self.pictures.iter().for_each(|picture| out.push_str(picture));
        self.tables.iter().for_each(|table| out.push_str(&table.html()));
        out.push_str("</body></html>\n");
        out
    }
}

pub(crate) fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing into a string does not fail");
}

pub(crate) fn escaped(text: &str) -> String {
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
        report.plot(&plot);
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
}
