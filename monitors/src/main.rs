//! `halberd-monitor`: reads its configuration, starts the agent, ends on SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use halberd_monitors::process::list;
use halberd_monitors::{Agent, Config, Handle, read_key};
use tokio::signal::unix::{SignalKind, signal};

/// Watches this host and tells Halberd's engines.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, env = "HALBERD_MONITOR_CONFIG", default_value = "/etc/halberd/monitor.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read configuration, key and process list, say what is wrong, and end.
    CheckConfig,
}

// One thread: the agent waits nearly always, and each worker thread costs memory on every hypervisor.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    let done = match arguments.verb {
        Some(Verb::CheckConfig) => check(&arguments.config),
        None => run(&arguments.config).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::iter::successors(Some(&*error as &dyn std::error::Error), |e| e.source());
            let text: Vec<String> = causes.map(ToString::to_string).collect();
            eprintln!("halberd-monitor: {}", text.join(": "));
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn run(path: &std::path::Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let mut handle: Handle = Agent::start(config).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = handle.ended() => return Err("a part of the agent ended; the log says which".into()),
    }
    // Nothing to finish: what matters is on disk.
    handle.kill_and_wait().await;
    Ok(())
}

fn check(path: &std::path::Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let key = read_key(&config)?;
    println!("host {} ({})", key.hostname, key.host);
    for network in &config.networks {
        println!("beats on {} from {} to {:?}", network.name, network.bind, config.engines_of(network));
    }
    if let Some(process) = &config.process {
        let present = halberd_monitors::process::find::processes(std::path::Path::new("/proc"))?;
        for entry in list::read(&process.list_path)? {
            let there =
                present.iter().filter(|p| halberd_monitors::process::find::fits(&entry.process_name, p));
            println!("process {}: {} running", entry.process_name, there.count());
        }
    }
    if let Some(instance) = &config.instance {
        println!("guests of {} through {}", instance.uri, instance.socket.display());
    }
    Ok(())
}
