//! How fast `/v1` answers, and how much memory that takes: `cargo bench -p halberd-tests --bench api`.
//!
//! The service is `halberd serve` (API and engine) as a process of its own, on an SQLite file of its own, so that memory and CPU time are
//! its alone; the client speaks HTTP/1.1 over kept connections and does as little as it can. It shares the machine's cores with the
//! service, as the original's client did. Nothing is asserted: figures are for a reader, who knows what else the machine did.
//!
//! `HALBERD` names the binary; without it, `halberd` beside this program's own directory (build it first: `cargo build --release -p halberd`).
//! `SECONDS` is how long each row is measured (default 3).

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

mod kit;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use halberd_sim::WorldSpec;
use halberd_sim::shell::Cloud;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use kit::http::{Client, request};
use kit::{Server, Setting, binary, load, machine};

/// The original at its best on 2 cores, by the issue that asked for this: requests per second at 1 and at 16 clients, where known.
const GET_SEGMENTS: [Option<f64>; 2] = [Some(410.0), Some(817.0)];
const GET_SEGMENTS_KEYSTONE: [Option<f64>; 2] = [Some(201.0), Some(414.0)];
const GET_ONE: [Option<f64>; 2] = [Some(458.0), Some(1_067.0)];
const GET_THOUSAND: [Option<f64>; 2] = [Some(18.0), None];
const POST_ONE: [Option<f64>; 2] = [Some(53.0), Some(52.0)];
/// Its API and engine, idle, MB.
const ORIGINAL_RSS_MB: f64 = 200.0;

const CLIENTS: [usize; 2] = [1, 16];
const NOTIFICATIONS: usize = 1_000;
const SEGMENTS: usize = 10;

#[tokio::main]
async fn main() {
    let binary = binary();
    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let span = Duration::from_secs(seconds);
    println!("machine: {}", machine());
    println!("load before: {}", load());
    println!("binary: {} ({} s a row)\n", binary.display(), seconds);

    println!("auth = \"none\"");
    heading();
    let server = start(&binary, "none").await;
    let site = set_up(&server).await;
    let idle = server.rss_mb();
    let plain = |path: &str| Job::get(path, &[]);
    row("GET segments (10)", &server, &plain("/v1/segments"), GET_SEGMENTS, span).await;
    row("GET one notification", &server, &plain(&site.notification), GET_ONE, span).await;
    row("GET notifications (1,000)", &server, &plain("/v1/notifications"), GET_THOUSAND, span).await;
    row("POST notification", &server, &Job::Post(site.host.clone()), POST_ONE, span).await;
    let after = server.rss_mb();
    println!(
        "\nRSS of the service (API and engine): {idle:.0} MB idle with 1,000 notifications, {after:.0} MB after this; the original {ORIGINAL_RSS_MB:.0} MB idle"
    );
    drop(server);

    println!("\nauth = \"keystone\" (token known to the service's cache)");
    heading();
    let server = start(&binary, "keystone").await;
    let token = server.token().await;
    let headers = [("X-Auth-Token", token.as_str())];
    for n in 0..SEGMENTS {
        server.made("/v1/segments", &headers, &segment(n)).await;
    }
    row("GET segments (10)", &server, &Job::get("/v1/segments", &headers), GET_SEGMENTS_KEYSTONE, span).await;
    println!("\nload after: {}", load());
}

async fn start(binary: &Path, auth: &str) -> Server {
    let spec = WorldSpec { api_latency_ms: 0, ..WorldSpec::spread(3, 6) };
    let cloud = Arc::new(Cloud::start(spec).await.unwrap());
    Server::start(binary, cloud, Setting { auth, ..Setting::default() }).await
}

/// What is asked, over and over.
enum Job {
    Get(Vec<u8>),
    /// A guest's ordinary stop, each time of another guest on this host: the commonest report there is, and never a duplicate.
    Post(String),
}

impl Job {
    fn get(path: &str, headers: &[(&str, &str)]) -> Job {
        Job::Get(request("GET", path, headers, None))
    }
}

