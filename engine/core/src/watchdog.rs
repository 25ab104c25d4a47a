//! Time as a proof: a host that feeds its watchdog only while somebody renews its lease is dead once nobody has for long enough
//! (SAFETY 2.3).
//!
//! The host. It sends a beat, noting its own time `t_s` just before; once that beat was acknowledged with a renewal it feeds the watchdog
//! while `now - t_s < L`. Unfed for W the watchdog resets it, K later at most nothing runs there, and D later nothing it had begun to
//! write lands any more. Clocks differ in pace by at most rho each.
//!
//! An engine. Every renewal that it gave was for a beat that it had received before, so `t_s` lies before the receipt of the newest beat
//! that it may have answered, and so does every instant that the host's lease counts from. By its own monotonic clock the host is dead when
//!
//! ```text
//! T_safe >= (L + W)(1 + 2 rho) + K + D + margin     after the receipt of the last beat that any engine may have renewed for
//! ```
//!
//! Any engine: others renew as well, and what they renew this engine does not see. Each stores that it hears a host before it renews for
//! it, and that it does not once it has stopped ([`Fold`]); none renews while its own lease in the database is not fresh. So a look at the
//! database says until when each may have renewed, and nothing about the time after that look: the wait must be over *at the look*. What
//! is renewed later is too late for this boot, it is dead by then.
//!
//! No wall clock takes part, and no time of before this engine listened: who was not there to hear a renewal waits the whole of T_safe.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, Power};
use crate::id::{BootId, EngineId, HostId};
use crate::lease::Observed;
use crate::policy::{Policy, WatchdogProof};
use crate::time::Mono;
use crate::verdict;

/// Bound on the error of each clock's pace, in millionths: 200 (Spanner's conservative figure; crystals are within 100, and what NTP
/// slews a clock by is on top). Twice it stands in the inequality, for the two clocks.
pub const RHO_MILLIONTHS: u64 = 200;

/// A lease shorter than a second is lost to one late timer; one over five minutes renews nothing that anybody could wait for.
const LEASE_MS: std::ops::RangeInclusive<u64> = 1_000..=300_000;
/// Hardware counts whole seconds from 1, and 0 means never. No driver of a server's watchdog takes more than ten minutes on purpose.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

/// What an agent says of the watchdog that would reset its host, in a beat of the boot it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attested {
    pub boot: BootId,
    /// When the beat was sent.
    pub at: Mono,
    pub armed: bool,
    pub nowayout: bool,
    pub software: bool,
    /// L and W, in milliseconds.
    pub lease_ms: u64,
    pub timeout_ms: u64,
    /// It has said other values of L or W earlier in this boot: which of them the device obeys is not known.
    pub changed: bool,
}

impl Attested {
    /// Takes a newer or older statement; the newest of a boot counts, and that it ever changed.
    pub fn fold(known: &mut Option<Attested>, new: Attested) {
        match known {
            Some(old) if old.boot == new.boot => {
                let other = (old.lease_ms, old.timeout_ms) != (new.lease_ms, new.timeout_ms);
                let changed = old.changed || (old.armed && new.armed && other);
                let newest = if new.at >= old.at { new } else { *old };
                *old = Attested { changed, ..newest };
            }
            Some(old) if old.at > new.at => {}
            _ => *known = Some(new),
        }
    }
}

/// What a lease's end was counted from; kept with the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub lease_ms: u64,
    pub timeout_ms: u64,
    pub software: bool,
    /// T_safe.
    pub safe_after_ms: u64,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.software { "software" } else { "hardware" };
        write!(f, "{kind} watchdog, L {} ms, W {} ms", self.lease_ms, self.timeout_ms)
    }
}

/// (L + W)(1 + 2 rho), rounded up: the longest that a host which obeys goes on feeding and waiting, by this engine's clock.
pub fn starved_after_ms(lease_ms: u64, timeout_ms: u64) -> u64 {
    let sum = u128::from(lease_ms) + u128::from(timeout_ms);
    let stretched = (sum * u128::from(1_000_000 + 2 * RHO_MILLIONTHS)).div_ceil(1_000_000);
    u64::try_from(stretched).unwrap_or(u64::MAX)
}

/// T_safe. One millisecond more than the inequality asks, since a receipt is dated by the millisecond that it fell into.
pub fn safe_after_ms(lease_ms: u64, timeout_ms: u64, policy: &Policy) -> u64 {
    starved_after_ms(lease_ms, timeout_ms)
        .saturating_add(policy.watchdog_reset_ms)
        .saturating_add(policy.watchdog_write_ms)
        .saturating_add(policy.watchdog_margin_ms)
        .saturating_add(1)
}

