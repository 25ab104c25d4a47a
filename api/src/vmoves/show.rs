//! `GET /v1/notifications/{uuid}/vmoves/{uuid}`: 200; 400 for a notification about no host, 403, 404 for either or for a wrong pair.

use axum::extract::State;
use axum::response::Response;
use halberd_core::id::{NotificationId, VmoveId};
use halberd_store::{notifications, vmoves};
use halberd_types::v1::vmove::ITEM;
use http::StatusCode;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::input::Place;

pub(crate) async fn show(State(app): State<App>, caller: Caller, place: Place) -> ApiResult<Response> {
    caller.may("os_masakari_api:vmoves:detail")?;
    let id: NotificationId = place.uuid("notification")?.into();
    super::check_notification(&app.db, id).await?;
    let vmove: VmoveId = place.uuid("vmove")?.into();
    let stored = vmoves::get(&app.db, vmove).await?;
    if notifications::recovery_of(&app.db, id).await? != Some(stored.recovery) {
        return Err(ApiError::not_found(format!("vmove {vmove} of notification {id} could not be found")));
    }
    Ok(answer::one(StatusCode::OK, ITEM, &super::shown(&stored, id)))
}
