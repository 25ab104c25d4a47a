//! `halberd db size`: how big each table is, how long its rows are kept, and what would go now.

use halberd_engine::clock;
use halberd_store::retention::{Days, Keep, Retention, dry_run};
use halberd_store::size::{TableSize, size};
use serde_json::{Value, json};

use super::{Done, open};
use crate::args::DbArgs;
use crate::config::Config;
use crate::verbs::Format;
use crate::verbs::output::{Column, second, table};

const COLUMNS: &[Column] = &[
    Column::id("table", "table"),
    Column::id("rows", "rows"),
    Column::made("size", |row| row["bytes"].as_u64().map_or_else(String::new, bytes)),
    Column::made("oldest", |row| second(&row["oldest"]).split(' ').next().unwrap_or_default().to_owned()),
    Column::id("would go", "would_go"),
    Column::text("kept", "kept"),
];

/// Measures every table; reads all of the database once.
pub async fn run(args: &DbArgs, format: Format) -> Done {
    let policy = Config::load(args.config.as_deref())?.engine.retention;
    let db = open(args).await?;
    let measured = size(&db).await;
    let due = dry_run(&db, &policy, clock::stamp()).await;
    db.close().await;
    let (measured, due) = (measured?, due?);
    let item = |of: &TableSize| {
        json!({
            "table": of.rule.table,
            "rows": of.rows,
            "bytes": of.bytes,
            "oldest": of.oldest.map(time),
            "kept": kept(of.rule.keep, &policy),
            "would_go": due.get(of.rule.table).copied().unwrap_or(0),
        })
    };
    let items: Vec<Value> = measured.tables.iter().map(item).collect();
    Ok(match format {
        Format::Json => {
            let whole = json!({ "bytes": measured.bytes, "free_bytes": measured.free, "tables": items });
            format!("{whole:#}")
        }
        Format::Table | Format::Value => {
            let free = measured
                .free
                .map_or_else(String::new, |free| format!(", {} of it free for new rows", bytes(free)));
            format!("{}\n\n{}{free}", table(&items, COLUMNS), bytes(measured.bytes))
        }
    })
}

/// RFC 3339, as everywhere in the API's answers.
fn time(at: halberd_core::time::Stamp) -> String {
    chrono::DateTime::from_timestamp_micros(at.0)
        .map_or_else(String::new, |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The rule in words, with the figure that stands in the configuration.
fn kept(keep: Keep, policy: &Retention) -> String {
    let days = |days: Days| match (days.of)(policy) {
        0 => format!("for ever ({} = 0)", days.name),
        n => format!("{n} days ({})", days.name),
    };
    match keep {
        Keep::Forever(why) => format!("for ever: {why}"),
        Keep::Bounded(how) => how.to_owned(),
        Keep::Days(of) => days(of),
        Keep::WithRecovery(None) => "with its recovery".to_owned(),
        Keep::WithRecovery(Some(of)) if of.name == "recoveries_days" => {
            format!("{}, {} where power was touched", days(of), policy.fenced_days)
        }
        Keep::WithRecovery(Some(of)) => format!("with its recovery; others {}", days(of)),
    }
}

/// In units that people read.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} B"),
        1_024..1_048_576 => format!("{} KiB", n / 1_024),
        1_048_576..10_737_418_240 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}
