//! `GET /readiness`: whether a recovery would work if it were needed now, and what stands in its way.
//!
//! Built from what is stored: the last check of every fence device, the agents, the engines, the configuration. Nothing is
//! probed for the asking, so it answers as fast when all is broken.

use axum::Json;
use axum::extract::State;
use halberd_core::host::Host;
use halberd_core::time::Stamp;
use halberd_store::fence_devices::CheckRow;
use halberd_store::{engines, fence_devices, hosts, segments, settings};
use halberd_types::halberd::agent::{AgentState, AgentView};
use halberd_types::halberd::engine::EngineState;
use halberd_types::halberd::fence_device::FenceDevicesView;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::readiness::{Readiness, ReadinessCheck, ReadinessLevel};
use halberd_types::halberd::{Subject, SubjectKind};

use super::{agents, engines as engine_views};
use crate::halberd::door;
use crate::halberd::fence_devices::checked;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Every device is checked at least every five minutes (DESIGN 7); twice that is too old, in microseconds. For display.
const CHECK_OLD: i64 = 600_000_000;

/// What would work and what would not, worst first.
#[utoipa::path(
    get, path = "/readiness", operation_id = "show_readiness", tag = "site",
    responses((status = 200, body = Readiness), (status = 403, body = Problem)),
)]
pub(crate) async fn handler(State(app): State<App>, caller: Caller) -> Result<Json<Readiness>, Failure> {
    door::require(&caller, "halberd:readiness:detail")?;
    Ok(Json(readiness(&app).await?))
}

/// The checks, worst first.
pub(crate) async fn readiness(app: &App) -> Result<Readiness, Failure> {
    let db = door::db(app);
    let now = door::now(app);
    let mut checks = vec![openstack(door::has_openstack(app))];
    let rows = engines::list(db).await?;
    let alive = engine_views::alive(app, &rows);
    checks.push(engine(rows.iter().map(|row| engine_views::state(row, &alive)).collect()));
    if let Some(disarm) = settings::disarm(db).await? {
        let reason = format!("{} switched all acting off: {}", disarm.actor, disarm.reason);
        checks.push(check(
            "armed",
            None,
            ReadinessLevel::Yellow,
            reason,
            "Arm again when the reason is gone.",
        ));
    }
    for (segment, policy) in segments::policies(db).await? {
        if policy["unfenced"] == "trust-reporter" {
            let name = match segments::get(db, segment).await {
                Ok(segment) => segment.name.clone(),
                Err(_) => continue,
            };
            let subject = Subject { kind: SubjectKind::Segment, id: segment.to_string(), name };
            let reason =
                "hosts without a fence device are evacuated on a reporter's word: a guest may run twice";
            checks.push(check(
                "unfenced_refused",
                Some(subject),
                ReadinessLevel::Yellow,
                reason,
                "Give its hosts fence devices and set unfenced to refuse.",
            ));
        }
    }
    let stored = fence_devices::all_checks(db).await?;
    let views = agents::views(db).await?;
    for host in hosts::all_living(db).await? {
        let mine: Vec<&CheckRow> = stored.iter().filter(|check| check.host == host.id).collect();
        let devices = fence_devices::get(db, host.id).await?;
        checks.extend(fencing(&host, devices.as_ref().map(|row| &row.masked), &mine, now));
        if let Some(agent) = views.iter().find(|view| view.host_id == host.id.0) {
            checks.extend(agent_checks(&host, agent));
        }
    }
    // Stable: within a level the order of the subjects stays.
    checks.sort_by_key(|check| std::cmp::Reverse(check.level));
    Ok(Readiness::of(checks))
}

fn check(
    name: &str,
    subject: Option<Subject>,
    level: ReadinessLevel,
    reason: impl Into<String>,
    remedy: &str,
) -> ReadinessCheck {
    let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
    ReadinessCheck { check: name.to_owned(), subject, level, reason: reason.into(), remedy, since: None }
}

fn openstack(configured: bool) -> ReadinessCheck {
    if configured {
        return check(
            "openstack_configured",
            None,
            ReadinessLevel::Green,
            "section [openstack] is configured",
            "",
        );
    }
    let reason = "section [openstack] is missing: no guest can be evacuated";
    check("openstack_configured", None, ReadinessLevel::Red, reason, "Fill in [openstack] and restart.")
}

fn engine(states: Vec<EngineState>) -> ReadinessCheck {
    let (level, reason) = if states.contains(&EngineState::Active) {
        (ReadinessLevel::Green, "an engine is at work")
    } else if states.contains(&EngineState::QuietStart) {
        (ReadinessLevel::Yellow, "the engines have not listened long enough yet to fence")
    } else if states.contains(&EngineState::ReconcileOnly) {
        (ReadinessLevel::Red, "the engines do nothing: the database shows less than they remember")
    } else {
        (ReadinessLevel::Red, "no engine works on this database")
    };
    let remedy = if level == ReadinessLevel::Red { "Start `halberd engine`, or see its log." } else { "" };
    check("engine_active", None, level, reason, remedy)
}

