//! `halberd agent`, and the key of an agent.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, text};

const LIST: &[Column] = &[
    Column::text("host", "host"),
    Column::text("state", "state"),
    Column::time("since", "since"),
    Column::text("boot", "boot_number"),
    Column::text("version", "version"),
    Column::text("start_gate", "has_start_gate"),
    Column::text("watchdog", "has_watchdog"),
    Column::made("engines", sights),
];

#[derive(Debug, clap::Subcommand)]
pub enum Agent {
    /// List the agents as the engines see them
    List,
    /// Make a key for a host's agent in place of the former, which is void at once
    Key(Key),
}

#[derive(Debug, clap::Args)]
pub struct Key {
    /// Name or uuid of the host
    host: String,
    /// Write the key to this new file, readable by its owner only, instead of to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Withdraw the key instead: the agent's beats and reports count no more
    #[arg(long, conflicts_with = "out")]
    withdraw: bool,
}

impl Agent {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Agent::List => {
                let (agents, _) = api.pages("halberd/v1/agents", &[], "marker", usize::MAX).await?;
                screen.list(&agents, LIST)
            }
            Agent::Key(key) => key.run(api, screen).await,
        }
    }
}

impl Key {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let host = api.host(&self.host).await?;
        let path = format!("halberd/v1/hosts/{}/agent-key", text(&host, "uuid"));
        if self.withdraw {
            api.delete(&path).await?;
            return screen.done(&format!("the agent of host {} has no key any more", text(&host, "name")));
        }
        // The file first: a key that was made and cannot be kept has voided the former for nothing.
        let file = self.out.as_deref().map(new_file).transpose()?;
        let issued = match api.post(&path, &json!({})).await {
            Ok(issued) => issued,
            Err(failure) => {
                if let Some(out) = &self.out {
                    let _ = std::fs::remove_file(out);
                }
                return Err(failure);
            }
        };
        let key = text(&issued, "key_file");
        match (file, &self.out) {
            (Some(mut file), Some(out)) => {
                file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
                    Failure::refused(format!("{} cannot be written: {error}", out.display())).with_remedy(
                        "the former key is void already: make another with a file that can be written",
                    )
                })?;
                let done = format!("the key of host {} is in {}", text(&host, "name"), out.display());
                screen
                    .done_with(&done, &json!({ "host": host["name"], "host_id": host["uuid"], "file": out }))
            }
            _ if screen.format == Format::Json => screen.json(&issued),
            _ => screen.line(key.trim_end()),
        }
    }
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| {
        Failure::usage(format!("{} cannot be made: {error}", path.display()))
            .with_remedy("name a file that does not exist yet; no key was made")
    })
}

fn sights(agent: &Value) -> String {
    let sights = agent["sights"].as_array().into_iter().flatten();
    sights
        .map(|sight| format!("{}: {}", text(sight, "engine"), text(sight, "state")))
        .collect::<Vec<_>>()
        .join(", ")
}
