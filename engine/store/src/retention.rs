//! How long each row is kept, and how what is older goes: every table has one rule, in one table of rules ([`RULES`]).
//!
//! A recovery goes in one piece: for every reader it is there with its moves, its report and its record, or it is not there at all; what
//! no reader finds without it (intents, events, audit records) follows in the same step or the next ones. What is open, undelivered,
//! unresolved or named by something that stays is never touched. Ages come from stored times. No decision about a host depends on them
//! (I23); still a wrong clock must not take a year of history, so a row's age is measured against the newest row of its table, never
//! beyond this machine's clock, and never more than [`STRIDE`] beyond what the pass before went by. The newest row of a table stays.
//!
//! Steps are small ([`Retention::step_rows`]) and each is a transaction that first takes the turn's version: two who purge at once cannot
//! both commit, and who lost the turn ends. Statements delete by primary keys that were read before, so that all databases and every
//! Galera node delete the same rows.

pub(crate) mod aged;
mod chains;
mod pass;
mod recoveries;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use halberd_core::time::Stamp;
use serde::{Deserialize, Serialize};

pub use pass::{Begun, Pass, Step, begin, dry_run, turn};

use crate::error::{Error, Result};
use crate::settings;
use crate::transaction::Read;

/// `[retention]`. Days; 0 keeps for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Whether engines purge by themselves; `halberd db purge` works either way.
    pub purge: bool,
    /// Closed recoveries with everything of theirs. A quarter: long enough for a review of the last one.
    pub recoveries_days: u32,
    /// Closed recoveries in which power was touched, stated or waived, and orders outside of any: the fence history. A year and a month,
    /// so that the yearly audit finds its year.
    pub fenced_days: u32,
    /// Settled reports that led to no recovery, and what keeps their repeats apart.
    pub reports_days: u32,
    /// What was seen of hosts outside of any recovery that is kept.
    pub evidence_days: u32,
    /// Events of no recovery, and deliveries that succeeded. A client of the event stream resumes within hours, not months.
    pub events_days: u32,
    /// Deliveries that were given up; until then they can be sent again.
    pub dead_letters_days: u32,
    /// Operators' wishes that were answered.
    pub wishes_days: u32,
    /// Agents' orders that were done.
    pub orders_days: u32,
    /// Ids of agents' reports that were answered: an agent repeats a report until it has the answer, which is minutes.
    pub agent_reports_days: u32,
    /// When services of the control plane were down: the availability ledger. Its year must be whole.
    pub service_downs_days: u32,
    /// Audit records of processes and checkpoints; a recovery's go with it.
    pub audit_days: u32,
    /// Engines that stopped and did not come back, with what they saw.
    pub engines_days: u32,
    /// Most rows that one transaction deletes. Twice as many held SQLite's write lock for 18 ms in the median, on a busy machine and in a
    /// build without optimisation (`examples/million.rs`); nobody should wait longer than that for a purge.
    pub step_rows: u32,
    /// Pause between two transactions, so that others find the database free most of the time.
    pub pause_ms: u64,
    /// From the end of one pass to the next.
    pub every_minutes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            purge: true,
            recoveries_days: 90,
            fenced_days: 400,
            reports_days: 90,
            evidence_days: 90,
            events_days: 30,
            dead_letters_days: 90,
            wishes_days: 90,
            orders_days: 30,
            agent_reports_days: 30,
            service_downs_days: 400,
            audit_days: 400,
            engines_days: 30,
            step_rows: 100,
            pause_ms: 250,
            every_minutes: 360,
        }
    }
}

/// The least that can be asked for. Brakes look back one day (G7), reports' repeats three minutes, the event stream hours; two days hold
/// that through a clock that is a day ahead.
pub const FLOOR_DAYS: u32 = 2;

/// How far a pass may go beyond the last one's time: a clock that jumped takes rows at most so much too early per pass, and an operator
/// has the passes in between to see what is said about it.
pub const STRIDE: Stamp = Stamp(DAY);

pub(crate) const DAY: i64 = 24 * 3_600 * 1_000_000;

impl Retention {
    /// # Errors
    /// Says which figure cannot be, and what can.
    pub fn check(&self) -> std::result::Result<(), String> {
        let days = [
            ("recoveries_days", self.recoveries_days),
            ("fenced_days", self.fenced_days),
            ("reports_days", self.reports_days),
            ("evidence_days", self.evidence_days),
            ("events_days", self.events_days),
            ("dead_letters_days", self.dead_letters_days),
            ("wishes_days", self.wishes_days),
            ("orders_days", self.orders_days),
            ("agent_reports_days", self.agent_reports_days),
            ("service_downs_days", self.service_downs_days),
            ("audit_days", self.audit_days),
            ("engines_days", self.engines_days),
        ];
        for (name, days) in days {
            if days != 0 && days < FLOOR_DAYS {
                return Err(format!(
                    "[retention] {name} must be at least {FLOOR_DAYS}, or 0 to keep for ever"
                ));
            }
        }
        if self.fenced_days != 0 && (self.recoveries_days == 0 || self.fenced_days < self.recoveries_days) {
            return Err("[retention] fenced_days must not be less than recoveries_days".to_owned());
        }
        match self.step_rows {
            10..=1_000 => Ok(()),
            _ => Err("[retention] step_rows must be from 10 to 1000".to_owned()),
        }
    }
}

