//! The simulated cloud as a program of its own, so that clients that are no Rust can be tested against it.
//!
//! It opens Keystone, Nova, Placement, the BMCs and each host's user land on loopback ports of its own and prints one line of JSON that
//! says where they are, who may log in and which hosts and guests there are. Then it obeys one command a line on its standard input, each
//! answered by one line of JSON ([`control`]), until that input closes or SIGINT or SIGTERM comes. So it never outlives who started it.

mod control;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::Parser;
use halberd_sim::shell::{Cloud, UserLand};
use halberd_sim::{BmcKind, WorldSpec};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A simulated OpenStack cloud on loopback: prints where it is, obeys commands on standard input (`help` lists them), ends with it.
#[derive(Debug, Parser)]
struct Options {
    /// Hypervisors, named cmp-01, cmp-02, ...
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    hosts: u16,
    /// Other names for the first of them, with commas between (a monitor reports the name of the machine it really runs on).
    #[arg(long, value_delimiter = ',')]
    host_names: Vec<String>,
    /// Guests on each hypervisor.
    #[arg(long, default_value_t = 3)]
    guests: u16,
    /// All chance comes from here.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Every n-th guest carries HA_Enabled; 0 for none.
    #[arg(long, default_value_t = 2)]
    ha_enabled_every: usize,
    /// Longest time a destination needs to spawn a guest; the shortest is half of it.
    #[arg(long, default_value_t = 1_000)]
    rebuild_ms: u64,
    /// Power on to user land.
    #[arg(long, default_value_t = 3_000)]
    boot_ms: u64,
    /// Time between two power syncs of the bare-metal service.
    #[arg(long, default_value_t = 120_000)]
    ironic_sync_ms: u64,
    /// nova-compute's report interval.
    #[arg(long, default_value_t = 10_000)]
    report_interval_ms: u64,
    /// Nova's service_down_time.
    #[arg(long, default_value_t = 60_000)]
    service_down_ms: u64,
    /// Lifetime of a Keystone token.
    #[arg(long, default_value_t = 3_600)]
    token_lifetime_s: u64,
    /// Address of the instance-ha service in Keystone's catalog, in any of the styles in use: http://h:p, http://h:p/v1,
    /// http://h:p/v1/$(project_id)s. It may also be given later, by the command `register`.
    #[arg(long)]
    instance_ha: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("halberd-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> std::io::Result<()> {
    let hosts = usize::from(options.hosts);
    let guests = usize::from(options.guests);
    let defaults = WorldSpec::spread(hosts, guests * hosts).seeded(options.seed);
    let cloud = Cloud::start(WorldSpec {
        host_names: options.host_names.clone(),
        capacity: defaults.capacity.max(guests * hosts),
        ha_enabled_every: options.ha_enabled_every,
        rebuild_latency_ms: (options.rebuild_ms / 2, options.rebuild_ms),
        boot_ms: options.boot_ms,
        ironic_sync_ms: options.ironic_sync_ms,
        report_interval_ms: options.report_interval_ms,
        service_down_ms: options.service_down_ms,
        token_lifetime_ms: options.token_lifetime_s.saturating_mul(1_000),
        ..defaults
    })
    .await?;
    let land = UserLand::start(&cloud).await?;
    if let Some(url) = &options.instance_ha {
        cloud.register("instance-ha", "masakari", url);
    }
    say(&describe(&cloud, &land))?;
    let mut lines = lines();
    let (mut end, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            line = lines.recv() => match line {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => say(&control::obey(&cloud, &line))?,
                None => break,
            },
        }
    }
    cloud.stop();
    Ok(())
}

fn say(what: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}

/// Standard input, line by line. A thread reads it, as a read cannot be cancelled; it ends with the process.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (send, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Users of Keystone that are shown, as [`Cloud::login`] names them.
const USERS: [&str; 6] = ["admin", "halberd", "monitor", "manager", "tenant", "auditor"];

fn describe(cloud: &Cloud, land: &UserLand) -> Value {
    let (callers, projects) = cloud.with(|world, _| (world.users(), world.projects().to_vec()));
    let mut users = json!({});
    for (login, caller) in USERS
        .into_iter()
        .filter_map(|name| Some((cloud.login(name)?, callers.iter().find(|caller| caller.user == name)?)))
    {
        users[login.username.as_str()] = json!({
            "id": caller.user_id, "password": login.password, "roles": caller.roles,
            "project_name": login.project_name, "project_id": caller.project_id,
            "application_credential_id": login.application_credential_id,
            "application_credential_secret": login.application_credential_secret,
        });
    }
    json!({
        "auth_url": cloud.keystone_url(),
        "nova_url": cloud.nova_url(),
        "placement_url": cloud.placement_url(),
        "region": "RegionOne",
        "domain_name": "Default",
        "user_land_port": land.port(),
        "users": users,
        "projects": projects.into_iter().map(|(id, name)| (name, Value::String(id))).collect::<serde_json::Map<_, _>>(),
        "hosts": cloud.host_names().iter().map(|name| host(cloud, name)).collect::<Vec<_>>(),
        "guests": control::guests(cloud),
    })
}

fn host(cloud: &Cloud, name: &str) -> Value {
    let view = cloud.world().host(name);
    let bmc = cloud.bmc(name).map(|bmc| {
        let kind = if bmc.kind == BmcKind::Redfish { "redfish" } else { "ipmi" };
        json!({"type": kind, "address": bmc.device_address(), "username": bmc.username, "password": bmc.password})
    });
    json!({"name": name, "rack": view.rack, "serial": view.serial, "uuid": view.uuid, "bmc": bmc})
}
