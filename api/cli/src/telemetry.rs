//! Logs: for people on a terminal, one JSON object a line elsewhere on request. Always on standard error: standard output is for answers.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
}

/// Starts logging, once per process. `quiet` is what is logged where `RUST_LOG` says nothing.
pub fn start(format: LogFormat, quiet: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(quiet));
    let terminal = std::io::stderr().is_terminal();
    let json = format == LogFormat::Json || format == LogFormat::Auto && !terminal;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (tests) changes nothing.
    let _ = if json { lines.json().try_init() } else { lines.with_ansi(terminal).try_init() };
}

/// What is logged by default: ours from info on, others only what is wrong. `ipmi_rs` would log session material at debug.
pub const DEFAULT: &str = "warn,halberd=info,halberd_api=info,halberd_engine=info,halberd_core=info,halberd_store=info,halberd_openstack=info,\
                           halberd_fencing=info,halberd_monitors=info";
