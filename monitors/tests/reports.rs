//! From a signal to the API, through deaths of either side: real processes, real files, signed requests.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{FakeApi, HOST, Seen, boot, config, until};
use halberd_monitors::Agent;
use halberd_types::report::*;
use uuid::Uuid;

/// A process list with one shell script that sleeps under a name of its own.
struct Watched {
    dir: tempfile::TempDir,
    program: String,
}

impl Watched {
    fn new() -> Watched {
        let dir = tempfile::tempdir().unwrap();
        // Names are looked for in all of /proc; this one is nobody else's.
        let program = format!("hlb-{}", &Uuid::new_v4().simple().to_string()[..8]);
        let path = dir.path().join(&program);
        std::fs::copy("/bin/sleep", &path).unwrap();
        Watched { dir, program }
    }

    fn path(&self) -> String {
        self.dir.path().join(&self.program).display().to_string()
    }

    fn list(&self, restart: &str) -> String {
        let text = format!(
            "-\n  process_name: {}\n  start_command:\n  restart_command: {restart}\n  run_as_root:\n",
            self.path()
        );
        let file = self.dir.path().join("list.yaml");
        std::fs::write(&file, text).unwrap();
        format!(
            "[process]\nlist_path = '{}'\ncheck_interval = 0.02\nrestart_retries = 1\nrestart_interval = 0.05\n",
            file.display()
        )
    }

    fn spawn(&self) -> std::process::Child {
        std::process::Command::new(self.path()).arg("86397").spawn().unwrap()
    }