fn subject(host: &Host) -> Option<Subject> {
    Some(Subject { kind: SubjectKind::Host, id: host.id.to_string(), name: host.name.clone() })
}

/// One check for a host that cannot be fenced, else one for each device and each weakness.
fn fencing(
    host: &Host,
    masked: Option<&serde_json::Value>,
    checks: &[&CheckRow],
    now: Stamp,
) -> Vec<ReadinessCheck> {
    use ReadinessLevel::{Green, Red, Yellow};
    let last = |level: usize, place: usize| {
        checks.iter().copied().find(|check| (check.level as usize, check.position as usize) == (level, place))
    };
    let view = FenceDevicesView::of_stored(masked.unwrap_or(&serde_json::Value::Null), |level, place| {
        last(level, place).map(checked)
    });
    if view.levels.is_empty() {
        let reason = format!("{} has no fence device: its recovery stops and asks a person", host.name);
        let remedy = "Set one with PUT /halberd/v1/hosts/{uuid}/fence-devices.";
        return vec![check("fence_device_present", subject(host), Yellow, reason, remedy)];
    }
    // All devices of a level must confirm; one whole level is enough.
    let whole = view.levels.iter().any(|level| {
        level.devices.iter().all(|device| device.last_check.as_ref().is_none_or(|check| check.ready))
    });
    let mut found = Vec::new();
    for (level, devices) in view.levels.iter().enumerate() {
        for (place, device) in devices.devices.iter().enumerate() {
            let named = device.device.get("address").and_then(|address| address.as_str()).unwrap_or("device");
            let at = format!("level {level}, {named}");
            let mut one = match (&device.last_check, last(level, place)) {
                (Some(view), Some(row)) if !view.ready => {
                    let level = if whole { Yellow } else { Red };
                    let remedy = "Mend it, then POST .../fence-devices/check.";
                    check("fence_device_ready", subject(host), level, format!("{at}: {}", row.text), remedy)
                }
                (Some(_), Some(row)) if now.0.saturating_sub(row.at.0) > CHECK_OLD => {
                    let reason = format!("{at}: ready when it was checked last, which is long ago");
                    check(
                        "fence_device_ready",
                        subject(host),
                        Yellow,
                        reason,
                        "See that an engine is at work.",
                    )
                }
                (Some(_), Some(row)) => {
                    check("fence_device_ready", subject(host), Green, format!("{at}: {}", row.text), "")
                }
                _ => {
                    let reason = format!("{at}: not checked since it was set");
                    check(
                        "fence_device_ready",
                        subject(host),
                        Yellow,
                        reason,
                        "POST .../fence-devices/check.",
                    )
                }
            };
            one.since = device.last_check.as_ref().map(|check| check.at);
            let nameless = device
                .last_check
                .as_ref()
                .is_some_and(|check| check.ready && check.identity_matches.is_none());
            found.push(one);
            if nameless {
                let reason = format!("{at}: which machine it turns off is not established");
                let remedy = "Set the host's serial with PUT .../attributes, or pass a drill.";
                found.push(check("fence_device_identified", subject(host), Yellow, reason, remedy));
            }
        }
    }
    for warning in &view.warnings {
        let remedy = "Use https with a certificate that is verified.";
        found.push(check("fence_device_secure", subject(host), Yellow, warning.clone(), remedy));
    }
    found
}

fn agent_checks(host: &Host, agent: &AgentView) -> Vec<ReadinessCheck> {
    use ReadinessLevel::{Green, Yellow};
    let (level, reason, remedy) = match agent.state {
        AgentState::Alive => (Green, "its agent is heard".to_owned(), ""),
        AgentState::Degraded => {
            (Yellow, "its agent is not heard on every way".to_owned(), "Look at its networks.")
        }
        AgentState::Suspect => (Yellow, "its agent is silent".to_owned(), "Look at the host."),
        AgentState::AgentLost => {
            (Yellow, "its agent is silent, the host answers".to_owned(), "Restart halberd-monitor there.")
        }
        AgentState::Unknown => (Yellow, "no engine has said anything of its agent yet".to_owned(), ""),
        AgentState::Never => (
            Yellow,
            "it has no agent: it is judged by reports, and found dead late".to_owned(),
            "Install halberd-monitor there with a key from `halberd agent key`.",
        ),
    };
    let mut found =
        vec![check("agent_alive", subject(host), level, format!("{}: {reason}", host.name), remedy)];
    found[0].since = agent.since;
    if agent.has_start_gate != Some(true) {
        let reason = format!(
            "{}: no start gate is attested, so after an unclean boot guests may start too early",
            host.name
        );
        let remedy = "Switch libvirt's autostart and Nova's resume_guests_state_on_host_boot off there.";
        found.push(check("start_gate_present", subject(host), Yellow, reason, remedy));
    }
    if host.serial.is_none() {
        let reason = format!(
            "{}: no serial is on file, so nobody can confirm by it that the machine is off",
            host.name
        );
        found.push(check(
            "serial_on_file",
            subject(host),
            Yellow,
            reason,
            "PUT .../attributes with the serial.",
        ));
    }
    found
}
