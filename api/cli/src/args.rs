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
    /// An engine alone; `halberd engine list` lists those that work on an installation.
    Engine(EngineCommand),
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

/// `halberd engine` runs one, and `halberd engine list` is `halberd engines list`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EngineCommand {
    #[command(flatten)]
    pub daemon: Daemon,
    #[command(subcommand)]
    pub verb: Option<crate::verbs::Engine>,
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
    /// Read every row, and list all that is wrong: rows, references, numbers of events, audit chains, settings of the server.
    ///
    /// Writes one row and takes it back, nothing else. Exit code 1 when something was found; each finding says the way out.
    Check(DbArgs),
    /// Which schema the database has and this program needs, which server it is, and its identity. Changes nothing.
    Version(DbArgs),
    /// Rows, bytes and the oldest row of every table, how long it is kept, and what the next purge would take.
    Size(DbArgs),
    /// Delete what is older than [retention] keeps it, as engines do by themselves.
    Purge(Purge),
    /// Seal the secrets in the database with another key.
    ///
    /// Stop every engine and API of this database first. The key beside an SQLite database is replaced, and the former one kept as
    /// halberd.key.old; where [engine] secrets_key_file is set, it tells what to set it to. Interrupted, it can be run again.
    Rekey(Rekey),
    /// Write everything the database holds, and its secrets key, into one file; engines may run on.
    ///
    /// The file holds every kind of database alike: it can be restored into an SQLite file, a PostgreSQL or a MariaDB database. With the key
    /// in it, whoever reads it can open every password it holds.
    Backup(Backup),
    /// Bring a backup back into an empty database of any kind, or verify one with --check.
    ///
    /// Stop every engine and API of that database first. Nothing is written before the whole file was verified, and what is written is
    /// all there in the end or not at all. Afterwards engines only look (reconcile-only) until `halberd reconcile leave`.
    Restore(Restore),
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
pub struct Backup {
    /// Configuration file with `[database]`.
    #[arg(long, env = "HALBERD_CONFIG")]
    pub config: Option<PathBuf>,
    /// The file to write, mode 0600.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Leave the secrets key out; without its key file a restored database cannot open its passwords.
    #[arg(long)]
    pub without_key: bool,
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// Configuration file with `[database]`.
    #[arg(long, env = "HALBERD_CONFIG")]
    pub config: Option<PathBuf>,
    /// The backup.
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    pub from: Option<PathBuf>,
    /// Only verify this backup; needs no database.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "replace"])]
    pub check: Option<PathBuf>,
    /// The database is not empty: name what would be removed, and with --yes remove it.
    #[arg(long)]
    pub replace: bool,
    /// Do what --replace has named.
    #[arg(long, requires = "replace")]
    pub yes: bool,
    /// The engines that this database lists as running are known to be gone.
    #[arg(long)]
    pub engines_are_stopped: bool,
    /// Leave the key file alone that lies there.
    #[arg(long)]
    pub without_key: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Purge {
    /// Configuration file with `[database]` and `[retention]`.
    #[arg(long, env = "HALBERD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Only say what would go.
    #[arg(long)]
    pub dry_run: bool,
    /// SQLite: then write the file anew, as small as it can be. No engine may run; takes as long as copying the file.
    #[arg(long, conflicts_with = "dry_run")]
    pub compact: bool,
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
