//! Who renews a host's watchdog lease: what this engine stores before it renews and after it has stopped, and what it reads of the others
//! (SAFETY 2.3; what follows from it is decided in [`halberd_core::watchdog`]).
//!
//! An answer renews only while this engine has stored that it hears the host. Once it does not hear it for two missed beats it renews no
//! more, at once, and stores that too; then it must store that it hears it again before it renews again. So whoever reads the database
//! knows of every renewal that was given before.

use std::time::Duration;

use halberd_core::id::{BootId, EngineId, HostId};
use halberd_core::policy::{Policy, WatchdogProof};
use halberd_core::time::Mono;
use halberd_core::watchdog::{EngineLook, Said};
use halberd_store::sightings::{self, SightingRow};
use halberd_store::{engines, write};

use super::fleet::{Fleet, Known};
use crate::clock;
use crate::shared::Shared;

/// Words of a sighting that say: not heard, not renewed. An agent that is lost is as silent as its host.
const SILENT: &[&str] = &["silent", "agent_lost"];
/// Words that say: heard, and renewed.
const HEARS: &str = "alive";
/// Rows of one transaction: at the start of an engine every host turns.
const BATCH: usize = 500;

/// A host whose stored sight is not what this engine sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub host: HostId,
    pub boot: Option<BootId>,
    pub said: Said,
}

/// Silence after which an engine renews no more: long enough that lost datagrams do not write to the database.
pub fn silent_after(policy: &Policy) -> Duration {
    2 * policy.first_missed()
}

/// What has to be stored. A host that is not heard is renewed for no more from here on, stored or not.
pub fn turns(fleet: &mut Fleet, now: Mono) -> Vec<Turn> {
    let mut turns = Vec::new();
    for known in fleet.hosts.values_mut().filter(|known| known.sight.agent) {
        let Some(said) = sees(known, now) else { continue };
        if said == Said::Silent {
            known.renews = false;
        }
        if known.stored != Some(said) || (said == Said::Hears && !known.renews) {
            turns.push(Turn { host: known.row.id, boot: known.sight.beats.boot, said });
        }
    }
    turns
}

/// `None`: it has not been listened for long enough to say.
fn sees(known: &Known, now: Mono) -> Option<Said> {
    let beats = &known.sight.beats;
    let silent = now.since(beats.received.unwrap_or(beats.listening_since)) >= silent_after(&known.policy);
    match (silent, beats.received) {
        (true, _) => Some(Said::Silent),
        (false, Some(_)) => Some(Said::Hears),
        (false, None) => None,
    }
}

/// What is in the database now, as this engine has written it.
pub fn stored(fleet: &mut Fleet, turn: &Turn, now: Mono) {
    let Some(known) = fleet.hosts.get_mut(&turn.host) else { return };
    known.stored = Some(turn.said);
    known.renews = turn.said == Said::Hears && sees(known, now) == Some(Said::Hears);
}

/// Stores what has turned.
pub async fn store_turns(shared: &Shared) {
    let all = turns(&mut shared.fleet(), clock::mono());
    for batch in all.chunks(BATCH) {
        let since = clock::stamp();
        let written = write(&shared.db, async |tx| {
            for turn in batch {
                let state = if turn.said == Said::Hears { HEARS } else { SILENT[0] };
                let row = SightingRow {
                    host: turn.host,
                    engine: shared.engine,
                    boot: turn.boot,
                    state: state.to_owned(),
                    since,
                };
                sightings::record(tx, &row).await?;
            }
            Ok(())
        })
        .await;
        if let Err(error) = written {
            tracing::warn!(%error, hosts = batch.len(), "what is heard could not be stored; their leases are not renewed");
            return;
        }
        let mut fleet = shared.fleet();
        let now = clock::mono();
        batch.iter().for_each(|turn| stored(&mut fleet, turn, now));
    }
}

