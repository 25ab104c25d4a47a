//! `halberd service`, `halberd engine` and `halberd readiness`: the installation itself and what it watches.

use serde_json::Value;

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, clean, text};

const SERVICES: &[Column] = &[
    Column::text("name", "name"),
    Column::text("kind", "kind"),
    Column::text("state", "state"),
    Column::time("since", "since"),
    Column::time("last_probe", "last_probe"),
    Column::made("action", action),
    Column::text("reason", "reason"),
];

const ENGINES: &[Column] = &[
    Column::id("id", "id"),
    Column::text("name", "name"),
    Column::text("state", "state"),
    Column::text("version", "version"),
    Column::text("recoveries", "recoveries"),
    Column::time("renewed", "renewed_at"),
    Column::text("reason", "reason"),
];

const CHECKS: &[Column] = &[
    Column::text("level", "level"),
    Column::text("check", "check"),
    Column::made("subject", subject),
    Column::text("reason", "reason"),
    Column::text("to do", "remedy"),
];

#[derive(Debug, clap::Subcommand)]
pub enum Service {
    /// List the services that are watched
    List,
}

#[derive(Debug, clap::Subcommand)]
pub enum Engine {
    /// List the engines that registered
    List,
}

#[derive(Debug, clap::Args)]
pub struct Readiness {
    /// Show what is in order too
    #[arg(long)]
    all: bool,
}

impl Service {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let (services, _) = api.pages("halberd/v1/services", &[], "marker", usize::MAX).await?;
        screen.list(&services, SERVICES)
    }
}

impl Engine {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let (engines, _) = api.pages("halberd/v1/engines", &[], "marker", usize::MAX).await?;
        screen.list(&engines, ENGINES)
    }
}

impl Readiness {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let readiness = api.get("halberd/v1/readiness", &[]).await?;
        let level = text(&readiness, "level");
        let checks = readiness["checks"].as_array().cloned().unwrap_or_default();
        let red = checks.iter().filter(|check| check["level"] == "red").count();
        match screen.format {
            Format::Json => screen.json(&readiness)?,
            format => {
                let shown: Vec<Value> =
                    checks.into_iter().filter(|check| self.all || check["level"] != "green").collect();
                if format == Format::Table {
                    screen.line(&clean(&format!("readiness: {level}")))?;
                }
                if !shown.is_empty() {
                    screen.list(&shown, CHECKS)?;
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

fn subject(check: &Value) -> String {
    match &check["subject"] {
        Value::Null => String::new(),
        subject => format!("{} {}", text(subject, "kind"), text(subject, "name")),
    }
}

fn action(service: &Value) -> String {
    match &service["action"] {
        Value::Null => String::new(),
        action => {
            let place = [text(action, "unit"), text(action, "host")].join(" ");
            format!("{} {} ({})", text(action, "effect"), place.trim(), text(action, "state"))
        }
    }
}
