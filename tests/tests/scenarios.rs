//! Every folder of `tests/scenarios`, run in virtual time on the production core and held against its log.

use std::path::{Path, PathBuf};

use halberd_sim::{Fault, WorldSpec};
use halberd_tests::virt::sim::{Cue, Setup, Sim};
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
