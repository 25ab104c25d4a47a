//! The instance monitor against a real libvirtd with libvirt's own test driver, unprivileged.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod common;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{FakeApi, Seen, boot, config, until};
use halberd_monitors::Agent;
use halberd_types::report::*;
use uuid::Uuid;

/// A daemon of our own: its files, sockets and state are in one folder.
struct Libvirtd {
    dir: PathBuf,
    child: Option<Child>,
}

impl Libvirtd {
    /// `None`, with a plain message, where libvirtd is not installed or does not start.
    fn start(dir: &Path) -> Option<Libvirtd> {
        let mut daemon = Libvirtd { dir: dir.to_owned(), child: None };
        let sockets = dir.join("s");
        std::fs::create_dir_all(&sockets).unwrap();
        let text = format!(
            "unix_sock_dir = \"{}\"\nauth_unix_rw = \"none\"\nlisten_tls = 0\nlisten_tcp = 0\n",
            sockets.display()
        );
        std::fs::write(dir.join("conf"), text).unwrap();
        if rustix::process::geteuid().is_root() {
            // As root it would want the system's own users and folders.
            let owner = |p: &Path| std::os::unix::fs::chown(p, Some(65534), Some(65534)).unwrap();
            owner(dir);
            owner(&sockets);
        }
        if daemon.run() {
            return Some(daemon);
        }
        eprintln!(
            "SKIPPED: libvirtd is not installed or does not start (apt-get install libvirt-daemon libvirt-clients)"
        );
        None
    }

    /// Starts the daemon and waits for its socket.
    #[expect(clippy::disallowed_methods, reason = "between two looks at a condition of another process")]
    fn run(&mut self) -> bool {
        let mut command = Command::new("libvirtd");
        command.arg("-f").arg(self.dir.join("conf")).arg("-p").arg(self.dir.join("pid"));
        for name in ["HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(name, &self.dir);
        }
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else { return false };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            if child.try_wait().unwrap().is_some() || std::time::Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.child = Some(child);
        true
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("s/libvirt-sock")
    }

