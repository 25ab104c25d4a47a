//! Who stands by during a run and sees what nobody can tell afterwards: whether a host was well when it was ordered off, how old the last
//! reading of its power was when a guest was sent, which interesting states were passed through. Knows the world's truth and the rows; of
//! the product's code nothing.

use std::collections::{BTreeMap, BTreeSet};

use halberd_core::fence::Means;
use halberd_core::host::Admission;
use halberd_core::recovery::host::{HostState, Purpose};
use halberd_core::recovery::{Body, StateWord, Subject, VmoveStatus};
use halberd_core::runner::Commit;
use halberd_sim::{HostState as Truth, Network, Power, VmState, What};
use uuid::Uuid;

use super::checker::Findings;
use super::sim::Sim;

/// A host that has been well for so long to everybody had no reason to be shot: the longest look back of any verdict is a profile's
/// time of silence, after which a living host has been heard again.
const WELL_MS: u64 = 5_000;
/// A host that read Off so lately was ordered off on conclusive evidence, which no rate holds, true or not.
const READ_LATELY_MS: u64 = 20_000;
/// On top of a reading's allowed age (I3): a commit of five seconds is the slowest that is acted on, and an answer is on its way for some.
const SLOW_MS: u64 = 7_000;

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Onlooker {
    /// Since when each host is wholly well: it runs, its agent (or nova-compute, where it has none) speaks, every engine hears it.
    well_since: BTreeMap<String, u64>,
    /// Off readings of each host by any engine: the newest.
    read_off: BTreeMap<String, u64>,
    /// First and last of each host's unbroken run of Off readings since its last order.
    off_run: BTreeMap<String, (u64, u64)>,
    /// When nova was last told that a host is down.
    marked: BTreeMap<String, u64>,
    /// Last off order that left an engine for each host.
    ordered: BTreeMap<String, u64>,
    /// Hosts that somebody had switched on, or a drill.
    pub on_asked: BTreeSet<String>,
    pub disarmed: bool,
    /// An operator has released a brake.
    pub released: bool,
    /// When hosts that had power were ordered off by an engine's own belief.
    pub orders_of_living: Vec<u64>,
    /// Hosts that a caller reported down.
    pub reported: BTreeSet<String>,
    /// Hosts that came back by themselves or by people's hands while out, from when, and until when they were admitted.
    started: Vec<(String, u64, u64)>,
    pub found: Findings,
    /// Names of interesting states ([`super::sometimes`]).
    pub seen: BTreeSet<&'static str>,
}

impl Onlooker {
    pub fn see(&mut self, what: &'static str) {
        self.seen.insert(what);
    }

    pub fn read(&mut self, host: &str, at: u64, off: bool) {
        if off {
            self.read_off.insert(host.to_owned(), at);
            self.off_run.entry(host.to_owned()).or_insert((at, at)).1 = at;
        } else {
            self.off_run.remove(host);
        }
    }

    /// A question of any engine, which may be answered from before the order: an Off counts, an On ends no run that an order's own
    /// readings make.
    pub fn asked(&mut self, host: &str, at: u64, off: bool) {
        if off {
            self.read(host, at, true);
        }
    }

    /// It has power although it is out, and nobody asked us.
    pub fn started(&mut self, host: &str, at: u64) {
        self.started.push((host.to_owned(), at, u64::MAX));
    }

    /// Since when this host had been up without being admitted.
    pub fn up_unasked(&self, host: &str, at: u64) -> Option<u64> {
        let up = self.started.iter().find(|(name, from, until)| name == host && *from < at && at <= *until);
        up.map(|(_, from, _)| *from)
    }

    pub fn marked(&mut self, host: &str, at: u64) {
        self.marked.insert(host.to_owned(), at);
    }
}

