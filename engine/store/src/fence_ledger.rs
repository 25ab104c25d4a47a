//! The off orders of the last day, by whichever engine: what the brakes on rate and budget count (SAFETY 2.7, G4 and G7).
//!
//! One row of `settings`, written in the transaction that writes the order's intent, so that no engine's crash forgets a fence and no
//! order goes out uncounted. How old an order is must not hang on anybody's wall clock (I23), and no engine remembers what was before
//! its start. So the ledger has a clock of its own: a number that an engine raises when it has seen it unchanged for [`TICK`] on its
//! monotonic clock, by a conditional update as a lease is claimed. An order carries the number at which it was written; the number now
//! tells how old it is at least. While no engine runs that clock stands still: what was fenced before an outage, or before each start of
//! an engine that crashes in a loop, counts on for as long as it would have.

use std::time::Duration;

use halberd_core::id::HostId;
use halberd_core::time::Stamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::settings;
use crate::transaction::{Read, Tx};
use crate::value::{args, json};

/// The ledger's clock ticks at most this often. Coarse enough that it costs nothing, fine enough that an order is forgotten at most a
/// few minutes late.
pub const TICK: Duration = Duration::from_secs(600);
/// After so many ticks an order is certainly older than a day, and is dropped.
const KEPT: u64 = 86_400 / TICK.as_secs() + 2;
const LEDGER: &str = "fence_ledger";

/// An off order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub intent: Uuid,
    pub host: HostId,
    /// The ledger's clock when it was written.
    pub tick: u64,
    /// Its power was read On before.
    pub read_on: bool,
    /// It rested on its agent's evidence.
    pub agent: bool,
    /// Its end is not known.
    pub open: bool,
}

/// All of them, with the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub tick: u64,
    pub fences: Vec<Fence>,
}

impl Ledger {
    /// How long ago an order was written at least.
    pub fn age_at_least(&self, fence: &Fence) -> Duration {
        // It may have been written just before the tick that followed it.
        let whole = self.tick.saturating_sub(fence.tick).saturating_sub(1);
        TICK * u32::try_from(whole).unwrap_or(u32::MAX)
    }

    fn record(&mut self, new: &[Fence], ended: &[Uuid]) {
        for fence in self.fences.iter_mut().filter(|fence| ended.contains(&fence.intent)) {
            fence.open = false;
        }
        let tick = self.tick;
        self.fences.retain(|fence| tick.saturating_sub(fence.tick) <= KEPT);
        self.fences.extend(new.iter().map(|fence| Fence { tick, ..fence.clone() }));
    }
}

/// The ledger and its version. A site that never fenced has an empty one of version 0.
///
/// # Errors
/// [`Error::Corrupt`] when it cannot be read.
pub async fn read(on: impl Read) -> Result<(Ledger, i64)> {
    let Some((text, version)) = settings::get(on, LEDGER).await? else { return Ok((Ledger::default(), 0)) };
    let ledger = serde_json::from_str(&text).map_err(|error| Error::Corrupt {
        table: "settings",
        row: LEDGER.to_owned(),
        column: "value",
        reason: error.to_string(),
    })?;
    Ok((ledger, version))
}

/// Writes new orders and ends others, in the unit of the commit that does.
pub(crate) async fn record(tx: &mut Tx, new: &[Fence], ended: &[Uuid], now: Stamp) -> Result<()> {
    if new.is_empty() && ended.is_empty() {
        return Ok(());
    }
    let (mut ledger, version) = read(&mut *tx).await?;
    ledger.record(new, ended);
    store(tx, &ledger, version, now).await
}

/// One tick of its clock, if it still is as it was seen. `false`: another engine's came first, or somebody fenced meanwhile.
pub async fn tick(tx: &mut Tx, seen: i64, now: Stamp) -> Result<bool> {
    let (mut ledger, version) = read(&mut *tx).await?;
    if version != seen || version == 0 {
        return Ok(false);
    }
    ledger.tick += 1;
    ledger.record(&[], &[]);
    store(tx, &ledger, version, now).await.map(|()| true)
}

async fn store(tx: &mut Tx, ledger: &Ledger, version: i64, now: Stamp) -> Result<()> {
    if version == 0 {
        return settings::insert(tx, LEDGER, &json(ledger), now).await;
    }
    let sql =
        "UPDATE settings SET value = ?, version = version + 1, updated_at = ? WHERE name = ? AND version = ?";
    match tx.exec(sql, args![json(ledger), now, LEDGER, version]).await? {
        1 => Ok(()),
        // Another engine fences at this moment: the unit is run again.
        _ => Err(Error::Conflict { attempts: 1, source: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(n: u128) -> Fence {
        let host = HostId(Uuid::from_u128(n));
        Fence { intent: Uuid::from_u128(n), host, tick: 0, read_on: true, agent: false, open: true }
    }

    #[test]
    fn an_order_is_at_least_as_old_as_the_clock_says_and_is_kept_for_a_day_of_it() {
        let mut ledger = Ledger { tick: 7, fences: Vec::new() };
        ledger.record(&[fence(1)], &[]);
        assert_eq!(ledger.fences[0].tick, 7);
        for (tick, ticks) in [(7, 0), (8, 0), (9, 1), (151, 143), (153, 145)] {
            ledger.tick = tick;
            assert_eq!(ledger.age_at_least(&ledger.fences[0]), TICK * ticks, "at {tick}");
            ledger.record(&[], &[]);
            assert_eq!(ledger.fences.len(), 1, "at {tick}");
        }
        ledger.tick = 154;
        assert!(ledger.age_at_least(&ledger.fences[0]) > Duration::from_secs(86_400));
        ledger.record(&[], &[]);
        assert_eq!(ledger.fences, []);
    }

    #[test]
    fn an_end_is_that_of_its_own_order() {
        let mut ledger = Ledger::default();
        ledger.record(&[fence(1), fence(2)], &[]);
        ledger.record(&[], &[Uuid::from_u128(2)]);
        assert_eq!(ledger.fences.iter().map(|fence| fence.open).collect::<Vec<_>>(), [true, false]);
    }
}
