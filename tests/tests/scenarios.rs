//! Every folder of `tests/scenarios`, run in virtual time on the production core and held against its log.

use std::path::{Path, PathBuf};

use halberd_tests::virt::scenario;

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