impl Sim {
    /// A look at every host, at each beat.
    pub(super) fn look_on(&mut self) {
        let now = self.now;
        let engines: Vec<String> = self.engines.iter().map(|engine| engine.name.clone()).collect();
        for name in self.world.host_names() {
            let view = self.world.vitals(&name);
            let speaks = if self.setup.agents { view.agent } else { view.compute };
            let well = view.power == Power::On
                && view.state == Truth::Running
                && speaks
                && !self.watched.is_suspended(&name, now)
                && self.setup.faults.loss == 0
                && engines.iter().all(|engine| {
                    Network::ALL.into_iter().all(|network| self.world.reaches(now, &name, engine, network))
                });
            if well {
                self.onlooker.well_since.entry(name).or_insert(now);
            } else {
                self.onlooker.well_since.remove(&name);
            }
        }
    }

    /// What a transaction that was just applied says.
    pub(super) fn look_at_commit(&mut self, commit: &Commit) {
        let now = self.now;
        let policy = &commit.recovery.policy;
        let name = commit.recovery.host_name.clone();
        let offs = commit.intents.iter().filter(|intent| intent.effect == "power_off").count();
        let failure = matches!(&commit.recovery.body, Body::Host(body) if *body.purpose == Purpose::Failure);
        let first = matches!(&commit.recovery.body, Body::Host(body)
            if matches!(&body.state, HostState::Fencing { order } if order.attempt == 1));
        if offs > 0 && failure && first {
            self.first_order(&name);
        }
        let host = commit.recovery.subject.host();
        for (id, patch) in commit.hosts.iter().filter(|(id, _)| *id == host) {
            let by_power =
                matches!(&patch.proof, Some(Some(proof)) if matches!(proof.means(), Means::Power { .. }));
            let read_twice =
                self.onlooker.off_run.get(&name).is_some_and(|(first, last)| last - first >= 1_000);
            if by_power && !read_twice {
                let text =
                    format!("I15: {name} was proved off at {now} ms without two Off readings a second apart");
                self.onlooker.found.push(text);
            }
            let back = matches!(patch.admission, Some(Admission::Admitted | Admission::In));
            let since = self.onlooker.ordered.get(&name).map(|at| now.saturating_sub(*at));
            if back && since.is_some_and(|ms| ms < policy.request_lifetime_ms) {
                let row = self.store.hosts.get(id).map(|row| row.admission);
                let text = format!(
                    "I11: {name} became {row:?} at {now} ms, {} ms after an order that may still be on its way",
                    since.unwrap_or_default()
                );
                self.onlooker.found.push(text);
            }
            if back {
                let left = self.onlooker.started.iter_mut().filter(|(host, ..)| *host == name);
                left.for_each(|(_, _, until)| *until = now.min(*until));
            }
            if back && matches!(commit.recovery.subject, Subject::Return { .. }) {
                self.live_records(&name);
            }
        }
        self.ends(commit);
    }

    /// A host is ordered off by itself, for the first time in its recovery.
    fn first_order(&mut self, name: &str) {
        let now = self.now;
        // What struck it since the last beat counts.
        self.look_on();
        let Some(row) = self.store.host_named(name).cloned() else { return };
        let mut found = Vec::new();
        let read_off = self.onlooker.read_off.get(name).is_some_and(|at| now < at + READ_LATELY_MS);
        if self.world.is_powered(name) && !read_off {
            self.onlooker.orders_of_living.push(now);
        }
        // Of a host without an agent nothing is heard between two of Nova's reports: where its controller says Off and somebody reports it
        // dead, both are believed, and both can be wrong.
        let twice_wrong = read_off && !self.setup.agents && self.onlooker.reported.contains(name);
        if let Some(since) = self.onlooker.well_since.get(name)
            && !twice_wrong
            && now.saturating_sub(*since) > WELL_MS + self.setup.policy.suspect_after_ms
        {
            found.push(format!(
                "I17: {name} was ordered off at {now} ms although it had been well since {since} ms"
            ));
        }
        if row.maintenance.operator {
            found.push(format!("I21: {name} was ordered off at {now} ms on its operator's maintenance"));
        }
        if self.store.segments.get(&row.segment).is_some_and(|segment| !segment.enabled) {
            found.push(format!("I21: {name} was ordered off at {now} ms in a disabled segment"));
        }
        if self.onlooker.disarmed {
            found.push(format!("I22: {name} was ordered off at {now} ms although all was disarmed"));
        }
        self.onlooker.found.extend(found);
    }

