//! Recoveries: opened once per subject (I4), claimed by one conditional update (I5, I6), changed by [`crate::commit`] only.

use halberd_core::audit::Entry;
use halberd_core::event::Event;
use halberd_core::id::{EngineId, HostId, NotificationId, RecoveryId, SegmentId};
use halberd_core::notification::{Notification, NotificationStatus};
use halberd_core::recovery::{Recovery, StateWord, Subject, WORKFLOW_VERSION};
use halberd_core::segment::RecoveryMethod;
use halberd_core::time::Stamp;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::legible::legible;
use crate::list::{Filter, Page, Table, list as run_list};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args, json};
use crate::{audit, events, notifications, rewind};

const TABLE: Table = Table {
    what: "recovery",
    from: "recoveries",
    select: "*",
    id: "id",
    created: "opened_at",
    columns: &[
        ("id", "num"),
        ("uuid", "id"),
        ("kind", "kind"),
        ("state", "state"),
        ("host", "host_name"),
        ("opened_at", "opened_at"),
        ("closed_at", "COALESCE(closed_at, 0)"),
    ],
};

/// `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct RecoveryFilter {
    pub host: Option<HostId>,
    pub segment: Option<SegmentId>,
    pub notification: Option<NotificationId>,
    /// `host`, `instance`, `process` or `return`.
    pub kind: Option<String>,
    pub state: Option<String>,
    pub open: Option<bool>,
}

/// A recovery to open, with everything that commits with it.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// Its version becomes 1; epoch and owner as given (epoch 0 and nobody, or 1 and the opener).
    pub recovery: &'a Recovery,
    /// An engine's own verdict writes its report too; `None` when the report is a row already.
    pub report: Option<&'a Notification>,
    pub audit: &'a [Entry],
    pub events: &'a [Event],
    pub webhooks: &'a [String],
}

/// What came of opening.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    New(Box<Recovery>),
    /// One is open for that subject; the report, if it was new, has joined it.
    AlreadyOpen(RecoveryId),
}

/// Opens a recovery, unless one is open for its subject. Commit either.
pub async fn open(tx: &mut Tx, opening: &Opening<'_>, now: Stamp) -> Result<Opened> {
    let recovery = opening.recovery;
    let key = recovery.subject.open_key();
    if let Some(row) =
        first(&mut &mut *tx, "SELECT id FROM recoveries WHERE open_key = ?", args![&key]).await?
    {
        let existing = row.of("recoveries", "id").id("id")?;
        if opening.report.is_none() {
            notifications::join(tx, recovery.notification, existing, now).await?;
        }
        return Ok(Opened::AlreadyOpen(existing));
    }
    if let Some(report) = opening.report {
        notifications::insert(tx, report, Some(recovery.id), now).await?;
    }
    insert(tx, recovery, &key, now).await?;
    notifications::take_up(tx, recovery, opening.report.is_some(), now).await?;
    audit::append(tx, &recovery.id.to_string(), recovery.epoch, opening.audit, now).await?;
    events::publish(tx, opening.events, recovery.epoch, opening.webhooks, now).await?;
    Ok(Opened::New(Box::new(get(&mut *tx, recovery.id).await?)))
}

/// Opens a recovery that another's transition brings with it. A return that is open already begins afresh instead, in anybody's hands: what
/// it had seen and done was before that transition. A host's own recovery takes its report along.
pub(crate) async fn open_beside(tx: &mut Tx, recovery: &Recovery, now: Stamp) -> Result<()> {
    let key = recovery.subject.open_key();
    match first(&mut &mut *tx, "SELECT id FROM recoveries WHERE open_key = ?", args![&key]).await? {
        Some(_) if recovery.subject.kind() != "return" => Ok(()),
        Some(_) => {
            let sql = "UPDATE recoveries SET state = ?, body = ?, reason = ?, owner = NULL, version = version + 1, updated_at = ? \
                       WHERE open_key = ?";
            let values = args![recovery.word().as_str(), json(&recovery.body), &recovery.reason, now, &key];
            tx.exec(sql, values).await.map(|_| ())
        }
        None => {
            insert(tx, recovery, &key, now).await?;
            if recovery.subject.kind() == "host" {
                notifications::take_up(tx, recovery, false, now).await?;
            }
            Ok(())
        }
    }
}

pub(crate) async fn insert(tx: &mut Tx, recovery: &Recovery, key: &str, now: Stamp) -> Result<()> {
    tx.exec(
        "INSERT INTO recoveries (id, notification, segment, kind, subject, host, host_name, method, policy, state, body, \
         hooks, reason, workflow_version, owner, epoch, version, nonce, event_sequence, open_key, opened_at, closed_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, 0, ?, ?, ?, ?)",
        args![
            recovery.id,
            recovery.notification,
            recovery.segment,
            recovery.subject.kind(),
            json(&recovery.subject),
            recovery.subject.host(),
            &recovery.host_name,
            recovery.method.as_str(),
            json(&recovery.policy),
            recovery.word().as_str(),
            json(&recovery.body),
            json(&recovery.hooks),
            &recovery.reason,
            recovery.workflow_version,
            recovery.owner,
            recovery.epoch,
            Uuid::nil(),
            recovery.is_open().then(|| key.to_owned()),
            recovery.opened_at,
            recovery.closed_at,
            now
        ],
    )
    .await
    .map_err(Error::raced)?;
    Ok(())
}

