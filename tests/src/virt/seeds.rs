//! Random worlds: everything drawn from one seed, faults included, then healed; the checkers judge.

use halberd_core::chance::Chance;
use halberd_core::event::EventKind;
use halberd_core::hook::{HookSpec, OnFailure, Point};
use halberd_core::policy::{Policy, Profile, WatchdogProof};
use halberd_core::segment::RecoveryMethod;
use halberd_sim::{BmcFault, BmcKind, Fault, Network, NovaAnswer, Route, WorldSpec};

use super::checker::{self, Findings};
use super::hooks::{Configured, How};
use super::sim::{Cue, Faults, Setup, Sim};
use super::watchdog::Watchdogs;

/// What a seed's run showed.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub findings: Findings,
    pub evacuations: usize,
    /// Interesting states that it passed through ([`super::sometimes`]).
    pub seen: std::collections::BTreeSet<&'static str>,
    /// Guests that ran twice for want of a start gate ([`checker::without_gate`]).
    pub without_gate: Vec<String>,
    /// Of the whole story, told or not: two runs of a seed agree in it.
    pub fingerprint: u64,
    pub story: String,
}

pub(super) fn pick<'a, T>(chance: &mut Chance, of: &'a [T]) -> &'a T {
    &of[(chance.number() % of.len() as u64) as usize]
}

pub(super) fn one_in(chance: &mut Chance, n: u64) -> bool {
    chance.number().is_multiple_of(n)
}

pub(super) fn between(chance: &mut Chance, low: u64, high: u64) -> u64 {
    low + chance.number() % (high - low)
}

/// When faults stop: everything is healed, and what still waits has to end or to ask.
pub(super) const HEAL_AT: u64 = 240_000;
/// Time after that for L4: the longest pause (a fence attempt a minute), a request's lifetime, a return, twice over.
pub(super) const END: u64 = 640_000;
/// Time for a guest whose host stays silent: a quarter of an hour after the last engine's start, and some for its hooks.
const SILENT_END: u64 = HEAL_AT + 1_000_000;

/// The world and script of a seed: [`calm`]'s, and what its own draw of rates adds (SAFETY 9).
pub fn draw(seed: u64) -> (Setup, Vec<(u64, Cue)>) {
    let (mut setup, mut cues) = calm(seed);
    super::swarm::add(&mut Chance::new(seed ^ 0x5a7e_f1a6), &mut setup, &mut cues);
    (setup, cues)
}

/// A world where hosts are struck, with little else that goes wrong.
pub fn calm(seed: u64) -> (Setup, Vec<(u64, Cue)>) {
    let chance = &mut Chance::new(seed);
    let hosts = between(chance, 4, 9) as usize;
    let guests = between(chance, 4, 30) as usize;
    let mut world = WorldSpec::spread(hosts, guests).seeded(seed);
    world.racks = *pick(chance, &[1, 2, hosts]);
    world.bmc_kinds = pick(
        chance,
        &[
            vec![BmcKind::Redfish, BmcKind::Ipmi],
            vec![BmcKind::Redfish],
            vec![BmcKind::Redfish, BmcKind::None],
        ],
    )
    .clone();
    world.stopped_every = *pick(chance, &[0, 3]);
    // A host that starts its old guests by itself is safe only behind a start gate (I14).
    world.autostart = one_in(chance, 2);
    world.gate = world.autostart;
    world.rebuild_latency_ms = *pick(chance, &[(500, 1_500), (5_000, 20_000)]);
    world.evacuate_api_latency_ms = *pick(chance, &[10, 50, 2_000]);
    world.max_microversion = *pick(chance, &[94, 104]);
    let profile =
        *pick(chance, &[Profile::Balanced, Profile::Balanced, Profile::Fast, Profile::Conservative]);
    let mut policy = Policy::of(profile);
    policy.evacuation_deadline_ms = 120_000;
    let method = *pick(chance, RecoveryMethod::ALL);
    let reserved = if method == RecoveryMethod::Auto { vec![] } else { vec![world.host_name(hosts - 1)] };
    let engines = *pick(chance, &[1, 2, 2]);
    let faults = *pick(chance, &[(0, 0), (30, 60)]);
    let faults = Faults { unavailable: faults.0, ambiguous: faults.1, until: HEAL_AT, ..Faults::default() };
    let agents = !one_in(chance, 4);
    let mut setup = Setup {
        world,
        engines,
        agents,
        policy,
        method,
        reserved,
        racks_known: true,
        faults,
        ..Setup::default()
    };
    watch(&mut Chance::new(seed ^ 0x7a7c_5eed), &mut setup);
    let mut cues = Vec::new();
    for _ in 0..between(chance, 1, 5) {
        strike(chance, &setup, &mut cues);
    }
    nuisances(chance, &setup, &mut cues);
    heal(&setup, &mut cues);
    (setup, cues)
}

