//! 1,000 notifications a second for a minute, over loopback HTTP. Every one that was acknowledged is in the list afterwards.
//!
//! Requests are due at fixed times whatever became of those before, and a latency counts from the time it was due: a service that stands
//! still for a second is charged with the thousand that came meanwhile. How far the engine is behind is the age of the oldest report that it has
//! not looked at, by this side's clock.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use halberd_sim::WorldSpec;
use halberd_sim::shell::Cloud;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::kit::http::{Client, request};
use crate::kit::{Server, Setting, load};
use crate::{at, migrated};

const RATE: u64 = 1_000;
const SECONDS: u64 = 60;
/// Connections, each with one request under way: monitors of a cloud of some size.
const CLIENTS: usize = 64;
const PAGE: usize = 1_000;
/// An engine that has not caught up by then never will.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(250);

/// When each acknowledged notification was acknowledged, by its id.
type Acknowledged = Arc<Mutex<HashMap<String, Instant>>>;

pub async fn show(binary: &Path, database: &str) {
    migrated(database).await;
    let cloud = Arc::new(Cloud::start(WorldSpec::spread(3, 6)).await.unwrap());
    let setting = Setting { auth: "none", database: Some(database), ..Setting::default() };
    let server = Server::start(binary, cloud, setting).await;
    let segment =
        json!({ "segment": { "name": "rack", "recovery_method": "auto", "service_type": "COMPUTE" } });
    let made = server.made("/v1/segments", &[], &segment).await;
    let path = format!("/v1/segments/{}/hosts", made["segment"]["uuid"].as_str().unwrap());
    let host = server.cloud.host_names().swap_remove(0);
    let body = json!({ "host": { "name": host, "type": "COMPUTE", "control_attributes": "SSH" } });
    server.made(&path, &[], &body).await;

    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let total = RATE * seconds;
    let acknowledged = Acknowledged::default();
    let (next, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now() + Duration::from_millis(100);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = Client::to(&server.address).await;
        let (next, refused) = (next.clone(), refused.clone());
        let (acknowledged, host) = (acknowledged.clone(), host.clone());
        clients.spawn(async move {
            let mut took = Vec::new();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= total {
                    return took;
                }
                let due = begin + Duration::from_micros(turn * 1_000_000 / RATE);
                tokio::time::sleep_until(due.into()).await;
                // "Nothing was acknowledged, try again" is honest; how often it was said is told, and its time counts.
                loop {
                    let report = stopped(&host);
                    let status = client.ask(&request("POST", "/v1/notifications", &[], Some(&report))).await;
                    if status == 202 {
                        break;
                    }
                    assert_eq!(status, 503, "{}", client.body());
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                let now = Instant::now();
                let body: Value = serde_json::from_str(&client.body()).unwrap();
                let id = body["notification"]["notification_uuid"].as_str().unwrap().to_owned();
                assert!(acknowledged.lock().unwrap().insert(id, now).is_none(), "an id was given twice");
                took.push(now.duration_since(due).as_secs_f64() * 1_000.0);
            }
        });
    }
    let behind = Arc::new(Mutex::new(0.0_f64));
    let looking = tokio::spawn(look(server.address.clone(), acknowledged.clone(), behind.clone()));
    let mut took: Vec<f64> = clients.join_all().await.concat();
    let sent = begin.elapsed();
    let (behind_at_end, busy) = (*behind.lock().unwrap(), load());
    looking.abort();
    let caught_up = caught_up(&server, Instant::now()).await;

    took.sort_unstable_by(f64::total_cmp);
    let known = acknowledged.lock().unwrap().clone();
    println!(
        "  flood: {} of {total} acknowledged in {:.1} s ({:.0}/s), latency p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms; at the end the \
         engine was {behind_at_end:.1} s behind and had caught up {caught_up:.1} s later (load {busy})",
        known.len(),
        sent.as_secs_f64(),
        known.len() as f64 / sent.as_secs_f64(),
        at(&took, 0.50),
        at(&took, 0.99),
        at(&took, 1.0),
    );
    assert_eq!(known.len() as u64, total, "each is acknowledged");
    let listed = listed(&server).await;
    let lost = known.keys().filter(|id| !listed.contains_key(*id)).count();
    let twice = listed.values().filter(|times| **times > 1).count();
    println!(
        "         listed afterwards: {}, lost {lost}, twice {twice}, unknown to the clients {}",
        listed.len(),
        listed.len() - known.len() + lost
    );
    assert_eq!((lost, twice), (0, 0));
    // A commit whose fate was unknown is refused and may be there all the same; nothing else may.
    let refused = refused.load(Ordering::Relaxed);
    println!("         refused with 503 and sent again: {refused}");
    assert!((listed.len() - known.len()) as u64 <= refused, "there are reports that nobody sent");
}

/// An ordinary stop, each time of another guest: the commonest report there is, and never a duplicate.
fn stopped(host: &str) -> String {
    let payload = json!({ "instance_uuid": Uuid::new_v4(), "event": "LIFECYCLE", "vir_domain_event": "STOPPED_SHUTDOWN" });
    json!({ "notification": { "type": "VM", "hostname": host, "generated_time": "2026-11-21T10:20:30.123456", "payload": payload } })
        .to_string()
}

const OLDEST_NEW: &str = "/v1/notifications?status=new&sort_key=created_at&sort_dir=asc&limit=1";

/// Notes how old the oldest report is that the engine has not looked at, again and again.
async fn look(address: String, acknowledged: Acknowledged, behind: Arc<Mutex<f64>>) {
    let mut client = Client::to(&address).await;
    loop {
        assert_eq!(client.ask(&request("GET", OLDEST_NEW, &[], None)).await, 200, "{}", client.body());
        let body: Value = serde_json::from_str(&client.body()).unwrap();
        let oldest = body["notifications"][0]["notification_uuid"].as_str();
        let since = oldest.and_then(|id| acknowledged.lock().unwrap().get(id).copied());
        *behind.lock().unwrap() = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        tokio::time::sleep(LOOK).await;
    }
}

/// Seconds until the engine has looked at all.
async fn caught_up(server: &Server, since: Instant) -> f64 {
    loop {
        let (status, body) = server.once("GET", OLDEST_NEW, &[], None).await;
        assert_eq!(status, 200, "{body}");
        if body["notifications"] == json!([]) {
            return since.elapsed().as_secs_f64();
        }
        assert!(since.elapsed() < PATIENCE, "the engine does not catch up: {body}\n{}", server.log());
        tokio::time::sleep(LOOK).await;
    }
}

/// Every notification in the list, and how often it stands there.
async fn listed(server: &Server) -> HashMap<String, usize> {
    let mut listed: HashMap<String, usize> = HashMap::new();
    let mut client = Client::to(&server.address).await;
    let mut marker = String::new();
    loop {
        let path = format!("/v1/notifications?limit={PAGE}{marker}");
        assert_eq!(client.ask(&request("GET", &path, &[], None)).await, 200, "{}", client.body());
        let body: Value = serde_json::from_str(&client.body()).unwrap();
        let page = body["notifications"].as_array().unwrap();
        for row in page {
            *listed.entry(row["notification_uuid"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE) else { return listed };
        marker = format!("&marker={}", last["notification_uuid"].as_str().unwrap());
    }
}
