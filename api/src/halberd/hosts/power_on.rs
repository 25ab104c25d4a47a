//! `POST /hosts/{uuid}/power-on`: turn a host on that is out.

use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::id::HostId;
use halberd_store::hosts;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{ReasonRequest, Wish, WishKind};

use crate::halberd::door;
use crate::halberd::fence_devices::must_have;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record};
use crate::{App, Caller};

/// Turns a host on once it is drained: nothing of its recovery is under way any more. It returns as if it had been switched on by hand.
#[utoipa::path(
    post, path = "/hosts/{uuid}/power-on", operation_id = "power_on_host", tag = "hosts",
    params(("uuid" = Uuid, Path, description = "The host.")),
    request_body = ReasonRequest,
    responses(
        (status = 202, description = "The wish was recorded; an engine grants or refuses it.", body = Wish),
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
    door::require(&caller, "halberd:hosts:power_on")?;
    let db = door::db(&app);
    let host = hosts::get(db, input::id::<HostId>(&uuid)?).await?;
    let body = input::json(&body)?;
    must_have(db, &host).await?;
    record(&app, &caller, WishKind::PowerOn, About::Host(&host), &body).await
}
