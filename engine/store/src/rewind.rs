//! Reconcile-only: the row that stops every engine on this database, because it shows less than one of them remembers, and the way out.
//!
//! The row stands in `settings`, so that whoever restores a database can put it there with [`declare`] before any engine starts. Beside
//! it lies the list of the times that it was left: an engine that knows of one more than the database has been rewound past it.

use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::id::{EngineId, EventId};
use halberd_core::rewind::{EPOCH_STEP, Finding, Loss, Thing};
use halberd_core::time::Stamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::error::Result;
use crate::transaction::{Read, Tx, first};
use crate::value::{args, json as document};
use crate::{audit, events, recoveries, settings};

const REWOUND: &str = "rewound";
const RECONCILED: &str = "reconciled";
/// Times left that are remembered. An engine that was away for more of them takes what the database shows, as after any of them.
const LEFT_KEPT: usize = 100;
/// Losses that are listed. A restored backup may lack thousands of recoveries; these show what kind of thing happened.
const LOST_LISTED: usize = 200;

/// The row that stops every engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// Of this time; it goes on the list when it is left.
    pub id: Uuid,
    /// Who found it: an engine's name, or who restored.
    pub by: String,
    /// For display.
    pub since: Stamp,
    /// In words.
    pub why: String,
    pub lost: Vec<Loss>,
    /// Losses that are not listed any more.
    #[serde(default)]
    pub unlisted: u64,
    /// The last look at the world, by whichever engine.
    #[serde(default)]
    pub audit: Option<Audited>,
}

/// What a look at the world found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    pub by: String,
    pub at: Stamp,
    pub hosts: u64,
    pub findings: Vec<Finding>,
}

/// The row, while it stands.
pub async fn standing(on: impl Read) -> Result<Option<Rewound>> {
    read(on, REWOUND).await
}

/// Whether it stands.
pub async fn stands(mut on: impl Read) -> Result<bool> {
    Ok(first(&mut on, "SELECT 1 AS n FROM settings WHERE name = ?", args![REWOUND]).await?.is_some())
}

/// Every time that reconcile-only was left, oldest first.
pub async fn reconciled(on: impl Read) -> Result<Vec<Uuid>> {
    Ok(read(on, RECONCILED).await?.unwrap_or_default())
}

async fn read<T: serde::de::DeserializeOwned>(mut on: impl Read, name: &str) -> Result<Option<T>> {
    let row = first(&mut on, "SELECT name, value FROM settings WHERE name = ?", args![name]).await?;
    row.map(|row| row.of("settings", "name").json("value")).transpose()
}

/// Puts every engine on this database into reconcile-only: `by` says so (an engine's name, or for instance `restore by root`), `why` in
/// words. Where the row stands already, what is new of `lost` joins it. `chain` is the audit chain of the caller
/// ([`audit::engine_chain`], [`audit::api_chain`]); engines that run see the row within a second.
pub async fn declare(
    tx: &mut Tx,
    by: &str,
    why: &str,
    lost: &[Loss],
    chain: &str,
    webhooks: &[String],
    now: Stamp,
) -> Result<Rewound> {
    let stood = standing(&mut *tx).await?;
    let first = stood.is_none();
    let mut row = stood.unwrap_or_else(|| Rewound {
        id: Uuid::new_v4(),
        by: by.to_owned(),
        since: now,
        why: why.to_owned(),
        lost: Vec::new(),
        unlisted: 0,
        audit: None,
    });
    let mut new: Vec<Loss> = lost.iter().filter(|loss| !row.lost.contains(loss)).cloned().collect();
    if !first && new.is_empty() {
        return Ok(row);
    }
    let more = new.len().saturating_sub(LOST_LISTED.saturating_sub(row.lost.len()));
    new.truncate(new.len() - more);
    row.unlisted += more as u64;
    row.lost.extend(new.iter().cloned());
    // What was found before is not known to explain what is lost now.
    row.audit = None;
    settings::set(tx, REWOUND, &document(&row), now).await?;
    let texts: Vec<&str> = lost.iter().map(|loss| loss.text.as_str()).collect();
    let text = format!("{by}: {why}");
    let detail = json!({"id": row.id, "lost": texts});
    audit::append(tx, chain, 0, &[Entry::new("database_rewound", &text, detail.clone())], now).await?;
    if first {
        let data = json!({
            "text": format!("{text}; engines do nothing until that is looked at (`halberd reconcile show`, then `leave`)"),
            "detail": detail,
        });
        tell(tx, EventKind::DatabaseRewound, data, webhooks, now).await?;
    }
    Ok(row)
}