/// Reads what the other engines say of the hosts whose watchdog may prove something.
///
/// # Errors
/// The database cannot be read; what was known grows old and proves nothing.
pub async fn look_at_others(shared: &Shared) -> halberd_store::Result<()> {
    let wanted: Vec<(HostId, Duration)> = {
        let mut fleet = shared.fleet();
        let wanted = fleet.hosts.values().filter(|known| may_matter(known, clock::mono()));
        let wanted: Vec<_> = wanted.map(|known| (known.row.id, silent_after(&known.policy))).collect();
        fleet.renewals.forget(|host| wanted.iter().any(|(id, _)| *id == host));
        wanted
    };
    if wanted.is_empty() {
        return Ok(());
    }
    let began = clock::mono();
    let rows: Vec<EngineLook> = if shared.db.holds_exclusive_lock() {
        Vec::new()
    } else {
        let rows = engines::list(&shared.db).await?.into_iter().filter(|row| row.id != shared.engine);
        rows.map(|row| EngineLook { id: row.id, counter: row.counter, stopped: row.stopped_at.is_some() })
            .collect()
    };
    let mut said: Vec<(HostId, Vec<(EngineId, Said)>)> = Vec::new();
    for (host, _) in &wanted {
        let words = sightings::of_host(&shared.db, *host).await?;
        said.push((*host, words.iter().filter_map(|row| Some((row.engine, word(&row.state)?))).collect()));
    }
    let ended = clock::mono();
    let lease = Policy::ms(shared.policy.lease_ms);
    let mut fleet = shared.fleet();
    fleet.renewals.engines(&rows, ended);
    for ((host, flip), (_, said)) in wanted.iter().zip(&said) {
        fleet.renewals.host(*host, said, (began, ended), *flip, lease);
        let renewers = fleet.renewals.renewers(*host);
        if let Some(known) = fleet.hosts.get_mut(host) {
            known.sight.renewers = renewers;
        }
    }
    Ok(())
}

fn may_matter(known: &Known, now: Mono) -> bool {
    known.sight.has_watchdog
        && known.policy.watchdog_proof != WatchdogProof::Off
        && known.sight.is_silent(&known.policy, now)
}

/// A word of another version says nothing: it may renew.
fn word(state: &str) -> Option<Said> {
    match state {
        HEARS => Some(Said::Hears),
        state if SILENT.contains(&state) => Some(Said::Silent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use halberd_core::evidence::Network;
    use halberd_core::sight::{Heard, Watchdog};
    use uuid::Uuid;

    use super::*;
    use crate::collect::testing::row;

    fn beat(fleet: &mut Fleet, at: u64) {
        let heard = Heard {
            network: Network::Management,
            boot: BootId(Uuid::from_u128(9)),
            at: Mono(at),
            received: Mono(at),
            echoed: true,
            retired: false,
            storage_write_age: None,
            watchdog: Watchdog::default(),
        };
        fleet.hosts.values_mut().for_each(|known| known.sight.hear(&heard));
    }

    fn renews(fleet: &Fleet) -> bool {
        fleet.hosts.values().any(|known| known.renews)
    }

    #[test]
    fn nothing_is_renewed_that_is_not_stored() {
        let mut fleet = Fleet::new(Mono(0));
        fleet.refresh(vec![row()], &BTreeMap::new(), &Policy::default(), &BTreeSet::new(), Mono(0));
        assert_eq!(turns(&mut fleet, Mono(100)), [], "it never had an agent");
        beat(&mut fleet, 1_000);
        let turn = turns(&mut fleet, Mono(1_100));
        assert_eq!(turn.first().map(|turn| turn.said), Some(Said::Hears));
        assert!(!renews(&fleet), "not stored yet");
        stored(&mut fleet, &turn[0], Mono(1_200));
        assert!(renews(&fleet));
        assert_eq!(turns(&mut fleet, Mono(3_900)), [], "two lost beats are no silence yet");
        let turn = turns(&mut fleet, Mono(4_000));
        assert_eq!(turn.first().map(|turn| turn.said), Some(Said::Silent));
        assert!(!renews(&fleet), "at once, before it is stored");
        beat(&mut fleet, 4_100);
        let again = turns(&mut fleet, Mono(4_150));
        assert_eq!(again.first().map(|turn| turn.said), Some(Said::Hears));
        assert!(!renews(&fleet), "heard again, not stored again");
        stored(&mut fleet, &again[0], Mono(9_000));
        assert!(!renews(&fleet), "silent again when the database answered");
    }

    #[test]
    fn a_host_never_heard_is_said_to_be_silent_in_time() {
        let mut fleet = Fleet::new(Mono(0));
        let with_agent = halberd_core::host::Host { ever_agent: true, ..row() };
        fleet.refresh(vec![with_agent], &BTreeMap::new(), &Policy::default(), &BTreeSet::new(), Mono(0));
        let said = |fleet: &mut Fleet, at| turns(fleet, Mono(at)).first().map(|turn| turn.said);
        assert_eq!(said(&mut fleet, 2_999), None, "nothing can be said yet");
        assert_eq!(said(&mut fleet, 3_000), Some(Said::Silent));
    }

    #[test]
    fn an_unknown_word_is_no_silence() {
        assert_eq!(word("silent"), Some(Said::Silent));
        assert_eq!(word("agent_lost"), Some(Said::Silent));
        assert_eq!(word("alive"), Some(Said::Hears));
        assert_eq!(word("partial"), None);
    }
}
