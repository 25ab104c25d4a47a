//! `PUT /hosts/{uuid}/fence-devices`: how a host is turned off.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::audit::Entry;
use halberd_core::id::HostId;
use halberd_store::{audit, fence_devices, hosts, write};
use halberd_types::halberd::fence_device::{FenceDevices, FenceDevicesSchema, FenceDevicesView, MASK};
use halberd_types::halberd::problem::Problem;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Replaces the fence devices of a host; no levels removes them. Secrets are sealed, and shown to nobody again.
#[utoipa::path(
    put, path = "/hosts/{uuid}/fence-devices", operation_id = "set_fence_devices", tag = "fence devices",
    params(("uuid" = Uuid, Path, description = "The host.")),
    request_body = FenceDevicesSchema,
    responses(
        (status = 200, description = "The devices as GET shows them.", body = FenceDevicesView),
        (status = 400, description = "Names the place and the rule, never a secret.", body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
    body: Bytes,
) -> Result<Json<FenceDevicesView>, Failure> {
    door::require(&caller, "halberd:fence_devices:update")?;
    let id = input::id::<HostId>(&uuid)?;
    let devices = FenceDevices::parse(&input::json(&body)?)?;
    let levels: Value = serde_json::from_str(devices.to_sealable().expose_secret())
        .map_err(|_| Failure::bad_request("The devices cannot be written as JSON."))?;
    if let Some(key) = kept_open(&devices.masked(), &levels, &fence_devices::masked(&levels)) {
        let detail =
            format!("The value of '{key}' is a secret that would not be sealed; give it another way.");
        return Err(Failure::bad_request(detail));
    }
    let sealer = door::sealer(&app);
    let (now, chain, actor) = (door::now(&app), door::chain(&app), door::actor(&caller));
    write(door::db(&app), async |tx| {
        let host = hosts::get(&mut *tx, id).await?;
        let what = if devices.is_empty() {
            fence_devices::remove(tx, id).await?;
            "removed"
        } else {
            fence_devices::set(tx, sealer, id, &levels, now).await?;
            "set"
        };
        let text = format!("{actor} {what} the fence devices of {}", host.name);
        let detail = json!({ "host": id, "actor": actor, "devices": devices.masked() });
        audit::append(tx, &chain, 0, &[Entry::new("fence_devices_set", text, detail)], now).await
    })
    .await?;
    door::nudge(&app);
    Ok(Json(super::view(door::db(&app), id).await?))
}

/// The first key that we hold for a secret and whose value the store's own mask would leave in the open. The store cannot
/// name our list of such keys, so there are two, and the stricter wins.
fn kept_open<'v>(ours: &'v Value, given: &Value, stores: &Value) -> Option<&'v str> {
    match ours {
        Value::Object(fields) => fields.iter().find_map(|(key, ours)| {
            if *ours == MASK && given[key] == stores[key] {
                return Some(key.as_str());
            }
            kept_open(ours, &given[key], &stores[key])
        }),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, ours)| kept_open(ours, &given[i], &stores[i]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_one_mask_misses_is_named() {
        let given = json!({ "levels": [{ "a": "x", "secret": "s", "other_secret": "t" }] });
        let ours = json!({ "levels": [{ "a": "x", "secret": MASK, "other_secret": MASK }] });
        let both = json!({ "levels": [{ "a": "x", "secret": "***", "other_secret": "***" }] });
        let one = json!({ "levels": [{ "a": "x", "secret": "***", "other_secret": "t" }] });
        assert_eq!(kept_open(&ours, &given, &both), None);
        assert_eq!(kept_open(&ours, &given, &one), Some("other_secret"));
    }
}
