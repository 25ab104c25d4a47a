//! `POST /agents/self/reports`: what a host saw of itself.
//!
//! What Masakari has a notification for becomes one, of origin agent; the rest is evidence that engines read. A report from an
//! earlier boot is kept as evidence only: since then everything on the host has changed, and its agent says anew what is.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use halberd_core::audit::Entry;
use halberd_core::evidence::Class;
use halberd_core::host::Host;
use halberd_core::id::NotificationId;
use halberd_core::notification::{Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::time::Stamp;
use halberd_store::agent_reports::ReportRow;
use halberd_store::evidence::NewEvidence;
use halberd_store::notifications::Received;
use halberd_store::{
    Result as StoreResult, Tx, agent_reports, audit, evidence, hosts, notifications, settings, write,
};
use halberd_types::halberd::problem::Problem;
use halberd_types::report::{IdentityPayload, NotificationOf, REPORTS_PATH, Report, ReportKind};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Lane, Lanes, Speaker, advance, speaker};
use crate::App;
use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::site::agents::statement_of;

/// `source` of evidence that a host's own agent gave.
const AGENT: &str = "agent";
/// Words of a panic that are kept.
const PANIC_CHARS: usize = 500;

/// Takes a report of a host about itself. The same report again is answered as the first time.
#[utoipa::path(
    post, path = "/agents/self/reports", operation_id = "report", tag = "agents",
    request_body(content = Object, description = "`halberd_types::report::Report`: report_id, host, boot, observed_ns, observed_at, kind and what the kind has."),
    responses(
        (status = 202, description = "Taken: `outcome` is accepted, duplicate or recorded.", body = Object),
        (status = 200, description = "Taken before; the same answer.", body = Object),
        (status = 400, body = Problem),
        (status = 401, description = "The signature does not fit, or the counter has not grown.", body = Problem),
        (status = 403, description = "It speaks of another host, or from a boot that was fenced.", body = Problem),
        (status = 409, description = "The host is on its operator's maintenance.", body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    Extension(lanes): Extension<Lanes>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let speaker = speaker(&app, &lanes, "POST", REPORTS_PATH, &headers, &body).await?;
    let raw = input::json(&body)?;
    let report: Report = serde_json::from_value(raw.clone())
        .map_err(|error| Failure::bad_request(format!("The body is no report: {error}.")))?;
    if report.host != speaker.host.id.0 {
        return Err(about_another(&app, &speaker, &report).await?);
    }
    if let Some(before) = agent_reports::seen(door::db(&app), report.report_id, speaker.host.id).await? {
        return Ok((StatusCode::OK, Json(before.answer)));
    }
    advance(&lanes, Lane::Reports, &speaker.signed)?;
    if speaker.host.maintenance.operator {
        return Err(Failure::conflict(format!(
            "Host {} is on its operator's maintenance.",
            speaker.host.name
        )));
    }
    let now = door::now(&app);
    let window = Duration::from_secs(app.config.duplicate_window_s);
    let (repeated, answer) = write(door::db(&app), async |tx| {
        // Again inside the unit: two copies may arrive at once.
        if let Some(before) = agent_reports::seen(&mut *tx, report.report_id, speaker.host.id).await? {
            return Ok((true, before.answer));
        }
        let (outcome, notification) = take(tx, &speaker, &report, &raw, window, now).await?;
        let answer = json!({
            "report_id": report.report_id, "outcome": outcome, "notification_uuid": notification,
        });
        let row = ReportRow {
            id: report.report_id,
            host: speaker.host.id,
            notification,
            answer: answer.clone(),
            at: now,
        };
        agent_reports::record(tx, &row).await?;
        Ok((false, answer))
    })
    .await?;
    door::nudge(&app);
    let status = if repeated { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(answer)))
}

/// 403, and the attempt stays in the record: somebody with this host's key tries to speak for another (S1).
async fn about_another(app: &App, speaker: &Speaker, report: &Report) -> Result<Failure, Failure> {
    let (now, chain) = (door::now(app), door::chain(app));
    let text = format!("a report signed by {} about another host was refused", speaker.host.name);
    tracing::warn!(host = %speaker.host.name, about = %report.host, "{text}");
    let detail = json!({ "host": speaker.host.id, "about": report.host, "report": report.report_id });
    let entry = Entry::new("report_refused", text, detail);
    write(door::db(app), async |tx| audit::append(tx, &chain, 0, std::slice::from_ref(&entry), now).await)
        .await?;
    Ok(Failure::forbidden("A host speaks only for itself; the report names another host than its signature."))
}

