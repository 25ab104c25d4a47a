//! The program itself: what it says of bad input, how it ends, and what it weighs.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use halberd_types::beat::{AgentKey, Beat, KeyFile};
use uuid::Uuid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_halberd-monitor");

fn check(dir: &Path, text: &str) -> Output {
    let file = dir.join("monitor.toml");
    std::fs::write(&file, text).unwrap();
    Command::new(PROGRAM).arg("check-config").arg("--config").arg(file).output().unwrap()
}

fn complaint(dir: &Path, text: &str) -> String {
    let output = check(dir, text);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn key_file(dir: &Path) -> String {
    let key = AgentKey::from_bytes([3; 32]);
    let file = KeyFile { host: Uuid::from_u128(4), hostname: "compute-4".into(), key };
    std::fs::write(dir.join("key"), file.render()).unwrap();
    dir.join("key").display().to_string()
}

#[test]
fn bad_input_is_named_with_the_way_out_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let key = key_file(dir.path());
    assert!(complaint(dir.path(), "[agent]\nkeyfile = 'x'").contains("did you mean `agent.key_file`?"));
    assert!(complaint(dir.path(), "[agent]\nkey_file = '/no/such'").contains("halberd agent key HOST"));
    assert!(complaint(dir.path(), "[agent]\nkey_file = 5").contains("in `agent.key_file`"));
    let other = complaint(dir.path(), &format!("[agent]\nkey_file = '{key}'\nname = 'compute-5'"));
    assert!(other.contains("compute-5") && other.contains("compute-4"), "{other}");
    std::fs::write(&key, "halberd-agent-key-v1 x y SECRETSECRET").unwrap();
    let bad = complaint(dir.path(), &format!("[agent]\nkey_file = '{key}'"));
    assert!(bad.contains("second word") && !bad.contains("SECRET"), "{bad}");
    let missing = Command::new(PROGRAM).args(["--config", "/no/such.toml"]).output().unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot read /no/such.toml"));
}

#[test]
fn a_good_configuration_is_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    let key = key_file(dir.path());
    let list = dir.path().join("list.yaml");
    std::fs::write(&list, "- process_name: no-such-process-here\n").unwrap();
    let text = format!(
        "[agent]\nkey_file = '{key}'\napi_url = 'http://127.0.0.1:1'\n[process]\nlist_path = '{}'\n",
        list.display()
    );
    let output = check(dir.path(), &text);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("host compute-4 (00000000-0000-0000-0000-000000000004)"), "{said}");
    assert!(said.contains("process no-such-process-here: 0 running"), "{said}");
}

#[test]
fn it_beats_with_this_machines_boot_id_stays_small_and_ends_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let key = key_file(dir.path());
    let engine = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    engine.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let list = dir.path().join("list.yaml");
    std::fs::write(&list, "- process_name: init\n").unwrap();
    let text = format!(
        "[agent]\nkey_file = '{key}'\nstate_dir = '{0}/state'\nengines = ['{1}']\nbeat_interval_ms = 10\n\
         api_url = 'http://127.0.0.1:1'\n[[networks]]\nname = 'management'\nbind = '127.0.0.1:0'\n\
         [process]\nlist_path = '{2}'\n[instance]\nsocket = '/no/such'\n",
        dir.path().display(),
        engine.local_addr().unwrap(),
        list.display()
    );
    let file = dir.path().join("monitor.toml");
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(PROGRAM).arg("--config").arg(file).stderr(Stdio::piped()).spawn().unwrap();
    let mut buffer = [0; 300];
    let mut last = None;
    for _ in 0..100 {
        let length = engine.recv(&mut buffer).unwrap();
        last = Some(Beat::open(&buffer[..length], &AgentKey::from_bytes([3; 32])).unwrap());
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(last.unwrap().boot.to_string(), boot.trim());
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // The promise of 15 MiB is a release build's; a debug build's code is larger, its data is not.
    eprintln!("debug build: resident {} KiB, of it data {} KiB", kib("VmRSS:"), kib("RssAnon:"));
    assert!(kib("RssAnon:") < 8 * 1024, "{status}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let log: Vec<String> = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(log.iter().any(|l| l.contains("cannot connect to libvirt at /no/such")), "{log:#?}");
}
