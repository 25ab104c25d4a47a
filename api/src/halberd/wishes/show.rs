//! `GET /wishes/{id}`: what became of a wish.

use axum::Json;
use axum::extract::{Path, State};
use halberd_core::id::WishId;
use halberd_store::wishes;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::Wish;

use super::shown;
use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// A wish and its answer.
#[utoipa::path(
    get, path = "/wishes/{id}", operation_id = "show_wish", tag = "wishes",
    params(("id" = Uuid, Path, description = "The wish.")),
    responses(
        (status = 200, body = Wish),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Wish>, Failure> {
    door::require(&caller, "halberd:wishes:detail")?;
    let row = wishes::get(door::db(&app), input::id::<WishId>(&id)?).await?;
    Ok(Json(shown(&row)?))
}
