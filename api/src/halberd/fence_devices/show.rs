//! `GET /hosts/{uuid}/fence-devices`: how a host would be turned off, and whether that would work.

use axum::Json;
use axum::extract::{Path, State};
use halberd_core::id::HostId;
use halberd_store::hosts;
use halberd_types::halberd::fence_device::FenceDevicesView;
use halberd_types::halberd::problem::Problem;

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// The fence devices of a host, secrets masked, each with its last check.
#[utoipa::path(
    get, path = "/hosts/{uuid}/fence-devices", operation_id = "show_fence_devices", tag = "fence devices",
    params(("uuid" = Uuid, Path, description = "The host.")),
    responses(
        (status = 200, body = FenceDevicesView),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
) -> Result<Json<FenceDevicesView>, Failure> {
    door::require(&caller, "halberd:fence_devices:detail")?;
    let (db, id) = (door::db(&app), input::id::<HostId>(&uuid)?);
    hosts::get(db, id).await?;
    Ok(Json(super::view(db, id).await?))
}
