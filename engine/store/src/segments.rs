//! Failover segments. Deleted ones stay as rows; their names are free again.

use halberd_core::bus::Action;
use halberd_core::id::SegmentId;
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::bus;
use crate::error::{Error, Result};
use crate::legible::legible;
use crate::list::{Filter, Page, Stored, Table, list as run_list};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

const TABLE: Table = Table {
    what: "segment",
    from: "segments",
    select: "*",
    id: "id",
    created: "created_at",
    columns: &[
        ("id", "num"),
        ("uuid", "id"),
        ("name", "name"),
        ("description", "COALESCE(description, '')"),
        ("service_type", "service_type"),
        ("recovery_method", "recovery_method"),
        ("enabled", "enabled"),
        ("created_at", "created_at"),
        ("updated_at", "COALESCE(updated_at, 0)"),
        ("deleted_at", "COALESCE(deleted_at, 0)"),
        ("deleted", "deleted"),
    ],
};

/// v1's filters; `None` does not filter. Words stand as the caller gave them: an unknown one finds nothing.
#[derive(Clone, Debug, Default)]
pub struct SegmentFilter {
    pub recovery_method: Option<String>,
    pub service_type: Option<String>,
    pub enabled: Option<bool>,
}

/// # Errors
/// [`Error::Exists`] when a segment of that name exists.
pub async fn create(tx: &mut Tx, segment: &Segment, now: Stamp) -> Result<Stored<Segment>> {
    tx.exec(
        "INSERT INTO segments (id, name, description, service_type, recovery_method, enabled, created_at, deleted) \
         VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
        args![
            segment.id,
            &segment.name,
            segment.description.clone(),
            &segment.service_type,
            segment.recovery_method.as_str(),
            segment.enabled,
            now
        ],
    )
    .await
    .map_err(|error| error.or_exists("segment", &segment.name))?;
    let stored = get(&mut *tx, segment.id).await?;
    bus::segment_done(tx, Action::Create, &stored, now).await?;
    Ok(stored)
}

/// A living segment.
pub async fn get(mut on: impl Read, id: SegmentId) -> Result<Stored<Segment>> {
    let row = first(&mut on, "SELECT * FROM segments WHERE id = ? AND deleted = 0", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("segment", id))?)
}

/// Living segments by v1's rules.
pub async fn list(mut on: impl Read, filter: &SegmentFilter, page: &Page) -> Result<Vec<Stored<Segment>>> {
    let mut by = Filter::default();
    by.and("deleted = 0", vec![])
        .and_some("recovery_method = ?", filter.recovery_method.as_deref())
        .and_some("service_type = ?", filter.service_type.as_deref())
        .and_some("enabled = ?", filter.enabled);
    legible(&run_list(&mut on, &TABLE, by, page).await?, read)
}

/// Writes every changeable field.
///
/// # Errors
/// [`Error::Exists`], [`Error::NotFound`]. Whether it is under recovery is asked with [`crate::hosts::check_segment_free`].
pub async fn update(tx: &mut Tx, segment: &Segment, now: Stamp) -> Result<Stored<Segment>> {
    let changed = tx
        .exec(
            "UPDATE segments SET name = ?, description = ?, service_type = ?, recovery_method = ?, enabled = ?, updated_at = ? \
             WHERE id = ? AND deleted = 0",
            args![
                &segment.name,
                segment.description.clone(),
                &segment.service_type,
                segment.recovery_method.as_str(),
                segment.enabled,
                now,
                segment.id
            ],
        )
        .await
        .map_err(|error| error.or_exists("segment", &segment.name))?;
    if changed == 0 {
        return Err(Error::not_found("segment", segment.id));
    }
    let stored = get(&mut *tx, segment.id).await?;
    bus::segment_done(tx, Action::Update, &stored, now).await?;
    Ok(stored)
}

/// Deletes a segment and its hosts, as v1 does.
///
/// # Errors
/// [`Error::NotFound`], [`Error::InUse`] while one of its hosts is under recovery or on its way back from one.
pub async fn delete(tx: &mut Tx, id: SegmentId, now: Stamp) -> Result<()> {
    crate::hosts::check_segment_free(&mut *tx, id).await?;
    crate::hosts::check_segment_in(&mut *tx, id).await?;
    let old = if tx.speaks() { Some(get(&mut *tx, id).await?) } else { None };
    let deleted = tx
        .exec(
            "UPDATE segments SET deleted = num, deleted_at = ? WHERE id = ? AND deleted = 0",
            args![now, id],
        )
        .await?;
    if deleted == 0 {
        return Err(Error::not_found("segment", id));
    }
    tx.exec(
        "UPDATE hosts SET deleted = num, deleted_at = ?, version = version + 1 WHERE segment = ? AND deleted = 0",
        args![now, id],
    )
    .await?;
    match old {
        Some(old) => bus::segment_done(tx, Action::Delete, &old, now).await,
        None => Ok(()),
    }
}

/// What the segment overrides of the policy, as given; an empty object when nothing is.
pub async fn policy(mut on: impl Read, id: SegmentId) -> Result<Value> {
    let row =
        first(&mut on, "SELECT segment, policy FROM segment_policy WHERE segment = ?", args![id]).await?;
    row.map_or_else(
        || Ok(Value::Object(Default::default())),
        |row| row.of("segment_policy", "segment").json("policy"),
    )
}

/// Every segment's overrides, for an engine's settings in memory.
pub async fn policies(mut on: impl Read) -> Result<Vec<(SegmentId, Value)>> {
    let rows = all(&mut on, "SELECT segment, policy FROM segment_policy", vec![]).await?;
    let read = |row: &Row| {
        let row = row.of("segment_policy", "segment");
        Ok((row.id("segment")?, row.json("policy")?))
    };
    legible(&rows, read)
}

/// Replaces what the segment overrides.
pub async fn set_policy(tx: &mut Tx, id: SegmentId, policy: &Value, now: Stamp) -> Result<()> {
    get(&mut *tx, id).await?;
    let text = policy.to_string();
    let changed = tx
        .exec(
            "UPDATE segment_policy SET policy = ?, version = version + 1, updated_at = ? WHERE segment = ?",
            args![&text, now, id],
        )
        .await?;
    if changed == 0 {
        tx.exec(
            "INSERT INTO segment_policy (segment, policy, version, updated_at) VALUES (?, ?, 1, ?)",
            args![id, text, now],
        )
        .await
        .map_err(Error::raced)?;
    }
    Ok(())
}

pub(crate) fn read(row: &Row) -> Result<Stored<Segment>> {
    let row = row.of("segments", "id");
    let segment = Segment {
        id: row.id("id")?,
        name: row.string("name")?,
        description: row.opt_string("description")?,
        service_type: row.string("service_type")?,
        recovery_method: row.word::<RecoveryMethod>("recovery_method")?,
        enabled: row.flag("enabled")?,
    };
    Stored::read(&row, true, segment)
}
