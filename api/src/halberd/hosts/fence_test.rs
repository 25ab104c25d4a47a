//! `POST /hosts/{uuid}/fence-test`: see whether a host could be fenced.

use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::id::HostId;
use halberd_store::hosts;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{FenceTestRequest, Wish, WishKind};
use serde_json::Map;

use crate::halberd::door;
use crate::halberd::fence_devices::must_have;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record_read};
use crate::{App, Caller};

/// Has a host's fence devices tried out. By default each is reached, logged into and read, and nothing is turned off; with `really_power_off`
/// the host is turned off, seen off and turned on again: a drill, which is a recovery of its own that can be followed.
#[utoipa::path(
    post, path = "/hosts/{uuid}/fence-test", operation_id = "test_fencing", tag = "hosts",
    params(("uuid" = Uuid, Path, description = "The host.")),
    request_body = FenceTestRequest,
    responses(
        (status = 202, description = "The wish was recorded; an engine grants or refuses it. Its kind is `check_devices`, or `drill` with `really_power_off`.", body = Wish),
        (status = 400, body = Problem),
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
    door::require(&caller, "halberd:hosts:drill")?;
    let db = door::db(&app);
    let host = hosts::get(db, input::id::<HostId>(&uuid)?).await?;
    let asked = FenceTestRequest::parse(&input::json(&body)?)?;
    must_have(db, &host).await?;
    let kind = if asked.really_power_off { WishKind::Drill } else { WishKind::CheckDevices };
    record_read(&app, &caller, kind, About::Host(&host), asked.reason, Map::new()).await
}
