//! `halberd reconcile`: whether the database shows less than the engines remember, what was found in the world since, and the way out.

use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, clean, text};
use super::wish::{Patience, ask_and_show, reason};

const FINDINGS: &[Column] = &[Column::text("found", "text"), Column::text("host", "host")];

#[derive(Debug, clap::Subcommand)]
pub enum Reconcile {
    /// Show whether the engines are in reconcile-only, why, and what was found
    Show,
    /// End reconcile-only, knowing what was found
    ///
    /// Look at each finding first: a host that is off may have guests that run elsewhere. Open recoveries are
    /// then taken up afresh by what the world shows, and hosts are judged after a full window of listening.
    #[command(verbatim_doc_comment)]
    Leave {
        /// What was found out, and who answers for it; kept in the audit
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
        #[command(flatten)]
        patience: Patience,
    },
}

impl Reconcile {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Reconcile::Show => show(api, screen).await,
            Reconcile::Leave { reason, patience } => {
                let path = "halberd/v1/reconcile-only/leave";
                ask_and_show(api, screen, path, &json!({ "reason": reason }), patience).await
            }
        }
    }
}

async fn show(api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let view = api.get("halberd/v1/reconcile-only", &[]).await?;
    let found = view["audit"]["findings"].as_array().cloned().unwrap_or_default();
    match screen.format {
        Format::Json => return screen.json(&view),
        Format::Value => return screen.list(&found, FINDINGS),
        Format::Table => {}
    }
    if view["reconcile_only"] != json!(true) {
        return screen.line("the engines act: the database shows all that they remember");
    }
    let since = text(&view, "since");
    screen.line(&clean(&format!(
        "reconcile-only since {since}, found by {}: the engines do nothing",
        text(&view, "by")
    )))?;
    for lost in view["lost"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        screen.line(&clean(&format!("  {lost}")))?;
    }
    if view["audit"].is_null() {
        screen.line("hosts and Nova are still being looked at")?;
    } else {
        let audit = &view["audit"];
        screen.line(&clean(&format!(
            "{} hosts looked at by {} at {}, {} findings",
            audit["hosts"],
            text(audit, "by"),
            text(audit, "at"),
            found.len()
        )))?;
        screen.list(&found, FINDINGS)?;
    }
    screen.line(&clean(&text(&view, "remedy")))
}