/// Whether the host's watchdog may prove anything at all: allowed, registered, attested for this very boot, and plausible.
///
/// # Errors
/// What is missing, for people.
pub fn terms(evidence: &Evidence, boot: Option<BootId>, policy: &Policy) -> Result<Terms, String> {
    if policy.watchdog_proof == WatchdogProof::Off {
        return Err("its segment does not take a watchdog's lease as a proof (watchdog_proof)".into());
    }
    if !evidence.has_watchdog {
        return Err("no device of type watchdog is registered for it".into());
    }
    let Some(attested) = evidence.beats.attested else {
        return Err("its agent has attested no watchdog to this engine".into());
    };
    if boot.is_none() || Some(attested.boot) != boot || evidence.beats.boot != boot {
        return Err("its watchdog was attested by another boot than the one to be proved off".into());
    }
    if !attested.armed {
        return Err("its watchdog is not armed".into());
    }
    if !attested.nowayout {
        return Err("its watchdog can be disarmed (nowayout is not set)".into());
    }
    if attested.software && policy.watchdog_proof != WatchdogProof::Software {
        return Err(
            "its watchdog is the kernel's own timer (software), and its segment takes hardware alone".into(),
        );
    }
    if !LEASE_MS.contains(&attested.lease_ms) || !TIMEOUT_MS.contains(&attested.timeout_ms) {
        return Err(format!(
            "what its agent attests is not plausible: a lease of {} ms, a watchdog of {} ms",
            attested.lease_ms, attested.timeout_ms
        ));
    }
    if attested.changed {
        return Err("its agent attested other values of its watchdog earlier in this boot".into());
    }
    Ok(Terms {
        lease_ms: attested.lease_ms,
        timeout_ms: attested.timeout_ms,
        software: attested.software,
        safe_after_ms: safe_after_ms(attested.lease_ms, attested.timeout_ms, policy),
    })
}

/// Since when nobody has renewed the lease, as far as this engine can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrenewed {
    pub since: Mono,
    /// Until when that is known.
    pub until: Mono,
}

impl Unrenewed {
    pub fn waited_ms(&self) -> u64 {
        u64::try_from(self.until.since(self.since).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Joins what this engine received with what it knows of the others. `not_before`: a takeover, before which nothing counts.
///
/// # Errors
/// Who may be renewing, for people.
pub fn unrenewed(evidence: &Evidence, not_before: Option<Mono>, now: Mono) -> Result<Unrenewed, String> {
    let beats = &evidence.beats;
    let others = evidence.renewers.as_ref().ok_or("what other engines hear of it has not been read")?;
    let theirs = others.none_since.clone()?;
    let own = beats.received.map_or(beats.listening_since, |at| at.max(beats.listening_since));
    let since = own.max(theirs).max(not_before.unwrap_or(own));
    Ok(Unrenewed { since, until: others.looked_at.min(now) })
}

/// Why a watchdog proves nothing, or nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOver {
    /// It will not prove this boot off, however long one waits.
    #[error("no proof by its watchdog: {0}")]
    Unfit(String),
    /// It may later: at `until`, if nothing happens.
    #[error("its watchdog's lease is not over: {why}")]
    Runs { why: String, until: Option<Mono> },
    /// It should have fired, and something speaks against it.
    #[error("{0}")]
    Contradicted(String),
}

/// A lease that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    pub terms: Terms,
    /// How long nothing can have renewed it.
    pub waited_ms: u64,
    /// When the watchdog has fired at the latest.
    pub fired: Mono,
}

/// Whether the lease of this boot is over. `not_before`: a takeover, before which nothing counts.
///
/// # Errors
/// [`NotOver`].
pub fn over(
    evidence: &Evidence,
    boot: Option<BootId>,
    policy: &Policy,
    not_before: Option<Mono>,
    now: Mono,
) -> Result<Over, NotOver> {
    let terms = terms(evidence, boot, policy).map_err(NotOver::Unfit)?;
    // Never in the place of a device that says the machine runs.
    let fresh = |at: Mono| now.since(at) <= Policy::ms(policy.power_fresh_ms);
    if evidence.power.as_ref().is_some_and(|reading| reading.power == Power::On && fresh(reading.at)) {
        return Err(NotOver::Contradicted(
            "its power reads On: no watchdog's lease counts against that".into(),
        ));
    }
    let unrenewed = unrenewed(evidence, not_before, now).map_err(|why| NotOver::Runs { why, until: None })?;
    let waited_ms = unrenewed.waited_ms();
    if waited_ms < terms.safe_after_ms {
        let why = format!(
            "at {:.1} s of {:.1} s",
            waited_ms as f64 / 1_000.0,
            terms.safe_after_ms as f64 / 1_000.0
        );
        let until = Some(unrenewed.since + Policy::ms(terms.safe_after_ms));
        return Err(NotOver::Runs { why, until });
    }
    let starved = starved_after_ms(terms.lease_ms, terms.timeout_ms);
    let fired = unrenewed.since + Policy::ms(starved.saturating_add(policy.watchdog_reset_ms));
    match verdict::life_after(evidence, policy, fired, now) {
        Some(sight) => Err(NotOver::Contradicted(format!(
            "its watchdog should have reset it, but {}: it is not to be trusted",
            sight.what
        ))),
        None => Ok(Over { terms, waited_ms, fired }),
    }
}

/// What is known of the other engines' renewals for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewers {
    /// When the look that this rests on began. Nothing is known of the time after it.
    pub looked_at: Mono,
    /// No other engine has renewed after this; or who may be doing so.
    pub none_since: Result<Mono, String>,
}

