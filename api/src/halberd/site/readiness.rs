//! `GET /readiness`: whether a recovery would work if it were needed now, and what stands in its way.
//!
//! Built from what is stored: the last check of every fence device, the agents, the engines, the configuration. Nothing is
//! probed for the asking, so it answers as fast when all is broken.

use axum::Json;
use axum::extract::State;
use halberd_core::host::Host;
use halberd_store::engines::EngineRow;
use halberd_store::fence_devices::CheckRow;
use halberd_store::{Db, engines, fence_devices, hosts, legible, rewind, segments, settings};
use halberd_types::halberd::agent::{AgentState, AgentView};
use halberd_types::halberd::engine::EngineState;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::readiness::{Readiness, ReadinessCheck, ReadinessLevel};
use halberd_types::halberd::{Subject, SubjectKind};
use serde_json::Value;

use super::{agents, engines as engine_views, fencing, reconcile};
use crate::halberd::door;
use crate::halberd::fence_devices::joined as fence_devices_of;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

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
    let rows = engines::list(db).await?;
    let alive = engine_views::alive(app, &rows);
    let at_work: Vec<&EngineRow> = rows.iter().filter(|row| alive.contains(&row.id)).collect();
    let mut checks = openstack(door::has_openstack(app), &at_work);
    checks.push(engine(rows.iter().map(|row| engine_views::state(row, &alive)).collect()));
    if let Some(rewound) = rewind::standing(db).await? {
        checks.push(reconcile::readiness(&rewound));
    }
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
    let described = fence_devices::list(db).await?;
    let mut judged = Vec::new();
    for host in hosts::all_living(db).await? {
        let mine: Vec<&CheckRow> = stored.iter().filter(|check| check.host == host.id).collect();
        let masked = described.iter().find(|row| row.host == host.id).map(|row| &row.masked);
        let view = fence_devices_of(db, host.id, masked.unwrap_or(&Value::Null), &mine).await?;
        let owner = |level: usize, place: usize| {
            let here = |check: &&&CheckRow| (check.level as usize, check.position as usize) == (level, place);
            mine.iter().find(here).and_then(|check| fencing::owner(&check.detail))
        };
        let fencing = fencing::judge(&host, &view, owner, now);
        checks.extend(fencing::checks(&host, &fencing));
        judged.push(fencing);
        if let Some(agent) = views.iter().find(|view| view.host_id == host.id.0) {
            checks.extend(agent_checks(&host, agent));
        }
    }
    checks.extend(database(db).await?);
    // Stable: within a level the order of the subjects stays.
    checks.sort_by_key(|check| std::cmp::Reverse(check.level));
    Ok(Readiness::of(checks).with_hosts(judged))
}

pub(super) fn check(
    name: &str,
    subject: Option<Subject>,
    level: ReadinessLevel,
    reason: impl Into<String>,
    remedy: &str,
) -> ReadinessCheck {
    let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
    ReadinessCheck { check: name.to_owned(), subject, level, reason: reason.into(), remedy, since: None }
}

/// What is wrong with the database though it answers: rows that every engine leaves out, and settings of its server.
async fn database(db: &Db) -> Result<Vec<ReadinessCheck>, Failure> {
    let mut found = Vec::new();
    for row in legible::unreadable(db).await? {
        let reason = format!("engines and API leave out a row that they cannot read: {}", row.why);
        found.push(check(
            "rows_readable",
            None,
            ReadinessLevel::Red,
            reason,
            "Mend the row, or start the version that wrote it.",
        ));
    }
    for finding in db.findings().await? {
        let level = if finding.fatal { ReadinessLevel::Red } else { ReadinessLevel::Yellow };
        let reason =
            format!("the database server's {} is {}: {}", finding.setting, finding.value, finding.why);
        found.push(check("database_settings", None, level, reason, finding.cure));
    }
    Ok(found)
}

