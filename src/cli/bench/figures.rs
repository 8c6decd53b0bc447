//! What a benchmark found: rows of named figures, as a table or as JSON.
//!
//! Invariant: a figure's name carries its unit (`ns_per_packet`), so that a reader of the JSON needs no
//! manual; a table without `--wide` is no wider than 120 columns.

use crate::cli::args::Format;
use crate::cli::out::{BOLD, DIM, RESET};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value, json};
use std::io::Write;

/// A named value.
#[derive(Clone, Debug)]
pub struct Figure {
    name: &'static str,
    value: Value,
    text: String,
    /// Left out of a table but with `--wide`.
    wide: bool,
}

/// One row.
#[derive(Clone, Debug, Default)]
pub struct Row(Vec<Figure>);

impl Row {
    /// A row that begins with a name.
    pub fn of(name: &'static str, value: impl Into<String>) -> Row {
        Row::default().text(name, value)
    }

    /// Adds a word.
    pub fn text(self, name: &'static str, value: impl Into<String>) -> Row {
        let text = value.into();
        self.add(name, Value::String(text.clone()), text)
    }

    fn add(mut self, name: &'static str, value: Value, text: String) -> Row {
        self.0.push(Figure {
            name,
            value,
            text,
            wide: false,
        });
        self
    }

    /// What was added last is for JSON and `--wide` alone.
    pub fn wide(mut self) -> Row {
        if let Some(last) = self.0.last_mut() {
            last.wide = true;
        }
        self
    }

    /// Adds a measured number with so many digits after the point.
    pub fn number(self, name: &'static str, value: f64, digits: usize) -> Row {
        let text = if value.is_finite() {
            grouped(&format!("{value:.digits$}"))
        } else {
            "-".to_owned()
        };
        let value = if value.is_finite() {
            let scale = 10f64.powi(digits as i32);
            json!((value * scale).round() / scale)
        } else {
            Value::Null
        };
        self.add(name, value, text)
    }

    /// Adds a count.
    pub fn count(self, name: &'static str, value: u64) -> Row {
        self.add(name, json!(value), grouped(&value.to_string()))
    }

    /// A figure by name; none where it is no number.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|f| f.name == name)?.value.as_f64()
    }

    /// The figures of a table.
    fn shown(&self, wide: bool) -> impl Iterator<Item = &Figure> {
        self.0.iter().filter(move |f| wide || !f.wide)
    }

    fn json(&self) -> Value {
        let pairs = self.0.iter().map(|f| (f.name.to_owned(), f.value.clone()));
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

/// Thousands apart.
fn grouped(digits: &str) -> String {
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |w| ("-", w));
    let mut out = String::from(sign);
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

/// What one scenario found.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The scenario's name.
    pub name: String,
    /// What was measured, in a sentence.
    pub title: String,
    /// The figures; rows have the same names in the same order.
    pub rows: Vec<Row>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// The sections as asked for; `wide` tables have all figures.
pub fn print(sections: &[Section], output: Format, wide: bool) -> std::io::Result<()> {
    match output {
        Format::Json => {
            let all: Vec<Value> = sections.iter().map(json_of).collect();
            let doc = json!({ "version": 1, "scenarios": all });
            let text = serde_json::to_string_pretty(&doc).map_err(std::io::Error::other)?;
            writeln!(std::io::stdout(), "{text}")
        }
        Format::Text => {
            let mut o = anstream::stdout();
            for (i, s) in sections.iter().enumerate() {
                if i > 0 {
                    writeln!(o)?;
                }
                writeln!(o, "{BOLD}{}{RESET}  {}", s.name, s.title)?;
                for line in table(&s.rows, wide).lines() {
                    writeln!(o, " {}", line.trim_end())?;
                }
                let more = s.rows.first().filter(|_| !wide).and_then(left_out);
                for note in s.notes.iter().chain(&more) {
                    writeln!(o, "  {DIM}{note}{RESET}")?;
                }
            }
            o.flush()
        }
    }
}

fn json_of(s: &Section) -> Value {
    let rows: Vec<Value> = s.rows.iter().map(Row::json).collect();
    json!({ "scenario": s.name, "title": s.title, "rows": rows, "notes": s.notes })
}

/// What stands above a figure: its name, its unit as people write it.
fn heading(name: &str) -> String {
    let unit = |n: &str| {
        Some(match n {
            "first_packet_ns" => "first ns".to_owned(),
            "gbit_s" => "Gbit/s".to_owned(),
            _ => match n.rsplit_once('_')? {
                (of, "percent") => format!("{of} %"),
                (of, "s") => format!("{of}/s"),
                (of, "mib") => format!("{of} MiB"),
                _ => return None,
            },
        })
    };
    let name = name
        .replace("_per_", "/")
        .replace("mpps", "Mpps")
        .replace("cpu", "CPU");
    unit(&name).unwrap_or(name).replace('_', " ")
}

/// Which figures a table without `--wide` lacks.
fn left_out(row: &Row) -> Option<String> {
    let names: Vec<String> = row
        .0
        .iter()
        .filter(|f| f.wide)
        .map(|f| heading(f.name))
        .collect();
    (!names.is_empty()).then(|| format!("--wide: {}", names.join(", ")))
}

fn table(rows: &[Row], wide: bool) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let mut t = Table::new();
    t.load_style(presets::NOTHING);
    t.set_header(first.shown(wide).map(|f| heading(f.name)));
    for row in rows {
        t.add_row(row.shown(wide).map(|f| f.text.as_str()));
    }
    for (i, f) in first.shown(wide).enumerate() {
        if !f.value.is_string()
            && let Some(column) = t.column_mut(i)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    t.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown = ["7", "1234", "1234567.25", "-1000"].map(grouped);
        assert_eq!(shown, ["7", "1,234", "1,234,567.25", "-1,000"]);
    }

    #[test]
    fn rows_have_their_names_in_json_and_in_the_table() {
        let row = Row::of("flows", "4,096")
            .number("ns_per_packet", 31.25, 1)
            .count("entries", 8192)
            .number("ratio", f64::NAN, 2);
        let expected =
            json!({"flows": "4,096", "ns_per_packet": 31.3, "entries": 8192, "ratio": null});
        assert_eq!(row.json(), expected);
        let text = table(&[row], false);
        assert!(
            text.contains("ns/packet") && text.contains("8,192"),
            "{text}"
        );
    }

    #[test]
    fn headings_have_units() {
        let names = [
            "services",
            "mpps",
            "process_mpps",
            "ns_per_packet",
            "gbit_s",
            "hit_percent",
            "flows_s",
            "change_ms",
            "server_cpu_ns_per_query",
            "peak_mib",
            "answers_per_s",
        ];
        let shown = [
            "services",
            "Mpps",
            "process Mpps",
            "ns/packet",
            "Gbit/s",
            "hit %",
            "flows/s",
            "change ms",
            "server CPU ns/query",
            "peak MiB",
            "answers/s",
        ];
        assert_eq!(names.map(heading), shown);
    }

    #[test]
    fn a_wide_figure_is_in_wide_tables_and_in_json() {
        let row = || {
            Row::default()
                .count("flows", 7)
                .count("entries", 8192)
                .wide()
        };
        assert_eq!(row().json(), json!({"flows": 7, "entries": 8192}));
        assert!(!table(&[row()], false).contains("8,192"));
        assert!(table(&[row()], true).contains("8,192"));
        assert_eq!(left_out(&row()).as_deref(), Some("--wide: entries"));
        assert_eq!(left_out(&Row::default().count("flows", 7)), None);
    }
}
