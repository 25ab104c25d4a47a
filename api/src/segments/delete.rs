//! `DELETE /v1/segments/{uuid}`: 204, its hosts go with it; 403, 404, 409 under recovery.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use halberd_core::audit::Entry;
use halberd_core::bus::Action;
use halberd_store::{segments, write};
use http::StatusCode;
use serde_json::json;

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::Place;
use crate::refused;

pub(crate) async fn delete(State(app): State<App>, caller: Caller, place: Place) -> ApiResult<Response> {
    caller.may("os_masakari_api:segments:delete")?;
    let id = place.uuid("segment")?.into();
    let now = app.now();
    let done = write(&app.db, async |tx| {
        let old = segments::get(&mut *tx, id).await?.value;
        segments::delete(tx, id, now).await?;
        let text = format!("{} deleted segment {}", caller.actor(), old.name);
        let detail = json!({ "segment": old, "request": caller.request_id.as_str() });
        app.audit(tx, Entry::new("segment_deleted", text, detail), now).await
    })
    .await;
    if let Err(error) = done {
        let old = segments::get(&app.db, id).await?;
        return Err(refused::segment(&app, Action::Delete, &old.value, Some(old.row()), error).await);
    }
    app.nudge();
    Ok(StatusCode::NO_CONTENT.into_response())
}
