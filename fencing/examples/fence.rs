//! Drives the fence devices of one host by hand: `fence off|on|read|check DEVICES.json [SERIAL|UUID]`.
//!
//! DEVICES.json is what `PUT .../fence-devices` takes. There is no brake and no proof here: it prints what was seen.

use std::time::Instant;

use async_trait::async_trait;
use halberd_fencing::{Expected, FenceDevices, Gate, Limits, Target, check, off, on, read};

struct Open;

#[async_trait]
impl Gate for Open {
    async fn may_send(&self, _device: &str, _token: Option<&str>) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, file, rest @ ..] = args.as_slice() else {
        return Err("usage: fence off|on|read|check DEVICES.json [SERIAL|UUID]".into());
    };
    let devices = FenceDevices::parse(&std::fs::read_to_string(file)?)?;
    let mut expected = Expected::default();
    if let Some(who) = rest.first() {
        match who.parse() {
            Ok(uuid) => expected.uuid = Some(uuid),
            Err(_) => expected.serial = Some(who.clone()),
        }
    }
    let target = Target { host: file.clone(), levels: devices.levels, expected };
    let limits = Limits::default();
    let began = Instant::now();
    match verb.as_str() {
        "off" => println!("{}", serde_json::to_string_pretty(&off(&target, &limits, &Open).await)?),
        "on" => println!("{}", serde_json::to_string_pretty(&on(&target, &limits, &Open).await)?),
        "read" => println!("{}", serde_json::to_string_pretty(&read(&target, &limits).await)?),
        "check" => println!("{}", serde_json::to_string_pretty(&check(&target, &limits).await)?),
        other => return Err(format!("no verb {other}").into()),
    }
    eprintln!("{:.3} s", began.elapsed().as_secs_f64());
    Ok(())
}
