//! `GET /engines`: who works on this database.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use halberd_core::id::EngineId;
use halberd_store::engines::{self, EngineRow};
use halberd_store::recoveries;
use halberd_types::halberd::Page;
use halberd_types::halberd::engine::{EngineState, EngineView};
use halberd_types::halberd::problem::Problem;

use crate::halberd::door;
use crate::halberd::input::time;
use crate::halberd::problem::Failure;
use crate::health::Life;
use crate::{App, Caller};

/// Every engine that registered, by name.
#[utoipa::path(
    get, path = "/engines", operation_id = "list_engines", tag = "site",
    responses((status = 200, body = Page<EngineView>), (status = 403, body = Problem)),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Page<EngineView>>, Failure> {
    door::require(&caller, "halberd:engines:index")?;
    let db = door::db(&app);
    let holders = recoveries::holders(db).await?;
    let held = |row: &EngineRow| holders.iter().filter(|holder| holder.owner == Some(row.id)).count() as u64;
    let rows = engines::list(db).await?;
    let lives = app.engines.lives(&rows, Instant::now());
    let items = rows.iter().zip(lives).map(|(row, life)| shown(row, held(row), life)).collect();
    Ok(Json(Page { items, next: None }))
}

fn shown(row: &EngineRow, recoveries: u64, life: Life) -> EngineView {
    let detail = &row.detail;
    let text = |member: &str| detail[member].as_str().map(str::to_owned);
    let number = |member: &str| detail[member].as_u64();
    EngineView {
        id: row.id.0,
        name: row.name.clone(),
        state: match life {
            Life::Unknown => EngineState::Unknown,
            Life::Stands => EngineState::Silent,
            Life::Stopped => EngineState::Stopped,
            Life::Moves => own_word(row),
        },
        epoch: row.counter,
        version: text("version").unwrap_or_default(),
        started_at: time(row.started_at),
        renewed_at: Some(time(row.renewed_at)),
        recoveries,
        reason: text("reason"),
        lag_ms: number("lag_ms"),
        round_trip_ms: number("round_trip_ms"),
        outbox_age_ms: number("outbox_age_ms"),
        bus_age_ms: number("bus_age_ms"),
        beats_per_second: detail["beats_per_second"].as_f64(),
        disarmed: text("disarmed"),
        workflow: number("workflow"),
        schema: detail["schema"].as_i64(),
    }
}

/// Engines whose lease counter moves, on this process' own clock; the stored times are for display.
pub(crate) fn alive(app: &App, rows: &[EngineRow]) -> Vec<EngineId> {
    app.engines.alive(rows, Instant::now()).iter().map(|row| row.id).collect()
}

/// The engine's own word, as long as it moves.
pub(crate) fn state(row: &EngineRow, alive: &[EngineId]) -> EngineState {
    if row.stopped_at.is_some() {
        return EngineState::Stopped;
    }
    if !alive.contains(&row.id) {
        return EngineState::Silent;
    }
    own_word(row)
}

fn own_word(row: &EngineRow) -> EngineState {
    serde_json::from_value(row.detail["state"].clone()).unwrap_or(EngineState::Active)
}
