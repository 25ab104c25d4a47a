//! What each seed draws for itself on top of a calm world: rates of loss, lies and database errors, operators' wishes, engines that are
//! stopped at the worst moment. Most rates of most seeds are zero: a mix in which everything goes wrong at once hides what one thing does.

use halberd_core::chance::Chance;
use halberd_sim::{BmcFault, Fault, NovaAnswer, Route};

use super::seeds::{HEAL_AT, between, one_in, pick};
use super::sim::{Cue, Setup};

const DAY_MS: i64 = 86_400_000;

/// Adds one seed's mix.
pub fn add(chance: &mut Chance, setup: &mut Setup, cues: &mut Vec<(u64, Cue)>) {
    // A quarter of the worlds stay calm.
    if one_in(chance, 4) {
        return;
    }
    rates(chance, setup);
    if one_in(chance, 6) {
        setup.engines = 3;
        cues.push((HEAL_AT, Cue::ThawEngine(2)));
        cues.push((HEAL_AT + 1, Cue::StartEngine(2)));
    }
    if one_in(chance, 4) {
        stops(chance, setup, cues);
    }
    if one_in(chance, 3) {
        operators(chance, setup, cues);
    }
    if one_in(chance, 4) {
        guests_and_processes(chance, setup, cues);
    }
    if one_in(chance, 8) {
        let answer = *pick(chance, &[NovaAnswer::AcceptAndForget, NovaAnswer::ConductorStopped]);
        let (at, for_ms) = (between(chance, 20_000, 200_000), Some(between(chance, 1_000, 30_000)));
        cues.push((at, Cue::Fault(Fault::NovaAnswers { route: Some(Route::Evacuate), answer, for_ms })));
    }
    if one_in(chance, 6) {
        no_room(chance, setup, cues);
    }
    if one_in(chance, 8) {
        setup.policy.evacuate_all_instances = false;
    }
    if one_in(chance, 10) {
        cues.push((between(chance, 20_000, 160_000), Cue::Fault(Fault::DestinationDies)));
    }
    if one_in(chance, 4) {
        for _ in 0..between(chance, 1, 4) {
            let by = DAY_MS * (chance.number() % 2_001) as i64 / 1_000 - DAY_MS;
            setup.clock_jumps.push((between(chance, 1_000, 240_000), by));
        }
    }
    if one_in(chance, 6) {
        setup.policy.fence_burst = 1;
        setup.policy.fence_every_ms = between(chance, 20_000, 60_000);
        let at = between(chance, 20_000, 100_000);
        for number in [0, setup.world.hosts - 1] {
            let host = setup.world.host_name(number);
            if untouched(cues, &host) {
                cues.push((at + number as u64 * 300, Cue::Fault(Fault::HostHang { host, for_ms: None })));
            }
        }
    }
    if one_in(chance, 10) {
        liar(chance, setup, cues);
    }
    if one_in(chance, 8) {
        setup.policy.power_on_when_drained = true;
    }
    if one_in(chance, 3) {
        repeat_reports(chance, cues);
    }
}

/// Nothing happens to the host before the world is healed.
fn untouched(cues: &[(u64, Cue)], host: &str) -> bool {
    let named = format!("\"{host}\"");
    !cues.iter().any(|(at, cue)| *at < HEAL_AT && format!("{cue:?}").contains(&named))
}

/// A host that nothing is wrong with, a BMC that reads Off of it all the same, and somebody who reports it.
fn liar(chance: &mut Chance, setup: &Setup, cues: &mut Vec<(u64, Cue)>) {
    let host = setup.world.host_name(between(chance, 0, setup.world.hosts as u64) as usize);
    if !setup.agents || !untouched(cues, &host) {
        return;
    }
    let at = between(chance, 20_000, 200_000);
    cues.push((at, Cue::Fault(Fault::Bmc { host: host.clone(), fault: BmcFault::LieOff })));
    cues.push((at + between(chance, 0, 3_000), Cue::Report(host)));
}

/// Nowhere to go: every spawn fails for a time, or the scheduler finds no host.
fn no_room(chance: &mut Chance, setup: &Setup, cues: &mut Vec<(u64, Cue)>) {
    let at = between(chance, 20_000, 100_000);
    if one_in(chance, 3) {
        let for_ms = Some(between(chance, 30_000, 120_000));
        cues.push((at, Cue::Fault(Fault::PlacementDown { for_ms })));
        return;
    }
    for number in 0..setup.world.hosts {
        let (host, times) = (setup.world.host_name(number), between(chance, 5, 30) as u32);
        cues.push((at, Cue::Fault(Fault::SpawnFails { host, times })));
    }
}

