//! The product's figures, measured rather than asserted: one JSON line each, on the same site as the demo.
//!
//! CPU time is that of every thread of this process that is not the outside world's (the simulated cloud and the agents have threads of their
//! own): engine, API, database, and the few looks at the API from here. Requests are those the service sent to Keystone and Nova.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use halberd_core::policy::{Policy, Profile};
use halberd_sim::WorldSpec;
use halberd_types::halberd::recovery::RecoveryState;
use serde_json::{Value, json};

use super::client::Client;
use super::fault::DemoFault;
use super::outcome::{Report, Watched};
use super::site::{OUTSIDE, Site, SiteSpec};
use super::{Failure, PATIENCE};

/// Looks at the recovery are rare, so that they cost next to nothing of what is measured.
const LOOK: Duration = Duration::from_millis(250);
/// A service that has served its start is idle after this.
const SETTLE: Duration = Duration::from_secs(5);

/// One measurement.
struct Scene {
    name: &'static str,
    guests: usize,
    fault: DemoFault,
    /// Nova's time for an evacuate call, and for any other.
    nova_ms: (u64, u64),
    in_flight: Option<u32>,
    /// What is wanted, in words.
    wanted: &'static str,
}

const AT_ONCE: (u64, u64) = (0, 0);
const USUAL: (u64, u64) = (50, 5);

const SCENES: [Scene; 6] = [
    Scene {
        name: "320-guests-nova-0.3s-40-in-flight",
        guests: 320,
        fault: DemoFault::PowerLoss,
        nova_ms: (300, 5),
        in_flight: Some(40),
        wanted: "proof_to_all_evacuates under 4 s (the floor is 2.4 s)",
    },
    Scene {
        name: "50-guests-power-loss",
        guests: 50,
        fault: DemoFault::PowerLoss,
        nova_ms: USUAL,
        in_flight: None,
        wanted: "death_to_all_evacuates under 5 s",
    },
    Scene {
        name: "100-guests-nova-at-once",
        guests: 100,
        fault: DemoFault::PowerLoss,
        nova_ms: AT_ONCE,
        in_flight: None,
        wanted: "proof_to_all_evacuates under 0.8 s, at most 4 requests and 2 ms of CPU a guest",
    },
    Scene {
        name: "500-guests-nova-at-once",
        guests: 500,
        fault: DemoFault::PowerLoss,
        nova_ms: AT_ONCE,
        in_flight: None,
        wanted: "proof_to_all_evacuates under 3 s, at most 4 requests and 2 ms of CPU a guest",
    },
    Scene {
        name: "100-guests",
        guests: 100,
        fault: DemoFault::PowerLoss,
        nova_ms: USUAL,
        in_flight: None,
        wanted: "the measure for the next",
    },
    Scene {
        name: "100-guests-nova-503-for-10s",
        guests: 100,
        fault: DemoFault::Nova503,
        nova_ms: USUAL,
        in_flight: None,
        wanted: "death_to_all_active at most 13 s more than without",
    },
];

/// What is measured on a database that was given: where Nova answers at once, what is left is the database's and ours.
const ON_A_DATABASE: Scene = Scene {
    name: "100-guests-nova-at-once",
    guests: 100,
    fault: DemoFault::PowerLoss,
    nova_ms: AT_ONCE,
    in_flight: None,
    wanted: "a few commits a guest",
};

/// Prints every figure; with a database, the one that depends on it most.
///
/// # Errors
/// A site that does not start; what was measured is printed before.
pub(super) async fn run(database: Option<&str>) -> Result<(), Failure> {
    if database.is_some() {
        println!("{}", play(&ON_A_DATABASE, database).await?);
        return Ok(());
    }
    println!("{}", idle().await?);
    for scene in SCENES {
        println!("{}", play(&scene, None).await?);
    }
    Ok(())
}

