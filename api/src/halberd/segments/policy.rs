//! `GET` and `PUT /segments/{uuid}/policy`: what a segment overrides.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::audit::Entry;
use halberd_core::id::SegmentId;
use halberd_store::{audit, segments, write};
use halberd_types::halberd::policy::{SegmentPolicy, Unfenced};
use halberd_types::halberd::problem::Problem;
use serde_json::json;

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// What a segment sets itself; the rest it inherits from the configuration.
#[utoipa::path(
    get, path = "/segments/{uuid}/policy", operation_id = "show_segment_policy", tag = "segments",
    params(("uuid" = Uuid, Path, description = "The segment.")),
    responses(
        (status = 200, body = SegmentPolicy),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
) -> Result<Json<SegmentPolicy>, Failure> {
    door::require(&caller, "halberd:segment_policy:detail")?;
    let (db, id) = (door::db(&app), input::id::<SegmentId>(&uuid)?);
    segments::get(db, id).await?;
    let stored = segments::policy(db, id).await?;
    let policy = serde_json::from_value(stored).map_err(|error| Failure::internal(&error))?;
    Ok(Json(policy))
}

/// Replaces what a segment sets itself. To believe reporters about hosts that nobody can fence takes an admin.
#[utoipa::path(
    put, path = "/segments/{uuid}/policy", operation_id = "set_segment_policy", tag = "segments",
    params(("uuid" = Uuid, Path, description = "The segment.")),
    request_body = SegmentPolicy,
    responses(
        (status = 200, body = SegmentPolicy),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
    body: Bytes,
) -> Result<Json<SegmentPolicy>, Failure> {
    door::require(&caller, "halberd:segment_policy:update")?;
    let id = input::id::<SegmentId>(&uuid)?;
    let policy = SegmentPolicy::parse(&input::json(&body)?)?;
    if policy.unfenced == Some(Unfenced::TrustReporter) {
        door::require(&caller, "halberd:segment_policy:trust_reporter")?;
    }
    let stored = json!(policy);
    let (now, chain, actor) = (door::now(&app), door::chain(&app), door::actor(&caller));
    write(door::db(&app), async |tx| {
        let segment = segments::get(&mut *tx, id).await?;
        segments::set_policy(tx, id, &stored, now).await?;
        let text = format!("{actor} set the policy of segment {}", segment.name);
        let detail = json!({ "segment": id, "actor": actor, "policy": stored });
        audit::append(tx, &chain, 0, &[Entry::new("segment_policy_set", text, detail)], now).await
    })
    .await?;
    door::nudge(&app);
    Ok(Json(policy))
}
