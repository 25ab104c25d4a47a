//! Scenarios: a folder with a world, a script and the log that is expected.
//!
//! `world` has one `name = value` a line; `script` has `SECONDS verb arguments` a line, `#` begins a comment; `log` is what a run
//! must print, to the letter. `HALBERD_BLESS=1` writes it anew, for a person to read before it is committed. `README` says what the
//! scenario is about and which trap or fault it stands for.

use std::fmt::Write as _;
use std::path::Path;

use halberd_core::policy::{Policy, Profile, Reporters, Unfenced, WatchdogProof};
use halberd_sim::{BmcFault, BmcKind, Fault, Network, NovaAnswer, RestorePolicy, Route, What, WorldSpec};

use super::checker;
use super::hooks::{Configured, How};
use super::sim::{Cue, Setup, Sim};
use super::watchdog::Watchdogs;

/// A scenario read from its folder.
#[derive(Debug)]
pub struct Scenario {
    pub setup: Setup,
    pub cues: Vec<(u64, Cue)>,
    /// How long it runs, in milliseconds.
    pub length: u64,
}

/// Reads `world` and `script`.
///
/// # Errors
/// The file, the line and what is wrong with it.
pub fn read(folder: &Path) -> Result<Scenario, String> {
    let text = |name: &str| {
        std::fs::read_to_string(folder.join(name))
            .map_err(|error| format!("{}/{name}: {error}", folder.display()))
    };
    let mut scenario = Scenario { setup: Setup::default(), cues: Vec::new(), length: 180_000 };
    scenario.setup.world = WorldSpec::spread(6, 12);
    for (number, line) in lines(&text("world")?) {
        world_line(&mut scenario, &line)
            .map_err(|why| format!("{}/world:{number}: {why}", folder.display()))?;
    }
    for (number, line) in lines(&text("script")?) {
        let cue = script_line(&line).map_err(|why| format!("{}/script:{number}: {why}", folder.display()))?;
        scenario.cues.push(cue);
    }
    Ok(scenario)
}

fn lines(text: &str) -> Vec<(usize, String)> {
    let bare = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split('#').next().unwrap_or("").trim().to_owned()));
    bare.filter(|(_, line)| !line.is_empty()).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

fn world_line(scenario: &mut Scenario, line: &str) -> Result<(), String> {
    let (key, value) = line.split_once('=').ok_or("expected name = value")?;
    let value = value.trim();
    let setup = &mut scenario.setup;
    match key.trim() {
        "seconds" => scenario.length = number::<u64>(value)? * 1_000,
        "hosts" => setup.world.hosts = number(value)?,
        "guests" => {
            let hosts = setup.world.hosts;
            setup.world.guests_per_host = WorldSpec::spread(hosts, number(value)?).guests_per_host;
        }
        "racks" => setup.world.racks = number(value)?,
        "seed" => setup.world.seed = number(value)?,
        "stopped_every" => setup.world.stopped_every = number(value)?,
        "autostart" => setup.world.autostart = value == "yes",
        "service_down_seconds" => setup.world.service_down_ms = number::<u64>(value)? * 1_000,
        "evacuate_ms" => setup.world.evacuate_api_latency_ms = number(value)?,
        "rebuild_ms" => {
            let ms = number(value)?;
            setup.world.rebuild_latency_ms = (ms, ms);
        }
        "bmc" => {
            setup.world.bmc_kinds = match value {
                "none" => vec![BmcKind::None],
                "redfish" => vec![BmcKind::Redfish],
                _ => vec![BmcKind::Redfish, BmcKind::Ipmi],
            }
        }
        "engines" => setup.engines = number(value)?,
        "agents" => setup.agents = value == "yes",
        "method" => {
            setup.method = value.parse().map_err(|error: halberd_core::UnknownWord| error.to_string())?
        }
        "reserved" => setup.reserved = value.split_whitespace().map(Into::into).collect(),
        "profile" => {
            let profile: Profile =
                value.parse().map_err(|error: halberd_core::UnknownWord| error.to_string())?;
            setup.policy = Policy::of(profile);
        }
        "reporters" => {
            setup.policy.reporters =
                if value == "witnessed" { Reporters::Witnessed } else { Reporters::Trusted }
        }
        "unfenced" => {
            setup.policy.unfenced =
                if value == "trust-reporter" { Unfenced::TrustReporter } else { Unfenced::Refuse }
        }
        "gate" => setup.world.gate = value == "yes",
        "watchdog_proof" => {
            let word: WatchdogProof =
                value.parse().map_err(|error: halberd_core::UnknownWord| error.to_string())?;
            setup.policy.watchdog_proof = word;
        }
        "watchdogs" => setup.watchdogs = Some(watchdogs(value)?),
        "kdump_window_seconds" => setup.policy.kdump_window_ms = number::<u64>(value)? * 1_000,
        "process_all_instances" => setup.policy.process_all_instances = value == "yes",
        "restore_policy" => {
            setup.world.restore_policy = match value {
                "always-on" => RestorePolicy::AlwaysOn,
                "always-off" => RestorePolicy::AlwaysOff,
                _ => RestorePolicy::LastState,
            }
        }
        "power_on_when_drained" => setup.policy.power_on_when_drained = value == "yes",
        "hook" => setup.hooks.push(Configured::read(value)?),
        "evacuations_in_flight" => setup.policy.evacuations_in_flight = number(value)?,
        other => return Err(format!("unknown name '{other}'")),
    }
    Ok(())
}

