//! One run of a command: no shell, an environment of our own, a process group of its own, an end in any case.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halberd_core::hook::{HookCall, HookReport};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::clock;

/// Kept of each output, in bytes: its end, where programs say what went wrong.
const KEPT: usize = 4096;
/// A group that was asked to end gets this long to clean up before it is made to.
const GRACE: Duration = Duration::from_secs(2);
/// After the program's end its output is read this long, in case something it started holds the pipes open.
const DRAIN: Duration = Duration::from_millis(500);
/// The system's programs and nothing of the engine's own environment, which holds its secrets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process group that does not outlive its owner: whatever is left of it when this is dropped is killed.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may be gone already, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Runs it to its end or to the end of its time.
pub(super) async fn run(words: &[String], call: &HookCall, told: &Map<String, Value>) -> HookReport {
    let began = clock::mono();
    let ended = |ok: bool, how: String, (stdout, stderr): (String, String)| HookReport {
        ok,
        how,
        took_ms: clock::mono().since(began).as_millis() as u64,
        stdout,
        stderr,
    };
    let (mut child, group) = match start(words, told) {
        Ok(started) => started,
        Err(error) => {
            let program = words.first().map(String::as_str).unwrap_or_default();
            return ended(false, format!("{program} cannot be started: {error}"), Default::default());
        }
    };
    feed(&mut child, told);
    let (mut stdout, mut stderr) = (Tail::of(child.stdout.take()), Tail::of(child.stderr.take()));
    let limit = Duration::from_secs(call.timeout_s);
    let exit = tokio::time::timeout(limit, child.wait()).await;
    if exit.is_err() {
        group.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
    }
    // What it left behind in its group goes with it; what is to stay has to leave the group (setsid).
    let drained = async { tokio::join!(stdout.drained(), stderr.drained()) };
    let _ = tokio::time::timeout(DRAIN, drained).await;
    drop(group);
    let output = (stdout.text(), stderr.text());
    match exit {
        Ok(Ok(status)) => ended(status.success(), said(status), output),
        Ok(Err(error)) => ended(false, format!("its end could not be seen: {error}"), output),
        Err(_) => ended(
            false,
            format!("no end within {} s: ended with everything in its process group", call.timeout_s),
            output,
        ),
    }
}

fn start(words: &[String], told: &Map<String, Value>) -> std::io::Result<(Child, Group)> {
    let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let variables =
        told.iter().map(|(name, value)| (format!("HALBERD_{}", name.to_uppercase()), plain(value)));
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(variables)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok((child, Group(group)))
}

/// A variable cannot hold a NUL; a process' name comes from a report and might.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.replace('\0', ""))
}

/// One line of JSON, then the end of input. A program that does not read it is no failure.
fn feed(child: &mut Child, told: &Map<String, Value>) {
    let Some(mut stdin) = child.stdin.take() else { return };
    let line = format!("{}\n", Value::Object(told.clone()));
    tokio::spawn(async move {
        let _ = stdin.write_all(line.as_bytes()).await;
    });
}

fn said(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The end of an output that is read to its end, so that nobody is stopped by a full pipe.
struct Tail {
    kept: Arc<Mutex<(Vec<u8>, bool)>>,
    reader: Option<JoinHandle<()>>,
}

impl Tail {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Tail {
        let kept: Arc<Mutex<(Vec<u8>, bool)>> = Arc::default();
        let into = kept.clone();
        let reader = pipe.map(|mut pipe| {
            tokio::spawn(async move {
                let mut chunk = vec![0; KEPT];
                while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
                    let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.0.extend_from_slice(&chunk[..read]);
                    let over = kept.0.len().saturating_sub(KEPT);
                    if over > 0 {
                        kept.0.drain(..over);
                        kept.1 = true;
                    }
                }
            })
        });
        Tail { kept, reader }
    }

    async fn drained(&mut self) {
        if let Some(reader) = &mut self.reader {
            let _ = reader.await;
        }
    }

    /// As text that a terminal can be shown.
    fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept.0);
        let clean =
            text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c });
        let clean: String = clean.collect();
        if kept.1 { format!("[...]{clean}") } else { clean }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}
