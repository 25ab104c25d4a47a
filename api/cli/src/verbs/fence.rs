//! `halberd fence`: the state of all fence devices, and what a person states about a host.

use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::fence_devices::{DEVICES, path_of, rows};
use super::output::{Format, Screen, text};
use super::wish::{Patience, ask_and_show};

#[derive(Debug, clap::Subcommand)]
pub enum Fence {
    /// Show the fence devices of every host, or of one, with their last checks
    Status {
        /// Name or uuid
        host: Option<String>,
    },
    /// State that a host is off, so that its guests are rebuilt elsewhere
    ///
    /// Only after you stood before the machine and saw that it has no power: if it runs, its guests will
    /// run twice. The serial proves which machine you stood before; it must be the one on file.
    #[command(verbatim_doc_comment)]
    Confirm {
        /// Name or uuid
        host: String,
        /// Serial number on the label of the machine that you saw off
        #[arg(long, value_name = "TEXT")]
        serial: String,
        /// How you know; kept in the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Turn a host off without a report, and have its guests rebuilt elsewhere
    Off(Asked),
    /// Take a host back that is out
    Readmit(Asked),
}

/// What is asked of the engine about a host.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// Name or uuid
    host: String,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    patience: Patience,
}

impl Asked {
    async fn run(self, word: &str, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let path = format!("halberd/v1/hosts/{}/{word}", api.host_id(&self.host).await?);
        ask_and_show(api, screen, &path, &json!({ "reason": self.reason }), self.patience).await
    }
}

impl Fence {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Fence::Status { host } => {
                let hosts = match host {
                    Some(host) => vec![api.host(&host).await?],
                    None => api.hosts(None, &[]).await?,
                };
                status(api, screen, &hosts).await
            }
            Fence::Confirm { host, serial, reason, patience } => {
                let path = format!("halberd/v1/hosts/{}/confirm-fenced", api.host_id(&host).await?);
                ask_and_show(api, screen, &path, &json!({ "serial": serial, "reason": reason }), patience)
                    .await
            }
            Fence::Off(asked) => asked.run("fence", api, screen).await,
            Fence::Readmit(asked) => asked.run("readmit", api, screen).await,
        }
    }
}

async fn status(api: &Api, screen: &mut Screen<'_>, hosts: &[Value]) -> Result<(), Failure> {
    let (mut objects, mut lines) = (Vec::new(), Vec::new());
    for host in hosts {
        let mut view = api.get(&path_of(host), &[]).await?;
        lines.extend(rows(host, &view));
        view["host"] = host["name"].clone();
        view["host_id"] = json!(text(host, "uuid"));
        objects.push(view);
    }
    match screen.format {
        Format::Json => screen.list(&objects, DEVICES),
        _ => screen.list(&lines, DEVICES),
    }
}