/// Hosts with watchdogs, in every third world with agents: each behind a start gate, since a machine that resets itself boots again. Its
/// own dice, so that the other worlds stay as they are.
fn watch(chance: &mut Chance, setup: &mut Setup) {
    if !setup.agents || !one_in(chance, 3) {
        return;
    }
    let (lease_ms, timeout_ms) = match setup.policy.profile {
        Profile::Fast => (3_000, 5_000),
        Profile::Balanced => (5_000, 10_000),
        Profile::Conservative => (10_000, 15_000),
    };
    setup.world.gate = true;
    // One that has nothing else and boots again amid its evacuations stays with a person, and so do its guests: no end to wait for.
    setup.world.bmc_kinds.retain(|kind| *kind != BmcKind::None);
    setup.policy.watchdog_proof =
        if one_in(chance, 6) { WatchdogProof::Off } else { WatchdogProof::Hardware };
    let attested = !one_in(chance, 6);
    setup.watchdogs = Some(Watchdogs { lease_ms, timeout_ms, software: false, attested, liars: false });
}

/// One host is struck.
fn strike(chance: &mut Chance, setup: &Setup, cues: &mut Vec<(u64, Cue)>) {
    let host = setup.world.host_name(between(chance, 0, setup.world.hosts as u64) as usize);
    let at = between(chance, 20_000, 150_000);
    let fault = match chance.number() % 10 {
        0..=3 => Fault::HostPowerLoss { host: host.clone(), with_bmc: one_in(chance, 4) },
        4 | 5 => Fault::HostHang {
            host: host.clone(),
            for_ms: one_in(chance, 2).then(|| between(chance, 3_000, 60_000)),
        },
        6 => Fault::HostPanic { host: host.clone() },
        7 => Fault::NetworkCut {
            host: host.clone(),
            networks: cut(chance),
            for_ms: Some(between(chance, 5_000, 90_000)),
        },
        8 => Fault::AgentCrash { host: host.clone() },
        _ => Fault::ComputeCrash { host: host.clone() },
    };
    let dead = matches!(fault, Fault::HostPowerLoss { .. } | Fault::HostPanic { .. });
    cues.push((at, Cue::Fault(fault)));
    if !setup.agents || one_in(chance, 3) {
        cues.push((at + between(chance, 500, 20_000), Cue::Report(host.clone())));
    }
    if one_in(chance, 3) {
        cues.push((
            at + between(chance, 1_000, 60_000),
            Cue::Fault(Fault::HostReturn { host: host.clone() }),
        ));
    }
    if one_in(chance, 4) {
        // A BMC that says Off while its host stands frozen cannot be told from the truth by anybody: such a lie is only drawn for
        // a host that is dead or beats.
        let lie = if dead { BmcFault::LieOff } else { BmcFault::LieOn };
        let bmc = pick(
            chance,
            &[
                BmcFault::AckNoOff,
                BmcFault::SlowOff(7_000),
                BmcFault::Busy(5),
                BmcFault::WrongPassword,
                BmcFault::DropAnswer,
                BmcFault::ForgetSessions,
                BmcFault::Hang,
                lie,
            ],
        )
        .clone();
        let before = at.saturating_sub(between(chance, 0, 3_000));
        cues.push((before, Cue::Fault(Fault::Bmc { host: host.clone(), fault: bmc })));
    }
    if one_in(chance, 12) {
        cues.push((at + between(chance, 0, 15_000), Cue::Maintenance(host, true)));
    }
}

fn cut(chance: &mut Chance) -> Vec<Network> {
    pick(
        chance,
        &[
            vec![Network::Management],
            vec![Network::Storage],
            vec![Network::Management, Network::Tenant],
            Network::ALL.to_vec(),
        ],
    )
    .clone()
}

