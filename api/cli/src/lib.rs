//! The program `halberd`: composes all packages, and is the only one that may name them all.
//!
//! [`serve`] starts API and engine, [`demo`] lets a simulated hypervisor die before your eyes, [`verbs`] are the operator's hands: clients of
//! the public API like any other. What it runs on is one checked [`config`].

pub mod args;
pub mod config;
mod daemon;
mod db;
pub mod demo;
pub mod listen;
pub mod masakari;
pub mod metrics;
mod rekey;
pub mod serve;
pub mod telemetry;
pub mod tls;
pub mod verbs;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command, ConfigVerb, EngineCommand};

/// Runs the program and says how it ended.
pub async fn run() -> ExitCode {
    tls::install_provider();
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Serve(daemon) => daemon::run(&daemon, serve::Role::Serve).await,
        Command::Api(daemon) => daemon::run(&daemon, serve::Role::Api).await,
        Command::Engine(EngineCommand { verb: Some(verb), .. }) => {
            verbs::run(verbs::Verb::Engine(verb), &arguments.global).await
        }
        Command::Engine(EngineCommand { daemon, verb: None }) => {
            daemon::run(&daemon, serve::Role::Engine).await
        }
        Command::Demo(arguments) => demo::run(&arguments).await,
        Command::Config(ConfigVerb::Sample) => {
            print!("{}", config::sample::text());
            ExitCode::SUCCESS
        }
        Command::Config(ConfigVerb::Check { file }) => daemon::check_config(&file).await,
        Command::Config(ConfigVerb::FromMasakari(args)) => masakari::config::run(&args),
        Command::Db(verb) => db::run(&verb, arguments.global.format).await,
        Command::Version => {
            println!("halberd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Operator(verb) => verbs::run(verb, &arguments.global).await,
    }
}

/// An error with all its causes, one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Transparent layers repeat themselves.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
