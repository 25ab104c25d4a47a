//! The house rules that no compiler keeps: who may name whom, what stands in the visible root, that the product knows nothing
//! of the machine it was built on, and that alerts ask for what is measured.
//!
//! The table is an architecture, not a style: the API cannot order a fence because it cannot name the fencing package, and a
//! simulated BMC cannot share a mistake with the real client because it cannot share its code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Whom of ours a package may name.
enum May {
    Name(&'static [&'static str]),
    /// Composes the product, or tests it whole.
    NameAll,
}

/// Every package of the workspace. The engine names the types besides the table of the house: decision record 0002.
const HOUSE: &[(&str, May)] = &[
    ("halberd-core", May::Name(&[])),
    ("halberd-types", May::Name(&[])),
    ("halberd-fencing", May::Name(&[])),
    ("halberd-store", May::Name(&["halberd-core"])),
    ("halberd-openstack", May::Name(&["halberd-types"])),
    (
        "halberd-engine",
        May::Name(&[
            "halberd-core",
            "halberd-store",
            "halberd-openstack",
            "halberd-fencing",
            "halberd-types",
        ]),
    ),
    ("halberd-api", May::Name(&["halberd-core", "halberd-store", "halberd-types", "halberd-openstack"])),
    ("halberd-sim", May::Name(&["halberd-core", "halberd-types"])),
    // A model that shared code with the product would agree only with itself.
    ("halberd-model", May::Name(&[])),
    ("halberd-monitors", May::Name(&["halberd-types", "halberd-openstack"])),
    ("halberd", May::NameAll),
    ("halberd-tests", May::NameAll),
];

/// What a visitor sees first, and nothing else (tool files are hidden).
const ROOT: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "api",
    "deploy",
    "engine",
    "fencing",
    "migrations",
    "monitors",
    "tests",
];

/// The simulators that some tests drive lie beside a developer's checkout. Only what runs those tests may know.
const BESIDE: &str = concat!("..", "/shared");
const MAY_LOOK_BESIDE: &[&str] = &["tests/live", "tests/devices", "tests/tests/devices", "tests/run", ".ci/"];

/// Package name to the names of its normal and build dependencies, ours and others'.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Every breach of [`HOUSE`], in words. Dev-dependencies are free: a test may know more than what it tests.
fn breaches(arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    for (package, names) in arrows {
        let Some((_, may)) = HOUSE.iter().find(|(known, _)| known == package) else {
            found.push(format!("{package} has no row in the table of who may name whom"));
            continue;
        };
        let May::Name(allowed) = may else { continue };
        let ours = names.iter().filter(|name| arrows.contains_key(*name));
        found.extend(
            ours.filter(|name| !allowed.contains(&name.as_str()))
                .map(|name| format!("{package} may not name {name}")),
        );
    }
    found
}

/// What stands visibly in the root and should not, and what should and does not.
fn misplaced(files: &[PathBuf]) -> Vec<String> {
    let seen: BTreeSet<String> = files
        .iter()
        .filter_map(|file| file.components().next())
        .map(|first| first.as_os_str().to_string_lossy().into_owned())
        .filter(|first| !first.starts_with('.'))
        .collect();
    let extra = seen
        .iter()
        .filter(|name| !ROOT.contains(&name.as_str()))
        .map(|name| format!("{name} does not belong in the root"));
    let missing = ROOT
        .iter()
        .filter(|name| !seen.contains(**name))
        .map(|name| format!("{name} is missing in the root"));
    extra.chain(missing).collect()
}

fn may_look_beside(file: &Path) -> bool {
    let file = file.to_string_lossy();
    MAY_LOOK_BESIDE.iter().any(|start| file.starts_with(start))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the root").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).current_dir(root()).output();
    let done = done.unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("its output is text")
}