/// What goes wrong around it: Nova, Keystone, engines.
fn nuisances(chance: &mut Chance, setup: &Setup, cues: &mut Vec<(u64, Cue)>) {
    let at = |chance: &mut Chance| between(chance, 20_000, 200_000);
    if one_in(chance, 2) {
        let for_ms = Some(between(chance, 1_000, 30_000));
        let (route, answer) = *pick(
            chance,
            &[
                (None, NovaAnswer::Status(503)),
                (None, NovaAnswer::Status(500)),
                (Some(Route::Evacuate), NovaAnswer::Status(503)),
                (Some(Route::Evacuate), NovaAnswer::DoneThenStatus(502)),
                (Some(Route::Evacuate), NovaAnswer::HangAfterDoing),
                (Some(Route::Evacuate), NovaAnswer::HangBeforeDoing),
                (Some(Route::Evacuate), NovaAnswer::ConductorStopped),
                (Some(Route::ServicePut), NovaAnswer::DoneThenStatus(504)),
                (Some(Route::ServerAction), NovaAnswer::DoneThenStatus(502)),
                (Some(Route::Migrations), NovaAnswer::Status(503)),
            ],
        );
        let when = at(chance);
        cues.push((when, Cue::Fault(Fault::NovaAnswers { route, answer, for_ms })));
    }
    if one_in(chance, 6) {
        let when = at(chance);
        cues.push((when, Cue::Fault(Fault::DestinationDies)));
    }
    if one_in(chance, 6) {
        let host = setup.world.host_name(between(chance, 0, setup.world.hosts as u64) as usize);
        let when = at(chance);
        cues.push((when, Cue::Fault(Fault::SpawnFails { host, times: 2 })));
    }
    if one_in(chance, 8) {
        let when = at(chance);
        cues.push((when, Cue::Fault(Fault::PlacementDown { for_ms: Some(10_000) })));
    }
    for _ in 0..between(chance, 0, 3) {
        let engine = between(chance, 0, setup.engines as u64) as usize;
        let when = at(chance);
        let back = when + between(chance, 500, 70_000);
        if one_in(chance, 3) {
            cues.push((when, Cue::FreezeEngine(engine)));
            cues.push((back, Cue::ThawEngine(engine)));
        } else {
            cues.push((when, Cue::KillEngine(engine)));
            cues.push((back, Cue::StartEngine(engine)));
        }
    }
}

/// Everything that can be mended is; dead hosts stay dead, hung ones are left to the engine.
fn heal(setup: &Setup, cues: &mut Vec<(u64, Cue)>) {
    cues.push((HEAL_AT, Cue::Fault(Fault::NovaHealed)));
    cues.push((HEAL_AT, Cue::Fault(Fault::LinksHealed)));
    cues.push((HEAL_AT, Cue::Segment(true)));
    cues.push((HEAL_AT, Cue::Arm));
    for number in 0..setup.world.hosts {
        let host = setup.world.host_name(number);
        cues.push((HEAL_AT, Cue::Fault(Fault::NetworkHealed { host: host.clone() })));
        cues.push((HEAL_AT, Cue::Fault(Fault::Bmc { host, fault: BmcFault::Healed })));
    }
    for engine in 0..setup.engines {
        cues.push((HEAL_AT, Cue::ThawEngine(engine)));
        cues.push((HEAL_AT + 1, Cue::StartEngine(engine)));
    }
}

/// Runs a seed.
pub fn run(seed: u64) -> Shown {
    let (setup, cues) = draw(seed);
    play(setup, cues)
}

/// Runs a world to its end.
pub fn play(setup: Setup, cues: Vec<(u64, Cue)>) -> Shown {
    let mut sim = Sim::new(setup, cues);
    sim.run_until(END);
    // A silent host on maintenance is recovered by nobody: a guest's recovery there gives up late.
    let waits = |row: &halberd_core::recovery::Recovery| row.is_open() && row.subject.kind() == "instance";
    if sim.store.recoveries.values().any(|(row, _)| waits(row)) {
        sim.run_until(SILENT_END);
    }
    judge(&sim)
}

/// What a seed's run with hooks showed of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct HooksShown {
    pub done: bool,
    pub failed: bool,
    pub held: bool,
    pub retried: bool,
    pub skipped_by_release: bool,
    pub abandoned: bool,
    /// Run again because its engine was gone before its end was stored.
    pub repeated: bool,
    pub after_guests: bool,
    /// A process' host went back into scheduling.
    pub well_again: bool,
    /// A guest was given up because its host stayed silent.
    pub given_up: bool,
}

