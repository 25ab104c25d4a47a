//! Five racks of fifty lose power at once: 100 hosts of 1,000, with five guests each.
//!
//! The hosts have BMCs and no agents (a cloud that still runs Masakari's monitors): each death is one report. What must hold is read from what
//! reached Nova and from the simulated cloud's own history: never more calls about guests under way than the policy allows one engine, each guest
//! evacuated once, after its host lost power, and nobody left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halberd_sim::history::What;
use halberd_sim::shell::Cloud;
use halberd_sim::{BmcKind, Fault, WorldSpec};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::kit::http::{Client, once, request};
use crate::kit::{Server, Setting, load};
use crate::migrated;
use crate::recorder::{Asked, Call, Recorder, at_once, in_a_second};

/// `HOSTS` says otherwise, for a look at the road rather than at the figure.
const HOSTS: usize = 1_000;
const RACK: usize = 20;
/// One host of so many dies.
const SHARE: usize = 10;
const GUESTS_EACH: usize = 5;
/// The cap that is to hold: `evacuations_in_flight` as it is by default.
const CAP: usize = 16;
/// Nova's time for an evacuate call, and any other.
const NOVA_MS: (u64, u64) = (100, 5);
/// Calls of the set-up at once.
const HANDS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(250);

pub async fn show(binary: &Path, database: &str) {
    migrated(database).await;
    let hosts = std::env::var("HOSTS").ok().and_then(|text| text.parse().ok()).unwrap_or(HOSTS);
    let spec = WorldSpec {
        racks: hosts / RACK,
        evacuate_api_latency_ms: NOVA_MS.0,
        api_latency_ms: NOVA_MS.1,
        ..WorldSpec::spread(hosts, hosts * GUESTS_EACH)
    };
    let cloud = Arc::new(Cloud::start(spec).await.unwrap());
    let nova = cloud.nova_url();
    let (address, path) = nova.trim_start_matches("http://").split_once('/').unwrap();
    let recorder = Recorder::before(address.parse().unwrap()).await;
    let setting = Setting {
        auth: "none",
        database: Some(database),
        policy: &format!("evacuations_in_flight = {CAP}"),
        nova: Some(format!("http://{}/{path}", recorder.address)),
    };
    let server = Server::start(binary, cloud.clone(), setting).await;
    let began = Instant::now();
    set_up(&server).await;
    let set_up_s = began.elapsed().as_secs_f64();

    let racks: BTreeSet<String> = (1..=hosts / RACK / SHARE).map(|rack| format!("rack-{rack}")).collect();
    let names = cloud.host_names();
    let dead: Vec<String> =
        names.into_iter().filter(|name| racks.contains(&cloud.world().host(name).rack)).collect();
    let guests: Vec<Uuid> = dead.iter().flat_map(|host| cloud.world().guests_placed_on(host)).collect();
    assert_eq!((dead.len(), guests.len()), (hosts / SHARE, dead.len() * GUESTS_EACH));
    let (begin, struck_at, before) = (Instant::now(), cloud.now(), recorder.calls().len());
    for host in &dead {
        cloud.inject(Fault::HostPowerLoss { host: host.clone(), with_bmc: false });
    }
    let mut client = Client::to(&server.address).await;
    for host in &dead {
        let status = client.ask(&request("POST", "/v1/notifications", &[], Some(&died(host)))).await;
        assert_eq!(status, 202, "{}", client.body());
    }
    let drained = drained(&server, dead.len(), begin).await;
    let calls: Vec<Call> = recorder.calls().split_off(before);
    println!(
        "  storm: {} of {hosts} hosts dead, {} guests, set up in {set_up_s:.0} s",
        dead.len(),
        guests.len()
    );
    told(&server, &calls, &drained);
    judged(&cloud, &calls, &dead, &guests, struck_at);
}

/// What was seen of the queue.
struct Drained {
    took: Duration,
    /// Most recoveries of hosts that were open at once.
    peak: u64,
    /// How many were open, look by look.
    open: Vec<u64>,
    load: String,
}

/// Waits until all recoveries of hosts were opened and none is open any more.
async fn drained(server: &Server, dead: usize, begin: Instant) -> Drained {
    let mut open = Vec::new();
    let (mut peak, mut load_amid) = (0, load());
    loop {
        let now = open_hosts(server).await;
        open.push(now);
        if now > peak {
            (peak, load_amid) = (now, load());
        }
        let closed = finished(server).await;
        if now == 0 && closed >= dead {
            return Drained { took: begin.elapsed(), peak, open, load: load_amid };
        }
        assert!(begin.elapsed() < PATIENCE, "{now} are open, {closed} closed\n{}", server.log());
        tokio::time::sleep(LOOK).await;
    }
}

/// `halberd_recoveries_open{kind="host"}`.
async fn open_hosts(server: &Server) -> u64 {
    let mut client = Client::to(&server.address).await;
    assert_eq!(client.ask(&request("GET", "/metrics", &[], None)).await, 200);
    let body = client.body();
    let line = body.lines().find_map(|line| line.strip_prefix("halberd_recoveries_open{kind=\"host\"} "));
    line.map_or(0, |number| number.trim().parse::<f64>().unwrap() as u64)
}

/// How many of the reports have come to their end.
async fn finished(server: &Server) -> usize {
    let path = "/v1/notifications?type=COMPUTE_HOST&status=finished&limit=1000";
    let (status, body) = once(&server.address, "GET", path, &[], None).await;
    assert_eq!(status, 200, "{body}");
    body["notifications"].as_array().unwrap().len()
}

