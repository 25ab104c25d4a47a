//! `halberd notification`.

use std::collections::BTreeMap;

use chrono::Utc;
use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, text};

const LIST: &[Column] = &[
    Column::id("notification_uuid", "notification_uuid"),
    Column::time("generated_time", "generated_time"),
    Column::text("type", "type"),
    Column::text("host", HOST_NAME),
    Column::text("status", "status"),
    Column::text("event", "payload.event"),
];

const SHOW: &[Column] = &[
    Column::id("notification_uuid", "notification_uuid"),
    Column::text("type", "type"),
    Column::text("host", HOST_NAME),
    Column::id("source_host_uuid", "source_host_uuid"),
    Column::text("status", "status"),
    Column::text("message", "message"),
    Column::text("payload", "payload"),
    Column::time("generated_time", "generated_time"),
    Column::time("created_at", "created_at"),
    Column::time("updated_at", "updated_at"),
    Column::made("recovery_workflow_details", tasks),
];

/// Added to what is shown, since the API names the host by uuid only.
const HOST_NAME: &str = "host_name";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// A hypervisor
    ComputeHost,
    /// A guest
    Vm,
    /// A process on a hypervisor
    Process,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::ComputeHost => "COMPUTE_HOST",
            Kind::Vm => "VM",
            Kind::Process => "PROCESS",
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum Notification {
    /// List notifications, newest first
    List {
        /// Only those about this host: name or uuid
        #[arg(long)]
        host: Option<String>,
        /// Only those of this type
        #[arg(long = "type", value_enum, ignore_case = true, value_name = "TYPE")]
        kind: Option<Kind>,
        /// Only those in this state
        #[arg(long, value_parser = ["new", "running", "error", "failed", "ignored", "finished"])]
        status: Option<String>,
        /// Only those generated at this time or later (ISO 8601, UTC)
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Show a notification and how far its recovery came
    Show {
        /// Its uuid
        notification: String,
    },
    /// Report a failure
    ///
    /// It is a claim, not a command: the engine judges it, and fences before it evacuates.
    Create {
        /// What failed
        #[arg(value_enum, ignore_case = true, value_name = "TYPE")]
        kind: Kind,
        /// Name of the host, as registered
        hostname: String,
        /// When it was seen (ISO 8601, UTC); now unless given
        #[arg(long, alias = "generated_time", value_name = "TIME")]
        generated_time: Option<String>,
        /// JSON object of texts, as {"event": "STOPPED", "host_status": "NORMAL"}
        #[arg(long, value_name = "JSON")]
        payload: String,
    },
}

impl Notification {
    #[expect(
        clippy::disallowed_methods,
        reason = "generated_time is the reporter's own clock: data, never a trigger"
    )]
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Notification::List { host, kind, status, since } => {
                let mut query = Vec::new();
                if let Some(host) = host {
                    query.push(("source_host_uuid", api.host_id(&host).await?));
                }
                query.extend(kind.map(|kind| ("type", kind.word().to_owned())));
                query.extend(status.map(|status| ("status", status)));
                query.extend(since.map(|since| ("generated-since", since)));
                let found = api.all("v1/notifications", "notifications", &query).await?;
                let found = with_names(api, screen, found).await?;
                screen.list(&found, LIST)
            }
            Notification::Show { notification } => {
                let found = api.get(&format!("v1/notifications/{notification}"), &[]).await?;
                shown(api, screen, &found).await
            }
            Notification::Create { kind, hostname, generated_time, payload } => {
                let payload: Value = serde_json::from_str(&payload).map_err(|error| {
                    Failure::usage(format!("--payload is not JSON: {error}"))
                        .with_remedy(r#"quote it as a whole: --payload '{"event": "STOPPED"}'"#)
                })?;
                let at =
                    generated_time.unwrap_or_else(|| Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f").to_string());
                let body = json!({
                    "type": kind.word(), "hostname": hostname, "generated_time": at, "payload": payload,
                });
                let made = api.post("v1/notifications", &json!({ "notification": body })).await?;
                shown(api, screen, &made).await
            }
        }
    }
}

async fn shown(api: &Api, screen: &mut Screen<'_>, answer: &Value) -> Result<(), Failure> {
    let named = with_names(api, screen, vec![answer["notification"].clone()]).await?;
    screen.show(named.first().unwrap_or(&Value::Null), SHOW)
}

/// Puts the hosts' names in for people; a host that was deleted keeps its uuid. JSON stays the API's.
async fn with_names(api: &Api, screen: &Screen<'_>, mut items: Vec<Value>) -> Result<Vec<Value>, Failure> {
    if screen.format == Format::Json || items.is_empty() {
        return Ok(items);
    }
    let hosts = api.hosts(None, &[]).await?;
    let names: BTreeMap<String, &Value> =
        hosts.iter().map(|host| (text(host, "uuid"), &host["name"])).collect();
    for item in &mut items {
        let id = text(item, "source_host_uuid");
        item[HOST_NAME] = names.get(&id).map_or_else(|| json!(id), |name| (*name).clone());
    }
    Ok(items)
}

fn tasks(notification: &Value) -> String {
    let tasks = notification["recovery_workflow_details"].as_array().into_iter().flatten();
    tasks
        .map(|task| format!("{}: {}", text(task, "name"), text(task, "state")))
        .collect::<Vec<_>>()
        .join(", ")
}
