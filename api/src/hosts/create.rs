//! `POST /v1/segments/{uuid}/hosts`: 201; 400 schema, 403, 404 segment, 400 unknown to Nova, 409 name in use in any segment; 503 when
//! Nova cannot be asked (the original: 500).

use axum::extract::State;
use axum::response::Response;
use halberd_core::audit::Entry;
use halberd_core::bus::Action;
use halberd_core::host::{Host, Maintenance};
use halberd_core::id::{HostId, SegmentId};
use halberd_store::{hosts, segments, write};
use halberd_types::v1::host::{Create, ITEM};
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::{Body, Place};
use crate::refused;

pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    place: Place,
    Body(body): Body,
) -> ApiResult<Response> {
    let wanted = Create::parse(&body)?;
    caller.may("os_masakari_api:os-hosts:create")?;
    let segment = segments::get(&app.db, place.uuid("segment")?.into()).await?;
    super::check_in_nova(&app, &caller, &wanted.name).await?;
    let host = fresh(segment.id, wanted);
    let now = app.now();
    let done = write(&app.db, async |tx| {
        let stored = hosts::create(tx, &host, now).await?;
        let text = format!("{} created host {}", caller.actor(), host.name);
        let detail = json!({ "host": host, "request": caller.request_id.as_str() });
        app.audit(tx, Entry::new("host_created", text, detail), now).await?;
        Ok(stored)
    })
    .await;
    let stored = match done {
        Ok(stored) => stored,
        Err(error) => return Err(refused::host(&app, Action::Create, &host, None, error).await),
    };
    app.nudge();
    Ok(answer::one(StatusCode::CREATED, ITEM, &super::shown(&stored, &segment)))
}

/// As nobody has seen it yet: in, on boot 0, without an agent.
fn fresh(segment: SegmentId, wanted: Create) -> Host {
    Host {
        kind: wanted.host_type,
        control_attributes: wanted.control_attributes,
        reserved: wanted.reserved,
        maintenance: Maintenance { operator: wanted.on_maintenance, ..Maintenance::default() },
        ..Host::new(HostId(Uuid::new_v4()), segment, wanted.name)
    }
}
