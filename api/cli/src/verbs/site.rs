//! `halberd service` and `halberd engines`: the installation itself and what it watches.

use serde_json::Value;

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Screen, text};

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
    Column::text("name", "name"),
    Column::text("state", "state"),
    Column::text("version", "version"),
    Column::text("holds", "recoveries"),
    Column::time("renewed", "renewed_at"),
    Column::text("lag_ms", "lag_ms"),
    Column::text("db_ms", "round_trip_ms"),
    Column::text("outbox_ms", "outbox_age_ms"),
    Column::text("beats_s", "beats_per_second"),
    Column::text("reason", "reason"),
];

#[derive(Debug, clap::Subcommand)]
pub enum Service {
    /// List the services that are watched
    List,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Engine {
    /// List the engines that registered
    List,
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

fn action(service: &Value) -> String {
    match &service["action"] {
        Value::Null => String::new(),
        action => {
            let place = [text(action, "unit"), text(action, "host")].join(" ");
            format!("{} {} ({})", text(action, "effect"), place.trim(), text(action, "state"))
        }
    }
}
