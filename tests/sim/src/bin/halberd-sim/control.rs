//! Commands on standard input: what can go wrong and right again, by the names of hosts and guests; and looks at the truth.

use halberd_sim::shell::Cloud;
use halberd_sim::{BmcFault, Fault, HostState, IfMatch, Node, Power, RestorePolicy};
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
    "power HOST on|off    somebody presses its button",
    "orders HOST          power orders that reached its BMC so far",
    "supply-lost HOST     the supply of host and BMC is cut",
    "supply-back HOST     it is back: the restore policy decides whether the host starts",
    "restore-policy HOST always-off|last-state|always-on   somebody sets it",
    "bmc HOST wrong-password|dead|hang|ack-no-off|lie-off|lie-on|drop-answer|forget-sessions|healed",
    "bmc HOST no-restore-policy|fixed-restore-policy|needs-if-match|refuses-if-match|retry-after-date",
    "bmc HOST read-only|anonymous-login|suite-zero|updating",
    "bmc HOST busy N | slow-off MS | slow-answer MS | auto-on MS | wrong-machine OTHER",
    "ironic enroll HOST [NAME]   the bare-metal service has the host's machine as an active node",
    "ironic withdraw HOST        and no longer; without any node the catalog has no such service",
    "ironic maintenance HOST on|off",
    "ironic sync [HOST]   its power sync, now: what was switched off behind its back is switched on",
    "ironic nodes         what it has on record",
    "ironic down|up       it answers 503 (its power sync goes on), or answers again",
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
        ["orders", host] if cloud.world().has_host(host) => {
            json!({"orders": cloud.world().power_orders(host)})
        }
        ["ironic", "nodes"] => json!({ "nodes": nodes(cloud) }),
        ["ironic", "sync"] => {
            cloud.with(|world, now| world.power_sync(now));
            json!({})
        }
        ["ironic", "sync", host] if cloud.world().has_host(host) => {
            cloud.with(|world, now| world.power_sync_of(now, host));
            json!({})
        }
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
        ["ironic", "enroll", name] => return Ok(enroll(cloud, &host(name)?, None)),
        ["ironic", "enroll", name, node] => return Ok(enroll(cloud, &host(name)?, Some(node))),
        ["ironic", "withdraw", name] => {
            let host = host(name)?;
            cloud.with(|world, now| world.withdraw(now, &host));
            return Ok(json!({}));
        }
        ["ironic", "maintenance", name, word @ ("on" | "off")] => {
            return maintenance(cloud, &host(name)?, word == "on");
        }
        ["power", name, word @ ("on" | "off")] => {
            let host = host(name)?;
            cloud.with(|world, now| world.press(now, &host, word == "on"));
            return Ok(json!({}));
        }
        ["ironic", "down"] => Fault::IronicDown { for_ms: None },
        ["ironic", "up"] => Fault::IronicHealed,
        ["supply-lost", name] => Fault::HostPowerLoss { host: host(name)?, with_bmc: true },
        ["supply-back", name] => Fault::SupplyReturn { host: host(name)? },
        ["restore-policy", name, word] => {
            Fault::RestorePolicy { host: host(name)?, policy: restore_policy(word)? }
        }
        ["kill", name] => Fault::HostPowerLoss { host: host(name)?, with_bmc: false },
        ["kill-with-bmc", name] => Fault::HostPowerLoss { host: host(name)?, with_bmc: true },
        ["hang", name] => Fault::HostHang { host: host(name)?, for_ms: None },
        ["panic", name] => Fault::HostPanic { host: host(name)? },
        ["revive", name] => Fault::HostReturn { host: host(name)? },
        ["stop-compute", name] => Fault::ComputeCrash { host: host(name)? },
        ["start-compute", name] => Fault::ComputeStart { host: host(name)? },
        ["crash-guest", id] => Fault::GuestCrash { guest: guest(cloud, id)? },
        ["bmc", name, "wrong-machine", other] => {
            Fault::Bmc { host: host(name)?, fault: BmcFault::WrongMachine(host(other)?) }
        }
        ["bmc", name, word] => Fault::Bmc { host: host(name)?, fault: bmc_fault(word)? },
        ["bmc", name, word, number] => {
            Fault::Bmc { host: host(name)?, fault: counted_bmc_fault(word, number)? }
        }
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
        "hang" => BmcFault::Hang,
        "ack-no-off" => BmcFault::AckNoOff,
        "drop-answer" => BmcFault::DropAnswer,
        "forget-sessions" => BmcFault::ForgetSessions,
        "no-restore-policy" => BmcFault::NoRestorePolicy,
        "fixed-restore-policy" => BmcFault::FixedRestorePolicy,
        "needs-if-match" => BmcFault::IfMatch(IfMatch::Needed),
        "refuses-if-match" => BmcFault::IfMatch(IfMatch::Refused),
        "retry-after-date" => BmcFault::RetryAfterDate,
        "anonymous-login" => BmcFault::AnonymousLogin,
        "updating" => BmcFault::Updating,
        "suite-zero" => BmcFault::SuiteZero,
        "read-only" => BmcFault::ReadOnly,
        "lie-off" => BmcFault::LieOff,
        "lie-on" => BmcFault::LieOn,
        "healed" => BmcFault::Healed,
        _ => return Err(format!("no BMC does {word}")),
    })
}

/// Faults with a number: of requests, or of milliseconds.
fn counted_bmc_fault(word: &str, number: &str) -> Result<BmcFault, String> {
    let number: u32 = number.parse().map_err(|_| format!("{number} is no number"))?;
    Ok(match word {
        "busy" => BmcFault::Busy(number),
        "slow-off" => BmcFault::SlowOff(number.into()),
        "slow-answer" => BmcFault::SlowAnswer(number.into()),
        "auto-on" => BmcFault::AutoOn(number.into()),
        _ => return Err(format!("no BMC does {word} {number}")),
    })
}

fn restore_policy(word: &str) -> Result<RestorePolicy, String> {
    let known = [RestorePolicy::AlwaysOff, RestorePolicy::LastState, RestorePolicy::AlwaysOn];
    let found = ["always-off", "last-state", "always-on"].iter().zip(known).find(|(name, _)| **name == word);
    found.map(|(_, policy)| policy).ok_or_else(|| format!("there is no restore policy {word}"))
}

fn enroll(cloud: &Cloud, host: &str, name: Option<&str>) -> Value {
    json!({"uuid": cloud.with(|world, now| world.enroll(now, host, name))})
}

fn maintenance(cloud: &Cloud, host: &str, on: bool) -> Result<Value, String> {
    let node = cloud.with(|world, now| world.nodes(now).into_iter().find(|node| node.host == host));
    let node = node.ok_or_else(|| format!("{host} is not enrolled"))?;
    let done = cloud.with(|world, now| world.set_maintenance(now, node.uuid, on, None));
    done.map(|()| json!({})).map_err(|refusal| refusal.message().to_owned())
}

fn nodes(cloud: &Cloud) -> Vec<Value> {
    let show = |node: Node| {
        json!({"uuid": node.uuid, "name": node.name, "host": node.host, "power": node.power,
               "target": node.target, "maintenance": node.maintenance, "fault": node.fault})
    };
    cloud.with(|world, now| world.nodes(now)).into_iter().map(show).collect()
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
               "restore_policy": view.restore_policy.name(), "executing": view.executing})
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
