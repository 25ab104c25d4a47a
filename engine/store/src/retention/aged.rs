//! Rows that go by their own age, table by table, in the order of their primary keys.

use halberd_core::time::Stamp;
use sqlx::AssertSqlSafe;

use super::{Days, Retention, days};
use crate::error::Result;
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Arg, Row};

/// Rows looked at by one read.
const PAGE: usize = 500;

/// Rows of one table that go by age.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aged {
    pub table: &'static str,
    /// The primary key.
    pub keys: &'static [&'static str],
    /// An expression for when the row's age begins.
    pub at: &'static str,
    /// What the row itself must say; asked again by the statement that deletes it.
    pub own: &'static str,
    /// What must not depend on it; asked when it is looked at. Once true of an old row it stays true.
    pub others: &'static str,
    /// Never shorter than these.
    pub days: &'static [Days],
}

/// No row of another table stands in the way.
const NOBODY: &str = "1 = 1";

/// A recovery of this host was open when it was seen, or within an hour: `explain` shows it there.
const EVIDENCE: &str = "NOT EXISTS (SELECT 1 FROM notifications n WHERE n.id = evidence.notification) \
    AND NOT EXISTS (SELECT 1 FROM recoveries r WHERE r.host = evidence.host AND r.opened_at <= evidence.at + 3600000000 \
    AND COALESCE(r.closed_at, evidence.at) >= evidence.at - 3600000000)";

/// A recovery that was open then may still ask which of its brakes were released.
const WISHES: &str = "NOT EXISTS (SELECT 1 FROM recoveries r WHERE r.open_key IS NOT NULL AND r.opened_at <= wishes.created_at)";

/// In the order in which they refer to each other: deliveries before their events.
pub(super) const AGED: &[Aged] = &[
    Aged {
        table: "deliveries",
        keys: &["num"],
        at: "updated_at",
        own: "state = 'delivered'",
        others: NOBODY,
        days: &[days!(events_days)],
    },
    Aged {
        table: "deliveries",
        keys: &["num"],
        at: "updated_at",
        own: "state = 'dead'",
        others: NOBODY,
        days: &[days!(dead_letters_days)],
    },
    Aged {
        table: "events",
        keys: &["num"],
        at: "at",
        // Of a recovery's events none goes before the recovery, so that its numbers have no gap (I30).
        own: "recovery IS NULL",
        others: "NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = events.id)",
        days: &[days!(events_days)],
    },
    Aged {
        table: "notifications",
        keys: &["num"],
        at: "COALESCE(updated_at, created_at)",
        own: "recovery IS NULL AND status NOT IN ('new', 'running', 'error')",
        others: "NOT EXISTS (SELECT 1 FROM recoveries r WHERE r.notification = notifications.id)",
        days: &[days!(reports_days)],
    },
    Aged {
        table: "duplicates",
        keys: &["host", "kind", "payload_hash"],
        at: "last_at",
        own: "1 = 1",
        others: "NOT EXISTS (SELECT 1 FROM notifications n WHERE n.id = duplicates.notification)",
        days: &[days!(reports_days)],
    },
    Aged {
        table: "evidence",
        keys: &["num"],
        at: "at",
        own: "1 = 1",
        others: EVIDENCE,
        days: &[days!(evidence_days)],
    },
    Aged {
        table: "intents",
        keys: &["id"],
        at: "COALESCE(resolved_at, created_at)",
        own: "recovery IS NULL AND resolved_at IS NOT NULL",
        others: NOBODY,
        days: &[days!(fenced_days)],
    },
    Aged {
        table: "wishes",
        keys: &["num"],
        at: "COALESCE(done_at, created_at)",
        own: "done_at IS NOT NULL",
        others: WISHES,
        days: &[days!(wishes_days)],
    },
    Aged {
        table: "orders",
        keys: &["num"],
        at: "COALESCE(done_at, created_at)",
        own: "done_at IS NOT NULL",
        others: NOBODY,
        days: &[days!(orders_days)],
    },
    Aged {
        table: "agent_reports",
        keys: &["id"],
        at: "at",
        own: "1 = 1",
        others: "NOT EXISTS (SELECT 1 FROM notifications n WHERE n.id = agent_reports.notification \
                 AND n.status IN ('new', 'running', 'error'))",
        days: &[days!(agent_reports_days)],
    },
    Aged {
        table: "service_downs",
        keys: &["num"],
        at: "COALESCE(ended_at, began_at)",
        own: "ended_at IS NOT NULL",
        others: NOBODY,
        days: &[days!(service_downs_days)],
    },
    Aged {
        table: "engines",
        keys: &["name"],
        at: "COALESCE(stopped_at, renewed_at)",
        own: "stopped_at IS NOT NULL",
        others: "NOT EXISTS (SELECT 1 FROM recoveries r WHERE r.owner = engines.id AND r.open_key IS NOT NULL)",
        days: &[days!(engines_days)],
    },
    Aged {
        table: "sightings",
        keys: &["host", "engine"],
        at: "since",
        own: "1 = 1",
        others: "NOT EXISTS (SELECT 1 FROM engines e WHERE e.id = sightings.engine)",
        days: &[days!(engines_days)],
    },
];

