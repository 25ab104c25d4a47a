//! `halberd db version`: which database this is, also one that this program cannot use.

use halberd_core::recovery::WORKFLOW_VERSION;
use halberd_store::about::about;
use secrecy::ExposeSecret;
use serde_json::json;

use super::Done;
use crate::args::DbArgs;
use crate::config::Config;
use crate::serve::StartError;
use crate::verbs::Format;
use crate::verbs::output::grid;

/// Asks the database; changes nothing. A schema that does not fit is an answer here and no failure.
pub async fn run(args: &DbArgs, format: Format) -> Done {
    let config = Config::load(args.config.as_deref())?;
    let url = config.database_url()?;
    let about = about(url.expose_secret()).await.map_err(StartError::Database)?;
    let mut whole = json!(about);
    whole["program"] = json!(env!("CARGO_PKG_VERSION"));
    whole["program_workflow"] = json!(WORKFLOW_VERSION);
    if format == Format::Json {
        return Ok(format!("{whole:#}"));
    }
    let none = || "-".to_owned();
    let rows = [
        ("program", format!("halberd {}", env!("CARGO_PKG_VERSION"))),
        ("server", format!("{} {}", about.server, about.server_version.unwrap_or_default())),
        ("identity", about.identity.unwrap_or_else(|| "none yet: no engine has used it".to_owned())),
        ("schema of the database", format!("step {}", about.schema)),
        ("schema of this program", format!("step {}", about.ours)),
        ("workflow of open recoveries", about.workflow.map_or_else(none, |version| version.to_string())),
        ("workflow of this program", WORKFLOW_VERSION.to_string()),
        ("way out", about.way_out.unwrap_or_else(|| "none is needed".to_owned())),
    ];
    Ok(match format {
        Format::Value => rows.map(|(_, value)| value).join("\n"),
        _ => {
            let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
            grid(None, rows.to_vec(), &[false, true])
        }
    })
}
