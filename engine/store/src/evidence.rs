//! What was seen of a host, in words: reports that were turned away, and sightings that a decision rested on.

use halberd_core::evidence::Class;
use halberd_core::id::{HostId, NotificationId};
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::error::Result;
use crate::legible::{legible, legible_from};
use crate::transaction::{Read, Tx, all};
use crate::value::{Row, args};

/// `source` of a report that was turned away as a duplicate.
pub const REPEAT: &str = "repeat";

/// One observation to keep.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvidence {
    pub host: HostId,
    /// The report it belongs to; for a repeat the one that stands for it.
    pub notification: Option<NotificationId>,
    /// Who saw it: [`REPEAT`], `agent`, `bmc`, `nova`, ...
    pub source: String,
    pub class: Option<Class>,
    pub text: String,
    /// A repeat's has `type`, `payload`, `generated_at`, `origin`.
    pub detail: Value,
}

/// One observation as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceRow {
    pub num: i64,
    pub at: Stamp,
    pub evidence: NewEvidence,
}

pub async fn insert(tx: &mut Tx, piece: &NewEvidence, now: Stamp) -> Result<()> {
    tx.exec(
        "INSERT INTO evidence (host, notification, at, source, class, text, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        args![
            piece.host,
            piece.notification,
            now,
            &piece.source,
            piece.class.map(Class::as_str),
            &piece.text,
            piece.detail.to_string()
        ],
    )
    .await?;
    Ok(())
}

/// The newest of a host, newest first.
pub async fn list(mut on: impl Read, host: HostId, limit: u32) -> Result<Vec<EvidenceRow>> {
    let sql = "SELECT * FROM evidence WHERE host = ? ORDER BY num DESC LIMIT ?";
    legible(&all(&mut on, sql, args![host, limit]).await?, read)
}

/// What came after `num`, all hosts, oldest first: how an engine learns of repeats. Begin at [`last`].
pub async fn since(mut on: impl Read, num: i64, limit: u32) -> Result<Vec<EvidenceRow>> {
    let sql = "SELECT * FROM evidence WHERE num > ? ORDER BY num LIMIT ?";
    legible_from(&mut on, sql, num, limit, read).await
}

/// The newest row's number; 0 when there is none.
pub async fn last(mut on: impl Read) -> Result<i64> {
    let rows = all(&mut on, "SELECT COALESCE(MAX(num), 0) AS num FROM evidence", vec![]).await?;
    Ok(rows.first().map_or(0, Row::first_int))
}

pub(crate) fn read(row: &Row) -> Result<EvidenceRow> {
    let row = row.of("evidence", "num");
    let class = match row.opt_text("class")? {
        Some(_) => Some(row.word::<Class>("class")?),
        None => None,
    };
    let evidence = NewEvidence {
        host: row.id("host")?,
        notification: row.opt_id("notification")?,
        source: row.string("source")?,
        class,
        text: row.string("text")?,
        detail: row.json("detail")?,
    };
    Ok(EvidenceRow { num: row.int("num")?, at: row.stamp("at")?, evidence })
}
