//! `halberd db ...`: what is done to the database itself, one file per verb. These go to the database of the configuration, not to
//! the API, so that they work while nothing runs.

mod backup;
mod check;
mod migrate;
mod purge;
mod restore;
mod size;
#[cfg(test)]
mod tests;
mod version;

use std::process::ExitCode;

use halberd_store::{Access, Db};
use secrecy::ExposeSecret;

use crate::args::{DbArgs, DbVerb};
use crate::config::Config;
use crate::masakari::import;
use crate::serve::StartError;
use crate::verbs::Format;
use crate::{chain, rekey};

/// What a verb prints when it is done.
pub(crate) type Done = Result<String, Box<dyn std::error::Error>>;

/// Runs a verb.
pub async fn run(verb: &DbVerb, format: Format) -> ExitCode {
    let done = match verb {
        DbVerb::Migrate(args) => migrate::run(args).await,
        DbVerb::Check(args) => check::run(args, format).await,
        DbVerb::Version(args) => version::run(args, format).await,
        DbVerb::Size(args) => size::run(args, format).await,
        DbVerb::Purge(args) => purge::run(args, format).await,
        DbVerb::Backup(args) => backup::run(args).await,
        DbVerb::Restore(args) => restore::run(args).await,
        DbVerb::Rekey(args) => rekey::run(args).await.map_err(Into::into),
        DbVerb::ImportMasakari(args) => import::run(args, format).await,
    };
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            // A list of findings is the answer, whichever way it goes.
            if let Some(Found { text }) = error.downcast_ref::<Found>() {
                println!("{text}");
            }
            eprintln!("halberd: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Something was looked for and found: printed as an answer, and the end is a failure.
#[derive(Debug, thiserror::Error)]
#[error("not everything is as it should be")]
pub(crate) struct Found {
    pub text: String,
}

/// Opens the configured database beside whatever runs on it. SQLite's schema is brought up to date by that, unless an engine holds the
/// file; a server's is only checked.
pub(crate) async fn open(args: &DbArgs) -> Result<Db, Box<dyn std::error::Error>> {
    let config = Config::load(args.config.as_deref())?;
    let url = config.database_url()?;
    Ok(Db::open(url.expose_secret(), Access::Shared).await.map_err(StartError::Database)?)
}