/// The same world with hooks, and with guests and processes that fail. Its own dice, so that the worlds without stay as they are.
pub fn draw_hooked(seed: u64) -> (Setup, Vec<(u64, Cue)>) {
    let (mut setup, mut cues) = calm(seed);
    let chance = &mut Chance::new(seed ^ 0x400c_5eed);
    for number in 0..between(chance, 1, 4) {
        let points = between(chance, 1, 8);
        let at = Point::ALL.iter().enumerate().filter(|(bit, _)| points & (1 << bit) > 0);
        let spec = HookSpec {
            name: format!("hook-{number}"),
            at: at.map(|(_, point)| *point).collect(),
            timeout_s: between(chance, 4, 20),
            attempts: between(chance, 1, 4) as u32,
            on_failure: if one_in(chance, 3) { OnFailure::Hold } else { OnFailure::Continue },
        };
        let kinds = pick(chance, &[vec!["host"], vec!["host", "instance", "process"]]).clone();
        setup.hooks.push(Configured { spec, kinds: kinds.into_iter().map(Into::into).collect() });
    }
    setup.hooks_end = How::Chance;
    setup.policy.process_all_instances = true;
    let host =
        |chance: &mut Chance| setup.world.host_name(between(chance, 0, setup.world.hosts as u64) as usize);
    if one_in(chance, 2) {
        cues.push((between(chance, 20_000, 150_000), Cue::GuestDown(between(chance, 0, 4) as usize)));
    }
    if one_in(chance, 2) {
        let (at, host) = (between(chance, 20_000, 150_000), host(chance));
        if one_in(chance, 2) {
            cues.push((at - 5_000, Cue::Fault(Fault::ComputeCrash { host: host.clone() })));
            let back = at + between(chance, 1_000, 300_000);
            cues.push((back, Cue::Fault(Fault::ComputeStart { host: host.clone() })));
        }
        cues.push((at, Cue::ProcessDown { host, name: "nova-compute".into() }));
    }
    for _ in 0..between(chance, 0, 12) {
        let (at, host, retry) = (between(chance, 40_000, 400_000), host(chance), one_in(chance, 2));
        cues.push((at, Cue::HookWord { host, retry }));
    }
    (setup, cues)
}

/// Runs a seed with hooks.
pub fn run_hooked(seed: u64) -> (Shown, HooksShown) {
    let (setup, cues) = draw_hooked(seed);
    let mut sim = Sim::new(setup, cues);
    sim.run_until(END);
    // A silent host on maintenance is recovered by nobody: a guest's recovery there gives up late.
    let waits = |row: &halberd_core::recovery::Recovery| row.is_open() && row.subject.kind() == "instance";
    if sim.store.recoveries.values().any(|(row, _)| waits(row)) {
        sim.run_until(SILENT_END);
    }
    let noted = |what: &str| sim.store.audit.iter().any(|line| line.entry.what == what);
    let again = sim.store.audit.iter().filter(|line| line.entry.what == "hook_started");
    let mut seen = std::collections::BTreeSet::new();
    let repeated = again.fold(false, |any, line| {
        any | !seen.insert((line.recovery, line.entry.detail["run"].to_string(), line.entry.text.clone()))
    });
    let shown = HooksShown {
        done: noted("hook_done"),
        failed: sim.store.events.iter().any(|(_, event)| event.kind == EventKind::HookFailed),
        held: noted("hook_held"),
        retried: noted("hook_retried"),
        skipped_by_release: noted("hook_released"),
        abandoned: noted("hook_abandoned"),
        repeated,
        after_guests: sim.hooks.ran.iter().any(|ran| ran.at == Point::Post),
        well_again: noted("process_well_again"),
        given_up: sim.store.recoveries.values().any(|(row, _)| row.reason.contains("silent for 15 min")),
    };
    (judge(&sim), shown)
}

/// What the checkers say and what the run showed.
pub fn judge(sim: &Sim) -> Shown {
    let mut findings = checker::safety(sim);
    findings.extend(checker::liveness(sim));
    Shown {
        evacuations: sim.store.audit.iter().filter(|line| line.entry.what == "evacuation_accepted").count(),
        seen: super::sometimes::seen(sim),
        without_gate: checker::without_gate(sim),
        fingerprint: fingerprint(sim),
        story: if findings.is_empty() { String::new() } else { super::scenario::tell(sim) },
        findings,
    }
}

/// A number that two different stories hardly share.
fn fingerprint(sim: &Sim) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    sim.log.hash(&mut hasher);
    for deed in sim.world.history() {
        (deed.at, format!("{:?}", deed.what)).hash(&mut hasher);
    }
    hasher.finish()
}
