//! `halberd audit`. Over the API as any verb; with `--config` on the database itself, so that it works while nothing runs.

use std::path::{Path, PathBuf};

use halberd_core::id::RecoveryId;
use halberd_store::{Access, Db, audit, events};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, clean, table, text};
use crate::chain;
use crate::config::Config;

const VERIFIED: &[Column] = &[
    Column::text("intact", "intact"),
    Column::text("chains", "chains"),
    Column::text("records", "records"),
    Column::text("broken", "broken"),
];

const CHAINS: &[Column] = &[
    Column::id("chain", "chain"),
    Column::id("records", "records"),
    Column::text("first bad record", "broken"),
];

const REMEDY: &str = "keep the database as it is, and compare it with the last backup and kept chain heads";

#[derive(Debug, clap::Subcommand)]
pub enum Audit {
    /// Check that nobody changed the record: every chain against itself, its head and the checkpoints
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Only the chain of this recovery
    #[arg(long, value_name = "ID")]
    pub recovery: Option<RecoveryId>,
    /// Ask the database of this configuration, not the API; the numbers of events are checked as well
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Audit {
    /// The configuration of the database that is asked in the API's place.
    pub(super) fn offline(&self) -> Option<(&Path, Option<RecoveryId>)> {
        let Audit::Verify(verify) = self;
        verify.config.as_deref().map(|config| (config, verify.recovery))
    }

    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Audit::Verify(verify) = self;
        let mut found = api.get("halberd/v1/audit/verify", &[]).await?;
        if let Some(recovery) = verify.recovery {
            let id = recovery.to_string();
            // Refused in words when there is no such chain.
            api.get("halberd/v1/audit", &[("chain", id.clone()), ("limit", "1".to_owned())]).await?;
            let of_it =
                |line: &&Value| line.as_str().is_some_and(|line| line.starts_with(&format!("chain {id}:")));
            let broken: Vec<Value> =
                found["broken"].as_array().into_iter().flatten().filter(of_it).cloned().collect();
            found = json!({ "intact": broken.is_empty(), "recovery": id, "broken": broken });
        }
        match screen.format {
            Format::Table if found["intact"] == true => match verify.recovery {
                Some(recovery) => screen.line(&format!("intact: the record of recovery {recovery}"))?,
                None => {
                    let (chains, records) = (text(&found, "chains"), text(&found, "records"));
                    screen.line(&clean(&format!("intact: {records} records in {chains} chains")))?;
                }
            },
            _ => screen.show(&found, VERIFIED)?,
        }
        let broken = found["broken"].as_array().map_or(0, Vec::len);
        ended(found["intact"] == true, broken)
    }
}

fn ended(intact: bool, broken: usize) -> Result<(), Failure> {
    match intact {
        true => Ok(()),
        false => {
            let text = format!("the audit is not intact: {broken} chains are broken");
            Err(Failure::refused(text).with_remedy(REMEDY))
        }
    }
}

/// The same on the database, chain by chain.
pub(super) async fn verify_offline(
    config: &Path,
    recovery: Option<RecoveryId>,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    let config = Config::load(Some(config)).map_err(|error| Failure::usage(chain(&error)))?;
    let url = config.database_url().map_err(|error| Failure::usage(chain(&error)))?;
    let refused = |error: halberd_store::Error| Failure::refused(chain(&error));
    let db = Db::open(url.expose_secret(), Access::Shared).await.map_err(refused)?;
    let name = recovery.map(|id| id.to_string());
    let chains = audit::inspect(&db, name.as_deref()).await;
    let gaps = events::gaps(&db).await;
    db.close().await;
    let mut chains = chains.map_err(refused)?;
    let mut gaps = gaps.map_err(refused)?;
    if let Some(name) = &name {
        chains.retain(|chain| chain.name == *name);
        gaps.retain(|gap| gap.recovery == *name);
        if chains.is_empty() {
            return Err(Failure::refused(format!("there is no audit chain of recovery {name}"))
                .with_remedy("see `halberd recovery list` for those that are kept"));
        }
    }
    let items: Vec<Value> = chains
        .iter()
        .map(|chain| {
            json!({
                "chain": chain.name,
                "records": chain.records,
                "broken": chain.broken.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let broken = chains.iter().filter(|chain| chain.broken.is_some()).count();
    let records: u64 = chains.iter().map(|chain| chain.records).sum();
    let gaps: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    let intact = broken == 0 && gaps.is_empty();
    match screen.format {
        Format::Json => {
            let whole = json!({ "intact": intact, "chains": items, "records": records, "events": gaps });
            screen.json(&whole)?;
        }
        Format::Value => screen.list(&items, CHAINS)?,
        Format::Table => {
            screen.line(&table(&items, CHAINS))?;
            for gap in &gaps {
                screen.line(&clean(gap))?;
            }
            let word = if intact { "intact" } else { "NOT intact" };
            screen.line(&format!("{word}: {records} records in {} chains", chains.len()))?;
        }
    }
    match (broken, gaps.len()) {
        (0, 0) => Ok(()),
        (0, gaps) => {
            Err(Failure::refused(format!("events are missing in {gaps} recoveries")).with_remedy(REMEDY))
        }
        (broken, _) => ended(false, broken),
    }
}

#[cfg(test)]
mod tests {
    use halberd_core::audit::Entry;
    use halberd_core::time::Stamp;
    use halberd_store::write;

    use super::*;

    async fn verified(
        file: &Path,
        format: Format,
        recovery: Option<RecoveryId>,
    ) -> (String, Result<(), Failure>) {
        let mut out = Vec::new();
        let mut screen = Screen { format, columns: &[], out: &mut out };
        let end = verify_offline(file, recovery, &mut screen).await;
        (String::from_utf8(out).expect("text"), end)
    }

    #[tokio::test]
    async fn a_database_is_verified_while_nothing_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", dir.path().join("halberd.db").display());
        let file = dir.path().join("halberd.toml");
        std::fs::write(&file, format!("[api]\nauth = \"none\"\n[database]\nurl = \"{url}\"\n"))
            .expect("written");
        let db = Db::open(&url, Access::Shared).await.expect("made");
        let recovery = RecoveryId(uuid::Uuid::from_u128(7));
        let entry = [Entry::new("recovery_opened", "opened", json!({}))];
        for chain in [recovery.to_string(), "api:x".to_owned()] {
            write(&db, async |tx| audit::append(tx, &chain, 0, &entry, Stamp(1)).await).await.expect("kept");
        }
        let (out, end) = verified(&file, Format::Table, None).await;
        assert!(end.is_ok() && out.contains("intact: 2 records in 2 chains"), "{out}");
        let (out, end) = verified(&file, Format::Json, Some(recovery)).await;
        let whole: Value = serde_json::from_str(&out).expect("JSON");
        assert!(end.is_ok() && whole["chains"].as_array().is_some_and(|chains| chains.len() == 1), "{out}");
        let (_, end) = verified(&file, Format::Table, Some(RecoveryId(uuid::Uuid::from_u128(8)))).await;
        assert_eq!(end.expect_err("there is none").code, 1);
        // A record that was not there when its head was written: the head of another chain is put in its place.
        let away = [Entry::new("a", "b", json!({})), Entry::new("c", "d", json!({}))];
        write(&db, async |tx| audit::append(tx, "api:y", 0, &away, Stamp(1)).await).await.expect("kept");
        db.close().await;
        let (out, end) = verified(&file, Format::Value, None).await;
        assert!(end.is_ok() && out.lines().count() == 3, "{out}");
    }
}
