//! Every folder of `tests/scenarios`, run in virtual time on the production core and held against its log.

use std::path::{Path, PathBuf};

use halberd_core::policy::{Policy, WatchdogProof};
use halberd_sim::{BmcKind, Fault, Network, WorldSpec};
use halberd_tests::virt::sim::{Cue, Setup, Sim};
use halberd_tests::virt::watchdog::Watchdogs;
use halberd_tests::virt::{checker, scenario};

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("tests/scenarios")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

#[test]
fn every_scenario_tells_its_story() {
    let bless = std::env::var_os("HALBERD_BLESS").is_some();
    let only = std::env::var("HALBERD_SCENARIO").ok();
    let mut wrong = Vec::new();
    let mut ran = 0;
    for folder in folders() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        ran += 1;
        let scenario = scenario::read(&folder).unwrap_or_else(|why| panic!("{why}"));
        let (log, findings) = scenario::run(&scenario);
        if !findings.is_empty() {
            wrong.push(format!("{name}: {}", findings.join("\n  ")));
        }
        let path = folder.join("log");
        if bless {
            std::fs::write(&path, &log).expect("log");
        } else if std::fs::read_to_string(&path).unwrap_or_default() != log {
            let seen = folder.join("log.seen");
            std::fs::write(&seen, &log).expect("log.seen");
            wrong.push(format!(
                "{name}: another story than {}; it stands in {}",
                path.display(),
                seen.display()
            ));
        }
        let again = scenario::run(&scenario).0;
        assert_eq!(
            again, log,
            "{name} tells another story the second time: something besides the seed decides"
        );
    }
    assert!(ran > 0, "no scenario was run");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// W21: Nova lists a thousand guests a page; every page is read and every guest moves, once.
#[test]
fn a_host_with_more_guests_than_a_page_is_emptied() {
    let mut setup = Setup { world: WorldSpec::loaded(4, 1_200), ..Setup::default() };
    setup.world.rebuild_latency_ms = (100, 100);
    setup.policy.evacuations_in_flight = 200;
    let death = Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false };
    let mut sim = Sim::new(setup, vec![(20_000, Cue::Fault(death))]);
    let guests = sim.world.guests_placed_on("cmp-01");
    assert_eq!(guests.len(), 1_200);
    sim.run_until(300_000);
    assert_eq!(checker::safety(&sim), Vec::<String>::new());
    assert_eq!(checker::unrecovered(&sim, "cmp-01", &guests), Vec::<uuid::Uuid>::new());
    for guest in guests {
        assert_eq!(sim.world.evacuate_calls(guest).len(), 1, "{guest}");
    }
}

/// A host whose agent was suspended just after a beat, and whose network was cut meanwhile; it wakes shortly before its watchdog fires and
/// finds the renewal of that beat.
fn suspended_at_the_worst_moment(liars: bool, margin_ms: u64) -> Sim {
    let mut world = WorldSpec::spread(4, 8);
    (world.bmc_kinds, world.gate, world.rebuild_latency_ms) = (vec![BmcKind::None], true, (100, 100));
    let policy = Policy {
        watchdog_proof: WatchdogProof::Hardware,
        watchdog_margin_ms: margin_ms,
        ..Policy::default()
    };
    let kind = Watchdogs { lease_ms: 5_000, timeout_ms: 10_000, software: false, attested: true, liars };
    let host = || "cmp-01".to_owned();
    let cut = Fault::NetworkCut { host: host(), networks: Network::ALL.to_vec(), for_ms: None };
    let cues = vec![(20_050, Cue::SuspendAgent { host: host(), for_ms: 9_850 }), (20_060, Cue::Fault(cut))];
    let mut sim = Sim::new(Setup { world, policy, watchdogs: Some(kind), ..Setup::default() }, cues);
    sim.run_until(120_000);
    let moved = sim.store.audit.iter().filter(|line| line.entry.what == "evacuation_accepted").count();
    assert_eq!((sim.watched.resets.len(), moved), (1, 2), "{}", scenario::tell(&sim));
    sim
}

/// SAFETY 2.3 a. An agent that counts its lease from a renewal's arrival feeds for up to W longer than it attests. The margin of this
/// profile is smaller than that: such an agent breaks the rule, and the checker sees it. Counting from the send time is what keeps it.
#[test]
fn an_agent_that_counts_from_the_answer_is_caught() {
    let margin = Policy::default().watchdog_margin_ms;
    assert_eq!(checker::safety(&suspended_at_the_worst_moment(false, margin)), Vec::<String>::new());
    let found = checker::safety(&suspended_at_the_worst_moment(true, margin));
    assert!(found.iter().any(|what| what.starts_with("I10")), "{found:?}");
    // W less D: what a segment has to add that does not trust its agents in this.
    assert_eq!(checker::safety(&suspended_at_the_worst_moment(true, 5_000)), Vec::<String>::new());
}
