//! What is remembered: one file per table, bare functions over SQL.
//!
//! Reads take `impl Read`, which is `&db` or `&mut *tx`; writes take `&mut Tx` inside [`write`], so that a transition, its
//! audit record and its event commit together or not at all (I29). No function looks at a clock: the time is an argument, and
//! no stored time decides anything (I23). One corner knows the databases: [`dialect`].
//!
//! ```no_run
//! # use halberd_core::{segment::Segment, time::Stamp};
//! # use halberd_store::{Access, Db, Page, Result, hosts, segments, write};
//! # async fn example(segment: Segment, now: Stamp) -> Result<()> {
//! let db = Db::open("sqlite:halberd.db", Access::Exclusive).await?;
//! let stored = write(&db, async |tx| segments::create(tx, &segment, now).await).await?;
//! let hosts = hosts::list(&db, &hosts::HostFilter::default(), &Page::default()).await?;
//! # Ok(())
//! # }
//! ```

pub mod about;
pub mod agent_keys;
pub mod agent_reports;
pub mod audit;
pub mod backup;
pub mod bus;
pub mod check;
pub mod commit;
pub mod db;
pub mod deliveries;
pub mod dialect;
pub mod durability;
pub mod engines;
pub mod error;
pub mod events;
pub mod evidence;
pub mod fence_devices;
pub mod fence_drills;
pub mod fence_history;
pub mod fence_ledger;
mod group;
pub mod hosts;
pub mod identity;
pub mod import;
pub mod intents;
pub mod legible;
pub mod list;
pub mod migrate;
pub mod notifications;
pub mod orders;
pub mod recoveries;
mod refusal;
mod rekey;
pub mod restore_policies;
pub mod retention;
pub mod rewind;
pub mod seal;
pub mod segments;
mod server;
pub mod services;
pub mod sessions;
pub mod settings;
pub mod sightings;
pub mod size;
mod sqlite;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transaction;
pub mod value;
pub mod vmoves;
mod wire;
pub mod wishes;

pub use db::{Access, Db};
pub use error::{Error, Result};
pub use list::{Direction, Marker, Page, Stored};
pub use seal::Sealer;
pub use transaction::{Read, Tx, write};

#[cfg(test)]
mod tests;
