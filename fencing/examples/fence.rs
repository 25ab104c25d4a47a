//! Drives fence devices by hand or by a script. There is no brake and no proof here: it tells what was seen.
//!
//! By hand, `fence off|on|read|check DEVICES.json [SERIAL|UUID]`: DEVICES.json is what `PUT .../fence-devices` takes.
//!
//! By a script, `fence json`: each line of standard input is a [`Request`], each line of standard output its answer, in
//! the order in which they are done: `{"id": .., "seconds": .., "answer": ..}`, or `"error"` in the place of `"answer"`.
//! Requests run side by side; the program ends when its input is closed and everything is answered.

use std::io::BufRead;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use halberd_fencing::{
    Expected, FenceDevices, FenceError, Gate, Limits, RestorePolicy, Target, check, off, on, read, restore,
    revoke,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

/// What to do with which devices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Comes back with the answer.
    #[serde(default)]
    id: Value,
    verb: String,
    #[serde(default)]
    host: String,
    /// As `PUT .../fence-devices` takes it.
    devices: Value,
    serial: Option<String>,
    uuid: Option<Uuid>,
    /// Of `revoke`: the session to end.
    token: Option<String>,
    /// Stands in for the engine: why no order may go out.
    gate: Option<String>,
    /// Of `off`: a restore policy "always on" may be taken away.
    #[serde(default)]
    hold: bool,
    /// Of `restore`: on which device what is put back, as the attempt of an `off` names them (`device`, `held`).
    device: Option<String>,
    former: Option<RestorePolicy>,
    /// Milliseconds that a level has (`off`), and that `on` has.
    level_ms: Option<u64>,
    on_ms: Option<u64>,
}

/// The engine's last word: here whoever drives has it.
struct Script {
    closed: Option<String>,
    hold: bool,
}

#[async_trait]
impl Gate for Script {
    async fn may_send(&self, _device: &str, _token: Option<&str>) -> Result<(), String> {
        self.closed.clone().map_or(Ok(()), Err)
    }

    async fn hold(&self, _device: &str, _former: RestorePolicy) -> Result<(), String> {
        if self.hold { Ok(()) } else { Err("not wanted".to_owned()) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["json"] => {
            serve().await;
            Ok(())
        }
        [verb, file, rest @ ..] => by_hand(verb, file, rest.first().copied()).await,
        _ => Err("usage: fence off|on|read|check DEVICES.json [SERIAL|UUID], or fence json".into()),
    }
}

async fn by_hand(verb: &str, file: &str, who: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let uuid = who.and_then(|who| who.parse().ok());
    let request = Request {
        id: Value::Null,
        verb: verb.to_owned(),
        host: file.to_owned(),
        devices: serde_json::from_str(&std::fs::read_to_string(file)?)?,
        serial: who.filter(|_| uuid.is_none()).map(str::to_owned),
        uuid,
        token: None,
        gate: None,
        hold: false,
        device: None,
        former: None,
        level_ms: None,
        on_ms: None,
    };
    let began = Instant::now();
    println!("{:#}", perform(request).await?);
    eprintln!("{:.3} s", began.elapsed().as_secs_f64());
    Ok(())
}

async fn serve() {
    let (line, mut lines) = mpsc::unbounded_channel();
    // A thread reads, as a read cannot be cancelled; it ends with the input.
    std::thread::spawn(move || {
        for text in std::io::stdin().lock().lines().map_while(Result::ok).filter(|t| !t.trim().is_empty()) {
            let _ = line.send(text);
        }
    });
    let mut acts = tokio::task::JoinSet::new();
    while let Some(text) = lines.recv().await {
        acts.spawn(async move {
            let began = Instant::now();
            let (id, done) = match serde_json::from_str::<Request>(&text) {
                Ok(request) => (request.id.clone(), perform(request).await),
                Err(error) => (Value::Null, Err(format!("not understood: {error}"))),
            };
            let seconds = began.elapsed().as_secs_f64();
            println!(
                "{}",
                match done {
                    Ok(answer) => json!({"id": id, "seconds": seconds, "answer": answer}),
                    Err(error) => json!({"id": id, "seconds": seconds, "error": error}),
                }
            );
        });
    }
    while acts.join_next().await.is_some() {}
}

async fn perform(request: Request) -> Result<Value, String> {
    let devices = FenceDevices::parse(&request.devices.to_string()).map_err(|e| e.to_string())?;
    let expected = Expected { serial: request.serial, uuid: request.uuid };
    let target = Target { host: request.host, levels: devices.levels, expected };
    let standard = Limits::default();
    let limits = Limits {
        level: request.level_ms.map_or(standard.level, Duration::from_millis),
        on: request.on_ms.map_or(standard.on, Duration::from_millis),
        ..standard
    };
    let gate = Script { closed: request.gate, hold: request.hold };
    match request.verb.as_str() {
        "off" => serde_json::to_value(off(&target, &limits, &gate).await),
        "on" => serde_json::to_value(on(&target, &limits, &gate).await),
        "read" => serde_json::to_value(read(&target, &limits).await),
        "check" => serde_json::to_value(check(&target, &limits).await),
        "revoke" => {
            let token = request.token.ok_or("`token` is missing: the session to end")?;
            revoke(&target, &token, &limits).await.map_err(|e: FenceError| e.to_string())?;
            Ok(json!("revoked"))
        }
        "restore" => {
            let device = request.device.ok_or("`device` is missing: where to put the restore policy back")?;
            let former = request.former.ok_or("`former` is missing: the restore policy to put back")?;
            restore(&target, &device, former, &limits).await.map_err(|e: FenceError| e.to_string())?;
            Ok(json!("restored"))
        }
        other => return Err(format!("no verb {other}; there are off, on, read, check, revoke and restore")),
    }
    .map_err(|e| e.to_string())
}
