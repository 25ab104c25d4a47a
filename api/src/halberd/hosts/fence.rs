//! `POST /hosts/{uuid}/fence`: turn a host off without a report, or ask what would be sent to which device.

use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::id::HostId;
use halberd_store::hosts;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{FenceRequest, Wish, WishKind};
use serde_json::{Map, json};

use crate::halberd::door;
use crate::halberd::fence_devices::must_have;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record_read};
use crate::{App, Caller};

/// Turns a host off, dead or alive, and has its guests rebuilt elsewhere. With `dry_run` nothing is turned off: its devices are checked, and
/// `would` of each, in `GET .../fence-devices`, is what an off would send through it.
#[utoipa::path(
    post, path = "/hosts/{uuid}/fence", operation_id = "fence_host", tag = "hosts",
    params(("uuid" = Uuid, Path, description = "The host.")),
    request_body = FenceRequest,
    responses(
        (status = 202, description = "The wish was recorded; an engine grants or refuses it. With `dry_run` its kind is `check_devices`, and its answer says what would be asked of which device.", body = Wish),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "The host has no fence device to be asked (`dry_run`).", body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
    body: Bytes,
) -> Result<Accepted, Failure> {
    door::require(&caller, "halberd:hosts:fence")?;
    let db = door::db(&app);
    let host = hosts::get(db, input::id::<HostId>(&uuid)?).await?;
    let asked = FenceRequest::parse(&input::json(&body)?)?;
    if !asked.dry_run {
        return record_read(&app, &caller, WishKind::Fence, About::Host(&host), asked.reason, Map::new())
            .await;
    }
    must_have(db, &host).await?;
    let dry = Map::from_iter([("dry_run".to_owned(), json!(true))]);
    record_read(&app, &caller, WishKind::CheckDevices, About::Host(&host), asked.reason, dry).await
}
