//! A host's fence devices (DESIGN 5 and 7): set and sealed here, opened by the engine only.

pub(crate) mod check;
pub(crate) mod set;
pub(crate) mod show;

use chrono::{DateTime, Utc};
use halberd_core::host::Host;
use halberd_core::id::HostId;
use halberd_core::time::Stamp;
use halberd_store::fence_devices::CheckRow;
use halberd_store::{Db, fence_devices, fence_drills};
use halberd_types::halberd::fence_device::{DeviceCheckView, FenceDevicesView};
use serde_json::{Value, json};

use super::input::time;
use super::problem::Failure;

/// The devices with their secrets masked, each with its last check.
pub(crate) async fn view(db: &Db, host: HostId) -> Result<FenceDevicesView, Failure> {
    let row = fence_devices::get(db, host).await?;
    let checks = fence_devices::checks(db, host).await?;
    let masked = row.map_or_else(|| json!({ "levels": [] }), |row| row.masked);
    joined(db, host, &masked, &checks.iter().collect::<Vec<_>>()).await
}

/// A description with its checks and what drills have shown.
pub(crate) async fn joined(
    db: &Db,
    host: HostId,
    masked: &Value,
    checks: &[&CheckRow],
) -> Result<FenceDevicesView, Failure> {
    let drills = fence_drills::of_host(db, host).await?;
    let view = FenceDevicesView::of_stored(masked, |level, place| {
        let here = |check: &&&CheckRow| (check.level as usize, check.position as usize) == (level, place);
        checks.iter().find(here).map(|check| checked(check))
    });
    Ok(view.with_drills(|device| {
        drills.iter().filter(|drill| drill.device == device).filter_map(|drill| drill.at).max().map(time)
    }))
}

/// A check as stored; the columns decide, the document adds what it has.
pub(crate) fn checked(check: &CheckRow) -> DeviceCheckView {
    let detail = &check.detail;
    let flag = |name: &str| detail[name].as_bool();
    let text = |name: &str| detail[name].as_str().map(str::to_owned);
    let warnings = detail["warnings"].as_array().into_iter().flatten();
    DeviceCheckView {
        at: time(check.at),
        ready: check.ok,
        since: since(&detail["since"]),
        reached: flag("reached").unwrap_or(check.ok),
        logged_in: flag("logged_in").unwrap_or(check.ok),
        identity: named(&detail["identity"]),
        identity_matches: flag("identity_matches"),
        stated: flag("stated").unwrap_or(false),
        power: check.power.clone(),
        would: text("would"),
        restore_policy: text("restore_policy"),
        firmware: text("firmware"),
        latency_ms: detail["latency_ms"].as_u64(),
        error: if check.ok { None } else { text("error").or_else(|| Some(check.text.clone())) },
        warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

/// The engine keeps an identity as the device told it; the serial is what people compare.
fn named(identity: &Value) -> Option<String> {
    let told = [identity, &identity["serial"], &identity["uuid"]];
    told.into_iter().find_map(Value::as_str).map(str::to_owned)
}

fn since(stored: &Value) -> Option<DateTime<Utc>> {
    stored.as_i64().map(|micros| time(Stamp(micros)))
}

/// What is to be asked of devices needs one.
pub(crate) async fn must_have(db: &Db, host: &Host) -> Result<(), Failure> {
    if fence_devices::get(db, host.id).await?.is_some() {
        return Ok(());
    }
    Err(Failure::conflict(format!(
        "Host {name} has no fence device; set one first with `halberd fence devices set {name}`.",
        name = host.name
    )))
}