/// How rows of a table are kept.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// Never deleted, for the reason given.
    Forever(&'static str),
    /// In one piece with its recovery; what stands beside it for rows of no recovery.
    WithRecovery(Option<Days>),
    /// By age.
    Days(Days),
    /// Its own logic keeps it small, as said.
    Bounded(&'static str),
}

/// A figure of `[retention]` by name.
#[derive(Clone, Copy, Debug)]
pub struct Days {
    pub name: &'static str,
    pub of: fn(&Retention) -> u32,
}

impl Days {
    /// Rows from before this time may go; `None`: never.
    pub(crate) fn cutoff(self, policy: &Retention, reference: Stamp) -> Option<Stamp> {
        let days = (self.of)(policy);
        (days > 0).then(|| Stamp(reference.0.saturating_sub(i64::from(days).saturating_mul(DAY))))
    }
}

macro_rules! days {
    ($name:ident) => {
        $crate::retention::Days { name: stringify!($name), of: |policy| policy.$name }
    };
}
use days;

/// One table's rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub table: &'static str,
    /// The column that tells a row's age; `None`: it has none.
    pub at: Option<&'static str>,
    pub keep: Keep,
}

const fn rule(table: &'static str, at: Option<&'static str>, keep: Keep) -> Rule {
    Rule { table, at, keep }
}

/// Every table of the schema, in the order of its steps. A test reads the schema of all three databases and finds whoever is missing.
pub const RULES: &[Rule] = &[
    rule("segments", Some("created_at"), Keep::Forever("history names them, and v1 shows deleted ones' ids")),
    rule("segment_policy", Some("updated_at"), Keep::Bounded("one row for each segment")),
    rule(
        "hosts",
        Some("created_at"),
        Keep::Forever("history names them, and their boots' numbers only grow"),
    ),
    rule("notifications", Some("created_at"), Keep::WithRecovery(Some(days!(reports_days)))),
    rule("duplicates", Some("last_at"), Keep::Days(days!(reports_days))),
    rule("evidence", Some("at"), Keep::WithRecovery(Some(days!(evidence_days)))),
    rule("recoveries", Some("opened_at"), Keep::WithRecovery(Some(days!(recoveries_days)))),
    rule("vmoves", Some("created_at"), Keep::WithRecovery(None)),
    rule("intents", Some("created_at"), Keep::WithRecovery(Some(days!(fenced_days)))),
    rule("audit", Some("at"), Keep::WithRecovery(Some(days!(audit_days)))),
    rule("audit_heads", None, Keep::WithRecovery(Some(days!(audit_days)))),
    rule("events", Some("at"), Keep::WithRecovery(Some(days!(events_days)))),
    rule("deliveries", Some("updated_at"), Keep::Days(days!(events_days))),
    rule("engines", Some("renewed_at"), Keep::Days(days!(engines_days))),
    rule("wishes", Some("created_at"), Keep::Days(days!(wishes_days))),
    rule("fence_devices", Some("updated_at"), Keep::Bounded("one row for each host")),
    rule("fence_checks", Some("at"), Keep::Bounded("one row for each device")),
    rule("sessions", Some("at"), Keep::Bounded("a row goes when its session is closed")),
    rule("agent_keys", Some("at"), Keep::Bounded("one row for each host")),
    rule("agent_reports", Some("at"), Keep::Days(days!(agent_reports_days))),
    rule("orders", Some("created_at"), Keep::Days(days!(orders_days))),
    rule("services", Some("updated_at"), Keep::Bounded("one row for each service of the configuration")),
    rule("service_downs", Some("began_at"), Keep::Days(days!(service_downs_days))),
    rule("sightings", Some("since"), Keep::Days(days!(engines_days))),
    rule("settings", Some("updated_at"), Keep::Bounded("a fixed set of names")),
    rule(
        "bus_outbox",
        Some("at"),
        Keep::Bounded("at most [bus] keep rows wait; a row goes when the broker has it"),
    ),
    rule("restore_policies", Some("at"), Keep::Bounded("a row goes when its controller has its policy back")),
    rule("fence_drills", Some("at"), Keep::Bounded("one row for each device")),
];

/// The rule of a table.
pub fn rule_of(table: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.table == table)
}

/// Chains whose heads are gone and whose rows are still being deleted.
pub(crate) const LEAVING: &str = "purge_leaving";

/// Recoveries and processes that have gone and of which rows remain for the next steps.
pub async fn leaving(on: impl Read) -> Result<BTreeSet<String>> {
    match settings::get(on, LEAVING).await? {
        Some((text, _)) => serde_json::from_str(&text).map_err(|error| Error::Corrupt {
            table: "settings",
            row: LEAVING.to_owned(),
            column: "value",
            reason: error.to_string(),
        }),
        None => Ok(BTreeSet::new()),
    }
}