/// Takes a recovery over, if it still is as it was seen: the one portable claim, a single conditional update (DESIGN 3).
/// `None`: somebody was faster, the engines are in reconcile-only ([`rewind`]: what is lost may be a claim of the very epoch), or a newer version's workflow writes it, which is left to an engine of that version (I32). The epoch is
/// one higher than any before it.
pub async fn claim(
    tx: &mut Tx,
    id: RecoveryId,
    seen_epoch: i64,
    seen_owner: Option<EngineId>,
    engine: EngineId,
    now: Stamp,
) -> Result<Option<Recovery>> {
    if rewind::stands(&mut *tx).await? {
        return Ok(None);
    }
    let won = match seen_owner {
        Some(owner) => {
            let sql = "UPDATE recoveries SET owner = ?, epoch = epoch + 1, version = version + 1, updated_at = ? \
                       WHERE id = ? AND epoch = ? AND owner = ? AND open_key IS NOT NULL AND workflow_version <= ?";
            tx.exec(sql, args![engine, now, id, seen_epoch, owner, WORKFLOW_VERSION]).await?
        }
        None => {
            let sql = "UPDATE recoveries SET owner = ?, epoch = epoch + 1, version = version + 1, updated_at = ? \
                       WHERE id = ? AND epoch = ? AND owner IS NULL AND open_key IS NOT NULL AND workflow_version <= ?";
            tx.exec(sql, args![engine, now, id, seen_epoch, WORKFLOW_VERSION]).await?
        }
    };
    if won == 1 { get(&mut *tx, id).await.map(Some) } else { Ok(None) }
}

/// Says that a recovery was written by another version's workflow; for tests of upgrades.
#[cfg(any(test, feature = "testing"))]
pub async fn set_workflow(tx: &mut Tx, id: RecoveryId, version: u32) -> Result<()> {
    tx.exec("UPDATE recoveries SET workflow_version = ? WHERE id = ?", args![version, id]).await.map(drop)
}

/// Gives a recovery back at a graceful stop, so that nobody need wait for the lease. `false`: it was not ours any more.
pub async fn release(tx: &mut Tx, id: RecoveryId, epoch: i64, engine: EngineId, now: Stamp) -> Result<bool> {
    let sql = "UPDATE recoveries SET owner = NULL, version = version + 1, updated_at = ? \
               WHERE id = ? AND epoch = ? AND owner = ?";
    Ok(tx.exec(sql, args![now, id, epoch, engine]).await? == 1)
}

pub async fn get(mut on: impl Read, id: RecoveryId) -> Result<Recovery> {
    let row = first(&mut on, "SELECT * FROM recoveries WHERE id = ?", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("recovery", id))?)
}

/// The open recovery of a subject.
pub async fn open_for(mut on: impl Read, subject: &Subject) -> Result<Option<Recovery>> {
    let row =
        first(&mut on, "SELECT * FROM recoveries WHERE open_key = ?", args![subject.open_key()]).await?;
    row.as_ref().map(read).transpose()
}

/// Whether a recovery of a subject is open, whatever version wrote it.
pub async fn is_open_for(mut on: impl Read, subject: &Subject) -> Result<bool> {
    let sql = "SELECT 1 AS n FROM recoveries WHERE open_key = ?";
    Ok(first(&mut on, sql, args![subject.open_key()]).await?.is_some())
}

/// Every open recovery, oldest first; all of them or an error: whoever asks whether anything is under way must not miss one. What an
/// engine works on it finds by [`holders`], which one bad document does not hide.
pub async fn list_open(mut on: impl Read) -> Result<Vec<Recovery>> {
    let sql = "SELECT * FROM recoveries WHERE open_key IS NOT NULL ORDER BY num";
    all(&mut on, sql, vec![]).await?.iter().map(read).collect()
}

/// Who holds each open recovery, without its documents: what an engine polls.
pub async fn holders(mut on: impl Read) -> Result<Vec<Holder>> {
    let sql = "SELECT id, owner, epoch, version, workflow_version FROM recoveries WHERE open_key IS NOT NULL ORDER BY num";
    let read = |row: &Row| {
        let row = row.of("recoveries", "id");
        Ok(Holder {
            workflow: row.number("workflow_version")?,
            id: row.id("id")?,
            owner: row.opt_id("owner")?,
            epoch: row.int("epoch")?,
            version: row.int("version")?,
        })
    };
    legible(&all(&mut on, sql, vec![]).await?, read)
}