fn told(server: &Server, calls: &[Call], drained: &Drained) {
    let of = |asked: Asked| calls.iter().filter(move |call| call.asked == asked);
    let span = |calls: &[&Call]| {
        let first = calls.iter().map(|call| call.begun).min();
        let last = calls.iter().map(|call| call.answered).max();
        first.zip(last).map_or(f64::NAN, |(first, last)| (last - first).as_secs_f64())
    };
    let out: Vec<&Call> = of(Asked::Out).collect();
    println!(
        "         drained {:.1} s after the power went; at most {} recoveries open (load then {})",
        drained.took.as_secs_f64(),
        drained.peak,
        drained.load,
    );
    println!(
        "         about guests under way at once: out {}, back {}, of {CAP} each; {:.0} calls/s out while it lasted; all of Nova: {} calls, {:.0}/s, \
         at most {} in a second and {} at once; resident {:.0} MB",
        at_once(of(Asked::Out)),
        at_once(of(Asked::Back)),
        out.len() as f64 / span(&out),
        calls.len(),
        calls.len() as f64 / drained.took.as_secs_f64(),
        in_a_second(calls.iter()),
        at_once(calls.iter()),
        server.rss_mb(),
    );
    for asked in [Asked::Out, Asked::Back] {
        let most = at_once(of(asked));
        assert!(most <= CAP, "{most} calls {asked:?} were under way at once, the cap is {CAP}");
    }
    // Drained for good: after the peak nothing opens again.
    let top = drained.open.iter().position(|open| *open == drained.peak).unwrap();
    assert!(drained.open[top..].is_sorted_by(|a, b| a >= b), "the queue grew again: {:?}", drained.open);
}

/// The judgement by the world's own history.
fn judged(cloud: &Cloud, calls: &[Call], dead: &[String], guests: &[Uuid], struck_at: u64) {
    let world = cloud.world();
    let mut accepted: BTreeMap<Uuid, usize> = BTreeMap::new();
    for deed in world.history().iter().filter(|deed| deed.at >= struck_at) {
        match &deed.what {
            What::EvacuateAccepted { guest, source, held_by, .. } => {
                *accepted.entry(*guest).or_default() += 1;
                assert!(held_by.is_empty(), "{guest} was evacuated while {held_by:?} had it in memory");
                assert!(dead.contains(source), "{guest} was taken from {source}, which lives");
            }
            What::DoubleEvacuation { guest } => panic!("{guest} was evacuated twice at once"),
            What::DoubleRun { guest, hosts } => panic!("{guest} ran on {hosts:?}"),
            _ => {}
        }
    }
    assert_eq!(accepted.len(), guests.len(), "guests that were evacuated");
    for guest in guests {
        assert_eq!(accepted.get(guest), Some(&1), "{guest} is evacuated once");
        let on = world.running_on(*guest);
        assert!(on.len() == 1 && !dead.contains(&on[0]), "{guest} runs on {on:?}");
    }
    let sent = calls.iter().filter(|call| call.asked == Asked::Out).count();
    assert!(sent >= 2 * guests.len(), "the recorder saw {sent} calls: it was passed by");
    println!(
        "         each of {} guests evacuated once, from a dead host, and running once elsewhere",
        guests.len()
    );
}

fn died(host: &str) -> String {
    let payload = json!({ "event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL" });
    json!({ "notification": { "type": "COMPUTE_HOST", "hostname": host, "generated_time": "2026-11-21T10:20:30.123456", "payload": payload } })
        .to_string()
}

/// Segment, hosts with rack and serial, fence devices: what an operator enters, in the same calls.
async fn set_up(server: &Server) {
    let segment =
        json!({ "segment": { "name": "cloud", "recovery_method": "auto", "service_type": "COMPUTE" } });
    let made = server.made("/v1/segments", &[], &segment).await;
    let segment: Arc<str> = made["segment"]["uuid"].as_str().unwrap().into();
    let names = server.cloud.host_names();
    let mut hands = JoinSet::new();
    for hand in 0..HANDS {
        let mine: Vec<String> = names.iter().skip(hand).step_by(HANDS).cloned().collect();
        let (cloud, segment) = (server.cloud.clone(), segment.clone());
        let mut client = Client::to(&server.address).await;
        hands.spawn(async move {
            for name in mine {
                enter(&mut client, &cloud, &segment, &name).await;
            }
        });
    }
    hands.join_all().await;
}

async fn enter(client: &mut Client, cloud: &Cloud, segment: &str, name: &str) {
    let body = json!({ "host": { "name": name, "type": "COMPUTE", "control_attributes": "SSH" } });
    let path = format!("/v1/segments/{segment}/hosts");
    let made = put(client, "POST", &path, &body).await;
    let id = made["host"]["uuid"].as_str().unwrap();
    let view = cloud.world().host(name);
    let body = json!({ "rack": view.rack, "serial": view.serial, "machine": view.uuid });
    put(client, "PUT", &format!("/halberd/v1/hosts/{id}/attributes"), &body).await;
    let bmc = cloud.bmc(name).unwrap();
    let kind = if bmc.kind == BmcKind::Redfish { "redfish" } else { "ipmi" };
    let device = json!({ "type": kind, "address": bmc.device_address(), "username": bmc.username, "password": bmc.password });
    let body = json!({ "levels": [{ "devices": [device] }] });
    put(client, "PUT", &format!("/halberd/v1/hosts/{id}/fence-devices"), &body).await;
}

async fn put(client: &mut Client, method: &str, path: &str, body: &Value) -> Value {
    let status = client.ask(&request(method, path, &[], Some(&body.to_string()))).await;
    assert!(matches!(status, 200 | 201), "{path}: {status} {}", client.body());
    serde_json::from_str(&client.body()).unwrap()
}
