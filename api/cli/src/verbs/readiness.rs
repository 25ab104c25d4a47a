//! `halberd readiness`: whether a recovery would work now, what stands in its way, and what to do. The worst stands first, what is in
//! order is left out, and what many hosts have in common is told once.

use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::fence::HOSTS;
use super::output::{Column, Format, Screen, clean, text};

const CHECKS: &[Column] = &[
    Column::text("level", "level"),
    Column::text("check", "check"),
    Column::made("subject", subject),
    Column::text("reason", "reason"),
    Column::text("to do", "remedy"),
];

/// Names of subjects that are told before the rest is counted.
const NAMED: usize = 3;

#[derive(Debug, clap::Args)]
pub struct Readiness {
    /// Show what is in order too
    #[arg(long)]
    all: bool,
}

impl Readiness {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let readiness = api.get("halberd/v1/readiness", &[]).await?;
        let level = text(&readiness, "level");
        let checks = readiness["checks"].as_array().cloned().unwrap_or_default();
        let hosts = readiness["hosts"].as_array().cloned().unwrap_or_default();
        let red = checks.iter().filter(|check| check["level"] == "red").count();
        match screen.format {
            Format::Json => screen.json(&readiness)?,
            Format::Value => screen.list(&shown(checks, self.all), CHECKS)?,
            Format::Table => {
                screen.line(&clean(&format!("readiness: {level}{}", fencing(&hosts))))?;
                let apart = !hosts.is_empty() && screen.columns.is_empty();
                let mut checks = shown(checks, self.all);
                checks.retain(|check| !apart || !of_hosts(check));
                if !checks.is_empty() {
                    screen.list(&together(checks), CHECKS)?;
                }
                let hosts: Vec<Value> =
                    hosts.into_iter().filter(|host| self.all || host["fencing"] != "ready").collect();
                if !hosts.is_empty() && apart {
                    screen.line("")?;
                    screen.list(&hosts, HOSTS)?;
                    screen.line("\n`halberd fence devices set HOST` sets devices, `halberd fence devices check HOST` looks again")?;
                }
            }
        }
        match level.as_str() {
            "red" if red == 1 => Err(Failure::refused("not ready: one check is red")),
            "red" => Err(Failure::refused(format!("not ready: {red} checks are red"))),
            _ => Ok(()),
        }
    }
}

/// Told by the table of hosts, not twice.
fn of_hosts(check: &Value) -> bool {
    ["host_fencing", "fence_device_ready", "fence_device_checked", "fence_device_present"]
        .iter()
        .any(|name| check["check"] == *name)
}

fn shown(checks: Vec<Value>, all: bool) -> Vec<Value> {
    checks.into_iter().filter(|check| all || check["level"] != "green").collect()
}

/// How many hosts could be turned off, in words.
fn fencing(hosts: &[Value]) -> String {
    let count = |word: &str| hosts.iter().filter(|host| host["fencing"] == word).count();
    let words = ["not_ready", "no_device", "unchecked", "degraded"];
    let told: Vec<String> = words
        .iter()
        .filter(|word| count(word) > 0)
        .map(|word| format!("{} {}", count(word), word.replace('_', " ")))
        .collect();
    match (hosts.len(), told.is_empty()) {
        (0, _) => String::new(),
        (1, true) => "; fencing: the one host is ready".to_owned(),
        (all, true) => format!("; fencing: all {all} hosts are ready"),
        (all, false) => format!("; fencing of {all} hosts: {}", told.join(", ")),
    }
}

/// One row for what several subjects have in common; the order stays.
fn together(checks: Vec<Value>) -> Vec<Value> {
    let mut rows: Vec<(Value, Vec<String>)> = Vec::new();
    for check in checks {
        let alike = |row: &&mut (Value, Vec<String>)| {
            ["level", "check", "reason"].iter().all(|key| row.0[*key] == check[*key])
                && row.0["subject"]["kind"] == check["subject"]["kind"]
        };
        let name = text(&check, "subject.name");
        match rows.iter_mut().find(alike) {
            Some(row) => row.1.push(name),
            None => rows.push((check, vec![name])),
        }
    }
    let told = |(mut check, names): (Value, Vec<String>)| {
        if names.len() > 1 {
            let mut shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > NAMED {
                shown.push_str(&format!(" and {} more", names.len() - NAMED));
            }
            // What to do names one host; said of several it names none.
            let remedy = text(&check, "remedy").replace(&names[0], "HOST");
            check["subject"]["name"] = json!(shown);
            check["remedy"] = json!(remedy);
        }
        check
    };
    rows.into_iter().map(told).collect()
}

fn subject(check: &Value) -> String {
    match &check["subject"] {
        Value::Null => String::new(),
        subject => format!("{} {}", text(subject, "kind"), text(subject, "name")),
    }
}
