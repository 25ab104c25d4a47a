//! Agents that attest a watchdog and act on it, in virtual time: what a machine does to itself when nobody renews its lease.
//!
//! An agent notes its own time just before it sends a beat; a renewal that answers the beat lets it feed the watchdog until L after that
//! time. Unfed for W the watchdog resets the machine, whatever runs on it. A liar counts from the renewal's arrival instead, which is the
//! same while it runs and is not after its process was suspended (SAFETY 2.3 a).

use std::collections::BTreeMap;

use halberd_core::evidence::Network;
use halberd_core::id::{EngineId, HostId};
use halberd_core::policy::Policy;
use halberd_core::sight::{Heard, Watchdog};
use halberd_core::watchdog::{EngineLook, Said};
use halberd_engine::collect::fleet::Fleet;
use halberd_engine::collect::renewals;
use halberd_sim::{Fault, HostState, Power, World};
use uuid::Uuid;

use super::sim::mono;

/// How often each agent looks whether it may feed. Finer than any figure of the inequality.
pub const TICK_MS: u64 = 100;
/// Until an answer has arrived.
const ANSWER_MS: u64 = 10;

/// What the watchdogs of a world are.
#[derive(Clone, Copy, Debug)]
pub struct Watchdogs {
    pub lease_ms: u64,
    pub timeout_ms: u64,
    pub software: bool,
    /// Agents say so in their beats.
    pub attested: bool,
    /// Agents count from a renewal's arrival.
    pub liars: bool,
}

/// One machine's agent and watchdog.
#[derive(Clone, Debug, Default)]
struct Agent {
    boot: Option<Uuid>,
    /// The send time that its lease counts from.
    renewed: Option<u64>,
    /// Since when the device has not been fed; `None`: not armed in this boot.
    fed: Option<u64>,
    /// Renewals under way or unread: when each arrives, and the send time that it answers.
    answers: Vec<(u64, u64)>,
    suspended_until: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Watched {
    agents: BTreeMap<String, Agent>,
    /// What engines have stored of hearing hosts.
    pub said: BTreeMap<(HostId, EngineId), Said>,
    /// Machines that reset themselves, and when.
    pub resets: Vec<(u64, String)>,
}

impl Watched {
    pub fn suspend(&mut self, host: &str, until: u64) {
        self.agents.entry(host.to_owned()).or_default().suspended_until = until;
    }

    pub fn is_suspended(&self, host: &str, now: u64) -> bool {
        self.agents.get(host).is_some_and(|agent| now < agent.suspended_until)
    }

    /// A renewal of the beat sent now is on its way.
    pub fn answer(&mut self, host: &str, now: u64) {
        self.agents.entry(host.to_owned()).or_default().answers.push((now + ANSWER_MS, now));
    }

    /// Every agent feeds or does not, and every watchdog fires that was not fed; those machines are named.
    pub fn tick(&mut self, world: &mut World, now: u64, kind: &Watchdogs) -> Vec<String> {
        let mut fired = Vec::new();
        for name in world.host_names() {
            let view = world.vitals(&name);
            let agent = self.agents.entry(name.clone()).or_default();
            if agent.boot != Some(view.boot_id) || view.power != Power::On || view.state == HostState::Booting
            {
                let suspended_until = agent.suspended_until;
                *agent = Agent { boot: Some(view.boot_id), suspended_until, ..Agent::default() };
                continue;
            }
            let runs = view.state == HostState::Running && view.agent && now >= agent.suspended_until;
            if runs {
                let arrived = agent.answers.iter().filter(|(due, _)| *due <= now);
                let sent = arrived.map(|(_, sent)| if kind.liars { now } else { *sent }).max();
                agent.answers.retain(|(due, _)| *due > now);
                agent.renewed = agent.renewed.max(sent);
                if agent.renewed.is_some_and(|sent| now < sent + kind.lease_ms) {
                    agent.fed = Some(now);
                }
            }
            let starved = agent.fed.is_some_and(|fed| now >= fed + kind.timeout_ms);
            // The kernel's own timer waits for its kernel.
            let dead_timer = kind.software && view.state != HostState::Running;
            if starved && !dead_timer {
                *agent = Agent::default();
                world.inject(now, Fault::HostPowerLoss { host: name.clone(), with_bmc: false });
                world.inject(now, Fault::HostReturn { host: name.clone() });
                self.resets.push((now, name.clone()));
                fired.push(name);
            }
        }
        fired
    }

    /// What one engine stores, and what it reads of the others: the production code's own steps.
    pub fn share(
        &mut self,
        fleet: &mut Fleet,
        own: EngineId,
        engines: &BTreeMap<EngineId, (i64, bool)>,
        policy: &Policy,
        now: u64,
    ) {
        let at = mono(now);
        for turn in renewals::turns(fleet, at) {
            self.said.insert((turn.host, own), turn.said);
            renewals::stored(fleet, &turn, at);
        }
        let others = engines.iter().filter(|(id, _)| **id != own);
        let rows: Vec<EngineLook> = others
            .map(|(id, (counter, stopped))| EngineLook { id: *id, counter: *counter, stopped: *stopped })
            .collect();
        fleet.renewals.engines(&rows, at);
        let hosts: Vec<HostId> = fleet.hosts.keys().copied().collect();
        for host in hosts {
            let said: Vec<(EngineId, Said)> = self
                .said
                .iter()
                .filter(|((of, _), _)| *of == host)
                .map(|((_, id), said)| (*id, *said))
                .collect();
            let lease = Policy::ms(policy.lease_ms);
            fleet.renewals.host(host, &said, (at, at), renewals::silent_after(policy), lease);
            let renewers = fleet.renewals.renewers(host);
            if let Some(known) = fleet.hosts.get_mut(&host) {
                known.sight.renewers = renewers;
            }
        }
    }
}

/// What a beat says of it.
pub fn attestation(kind: Option<&Watchdogs>) -> Watchdog {
    match kind {
        Some(kind) if kind.attested => Watchdog {
            armed: true,
            nowayout: true,
            software: kind.software,
            lease_ms: kind.lease_ms,
            timeout_ms: kind.timeout_ms,
        },
        _ => Watchdog::default(),
    }
}

/// A beat as an engine hears it, answered at once.
pub fn heard(
    network: Network,
    boot: Uuid,
    echoed: bool,
    retired: bool,
    now: u64,
    watchdog: Watchdog,
) -> Heard {
    Heard {
        network,
        boot: halberd_core::id::BootId(boot),
        at: mono(now),
        received: mono(now),
        echoed,
        retired,
        storage_write_age: None,
        watchdog,
    }
}
