//! From a stored event to the body that one hook is sent.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use halberd_store::events::EventRow;
use halberd_types::halberd::event::{CLOUD_EVENT_CONTENT_TYPE, Event as WireEvent};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::config::Hook;
use super::preset;
use super::ticket::{self, TicketAction};

/// An alert that nobody closes ends by itself after a day: long enough for any recovery that a person has to finish, and the
/// next update prolongs it.
const ALERT_LIFE: TimeDelta = TimeDelta::days(1);

/// A body and its type.
#[derive(Debug)]
pub(super) struct Message {
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// Builds what `hook` is sent of an event. `source` is the URI of this installation.
pub(super) fn build(hook: &Hook, row: &EventRow, source: &str) -> Result<Message, String> {
    let event = wire(row).cloud_event(source);
    match &hook.template {
        None => Ok(Message { content_type: CLOUD_EVENT_CONTENT_TYPE, body: event.to_string().into_bytes() }),
        Some(template) => {
            let filled = template.fill(&values(hook, row, event)?);
            Ok(Message { content_type: "application/json", body: filled.to_string().into_bytes() })
        }
    }
}

fn wire(row: &EventRow) -> WireEvent {
    WireEvent {
        id: row.event.id.0,
        recovery_id: row.event.recovery.map(|id| id.0),
        sequence: row.sequence.unwrap_or(row.num),
        epoch: row.epoch,
        kind: row.event.kind.as_str().to_owned(),
        time: time(row),
        subject: row.event.subject.clone(),
        data: row.event.data.clone(),
    }
}

fn time(row: &EventRow) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(row.at.0).unwrap_or_default()
}

/// Everything a template may name.
fn values(hook: &Hook, row: &EventRow, event: Value) -> Result<Value, String> {
    let kind = row.event.kind;
    let text = row.event.data.get("text").and_then(Value::as_str).unwrap_or_default();
    let headline = match text {
        "" => format!("{kind}: {}", row.event.subject),
        text => format!("{kind}: {}: {text}", row.event.subject),
    };
    let ticket = ticket::of(&row.event);
    let over = ticket.as_ref().is_some_and(|ticket| ticket.action == TicketAction::Close);
    let severity = ticket::severity(kind);
    let params: Map<String, Value> = hook
        .params
        .iter()
        .map(|(name, value)| Ok((name.clone(), Value::from(value.read()?.expose_secret()))))
        .collect::<Result<_, String>>()?;
    let ends = if over { time(row) } else { time(row) + ALERT_LIFE };
    let mut values = json!({
        "text": if text.is_empty() { &headline } else { text },
        "headline": headline,
        "slack_text": escape_for_slack(&headline),
        "details": event.to_string(),
        "severity": severity,
        "severity_word": preset::severity_word(hook.preset, severity, over),
        "resolution": if over { "Closing" } else { "New" },
        "time_plain": time(row).format("%Y-%m-%d %H:%M:%S").to_string(),
        "ends_at": ends.to_rfc3339_opts(SecondsFormat::Micros, true),
        "event": event,
        "params": params,
    });
    if let Some(ticket) = ticket {
        let word = preset::action_word(hook.preset, ticket.action);
        values["ticket"] = json!({"action": ticket.action, "key": ticket.key, "word": word});
    }
    Ok(values)
}

