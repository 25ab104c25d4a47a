//! The engine stopped after every recorded step, before and after its effects went out, and resumed by itself and by another.
//!
//! Twice: the production core in virtual time on the model store, at every commit, where the list of points is made by running once and
//! counting; and ([`crash`]) the real engine on sockets and three databases, at every named place, where the list is made of what a run
//! passes and of the effects that the code knows. So neither a new step nor a new effect can be forgotten.

mod crash;

use halberd_sim::{Fault, What, WorldSpec};
use halberd_tests::virt::checker;
use halberd_tests::virt::hooks::{Configured, How};
use halberd_tests::virt::sim::{Cue, Setup, Sim};

const END: u64 = 300_000;

fn setup(engines: usize) -> Setup {
    let mut world = WorldSpec::spread(5, 15);
    world.stopped_every = 4;
    Setup { world, engines, ..Setup::default() }
}

/// The same with hooks at every point, one of which is run twice.
fn hooked(engines: usize) -> Setup {
    let hooks = ["tell at=pre,main,post timeout=10", "break-locks at=main timeout=10 attempts=2"];
    let hooks = hooks.map(|text| Configured::read(text).expect("a hook"));
    Setup { hooks: hooks.to_vec(), ..setup(engines) }
}

fn death() -> Vec<(u64, Cue)> {
    vec![
        (20_000, Cue::Fault(Fault::HostHang { host: "cmp-02".into(), for_ms: None })),
        (150_000, Cue::Fault(Fault::HostReturn { host: "cmp-02".into() })),
    ]
}

/// nova-compute dies on a host that is well, and comes back.
fn crash() -> Vec<(u64, Cue)> {
    let (host, name) = ("cmp-02".to_owned(), "nova-compute".to_owned());
    vec![
        (20_000, Cue::Fault(Fault::ComputeCrash { host: host.clone() })),
        (25_000, Cue::ProcessDown { host: host.clone(), name }),
        (110_000, Cue::Fault(Fault::ComputeStart { host })),
    ]
}

/// Runs with a kill after the `n`-th commit, and says whether there was one.
fn run_on(sim: &mut Sim, n: Option<u64>, before_effects: bool) -> bool {
    let engines = sim.engines.len();
    sim.kill_after_commit = n;
    sim.kill_before_effects = before_effects;
    let mut killed = None;
    for step in 1..=END / 500 {
        sim.run_until(step * 500);
        let dead: Vec<usize> = (0..engines).filter(|engine| !sim.engines[*engine].alive).collect();
        if let (Some(first), None) = (dead.first(), killed) {
            killed = Some(step);
            // By itself after three seconds; with a second engine it stays dead for a minute, so that the other must take over.
            let back = step * 500 + if engines == 1 { 3_000 } else { 60_000 };
            sim.add_cue(back, Cue::StartEngine(*first));
        }
    }
    killed.is_some()
}

/// A process' host taken out of scheduling and back with a kill; the findings, in words.
fn run_process(setup: &Setup, n: Option<u64>, before_effects: bool) -> (u64, Vec<String>) {
    let mut sim = Sim::new(setup.clone(), crash());
    let killed = run_on(&mut sim, n, before_effects);
    let mut findings = checker::safety(&sim);
    findings.extend(checker::liveness(&sim));
    let host = sim.store.host_named("cmp-02").expect("a host");
    if host.maintenance.any() || host.set_by_us.disabled {
        findings.push(format!("{:?}, {:?} are left on the host's row", host.maintenance, host.set_by_us));
    }
    let puts = sim.world.history().iter().filter_map(|deed| match &deed.what {
        What::Disabled { host, value } if host == "cmp-02" => Some(*value),
        _ => None,
    });
    let puts: Vec<bool> = puts.collect();
    if puts.first() != Some(&true) || puts.last() != Some(&false) {
        findings.push(format!("its service was not disabled and enabled, but {puts:?}"));
    }
    if sim.store.recoveries.values().any(|(row, _)| row.is_open()) {
        findings.push("its recovery is open".into());
    }
    if n.is_some() && !killed {
        findings.push("the engine was not killed at all".into());
    }
    (sim.commits, findings)
}

/// A host's recovery with a kill; the findings, in words.
fn run(setup: &Setup, n: Option<u64>, before_effects: bool) -> (u64, Vec<String>) {
    let mut sim = Sim::new(setup.clone(), death());
    sim.hooks.set("break-locks", How::Fails(1_000));
    let guests = sim.world.guests_placed_on("cmp-02");
    let killed = run_on(&mut sim, n, before_effects);
    let mut findings = checker::safety(&sim);
    findings.extend(checker::liveness(&sim));
    let stopped: Vec<_> = guests
        .iter()
        .filter(|guest| {
            sim.store.vmoves.values().any(|vmove| vmove.instance.0 == **guest && vmove.vm_state == "stopped")
        })
        .collect();
    for guest in checker::unrecovered(&sim, "cmp-02", &guests) {
        if !stopped.contains(&&guest) {
            findings.push(format!("guest {guest} does not run elsewhere"));
        }
    }
    for guest in &guests {
        let accepted = sim.world.evacuate_calls(*guest).iter().filter(|(_, accepted)| *accepted).count();
        if accepted != 1 {
            findings.push(format!("guest {guest} was evacuated {accepted} times"));
        }
    }
    if n.is_some() && !killed {
        findings.push("the engine was not killed at all".into());
    }
    (sim.commits, findings)
}

type Run = fn(&Setup, Option<u64>, bool) -> (u64, Vec<String>);

fn sweep(setup: &Setup, run: Run, at_least: u64) {
    let engines = setup.engines;
    let (commits, findings) = run(setup, None, false);
    assert!(findings.is_empty(), "undisturbed: {findings:?}");
    assert!(commits >= at_least, "only {commits} steps: the sweep shows little");
    let mut wrong = Vec::new();
    for point in 1..=commits {
        for before_effects in [true, false] {
            let (_, findings) = run(setup, Some(point), before_effects);
            if !findings.is_empty() {
                let when = if before_effects { "before its effects" } else { "after its effects" };
                wrong.push(format!("killed after commit {point}, {when}: {}", findings.join("; ")));
            }
        }
    }
    println!("{} crash points with {engines} engines", commits * 2);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), commits * 2, wrong.join("\n"));
}

#[test]
fn killed_at_every_step_and_resumed_by_itself() {
    sweep(&setup(1), run, 20);
}

#[test]
fn killed_at_every_step_and_taken_over_by_another() {
    sweep(&setup(2), run, 20);
}

#[test]
fn killed_at_every_step_of_a_recovery_with_hooks() {
    sweep(&hooked(2), run, 20);
}

#[test]
fn killed_at_every_step_of_a_process_way_out_and_back() {
    sweep(&setup(1), run_process, 5);
    sweep(&setup(2), run_process, 5);
    sweep(&hooked(2), run_process, 10);
}
