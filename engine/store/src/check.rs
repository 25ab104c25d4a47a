//! Whether the database is whole: everything that can be found out by reading it, and one row that is written and taken back.
//!
//! What is found is listed and not mended: a person decides whether a row is mended, a backup restored, or a newer version started. One
//! finding never hides another; only a database that stops answering ends the check.

use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::db::Db;
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::retention::aged::beyond;
use crate::transaction::{Tx, all};
use crate::value::{Arg, Row, args};
use crate::{
    agent_reports, audit, bus, deliveries, engines, events, evidence, fence_devices, fence_drills, hosts,
    intents, legible, notifications, orders, recoveries, restore_policies, retention, segments, services,
    settings, sightings, vmoves, wishes,
};

/// Rows read at once.
const PAGE: usize = 500;
/// Findings of one kind that are listed; a damaged disk has thousands.
const MOST: usize = 200;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: String,
    pub way_out: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub tables: u64,
    pub rows: u64,
    pub chains: u64,
    pub records: u64,
    pub findings: Vec<Finding>,
}

impl Checked {
    fn say(&mut self, what: impl Into<String>, way_out: &str) {
        self.findings.push(Finding { what: what.into(), way_out: way_out.to_owned() });
    }
}

type Reads = fn(&Row) -> Result<()>;

macro_rules! reads {
    ($read:path) => {
        |row: &Row| $read(row).map(drop)
    };
}

/// Each table, its primary key, and how its rows are read. What is sealed is read as far as that needs no key.
const TABLES: &[(&str, &[&str], Reads)] = &[
    ("segments", &["num"], reads!(segments::read)),
    ("segment_policy", &["segment"], |row| {
        let row = row.of("segment_policy", "segment");
        row.id::<uuid::Uuid>("segment")?;
        row.json::<serde_json::Map<String, serde_json::Value>>("policy").map(drop)
    }),
    ("hosts", &["num"], reads!(hosts::read)),
    ("notifications", &["num"], reads!(notifications::read)),
    ("duplicates", &["host", "kind", "payload_hash"], |row| {
        let row = row.of("duplicates", "payload_hash");
        row.id::<uuid::Uuid>("host")?;
        row.id::<uuid::Uuid>("notification")?;
        row.stamp("last_at").map(drop)
    }),
    ("evidence", &["num"], reads!(evidence::read)),
    ("recoveries", &["num"], reads!(recoveries::read)),
    ("vmoves", &["num"], reads!(vmoves::read)),
    ("intents", &["id"], reads!(intents::read)),
    ("audit_heads", &["chain"], |row| {
        let row = row.of("audit_heads", "chain");
        row.string("hash")?;
        row.int("sequence").map(drop)
    }),
    ("events", &["num"], reads!(events::read)),
    ("deliveries", &["num"], reads!(deliveries::read)),
    ("engines", &["name"], reads!(engines::read)),
    ("wishes", &["num"], reads!(wishes::read)),
    ("fence_devices", &["host"], reads!(fence_devices::read)),
    ("fence_checks", &["host", "level", "position"], reads!(fence_devices::read_check)),
    ("sessions", &["id"], |row| {
        let row = row.of("sessions", "id");
        row.id::<uuid::Uuid>("host")?;
        row.opt_id::<uuid::Uuid>("recovery")?;
        row.string("sealed").map(drop)
    }),
    ("agent_keys", &["host"], |row| row.of("agent_keys", "host").string("sealed").map(drop)),
    ("agent_reports", &["id"], reads!(agent_reports::read)),
    ("orders", &["num"], reads!(orders::read)),
    ("services", &["num"], reads!(services::read)),
    ("service_downs", &["num"], |row| {
        let row = row.of("service_downs", "num");
        row.stamp("began_at")?;
        row.id::<uuid::Uuid>("service").map(drop)
    }),
    ("sightings", &["host", "engine"], reads!(sightings::read)),
    ("settings", &["name"], |row| row.of("settings", "name").string("value").map(drop)),
    ("bus_outbox", &["num"], reads!(bus::read)),
    ("restore_policies", &["host", "device"], reads!(restore_policies::read)),
    ("fence_drills", &["host", "device"], reads!(fence_drills::read)),
];

/// A row, the column that names another, and what it names.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("hosts", "segment", "segments"),
    ("recoveries", "host", "hosts"),
    ("recoveries", "segment", "segments"),
    ("vmoves", "recovery", "recoveries"),
    ("notifications", "recovery", "recoveries"),
    ("intents", "recovery", "recoveries"),
    ("intents", "host", "hosts"),
    ("deliveries", "event", "events"),
    ("fence_devices", "host", "hosts"),
    ("agent_keys", "host", "hosts"),
    ("sessions", "host", "hosts"),
    ("fence_drills", "host", "hosts"),
    ("restore_policies", "host", "hosts"),
    ("service_downs", "service", "services"),
];

