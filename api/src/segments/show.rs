//! `GET /v1/segments/{uuid}`: 200; 403, 404.

use axum::extract::State;
use axum::response::Response;
use halberd_store::segments;
use halberd_types::v1::segment::ITEM;
use http::StatusCode;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::Place;

pub(crate) async fn show(State(app): State<App>, caller: Caller, place: Place) -> ApiResult<Response> {
    caller.may("os_masakari_api:segments:detail")?;
    let stored = segments::get(&app.db, place.uuid("segment")?.into()).await?;
    Ok(answer::one(StatusCode::OK, ITEM, &super::shown(&stored)))
}
