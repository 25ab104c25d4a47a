//! `halberd db import-masakari`: what the store took and left, as an operator reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use halberd_core::time::Stamp;
use halberd_store::import::{self, Import, Report, Table};
use halberd_store::{Access, Db};
use secrecy::{ExposeSecret, SecretString};

use super::ini::Ini;
use crate::args::DbArgs;
use crate::config::Config;
use crate::serve::StartError;
use crate::verbs::Format;

/// What `db import-masakari` takes.
#[derive(Clone, Debug, Args)]
pub struct ImportMasakari {
    /// masakari.conf, whose `[database] connection` is then used, or that URL itself
    ///
    /// mysql+pymysql://, postgresql+psycopg2:// and sqlite:/// as Masakari writes them. A URL on the command line is seen by everybody on
    /// the machine: name the file, or set HALBERD_MASAKARI_URL.
    #[arg(value_name = "FILE|URL", env = "HALBERD_MASAKARI_URL", hide_env_values = true)]
    pub source: String,
    #[command(flatten)]
    pub db: DbArgs,
    /// Say what would be done and commit nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Notifications of the last so many days, or `all`; segments and hosts are always taken
    #[arg(long, value_name = "DAYS|all", default_value = "all", value_parser = since)]
    pub since: Since,
}

/// How far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    All,
    Days(u32),
}

fn since(text: &str) -> Result<Since, String> {
    match text {
        "all" => Ok(Since::All),
        // Longer than Masakari exists; and no overflow.
        days => match days.parse() {
            Ok(days @ 1..=36_500) => Ok(Since::Days(days)),
            _ => Err("give a number of days from 1 to 36500, or all".into()),
        },
    }
}

type Failed = Box<dyn std::error::Error>;

/// The verb: the report, as text or as JSON.
///
/// # Errors
/// Why nothing was imported, or not all.
pub async fn run(args: &ImportMasakari, format: Format) -> Result<String, Failed> {
    let report = imported(args).await?;
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(&report)?,
        Format::Table | Format::Value => told(&report).trim_end().to_owned(),
    })
}

async fn imported(args: &ImportMasakari) -> Result<Report, Failed> {
    let url = source(&args.source)?;
    let config = Config::load(args.db.config.as_deref())?;
    let ours = config.database_url()?;
    let now = halberd_engine::clock::stamp();
    let since = match args.since {
        Since::All => None,
        Since::Days(days) => Some(Stamp(now.0 - i64::from(days) * 86_400_000_000)),
    };
    let import = Import { url: &url, since, dry_run: args.dry_run };
    let rehearsal = Rehearsal::instead_of(ours.expose_secret(), args.dry_run)?;
    let open = rehearsal.as_ref().map_or(ours.expose_secret(), |rehearsal| &rehearsal.url);
    let db = Db::open(open, Access::Shared).await.map_err(StartError::Database)?;
    let report = import::masakari(&db, &import, now).await;
    db.close().await;
    Ok(report?)
}

/// The URL as given, or as a configuration of Masakari's gives it.
fn source(text: &str) -> Result<SecretString, Failed> {
    if text.contains("://") || text.starts_with("sqlite:") {
        return Ok(SecretString::from(text));
    }
    if text.is_empty() {
        return Err("name masakari.conf or the URL of Masakari's database".into());
    }
    let path = PathBuf::from(text);
    let ini = Ini::read(std::slice::from_ref(&path))?;
    match ini.value("database", "connection") {
        Some(Ok(url)) if !url.is_empty() => Ok(SecretString::from(url)),
        Some(Err(unknown)) => Err(format!(
            "{text}: [database] connection refers to ${unknown}, which the file does not set; give the URL itself"
        )
        .into()),
        _ => Err(format!("{text} has no [database] connection; name the right masakari.conf, or give the URL itself").into()),
    }
}

/// A database for a rehearsal where ours does not exist yet: to make it would be to change something.
struct Rehearsal {
    folder: PathBuf,
    url: String,
}