fn heading() {
    println!(
        "{:<26} {:>7} {:>9} {:>9} {:>9} {:>10} {:>9} {:>7} {:>11}",
        "request", "clients", "req/s", "p50 ms", "p99 ms", "cpu us/req", "original", "ratio", "10x reached"
    );
}

/// Measures one request at each number of clients, and prints.
async fn row(name: &str, server: &Server, job: &Job, original: [Option<f64>; 2], span: Duration) {
    for (clients, original) in CLIENTS.into_iter().zip(original) {
        measure(server, job, clients, Duration::from_millis(300)).await;
        let cpu = server.cpu_us();
        let (per_s, mut times) = measure(server, job, clients, span).await;
        let cpu = (server.cpu_us() - cpu) as f64 / times.len().max(1) as f64;
        times.sort_unstable();
        let at = |share: f64| {
            let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
        };
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        println!(
            "{name:<26} {clients:>7} {per_s:>9.0} {:>9.2} {:>9.2} {cpu:>10.0} {:>9} {:>7} {:>11}",
            at(0.50),
            at(0.99),
            text(original.map(|original| format!("{original:.0}"))),
            text(original.map(|original| format!("{:.1}", per_s / original))),
            text(original.map(|original| if per_s >= 10.0 * original { "yes" } else { "no" }.to_owned())),
        );
    }
}

/// Requests per second and every request's time.
async fn measure(server: &Server, job: &Job, clients: usize, span: Duration) -> (f64, Vec<Duration>) {
    let mut running = JoinSet::new();
    let done = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    for _ in 0..clients {
        let mut client = Client::to(&server.address).await;
        let (done, host, fixed) = match job {
            Job::Get(request) => (done.clone(), String::new(), request.clone()),
            Job::Post(host) => (done.clone(), host.clone(), Vec::new()),
        };
        running.spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < span {
                let fresh = (!host.is_empty()).then(|| report(&host));
                let asked = Instant::now();
                let status = client.ask(fresh.as_ref().unwrap_or(&fixed)).await;
                times.push(asked.elapsed());
                assert!(matches!(status, 200 | 202), "{status}: {}", client.body());
                done.fetch_add(1, Ordering::Relaxed);
            }
            times
        });
    }
    let times: Vec<Duration> = running.join_all().await.concat();
    (done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64(), times)
}

fn report(host: &str) -> Vec<u8> {
    request("POST", "/v1/notifications", &[], Some(&stopped(host).to_string()))
}

fn stopped(host: &str) -> Value {
    let payload = json!({ "instance_uuid": Uuid::new_v4(), "event": "LIFECYCLE", "vir_domain_event": "STOPPED_SHUTDOWN" });
    json!({ "notification": { "type": "VM", "hostname": host, "generated_time": "2026-11-21T10:20:30.123456", "payload": payload } })
}

fn segment(n: usize) -> Value {
    json!({ "segment": { "name": format!("segment-{n}"), "recovery_method": "auto", "service_type": "COMPUTE", "description": "ten of these" } })
}

/// What the rows need.
struct Site {
    host: String,
    notification: String,
}

async fn set_up(server: &Server) -> Site {
    let mut last = Value::Null;
    for n in 0..SEGMENTS {
        last = server.made("/v1/segments", &[], &segment(n)).await;
    }
    let host = server.cloud.host_names().swap_remove(0);
    let body = json!({ "host": { "name": host, "type": "COMPUTE", "control_attributes": "SSH" } });
    let path = format!("/v1/segments/{}/hosts", last["segment"]["uuid"].as_str().unwrap());
    server.made(&path, &[], &body).await;
    let mut made = Value::Null;
    for _ in 0..NOTIFICATIONS {
        made = server.made("/v1/notifications", &[], &stopped(&host)).await;
    }
    let notification =
        format!("/v1/notifications/{}", made["notification"]["notification_uuid"].as_str().unwrap());
    // The engine settles each; measured is what comes after.
    let open = "/v1/notifications?status=new&limit=1";
    while server.once("GET", open, &[], None).await.1["notifications"] != json!([]) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Site { host, notification }
}
