//! Checking every fence device while all is well, so that a broken one is known before it is needed (DESIGN 7).
//!
//! A device has one command in flight at a time, and a fence must not wait for a check: hosts with an open recovery are left alone,
//! since that reads and orders through the same controllers. What is checked also includes who else switches this machine: a
//! bare-metal service that owns it turns it on again behind a fence.

mod news;
mod owner;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halberd_core::event::{Event, EventKind};
use halberd_core::host::Host;
use halberd_core::id::{EventId, HostId};
use halberd_core::time::Mono;
use halberd_store::fence_devices::{self, CheckRow};
use halberd_store::{events, hosts, write};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::clock;
use crate::ports::{OwnedMachine, Untold};
use crate::shared::Shared;
use news::News;
use plan::Plan;

/// Devices of this many hosts are checked at once: a slow controller holds nobody up.
const AT_ONCE: usize = 16;
/// How often it is looked who is due, and whether devices were set.
const LOOK: Duration = Duration::from_secs(1);
/// A host that fell silent a moment ago is being probed, and may be fenced next.
const YOUNG_SILENCE: Duration = Duration::from_secs(60);
/// What others own is asked afresh for an operator's check unless it was asked so shortly before.
const OWNED_FRESH: Duration = Duration::from_secs(5);

/// What this engine remembers of its checks.
#[derive(Debug, Default)]
pub struct Memory {
    /// One check of a host at a time, whoever asks for it.
    at_work: Mutex<BTreeMap<HostId, Arc<tokio::sync::Mutex<()>>>>,
    /// Devices that are not ready as far as was told. Their rows go when a host's devices are set anew; that one of them is mended by
    /// that has still to be told.
    bad: Mutex<BTreeMap<HostId, BTreeSet<String>>>,
    owned: tokio::sync::Mutex<Owned>,
}

/// What a bare-metal service owns: the last list, when it was asked for, and why it could not be had since.
#[derive(Debug, Default)]
struct Owned {
    asked: Option<Mono>,
    machines: Option<Vec<OwnedMachine>>,
    unseen: Option<Untold>,
}

