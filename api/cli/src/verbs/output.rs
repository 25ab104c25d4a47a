//! What a verb prints: a table for people, JSON for programs, bare values for the shell.
//!
//! JSON is the API's own object or a list of them, keys sorted, nothing renamed or left out, so that it is as stable as the API.
//! Tables have no frames and fit [`WIDTH`] columns; ids never wrap, so that they can be copied. Text from the service is shown with
//! its control characters taken out: a guest's name must not steer an operator's terminal.

use std::fmt::Write as _;
use std::io::Write;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use halberd_types::v1::value::parse_time;
use serde_json::Value;

use super::failure::Failure;

/// Columns of a terminal that a table fits into: what a laptop's half screen or a log viewer shows.
const WIDTH: u16 = 110;
/// Stands for null and for empty.
const NOTHING: &str = "-";

/// In which form answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: the API's own objects; stable
    Json,
    /// Bare values: a line for each item of a list, or for each field of one thing
    Value,
}

/// One column of a table, or one field of a thing.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    from: From,
    wraps: bool,
}

#[derive(Clone, Copy, Debug)]
enum From {
    /// A path of keys, with points.
    Key(&'static str),
    Time(&'static str),
    Made(fn(&Value) -> String),
}

impl Column {
    pub const fn id(name: &'static str, key: &'static str) -> Column {
        Column { name, from: From::Key(key), wraps: false }
    }
    pub const fn text(name: &'static str, key: &'static str) -> Column {
        Column { name, from: From::Key(key), wraps: true }
    }
    pub const fn time(name: &'static str, key: &'static str) -> Column {
        Column { name, from: From::Time(key), wraps: false }
    }
    pub const fn made(name: &'static str, make: fn(&Value) -> String) -> Column {
        Column { name, from: From::Made(make), wraps: true }
    }

    fn of(&self, item: &Value, format: Format) -> String {
        let shown = match self.from {
            From::Key(key) => words(at(item, key)),
            From::Time(key) if format == Format::Table => second(at(item, key)),
            From::Time(key) => words(at(item, key)),
            From::Made(make) => make(item),
        };
        let shown = clean(&shown);
        if shown.is_empty() { NOTHING.to_owned() } else { shown }
    }
}

/// Where a verb prints to.
pub struct Screen<'a> {
    pub format: Format,
    /// Names asked for with `--column`; none: all.
    pub columns: &'a [String],
    pub out: &'a mut (dyn Write + Send),
}

impl std::fmt::Debug for Screen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Screen<'_> {
    /// A list of things.
    pub fn list(&mut self, items: &[Value], columns: &[Column]) -> Result<(), Failure> {
        let columns = self.chosen(columns)?;
        match self.format {
            Format::Json => self.json(&Value::Array(items.to_vec())),
            Format::Value => {
                for item in items {
                    let cells: Vec<String> =
                        columns.iter().map(|column| column.of(item, self.format)).collect();
                    writeln!(self.out, "{}", cells.join(" "))?;
                }
                Ok(())
            }
            Format::Table if items.is_empty() => self.line("none"),
            Format::Table => self.line(&table(items, &columns)),
        }
    }

    /// One thing.
    pub fn show(&mut self, item: &Value, columns: &[Column]) -> Result<(), Failure> {
        let columns = self.chosen(columns)?;
        match self.format {
            Format::Json => self.json(item),
            Format::Value => {
                for column in &columns {
                    writeln!(self.out, "{}", column.of(item, self.format))?;
                }
                Ok(())
            }
            Format::Table => {
                let rows: Vec<Vec<String>> = columns
                    .iter()
                    .map(|column| vec![column.name.to_lowercase(), column.of(item, self.format)])
                    .collect();
                self.line(&grid(None, rows, &[false, true]))
            }
        }
    }

    /// Something was done, and there is nothing to show of it.
    pub fn done(&mut self, text: &str) -> Result<(), Failure> {
        self.done_with(text, &serde_json::json!({ "done": text }))
    }

    /// Something was done: a sentence for people, the API's answer for programs.
    pub fn done_with(&mut self, text: &str, answer: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(answer),
            _ => self.line(&clean(text)),
        }
    }

    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        writeln!(self.out, "{value:#}")?;
        Ok(())
    }

    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    fn chosen(&self, columns: &[Column]) -> Result<Vec<Column>, Failure> {
        if self.columns.is_empty() {
            return Ok(columns.to_vec());
        }
        if self.format == Format::Json {
            return Err(Failure::usage(
                "--column goes with the formats table and value; json prints whole objects",
            ));
        }
        let find = |wanted: &String| {
            columns.iter().find(|column| column.name.eq_ignore_ascii_case(wanted)).copied().ok_or_else(|| {
                let names: Vec<String> = columns.iter().map(|column| column.name.to_lowercase()).collect();
                Failure::usage(format!("there is no column {wanted:?} here; there are: {}", names.join(", ")))
            })
        };
        self.columns.iter().map(find).collect()
    }
}

/// A table of things with a head.
pub fn table(items: &[Value], columns: &[Column]) -> String {
    let row = |item: &Value| columns.iter().map(|column| column.of(item, Format::Table)).collect();
    let head = columns.iter().map(|column| column.name.to_uppercase()).collect();
    let wraps: Vec<bool> = columns.iter().map(|column| column.wraps).collect();
    grid(Some(head), items.iter().map(row).collect(), &wraps)
}

/// Aligned text that fits [`WIDTH`]; columns that may not wrap keep their width.
pub fn grid(head: Option<Vec<String>>, rows: Vec<Vec<String>>, wraps: &[bool]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    if let Some(head) = head {
        table.set_header(head);
    }
    table.add_rows(rows);
    for (column, wraps) in table.column_iter_mut().zip(wraps) {
        column.set_padding((0, 2));
        if !wraps {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

/// A value by its path of keys; null where there is none.
pub fn at<'v>(item: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(item, |value, key| value.get(key).unwrap_or(&Value::Null))
}

/// A value by its path, as text; empty where there is none.
pub fn text(item: &Value, path: &str) -> String {
    words(at(item, path))
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pairs: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}={}", words(value))).collect();
            pairs.join(" ")
        }
        other => other.to_string(),
    }
}

/// A time to the second, in UTC; what is no time is shown as it is.
pub fn second(value: &Value) -> String {
    let told = words(value);
    parse_time(&told).map_or(told, |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// Milliseconds in a unit that people read.
pub fn milliseconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// On one line, control characters written out: escape sequences from outside do nothing.
pub fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if c.is_control() => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}
