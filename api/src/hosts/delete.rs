//! `DELETE /v1/segments/{uuid}/hosts/{uuid}`: 204; 403, 404, 409 under recovery. Its reports and moves stay.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use halberd_core::audit::Entry;
use halberd_core::bus::Action;
use halberd_core::id::{HostId, SegmentId};
use halberd_store::{hosts, segments, write};
use http::StatusCode;
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::Place;
use crate::refused;

pub(crate) async fn delete(State(app): State<App>, caller: Caller, place: Place) -> ApiResult<Response> {
    caller.may("os_masakari_api:os-hosts:delete")?;
    let segment: SegmentId = place.uuid("segment")?.into();
    let id: HostId = place.uuid("host")?.into();
    let now = app.now();
    let done = write(&app.db, async |tx| {
        segments::get(&mut *tx, segment).await?;
        let old = super::of_segment(&mut *tx, id, segment).await?.value;
        hosts::delete(tx, id, now).await?;
        let text = format!("{} deleted host {}", caller.actor(), old.name);
        let detail = json!({ "host": old, "request": caller.request_id.as_str() });
        app.audit(tx, Entry::new("host_deleted", text, detail), now).await
    })
    .await;
    if let Err(error) = done {
        let old = super::of_segment(&app.db, id, segment).await?;
        return Err(refused::host(&app, Action::Delete, &old.value, Some(old.row()), error).await);
    }
    app.nudge();
    Ok(StatusCode::NO_CONTENT.into_response())
}
