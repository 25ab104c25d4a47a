//! Judges that know nothing of the product's code: they read the cloud's own history and the database's rows.

use std::collections::BTreeMap;

use halberd_core::host::Admission;
use halberd_core::notification::NotificationStatus;
use halberd_core::recovery::{Recovery, StateWord, Subject};
use halberd_sim::{DoubleRun, Fault, What};
use uuid::Uuid;

use super::sim::Sim;

/// What was broken, in words, each with the number of the rule it breaks.
pub type Findings = Vec<String>;

/// The rules that hold at every moment of any run.
pub fn safety(sim: &Sim) -> Findings {
    let mut found = Vec::new();
    for double in sim.world.double_runs().iter().filter(|double| ungated(sim, double).is_none()) {
        found.push(format!("I10: guest {} ran on {:?} at {} ms", double.guest, double.hosts, double.at));
    }
    evacuations(sim, &mut found);
    for deed in sim.world.history() {
        if let What::ForcedDown { host, value: true } = &deed.what
            && !proved(sim, host, deed.at)
        {
            found.push(format!("I2: {host} was forced down at {} ms without a proof", deed.at));
        }
        if let What::DoubleEvacuation { guest } = &deed.what {
            found.push(format!("I9: a second evacuation of {guest} at {} ms met the first", deed.at));
        }
    }
    for deed in sim.world.history() {
        if let What::OnOrdered { machine, .. } = &deed.what
            && !sim.setup.policy.power_on_when_drained
            && !sim.onlooker.on_asked.contains(machine)
        {
            found.push(format!("I12: {machine} was switched on at {} ms and nobody had asked", deed.at));
        }
    }
    found.extend(sim.onlooker.found.iter().cloned());
    rate(sim, &mut found);
    // Each guest needs a few commits, each recovery some more; ten times that is a loop that would wear a database out.
    let enough = 400 * (sim.store.recoveries.len() as u64 + 1) + 60 * sim.store.vmoves.len() as u64;
    if sim.commits > enough {
        found.push(format!(
            "a hot loop: {} commits for {} recoveries",
            sim.commits,
            sim.store.recoveries.len()
        ));
    }
    for (row, _) in sim.store.recoveries.values() {
        let tickets = sim.store.events.iter().filter(|(_, event)| {
            event.recovery == Some(row.id)
                && event.kind == halberd_core::event::EventKind::RecoveryNeedsOperator
        });
        let tickets = tickets.count();
        if tickets > 25 {
            found.push(format!("trap 24: {tickets} questions were asked about {}", row.host_name));
        }
    }
    let open = sim.store.recoveries.values().filter(|(row, _)| row.is_open());
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    for (row, _) in open {
        *keys.entry(row.subject.open_key()).or_default() += 1;
    }
    found.extend(
        keys.into_iter()
            .filter(|(_, count)| *count > 1)
            .map(|(key, count)| format!("I4: {count} recoveries are open for {key}")),
    );
    found.extend(super::hooks::judge(sim));
    found
}

/// The hole that is left: a host that people or its own supply started while it was out takes an old rebuild from its nova-compute's queue
/// before anybody can admit it. Only something on the host itself can hold nova-compute back (SAFETY: the start gate).
fn ungated(sim: &Sim, double: &DoubleRun) -> Option<String> {
    if sim.setup.world.gate {
        return None;
    }
    let (host, up) = double.hosts.iter().find_map(|host| {
        let up = sim.onlooker.up_unasked(host, double.at)?;
        Some((host, up))
    })?;
    let sent = sim.world.history().iter().any(|deed| {
        deed.at < up && matches!(&deed.what, What::EvacuateAccepted { guest, .. } if *guest == double.guest)
    });
    sent.then(|| {
        format!("{host}, started unasked at {up} ms while out, ran guest {} out of its queue", double.guest)
    })
}

/// What [`ungated`] saw in a run.
pub fn without_gate(sim: &Sim) -> Vec<String> {
    sim.world.double_runs().iter().filter_map(|double| ungated(sim, double)).collect()
}

/// I19, in its simplest form: orders of an engine's own belief, of hosts that had power, are never more within the time of a token than the
/// bucket holds. Two engines that fence in the same moment do not see each other's order yet, so one bucket each is allowed. Where Off was
/// read, or a watchdog had fired, or an operator had released the brake, nothing is counted.
fn rate(sim: &Sim, found: &mut Findings) {
    let (every, burst) = (sim.setup.policy.fence_every_ms, u64::from(sim.setup.policy.fence_burst));
    if sim.setup.watchdogs.is_some() || sim.setup.faults.lies > 0 || sim.onlooker.released {
        return;
    }
    let mut orders: Vec<u64> = sim.onlooker.orders_of_living.clone();
    orders.sort_unstable();
    let engines = sim.setup.engines as u64;
    for (first, from) in orders.iter().enumerate() {
        let within = orders[first..].iter().take_while(|at| **at < from + every).count() as u64;
        if within > burst * engines {
            found.push(format!("I19: {within} living hosts were ordered off within {every} ms of {from} ms"));
            return;
        }
    }
}

fn proved(sim: &Sim, host: &str, at: u64) -> bool {
    // A host that was deleted since had its proof all the same.
    let known = sim.store.host_named(host).map(|host| host.id).or_else(|| sim.store.gone.get(host).copied());
    let Some(id) = known else { return false };
    sim.store.proofs.iter().any(|(when, of, _)| *of == id && *when <= at)
}

