//! `POST /v1/notifications`: 202 once the report is in the database and not a moment earlier; 400 schema, 403, 400 payload by type, 400 no host of
//! this name, 409 host on the operator's maintenance, 409 duplicate. In this order (contract 1.12).
//!
//! Monitors forget a report that got 400 or 409, so these two are given only when the report itself is the reason. What a database that
//! is full or busy makes of it is 503, which they repeat. A report that is turned away still leaves a row of evidence: it may be the
//! second sight that somebody waits for.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use halberd_core::audit::Entry;
use halberd_core::bus::{Action, Fault, Subject};
use halberd_core::host::Host;
use halberd_core::id::NotificationId;
use halberd_core::notification::{Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::time::Stamp;
use halberd_store::evidence::{self, NewEvidence};
use halberd_store::notifications::{self, Received};
use halberd_store::{Error, Stored, Tx, bus, hosts, write};
use halberd_types::v1::notification::{Create, ITEM, NotificationType as Kind};
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::input::Body;

/// `source` of the evidence that a report about a host on the operator's maintenance leaves.
const ON_MAINTENANCE: &str = "maintenance";

pub(crate) async fn create(State(app): State<App>, caller: Caller, Body(body): Body) -> ApiResult<Response> {
    let wanted = Create::parse(&body)?;
    caller.may("os_masakari_api:notifications:create")?;
    wanted.checked_payload()?;
    let id = NotificationId(Uuid::new_v4());
    let now = app.now();
    let outcome = write(&app.db, async |tx| receive(&app, tx, &caller, id, &wanted, now).await).await;
    let outcome = match outcome {
        // Whether the commit happened is unknown, so look: a report that stands is acknowledged, one that does not is not.
        Err(Error::Ambiguous(error)) => match notifications::get(&app.db, id).await {
            Ok(stored) => Outcome::Accepted(stored),
            Err(_) => return Err(Error::Ambiguous(error).into()),
        },
        outcome => outcome?,
    };
    match outcome {
        Outcome::Accepted(stored) => {
            app.nudge();
            Ok(answer::one(StatusCode::ACCEPTED, ITEM, &super::shown(&stored)))
        }
        Outcome::NoHost => {
            Err(ApiError::bad_request(format!("Host with name {} could not be found.", wanted.hostname)))
        }
        Outcome::OnMaintenance => Err(ApiError::conflict(format!(
            "Host {} is on maintenance, so reports about it are not acted on.",
            wanted.hostname
        ))),
        Outcome::Duplicate(why) => {
            app.nudge();
            Err(ApiError::conflict(format!("Notification received is duplicate of an earlier one: {why}.")))
        }
    }
}

enum Outcome {
    Accepted(Stored<Notification>),
    NoHost,
    OnMaintenance,
    Duplicate(String),
}

async fn receive(
    app: &App,
    tx: &mut Tx,
    caller: &Caller,
    id: NotificationId,
    wanted: &Create,
    now: Stamp,
) -> halberd_store::Result<Outcome> {
    let Some(host) = hosts::by_name(&mut *tx, &wanted.hostname).await? else { return Ok(Outcome::NoHost) };
    let report = report(id, &host, wanted);
    if host.maintenance.operator {
        evidence::insert(tx, &turned_away(&report), now).await?;
        let message = format!("host {} is on maintenance", host.name);
        tell_refusal(tx, &report, "HostOnMaintenanceError", message, now).await?;
        return Ok(Outcome::OnMaintenance);
    }
    let window = Duration::from_secs(app.config.duplicate_window_s);
    match notifications::receive(tx, &report, window, now).await? {
        Received::Accepted(stored) => {
            let text = format!("{} reported {} of {}", caller.actor(), report.kind, host.name);
            let detail = json!({ "notification": report, "request": caller.request_id.as_str() });
            app.audit(tx, Entry::new("notification_received", text, detail), now).await?;
            Ok(Outcome::Accepted(stored))
        }
        Received::Duplicate { why, .. } => {
            tell_refusal(tx, &report, "DuplicateNotification", why.clone(), now).await?;
            Ok(Outcome::Duplicate(why))
        }
    }
}

/// Tells the message bus of a report that became no notification; the exception is named as the original's.
async fn tell_refusal(
    tx: &mut Tx,
    report: &Notification,
    exception: &'static str,
    message: String,
    now: Stamp,
) -> halberd_store::Result<()> {
    let fault = Fault { exception, message };
    bus::refused(tx, Subject::Notification(report, None), Action::Create, &fault, now).await
}

fn report(id: NotificationId, host: &Host, wanted: &Create) -> Notification {
    Notification {
        id,
        kind: match wanted.notification_type {
            Kind::ComputeHost => NotificationType::ComputeHost,
            Kind::Vm => NotificationType::Vm,
            Kind::Process => NotificationType::Process,
        },
        host: host.id,
        segment: host.segment,
        generated_at: Stamp(wanted.generated_time.micros()),
        payload: wanted.payload.clone(),
        origin: Origin::Caller,
        status: NotificationStatus::New,
        message: None,
    }
}

fn turned_away(report: &Notification) -> NewEvidence {
    NewEvidence {
        host: report.host,
        notification: None,
        source: ON_MAINTENANCE.to_owned(),
        class: None,
        text: format!(
            "{} was reported and turned away: the operator has the host on maintenance",
            report.kind
        ),
        detail: json!({
            "type": report.kind, "payload": report.payload, "generated_at": report.generated_at, "origin": report.origin,
        }),
    }
}