impl Rehearsal {
    fn instead_of(url: &str, dry_run: bool) -> Result<Option<Rehearsal>, Failed> {
        let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
        if !dry_run || !url.starts_with("sqlite:") || Path::new(path).exists() {
            return Ok(None);
        }
        let folder = std::env::temp_dir().join(format!("halberd-rehearsal-{}", uuid::Uuid::new_v4()));
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let url = format!("sqlite:{}", folder.join("halberd.db").display());
        Ok(Some(Rehearsal { folder, url }))
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Lines shown of a list that may be long; `--format json` shows all.
const SHOWN: usize = 10;

/// The report for a person: figures first, then what wants a look, each with what to do.
pub fn told(report: &Report) -> String {
    let mut text = format!("{}, schema {}\n\n", report.source, report.revision);
    let _ = writeln!(
        text,
        "{:<14} {:>8} {:>14} {:>8} {:>14} {:>6}",
        "", "taken", "already there", "changed", "changed here", "left"
    );
    for table in Table::ALL {
        let of = report.of(table);
        let deleted =
            if of.deleted > 0 { format!("   ({} of them deleted)", of.deleted) } else { String::new() };
        let _ = writeln!(
            text,
            "{:<14} {:>8} {:>14} {:>8} {:>14} {:>6}{deleted}",
            format!("{}s", table.noun()),
            of.taken,
            of.already_there,
            of.changed,
            of.kept_ours,
            of.left
        );
    }
    if report.older > 0 {
        let _ =
            writeln!(text, "{} notifications are older than --since and stay where they are", report.older);
    }
    left(report, &mut text);
    list(
        &mut text,
        "Got a new id, because another row here has theirs (nothing but a list's marker knows an id):",
        report
            .renumbered
            .iter()
            .map(|row| format!("{} {}: {} is {} here", row.table.noun(), row.row, row.was, row.is)),
    );
    list(
        &mut text,
        "Masakari had not finished these. They are history here, status 'failed', and NO recovery was started: look at\n\
         each host and its guests (openstack server list --all-projects --host HOST):",
        report.unfinished.iter().map(|row| {
            format!(
                "{} of {} UTC: {} {} ({})",
                row.kind, row.generated_time, row.host, row.status, row.notification
            )
        }),
    );
    list(
        &mut text,
        "On maintenance, as Masakari left them (it never clears that by itself). Reports about them are refused until you do,\n\
         once each is well: halberd host update HOST --on-maintenance false",
        report.on_maintenance.iter().map(|row| format!("{} {}", row.segment, row.host)),
    );
    if report.hosts.taken > report.hosts.deleted && !report.dry_run {
        text.push_str(
            "\nA host can be fenced once it has a fence device; until then its recovery stops and asks a person:\n\
             \x20   halberd host fence-devices set HOST ...; then: halberd readiness\n",
        );
    }
    text.push_str(match report.dry_run {
        true => "\nThis was a rehearsal: nothing was written.\n",
        false => "\nThe source was only read. Run this again to take what is new or changed there.\n",
    });
    text
}

/// Rows that were left, by reason.
fn left(report: &Report, text: &mut String) {
    let mut by: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for left in &report.left {
        by.entry((left.table.noun(), &left.reason)).or_default().push(&left.row);
    }
    if by.is_empty() {
        return;
    }
    text.push_str("\nLeft:\n");
    for ((noun, reason), rows) in by {
        let first = rows.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = if rows.len() > 3 { format!(" and {} more", rows.len() - 3) } else { String::new() };
        let _ = writeln!(text, "  {noun} {first}{more}: {reason}");
    }
    if report.left_unlisted > 0 {
        let _ = writeln!(text, "  and {} more rows", report.left_unlisted);
    }
}

fn list(text: &mut String, head: &str, lines: impl ExactSizeIterator<Item = String>) {
    let count = lines.len();
    if count == 0 {
        return;
    }
    let _ = writeln!(text, "\n{head}");
    for line in lines.take(SHOWN) {
        let _ = writeln!(text, "  {line}");
    }
    if count > SHOWN {
        let _ = writeln!(text, "  and {} more; --format json lists all", count - SHOWN);
    }
}