/// [`declare`], for what was found by comparing with a database that showed these times left (`compared`). `None`, and nothing is written,
/// where it shows others by now: reconcile-only was left meanwhile, and what was found is of before.
pub async fn declare_found(
    tx: &mut Tx,
    compared: &[Uuid],
    by: EngineId,
    found: &Found<'_>,
    webhooks: &[String],
    now: Stamp,
) -> Result<Option<Rewound>> {
    if reconciled(&mut *tx).await? != compared {
        return Ok(None);
    }
    let chain = audit::engine_chain(by);
    declare(tx, found.by, found.why, found.lost, &chain, webhooks, now).await.map(Some)
}

/// What an engine found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its name.
    pub by: &'a str,
    pub why: &'a str,
    pub lost: &'a [Loss],
}

/// Keeps what a look at the world found. `false`: the row does not stand any more, or what was lost has grown since the look began
/// (`lost` is how much was known then).
pub async fn note_audit(tx: &mut Tx, id: Uuid, lost: usize, audited: &Audited, now: Stamp) -> Result<bool> {
    let Some(mut row) = standing(&mut *tx).await?.filter(|row| row.id == id && row.lost.len() == lost) else {
        return Ok(false);
    };
    row.audit = Some(audited.clone());
    settings::set(tx, REWOUND, &document(&row), now).await?;
    Ok(true)
}

/// Ends reconcile-only, for all engines: every open recovery gets an epoch that nobody can have had (I6) and no owner, so that whoever
/// claims it looks at the world first. `false`: the row did not stand as it was seen, and nothing was done.
pub async fn leave(
    tx: &mut Tx,
    seen: &Rewound,
    by: &str,
    reason: &str,
    chain: &str,
    webhooks: &[String],
    now: Stamp,
) -> Result<bool> {
    let findings = |row: &Rewound| row.audit.as_ref().map(|audit| audit.findings.clone());
    let stands = standing(&mut *tx).await?;
    let as_seen = |row: &Rewound| (row.id, &row.lost, findings(row)) == (seen.id, &seen.lost, findings(seen));
    if !stands.as_ref().is_some_and(as_seen) {
        return Ok(false);
    }
    let mut raised = 0;
    for recovery in recoveries::holders(&mut *tx).await? {
        let mark = seen.lost.iter().find(|loss| loss.thing == Thing::Recovery(recovery.id));
        let epoch = mark.and_then(|mark| mark.epoch).unwrap_or(0).max(recovery.epoch) + EPOCH_STEP;
        let version = mark.and_then(|mark| mark.version).unwrap_or(0).max(recovery.version) + 1;
        let sql = "UPDATE recoveries SET epoch = ?, version = ?, owner = ?, updated_at = ? WHERE id = ? AND version = ?";
        let nobody: Option<EngineId> = None;
        let values = args![epoch, version, nobody, now, recovery.id, recovery.version];
        if tx.exec(sql, values).await? != 1 {
            return Err(crate::Error::Conflict { attempts: 1, source: None });
        }
        let text = format!("the database was rewound: epoch {} becomes {epoch}", recovery.epoch);
        let entry = Entry::new(
            "epoch_raised",
            text,
            json!({"from": recovery.epoch, "to": epoch, "rewound": seen.id}),
        );
        audit::append(tx, &recovery.id.to_string(), epoch, &[entry], now).await?;
        raised += 1;
    }
    let mut left = reconciled(&mut *tx).await?;
    left.push(seen.id);
    let spare = left.len().saturating_sub(LEFT_KEPT);
    left.drain(..spare);
    settings::set(tx, RECONCILED, &document(&left), now).await?;
    tx.exec("DELETE FROM settings WHERE name = ?", args![REWOUND]).await?;
    let text = format!("{by}: {reason}");
    let detail = json!({"id": seen.id, "recoveries": raised, "audit": seen.audit});
    audit::append(tx, chain, 0, &[Entry::new("reconcile_only_left", &text, detail.clone())], now).await?;
    let data = json!({"text": text, "detail": detail});
    tell(tx, EventKind::ReconcileOnlyLeft, data, webhooks, now).await?;
    Ok(true)
}

async fn tell(
    tx: &mut Tx,
    kind: EventKind,
    data: serde_json::Value,
    webhooks: &[String],
    now: Stamp,
) -> Result<()> {
    let event =
        Event { id: EventId(Uuid::new_v4()), kind, recovery: None, subject: "database/halberd".into(), data };
    events::publish(tx, &[event], 0, webhooks, now).await
}