/// Runs until the engine stops.
pub async fn run(shared: Arc<Shared>) {
    if shared.config.device_check_seconds == 0 {
        return;
    }
    let pace = Duration::from_secs(shared.config.device_check_seconds);
    let mut plan = Plan::new(pace);
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        match fence_devices::idle(&shared.db).await {
            Ok(idle) => {
                let now = clock::mono();
                let idle: Vec<_> =
                    idle.into_iter().filter(|(host, _)| is_quiet(&shared, *host, now)).collect();
                for host in plan.due(&idle, now, AT_ONCE - running.len().min(AT_ONCE)) {
                    let shared = shared.clone();
                    running.spawn(async move { periodic(&shared, host, pace).await });
                }
            }
            Err(error) => tracing::warn!(%error, "which fence devices are due could not be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

fn is_quiet(shared: &Shared, host: HostId, now: Mono) -> bool {
    let fleet = shared.fleet();
    let silent = fleet.hosts.get(&host).and_then(|known| known.silent_since);
    silent.is_none_or(|since| now.since(since) > YOUNG_SILENCE)
}

async fn periodic(shared: &Shared, host: HostId, pace: Duration) {
    let checked = match hosts::get(&shared.db, host).await {
        Ok(row) => check(shared, &row.value, pace).await.map(drop),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = checked {
        tracing::warn!(%host, error, "the host's fence devices could not be checked");
    }
}

/// Checks a host's devices for an operator who waits; the findings in words.
///
/// # Errors
/// Why nothing could be found.
pub async fn now(shared: &Shared, host: &Host) -> Result<String, String> {
    let rows = check(shared, host, OWNED_FRESH).await?;
    let ready = rows.iter().filter(|row| row.ok).count();
    let found = rows.iter().map(|row| {
        let power = row.power.as_deref().map(|power| format!(" (power {power})")).unwrap_or_default();
        match row.text.strip_prefix(&row.device) {
            Some(_) => format!("{}{power}", row.text),
            None => format!("{}: {}{power}", row.device, row.text),
        }
    });
    let found: Vec<String> = found.collect();
    Ok(format!("{ready} of {} devices of {} ready. {}", rows.len(), host.name, found.join(". ")))
}

/// Checks one host's devices, stores what was found and tells of every change.
async fn check(shared: &Shared, host: &Host, owned_fresh: Duration) -> Result<Vec<CheckRow>, String> {
    let say = |error: halberd_store::Error| error.to_string();
    let mine = {
        let mut at_work = shared.checks.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.entry(host.id).or_default().clone()
    };
    let _alone = mine.lock().await;
    let described = fence_devices::get(&shared.db, host.id).await.map_err(say)?;
    let described = described.ok_or_else(|| format!("{} has no fence device: set one first", host.name))?;
    let mut rows = shared.power.check(host.id).await?;
    let owned = owned(shared, owned_fresh).await;
    for row in &mut rows {
        let device = &described.masked["levels"][row.level as usize]["devices"][row.position as usize];
        note_owner(row, host, device, &owned);
    }
    let bad = bad_before(shared, host.id).await.map_err(say)?;
    let told = write(&shared.db, async |tx| {
        let present = fence_devices::get(&mut *tx, host.id).await?.map(|row| row.version);
        if present != Some(described.version) {
            return Ok(None);
        }
        let before = fence_devices::checks(&mut *tx, host.id).await?;
        for row in &rows {
            fence_devices::record_check(tx, row).await?;
        }
        let news = news::of(&before, &rows, &bad);
        let events: Vec<Event> = news.iter().map(|news| event(&host.name, news, &rows)).collect();
        events::publish(tx, &events, 0, &shared.webhooks, clock::stamp()).await?;
        Ok(Some(events.len()))
    })
    .await
    .map_err(say)?;
    if told.is_none() {
        return Err(format!("the devices of {} were set anew meanwhile: they are checked again", host.name));
    }
    let now_bad = rows.iter().filter(|row| !row.ok).map(|row| row.device.clone()).collect();
    shared.checks.bad.lock().unwrap_or_else(PoisonError::into_inner).insert(host.id, now_bad);
    Ok(rows)
}

/// What was told to be bad: as this engine knows, or as its predecessor left it.
async fn bad_before(shared: &Shared, host: HostId) -> halberd_store::Result<BTreeSet<String>> {
    let known = shared.checks.bad.lock().unwrap_or_else(PoisonError::into_inner).get(&host).cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let stored = fence_devices::checks(&shared.db, host).await?;
    Ok(stored.into_iter().filter(|row| !row.ok).map(|row| row.device).collect())
}

fn event(host: &str, news: &News, rows: &[CheckRow]) -> Event {
    let bad: Vec<&str> = rows.iter().filter(|row| !row.ok).map(|row| row.device.as_str()).collect();
    let (kind, ready) = match news {
        News::Bad { .. } => (EventKind::DeviceBad, false),
        News::Warned { .. } => (EventKind::DeviceBad, true),
        News::Good { .. } => (EventKind::DeviceGood, true),
    };
    let (News::Bad { device, text } | News::Warned { device, text } | News::Good { device, text }) = news;
    Event {
        id: EventId(uuid::Uuid::new_v4()),
        kind,
        recovery: None,
        subject: format!("host/{host}"),
        data: json!({"host": host, "device": device, "text": text, "ready": ready, "bad": bad}),
    }
}

/// What others own, asked once for all hosts of a round. One that cannot be asked now owns what it owned before.
async fn owned(shared: &Shared, fresh: Duration) -> (Vec<OwnedMachine>, Option<String>) {
    let Some(cloud) = &shared.cloud else { return (Vec::new(), None) };
    let mut known = shared.checks.owned.lock().await;
    let now = clock::mono();
    if known.asked.is_none_or(|at| now.since(at) >= fresh) {
        known.asked = Some(now);
        match cloud.owned_machines().await {
            Ok(machines) => (known.machines, known.unseen) = (Some(machines), None),
            Err(untold) => {
                tracing::warn!(?untold, "which machines a bare-metal service owns cannot be seen");
                known.unseen = Some(untold);
            }
        }
    }
    let unseen = match (&known.unseen, &known.machines) {
        (Some(Untold::Forbidden(why)), _) | (Some(Untold::Unanswered(why)), None) => Some(why.clone()),
        _ => None,
    };
    (known.machines.clone().unwrap_or_default(), unseen)
}

/// Adds to a device's check what is known of another owner of its machine.
fn note_owner(row: &mut CheckRow, host: &Host, device: &Value, owned: &(Vec<OwnedMachine>, Option<String>)) {
    let (machines, unseen) = owned;
    if let Some(machine) = owner::of(machines, host, device) {
        row.detail["owner"] =
            json!({"service": "ironic", "node": machine.name, "maintenance": machine.maintenance});
        if !machine.maintenance {
            let text = owner::fault(machine);
            row.text = if row.ok { text } else { format!("{}; {text}", row.text) };
            row.ok = false;
        }
    } else if let Some(why) = unseen {
        let warning = format!("{}: {why}", news::UNSEEN);
        if row.ok {
            row.text = if row.text == "ready" { warning.clone() } else { format!("{}; {warning}", row.text) };
        }
        if let Some(warnings) = row.detail["warnings"].as_array_mut() {
            warnings.push(warning.into());
        }
    }
}
