//! `/metrics`: what was counted anywhere in the process, rendered by our own route on the API's listener.
//!
//! Counters are raised where things happen, by name. What stands in the database is read when asked: open recoveries, what the outbox holds.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use halberd_api::{EngineWatch, Life};
use halberd_store::deliveries::DeliveryState;
use halberd_store::engines::EngineRow;
use halberd_store::{Db, bus, deliveries, engines, recoveries};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From a commit on a fast disk to one that makes engines stop acting.
const SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Kinds of recoveries, so that a kind with none open shows a zero.
const KINDS: [&str; 4] = ["host", "instance", "process", "return"];
/// An outbox with more than this is in trouble however much more it is.
const PENDING_COUNTED: u32 = 10_000;

/// Installs the recorder, once per process, and names what we count.
pub fn install() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder (a test's) keeps what it has; ours then renders nothing but gauges of its own.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

fn describe() {
    describe_counter!("halberd_api_requests_total", "Requests answered, by area, method and status");
    describe_histogram!("halberd_api_request_seconds", Unit::Seconds, "Time to an answer");
    describe_gauge!("halberd_api_connections", "Connections of clients");
    describe_counter!(
        "halberd_api_connections_ended_total",
        "Connections ended before their client wanted, by why"
    );
    describe_gauge!("halberd_api_certificate_end_seconds", Unit::Seconds, "End of tls_cert, since 1970");
    describe_counter!("halberd_beats_total", "Heartbeats taken");
    describe_counter!("halberd_beats_dropped_total", "Datagrams that were no heartbeat of ours, by reason");
    describe_counter!("halberd_effects_total", "Deeds sent out, by kind");
    describe_histogram!("halberd_commit_seconds", Unit::Seconds, "Time of a recovery's commit");
    describe_gauge!("halberd_reconcile_only", "Whether the engine does nothing, as the database was rewound");
    describe_gauge!("halberd_high_water_file_failing", "Whether the high-water file cannot be written");
    describe_gauge!("halberd_recoveries_open", "Recoveries that are not closed");
    describe_gauge!("halberd_engine_up", "Whether the engine's lease counter moves, as this process sees it");
    describe_gauge!("halberd_engine_lag_seconds", Unit::Seconds, "How late the engine's worst timer was");
    describe_gauge!("halberd_engine_round_trip_seconds", Unit::Seconds, "Time of its lease's renewal");
    describe_gauge!("halberd_engine_outbox_age_seconds", Unit::Seconds, "Age of the oldest delivery");
    describe_gauge!("halberd_engine_bus_age_seconds", Unit::Seconds, "Age of the oldest bus message");
    describe_gauge!("halberd_engine_beats_per_second", "Heartbeats that the engine takes");
    describe_gauge!("halberd_engine_recoveries", "Open recoveries that the engine holds");
    describe_gauge!("halberd_engine_acts", "Whether the engine may fence");
    describe_gauge!("halberd_outbox_pending", "Webhook deliveries that wait");
    describe_gauge!("halberd_bus_waiting", "Messages that wait for the message bus");
    describe_gauge!("halberd_bus_connected", "Whether the message bus is connected");
    describe_counter!("halberd_bus_messages_total", "Messages sent to the message bus, by outcome");
    describe_counter!("halberd_bus_dropped_total", "Messages dropped because too many waited");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Resident memory");
}

/// How many recoveries' commits there were in this process, and their seconds together.
pub(crate) fn commits() -> (f64, f64) {
    let text = install().render();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or(0.0)
    };
    (of("halberd_commit_seconds_count"), of("halberd_commit_seconds_sum"))
}

/// The route. Unauthenticated, as scrapers expect; it shows counts, and no names but those of engines, services and webhooks.
pub fn routes(db: Db) -> Router {
    let state = (db, Arc::new(EngineWatch::default()));
    Router::new().route("/metrics", get(show)).with_state(state)
}

async fn show(State((db, watch)): State<(Db, Arc<EngineWatch>)>) -> Response {
    let handle = install();
    if let (Ok(rows), Ok(holders)) = (engines::list(&db).await, recoveries::holders(&db).await) {
        let lives = watch.lives(&rows, Instant::now());
        for (row, life) in rows.iter().zip(lives) {
            let held = holders.iter().filter(|holder| holder.owner == Some(row.id)).count();
            show_engine(row, life, held);
        }
    }
    if let Ok(open) = recoveries::count_open(&db).await {
        for kind in KINDS {
            let count = open.iter().find(|(word, _)| word == kind).map_or(0, |(_, count)| *count);
            metrics::gauge!("halberd_recoveries_open", "kind" => kind).set(count as f64);
        }
    }
    if let Ok(pending) = deliveries::list(&db, None, Some(DeliveryState::Pending), PENDING_COUNTED).await {
        metrics::gauge!("halberd_outbox_pending").set(pending.len() as f64);
    }
    if db.speaks_on_bus() {
        if let Ok(waiting) = bus::waiting(&db).await {
            metrics::gauge!("halberd_bus_waiting").set(waiting as f64);
        }
        if let Ok(dropped) = bus::dropped(&db).await {
            metrics::counter!("halberd_bus_dropped_total").absolute(u64::try_from(dropped).unwrap_or(0));
        }
    }
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    handle.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}

/// What an engine says of itself, with what this process sees of it. One that stopped, or stands, has no figures.
fn show_engine(row: &EngineRow, life: Life, held: usize) {
    let set = |name: &'static str, value: f64| metrics::gauge!(name, "engine" => row.name.clone()).set(value);
    let lives = matches!(life, Life::Moves | Life::Unknown);
    // One that stopped gracefully is not missed.
    set("halberd_engine_up", if life == Life::Stopped { f64::NAN } else { f64::from(u8::from(lives)) });
    let detail = &row.detail;
    let figure = |member: &str| detail[member].as_f64().filter(|_| lives);
    let seconds = |member: &str, none: f64| {
        figure(member).map_or(if lives { none } else { f64::NAN }, |ms| ms / 1_000.0)
    };
    set("halberd_engine_lag_seconds", seconds("lag_ms", f64::NAN));
    set("halberd_engine_round_trip_seconds", seconds("round_trip_ms", f64::NAN));
    set("halberd_engine_outbox_age_seconds", seconds("outbox_age_ms", 0.0));
    set("halberd_engine_bus_age_seconds", seconds("bus_age_ms", 0.0));
    set("halberd_engine_beats_per_second", figure("beats_per_second").unwrap_or(f64::NAN));
    set("halberd_engine_recoveries", held as f64);
    let acts = lives && detail["state"] == "active" && detail["disarmed"].is_null();
    set("halberd_engine_acts", f64::from(u8::from(acts)));
}

/// Resident memory of this process.
pub fn resident_bytes() -> Option<u64> {
    resident_bytes_of("self")
}

/// Resident memory of a process, by its id or `self`.
pub fn resident_bytes_of(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1_024)
}
