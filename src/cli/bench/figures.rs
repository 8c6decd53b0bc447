//! What a benchmark found: rows of named figures, as a table or as JSON.
//!
//! Invariant: a figure's name carries its unit (`ns_per_packet`), so that a reader of the JSON needs no
//! manual.

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
    pub fn text(mut self, name: &'static str, value: impl Into<String>) -> Row {
        let text = value.into();
        self.0.push(Figure {
            name,
            value: Value::String(text.clone()),
            text,
        });
        self
    }

    /// Adds a measured number with so many digits after the point.
    pub fn number(mut self, name: &'static str, value: f64, digits: usize) -> Row {
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
        self.0.push(Figure { name, value, text });
        self
    }

    /// Adds a count.
    pub fn count(mut self, name: &'static str, value: u64) -> Row {
        self.0.push(Figure {
            name,
            value: json!(value),
            text: grouped(&value.to_string()),
        });
        self
    }

    /// A figure by name; none where it is no number.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|f| f.name == name)?.value.as_f64()
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

/// The sections as asked for.
pub fn print(sections: &[Section], output: Format) -> std::io::Result<()> {
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
                for line in table(&s.rows).lines() {
                    writeln!(o, "  {}", line.trim_end())?;
                }
                for note in &s.notes {
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

fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let mut t = Table::new();
    t.load_style(presets::NOTHING);
    t.set_header(first.0.iter().map(|f| f.name.replace('_', " ")));
    for row in rows {
        t.add_row(row.0.iter().map(|f| f.text.as_str()));
    }
    for (i, f) in first.0.iter().enumerate() {
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
        let text = table(&[row]);
        assert!(
            text.contains("ns per packet") && text.contains("8,192"),
            "{text}"
        );
    }
}
