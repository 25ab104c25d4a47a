//! The IPMI responder before a judge nobody here wrote: ipmitool.

use halberd_sim::shell::{BmcEndpoint, Cloud};
use halberd_sim::{BmcFault, BmcKind, Fault, RestorePolicy, WorldSpec};
use std::process::Output;
use tokio::process::Command;

/// ipmitool, installed where that is allowed; `None` (with a plain message) where it is not.
async fn ipmitool() -> Option<()> {
    let found = || async { Command::new("ipmitool").arg("-V").output().await.is_ok() };
    if found().await {
        return Some(());
    }
    let _ = Command::new("apt-get").args(["install", "-y", "ipmitool"]).output().await;
    if found().await {
        return Some(());
    }
    eprintln!("skipped: ipmitool is not installed and could not be (apt-get install ipmitool, as root)");
    None
}

async fn cloud() -> (Cloud, BmcEndpoint) {
    let spec =
        WorldSpec { bmc_kinds: vec![BmcKind::Ipmi], bmc_off_latency_ms: 50, ..WorldSpec::spread(2, 2) };
    let cloud = Cloud::start(spec).await.unwrap();
    let bmc = cloud.bmc("cmp-01").unwrap().clone();
    (cloud, bmc)
}

/// Two seconds a try and four of them where an answer is due, one short try where none is.
async fn run(bmc: &BmcEndpoint, suite: &str, password: &str, words: &[&str]) -> Output {
    tries(["-N", "2", "-R", "4"], bmc, suite, password, words).await
}

async fn tries(
    patience: [&str; 4],
    bmc: &BmcEndpoint,
    suite: &str,
    password: &str,
    words: &[&str],
) -> Output {
    let port = bmc.address.port().to_string();
    let host = bmc.address.ip().to_string();
    Command::new("ipmitool")
        .args(["-I", "lanplus", "-C", suite])
        .args(patience)
        .args(["-H", &host, "-p", &port, "-U", &bmc.username, "-E"])
        .env("IPMI_PASSWORD", password)
        .args(words)
        .output()
        .await
        .unwrap()
}

