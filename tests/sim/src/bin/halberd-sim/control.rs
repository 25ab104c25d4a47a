//! Commands on standard input: what can go wrong and right again, by the names of hosts and guests; and looks at the truth.

use halberd_sim::shell::Cloud;
use halberd_sim::{BmcFault, Fault, HostState, Power};
use serde_json::{Value, json};
use uuid::Uuid;

const HELP: &[&str] = &[
    "kill HOST            power lost, the BMC lives",
    "kill-with-bmc HOST   power lost, the BMC too",
    "hang HOST            freezes, power on",
    "panic HOST           kernel halts, power on",
    "revive HOST          is switched on and boots",
    "stop-compute HOST    nova-compute dies",
    "start-compute HOST   nova-compute is started",
    "crash-guest UUID     the guest's QEMU dies",
    "bmc HOST wrong-password|dead|lie-off|lie-on|healed",
    "keystone down|up     Keystone answers 503, or answers again",
    "revoke-tokens        no token is good any more",
    "nova SECONDS         Nova answers 503 for so long",
    "register TYPE NAME URL   puts a service into the catalog, or moves it; $(project_id)s in URL is the caller's",
    "hosts                hosts as they really are",
    "guests               guests: where Nova places them, where they run",
    "double-runs          how many guests ran twice, ever",
];

/// Does what the line says. The answer has `ok`, and `error` or what was asked for.
pub(crate) fn obey(cloud: &Cloud, line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    match look(cloud, &words).map_or_else(|| fault(cloud, &words), Ok) {
        Ok(mut answer) => {
            answer["ok"] = json!(true);
            answer
        }
        Err(error) => json!({"ok": false, "error": error}),
    }
}

fn look(cloud: &Cloud, words: &[&str]) -> Option<Value> {
    Some(match words {
        ["help"] => json!({ "commands": HELP }),
        ["hosts"] => json!({ "hosts": hosts(cloud) }),
        ["guests"] => json!({ "guests": guests(cloud) }),
        ["double-runs"] => json!({"double_runs": cloud.world().double_runs().len()}),
        ["register", kind, name, url] => {
            cloud.register(kind, name, url);
            json!({})
        }
        _ => return None,
    })
}

fn fault(cloud: &Cloud, words: &[&str]) -> Result<Value, String> {
    let host = |name: &str| {
        if cloud.world().has_host(name) {
            Ok(name.to_owned())
        } else {
            Err(format!("there is no host {name}"))
        }
    };
    let fault = match *words {
        ["kill", name] => Fault::HostPowerLoss { host: host(name)?, with_bmc: false },
        ["kill-with-bmc", name] => Fault::HostPowerLoss { host: host(name)?, with_bmc: true },
        ["hang", name] => Fault::HostHang { host: host(name)?, for_ms: None },
        ["panic", name] => Fault::HostPanic { host: host(name)? },
        ["revive", name] => Fault::HostReturn { host: host(name)? },
        ["stop-compute", name] => Fault::ComputeCrash { host: host(name)? },
        ["start-compute", name] => Fault::ComputeStart { host: host(name)? },
        ["crash-guest", id] => Fault::GuestCrash { guest: guest(cloud, id)? },
        ["bmc", name, word] => Fault::Bmc { host: host(name)?, fault: bmc_fault(word)? },
        ["keystone", "down"] => Fault::KeystoneDown { for_ms: None },
        ["keystone", "up"] => Fault::KeystoneHealed,
        ["revoke-tokens"] => Fault::TokensRevoked,
        ["nova", seconds] => {
            let seconds: u64 = seconds.parse().map_err(|_| format!("{seconds} is no number of seconds"))?;
            let answer = halberd_sim::NovaAnswer::Status(503);
            Fault::NovaAnswers { route: None, answer, for_ms: Some(seconds.saturating_mul(1_000)) }
        }
        _ => return Err(format!("not understood: {}; `help` lists the commands", words.join(" "))),
    };
    cloud.inject(fault);
    Ok(json!({}))
}

fn bmc_fault(word: &str) -> Result<BmcFault, String> {
    Ok(match word {
        "wrong-password" => BmcFault::WrongPassword,
        "dead" => BmcFault::Dead,
        "lie-off" => BmcFault::LieOff,
        "lie-on" => BmcFault::LieOn,
        "healed" => BmcFault::Healed,
        _ => return Err(format!("no BMC does {word}")),
    })
}

fn guest(cloud: &Cloud, id: &str) -> Result<Uuid, String> {
    let known = cloud.world().guest_ids();
    let id: Uuid = id.parse().map_err(|_| format!("{id} is no uuid"))?;
    if known.contains(&id) { Ok(id) } else { Err(format!("there is no guest {id}")) }
}

fn hosts(cloud: &Cloud) -> Vec<Value> {
    let names = cloud.host_names();
    let world = cloud.world();
    let show = |name: &String| {
        let view = world.host(name);
        let power = match view.power {
            Power::On => "on",
            Power::Off => "off",
            Power::Dark => "dark",
        };
        let state = match view.state {
            HostState::Booting => "booting",
            HostState::Running => "running",
            HostState::Hung => "hung",
            HostState::Panicked => "panicked",
        };
        json!({"name": name, "power": power, "state": state, "compute": view.compute, "boots": view.boots,
               "executing": view.executing})
    };
    names.iter().map(show).collect()
}

/// Every guest: its name and project, the host on which Nova places it, and those on which it really runs.
pub(crate) fn guests(cloud: &Cloud) -> Vec<Value> {
    let names = cloud.host_names();
    let world = cloud.world();
    let placed = names
        .iter()
        .flat_map(|host| world.guests_placed_on(host).into_iter().map(move |id| (id, host.clone())));
    placed
        .map(|(id, host)| {
            json!({"id": id, "name": world.guest_name(id), "host": host, "project_id": world.project_of(id),
                   "ha_enabled": world.is_ha_enabled(id), "running_on": world.running_on(id)})
        })
        .collect()
}
