//! Which side's word counts: a three-way comparison of what the source says, what stands here, and what an import wrote here last.
//!
//! The last is a fingerprint in `settings`. So a change made here is seen whoever made it, what engines write of a host is none, and no clock
//! decides.

use halberd_core::time::Stamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::rows::{HostRow, SegmentRow};
use crate::error::Result;
use crate::settings;
use crate::transaction::{Tx, first};
use crate::value::args;

/// What a row is here, for the three-way comparison.
pub(super) struct Ours {
    print: String,
    version: i64,
}

/// What is to be done with a row of the source.
pub(super) enum Verdict {
    New,
    Same,
    TakeTheirs { version: i64 },
    KeepOurs,
    Leave(&'static str),
}

const BOTH_CHANGED: &str =
    "it was changed here as well as in the source since the last import; ours stands: change it here by hand";
const NOT_OURS: &str = "a row with its uuid exists here that no import made; ours stands";

impl SegmentRow {
    /// What v1 shows and lets change. Ours is printed the same way.
    pub(super) fn print(&self) -> String {
        segment_print(
            &self.name,
            self.description.as_deref(),
            &self.service_type,
            self.method.as_str(),
            self.enabled,
            self.common.deleted,
        )
    }
}

impl HostRow {
    pub(super) fn print(&self) -> String {
        host_print(
            &self.segment.to_string(),
            &self.name,
            &self.kind,
            &self.control_attributes,
            [self.reserved, self.on_maintenance, self.common.deleted],
        )
    }
}

fn segment_print(
    name: &str,
    description: Option<&str>,
    service_type: &str,
    method: &str,
    enabled: bool,
    deleted: bool,
) -> String {
    digest(&json!([name, description, service_type, method, enabled, deleted]))
}

fn host_print(segment: &str, name: &str, kind: &str, attributes: &str, flags: [bool; 3]) -> String {
    digest(&json!([segment, name, kind, attributes, flags]))
}

fn digest(content: &serde_json::Value) -> String {
    Sha256::digest(content.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn ours_segment(tx: &mut Tx, id: Uuid) -> Result<Option<Ours>> {
    let Some(row) = first(&mut &mut *tx, "SELECT * FROM segments WHERE id = ?", args![id]).await? else {
        return Ok(None);
    };
    let row = row.of("segments", "id");
    let print = segment_print(
        row.text("name")?,
        row.opt_text("description")?,
        row.text("service_type")?,
        row.text("recovery_method")?,
        row.flag("enabled")?,
        row.flag("deleted")?,
    );
    Ok(Some(Ours { print, version: 0 }))
}

pub(super) async fn ours_host(tx: &mut Tx, id: Uuid) -> Result<Option<Ours>> {
    let Some(row) = first(&mut &mut *tx, "SELECT * FROM hosts WHERE id = ?", args![id]).await? else {
        return Ok(None);
    };
    let row = row.of("hosts", "id");
    let flags = [row.flag("reserved")?, row.flag("maintenance_operator")?, row.flag("deleted")?];
    let print = host_print(
        row.text("segment")?,
        row.text("name")?,
        row.text("kind")?,
        row.text("control_attributes")?,
        flags,
    );
    Ok(Some(Ours { print, version: row.int("version")? }))
}

/// The three-way comparison: theirs, ours, and what an import wrote last.
pub(super) async fn verdict(
    tx: &mut Tx,
    what: &str,
    id: Uuid,
    theirs: &str,
    ours: Option<Ours>,
    now: Stamp,
) -> Result<Verdict> {
    let Some(ours) = ours else { return Ok(Verdict::New) };
    let base = settings::get(&mut *tx, &base_name(what, id)).await?.map(|(print, _)| print);
    if ours.print == theirs {
        if base.as_deref().is_some_and(|base| base != theirs) {
            remember(tx, what, id, theirs, now).await?;
        }
        return Ok(Verdict::Same);
    }
    Ok(match base {
        Some(base) if base == ours.print => Verdict::TakeTheirs { version: ours.version },
        Some(base) if base == theirs => Verdict::KeepOurs,
        Some(_) => Verdict::Leave(BOTH_CHANGED),
        None => Verdict::Leave(NOT_OURS),
    })
}

fn base_name(what: &str, id: Uuid) -> String {
    format!("import:{what}:{id}")
}

pub(super) async fn remember(tx: &mut Tx, what: &str, id: Uuid, print: &str, now: Stamp) -> Result<()> {
    settings::set(tx, &base_name(what, id), print, now).await
}