/// What becomes of a report that is not known yet.
async fn take(
    tx: &mut Tx,
    speaker: &Speaker,
    report: &Report,
    raw: &Value,
    window: Duration,
    now: Stamp,
) -> StoreResult<(&'static str, Option<NotificationId>)> {
    let host = &speaker.host;
    let this_boot = report.boot == speaker.signed.boot;
    match report.kind.notification() {
        Some(said) if this_boot => {
            let notification = notification_of(host, report, &said);
            match notifications::receive(tx, &notification, window, now).await? {
                Received::Accepted(stored) => Ok(("accepted", Some(stored.id))),
                Received::Duplicate { of, .. } => Ok(("duplicate", of)),
            }
        }
        _ => {
            let (class, text) = words(tx, host, report, raw, this_boot, now).await?;
            // The age is known only within one boot: counters of different boots cannot be compared.
            let age_ms =
                this_boot.then(|| speaker.signed.counter.saturating_sub(report.observed_ns) / 1_000_000);
            let mut detail = raw.clone();
            detail["age_ms"] = json!(age_ms);
            let piece = NewEvidence {
                host: host.id,
                notification: None,
                source: AGENT.to_owned(),
                class,
                text,
                detail,
            };
            evidence::insert(tx, &piece, now).await?;
            Ok(("recorded", None))
        }
    }
}

fn notification_of(host: &Host, report: &Report, said: &NotificationOf) -> Notification {
    Notification {
        id: NotificationId(Uuid::new_v4()),
        kind: if said.kind == "VM" { NotificationType::Vm } else { NotificationType::Process },
        host: host.id,
        segment: host.segment,
        generated_at: Stamp(report.observed_at.timestamp_micros()),
        payload: said.payload.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        origin: Origin::Agent,
        status: NotificationStatus::New,
        message: None,
    }
}

/// Class and sentence of a report that is evidence, and what else follows from it.
async fn words(
    tx: &mut Tx,
    host: &Host,
    report: &Report,
    raw: &Value,
    this_boot: bool,
    now: Stamp,
) -> StoreResult<(Option<Class>, String)> {
    let earlier = if this_boot { "" } else { " (in an earlier boot)" };
    Ok(match &report.kind {
        // Only the panic of the boot that still signs says anything about the present.
        ReportKind::Panic { detail } => {
            let said: String = detail.chars().take(PANIC_CHARS).collect();
            (this_boot.then_some(Class::E1), format!("kernel panic{earlier}: {said}"))
        }
        ReportKind::Domains { domains } => {
            let running = domains.iter().filter(|domain| domain.state == 1).count();
            (None, format!("libvirt knows {} domains, {running} of them running{earlier}", domains.len()))
        }
        ReportKind::Identity(identity) => {
            let text = keep_identity(tx, host, identity, raw, now).await?;
            (None, format!("{text}{earlier}"))
        }
        ReportKind::ProcessStopped(_)
        | ReportKind::ProcessStarted(_)
        | ReportKind::GuestStopped(_)
        | ReportKind::GuestEvent(_) => (None, "an event of an earlier boot, kept for the record".to_owned()),
    })
}

/// Files what a machine says of itself where nothing is on file; a contradiction is told, never overwritten (DESIGN 7).
async fn keep_identity(
    tx: &mut Tx,
    host: &Host,
    identity: &IdentityPayload,
    raw: &Value,
    now: Stamp,
) -> StoreResult<String> {
    let machine = identity.system_uuid.as_deref().and_then(|text| Uuid::parse_str(text).ok());
    hosts::keep_identity(tx, host.id, identity.serial.as_deref(), machine).await?;
    let statement = json!({
        "agent_version": identity.agent_version, "hostname": identity.hostname,
        "start_gate": raw["start_gate"], "watchdog": raw["watchdog"],
    });
    settings::set(tx, &statement_of(host.id), &statement.to_string(), now).await?;
    let mut contradictions = Vec::new();
    if let (Some(filed), Some(said)) = (&host.serial, &identity.serial)
        && !filed.eq_ignore_ascii_case(said)
    {
        contradictions.push(format!("its serial is {said}, on file is {filed}"));
    }
    if let (Some(filed), Some(said)) = (host.machine, machine)
        && filed != said
    {
        contradictions.push(format!("its machine UUID is {said}, on file is {filed}"));
    }
    if identity.hostname != host.name {
        contradictions.push(format!("it calls itself {}, not {}", identity.hostname, host.name));
    }
    Ok(if contradictions.is_empty() {
        format!("agent {} says which machine this is", identity.agent_version)
    } else {
        format!("another machine than expected: {}", contradictions.join("; "))
    })
}
