//! `halberd fence test`: whether a host could be turned off, by looking or by doing.

use std::time::Duration;

use halberd_types::v1::value::parse_time;
use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::fence_devices::{all_ready, path_of, shown};
use super::output::{Format, Screen, milliseconds, text};
use super::watch;
use super::wish::{self, Patience, reason};

/// A drill takes seconds: the look of an impatient person.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Test {
    /// Name or uuid
    host: String,
    /// Turn the host off and on again, and follow it: it must be on maintenance, disabled in Nova and empty
    #[arg(long, requires = "reason")]
    really_power_off: bool,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    #[command(flatten)]
    patience: Patience,
}

impl Test {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let host = api.host(&self.host).await?;
        let reason = self.reason.as_deref().unwrap_or("tested by hand");
        let body = json!({ "reason": reason, "really_power_off": self.really_power_off });
        let path = format!("halberd/v1/hosts/{}/fence-test", text(&host, "uuid"));
        let before = if self.really_power_off { newest(api, &host, "host").await? } else { Value::Null };
        let wish = wish::ask(api, &path, &body, self.patience).await?;
        if wish["state"] == "open" {
            return screen.show(&wish, wish::SHOW);
        }
        if self.really_power_off {
            wish::granted(&wish)?;
            return drill(api, screen, &host, &before).await;
        }
        let view = api.get(&path_of(&host), &[]).await?;
        shown(screen, &host, &view)?;
        wish::granted(&wish)?;
        all_ready(&host, &view)
    }
}

/// The newest recovery of a kind of this host; null if there was none.
async fn newest(api: &Api, host: &Value, kind: &str) -> Result<Value, Failure> {
    let query = [("host", text(host, "uuid")), ("kind", kind.to_owned())];
    let (mut found, _) = api.pages("halberd/v1/recoveries", &query, "marker", 1).await?;
    Ok(found.pop().unwrap_or_default())
}

/// Follows the drill that was granted until it ends.
async fn drill(api: &Api, screen: &mut Screen<'_>, host: &Value, before: &Value) -> Result<(), Failure> {
    let name = text(host, "name");
    let drill = newest(api, host, "host").await?;
    if drill.is_null() || drill["id"] == before["id"] {
        return Err(Failure::refused(format!(
            "the drill of {name} was granted, and no recovery of it is to be seen"
        ))
        .with_remedy(format!("`halberd recovery list --host {name}` shows it when it begins")));
    }
    let recovery = watch::follow(api, screen, &text(&drill, "id"), LOOK).await?;
    if screen.format == Format::Json {
        screen.line(&json!({ "recovery": recovery }).to_string())?;
    }
    let told = format!("{}{}", text(&recovery, "message"), took(&recovery));
    match recovery["state"].as_str() {
        Some("finished") => {
            let back = newest(api, host, "return").await?;
            if screen.format == Format::Table {
                screen.line(&super::output::clean(&told))?;
                if back["closed_at"].is_null() && !back.is_null() {
                    screen.line(&format!(
                        "{name} is turned on again: `halberd recovery watch {}` follows it; then end its maintenance",
                        text(&back, "id")
                    ))?;
                }
            }
            Ok(())
        }
        Some("cancelled") => Err(Failure::refused(told)),
        _ => Err(Failure::refused(told).with_remedy(format!(
            "`halberd fence history {name}` shows what each device answered, `halberd explain {}` the whole story",
            text(&recovery, "id")
        ))),
    }
}

fn took(recovery: &Value) -> String {
    let at = |key: &str| parse_time(&text(recovery, key));
    match (at("opened_at"), at("closed_at")) {
        (Some(opened), Some(closed)) => {
            let ms = u64::try_from((closed - opened).num_milliseconds()).unwrap_or(0);
            format!(" (in {})", milliseconds(ms))
        }
        _ => String::new(),
    }
}