/// I1, I7, I8: each call after its own intent, none without a proof, none while anything holds the guest in memory.
fn evacuations(sim: &Sim, found: &mut Findings) {
    let mut calls: BTreeMap<Uuid, Vec<u64>> = BTreeMap::new();
    for deed in sim.world.history() {
        match &deed.what {
            What::EvacuateAccepted { guest, source, held_by, .. } => {
                calls.entry(*guest).or_default().push(deed.at);
                if !proved(sim, source, deed.at) {
                    found.push(format!(
                        "I1: {guest} was evacuated from {source} at {} ms without a proof",
                        deed.at
                    ));
                }
                if !held_by.is_empty() {
                    found.push(format!(
                        "I1: {guest} was evacuated at {} ms while {held_by:?} held it",
                        deed.at
                    ));
                }
            }
            What::EvacuateRefused { guest, .. } => calls.entry(*guest).or_default().push(deed.at),
            _ => {}
        }
    }
    for (guest, calls) in calls {
        let key = format!("guest:{guest}");
        let mut intents: Vec<u64> = sim
            .store
            .intents
            .values()
            .filter(|row| row.intent.open_key.as_ref() == Some(&key))
            .map(|row| row.at)
            .collect();
        intents.sort_unstable();
        for (number, call) in calls.iter().enumerate() {
            if intents.get(number).is_none_or(|intent| intent > call) {
                found.push(format!(
                    "I7: call {} for {guest} at {call} ms has no intent of its own before it",
                    number + 1
                ));
            }
        }
    }
}

/// L3, L4, I24, I27: when the faults have stopped and time has passed, everything has ended or asks for a person.
pub fn liveness(sim: &Sim) -> Findings {
    let mut found = Vec::new();
    for (row, _) in sim.store.recoveries.values() {
        let word = row.word();
        if row.is_open() && !waits_for_people(sim, row) {
            found.push(format!(
                "L4: the {} recovery of {} is still {word}: {}",
                row.subject.kind(),
                row.host_name,
                row.reason
            ));
        }
        if row.is_open() && row.reason.trim().is_empty() {
            found.push(format!(
                "L3: the {} recovery of {} waits without a reason",
                row.subject.kind(),
                row.host_name
            ));
        }
        if matches!(word, StateWord::Finished | StateWord::Failed) {
            for vmove in sim.store.vmoves_of(row.id).iter().filter(|vmove| !vmove.status.is_terminal()) {
                found.push(format!(
                    "I24: {} has no answer although its recovery is {word}",
                    vmove.instance_name
                ));
            }
            for vmove in sim.store.vmoves_of(row.id) {
                let moved_again = sim.store.vmoves.values().any(|other| {
                    other.recovery != row.id
                        && other.instance == vmove.instance
                        && !other.status.is_terminal()
                });
                if sim.world.is_locked(vmove.instance.0) && !moved_again {
                    found.push(format!("{} is still locked after its recovery", vmove.instance_name));
                }
            }
        }
    }
    for report in sim.store.notifications.values() {
        let heard = report.status != NotificationStatus::New;
        if !heard {
            found.push(format!("I27: report {} was acknowledged and never looked at", report.id));
        }
    }
    for (row, _) in sim.store.recoveries.values().filter(|(row, _)| !row.is_open()) {
        for row in sim
            .store
            .intents
            .values()
            .filter(|intent| intent.intent.recovery == Some(row.id) && intent.resolved.is_none())
        {
            found.push(format!("I13: the intent {} of a closed recovery is open", row.intent.effect));
        }
    }
    for host in sim.store.hosts.values() {
        let touched = sim.store.proofs.iter().any(|(_, id, _)| *id == host.id);
        let fenced_now = host.admission == Admission::Out;
        if fenced_now
            && !touched
            && !sim.store.recoveries.values().any(|(row, _)| row.is_open() && row.subject.host() == host.id)
        {
            found.push(format!("{} is out and nothing is open that would bring it back", host.name));
        }
    }
    found
}

fn waits_for_people(sim: &Sim, row: &Recovery) -> bool {
    match row.word() {
        StateWord::Returning => !comes_back(sim, &row.host_name),
        StateWord::NeedsOperator | StateWord::Held | StateWord::Out | StateWord::Admitted => true,
        // Its controller has lost its supply with the host: a person was asked, and half an hour ends it too.
        StateWord::Draining if row.reason.contains("does not revoke our sessions") => true,
        // It stands still beside a recovery of its host.
        StateWord::Draining => sim.store.recoveries.values().any(|(other, _)| {
            other.is_open()
                && other.subject == (Subject::Host { host: row.subject.host() })
                && waits_for_people(sim, other)
        }),
        _ => false,
    }
}

/// nova-compute has long been well on a host that serves: nobody need bring it back.
fn comes_back(sim: &Sim, host: &str) -> bool {
    const LONG_MS: u64 = 120_000;
    let lives = sim.world.host(host).compute && (!sim.setup.agents || sim.world.host(host).agent);
    let lately =
        sim.world.history().iter().rev().take_while(|deed| deed.at + LONG_MS > sim.now).any(|deed| {
            let text = format!("{:?}", deed.what);
            text.contains(host)
        });
    lives && !lately
}

/// Guests of a host that died and should run elsewhere, but do not.
pub fn unrecovered(sim: &Sim, host: &str, guests: &[Uuid]) -> Vec<Uuid> {
    guests
        .iter()
        .copied()
        .filter(|guest| {
            let at = sim.world.running_on(*guest);
            at.len() != 1 || at[0] == host
        })
        .collect()
}

/// Whether a fault of a kind was injected, for "sometimes" checks.
pub fn injected(sim: &Sim, which: impl Fn(&Fault) -> bool) -> bool {
    sim.world.history().iter().any(|deed| matches!(&deed.what, What::Injected(fault) if which(fault)))
}
