//! `GET /recoveries/{id}`: one recovery in full.

use axum::Json;
use axum::extract::{Path, State};
use halberd_core::id::RecoveryId;
use halberd_core::recovery::Recovery;
use halberd_store::notifications::NotificationFilter;
use halberd_store::{Page as StorePage, audit, intents, notifications, recoveries, vmoves};
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::recovery::RecoveryDetail;
use uuid::Uuid;

use super::{engine_names, story, view};
use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// One recovery: its guests' moves, its calls, its proof, what it waits for and what may be asked of it.
#[utoipa::path(
    get, path = "/recoveries/{id}", operation_id = "show_recovery", tag = "recoveries",
    params(("id" = Uuid, Path, description = "The recovery.")),
    responses(
        (status = 200, body = RecoveryDetail),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RecoveryDetail>, Failure> {
    door::require(&caller, "halberd:recoveries:detail")?;
    let (db, id) = (door::db(&app), input::id::<RecoveryId>(&id)?);
    let recovery = recoveries::get(db, id).await?;
    let moves = vmoves::of_recovery(db, id).await?;
    let chain = audit::of_chain(db, &id.to_string()).await?;
    let calls = intents::of_recovery(db, id).await?;
    let reports = reports(&app, &recovery).await?;
    let mut summary = view::summary(&recovery, view::counts(&moves), &engine_names(db).await?);
    let (since, changed) = story::times(&recovery, &chain);
    summary.changed_at = Some(changed);
    if let Some(waiting) = &mut summary.waiting {
        waiting.since = Some(since);
    }
    Ok(Json(RecoveryDetail {
        recovery_method: Some(view::method(recovery.method)),
        notifications: reports,
        verdict: story::verdict(&recovery, &chain),
        proof: story::proof(&recovery, &chain),
        moves: moves.iter().map(view::guest_move).collect(),
        intents: calls.iter().map(|row| view::intent(row, &recovery, &moves)).collect(),
        operator_may: view::operator_may(&recovery),
        summary,
    }))
}

/// A report that joined was made while the recovery was open, or an engine's poll before; this is far longer.
const JOINS_WITHIN: i64 = 300_000_000;

/// The report that opened it, and those that joined it.
async fn reports(app: &App, recovery: &Recovery) -> Result<Vec<Uuid>, Failure> {
    let db = door::db(app);
    let filter = NotificationFilter { host: Some(recovery.subject.host()), ..NotificationFilter::default() };
    let from = recovery.opened_at.0.saturating_sub(JOINS_WITHIN);
    let until = recovery.closed_at.map_or(i64::MAX, |at| at.0);
    // A drill has no report behind it: nobody said that anything failed.
    let mut reports = match notifications::get(db, recovery.notification).await {
        Ok(report) => vec![report.id.0],
        Err(halberd_store::Error::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for report in notifications::list(db, &filter, &StorePage::default()).await? {
        if report.id != recovery.notification
            && (from..=until).contains(&report.created_at.0)
            && notifications::recovery_of(db, report.id).await? == Some(recovery.id)
        {
            reports.push(report.id.0);
        }
    }
    Ok(reports)
}