    /// I13: nova-compute of a host that is back destroys each guest with a live record of it, wherever that guest is.
    fn live_records(&mut self, name: &str) {
        let placed = self.world.guests_placed_on(name);
        let now = self.now;
        for (guest, source, status) in self.world.evacuation_records() {
            let live = matches!(status, "accepted" | "pre-migrating" | "done");
            if source == name && live && placed.contains(&guest) && !self.onlooker.on_asked.contains(name) {
                self.onlooker.found.push(format!(
                    "I13: {name} came back at {now} ms although {guest} is placed there with a record in {status}"
                ));
            }
        }
    }

    /// I25: who succeeded is as it was before.
    fn ends(&mut self, commit: &Commit) {
        for vmove in commit.vmoves.iter().filter(|vmove| vmove.status == VmoveStatus::Succeeded) {
            let Some(state) = self.world.vm_state_of(vmove.instance.0) else { continue };
            let same = match vmove.vm_state.as_str() {
                "active" => state == VmState::Active,
                "stopped" => state == VmState::Stopped,
                _ => true,
            };
            if vmove.vm_state == "stopped" {
                self.onlooker.see("a stopped guest was moved");
            }
            // Its new host has lost power since: Nova notices later, and what it says now is no sign of how it was moved.
            let struck = vmove
                .dest_host
                .as_ref()
                .is_some_and(|dest| self.lost_power_since_sent(vmove.instance.0, dest));
            if !same && !struck && commit.recovery.word() != StateWord::Cancelled {
                self.onlooker.found.push(format!(
                    "I25: {} was {} and is {state:?} where it was moved",
                    vmove.instance_name, vmove.vm_state
                ));
            }
        }
    }

    fn lost_power_since_sent(&self, guest: Uuid, host: &str) -> bool {
        let mut deeds = self.world.history().iter();
        let sent = deeds
            .position(|deed| matches!(&deed.what, What::EvacuateAccepted { guest: of, .. } if *of == guest));
        sent.is_some() && deeds.any(|deed| matches!(&deed.what, What::PoweredOff { host: of } if of == host))
    }

    /// An off order is about to leave an engine.
    pub(super) fn look_at_order(&mut self, name: &str, owned: bool) {
        let now = self.now;
        self.onlooker.ordered.insert(name.to_owned(), now);
        self.onlooker.off_run.remove(name);
        let admission = self.store.host_named(name).map(|host| host.admission);
        if !owned {
            self.onlooker.see("an order left an engine that had been stepped over");
        }
        if admission == Some(Admission::In) {
            self.onlooker
                .found
                .push(format!("I11: an off order for {name} left at {now} ms although it is in"));
        }
    }

    /// An evacuate call is about to leave an engine.
    pub(super) fn look_at_evacuate(&mut self, source: &str) {
        let now = self.now;
        let Some(proof) = self.store.host_named(source).and_then(|host| host.proof.clone()) else { return };
        if !matches!(proof.means(), Means::Power { .. }) {
            return;
        }
        let read = self.onlooker.read_off.get(source).copied().unwrap_or(0);
        let marked = self.onlooker.marked.get(source).copied().unwrap_or(0);
        if now.saturating_sub(read) > self.setup.policy.power_fresh_ms + SLOW_MS || read < marked {
            let text = format!(
                "I3: a guest of {source} was sent at {now} ms on a reading of {read} ms (marked down at {marked} ms)"
            );
            self.onlooker.found.push(text);
        }
    }
}
