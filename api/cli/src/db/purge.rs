//! `halberd db purge`: a pass by hand, now and without pauses for others' sake beyond those of its steps.

use std::collections::BTreeMap;
use std::time::Duration;

use halberd_engine::clock;
use halberd_store::retention::{Begun, Retention, Step, begin, dry_run, turn};
use halberd_store::{Access, Db, size};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{Done, open};
use crate::args::{DbArgs, Purge};
use crate::config::Config;
use crate::serve::StartError;
use crate::verbs::Format;

/// Who had the turn loses it to a person.
const BY: &str = "halberd db purge";

/// Deletes what is old, or says what would be.
pub async fn run(args: &Purge, format: Format) -> Done {
    let config = Config::load(args.config.as_deref())?;
    let db = match args.compact {
        // With the lock of an engine: nobody else has the file.
        true => {
            let url = config.database_url()?;
            Db::open(url.expose_secret(), Access::Exclusive).await.map_err(StartError::Database)?
        }
        false => open(&DbArgs { config: args.config.clone() }).await?,
    };
    let policy = &config.engine.retention;
    let done = match args.dry_run {
        true => dry_run(&db, policy, clock::stamp()).await.map_err(Into::into),
        false => purge(&db, policy).await,
    };
    let done = match done {
        Ok(gone) if args.compact => size::compact(&db).await.map(|()| gone).map_err(Into::into),
        other => other,
    };
    db.close().await;
    let gone = done?;
    let word = if args.dry_run { "would go" } else { "went" };
    if format == Format::Json {
        return Ok(format!("{:#}", json!({ "dry_run": args.dry_run, "rows": gone })));
    }
    let sum: u64 = gone.values().sum();
    let lines: Vec<String> = gone.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
    Ok(match sum {
        0 => format!("nothing {word}: everything is younger than [retention] keeps it, or still needed"),
        _ => format!("{}\n{sum} rows {word}", lines.join("\n")),
    })
}

type Gone = BTreeMap<&'static str, u64>;

async fn purge(db: &Db, policy: &Retention) -> Result<Gone, Box<dyn std::error::Error>> {
    let seen = turn(db).await?;
    let Begun::Pass(mut pass) = begin(db, policy, BY, seen.as_ref(), clock::stamp()).await? else {
        return Err("an engine is purging at this moment: try again".into());
    };
    let mut gone = Gone::new();
    loop {
        match pass.step(db, clock::stamp()).await {
            Ok(Step::Deleted { table, rows }) => {
                if rows > 0 {
                    *gone.entry(table).or_default() += rows;
                }
                // Whoever waits for the database is next.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(Step::Looked) => {}
            Ok(Step::Done) => return Ok(gone),
            Ok(Step::Lost) => {
                return Err("another purge took the turn; what was deleted until then stays deleted".into());
            }
            // Who is in the way has more urgent work.
            Err(error) if error.is_conflict() => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => return Err(error.into()),
        }
    }
}
