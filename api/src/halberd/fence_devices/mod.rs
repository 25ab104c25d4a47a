//! A host's fence devices (DESIGN 5 and 7): set and sealed here, opened by the engine only.

pub(crate) mod check;
pub(crate) mod set;
pub(crate) mod show;

use halberd_core::id::HostId;
use halberd_store::fence_devices::CheckRow;
use halberd_store::{Db, fence_devices};
use halberd_types::halberd::fence_device::{DeviceCheckView, FenceDevicesView};
use serde_json::{Value, json};

use super::input::time;
use super::problem::Failure;

/// The devices with their secrets masked, each with its last check.
pub(crate) async fn view(db: &Db, host: HostId) -> Result<FenceDevicesView, Failure> {
    let row = fence_devices::get(db, host).await?;
    let checks = fence_devices::checks(db, host).await?;
    let masked = row.map_or_else(|| json!({ "levels": [] }), |row| row.masked);
    Ok(FenceDevicesView::of_stored(&masked, |level, place| {
        let here = |check: &&CheckRow| (check.level as usize, check.position as usize) == (level, place);
        checks.iter().find(here).map(checked)
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
        reached: flag("reached").unwrap_or(check.ok),
        logged_in: flag("logged_in").unwrap_or(check.ok),
        identity: text("identity"),
        identity_matches: flag("identity_matches"),
        power: check.power.clone(),
        latency_ms: detail["latency_ms"].as_u64(),
        error: if check.ok { None } else { text("error").or_else(|| Some(check.text.clone())) },
        warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}
