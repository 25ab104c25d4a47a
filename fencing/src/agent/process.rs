//! Runs a fence agent: parameters on stdin, a deadline, bounded output, and nothing of it left behind.
//!
//! An agent may start programs of its own (ssh, snmpset, ipmitool). It gets a process group, and the whole group dies when
//! the deadline passes or the caller loses interest: an `off` that hangs must not come true minutes later.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

/// Where distributions install agents, and all of the environment that an agent gets.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Output that is kept. Metadata of the largest agents has some 50 KiB; of the rest one line counts.
const OUTPUT: u64 = 1 << 20;

/// What a finished agent left.
#[derive(Debug)]
pub(super) struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Failed {
    /// It cannot be started.
    Start(io::Error),
    /// It did not end in time and was killed.
    Late,
}

/// A process group that dies with this value.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // A group that has ended cannot be killed; that is what was wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Starts the program without any shell or argument, gives it `parameters` and waits for its end.
pub(super) async fn run(program: &Path, parameters: &str, within: Duration) -> Result<Finished, Failed> {
    timeout(within, finish(program, parameters)).await.unwrap_or(Err(Failed::Late))
}

async fn finish(program: &Path, parameters: &str) -> Result<Finished, Failed> {
    let mut child = Command::new(program)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Failed::Start)?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // An agent that exits before reading says why by its code; a broken pipe adds nothing.
            let _ = stdin.write_all(parameters.as_bytes()).await;
        }
    };
    // Its errors are drained, or it would block; they are not kept, for in verbose mode they repeat what was sent.
    let (status, stdout, _, ()) = tokio::join!(child.wait(), bounded(stdout), bounded(stderr), give);
    // The leader is gone and so is its output's last holder: the number may soon be somebody else's.
    group.0 = None;
    Ok(Finished { status: status.map_err(Failed::Start)?, stdout })
}

/// The beginning of a stream, which is read to its end.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let _ = (&mut stream).take(OUTPUT).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}