/// Everything that is, or is about to be, under version control.
fn files() -> Vec<PathBuf> {
    let listed = output("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    listed.split_terminator('\0').map(PathBuf::from).filter(|file| root().join(file).exists()).collect()
}

fn arrows() -> Arrows {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let text = output(&cargo, &["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let named = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        dependencies.iter().filter(|dependency| dependency["kind"] != "dev").map(name).collect()
    };
    packages.iter().map(|package| (name(package), named(package))).collect()
}

#[test]
fn nobody_names_whom_he_may_not() {
    let arrows = arrows();
    assert_eq!(arrows.len(), HOUSE.len(), "packages: {:?}", arrows.keys());
    assert_eq!(breaches(&arrows), Vec::<String>::new());
    let engine = &arrows["halberd-engine"];
    assert!(engine.contains("halberd-core"), "the arrows were not read: {engine:?}");
}

/// Guards of the core can be taken away for tests (`halberd_core::guard`). In a product that would be a way to harm.
#[test]
fn guards_are_taken_away_by_tests_alone() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let text = output(&cargo, &["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo writes JSON");
    let mut takers = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().expect("a name");
        let has = |value: &Value, word: &str| value.to_string().contains(word);
        for dependency in package["dependencies"].as_array().expect("a list of dependencies") {
            if dependency["name"] == "halberd-core" && has(&dependency["features"], "mutants") {
                takers.insert(name);
            }
        }
        let by_feature = has(&package["features"], "halberd-core/mutants");
        let by_default = name == "halberd-core" && has(&package["features"]["default"], "mutants");
        assert!(!by_feature && !by_default, "{name} turns on the mutants of halberd-core by a feature");
    }
    assert_eq!(takers, BTreeSet::from(["halberd-tests"]));
}

#[test]
fn the_root_is_as_designed() {
    assert_eq!(misplaced(&files()), Vec::<String>::new());
}

#[test]
fn the_product_knows_nothing_of_its_workshop() {
    let files = files();
    assert!(files.len() > 100, "the files were not listed: {files:?}");
    let speaks = |file: &&PathBuf| {
        let text = std::fs::read(root().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(BESIDE)
    };
    let found: Vec<_> = files.iter().filter(|file| !may_look_beside(file)).filter(speaks).collect();
    assert!(found.is_empty(), "{BESIDE} is mentioned in {found:?}");
}

/// Metric names of ours in alert rules, as they stand in the code.
fn metrics_of(rules: &str) -> BTreeSet<String> {
    let names = rules
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("halberd_"));
    names.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn alerts_ask_only_for_what_is_measured() {
    let names =
        metrics_of(&std::fs::read_to_string(root().join("deploy/alerts.yaml")).expect("the rules are there"));
    assert!(names.len() > 5, "the rules were not read: {names:?}");
    let code: String = files()
        .iter()
        .filter(|file| {
            file.extension().is_some_and(|extension| extension == "rs") && !file.starts_with("tests")
        })
        .map(|file| std::fs::read_to_string(root().join(file)).unwrap_or_default())
        .collect();
    let unknown: Vec<_> = names.iter().filter(|name| !code.contains(&format!("!(\"{name}\""))).collect();
    assert!(unknown.is_empty(), "nobody measures {unknown:?}");
}

#[test]
fn metric_names_are_found_in_rules() {
    let rules = "expr: rate(halberd_a_seconds_bucket[5m]) > max(halberd_b{kind=\"host\"})\n job=\"halberd\"";
    assert_eq!(metrics_of(rules), ["halberd_a_seconds", "halberd_b"].map(str::to_owned).into());
}

/// Builds arrows from `package: names` lines.
fn drawn(lines: &[(&str, &[&str])]) -> Arrows {
    lines
        .iter()
        .map(|(package, names)| {
            ((*package).to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
        })
        .collect()
}

#[test]
fn a_forbidden_arrow_is_found() {
    let drawn = drawn(&[
        ("halberd-core", &["serde"]),
        ("halberd-engine", &["halberd-core", "halberd-fencing", "tokio"]),
        ("halberd-fencing", &[]),
        ("halberd-api", &["halberd-core", "halberd-fencing", "halberd-engine"]),
        ("halberd", &["halberd-api", "halberd-engine"]),
    ]);
    let expected = ["halberd-api may not name halberd-engine", "halberd-api may not name halberd-fencing"];
    assert_eq!(breaches(&drawn), expected);
}

#[test]
fn a_package_without_a_row_is_found() {
    let drawn = drawn(&[("halberd-core", &["halberd-extra"]), ("halberd-extra", &[])]);
    let expected = [
        "halberd-core may not name halberd-extra",
        "halberd-extra has no row in the table of who may name whom",
    ];
    assert_eq!(breaches(&drawn), expected);
}

#[test]
fn a_stray_in_the_root_is_found() {
    let mut files: Vec<PathBuf> = ROOT.iter().map(PathBuf::from).collect();
    files.push(".ci/run".into());
    assert_eq!(misplaced(&files), Vec::<String>::new());
    files.push("notes/today.md".into());
    files.retain(|file| file != Path::new("LICENSE"));
    assert_eq!(misplaced(&files), ["notes does not belong in the root", "LICENSE is missing in the root"]);
}

#[test]
fn only_the_tests_that_drive_simulators_may_look_beside() {
    assert!(
        may_look_beside(Path::new("tests/live/run")) && may_look_beside(Path::new("tests/tests/devices.rs"))
    );
    assert!(!may_look_beside(Path::new("README.md")) && !may_look_beside(Path::new("engine/src/live.rs")));
}