const MEND: &str = "somebody edited the database, or a newer version wrote it; mend the row, start that version, or restore a backup";
const ORPHAN: &str =
    "somebody deleted rows by hand, or a restore was partial; delete this row too, or restore a backup";
const AUDIT: &str =
    "keep the database as it is, and compare it with the last backup and the chain heads kept elsewhere";

/// Looks at everything.
///
/// # Errors
/// Only what ends the check: the database stopped answering.
pub async fn check(db: &Db) -> Result<Checked> {
    let mut checked = Checked::default();
    takes_writes(db, &mut checked).await?;
    durable(db, &mut checked).await?;
    pages(db, &mut checked).await?;
    for (table, keys, reads) in TABLES {
        rows(db, table, keys, *reads, &mut checked).await?;
    }
    orphans(db, &mut checked).await?;
    for gap in events::gaps(db).await? {
        checked.say(format!("events: {gap}"), ORPHAN);
    }
    doubles(db, &mut checked).await?;
    for chain in audit::inspect(db, None).await? {
        checked.chains += 1;
        checked.records += chain.records;
        if let Some(broken) = chain.broken {
            checked.say(format!("audit: {broken}"), AUDIT);
        }
    }
    Ok(checked)
}

/// A row of its own, taken back: what only reads looks well on a full disk.
async fn takes_writes(db: &Db, checked: &mut Checked) -> Result<()> {
    let canary = async {
        db.ping().await?;
        let mut tx = Tx::begin(db).await?;
        let name = format!("canary-{}", uuid::Uuid::new_v4());
        let sql = "INSERT INTO settings (name, value, version, updated_at) VALUES (?, 'canary', 1, 0)";
        tx.exec(sql, args![&name]).await?;
        let there = settings::get(&mut tx, &name).await?.is_some();
        drop(tx);
        Ok::<bool, Error>(there)
    };
    match canary.await {
        Ok(true) => Ok(()),
        Ok(false) => {
            checked.say("a row that was just written is not there", MEND);
            Ok(())
        }
        Err(error) => {
            checked.say(
                format!("the database does not take writes: {}", chain(&error)),
                "free space on its disk, make file and folder writable for this user, or point the URL at the primary",
            );
            Ok(())
        }
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn durable(db: &Db, checked: &mut Checked) -> Result<()> {
    for finding in db.findings().await? {
        checked.say(format!("{} is {}: {}", finding.setting, finding.value, finding.why), finding.cure);
    }
    Ok(())
}

/// SQLite's own look at its file.
async fn pages(db: &Db, checked: &mut Checked) -> Result<()> {
    if db.dialect() != Dialect::Sqlite {
        return Ok(());
    }
    for row in all(&mut &*db, "PRAGMA integrity_check(50)", vec![]).await? {
        match row.values.first() {
            Some(Arg::Text(text)) if text == "ok" => {}
            Some(Arg::Text(text)) => checked.say(
                format!("the file is damaged: {text}"),
                "stop every engine, copy the file away, restore a backup (`halberd db restore`)",
            ),
            _ => {}
        }
    }
    Ok(())
}

/// Every row through its reader, and on after one that cannot be read.
async fn rows(db: &Db, table: &str, keys: &[&str], reads: Reads, checked: &mut Checked) -> Result<()> {
    checked.tables += 1;
    let columns = keys.join(", ");
    let mut after: Option<Vec<Arg>> = None;
    let mut said = 0;
    loop {
        let (place, values) = match &after {
            Some(after) => beyond(keys, after),
            None => ("1 = 1".to_owned(), Vec::new()),
        };
        let sql = format!("SELECT * FROM {table} WHERE {place} ORDER BY {columns} LIMIT {PAGE}");
        let rows = match all(&mut &*db, AssertSqlSafe(sql), values).await {
            Ok(rows) => rows,
            Err(error) if error.is_unavailable() && !matches!(error, Error::Database(_)) => {
                return Err(error);
            }
            Err(error) => {
                checked.say(format!("table {table} cannot be read: {}", chain(&error)), MEND);
                return Ok(());
            }
        };
        for row in &rows {
            checked.rows += 1;
            if let Err(error) = reads(row)
                && said < MOST
            {
                said += 1;
                match legible::named(&error) {
                    Some(bad) => {
                        checked.say(error.to_string(), bad.why.rsplit_once("; ").map_or(MEND, |(_, out)| out))
                    }
                    None => checked.say(error.to_string(), MEND),
                }
            }
        }
        let Some(last) = rows.last().filter(|_| rows.len() == PAGE) else { return Ok(()) };
        let of_key = |key: &&str| {
            let place = last.columns.iter().position(|column| column == key);
            place.and_then(|place| last.values.get(place)).cloned().unwrap_or(Arg::Null)
        };
        after = Some(keys.iter().map(of_key).collect());
    }
}

async fn orphans(db: &Db, checked: &mut Checked) -> Result<()> {
    let leaving = retention::leaving(db).await?;
    for (table, column, whom) in REFERENCES {
        let sql = format!(
            "SELECT {column} AS id, COUNT(*) AS n FROM {table} t WHERE {column} IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM {whom} w WHERE w.id = t.{column}) GROUP BY {column} ORDER BY {column} LIMIT {MOST}"
        );
        for row in all(&mut &*db, AssertSqlSafe(sql), vec![]).await? {
            let row = row.of("orphans", "id");
            let (id, n) = (row.string("id")?, row.int("n")?);
            if !leaving.contains(&id) {
                checked.say(
                    format!("{n} rows of {table} name {id} as their {column}, and {whom} has none such"),
                    ORPHAN,
                );
            }
        }
    }
    Ok(())
}

/// Ids that a unique key keeps apart, and a damaged index does not (I30).
async fn doubles(db: &Db, checked: &mut Checked) -> Result<()> {
    for table in ["events", "recoveries", "notifications", "vmoves"] {
        let sql = format!(
            "SELECT id, COUNT(*) AS n FROM {table} GROUP BY id HAVING COUNT(*) > 1 ORDER BY id LIMIT {MOST}"
        );
        for row in all(&mut &*db, AssertSqlSafe(sql), vec![]).await? {
            let row = row.of("doubles", "id");
            let (id, n) = (row.string("id")?, row.int("n")?);
            checked.say(format!("{n} rows of {table} have the id {id}"), MEND);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use halberd_core::audit::Entry;
    use serde_json::json;

    use super::*;
    use crate::testing::On;
    use crate::tests::{NOW, everywhere, kit_on};
    use crate::{audit, write};

    everywhere!(a_whole_database_has_no_finding, every_damage_is_named_and_none_hides_another);

    async fn a_whole_database_has_no_finding(on: On) {
        let kit = kit_on(on).await;
        kit.claimed().await;
        let checked = check(&kit.db).await.unwrap();
        // Servers of tests are fast and forgetful, and say so.
        let told: Vec<_> = match on {
            On::Sqlite => checked.findings.iter().collect(),
            _ => checked
                .findings
                .iter()
                .filter(|finding| finding.what.contains("table ") || finding.what.contains("audit"))
                .collect(),
        };
        assert_eq!(told, Vec::<&Finding>::new());
        assert_eq!(
            checked.tables as usize,
            retention::RULES.len() - 1,
            "all but the audit, whose chains are walked"
        );
        assert!(checked.rows >= 6 && checked.chains == 1 && checked.records == 1, "{checked:?}");
        assert_eq!(kit.count("SELECT COUNT(*) AS n FROM settings WHERE name LIKE 'canary%'").await, 0);
    }

    async fn every_damage_is_named_and_none_hides_another(on: On) {
        let kit = kit_on(on).await;
        let recovery = kit.claimed().await;
        let second = kit.add_host("cmp-02").await;
        kit.tamper("UPDATE hosts SET admission = 'quarantined' WHERE name = 'cmp-01'", vec![]).await;
        kit.tamper("UPDATE hosts SET retired_boots = '[1' WHERE name = 'cmp-02'", vec![]).await;
        kit.tamper("UPDATE recoveries SET event_sequence = 5", vec![]).await;
        kit.tamper("UPDATE notifications SET recovery = ?", args![second]).await;
        kit.tamper("UPDATE audit SET text = 'other'", vec![]).await;
        let entry = [Entry::new("a", "b", json!({}))];
        write(&kit.db, async |tx| audit::append(tx, "api:x", 0, &entry, NOW).await).await.unwrap();
        kit.tamper("DELETE FROM audit WHERE chain = 'api:x'", vec![]).await;
        let found: Vec<String> =
            check(&kit.db).await.unwrap().findings.into_iter().map(|found| found.what).collect();
        let wanted = [
            format!("table hosts, row {}, column admission", kit.host),
            format!("table hosts, row {second}, column retired_boots"),
            format!("1 rows of notifications name {second} as their recovery"),
            format!("events: recovery {} gave its events the numbers up to 5", recovery.id),
            format!("audit: chain {}: record 1 was changed", recovery.id),
            "audit: chain api:x: record 1 is missing".to_owned(),
        ];
        for wanted in wanted {
            assert!(found.iter().any(|found| found.starts_with(&wanted)), "{wanted} is not in {found:#?}");
        }
    }
}
