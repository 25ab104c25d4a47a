//! The long-running commands and the two checks: from arguments to a running service, from a signal to its graceful end.

use std::path::Path;
use std::process::ExitCode;

use halberd_store::{Access, Db, audit};
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Daemon, DbArgs, DbVerb};
use crate::config::Config;
use crate::masakari::import;
use crate::serve::{Role, StartError, start_as};
use crate::verbs::Format;
use crate::{chain, rekey, telemetry};

/// Runs until SIGTERM or SIGINT; SIGHUP reads the API's TLS files again.
pub async fn run(daemon: &Daemon, role: Role) -> ExitCode {
    telemetry::start(daemon.log_format, telemetry::DEFAULT);
    match serve(daemon, role).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&chain(&*error)),
    }
}

async fn serve(daemon: &Daemon, role: Role) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let config = Config::load(daemon.config.as_deref())?;
    let mut running = start_as(config, role).await?;
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hangup.recv() => running.reload(),
            ended = running.ended() => break Some(ended),
        }
    };
    tracing::info!("stopping: requests under way are finished, recoveries are given back");
    running.stop().await;
    tracing::info!("stopped");
    match ended {
        Some(Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// `halberd config check FILE`.
pub async fn check_config(file: &Path) -> ExitCode {
    let checked = match Config::load(Some(file)) {
        Ok(config) => config.check_files().await.map(|()| config),
        Err(error) => Err(error),
    };
    match checked {
        Ok(config) => {
            println!("{} is good: the API would listen on {}", file.display(), config.api.listen);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&chain(&error)),
    }
}

/// `halberd db ...`.
pub async fn db(verb: &DbVerb, format: Format) -> ExitCode {
    let done = match verb {
        DbVerb::Migrate(args) => migrate(args).await,
        DbVerb::Check(args) => check_db(args).await,
        DbVerb::Rekey(args) => rekey::run(args).await.map_err(Into::into),
        DbVerb::ImportMasakari(args) => import::run(args, format).await,
    };
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&chain(&*error)),
    }
}

type Done = Result<String, Box<dyn std::error::Error>>;

async fn open(args: &DbArgs) -> Result<Db, Box<dyn std::error::Error>> {
    let config = Config::load(args.config.as_deref())?;
    let url = config.database_url()?;
    // Opening brings the schema up to date where the dialect does so by itself, beside a running engine only checks it.
    Ok(Db::open(url.expose_secret(), Access::Shared).await.map_err(StartError::Database)?)
}

async fn migrate(args: &DbArgs) -> Done {
    let config = Config::load(args.config.as_deref())?;
    let url = config.database_url()?;
    let before = halberd_store::migrate::migrate(url.expose_secret()).await.map_err(StartError::Database)?;
    Ok(match before.found == before.ours {
        true => format!("the schema is up to date (step {})", before.ours),
        false => format!("the schema was brought from step {} to step {}", before.found, before.ours),
    })
}

async fn check_db(args: &DbArgs) -> Done {
    let db = open(args).await?;
    db.ping().await?;
    let broken = audit::verify(&db).await?;
    let chains = audit::heads(&db).await?.len();
    db.close().await;
    match broken.first() {
        None => Ok(format!("the database answers and takes writes; all {chains} audit chains verify")),
        Some(first) => {
            Err(format!("{} of {chains} audit chains do not verify, the first: {first}", broken.len()).into())
        }
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("halberd: {text}");
    ExitCode::FAILURE
}
