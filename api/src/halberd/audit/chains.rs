//! `GET /audit/chains`: the head of every chain, to be kept elsewhere: who cuts a chain later is found by it.

use axum::Json;
use axum::extract::State;
use halberd_store::audit;
use halberd_types::halberd::Page;
use halberd_types::halberd::audit::AuditHead;
use halberd_types::halberd::problem::Problem;

use crate::halberd::door;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// The newest record of every chain.
#[utoipa::path(
    get, path = "/audit/chains", operation_id = "list_audit_chains", tag = "audit",
    responses((status = 200, body = Page<AuditHead>), (status = 403, body = Problem)),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Page<AuditHead>>, Failure> {
    door::require(&caller, "halberd:audit:chains")?;
    let heads = audit::heads(door::db(&app)).await?;
    let items =
        heads.into_iter().map(|(chain, (sequence, hash))| AuditHead { chain, sequence, hash }).collect();
    Ok(Json(Page { items, next: None }))
}
