//! `PUT /v1/segments/{uuid}`: 200; 400 schema, 403, 404, 409 name in use or, when it is to be disabled, under recovery.
//!
//! One stuck report froze every edit of the original's segment (W17). Here only what would pull the ground from under a recovery waits for
//! it: disabling, and deletion (DESIGN 10.9). A recovery goes by the policy and method it began with.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use halberd_core::audit::Entry;
use halberd_core::bus::Action;
use halberd_core::segment::Segment;
use halberd_store::{hosts, segments, write};
use halberd_types::v1::microversion::Microversion;
use halberd_types::v1::segment::{ITEM, Update};
use http::StatusCode;
use serde_json::json;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::{Body, Place};
use crate::refused;

pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Extension(version): Extension<Microversion>,
    place: Place,
    Body(body): Body,
) -> ApiResult<Response> {
    let wanted = Update::parse(&body, version)?;
    caller.may("os_masakari_api:segments:update")?;
    let id = place.uuid("segment")?.into();
    let now = app.now();
    let done = write(&app.db, async |tx| {
        let old = segments::get(&mut *tx, id).await?.value;
        let new = changed(&old, &wanted);
        if old.enabled && !new.enabled {
            hosts::check_segment_free(&mut *tx, id).await?;
        }
        let stored = segments::update(tx, &new, now).await?;
        let text = format!("{} changed segment {}", caller.actor(), old.name);
        let detail = json!({ "before": old, "after": new, "request": caller.request_id.as_str() });
        app.audit(tx, Entry::new("segment_changed", text, detail), now).await?;
        Ok(stored)
    })
    .await;
    let stored = match done {
        Ok(stored) => stored,
        Err(error) => {
            let old = segments::get(&app.db, id).await?;
            let wanted = changed(&old, &wanted);
            return Err(refused::segment(&app, Action::Update, &wanted, Some(old.row()), error).await);
        }
    };
    app.nudge();
    Ok(answer::one(StatusCode::OK, ITEM, &super::shown(&stored)))
}

fn changed(old: &Segment, wanted: &Update) -> Segment {
    let wanted = wanted.clone();
    Segment {
        id: old.id,
        name: wanted.name.unwrap_or_else(|| old.name.clone()),
        description: wanted.description.unwrap_or_else(|| old.description.clone()),
        service_type: wanted.service_type.unwrap_or_else(|| old.service_type.clone()),
        recovery_method: wanted.recovery_method.map_or(old.recovery_method, super::method),
        enabled: wanted.enabled.unwrap_or(old.enabled),
    }
}
