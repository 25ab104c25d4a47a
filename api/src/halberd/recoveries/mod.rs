//! Recoveries: what is under way, what was done, and why.

pub(crate) mod cancel;
pub(crate) mod explain;
pub(crate) mod list;
pub(crate) mod release;
pub(crate) mod retry;
pub(crate) mod show;
pub(crate) mod story;
pub(crate) mod view;

use std::collections::BTreeMap;

use halberd_core::recovery::Recovery;
use halberd_store::{Db, engines};

use super::problem::Failure;
use view::Engines;

/// Names of the engines by their run.
pub(crate) async fn engine_names(db: &Db) -> Result<Engines, Failure> {
    Ok(engines::list(db).await?.into_iter().map(|row| (row.id, row.name)).collect::<BTreeMap<_, _>>())
}

/// What a closed recovery answers to a wish that only an open one can be granted.
pub(crate) fn must_be_open(recovery: &Recovery) -> Result<(), Failure> {
    if recovery.is_open() {
        return Ok(());
    }
    Err(Failure::conflict(format!(
        "Recovery {} is closed ({}): {}. Nothing of it can be changed any more.",
        recovery.id,
        recovery.word(),
        recovery.reason
    )))
}
