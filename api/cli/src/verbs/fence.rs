//! `halberd fence`: whether hosts could be turned off, and what a person asks or states about one.

use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::fence_devices::{Devices, WOULD, could_fence, path_of, rows};
use super::fence_history::History;
use super::fence_status::Status;
use super::fence_test::Test;
use super::output::{Column, Format, Screen, text};
use super::wish::{self, Patience, ask_and_show, reason};

#[derive(Debug, clap::Subcommand)]
pub enum Fence {
    /// Show whether each host could be turned off now, the worst first; of one host its devices too
    Status(Status),
    /// Turn a host on that was fenced, once it is drained
    ///
    /// Its guests stay where they were rebuilt. It comes back empty, out of scheduling, and takes guests again
    /// when it is in; the answer names the recovery that can be followed.
    #[command(verbatim_doc_comment)]
    On(Asked),
    /// Turn a host off, dead or alive, and have its guests rebuilt elsewhere
    ///
    /// Its guests lose power at once and are rebuilt on other hosts, where they boot from their disks. A host
    /// that may live is better emptied first (`openstack server migrate --live-migration`), and then turned off.
    #[command(verbatim_doc_comment)]
    Off(Off),
    /// Show what was ever done to a host's power: who, why, what each device answered, how it ended
    History(History),
    /// State that a host is off, so that its guests are rebuilt elsewhere
    ///
    /// Only after you stood before the machine and saw that it has no power: if it runs, its guests will
    /// run twice. The serial proves which machine you stood before; it must be the one on file.
    #[command(verbatim_doc_comment)]
    Confirm {
        /// Name or uuid
        host: String,
        /// Serial number on the label of the machine that you saw off
        #[arg(long, value_name = "TEXT", value_parser = serial)]
        serial: String,
        /// How you know; kept in the audit
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Try out whether a host could be turned off
    ///
    /// Each of its devices is reached, logged into and read; nothing is turned off, guests notice nothing.
    /// With --really-power-off it is a drill: the host is turned off, seen off, and turned on again. That is
    /// granted only for a host on maintenance, disabled in Nova and empty, so no guest is touched.
    #[command(verbatim_doc_comment)]
    Test(Test),
    /// Show, set or check the fence devices of hosts
    Devices(Devices),
    /// Take a host back that is out
    ///
    /// After an operator saw that its old guests are gone; those rebuilt elsewhere stay there.
    #[command(verbatim_doc_comment)]
    Readmit(Asked),
}

/// What is asked of the engine about a host.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// Name or uuid
    host: String,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, clap::Args)]
pub struct Off {
    #[command(flatten)]
    asked: Asked,
    /// Turn nothing off: print what would be asked of which device
    #[arg(long)]
    dry_run: bool,
}

impl Asked {
    async fn run(self, word: &str, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let path = format!("halberd/v1/hosts/{}/{word}", api.host_id(&self.host).await?);
        ask_and_show(api, screen, &path, &json!({ "reason": self.reason }), self.patience).await
    }
}

impl Off {
    async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        if !self.dry_run {
            let host = self.asked.host.clone();
            self.asked.run("fence", api, screen).await?;
            return match screen.format {
                Format::Table => screen.line(&format!("`halberd recovery watch {host}` follows it")),
                _ => Ok(()),
            };
        }
        let host = api.host(&self.asked.host).await?;
        let path = format!("halberd/v1/hosts/{}/fence", text(&host, "uuid"));
        let body = json!({ "reason": self.asked.reason, "dry_run": true });
        let wish = wish::ask(api, &path, &body, self.asked.patience).await?;
        if wish["state"] == "open" {
            return screen.show(&wish, wish::SHOW);
        }
        let view = api.get(&path_of(&host), &[]).await?;
        match screen.format {
            Format::Json => screen.json(&view)?,
            _ => screen.list(&rows(&host, &view), WOULD)?,
        }
        if screen.format == Format::Table {
            screen.line("nothing was turned off")?;
        }
        wish::granted(&wish)?;
        could_fence(&host, &view)
    }
}

impl Fence {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Fence::Status(status) => status.run(api, screen).await,
            Fence::On(asked) => asked.run("power-on", api, screen).await,
            Fence::Off(off) => off.run(api, screen).await,
            Fence::History(history) => history.run(api, screen).await,
            Fence::Confirm { host, serial, reason, patience } => {
                let path = format!("halberd/v1/hosts/{}/confirm-fenced", api.host_id(&host).await?);
                ask_and_show(api, screen, &path, &json!({ "serial": serial, "reason": reason }), patience)
                    .await
            }
            Fence::Test(test) => test.run(api, screen).await,
            Fence::Devices(devices) => devices.run(api, screen).await,
            Fence::Readmit(asked) => asked.run("readmit", api, screen).await,
        }
    }
}

fn serial(given: &str) -> Result<String, String> {
    match given.trim() {
        "" => Err("read it from the label of the machine that you saw off".to_owned()),
        serial => Ok(serial.to_owned()),
    }
}

/// A host's fencing as the readiness tells it.
pub(super) const HOSTS: &[Column] = &[
    Column::text("host", "host"),
    Column::made("fencing", standing),
    Column::time("since", "since"),
    Column::made("cause", causes),
    Column::made("last drill", last_drill),
];

fn standing(host: &Value) -> String {
    text(host, "fencing").replace('_', " ")
}

/// What blocks if anything does, else what somebody should look at.
fn causes(host: &Value) -> String {
    let causes = host["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let blocking: Vec<&Value> = causes.iter().filter(|cause| cause["blocks"] == true).collect();
    let told = if blocking.is_empty() { causes.iter().collect() } else { blocking };
    let mut texts: Vec<String> = Vec::new();
    for cause in told {
        let word = text(cause, "cause").replace('_', " ");
        let text = match cause["level"].is_null() {
            true => text(cause, "text"),
            false => format!(
                "{word} (level {}, {}): {}",
                text(cause, "level"),
                text(cause, "device"),
                text(cause, "text")
            ),
        };
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join("; ")
}

fn last_drill(host: &Value) -> String {
    match text(host, "last_drill_at").split_once('T') {
        Some((day, _)) => day.to_owned(),
        None => "never".to_owned(),
    }
}
