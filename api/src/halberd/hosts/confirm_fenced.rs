//! `POST /hosts/{uuid}/confirm-fenced`: state that a host is off, naming the serial of the machine one stood before.

use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::id::HostId;
use halberd_store::hosts;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{ConfirmFencedRequest, Wish, WishKind};

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record};
use crate::{App, Caller};

/// State that a host is off, naming the serial of the machine one stood before.
#[utoipa::path(
    post, path = "/hosts/{uuid}/confirm-fenced", operation_id = "confirm_fenced", tag = "hosts",
    params(("uuid" = Uuid, Path, description = "The host.")),
    request_body = ConfirmFencedRequest,
    responses(
        (status = 202, description = "The wish was recorded; an engine grants or refuses it.", body = Wish),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
    body: Bytes,
) -> Result<Accepted, Failure> {
    door::require(&caller, "halberd:hosts:confirm_fenced")?;
    let host = hosts::get(door::db(&app), input::id::<HostId>(&uuid)?).await?;
    record(&app, &caller, WishKind::ConfirmFenced, About::Host(&host), &input::json(&body)?).await
}
