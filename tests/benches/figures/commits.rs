//! Commits and milliseconds for each recovered guest: `halberd demo --bench --database URL`, whose judgement rests on the simulated cloud.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

pub fn show(binary: &Path, database: &str) {
    let ran = Command::new(binary).args(["demo", "--bench", "--database", database]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let figures: Value = serde_json::from_str(said.trim()).unwrap();
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    let (guests, took) =
        (number("recovered"), figures["seconds"]["proof_to_all_evacuates"].as_f64().unwrap());
    println!(
        "  commits: {} guests of one host ({} build), {:.2} commits and {:.1} ms of commits a guest; proof to the last accepted {took:.2} s, {:.1} ms a guest",
        guests,
        figures["build"].as_str().unwrap(),
        number("commits_per_guest"),
        number("commits_per_guest") * number("ms_per_commit"),
        took * 1_000.0 / guests,
    );
    assert_eq!(figures["good"], true, "{figures}");
    assert_eq!(figures["evacuate_calls"], figures["guests"], "each guest once: {figures}");
    assert_eq!(figures["double_runs"], 0, "{figures}");
    // Guests share commits: a commit for each call and answer of each guest would be six or more.
    assert!(number("commits_per_guest") < 6.0, "{figures}");
}
