//! `GET /services`: the control plane under supervision.

use axum::Json;
use axum::extract::State;
use halberd_store::services::{self, ServiceRow};
use halberd_types::halberd::Page;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::service::{ServiceState, ServiceView};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::halberd::door;
use crate::halberd::input::time;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Every service that is watched, by name.
#[utoipa::path(
    get, path = "/services", operation_id = "list_services", tag = "site",
    responses((status = 200, body = Page<ServiceView>), (status = 403, body = Problem)),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Page<ServiceView>>, Failure> {
    door::require(&caller, "halberd:services:index")?;
    let rows = services::list(door::db(&app)).await?;
    Ok(Json(Page { items: rows.iter().map(shown).collect(), next: None }))
}

/// The probe's document has what the columns have not: `targets`, `action`, `last_probe`.
fn shown(row: &ServiceRow) -> ServiceView {
    ServiceView {
        name: row.name.clone(),
        kind: row.kind.clone(),
        state: state(&row.state),
        since: time(row.since),
        targets: part(&row.probe, "targets").unwrap_or_default(),
        last_probe: part(&row.probe, "last_probe").or(Some(time(row.updated_at))),
        reason: Some(row.reason.clone()).filter(|reason| !reason.is_empty()),
        action: part(&row.probe, "action"),
    }
}

fn part<T: DeserializeOwned>(probe: &Value, name: &str) -> Option<T> {
    probe.get(name).and_then(|value| serde_json::from_value(value.clone()).ok())
}

fn state(word: &str) -> ServiceState {
    match word {
        "up" => ServiceState::Up,
        "slow" => ServiceState::Slow,
        "down" => ServiceState::Down,
        _ => ServiceState::Unknown,
    }
}
