//! `halberd db migrate`.

use secrecy::ExposeSecret;

use super::Done;
use crate::args::DbArgs;
use crate::config::Config;
use crate::serve::StartError;

/// Brings the schema up to date.
pub async fn run(args: &DbArgs) -> Done {
    let config = Config::load(args.config.as_deref())?;
    let url = config.database_url()?;
    let before = halberd_store::migrate::migrate(url.expose_secret()).await.map_err(StartError::Database)?;
    Ok(match before.found == before.ours {
        true => format!("the schema is up to date (step {})", before.ours),
        false => format!("the schema was brought from step {} to step {}", before.found, before.ours),
    })
}