/// What an engine has stored about a host that it heard, or does not hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It hears it, and renews.
    Hears,
    /// It does not, and does not renew until it has stored that it hears it again.
    Silent,
}

/// What one engine knows of the renewals of the others: a fold of looks at the database, on this engine's clock.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    engines: BTreeMap<EngineId, Observed>,
    /// When an engine's row was last seen gone: until then it may have renewed.
    gone: Option<Mono>,
    hosts: BTreeMap<HostId, HostLooks>,
}

#[derive(Clone, Debug, Default)]
struct HostLooks {
    last: Option<Mono>,
    /// Engines that say silent, with when that was first read.
    silent: BTreeMap<EngineId, Mono>,
    now: Option<Renewers>,
}

/// One other engine as its row shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLook {
    pub id: EngineId,
    pub counter: i64,
    pub stopped: bool,
}

impl Fold {
    /// Takes the list of the other engines. `ended`: when it had been read.
    pub fn engines(&mut self, rows: &[EngineLook], ended: Mono) {
        let before = self.engines.len();
        self.engines.retain(|id, _| rows.iter().any(|row| row.id == *id));
        if self.engines.len() < before {
            self.gone = Some(ended);
        }
        for row in rows {
            let owner = (!row.stopped).then_some(row.id);
            self.engines
                .entry(row.id)
                .and_modify(|seen| {
                    seen.observe(owner, 0, row.counter, ended);
                })
                .or_insert_with(|| Observed::new(owner, 0, row.counter, ended));
        }
    }

    /// Takes what the others say of one host. It was read together with the list, between `began` and `ended`. `flip` is the shortest
    /// time in which an engine that says silent can have heard the host, renewed, and said silent again: looks further apart than that
    /// begin anew.
    pub fn host(
        &mut self,
        host: HostId,
        said: &[(EngineId, Said)],
        (began, ended): (Mono, Mono),
        flip: Duration,
        lease: Duration,
    ) {
        let looks = self.hosts.entry(host).or_default();
        if looks.last.is_none_or(|last| ended.since(last) >= flip) {
            looks.silent.clear();
        }
        looks.last = Some(ended);
        looks.silent.retain(|id, _| said.contains(&(*id, Said::Silent)));
        for (id, word) in said {
            if *word == Said::Silent {
                looks.silent.entry(*id).or_insert(ended);
            }
        }
        let mut none_since = Ok(self.gone.unwrap_or(Mono(0)));
        for (id, seen) in &self.engines {
            let until = if seen.lapsed(lease) {
                // Stopped, or its counter stands still: it may have renewed until its own lease was over.
                Some(seen.lapses_at(lease))
            } else {
                looks.silent.get(id).copied()
            };
            let Ok(so_far) = none_since else { break };
            none_since = match until {
                Some(until) => Ok(so_far.max(until)),
                None if said.contains(&(*id, Said::Hears)) => {
                    Err(format!("engine {id} says that it hears it"))
                }
                None => Err(format!("engine {id} has not said whether it hears it")),
            };
        }
        looks.now = Some(Renewers { looked_at: began, none_since });
    }

    /// What is known of a host; nothing of one that was not looked at.
    pub fn renewers(&self, host: HostId) -> Option<Renewers> {
        self.hosts.get(&host)?.now.clone()
    }

    /// No longer looked at.
    pub fn forget(&mut self, keep: impl Fn(HostId) -> bool) {
        self.hosts.retain(|host, _| keep(*host));
    }
}

#[cfg(test)]
mod tests;