async fn well(bmc: &BmcEndpoint, suite: &str, words: &[&str]) -> String {
    let output = run(bmc, suite, &bmc.password, words).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?} with suite {suite}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ipmitool_switches_off_and_on_with_both_suites() {
    if ipmitool().await.is_none() {
        return;
    }
    for suite in ["3", "17"] {
        let (cloud, bmc) = cloud().await;
        assert!(well(&bmc, suite, &["power", "status"]).await.contains("is on"));
        assert!(well(&bmc, suite, &["-L", "OPERATOR", "power", "off"]).await.contains("Down/Off"));
        cloud.until(|world| !world.is_powered("cmp-01")).await;
        assert!(well(&bmc, suite, &["power", "status"]).await.contains("is off"));
        well(&bmc, suite, &["power", "on"]).await;
        cloud.until(|world| world.is_powered("cmp-01")).await;
        // Every session was closed.
        assert!(cloud.world().bmc_sessions("cmp-01").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipmitool_reads_the_guid() {
    if ipmitool().await.is_none() {
        return;
    }
    let (_cloud, bmc) = cloud().await;
    let shown = well(&bmc, "3", &["mc", "guid", "smbios"]).await.to_lowercase();
    assert!(shown.contains(&bmc.uuid.to_string()), "{shown} lacks {}", bmc.uuid);
}

#[tokio::test(flavor = "multi_thread")]
async fn ipmitool_is_told_of_wrong_names_words_suites_and_levels() {
    if ipmitool().await.is_none() {
        return;
    }
    let (cloud, bmc) = cloud().await;
    for suite in ["3", "17"] {
        let wrong = run(&bmc, suite, "no", &["power", "status"]).await;
        assert!(!wrong.status.success());
        let errors = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(errors.contains("HMAC is invalid") || errors.contains("Unable to establish"), "{errors}");
    }
    let stranger = BmcEndpoint { username: "stranger".into(), ..bmc.clone() };
    let refused = run(&stranger, "3", &bmc.password, &["power", "status"]).await;
    assert!(!refused.status.success());
    let zero = run(&bmc, "0", &bmc.password, &["power", "status"]).await;
    assert!(!zero.status.success());
    let user = run(&bmc, "17", &bmc.password, &["-L", "USER", "power", "off"]).await;
    assert!(!user.status.success());
    assert!(cloud.world().is_powered("cmp-01"));
    cloud.inject(Fault::Bmc { host: "cmp-01".into(), fault: BmcFault::WrongPassword });
    assert!(!run(&bmc, "17", &bmc.password, &["power", "status"]).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn ipmitool_shows_and_sets_the_restore_policy() {
    if ipmitool().await.is_none() {
        return;
    }
    let (cloud, bmc) = cloud().await;
    let host = || "cmp-01".to_owned();
    let policy = || cloud.world().host("cmp-01").restore_policy;
    let known = well(&bmc, "17", &["chassis", "policy", "list"]).await;
    for word in ["always-off", "always-on", "previous"] {
        assert!(known.contains(word), "{known}");
    }
    assert!(well(&bmc, "17", &["chassis", "status"]).await.contains("Power Restore Policy : previous"));
    well(&bmc, "17", &["chassis", "policy", "always-on"]).await;
    assert_eq!(policy(), RestorePolicy::AlwaysOn);
    assert!(well(&bmc, "3", &["chassis", "status"]).await.contains("Power Restore Policy : always-on"));
    well(&bmc, "17", &["chassis", "policy", "always-off"]).await;
    assert_eq!(policy(), RestorePolicy::AlwaysOff);
    assert!(well(&bmc, "17", &["chassis", "status"]).await.contains("Power Restore Policy : always-off"));
    let user = run(&bmc, "17", &bmc.password, &["-L", "USER", "chassis", "policy", "always-on"]).await;
    assert!(!user.status.success());
    for fault in [BmcFault::FixedRestorePolicy, BmcFault::NoRestorePolicy] {
        cloud.inject(Fault::Bmc { host: host(), fault });
        let refused = run(&bmc, "17", &bmc.password, &["chassis", "policy", "always-on"]).await;
        assert!(!refused.status.success());
        assert_eq!(policy(), RestorePolicy::AlwaysOff);
    }
    assert!(well(&bmc, "17", &["chassis", "status"]).await.contains("Power Restore Policy : unknown"));
    // A machine that is always on starts when its supply returns, and ipmitool sees it.
    cloud.inject(Fault::Bmc { host: host(), fault: BmcFault::Healed });
    well(&bmc, "17", &["chassis", "policy", "always-on"]).await;
    well(&bmc, "17", &["power", "off"]).await;
    cloud.until(|world| !world.is_powered("cmp-01")).await;
    cloud.inject(Fault::HostPowerLoss { host: host(), with_bmc: true });
    cloud.inject(Fault::SupplyReturn { host: host() });
    assert!(well(&bmc, "17", &["power", "status"]).await.contains("is on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ipmitool_reads_what_the_bmc_is_and_whom_it_lets_in() {
    if ipmitool().await.is_none() {
        return;
    }
    let (cloud, bmc) = cloud().await;
    let fault = |fault| cloud.inject(Fault::Bmc { host: "cmp-01".into(), fault });
    let info = well(&bmc, "17", &["mc", "info"]).await;
    for line in [
        "IPMI Version              : 2.0",
        "Firmware Revision         : 1.00",
        "Device Available          : yes",
    ] {
        assert!(info.contains(line), "{info} lacks {line}");
    }
    let line = |text: &str, key: &str| {
        text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {text}")).to_owned()
    };
    let caps = well(&bmc, "17", &["channel", "authcap", "1", "4"]).await;
    assert!(line(&caps, "Channel supports IPMI v2.0").ends_with("yes"), "{caps}");
    assert!(line(&caps, "Anonymous login enabled").ends_with("no"), "{caps}");
    assert!(line(&caps, "KG status").ends_with("default (all zeroes)"), "{caps}");
    let suites = well(&bmc, "17", &["channel", "getciphers", "ipmi", "1"]).await;
    let listed = |suites: &str| {
        suites.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect::<Vec<u8>>()
    };
    assert_eq!(listed(&suites), [3, 17], "{suites}");
    fault(BmcFault::AnonymousLogin);
    let caps = well(&bmc, "17", &["channel", "authcap", "1", "4"]).await;
    assert!(line(&caps, "Anonymous login enabled").ends_with("yes"), "{caps}");
    fault(BmcFault::SuiteZero);
    assert_eq!(listed(&well(&bmc, "17", &["channel", "getciphers", "ipmi", "1"]).await), [0, 3, 17]);
    fault(BmcFault::Updating);
    assert!(line(&well(&bmc, "17", &["mc", "info"]).await, "Device Available").ends_with("no"));
    fault(BmcFault::Healed);
    fault(BmcFault::ReadOnly);
    assert!(well(&bmc, "17", &["-L", "USER", "power", "status"]).await.contains("is on"));
    assert!(!run(&bmc, "17", &bmc.password, &["-L", "OPERATOR", "power", "off"]).await.status.success());
    assert!(cloud.world().is_powered("cmp-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dark_one_is_silent() {
    if ipmitool().await.is_none() {
        return;
    }
    let (cloud, bmc) = cloud().await;
    cloud.inject(Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: true });
    let dark = tries(["-N", "1", "-R", "1"], &bmc, "3", &bmc.password, &["power", "status"]).await;
    assert!(!dark.status.success());
}