/// A page that was looked at.
pub(super) struct Looked {
    /// Keys of what may go.
    pub due: Vec<Vec<Arg>>,
    /// Where the next page begins; `None`: nothing older is left.
    pub next: Option<Vec<Arg>>,
}

impl Aged {
    pub(super) fn cutoff(&self, policy: &Retention, reference: Stamp) -> Option<Stamp> {
        let cutoffs: Option<Vec<Stamp>> =
            self.days.iter().map(|days| days.cutoff(policy, reference)).collect();
        cutoffs?.into_iter().min()
    }

    /// The age of the table's newest row, and its number where rows are numbered: that row stays.
    pub(super) async fn newest(&self, on: &mut impl Read) -> Result<Option<(Stamp, i64)>> {
        let (table, at) = (self.table, self.at);
        let sql = match self.is_numbered() {
            true => format!("SELECT num, {at} AS at FROM {table} ORDER BY num DESC LIMIT 1"),
            false => format!("SELECT COUNT(*) AS num, MAX({at}) AS at FROM {table}"),
        };
        let Some(row) = first(on, AssertSqlSafe(sql), vec![]).await? else { return Ok(None) };
        let row = row.of(self.table, "num");
        Ok(row.opt_stamp("at")?.zip(row.opt_int("num")?))
    }

    fn is_numbered(&self) -> bool {
        self.keys == ["num"]
    }

    /// One page in the order of the key, after a key.
    pub(super) async fn look(
        &self,
        on: &mut impl Read,
        after: Option<&[Arg]>,
        cutoff: Stamp,
        newest: i64,
    ) -> Result<Looked> {
        let Aged { table, keys, at, own, others, .. } = self;
        let columns = keys.join(", ");
        let (mut conditions, mut values) = (Vec::new(), vec![Arg::from(cutoff)]);
        if let Some(after) = after {
            let (sql, more) = beyond(keys, after);
            conditions.push(sql);
            values.extend(more);
        }
        if self.is_numbered() {
            conditions.push("num < ?".to_owned());
            values.push(newest.into());
        }
        // Of no use for what belongs to recoveries, which are many beside these few.
        if own.starts_with("recovery IS NULL") {
            conditions.push("recovery IS NULL".to_owned());
        }
        let place = if conditions.is_empty() { "1 = 1".to_owned() } else { conditions.join(" AND ") };
        let sql = format!(
            "SELECT {columns}, CASE WHEN {at} < ? THEN CASE WHEN {own} AND {others} THEN 2 ELSE 1 END ELSE 0 END AS due \
             FROM {table} WHERE {place} ORDER BY {columns} LIMIT {PAGE}"
        );
        let rows = all(on, AssertSqlSafe(sql), values).await?;
        let key = |row: &Row| row.values[..keys.len()].to_vec();
        let due = |row: &Row| match row.values.last() {
            Some(Arg::Int(due)) => *due,
            _ => 0,
        };
        // Numbers grow with time, give or take: a whole page that is young is the end of what is old.
        let goes_on = rows.len() == PAGE && (!self.is_numbered() || rows.iter().any(|row| due(row) > 0));
        Ok(Looked {
            due: rows.iter().filter(|row| due(row) == 2).map(key).collect(),
            next: rows.last().filter(|_| goes_on).map(key),
        })
    }

    /// Deletes rows by key, those that still are as they must be.
    pub(super) async fn delete(&self, tx: &mut Tx, due: &[Vec<Arg>], cutoff: Stamp) -> Result<u64> {
        let Aged { table, keys, at, own, .. } = self;
        let one: Vec<String> = keys.iter().map(|key| format!("{key} = ?")).collect();
        let one = format!("({})", one.join(" AND "));
        let mut gone = 0;
        for due in due.chunks(super::recoveries::KEYS) {
            let places = match keys {
                [key] => format!("{key} IN ({})", vec!["?"; due.len()].join(", ")),
                _ => format!("({})", vec![one.as_str(); due.len()].join(" OR ")),
            };
            let sql = format!("DELETE FROM {table} WHERE {places} AND {at} < ? AND {own}");
            let values = due.iter().flatten().cloned().chain([Arg::from(cutoff)]).collect();
            gone += tx.exec(AssertSqlSafe(sql), values).await?;
        }
        Ok(gone)
    }
}

/// "Comes after this key" as a condition.
pub(crate) fn beyond(keys: &[&str], after: &[Arg]) -> (String, Vec<Arg>) {
    let (mut branches, mut values) = (Vec::new(), Vec::new());
    for i in 0..keys.len() {
        let mut branch: Vec<String> = keys[..i].iter().map(|key| format!("{key} = ?")).collect();
        branch.push(format!("{} > ?", keys[i]));
        branches.push(format!("({})", branch.join(" AND ")));
        values.extend(after[..=i].iter().cloned());
    }
    (format!("({})", branches.join(" OR ")), values)
}
