//! `POST /v1/segments`: 201; 400 schema, 403, 409 name in use.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use halberd_core::audit::Entry;
use halberd_core::bus::Action;
use halberd_core::id::SegmentId;
use halberd_core::segment::Segment;
use halberd_store::{segments, write};
use halberd_types::v1::microversion::Microversion;
use halberd_types::v1::segment::{Create, ITEM};
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::Body;
use crate::refused;

pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Extension(version): Extension<Microversion>,
    Body(body): Body,
) -> ApiResult<Response> {
    let wanted = Create::parse(&body, version)?;
    caller.may("os_masakari_api:segments:create")?;
    let segment = Segment {
        id: SegmentId(Uuid::new_v4()),
        name: wanted.name,
        description: wanted.description,
        service_type: wanted.service_type,
        recovery_method: super::method(wanted.recovery_method),
        enabled: wanted.enabled,
    };
    let now = app.now();
    let done = write(&app.db, async |tx| {
        let stored = segments::create(tx, &segment, now).await?;
        let text = format!("{} created segment {}", caller.actor(), segment.name);
        let detail = json!({ "segment": segment, "request": caller.request_id.as_str() });
        app.audit(tx, Entry::new("segment_created", text, detail), now).await?;
        Ok(stored)
    })
    .await;
    let stored = match done {
        Ok(stored) => stored,
        Err(error) => return Err(refused::segment(&app, Action::Create, &segment, None, error).await),
    };
    app.nudge();
    Ok(answer::one(StatusCode::CREATED, ITEM, &super::shown(&stored)))
}