async fn play(scene: &Scene, database: Option<&str>) -> Result<Value, Failure> {
    let hosts = 6;
    let mut world = WorldSpec::loaded(hosts, scene.guests);
    (world.evacuate_api_latency_ms, world.api_latency_ms) = scene.nova_ms;
    if scene.nova_ms == AT_ONCE {
        (world.rebuild_latency_ms, world.max_concurrent_builds) = ((0, 0), scene.guests);
    }
    let mut policy = Policy::of(Profile::Balanced);
    if let Some(in_flight) = scene.in_flight {
        policy.evacuations_in_flight = in_flight;
    }
    let spec = SiteSpec {
        hosts,
        guests: scene.guests,
        seed: 1,
        profile: Profile::Balanced,
        database: database.map(str::to_owned),
        fault: scene.fault,
    };
    let site = Site::around(spec, world, policy).await?;
    site.warm_up().await?;
    let mut watched = Watched::begin(&site);
    let (cpu, requests) = (service_cpu_ms(), site.running.requests_sent());
    let (commits, commit_s) = crate::metrics::commits();
    watched.strike(&site);
    let closed = until_closed(&site, &watched).await?;
    let (cpu, requests) = (service_cpu_ms() - cpu, site.running.requests_sent() - requests);
    let (commits, commit_s) = {
        let (number, seconds) = crate::metrics::commits();
        (number - commits, seconds - commit_s)
    };
    let report = Report::of(&site, &watched, closed).await?;
    let seconds = &report.seconds;
    let from_proof = seconds
        .death_to_all_evacuates
        .zip(seconds.death_to_fence_proof)
        .map(|(all, proof)| round(all - proof));
    let each = |total: f64| (report.recovered > 0).then(|| round(total / report.recovered as f64));
    let figures = json!({
        "figure": scene.name,
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "wanted": scene.wanted,
        "good": report.good,
        "guests": scene.guests,
        "recovered": report.recovered,
        "evacuate_calls": report.evacuate_calls,
        "double_runs": report.double_runs,
        "seconds": {
            "death_to_fence_proof": seconds.death_to_fence_proof,
            "death_to_all_evacuates": seconds.death_to_all_evacuates,
            "proof_to_all_evacuates": from_proof,
            "death_to_all_active": seconds.death_to_all_active,
        },
        "requests": requests,
        "requests_per_guest": each(requests as f64),
        "service_cpu_ms": round(cpu),
        "service_cpu_ms_per_guest": each(cpu),
        "database": format!("{:?}", site.running.db().dialect()).to_lowercase(),
        "commits": commits,
        "commits_per_guest": each(commits),
        "ms_per_commit": (commits > 0.0).then(|| round(commit_s * 1_000.0 / commits)),
    });
    site.stop().await;
    Ok(figures)
}

async fn until_closed(site: &Site, watched: &Watched) -> Result<Option<RecoveryState>, Failure> {
    loop {
        let state =
            watched.look(site).await?.first().map(|recovery| recovery.state).filter(|state| !state.is_open());
        if state.is_some() || watched.since_fault() > PATIENCE {
            return Ok(state);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// CPU time so far of all threads that are not the outside world's, in milliseconds (proc(5), `schedstat`: nanoseconds on the CPU).
fn service_cpu_ms() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let of = |dir: std::path::PathBuf| {
        let name = std::fs::read_to_string(dir.join("comm")).ok()?;
        let ns: f64 =
            std::fs::read_to_string(dir.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()?;
        (name.trim() != OUTSIDE).then_some(ns / 1_000_000.0)
    };
    tasks.filter_map(Result::ok).filter_map(|task| of(task.path())).sum()
}

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Resident memory of a `halberd serve` of its own that has nothing to do.
async fn idle() -> Result<Value, Failure> {
    let dir = super::site::TempDir::new()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .current_dir(dir.path())
        .env("HALBERD__API__LISTEN", format!("127.0.0.1:{port}"))
        .stderr(Stdio::null())
        .spawn()?;
    let child = Killed(child);
    let client = Client::new(&format!("http://127.0.0.1:{port}"))?;
    for _ in 0..100 {
        if client.get::<Value>("/v1/segments").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let bytes =
        crate::metrics::resident_bytes_of(&child.0.id().to_string()).ok_or("the idle service is gone")?;
    let mib = round(bytes as f64 / 1_048_576.0);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok(
        json!({"figure": "serve-idle", "build": build, "wanted": "rss_mib under 30", "good": mib < 30.0, "rss_mib": mib}),
    )
}