/// Whether any does something now or is about to: it waits for nobody, and for no host to come back.
pub async fn any_at_work(mut on: impl Read) -> Result<bool> {
    let sql = "SELECT 1 AS n FROM recoveries WHERE open_key IS NOT NULL \
               AND state NOT IN ('held', 'needs_operator', 'returning', 'draining', 'out', 'admitted') LIMIT 1";
    Ok(first(&mut on, sql, vec![]).await?.is_some())
}

/// An open recovery and its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub id: RecoveryId,
    pub owner: Option<EngineId>,
    pub epoch: i64,
    pub version: i64,
    /// The workflow version that it was written by.
    pub workflow: u32,
}

/// Recoveries with their numeric ids, newest first unless the page says otherwise.
pub async fn list(mut on: impl Read, filter: &RecoveryFilter, page: &Page) -> Result<Vec<(i64, Recovery)>> {
    let mut by = Filter::default();
    by.and_some("host = ?", filter.host)
        .and_some("segment = ?", filter.segment)
        .and_some("notification = ?", filter.notification)
        .and_some("kind = ?", filter.kind.as_deref())
        .and_some("state = ?", filter.state.as_deref());
    match filter.open {
        Some(true) => by.and("open_key IS NOT NULL", vec![]),
        Some(false) => by.and("open_key IS NULL", vec![]),
        None => &mut by,
    };
    let rows = run_list(&mut on, &TABLE, by, page).await?;
    legible(&rows, |row| Ok((row.of("recoveries", "id").int("num")?, read(row)?)))
}

/// How many of each kind are open; for metrics.
pub async fn count_open(mut on: impl Read) -> Result<Vec<(String, i64)>> {
    let sql =
        "SELECT kind, COUNT(*) AS n FROM recoveries WHERE open_key IS NOT NULL GROUP BY kind ORDER BY kind";
    let read = |row: &Row| {
        let row = row.of("recoveries", "kind");
        Ok((row.string("kind")?, row.int("n")?))
    };
    all(&mut on, sql, vec![]).await?.iter().map(read).collect()
}

/// The recovery's own row: content, version, nonce; zero rows means another engine wrote or claimed it.
pub(crate) async fn replace(tx: &mut Tx, recovery: &Recovery, nonce: Uuid, now: Stamp) -> Result<()> {
    let lost = || Error::Lost(recovery.id);
    let owner = recovery.owner.ok_or_else(lost)?;
    let closed = !recovery.is_open();
    let sql = "UPDATE recoveries SET state = ?, body = ?, hooks = ?, reason = ?, closed_at = ?, \
               open_key = CASE WHEN ? = 1 THEN NULL ELSE open_key END, nonce = ?, version = version + 1, updated_at = ? \
               WHERE id = ? AND version = ? AND epoch = ? AND owner = ?";
    let values = args![
        recovery.word().as_str(),
        json(&recovery.body),
        json(&recovery.hooks),
        &recovery.reason,
        if closed { recovery.closed_at.or(Some(now)) } else { None },
        closed,
        nonce,
        now,
        recovery.id,
        recovery.version,
        recovery.epoch,
        owner
    ];
    if tx.exec(sql, values).await? == 1 { Ok(()) } else { Err(lost()) }
}

/// Whether the row's last write carries this nonce.
pub(crate) async fn has_nonce(mut on: impl Read, id: RecoveryId, nonce: Uuid) -> Result<bool> {
    let sql = "SELECT 1 AS n FROM recoveries WHERE id = ? AND nonce = ?";
    Ok(first(&mut on, sql, args![id, nonce]).await?.is_some())
}

pub(crate) fn read(row: &Row) -> Result<Recovery> {
    let row = row.of("recoveries", "id");
    let state: StateWord = row.word("state")?;
    let recovery = Recovery {
        id: row.id("id")?,
        notification: row.id("notification")?,
        segment: row.id("segment")?,
        subject: row.json("subject")?,
        host_name: row.string("host_name")?,
        method: row.word::<RecoveryMethod>("method")?,
        policy: row.json("policy")?,
        body: row.json("body")?,
        hooks: row.json("hooks")?,
        reason: row.string("reason")?,
        workflow_version: row.number("workflow_version")?,
        owner: row.opt_id("owner")?,
        epoch: row.int("epoch")?,
        version: row.int("version")?,
        opened_at: row.stamp("opened_at")?,
        closed_at: row.opt_stamp("closed_at")?,
    };
    if recovery.word() != state {
        return Err(row.corrupt("state", format!("'{state}' is not the document's '{}'", recovery.word())));
    }
    Ok(recovery)
}

/// The statuses of a report that is not settled.
pub const UNSETTLED: [NotificationStatus; 3] =
    [NotificationStatus::New, NotificationStatus::Running, NotificationStatus::Error];