/// Loss 0-30 %, database errors 0-10 %, ambiguous commits 0-20 %, lies 0-5 %: each drawn, or zero.
fn rates(chance: &mut Chance, setup: &mut Setup) {
    let drawn =
        |chance: &mut Chance, most: u64| if one_in(chance, 3) { between(chance, 0, most + 1) } else { 0 };
    let faults = &mut setup.faults;
    faults.loss = drawn(chance, 300);
    faults.unavailable = faults.unavailable.max(drawn(chance, 100));
    faults.ambiguous = faults.ambiguous.max(drawn(chance, 200));
    faults.lies = drawn(chance, 50);
}

/// Engines stopped for up to a minute right between their last check and the first byte; they wake with all they had in memory.
fn stops(chance: &mut Chance, setup: &Setup, cues: &mut Vec<(u64, Cue)>) {
    for _ in 0..between(chance, 1, 4) {
        let engine = between(chance, 0, setup.engines as u64) as usize;
        let at = between(chance, 20_000, 170_000);
        cues.push((at, Cue::StopAtDeed(engine)));
        cues.push((at + between(chance, 1_000, 60_000), Cue::ThawEngine(engine)));
    }
}

/// People: they confirm what is so and what is not, take hosts out, release, cancel, switch on, disarm, disable, delete.
fn operators(chance: &mut Chance, setup: &Setup, cues: &mut Vec<(u64, Cue)>) {
    let struck: Vec<String> = cues
        .iter()
        .filter_map(|(_, cue)| match cue {
            Cue::Fault(
                Fault::HostPowerLoss { host, .. } | Fault::HostHang { host, .. } | Fault::HostPanic { host },
            ) => Some(host.clone()),
            _ => None,
        })
        .collect();
    let dead: Vec<String> = cues
        .iter()
        .filter_map(|(_, cue)| match cue {
            Cue::Fault(Fault::HostPowerLoss { host, .. }) => Some(host.clone()),
            _ => None,
        })
        .collect();
    for _ in 0..between(chance, 1, 5) {
        let any = setup.world.host_name(between(chance, 0, setup.world.hosts as u64) as usize);
        let host = if struck.is_empty() || one_in(chance, 3) { any } else { pick(chance, &struck).clone() };
        let at = between(chance, 25_000, 230_000);
        let end = (at + between(chance, 2_000, 60_000)).min(HEAL_AT);
        match chance.number() % 10 {
            0 => cues.push((at, Cue::Confirm { host, serial: "not its serial".into() })),
            // Who says so of a host that merely stands still is believed (DESIGN 2.2), so only the truth is said.
            1 | 9 if dead.contains(&host) && !returns(cues, &host) => {
                cues.push((at, Cue::Confirm { host, serial: String::new() }));
            }
            2 => {
                cues.push((at, Cue::Maintenance(host.clone(), true)));
                cues.push((end, Cue::Maintenance(host, false)));
            }
            3 => cues.push((at, Cue::Release(host))),
            4 => cues.push((at, Cue::Cancel(host))),
            5 => cues.push((HEAL_AT + between(chance, 20_000, 90_000), Cue::PowerOn(host))),
            6 => {
                cues.push((at, Cue::Disarm));
                cues.push((end, Cue::Arm));
            }
            7 => {
                cues.push((at, Cue::Segment(false)));
                cues.push((end, Cue::Segment(true)));
            }
            _ => cues.push((at, Cue::Delete(host))),
        }
    }
}

fn returns(cues: &[(u64, Cue)], name: &str) -> bool {
    cues.iter().any(|(_, cue)| matches!(cue, Cue::Fault(Fault::HostReturn { host }) if host == name))
}

fn guests_and_processes(chance: &mut Chance, setup: &mut Setup, cues: &mut Vec<(u64, Cue)>) {
    setup.policy.process_all_instances = true;
    for _ in 0..between(chance, 1, 4) {
        cues.push((between(chance, 20_000, 150_000), Cue::GuestDown(between(chance, 0, 4) as usize)));
    }
    if one_in(chance, 2) {
        let host = setup.world.host_name(between(chance, 0, setup.world.hosts as u64) as usize);
        let at = between(chance, 20_000, 150_000);
        cues.push((at - 5_000, Cue::Fault(Fault::ComputeCrash { host: host.clone() })));
        cues.push((at, Cue::ProcessDown { host: host.clone(), name: "nova-compute".into() }));
        cues.push((at + between(chance, 1_000, 80_000), Cue::Fault(Fault::ComputeStart { host })));
    }
}

/// What is sent until it is accepted arrives twice when its answer is lost. And some reports are wrong.
fn repeat_reports(chance: &mut Chance, cues: &mut Vec<(u64, Cue)>) {
    let share = between(chance, 0, 501);
    let mut again = Vec::new();
    for (at, cue) in cues.iter() {
        let report = matches!(cue, Cue::Report(_) | Cue::GuestDown(_) | Cue::ProcessDown { .. });
        if report && chance.number() % 1_000 < share {
            again.push((at + between(chance, 0, 5_000), cue.clone()));
        }
    }
    if one_in(chance, 2) {
        again.push((between(chance, 15_000, 200_000), Cue::Report("cmp-02".into())));
    }
    cues.extend(again);
}
