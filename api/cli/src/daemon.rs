//! The long-running commands and the check of a configuration: from arguments to a running service, from a signal to its graceful end.

use std::path::Path;
use std::process::ExitCode;

use halberd_engine::stall;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Daemon;
use crate::config::Config;
use crate::serve::{Role, start_as};
use crate::{chain, telemetry};

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
    let _watch = running.engine().map(|engine| stall::watch(engine.shared()));
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

fn fail(text: &str) -> ExitCode {
    eprintln!("halberd: {text}");
    ExitCode::FAILURE
}
