//! What came of it, by the world's own truth: what Nova took and when, which guest runs where, whether any ever ran twice. Only two times come
//! from the service itself, when it opened the recovery and when it held the proof.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use halberd_sim::history::What;
use halberd_types::halberd::recovery::{Explain, RecoveryState, RecoverySummary};
use serde::Serialize;
use uuid::Uuid;

use super::Failure;
use super::fault::Expected;
use super::site::Site;

/// The play as it is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Guests on the struck hosts when the fault came.
    pub(crate) guests: Vec<Uuid>,
    /// World time and wall time of the fault.
    struck_at: u64,
    struck_wall: DateTime<Utc>,
    struck_real: Instant,
}

impl Watched {
    pub(crate) fn begin(site: &Site) -> Watched {
        let world = site.cloud.world();
        let guests = site.struck.iter().flat_map(|host| world.guests_placed_on(host)).collect();
        Watched { guests, struck_at: 0, struck_wall: wall_clock(), struck_real: Instant::now() }
    }

    /// Death.
    pub(crate) fn strike(&mut self, site: &Site) {
        self.struck_at = site.cloud.now();
        self.struck_wall = wall_clock();
        self.struck_real = Instant::now();
        site.strike();
    }

    pub(crate) fn since_fault(&self) -> Duration {
        self.struck_real.elapsed()
    }

    /// The struck hosts' recoveries, those that are open already.
    pub(crate) async fn look(&self, site: &Site) -> Result<Vec<RecoverySummary>, Failure> {
        let mut all = Vec::new();
        for host in &site.struck {
            all.extend(site.client.recoveries(site.hosts[host], "host").await?.into_iter().next());
        }
        Ok(all)
    }

    /// Guests that run on one living host other than where they were, and ACTIVE there by Nova's word too.
    pub(crate) fn active_elsewhere(&self, site: &Site) -> usize {
        let world = site.cloud.world();
        let settled: BTreeSet<Uuid> = world
            .history()
            .iter()
            .filter_map(|deed| match &deed.what {
                What::EvacuateDone { guest, .. } => Some(*guest),
                _ => None,
            })
            .collect();
        let elsewhere = |guest: &&Uuid| {
            let on = world.running_on(**guest);
            settled.contains(guest) && on.len() == 1 && !site.struck.contains(&on[0])
        };
        self.guests.iter().filter(elsewhere).count()
    }
}

/// The JSON object of `--once --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    fault: &'static str,
    pub(crate) outcome: &'static str,
    hosts: usize,
    guests: usize,
    pub(crate) recovered: usize,
    /// Guests that a closed recovery left behind.
    pub(crate) lost: usize,
    pub(crate) evacuate_calls: usize,
    pub(crate) evacuate_before_proof: usize,
    pub(crate) double_runs: usize,
    pub(crate) seconds: Seconds,
    #[serde(skip)]
    pub(crate) reason: String,
    /// The recoveries' own time lines, and when the fault came.
    #[serde(skip)]
    pub(crate) story: Vec<Explain>,
    #[serde(skip)]
    pub(crate) struck: DateTime<Utc>,
    /// Whether what had to come came.
    #[serde(skip)]
    pub(crate) good: bool,
}

/// Since the fault; null for what did not happen.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Seconds {
    pub(crate) death_to_verdict: Option<f64>,
    pub(crate) death_to_fence_proof: Option<f64>,
    pub(crate) death_to_first_evacuate: Option<f64>,
    pub(crate) death_to_all_evacuates: Option<f64>,
    pub(crate) death_to_all_active: Option<f64>,
}

/// What the world says happened since the fault.
#[derive(Debug, Default)]
struct Truth {
    /// Times of accepted calls, in world milliseconds, by guest.
    calls: BTreeMap<Uuid, Vec<(u64, String)>>,
    done: BTreeMap<Uuid, u64>,
    double_runs: usize,
    /// The struck host booted again, and Nova holds it neither forced down nor disabled.
    back_in: bool,
}

impl Truth {
    fn of(site: &Site, since: u64) -> Truth {
        let world = site.cloud.world();
        let mut truth = Truth { double_runs: world.double_runs().len(), ..Truth::default() };
        for deed in world.history().iter().filter(|deed| deed.at >= since) {
            match &deed.what {
                What::EvacuateAccepted { guest, source, .. } => {
                    truth.calls.entry(*guest).or_default().push((deed.at, source.clone()));
                }
                What::EvacuateDone { guest, .. } => {
                    truth.done.insert(*guest, deed.at);
                }
                What::Booted { host, .. } if site.struck.contains(host) => truth.back_in = true,
                _ => {}
            }
        }
        let last =
            |of: fn(&What) -> Option<bool>| world.history().iter().rev().find_map(|deed| of(&deed.what));
        let forced_down = |what: &What| match what {
            What::ForcedDown { value, .. } => Some(*value),
            _ => None,
        };
        let disabled = |what: &What| match what {
            What::Disabled { value, .. } => Some(*value),
            _ => None,
        };
        truth.back_in &= last(forced_down) == Some(false) && last(disabled) == Some(false);
        truth
    }
}

