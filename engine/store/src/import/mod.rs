//! Takes over what a Masakari installation remembers: its segments, hosts, notifications and vmoves (contract 3.10).
//!
//! The source is only ever read, in one snapshot, by a connection that could not write if it wanted to ([`source`]). What is taken becomes
//! history: a report that Masakari had not finished ends here as `failed` with a message that says so, because a recovery begun from an
//! hours-old report would fence a host that may be serving by now. The operator gets these in the report instead.
//!
//! An import may be repeated while both run side by side, until the day of the change. What identifies a row is its uuid. A segment or a
//! host is written again only while ours is as an import left it: the fingerprint of what was written stands in `settings`, so a change
//! made here is seen whoever made it, and no clock decides. Numeric ids are kept, as clients hold them as markers; one that is taken
//! here by another row is replaced by a fresh one, which the report names.
//!
//! Segments and hosts are one transaction, notifications follow in batches with their moves: whatever interrupts an import, the next
//! one goes on from there, and an engine beside it waits for one batch at most.

mod compare;
mod error;
mod history;
mod past;
mod report;
mod rows;
mod schema;
mod source;
mod topology;
mod url;

#[cfg(test)]
mod tests;

use halberd_core::audit::Entry;
use halberd_core::time::Stamp;
use secrecy::SecretString;

pub use error::ImportError;
pub use report::{Left, OnMaintenance, Renumbered, Report, Table, TableReport, Unfinished};

use crate::audit;
use crate::db::Db;
use crate::error::Error;
use crate::transaction::{Tx, write};

/// What is asked of an import.
#[derive(Clone, Debug)]
pub struct Import<'a> {
    /// Where Masakari's database is, in SQLAlchemy's way of writing.
    pub url: &'a SecretString,
    /// Notifications generated before this stay where they are; `None` takes all.
    pub since: Option<Stamp>,
    /// Everything is done and nothing is committed.
    pub dry_run: bool,
}

/// Imports.
///
/// # Errors
/// [`ImportError`]. What earlier batches committed stays; the next run goes on from there.
pub async fn masakari(db: &Db, import: &Import<'_>, now: Stamp) -> Result<Report, ImportError> {
    let place = url::parse(import.url)?;
    let mut source = source::Source::open(&place).await?;
    let read = read_all(db, import, &mut source, now).await;
    let closed = source.close().await;
    let mut report = read?;
    closed?;
    report.source = place.to_string();
    if !import.dry_run {
        let detail = serde_json::to_value(&report).unwrap_or_default();
        let entry =
            Entry::new("masakari_imported", format!("Masakari's history was taken from {place}"), detail);
        let chain = format!("import:{}", uuid::Uuid::new_v4());
        write(db, async |tx| audit::append(tx, &chain, 0, std::slice::from_ref(&entry), now).await).await?;
    }
    Ok(report)
}

async fn read_all(
    db: &Db,
    import: &Import<'_>,
    source: &mut source::Source,
    now: Stamp,
) -> Result<Report, ImportError> {
    let schema = schema::Schema::read(source).await?;
    let mut report =
        Report { revision: schema.revision.clone(), dry_run: import.dry_run, ..Report::default() };
    let topology = topology::Topology::read(source, &schema, &mut report).await?;
    let merged = unit(db, import.dry_run, async |tx| topology.merge(tx, now).await).await?;
    report.add(merged);
    history::take(db, import, source, &schema, &topology, &mut report, now).await?;
    Ok(report)
}

/// One transaction, committed unless this is only a rehearsal.
async fn unit<T>(
    db: &Db,
    dry_run: bool,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T, Error> + Clone,
) -> Result<T, Error> {
    if !dry_run {
        return write(db, work).await;
    }
    let mut tx = Tx::begin(db).await?;
    // Dropped without a commit: nothing of it remains.
    work(&mut tx).await
}