fn escape_for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announcer::config::WebhookConfig;
    use halberd_core::event::{Event, EventKind};
    use halberd_core::id::{EventId, RecoveryId};
    use halberd_core::time::Stamp;
    use uuid::Uuid;

    fn row(kind: EventKind, recovery: bool) -> EventRow {
        EventRow {
            num: 77,
            event: Event {
                id: EventId(Uuid::from_u128(1)),
                kind,
                recovery: recovery.then(|| RecoveryId(Uuid::from_u128(2))),
                subject: "host/cmp-01".into(),
                data: json!({"text": "host \"cmp-01\" <is> off"}),
            },
            sequence: recovery.then_some(3),
            epoch: 4,
            at: Stamp(1_795_256_430_000_123),
        }
    }

    fn sent(template: &str, row: &EventRow) -> Value {
        let section =
            json!({"name": "h", "url": "http://h/", "template": template, "params": {"routing_key": "R"}});
        let hook = serde_json::from_value::<WebhookConfig>(section).unwrap().check().unwrap();
        serde_json::from_slice(&build(&hook, row, "/halberd").unwrap().body).unwrap()
    }

    const RECOVERY: &str = "00000000-0000-0000-0000-000000000002";

    #[test]
    fn generic_is_a_cloud_event() {
        let body = sent("generic", &row(EventKind::HostFenced, true));
        assert_eq!((&body["specversion"], &body["type"]), (&json!("1.0"), &json!("halberd.host.fenced")));
        assert_eq!((&body["sequence"], &body["epoch"]), (&json!("3"), &json!(4)));
        assert_eq!((&body["recoveryid"], &body["source"]), (&json!(RECOVERY), &json!("/halberd")));
        assert_eq!(sent("generic", &row(EventKind::ServiceDown, false))["sequence"], "77");
    }

    #[test]
    fn one_ticket_is_opened_and_closed_under_the_recoverys_id() {
        let opened = row(EventKind::RecoveryOpened, true);
        let closed = row(EventKind::RecoveryClosed, true);
        let (open, close) = (sent("pagerduty", &opened), sent("pagerduty", &closed));
        assert_eq!((&open["event_action"], &open["dedup_key"]), (&json!("trigger"), &json!(RECOVERY)));
        assert_eq!((&close["event_action"], &close["dedup_key"]), (&json!("resolve"), &json!(RECOVERY)));
        assert_eq!((&open["routing_key"], &open["payload"]["severity"]), (&json!("R"), &json!("critical")));
        assert_eq!(open["payload"]["custom_details"]["epoch"], 4, "the whole event goes along, typed");
        let (open, close) = (sent("servicenow", &opened), sent("servicenow", &closed));
        assert_eq!(
            (&open["records"][0]["severity"], &open["records"][0]["message_key"]),
            (&json!("1"), &json!(RECOVERY))
        );
        assert_eq!(
            (&close["records"][0]["severity"], &close["records"][0]["message_key"]),
            (&json!("0"), &json!(RECOVERY))
        );
        let (open, close) = (sent("jira", &opened), sent("jira", &closed));
        assert_eq!((&open["data"]["action"], &close["data"]["action"]), (&json!("open"), &json!("close")));
        assert_eq!(open["data"]["key"], close["data"]["key"]);
        let (open, close) = (sent("alertmanager", &opened), sent("alertmanager", &closed));
        assert_eq!(open[0]["labels"], close[0]["labels"], "the labels are the identity");
        assert_eq!(close[0]["endsAt"], "2026-11-21T10:20:30.000123Z");
        assert_eq!(open[0]["endsAt"], "2026-11-22T10:20:30.000123Z");
    }

    #[test]
    fn pairs_without_a_recovery_have_their_own_key() {
        let down = sent("pagerduty", &row(EventKind::DeviceBad, false));
        let up = sent("pagerduty", &row(EventKind::DeviceGood, false));
        assert_eq!(down["dedup_key"], "fence_device:host/cmp-01");
        assert_eq!((&up["dedup_key"], &up["event_action"]), (&down["dedup_key"], &json!("resolve")));
        assert_ne!(down["dedup_key"], sent("pagerduty", &row(EventKind::AgentLost, false))["dedup_key"]);
    }

    #[test]
    fn slack_is_escaped() {
        let body = sent("slack", &row(EventKind::HostFenced, true));
        assert_eq!(body, json!({"text": "host.fenced: host/cmp-01: host \"cmp-01\" &lt;is&gt; off"}));
    }

    #[test]
    fn every_preset_reads() {
        for preset in preset::PRESETS {
            sent(preset.name, &row(EventKind::RecoveryOpened, true));
        }
    }
}
