//! `POST /recoveries/{id}/release`: let a held recovery pass its brake.

use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::id::RecoveryId;
use halberd_store::recoveries;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{ReasonRequest, Wish, WishKind};

use super::must_be_open;
use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record};
use crate::{App, Caller};

/// Let a held recovery pass its brake.
#[utoipa::path(
    post, path = "/recoveries/{id}/release", operation_id = "release_recovery", tag = "recoveries",
    params(("id" = Uuid, Path, description = "The recovery.")),
    request_body = ReasonRequest,
    responses(
        (status = 202, description = "The wish was recorded; an engine grants or refuses it.", body = Wish),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "The recovery is closed.", body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Accepted, Failure> {
    door::require(&caller, "halberd:recoveries:release")?;
    let recovery = recoveries::get(door::db(&app), input::id::<RecoveryId>(&id)?).await?;
    must_be_open(&recovery)?;
    record(&app, &caller, WishKind::Release, About::Recovery(&recovery), &input::json(&body)?).await
}
