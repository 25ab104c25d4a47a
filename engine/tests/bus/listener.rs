//! oslo.messaging's listener in a process of its own, out of a virtual environment kept beside the build.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::PATIENCE;

const REQUIREMENTS: &str = include_str!("requirements.txt");
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bus/listener.py");

/// The interpreter that knows oslo.messaging; made at the first call. `None`: it cannot be had, which is said.
pub fn python() -> Option<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let digest = Sha256::digest(REQUIREMENTS);
    let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder").join("bus");
    let (venv, done) = (place.join(format!("venv-{hash}")), place.join(format!("venv-{hash}.ready")));
    let interpreter = venv.join("bin/python");
    if done.exists() {
        return Some(interpreter);
    }
    let made = make(&place, &venv);
    if let Err(why) = made {
        eprintln!("SKIPPED: no virtual environment with oslo.messaging: {why}");
        return None;
    }
    std::fs::write(done, "").expect("marked");
    Some(interpreter)
}

fn make(place: &Path, venv: &Path) -> Result<(), String> {
    std::fs::create_dir_all(place).map_err(|error| error.to_string())?;
    let requirements = place.join("requirements.txt");
    let mut file = std::fs::File::create(&requirements).map_err(|error| error.to_string())?;
    file.write_all(REQUIREMENTS.as_bytes()).map_err(|error| error.to_string())?;
    let mut create = Command::new("python3");
    create.args(["-m", "venv", "--clear"]).arg(venv);
    let mut install = Command::new(venv.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    for mut command in [create, install] {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}

/// A notification as the listener's endpoint was given it.
#[derive(Clone, Debug)]
pub struct Heard(pub Value);

impl Heard {
    pub fn id(&self) -> String {
        self.0["message_id"].as_str().expect("an id").to_owned()
    }

    /// The id of what it is about; nothing for what was never made.
    pub fn object(&self) -> String {
        let data = &self.0["payload"]["masakari_object.data"];
        let id = data.get("uuid").or_else(|| data.get("notification_uuid"));
        id.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// A running listener.
#[derive(Debug)]
pub struct Listener {
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Listener {
    pub fn start(url: &str, exchange: &str, topic: &str, durable: bool) -> Listener {
        let python = python().expect("asked before");
        let mut command = tokio::process::Command::new(python);
        command.arg(PROGRAM).args([url, exchange, topic, if durable { "true" } else { "false" }]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        Listener { lines, _process: process }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("it goes on talking");
        line.expect("readable").expect("it lives")
    }

    pub async fn ready(&mut self) {
        assert_eq!(self.line().await, "ready");
    }

    /// The next notifications.
    pub async fn hear(&mut self, count: usize) -> Vec<Heard> {
        let mut heard = Vec::with_capacity(count);
        for _ in 0..count {
            heard.push(Heard(serde_json::from_str(&self.line().await).expect("JSON")));
        }
        heard
    }
}