    fn virsh(&self, arguments: &[&str]) {
        let uri = format!("test+unix:///default?socket={}", self.socket().display());
        let out = Command::new("virsh").arg("-q").arg("-c").arg(uri).args(arguments).output().unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// The guest's kernel "panics" and libvirt stops it: the one unwanted death that the test driver knows.
    fn crash(&self) {
        self.virsh(&["dump", "test", self.dir.join("core").to_str().unwrap(), "--crash"]);
    }

    fn config(&self, more: &str) -> String {
        let socket = self.socket();
        format!(
            "[instance]\nuri = 'test:///default'\nsocket = '{0}'\ncheck_interval = 0.05\nreconnect_interval = 0.02\n{more}",
            socket.display()
        )
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The one domain of the test driver.
const TEST: Uuid = Uuid::from_u128(0x6695eb01_f6a4_8304_79aa_97f2502e193f);

fn lists(seen: &Seen) -> Vec<Vec<Domain>> {
    let domains = |r: &Report| match &r.kind {
        ReportKind::Domains { domains } => Some(domains.clone()),
        _ => None,
    };
    seen.reports.iter().filter_map(domains).collect()
}

fn guests(seen: &Seen) -> Vec<(bool, GuestPayload)> {
    let guest = |r: &Report| match &r.kind {
        ReportKind::GuestStopped(g) => Some((true, g.clone())),
        ReportKind::GuestEvent(g) => Some((false, g.clone())),
        _ => None,
    };
    seen.reports.iter().filter_map(guest).collect()
}

fn crashed() -> (bool, GuestPayload) {
    let payload = GuestPayload {
        instance_uuid: TEST,
        event: "LIFECYCLE".into(),
        vir_domain_event: "STOPPED_CRASHED".into(),
    };
    (true, payload)
}

#[tokio::test]
async fn guests_are_listed_crashes_reported_and_what_users_do_is_not() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let Some(mut daemon) = Libvirtd::start(&dir.path().join("d")) else { return };
    let api = FakeApi::start().await;
    let mut seen = api.seen.clone();
    let agent = format!("api_url = '{}'", api.url);
    let config = config(dir.path(), &agent, &daemon.config("[orders]\nenabled = false\n"));
    let handle = Agent::start_on(config, boot(1)).await.unwrap();
    let mut status = handle.status();
    until(&mut status, "connected", |s| s.libvirt).await;
    until(&mut seen, "the list", |s| lists(s).len() == 1).await;
    let list = lists(&seen.borrow()).remove(0);
    assert_eq!((list.len(), list[0].uuid, list[0].state), (1, TEST, 1), "{list:?}");
    // A user's doing, then a crash: only the crash is told, so nothing of the first is on its way either.
    daemon.virsh(&["destroy", "test"]);
    daemon.virsh(&["start", "test"]);
    daemon.virsh(&["reboot", "test"]);
    daemon.virsh(&["suspend", "test"]);
    daemon.virsh(&["resume", "test"]);
    daemon.crash();
    until(&mut seen, "the crash", |s| !guests(s).is_empty()).await;
    assert_eq!(guests(&seen.borrow()), [crashed()]);
    // The daemon dies and returns: noticed, connected again, everything listed afresh.
    daemon.kill();
    until(&mut status, "lost", |s| !s.libvirt).await;
    assert!(daemon.run());
    until(&mut status, "connected again", |s| s.libvirt).await;
    until(&mut seen, "the second list", |s| lists(s).len() == 2).await;
}

#[tokio::test]
async fn a_crash_while_the_agent_is_dead_is_found_afterwards() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let Some(daemon) = Libvirtd::start(&dir.path().join("d")) else { return };
    let api = FakeApi::start().await;
    let mut seen = api.seen.clone();
    let agent = format!("api_url = '{}'", api.url);
    let config = config(dir.path(), &agent, &daemon.config("[orders]\nenabled = false\n"));
    // The test driver forgets its state with its last connection; a second agent's keeps it.
    let other_dir = tempfile::tempdir().unwrap();
    let other_config =
        common::config(other_dir.path(), &agent, &daemon.config("[orders]\nenabled = false\n"));
    let first = Agent::start_on(config.clone(), boot(1)).await.unwrap();
    until(&mut first.status(), "connected", |s| s.libvirt).await;
    let keeper = Agent::start_on(other_config, boot(9)).await.unwrap();
    until(&mut keeper.status(), "connected", |s| s.libvirt).await;
    first.kill_and_wait().await;
    daemon.crash();
    until(&mut seen, "the keeper saw it", |s| guests(s) == [crashed()]).await;
    let again = Agent::start_on(config, boot(1)).await.unwrap();
    until(&mut again.status(), "connected", |s| s.libvirt).await;
    until(&mut seen, "found afterwards", |s| guests(s) == [crashed(), crashed()]).await;
    let boots: Vec<Uuid> = {
        let seen = seen.borrow();
        seen.reports
            .iter()
            .filter(|r| matches!(r.kind, ReportKind::GuestStopped(_)))
            .map(|r| r.boot)
            .collect()
    };
    assert_eq!(boots, [Uuid::from_u128(9), Uuid::from_u128(1)]);
}

#[tokio::test]
async fn a_stray_is_destroyed_on_order_where_that_is_allowed() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let Some(daemon) = Libvirtd::start(&dir.path().join("d")) else { return };
    let api = FakeApi::start().await;
    let order = |n: u128, uuid| Order {
        id: Uuid::from_u128(n),
        kind: OrderKind::DestroyDomain { uuid },
        expires_after_ms: 60_000,
    };
    *api.orders.lock().unwrap() = vec![order(1, TEST), order(2, TEST), order(3, Uuid::nil())];
    let rest = daemon.config("[orders]\npoll_interval = 0.02\nallow_destroy = true\n");
    let config = config(dir.path(), &format!("api_url = '{}'", api.url), &rest);
    let handle = Agent::start_on(config, boot(1)).await.unwrap();
    until(&mut handle.status(), "connected", |s| s.libvirt).await;
    let mut seen = api.seen.clone();
    until(&mut seen, "results", |s| s.results.len() == 3).await;
    let details: Vec<String> =
        seen.borrow().results.iter().map(|r| format!("{:?} {}", r.outcome, r.detail)).collect();
    assert_eq!(details, ["Done destroyed", "Done did not run", "Done did not run"]);
    assert!(guests(&seen.borrow()).is_empty(), "a destroyed guest is no failure");
}

#[tokio::test]
async fn no_libvirt_is_said_and_tried_again() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let mut daemon = Libvirtd { dir: dir.path().join("d"), child: None };
    let api = FakeApi::start().await;
    let rest = daemon.config("[orders]\nenabled = false\n");
    let handle = Agent::start_on(config(dir.path(), &format!("api_url = '{}'", api.url), &rest), boot(1))
        .await
        .unwrap();
    let mut seen = api.seen.clone();
    until(&mut seen, "identity", |s| s.reports.len() == 1).await;
    assert!(!handle.status().borrow().libvirt);
    let Some(started) = Libvirtd::start(&daemon.dir) else { return };
    daemon.child = None;
    until(&mut handle.status(), "connected", |s| s.libvirt).await;
    drop(started);
}