    fn kill_all(&self) {
        for p in halberd_monitors::process::find::processes(Path::new("/proc")).unwrap() {
            if halberd_monitors::process::find::fits(&self.path(), &p) {
                let pid = rustix::process::Pid::from_raw(p.pid.cast_signed()).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn kinds(seen: &Seen) -> Vec<(&'static str, String)> {
    let process = |p: &ProcessPayload| p.process_name.clone();
    seen.reports
        .iter()
        .filter_map(|r| match &r.kind {
            ReportKind::ProcessStopped(p) => Some(("stopped", process(p))),
            ReportKind::ProcessStarted(p) => Some(("started", process(p))),
            _ => None,
        })
        .collect()
}

fn no_orders(rest: String) -> String {
    format!("{rest}[orders]\nenabled = false\n")
}

#[tokio::test]
async fn a_process_that_does_not_come_back_is_reported_and_so_is_its_return() {
    let (watched, api) = (Watched::new(), FakeApi::start().await);
    let dir = tempfile::tempdir().unwrap();
    let mut child = watched.spawn();
    let config = config(dir.path(), &format!("api_url = '{}'", api.url), &no_orders(watched.list("false")));
    let agent = Agent::start_on(config.clone(), boot(1)).await.unwrap();
    let mut seen = api.seen.clone();
    until(&mut seen, "identity", |s| matches!(s.reports.first().map(|r| &r.kind), Some(ReportKind::Identity(i)) if i.hostname == "compute-1")).await;
    assert_eq!(seen.borrow().reports[0].host, HOST);
    child.kill().unwrap();
    child.wait().unwrap();
    until(&mut seen, "stopped", |s| kinds(s) == [("stopped", watched.program.clone())]).await;
    // The agent dies and another comes: it remembers what was said, and says the return, once. (Killed before it remembered, it
    // would say "stopped" twice, which reports bear; so wait for the memory.)
    let memory = dir.path().join("state/processes-stopped.json");
    while !std::fs::read_to_string(&memory).is_ok_and(|text| text.contains(&watched.program)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.kill_and_wait().await;
    let _agent = Agent::start_on(config, boot(1)).await.unwrap();
    let mut child = watched.spawn();
    until(&mut seen, "started", |s| kinds(s).len() > 1).await;
    assert_eq!(kinds(&seen.borrow())[1..], [("started", watched.program.clone())]);
    child.kill().unwrap();
    child.wait().unwrap();
    until(&mut seen, "stopped again", |s| kinds(s).len() > 2).await;
    assert_eq!(seen.borrow().forged, 0);
}

#[tokio::test]
async fn a_restart_that_works_is_no_report() {
    let (watched, api) = (Watched::new(), FakeApi::start().await);
    let dir = tempfile::tempdir().unwrap();
    let mut child = watched.spawn();
    let marker = dir.path().join("restarted");
    let restart = format!("sh -c '{} 86396 & touch {}'", watched.path(), marker.display());
    let list = watched.list(&format!("\"{restart}\""));
    let config = config(dir.path(), &format!("api_url = '{}'", api.url), &no_orders(list));
    let _agent = Agent::start_on(config, boot(1)).await.unwrap();
    let mut seen = api.seen.clone();
    until(&mut seen, "identity", |s| !s.reports.is_empty()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    while !marker.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let there = || {
        let all = halberd_monitors::process::find::processes(Path::new("/proc")).unwrap();
        all.iter().any(|p| halberd_monitors::process::find::fits(&watched.path(), p))
    };
    while !there() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(kinds(&seen.borrow()), []);
}

#[tokio::test]
async fn reports_outlive_an_api_that_is_away_and_an_agent_that_is_killed() {
    let watched = Watched::new();
    let dir = tempfile::tempdir().unwrap();
    // A port where nobody listens yet.
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let config =
        config(dir.path(), &format!("api_url = 'http://{address}'"), &no_orders(watched.list("false")));
    let outbox = dir.path().join("state/outbox");
    let waiting = || {
        let files = std::fs::read_dir(&outbox).into_iter().flatten().flatten();
        files.filter(|f| f.file_name().to_string_lossy().ends_with(".json")).count()
    };
    let agent = Agent::start_on(config.clone(), boot(1)).await.unwrap();
    // Identity, and the process that is not there.
    while waiting() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.kill_and_wait().await;
    assert_eq!(waiting(), 2);
    let api = FakeApi::start_at(&address).await;
    api.refuse.lock().unwrap().extend([503, 500]);
    let _agent = Agent::start_on(config, boot(2)).await.unwrap();
    let mut seen = api.seen.clone();
    until(&mut seen, "both", |s| s.reports.len() >= 2).await;
    let reports = seen.borrow().reports.clone();
    // The first agent's identity gave way to the second's; order is kept, and the older boot is named.
    assert!(matches!(&reports[0].kind, ReportKind::ProcessStopped(p) if p.process_name == watched.program));
    assert_eq!(reports[0].boot, Uuid::from_u128(1));
    assert!(matches!(reports[1].kind, ReportKind::Identity(_)));
    assert_eq!(reports[1].boot, Uuid::from_u128(2));
    while waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_refused_report_does_not_hold_the_others() {
    let (watched, api) = (Watched::new(), FakeApi::start().await);
    let dir = tempfile::tempdir().unwrap();
    api.refuse.lock().unwrap().push_back(400);
    let config = config(dir.path(), &format!("api_url = '{}'", api.url), &no_orders(watched.list("false")));
    let _agent = Agent::start_on(config, boot(1)).await.unwrap();
    let mut seen = api.seen.clone();
    until(&mut seen, "the next", |s| kinds(s).len() == 1).await;
    assert_eq!(seen.borrow().reports.len(), 1, "identity was refused");
    assert_eq!(std::fs::read_dir(dir.path().join("state/outbox/refused")).unwrap().count(), 1);
}

#[tokio::test]
async fn orders_are_carried_out_once_and_answered() {
    let api = FakeApi::start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let units = format!("[units]\ndb = ['sh', '-c', 'echo x >> {}']\nbroken = ['false']\n", log.display());
    let desk = "[orders]\npoll_interval = 0.02\nlisted_units_only = true\n";
    let config = config(dir.path(), &format!("api_url = '{}'", api.url), &(units + desk));
    let order = |n: u128, kind| Order { id: Uuid::from_u128(n), kind, expires_after_ms: 60_000 };
    let restart = |unit: &str| OrderKind::RestartUnit { unit: unit.into() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    *api.orders.lock().unwrap() = vec![
        order(1, restart("db")),
        order(2, restart("broken")),
        order(3, restart("sshd")),
        order(4, OrderKind::DestroyDomain { uuid: Uuid::nil() }),
        Order { expires_after_ms: 0, ..order(5, restart("db")) },
        order(6, OrderKind::Probe { targets: vec![target] }),
    ];
    let greet = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0\r\n").await.unwrap();
    });
    // An order begun by an agent that died.
    std::fs::create_dir_all(dir.path().join("state/orders")).unwrap();
    std::fs::write(dir.path().join("state/orders").join(Uuid::from_u128(9).to_string()), "begun").unwrap();
    let agent = Agent::start_on(config.clone(), boot(1)).await.unwrap();
    let mut seen = api.seen.clone();
    until(&mut seen, "all results", |s| s.results.len() == 7).await;
    greet.await.unwrap();
    let result = |n| seen.borrow().results.iter().find(|r| r.order_id == Uuid::from_u128(n)).unwrap().clone();
    assert_eq!(result(1).outcome, OrderOutcome::Done);
    assert_eq!(result(2).outcome, OrderOutcome::Failed);
    assert_eq!(result(3).outcome, OrderOutcome::Refused);
    assert_eq!(result(4).outcome, OrderOutcome::Refused);
    assert_eq!(result(5).outcome, OrderOutcome::Expired);
    assert_eq!((result(6).outcome, result(6).answered), (OrderOutcome::Done, vec![target]));
    assert_eq!(result(9).outcome, OrderOutcome::Interrupted);
    // An engine that offers an order again, to this agent or its successor, gets no second deed.
    agent.kill_and_wait().await;
    api.orders.lock().unwrap().push(order(1, restart("db")));
    let fetches = seen.borrow().requests;
    let _agent = Agent::start_on(config, boot(1)).await.unwrap();
    until(&mut seen, "more fetches", |s| s.requests > fetches + 5).await;
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "x\n");
}
