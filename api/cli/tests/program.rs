//! The program as an operator meets it: started, asked, told to end; and the demo with its judgement.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn halberd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halberd"));
    command.env_remove("RUST_LOG").env_remove("HALBERD_CONFIG");
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `halberd serve`; killed when dropped.
struct Serve {
    child: Child,
    url: String,
    log: BufReader<std::process::ChildStderr>,
    seen: String,
}

impl Serve {
    fn start(dir: &Path, port: u16, rest: &str) -> Serve {
        std::fs::write(
            dir.join("halberd.toml"),
            format!("[api]\nauth = \"none\"\nlisten = \"127.0.0.1:{port}\"\n{rest}"),
        )
        .unwrap();
        let mut child = halberd()
            .args(["serve", "--log-format", "json", "--config", "halberd.toml"])
            .current_dir(dir)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serve = Serve { child, url: format!("http://127.0.0.1:{port}"), log, seen: String::new() };
        serve.until("halberd started");
        serve
    }

    /// Reads the log until a line says this; the log's end means never.
    fn until(&mut self, what: &str) {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            let parsed: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            self.seen += &line;
            if parsed["fields"]["message"].as_str().is_some_and(|text| text.contains(what)) {
                return;
            }
            line.clear();
        }
        panic!("the log ends before {what:?}:\n{}", self.seen);
    }

    /// SIGTERM, then its end.
    fn stop(mut self) -> (std::process::ExitStatus, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.until("stopped");
        (self.child.wait().unwrap(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(url: &str) -> (u16, String) {
    let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Runs to its end in a directory.
fn run(dir: &Path, args: &[&str]) -> Output {
    halberd().args(args).current_dir(dir).output().unwrap()
}

fn error_of(output: &Output) -> String {
    assert!(!output.status.success(), "it went well: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn serve_starts_answers_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), free_port(), "");
    let (status, text) = get(&format!("{}/healthcheck", serve.url)).await;
    assert_eq!((status, text.as_str()), (200, "OK"));
    let (status, text) = get(&format!("{}/v1/segments", serve.url)).await;
    assert_eq!(status, 200, "{text}");
    let (status, text) = get(&format!("{}/metrics", serve.url)).await;
    assert_eq!(status, 200);
    for name in [
        "halberd_api_requests_total",
        "halberd_recoveries_open",
        "halberd_outbox_pending",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    use std::os::unix::fs::PermissionsExt;
    let key = std::fs::metadata(dir.path().join("halberd.key")).unwrap();
    assert_eq!((key.len(), key.permissions().mode() & 0o777), (32, 0o600));
    let (status, log) = serve.stop();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("everybody on this machine is an administrator"), "{log}");
    let checked = run(dir.path(), &["db", "check", "--config", "halberd.toml"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let serve = Serve::start(dir.path(), port, "");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let open = |rest: &str| format!("[api]\nauth = \"none\"\nlisten = \"127.0.0.1:0\"\n{rest}");
    write("second.toml", &open(""));
    write(
        "port.toml",
        &format!(
            "[api]\nauth = \"none\"\nlisten = \"127.0.0.1:{port}\"\n[database]\nurl = \"sqlite:other.db\""
        ),
    );
    write("dir.toml", &open("[database]\nurl = \"sqlite:nowhere/halberd.db\""));
    write("pg.toml", &open("[database]\nurl = \"postgres://u:hunter2@h/d\""));
    write(
        "key.toml",
        &open("[database]\nurl = \"sqlite:third.db\"\n[engine]\nsecrets_key_file = \"loose.key\""),
    );
    write("loose.key", "x");
    write(
        "tls.toml",
        &format!(
            "{}[database]\nurl = \"sqlite:fourth.db\"",
            open("tls_cert = \"loose.key\"\ntls_key = \"loose.key\"\n")
        ),
    );
    write("typo.toml", "[polcy]\nprofile = \"fast\"");
    let port_text = port.to_string();
    let table: &[(&str, &[&str])] = &[
        ("second.toml", &["halberd.db", "another engine", "stop that one"]),
        ("port.toml", &[port_text.as_str(), "in use", "another port"]),
        ("dir.toml", &["nowhere/halberd.db", "directory"]),
        ("pg.toml", &["[database]", "connection failed"]),
        ("key.toml", &["secrets_key_file", "loose.key", "chmod 600"]),
        ("tls.toml", &["tls_cert", "loose.key"]),
        ("typo.toml", &["typo.toml", "[polcy]", "[policy]"]),
        ("missing.toml", &["missing.toml", "cannot be read"]),
    ];
    for (file, names) in table {
        let error = error_of(&run(dir.path(), &["serve", "--config", file]));
        for name in *names {
            assert!(error.contains(name), "{file}: {error:?} does not say {name:?}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = error_of(&run(dir.path(), &["config", "check", "typo.toml"]));
    assert!(error.contains("[policy]"), "{error}");
    assert!(run(dir.path(), &["config", "check", "second.toml"]).status.success());
    drop(serve);
}

/// Keystone refuses us: it starts all the same, and says so.
#[tokio::test]
async fn a_wrong_password_does_not_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = halberd_sim::shell::Cloud::start(halberd_sim::WorldSpec::spread(1, 0)).await.unwrap();
    let login = cloud.login("halberd").unwrap();
    let rest = format!(
        "[openstack]\nauth_url = \"{}\"\nusername = \"{}\"\npassword = \"wrong-hunter2\"\nproject_name = \"{}\"\n",
        login.auth_url, login.username, login.project_name
    );
    let dir_path = dir.path().to_owned();
    let port = free_port();
    // The log is read with blocking reads; the simulated Keystone answers from other threads of the runtime.
    let log = tokio::task::spawn_blocking(move || {
        let mut serve = Serve::start(&dir_path, port, &rest);
        if !serve.seen.contains("not logged in at Keystone") {
            serve.until("not logged in at Keystone");
        }
        serve.stop().1
    })
    .await
    .unwrap();
    assert!(log.contains("readiness is red"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

/// Runs the demo, which must come to what its fault demands and leave no file behind.
fn demo(args: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let output =
        halberd().args(["demo", "--once", "--json"]).args(args).env("TMPDIR", dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "files stay behind: {left:?}");
    serde_json::from_str(&text).unwrap()
}

/// The host lives and beats, its BMC says off: whatever the device answers, nothing may be moved.
#[test]
fn the_demo_moves_nothing_on_the_word_of_a_lying_bmc() {
    let report = demo(&["--fault", "bmc-lies"]);
    assert_eq!(report["outcome"], "needs_operator");
    assert_eq!((&report["evacuate_calls"], &report["double_runs"]), (&0.into(), &0.into()));
    assert!(report["seconds"]["death_to_fence_proof"].is_null(), "{report}");
}

#[test]
fn the_demo_recovers_a_dead_hypervisor() {
    let report = demo(&["--seed", "3"]);
    let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "double_runs",
        "evacuate_before_proof",
        "evacuate_calls",
        "fault",
        "guests",
        "hosts",
        "lost",
        "outcome",
        "recovered",
        "seconds",
    ];
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, wanted);
    assert_eq!((&report["fault"], &report["outcome"]), (&"power-loss".into(), &"recovered".into()));
    assert_eq!(
        (&report["lost"], &report["double_runs"], &report["evacuate_before_proof"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(report["evacuate_calls"], report["recovered"]);
    assert!(report["recovered"].as_u64().unwrap() > 0);
    let order = [
        "death_to_verdict",
        "death_to_fence_proof",
        "death_to_first_evacuate",
        "death_to_all_evacuates",
        "death_to_all_active",
    ];
    let times: Vec<f64> = order.iter().map(|key| report["seconds"][key].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}
