//! The command line: what runs (serve, api, engine, demo), what is checked (config, db), and the operator's verbs, which are the API's clients.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::demo::DemoArgs;
use crate::masakari::config::FromMasakari;
use crate::masakari::import::ImportMasakari;
use crate::telemetry::LogFormat;
use crate::verbs::{Global, Verb};

/// High availability for the guests of OpenStack clouds.
#[derive(Debug, Parser)]
#[command(name = "halberd", version, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// API and engine in one process; without --config on SQLite, without passwords, on loopback.
    Serve(Daemon),
    /// The API alone; engines elsewhere act on what it records.
    Api(Daemon),
    /// An engine alone.
    Engine(Daemon),
    /// A hypervisor's death from beginning to end, on a simulated cloud, in one command.
    Demo(DemoArgs),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// The database.
    #[command(subcommand)]
    Db(DbVerb),
    /// Print the version.
    Version,
    #[command(flatten)]
    Operator(Verb),
}

/// What the daemons take.
#[derive(Clone, Debug, Args)]
pub struct Daemon {
    /// Configuration file; `halberd config sample` prints one.
    #[arg(long, env = "HALBERD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Log lines: text or json; auto is text on a terminal and JSON elsewhere.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print a configuration with every key, its default and what it means.
    Sample,
    /// Read a configuration, say what is wrong, and end. Asks nobody and changes nothing.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Make a configuration from masakari.conf; prints it, and says what means nothing here.
    FromMasakari(FromMasakari),
}

#[derive(Debug, Subcommand)]
pub enum DbVerb {
    /// Bring the schema up to date. On SQLite that also happens by itself.
    Migrate(DbArgs),
    /// Open the database, prove that it takes writes, and verify the audit's hash chains.
    Check(DbArgs),
    /// Seal the secrets in the database with another key.
    ///
    /// Stop every engine and API of this database first. The key beside an SQLite database is replaced, and the former one kept as
    /// halberd.key.old; where [engine] secrets_key_file is set, it tells what to set it to. Interrupted, it can be run again.
    Rekey(Rekey),
    /// Take over segments, hosts and history from a Masakari's database, which is only read; may be run again.
    ImportMasakari(ImportMasakari),
}

#[derive(Clone, Debug, Args)]
pub struct DbArgs {
    /// Configuration file with `[database]`.
    #[arg(long, env = "HALBERD_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct Rekey {
    /// Configuration file with `[database]`.
    #[arg(long, env = "HALBERD_CONFIG")]
    pub config: Option<PathBuf>,
    /// File with the new key, made if it does not exist [default: the key file's name and .new]
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
}
