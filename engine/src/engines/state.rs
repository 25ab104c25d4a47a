//! What an engine says of itself with each renewal of its lease: how late its timers are, how long the database takes, what waits to be
//! sent, what it holds. Written into its own row with the renewal's own statement, so that it costs no transaction more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halberd_core::policy::Policy;
use halberd_core::recovery::WORKFLOW_VERSION;
use halberd_core::time::Mono;
use halberd_core::verdict::time_to_verdict;
use halberd_store::{bus, deliveries};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::shared::Shared;

/// A timer of this length is watched for being late. Short enough to see what a busy executor does to a beat, long enough to cost nothing.
const TICK: Duration = Duration::from_millis(50);

/// What is said, and what was measured since it was last said.
#[derive(Debug, Default)]
pub struct Saying {
    /// Said by others in this engine: `openstack`, ...
    members: Mutex<Map<String, Value>>,
    /// Worst lateness of a timer, in ms.
    late_ms: AtomicU64,
    beats: AtomicU64,
    /// Round trip of the last renewal, in ms.
    round_trip_ms: AtomicU64,
    since: Mutex<Option<Mono>>,
}

impl Saying {
    fn members(&self) -> MutexGuard<'_, Map<String, Value>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A named part, from now on.
    pub fn set(&self, member: &str, value: Value) {
        self.members().insert(member.to_owned(), value);
    }

    /// A beat was taken.
    pub fn heard(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub fn renewed_in(&self, round_trip: Duration) {
        let ms = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
        self.round_trip_ms.store(ms, Ordering::Relaxed);
    }

    fn late(&self, by: Duration) {
        self.late_ms.fetch_max(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was measured since the last time, which begins anew.
    fn measured(&self, now: Mono) -> (u64, f64, u64) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let span = since.replace(now).map(|since| now.since(since).as_secs_f64());
        let beats = self.beats.swap(0, Ordering::Relaxed);
        let late = self.late_ms.swap(0, Ordering::Relaxed);
        let per_second = span.filter(|span| *span > 0.0).map_or(0.0, |span| beats as f64 / span);
        (late, (per_second * 10.0).round() / 10.0, self.round_trip_ms.load(Ordering::Relaxed))
    }
}

/// Watches how late this engine's timers are, until it stops.
pub async fn watch_lateness(shared: Arc<Shared>) {
    loop {
        let due = clock::mono() + TICK;
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = shared.stop.cancelled() => return,
        }
        shared.engines.saying.late(clock::mono().since(due));
    }
}

/// Reads how old what waits to be sent is, until the engine stops. Apart from the renewal, which no slow read may hold up.
pub async fn watch_outbox(shared: Arc<Shared>) {
    while !shared.stop.is_cancelled() {
        let deliveries = deliveries::oldest_pending(&shared.db).await;
        let bus = match shared.db.speaks_on_bus() {
            true => bus::oldest(&shared.db).await,
            false => Ok(None),
        };
        for (member, oldest) in [("outbox_age_ms", deliveries), ("bus_age_ms", bus)] {
            let Ok(oldest) = oldest else { continue };
            let age_ms = oldest.map(|at| (clock::stamp().0 - at.0).max(0) / 1_000);
            shared.engines.saying.set(member, json!(age_ms));
        }
        tokio::select! {
            () = tokio::time::sleep(Policy::ms(shared.policy.lease_renew_ms)) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// The document for this renewal.
pub fn detail(shared: &Shared) -> Value {
    let now = clock::mono();
    let (late_ms, beats_per_second, round_trip_ms) = shared.engines.saying.measured(now);
    let (fleet, listening_since) = {
        let fleet = shared.fleet();
        (fleet.brakes(now), fleet.listening_since)
    };
    let quiet = now < listening_since + time_to_verdict(&shared.policy);
    let disarmed = fleet.disarmed.filter(|disarmed| now < disarmed.until).map(|disarmed| disarmed.reason);
    let (state, reason) = match (&fleet.reconcile_only, quiet) {
        (Some(why), _) => ("reconcile_only", Some(why.clone())),
        (None, true) => ("quiet_start", Some(quiet_reason(&shared.policy))),
        (None, false) => ("active", disarmed.as_ref().map(|why| format!("disarmed: {why}"))),
    };
    let mut detail = stable(shared);
    detail.extend(shared.engines.saying.members().clone());
    let more = json!({
        "state": state, "reason": reason, "disarmed": disarmed, "lag_ms": late_ms, "round_trip_ms": round_trip_ms,
        "beats_per_second": beats_per_second,
    });
    if let Value::Object(more) = more {
        detail.extend(more);
    }
    Value::Object(detail)
}

fn quiet_reason(policy: &Policy) -> String {
    format!("it listens for {:.1} s before it judges silence", time_to_verdict(policy).as_secs_f64())
}

/// What does not change while an engine runs.
pub fn stable(shared: &Shared) -> Map<String, Value> {
    let stable = json!({
        "version": env!("CARGO_PKG_VERSION"), "workflow": WORKFLOW_VERSION, "schema": halberd_store::engines::schema_step(&shared.db),
        "heartbeat_listen": shared.config.heartbeat_listen,
    });
    match stable {
        Value::Object(stable) => stable,
        _ => Map::new(),
    }
}
