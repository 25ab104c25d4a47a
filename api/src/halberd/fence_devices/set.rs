//! `PUT /hosts/{uuid}/fence-devices`: how a host is turned off. What was set is checked at once, by an engine: a wish recorded in the same
//! transaction.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::audit::Entry;
use halberd_core::id::HostId;
use halberd_store::{audit, fence_devices, hosts, write};
use halberd_types::halberd::fence_device::{FenceDevices, FenceDevicesSchema, FenceDevicesView};
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::WishKind;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{self, About};
use crate::{App, Caller};

/// Replaces the fence devices of a host; no levels removes them. Secrets are sealed, and shown to nobody again. The wish named in `check` has
/// an engine check them now.
#[utoipa::path(
    put, path = "/hosts/{uuid}/fence-devices", operation_id = "set_fence_devices", tag = "fence devices",
    params(("uuid" = Uuid, Path, description = "The host.")),
    request_body = FenceDevicesSchema,
    responses(
        (status = 200, description = "The devices as GET shows them, and in `check` the wish that checks them.", body = FenceDevicesView),
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
    let (now, chain, actor, sealer) =
        (door::now(&app), door::chain(&app), door::actor(&caller), door::sealer(&app));
    let check = write(door::db(&app), async |tx| {
        let host = hosts::get(&mut *tx, id).await?;
        let what = if devices.is_empty() {
            fence_devices::remove(tx, id).await?;
            "removed"
        } else {
            fence_devices::set(tx, sealer, id, &levels, &devices.masked(), now).await?;
            "set"
        };
        let text = format!("{actor} {what} the fence devices of {}", host.name);
        let detail = json!({ "host": id, "actor": actor, "devices": devices.masked() });
        audit::append(tx, &chain, 0, &[Entry::new("fence_devices_set", text, detail)], now).await?;
        if devices.is_empty() {
            return Ok(None);
        }
        // Whoever sets a device learns now, and not in the night it is needed, whether it could fence.
        let about = About::Host(&host);
        let wish = wishes::new(WishKind::CheckDevices, about, actor.clone(), format!("set by {actor}"));
        wishes::insert(tx, &chain, &wish, about, now).await?;
        Ok(Some(wish.id.0))
    })
    .await?;
    door::nudge(&app);
    Ok(Json(FenceDevicesView { check, ..super::view(door::db(&app), id).await? }))
}
