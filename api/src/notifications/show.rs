//! `GET /v1/notifications/{uuid}`: 200; 403, 404. With `recovery_workflow_details` from 1.1 on.
//!
//! Answered from the database alone: the original asked an engine over the bus and answered 500 when there was none, or when the host
//! had been deleted (W25).

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use halberd_core::notification::Notification;
use halberd_store::{Db, Error, audit, notifications, recoveries, vmoves};
use halberd_types::v1::microversion::Microversion;
use halberd_types::v1::notification::{ITEM, NotificationDetail};
use halberd_types::v1::workflow::WorkflowTask;
use http::StatusCode;

use super::workflow::tasks;
use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::Place;

pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Extension(version): Extension<Microversion>,
    place: Place,
) -> ApiResult<Response> {
    caller.may("os_masakari_api:notifications:detail")?;
    let stored = notifications::get(&app.db, place.uuid("notification")?.into()).await?;
    let recovery_workflow_details =
        if version.shows_recovery_details() { Some(details(&app.db, &stored.value).await?) } else { None };
    let detail = NotificationDetail { notification: super::shown(&stored), recovery_workflow_details };
    Ok(answer::one(StatusCode::OK, ITEM, &detail))
}

/// Empty for a report that led to nothing.
async fn details(db: &Db, report: &Notification) -> ApiResult<Vec<WorkflowTask>> {
    let Some(id) = notifications::recovery_of(db, report.id).await? else { return Ok(Vec::new()) };
    let recovery = match recoveries::get(db, id).await {
        // Retention took the recovery and left its report.
        Err(Error::NotFound { .. }) => return Ok(Vec::new()),
        found => found?,
    };
    let moves = vmoves::of_recovery(db, id).await?;
    let story = audit::of_recovery(db, id).await?;
    Ok(tasks(&recovery, &moves, &story))
}
