//! A daemon that stood still for longer than half its lease ends itself and says why; one that was held up for a moment goes on.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Half a lease is three seconds: far more than a busy machine takes from a process.
const LEASE: &str = "[policy]\nlease_ms = 6000\nlease_renew_ms = 1500\n";

struct Serve {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Serve {
    fn start(dir: &std::path::Path) -> Serve {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!("[api]\nauth = \"none\"\nlisten = \"127.0.0.1:{port}\"\n{LEASE}");
        std::fs::write(dir.join("halberd.toml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_halberd"))
            .env_remove("RUST_LOG")
            .env_remove("HALBERD_CONFIG")
            .args(["serve", "--log-format", "json", "--config", "halberd.toml"])
            .current_dir(dir)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serve = Serve { child, log };
        assert!(serve.until("halberd started").is_some(), "it does not start");
        serve
    }

    /// The first line with these words; `None` when the log ends before.
    fn until(&mut self, what: &str) -> Option<String> {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            if line.contains(what) {
                return Some(line);
            }
            line.clear();
        }
        None
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Frozen for so long: the stall is what is tried here, nothing is waited for by it.
    fn freeze(&self, span: Duration) {
        self.signal(Signal::STOP);
        #[expect(clippy::disallowed_methods, reason = "the stall itself")]
        std::thread::sleep(span);
        self.signal(Signal::CONT);
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_frozen_daemon_aborts_when_it_wakes_and_one_held_up_for_a_moment_does_not() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut serve = Serve::start(dir.path());
    serve.freeze(Duration::from_millis(300));
    // It lives: a signal it answers to shows up in its log.
    serve.signal(Signal::HUP);
    assert!(serve.until("SIGHUP").is_some(), "it ended");

    serve.freeze(Duration::from_millis(3_500));
    let why = serve.until("aborted").expect("it says why");
    assert!(why.contains("the process did not run for") && why.contains("half its lease (3.0 s)"), "{why}");
    let ended = serve.child.wait().unwrap();
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()), "{ended}");
}
