//! `GET /recoveries/{id}/explain`: why things happened, or did not.

use axum::Json;
use axum::extract::{Path, State};
use halberd_core::id::RecoveryId;
use halberd_core::recovery::Recovery;
use halberd_store::{audit, evidence, intents, notifications, recoveries, vmoves, wishes};
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::recovery::{Explain, TimelineEntry};

use super::{engine_names, story, view};
use crate::halberd::door;
use crate::halberd::input::{self, time};
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Newest pieces of evidence and newest wishes that are searched for this recovery's.
const SEARCHED: u32 = 1000;

/// The time line of a recovery with its gates, its evidence, its calls, and a note that replays the verdict.
#[utoipa::path(
    get, path = "/recoveries/{id}/explain", operation_id = "explain_recovery", tag = "recoveries",
    params(("id" = Uuid, Path, description = "The recovery.")),
    responses(
        (status = 200, body = Explain),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Explain>, Failure> {
    door::require(&caller, "halberd:recoveries:explain")?;
    let (db, id) = (door::db(&app), input::id::<RecoveryId>(&id)?);
    let recovery = recoveries::get(db, id).await?;
    let moves = vmoves::of_recovery(db, id).await?;
    let chain = audit::of_chain(db, &id.to_string()).await?;
    let calls = intents::of_recovery(db, id).await?;
    let calls: Vec<_> = calls.iter().map(|row| view::intent(row, &recovery, &moves)).collect();
    let mut timeline = begun(&app, &recovery).await?;
    timeline.extend(story::of_chain(&chain));
    timeline
        .extend(story::of_evidence(&evidence::list(db, recovery.subject.host(), SEARCHED).await?, &recovery));
    timeline.extend(story::of_calls(&calls));
    timeline.extend(story::of_wishes(&wishes::list(db, SEARCHED).await?, &recovery));
    // Stable: of one instant, the report stands before the record it led to, and that before its calls.
    timeline.sort_by_key(|entry| entry.at);
    let mut summary = view::summary(&recovery, view::counts(&moves), &engine_names(db).await?);
    summary.changed_at = Some(story::times(&recovery, &chain).1);
    Ok(Json(Explain {
        recovery: summary,
        timeline,
        gates: story::gates(&chain),
        guests: moves.iter().map(view::guest_move).collect(),
        calls,
        replay: story::replay(&recovery, &chain),
    }))
}

/// The report it answers; a return has none of its own.
async fn begun(app: &App, recovery: &Recovery) -> Result<Vec<TimelineEntry>, Failure> {
    let report = match notifications::get(door::db(app), recovery.notification).await {
        Ok(report) => report,
        Err(halberd_store::Error::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let said: Vec<String> = report.payload.iter().map(|(key, value)| format!("{key} {value}")).collect();
    Ok(vec![TimelineEntry {
        at: time(report.created_at),
        what: "notification_received".to_owned(),
        detail: format!(
            "{} of {} by {}: {}",
            report.kind,
            recovery.host_name,
            report.origin,
            said.join(", ")
        ),
        evidence: Vec::new(),
    }])
}