impl Report {
    pub(crate) async fn of(
        site: &Site,
        watched: &Watched,
        closed: Option<RecoveryState>,
    ) -> Result<Report, Failure> {
        let recoveries = watched.look(site).await?;
        let mut story = Vec::new();
        for recovery in &recoveries {
            story.push(site.client.explain(recovery.id).await?);
        }
        if site.fault.expected() == Expected::Returned
            && let Some(host) = site.struck.first()
            && let Some(back) = site.client.recoveries(site.hosts[host], "return").await?.first()
        {
            story.push(site.client.explain(back.id).await?);
        }
        let truth = Truth::of(site, watched.struck_at);
        let recovered = watched.active_elsewhere(site);
        let proofs: BTreeMap<String, DateTime<Utc>> = story
            .iter()
            .filter_map(|story| Some((story.recovery.subject.name.clone(), first(story, "host_fenced")?)))
            .collect();
        let wall = |at: u64| {
            watched.struck_wall + chrono::Duration::milliseconds(at as i64 - watched.struck_at as i64)
        };
        // The world counts whole milliseconds, rounded down.
        let before_proof = |(at, source): &(u64, String)| {
            proofs.get(source).is_none_or(|proof| wall(*at) + chrono::Duration::milliseconds(1) < *proof)
        };
        let calls: Vec<&(u64, String)> = truth.calls.values().flatten().collect();
        let since = |at: u64| (at.saturating_sub(watched.struck_at)) as f64 / 1_000.0;
        let since_wall = |at: DateTime<Utc>| (at - watched.struck_wall).num_milliseconds() as f64 / 1_000.0;
        let whole = recovered == watched.guests.len() && !watched.guests.is_empty();
        let seconds = Seconds {
            death_to_verdict: story
                .iter()
                .filter_map(|story| first(story, "host_judged"))
                .min()
                .map(since_wall),
            death_to_fence_proof: proofs.values().min().copied().map(since_wall),
            death_to_first_evacuate: calls.iter().map(|(at, _)| *at).min().map(since),
            death_to_all_evacuates: calls.iter().map(|(at, _)| *at).max().filter(|_| whole).map(since),
            death_to_all_active: truth.done.values().max().copied().filter(|_| whole).map(since),
        };
        let outcome = outcome(&recoveries, whole);
        let evacuate_before_proof = calls.iter().filter(|call| before_proof(call)).count();
        let once =
            watched.guests.iter().all(|guest| truth.calls.get(guest).is_some_and(|calls| calls.len() == 1));
        let safe = truth.double_runs == 0 && evacuate_before_proof == 0;
        let right = match site.fault.expected() {
            Expected::Recovered | Expected::Returned => {
                (site.fault.expected() == Expected::Recovered || truth.back_in)
                    && closed == Some(RecoveryState::Finished)
                    && whole
                    && once
                    && calls.len() == watched.guests.len()
            }
            Expected::Held => outcome == "held" && calls.is_empty(),
            Expected::NeedsOperator => outcome == "needs_operator" && calls.is_empty(),
        };
        Ok(Report {
            fault: site.fault.word(),
            outcome,
            hosts: site.hosts.len(),
            guests: site.cloud.world().guest_ids().len(),
            recovered,
            lost: if closed.is_some() { watched.guests.len() - recovered } else { 0 },
            evacuate_calls: calls.len(),
            evacuate_before_proof,
            double_runs: truth.double_runs,
            seconds,
            reason: recoveries.iter().find_map(|recovery| recovery.message.clone()).unwrap_or_default(),
            story,
            struck: watched.struck_wall,
            good: right && safe,
        })
    }
}

/// One word for what it came to.
fn outcome(recoveries: &[RecoverySummary], whole: bool) -> &'static str {
    let all = |wanted: RecoveryState| {
        !recoveries.is_empty() && recoveries.iter().all(|recovery| recovery.state == wanted)
    };
    match () {
        () if all(RecoveryState::Finished) && whole => "recovered",
        () if all(RecoveryState::Held) => "held",
        () if all(RecoveryState::NeedsOperator) => "needs_operator",
        () if all(RecoveryState::Cancelled) => "cancelled",
        () if recoveries.iter().any(|recovery| recovery.state.is_open()) => "unfinished",
        () if recoveries.is_empty() => "unnoticed",
        () => "failed",
    }
}

/// When something first stands in a recovery's time line.
fn first(story: &Explain, what: &str) -> Option<DateTime<Utc>> {
    story.timeline.iter().find(|entry| entry.what == what).map(|entry| entry.at)
}

/// The clock by which the service dates its audit.
fn wall_clock() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(halberd_engine::clock::stamp().0).unwrap_or_default()
}
