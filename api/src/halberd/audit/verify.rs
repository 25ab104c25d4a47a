//! `GET /audit/verify`: whether anybody changed the record.

use axum::Json;
use axum::extract::State;
use halberd_store::audit;
use halberd_types::halberd::audit::AuditVerification;
use halberd_types::halberd::problem::Problem;

use crate::halberd::door;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Checks every chain against itself, its head and the last checkpoint.
#[utoipa::path(
    get, path = "/audit/verify", operation_id = "verify_audit", tag = "audit",
    responses((status = 200, body = AuditVerification), (status = 403, body = Problem)),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<AuditVerification>, Failure> {
    door::require(&caller, "halberd:audit:verify")?;
    let db = door::db(&app);
    let heads = audit::heads(db).await?;
    let broken: Vec<String> = audit::verify(db).await?.iter().map(ToString::to_string).collect();
    Ok(Json(AuditVerification {
        intact: broken.is_empty(),
        chains: heads.len() as u64,
        records: heads.values().map(|(sequence, _)| u64::try_from(*sequence).unwrap_or(0)).sum(),
        broken,
    }))
}