/// `L W` in seconds, then any of `software`, `silent` (attests nothing), `liars`.
fn watchdogs(value: &str) -> Result<Watchdogs, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let [lease, timeout, kinds @ ..] = words.as_slice() else {
        return Err("expected watchdogs = LEASE TIMEOUT, in seconds".into());
    };
    Ok(Watchdogs {
        lease_ms: number::<u64>(lease)? * 1_000,
        timeout_ms: number::<u64>(timeout)? * 1_000,
        software: kinds.contains(&"software"),
        attested: !kinds.contains(&"silent"),
        liars: kinds.contains(&"liars"),
    })
}

fn networks(words: &[&str]) -> Vec<Network> {
    let picked: Vec<Network> =
        Network::ALL.into_iter().filter(|network| words.contains(&network.name())).collect();
    if picked.is_empty() { Network::ALL.to_vec() } else { picked }
}

fn script_line(line: &str) -> Result<(u64, Cue), String> {
    let mut words = line.split_whitespace();
    let at: f64 = number(words.next().ok_or("empty")?)?;
    let verb = words.next().ok_or("no verb")?;
    let args: Vec<&str> = words.collect();
    let host = || args.first().map(|word| (*word).to_owned()).ok_or_else(|| format!("{verb} needs a host"));
    let ms = |word: &str| number::<f64>(word).map(|seconds| (seconds * 1_000.0) as u64);
    let bmc = |fault: BmcFault| host().map(|host| Cue::Fault(Fault::Bmc { host, fault }));
    let span = |index: usize| args.get(index).map(|word| ms(word)).transpose();
    let cue = match verb {
        "power-lost" => {
            Cue::Fault(Fault::HostPowerLoss { host: host()?, with_bmc: args.contains(&"with-bmc") })
        }
        "hang" => Cue::Fault(Fault::HostHang { host: host()?, for_ms: span(1)? }),
        "panic" => Cue::Fault(Fault::HostPanic { host: host()? }),
        "return" => Cue::Fault(Fault::HostReturn { host: host()? }),
        "cut" => {
            Cue::Fault(Fault::NetworkCut { host: host()?, networks: networks(&args[1..]), for_ms: None })
        }
        "mend" => Cue::Fault(Fault::NetworkHealed { host: host()? }),
        "rack-down" => Cue::Fault(Fault::RackDown { rack: host()? }),
        "bmc-dead" => bmc(BmcFault::Dead)?,
        "bmc-hang" => bmc(BmcFault::Hang)?,
        "bmc-well" => bmc(BmcFault::Healed)?,
        "bmc-ignores-off" => bmc(BmcFault::AckNoOff)?,
        "bmc-lies-off" => bmc(BmcFault::LieOff)?,
        "bmc-lies-on" => bmc(BmcFault::LieOn)?,
        "bmc-slow" => bmc(BmcFault::SlowOff(span(1)?.unwrap_or(8_000)))?,
        "bmc-wrong-machine" => {
            bmc(BmcFault::WrongMachine((*args.get(1).ok_or("needs the other host")?).to_owned()))?
        }
        "bmc-wrong-password" => bmc(BmcFault::WrongPassword)?,
        "bmc-auto-on" => bmc(BmcFault::AutoOn(span(1)?.unwrap_or(10_000)))?,
        "bmc-drops-answer" => bmc(BmcFault::DropAnswer)?,
        "nova-503" => {
            Cue::Fault(Fault::NovaAnswers { route: None, answer: NovaAnswer::Status(503), for_ms: span(0)? })
        }
        "nova-500" => {
            Cue::Fault(Fault::NovaAnswers { route: None, answer: NovaAnswer::Status(500), for_ms: span(0)? })
        }
        "nova-does-nothing" => {
            let answer = NovaAnswer::AcceptAndForget;
            Cue::Fault(Fault::NovaAnswers { route: Some(Route::Evacuate), answer, for_ms: span(0)? })
        }
        "nova-loses-answers" => {
            let answer = NovaAnswer::HangAfterDoing;
            Cue::Fault(Fault::NovaAnswers { route: Some(Route::Evacuate), answer, for_ms: span(0)? })
        }
        "nova-502" => {
            let answer = NovaAnswer::DoneThenStatus(502);
            Cue::Fault(Fault::NovaAnswers { route: Some(Route::Evacuate), answer, for_ms: span(0)? })
        }
        "nova-well" => Cue::Fault(Fault::NovaHealed),
        "keystone-down" => Cue::Fault(Fault::KeystoneDown { for_ms: span(0)? }),
        "cell-down" => {
            let hosts =
                args.iter().filter(|word| word.starts_with("cmp")).map(|word| (*word).to_owned()).collect();
            Cue::Fault(Fault::CellDown { hosts, for_ms: args.last().and_then(|word| ms(word).ok()) })
        }
        "destination-dies" => Cue::Fault(Fault::DestinationDies),
        "spawn-fails" => Cue::Fault(Fault::SpawnFails {
            host: host()?,
            times: args.get(1).map_or(Ok(1), |word| number(word))?,
        }),
        "agent-crash" => Cue::Fault(Fault::AgentCrash { host: host()? }),
        "agent-start" => Cue::Fault(Fault::AgentStart { host: host()? }),
        "compute-crash" => Cue::Fault(Fault::ComputeCrash { host: host()? }),
        "compute-start" => Cue::Fault(Fault::ComputeStart { host: host()? }),
        "cut-link" => {
            let to = (*args.get(1).ok_or("needs the other end")?).to_owned();
            Cue::Fault(Fault::LinkCut { from: host()?, to, networks: networks(&args[2..]), for_ms: None })
        }
        "mend-links" => Cue::Fault(Fault::LinksHealed),
        "report" => Cue::Report(host()?),
        "guest-down" => Cue::GuestDown(number::<usize>(args.first().unwrap_or(&"1"))? - 1),
        "process-down" => {
            let name = (*args.get(1).ok_or("needs the process")?).to_owned();
            Cue::ProcessDown { host: host()?, name }
        }
        "kill-engine" => Cue::KillEngine(number::<usize>(args.first().unwrap_or(&"1"))? - 1),
        "start-engine" => Cue::StartEngine(number::<usize>(args.first().unwrap_or(&"1"))? - 1),
        "freeze-engine" => Cue::FreezeEngine(number::<usize>(args.first().unwrap_or(&"1"))? - 1),
        "thaw-engine" => Cue::ThawEngine(number::<usize>(args.first().unwrap_or(&"1"))? - 1),
        "maintenance" => Cue::Maintenance(host()?, args.get(1) != Some(&"off")),
        "release" => Cue::Release(host()?),
        "retry" => Cue::HookWord { host: host()?, retry: true },
        "hook-well" => Cue::Hook(host()?, How::Well(span(1)?.unwrap_or(2_000))),
        "hook-fails" => Cue::Hook(host()?, How::Fails(span(1)?.unwrap_or(1_000))),
        "hook-hangs" => Cue::Hook(host()?, How::Hangs),
        "confirm" => Cue::Confirm {
            host: host()?,
            serial: args.get(1).map(|word| (*word).to_owned()).unwrap_or_default(),
        },
        "disarm" => Cue::Disarm,
        "arm" => Cue::Arm,
        "cancel" => Cue::Cancel(host()?),
        "segment" => Cue::Segment(args.first() != Some(&"off")),
        "delete" => Cue::Delete(host()?),
        "stop-at-deed" => Cue::StopAtDeed(number::<usize>(args.first().unwrap_or(&"1"))? - 1),
        "agent-stands-still" => Cue::SuspendAgent { host: host()?, for_ms: span(1)?.ok_or("needs seconds")? },
        "kdump" => Cue::Kdump { host: host()?, for_ms: span(1)?.unwrap_or(0) },
        "panic-signed" => Cue::Panic(host()?),
        "fence" => Cue::Fence(host()?),
        "power-on" => Cue::PowerOn(host()?),
        "drill" => Cue::Drill(host()?),
        "disable" => Cue::Compute { host: host()?, enabled: false },
        "enable" => Cue::Compute { host: host()?, enabled: true },
        "supply-back" => Cue::Fault(Fault::SupplyReturn { host: host()? }),
        other => return Err(format!("unknown verb '{other}'")),
    };
    Ok(((at * 1_000.0) as u64, cue))
}

