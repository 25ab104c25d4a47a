//! `halberd fence history`: what was ever done to a host's power.

use serde_json::Value;

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, milliseconds, text};

const ACTS: &[Column] = &[
    Column::time("time", "at"),
    Column::text("act", "kind"),
    Column::made("result", result),
    Column::made("took", took),
    Column::text("why", "text"),
    Column::made("devices", devices),
];

#[derive(Debug, clap::Args)]
pub struct History {
    /// Name or uuid
    host: String,
    /// Only so many: the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl History {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let path = format!("halberd/v1/hosts/{}/fence-history", api.host_id(&self.host).await?);
        let (acts, more) = api.pages(&path, &[], "before", self.limit as usize).await?;
        if acts.is_empty() && screen.format == Format::Table {
            return screen.line("nothing was ever done to its power by Halberd, or stated of it");
        }
        screen.list(&acts, ACTS)?;
        if more && screen.format == Format::Table {
            screen.line("there are more: ask with --limit")?;
        }
        Ok(())
    }
}

/// How it ended, with its words where there are any.
fn result(act: &Value) -> String {
    let (result, answer) = (text(act, "result"), text(act, "answer"));
    match (result.as_str(), answer.as_str()) {
        ("", _) if act["ended_at"].is_null() => "no answer yet".to_owned(),
        (_, "") => result.replace('_', " "),
        _ => format!("{}: {answer}", result.replace('_', " ")),
    }
}

fn took(act: &Value) -> String {
    act["took_ms"].as_u64().map(milliseconds).unwrap_or_default()
}

/// What each device answered and what was read of it: `redfish https://bmc: accepted; on, off, off`.
fn devices(act: &Value) -> String {
    let attempts = act["attempts"].as_array().into_iter().flatten();
    let told: Vec<String> = attempts
        .map(|attempt| {
            let readings = attempt["readings"].as_array().into_iter().flatten();
            let read: Vec<String> = readings.map(|reading| text(reading, "power")).collect();
            let mut told = format!("{}: {}", text(attempt, "device"), text(attempt, "order"));
            if !read.is_empty() {
                told.push_str(&format!("; read {}", read.join(", ")));
            }
            if !attempt["error"].is_null() {
                told.push_str(&format!("; {}", text(attempt, "error")));
            }
            told
        })
        .collect();
    told.join(" | ")
}