/// Whether there is a login, and whether it works where it counts: in the engines.
fn openstack(configured: bool, engines: &[&EngineRow]) -> Vec<ReadinessCheck> {
    use ReadinessLevel::{Green, Red, Yellow};
    if !configured {
        let reason = "section [openstack] is missing: no guest can be evacuated";
        return vec![check("openstack_configured", None, Red, reason, "Fill in [openstack] and restart.")];
    }
    let mut found = vec![check("openstack_configured", None, Green, "section [openstack] is configured", "")];
    let said: Vec<(&str, bool, &str)> = engines
        .iter()
        .filter_map(|row| {
            let openstack = &row.detail["openstack"];
            Some((
                row.name.as_str(),
                openstack["ok"].as_bool()?,
                openstack["text"].as_str().unwrap_or_default(),
            ))
        })
        .collect();
    let (level, remedy) = match (said.iter().any(|said| said.1), said.iter().any(|said| !said.1)) {
        (false, false) => return found,
        (true, false) => (Green, ""),
        (true, true) => (Yellow, "See what differs at this engine's machine."),
        (false, true) => {
            (Red, "Mend the login or the way to Keystone and Nova; the engine tries again by itself.")
        }
    };
    let of = said.iter().find(|said| said.1 == (level == Green));
    let reason = of.map_or_else(String::new, |(name, _, text)| format!("engine {name}: {text}"));
    found.push(check("openstack_answers", None, level, reason, remedy));
    found
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

pub(super) fn subject(host: &Host) -> Option<Subject> {
    Some(Subject { kind: SubjectKind::Host, id: host.id.to_string(), name: host.name.clone() })
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
    let mut found = vec![check("agent_alive", subject(host), level, reason, remedy)];
    found[0].since = agent.since;
    if agent.has_start_gate != Some(true) {
        let reason = "no start gate is attested, so after an unclean boot guests may start too early";
        let remedy = "Switch libvirt's autostart and Nova's resume_guests_state_on_host_boot off there.";
        found.push(check("start_gate_present", subject(host), Yellow, reason, remedy));
    }
    if host.serial.is_none() {
        let reason = "no serial is on file, so nobody can confirm by it that the machine is off";
        found.push(check(
            "serial_on_file",
            subject(host),
            Yellow,
            reason,
            &format!("Set it: `halberd host attributes {} --serial ..`", host.name),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use halberd_core::id::EngineId;
    use halberd_core::time::Stamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_login_is_as_good_as_the_engines_say() {
        use ReadinessLevel::{Green, Red, Yellow};
        let engine = |name: &str, detail: Value| EngineRow {
            name: name.into(),
            id: EngineId(Uuid::nil()),
            counter: 1,
            started_at: Stamp(0),
            renewed_at: Stamp(0),
            stopped_at: None,
            detail,
        };
        let good = engine("e-1", json!({ "openstack": { "ok": true, "text": "logged in as halberd" } }));
        let bad = engine("e-2", json!({ "openstack": { "ok": false, "text": "the password was refused" } }));
        let mute = engine("e-3", json!({ "version": "1" }));
        let answers = |engines: &[&EngineRow]| {
            let found = openstack(true, engines);
            assert_eq!(found[0].level, Green, "the section is there");
            found.get(1).map(|check| (check.level, check.reason.clone()))
        };
        assert_eq!(answers(&[]), None);
        assert_eq!(answers(&[&mute]), None, "absent is unknown");
        assert_eq!(answers(&[&mute, &good]), Some((Green, "engine e-1: logged in as halberd".into())));
        assert_eq!(answers(&[&good, &bad]), Some((Yellow, "engine e-2: the password was refused".into())));
        assert_eq!(answers(&[&bad, &mute]), Some((Red, "engine e-2: the password was refused".into())));
        assert_eq!(openstack(false, &[&good]).len(), 1);
        assert_eq!(openstack(false, &[&good])[0].level, Red);
    }
}
