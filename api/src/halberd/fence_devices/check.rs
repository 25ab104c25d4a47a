//! `POST /hosts/{uuid}/fence-devices/check`: check them now. A wish, since only the engine may open and use them.

use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::id::HostId;
use halberd_store::hosts;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{Wish, WishKind};
use serde_json::json;

use super::must_have;
use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record};
use crate::{App, Caller};

/// Has each fence device of a host reached, logged into and read now; the wish tells the end, GET shows the result.
#[utoipa::path(
    post, path = "/hosts/{uuid}/fence-devices/check", operation_id = "check_fence_devices", tag = "fence devices",
    params(("uuid" = Uuid, Path, description = "The host.")),
    responses(
        (status = 202, description = "The wish was recorded; an engine does it.", body = Wish),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "The host has no fence device.", body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
    body: Bytes,
) -> Result<Accepted, Failure> {
    door::require(&caller, "halberd:fence_devices:check")?;
    let (db, id) = (door::db(&app), input::id::<HostId>(&uuid)?);
    let host = hosts::get(db, id).await?;
    must_have(db, &host).await?;
    let mut body = input::json(&body)?;
    if body.as_object().is_some_and(serde_json::Map::is_empty) {
        // Looking needs no reason; where one is given it is kept.
        body = json!({ "reason": "asked for" });
    }
    record(&app, &caller, WishKind::CheckDevices, About::Host(&host), &body).await
}