/// Runs a scenario; the log, and what the checkers found.
pub fn run(scenario: &Scenario) -> (String, checker::Findings) {
    let mut sim = Sim::new(scenario.setup.clone(), scenario.cues.clone());
    sim.run_until(scenario.length);
    (tell(&sim), checker::safety(&sim))
}

/// The whole story: what was done and said, what really happened, and how it stands at the end.
pub fn tell(sim: &Sim) -> String {
    let mut story: Vec<(u64, u8, String)> = sim.log.iter().map(|(at, text)| (*at, 1, text.clone())).collect();
    for deed in sim.world.history() {
        if let Some(text) = deed_text(&deed.what) {
            story.push((deed.at, 0, format!("  = {text}")));
        }
    }
    story.sort_by_key(|line| line.0);
    let mut out = String::new();
    for (at, _, text) in &story {
        let _ = writeln!(out, "{:>9.3}  {text}", *at as f64 / 1_000.0);
    }
    let _ = writeln!(out, "\nat the end");
    for (row, _) in sim.store.recoveries.values() {
        let _ =
            writeln!(out, "  {} of {}: {} - {}", row.subject.kind(), row.host_name, row.word(), row.reason);
    }
    for host in sim.store.hosts.values() {
        let flags = [
            host.maintenance.operator.then_some("operator's maintenance"),
            host.maintenance.recovery.then_some("maintenance"),
            host.maintenance.process.then_some("maintenance for its process"),
        ];
        let flags: Vec<&str> = flags.into_iter().flatten().collect();
        let _ = writeln!(out, "  {} is {} {}", host.name, host.admission, flags.join(", "));
    }
    for (host, device) in &sim.store.drilled {
        let _ = writeln!(out, "  {} was shown by a drill on {}", device, sim.store.hosts[host].name);
    }
    let mut guests: Vec<String> = sim
        .store
        .vmoves
        .values()
        .map(|vmove| {
            format!(
                "  {} {} {}",
                vmove.instance_name,
                vmove.status,
                vmove.dest_host.clone().unwrap_or_default()
            )
        })
        .collect();
    guests.sort();
    out.push_str(&guests.join("\n"));
    out.push('\n');
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

/// What really happened, in words; what nobody needs to read is left out.
fn deed_text(what: &What) -> Option<String> {
    Some(match what {
        What::OffOrdered { bmc, machine } => format!("the BMC of {bmc} takes an off order for {machine}"),
        What::PoweredOff { host } => format!("{host} is off"),
        What::PoweredOn { host } => format!("{host} has power"),
        What::Booted { host, .. } => format!("{host} has booted"),
        What::Thawed { host } => format!("{host} runs on"),
        What::ForcedDown { host, value } => format!("forced_down of {host} is {value}"),
        What::RestorePolicySet { machine, policy, .. } => {
            format!("{machine} is told what to do when its supply is back: {policy:?}")
        }
        What::Disabled { host, value } => format!("disabled of {host} is {value}"),
        What::EvacuateRefused { code, .. } => format!("Nova refuses an evacuation ({code})"),
        What::EvacuateFailed { why, .. } => format!("an evacuation fails: {why}"),
        What::DoubleEvacuation { .. } => "A SECOND EVACUATION MEETS THE FIRST".into(),
        What::DoubleRun { hosts, .. } => format!("A GUEST RUNS ON {hosts:?}"),
        _ => return None,
    })
}
