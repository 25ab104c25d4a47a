//! Events: as server-sent events and as the body of a webhook (CloudEvents 1.0, structured JSON).
//!
//! An event is written in the transaction of the change it tells of. Its `id` is the same on every delivery, so a receiver
//! drops repeats by it; `sequence` orders the events of one recovery without a gap, so a receiver sees a loss.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// Prefix of the CloudEvents `type`.
const TYPE_PREFIX: &str = "halberd.";

/// Content type of [`Event::cloud_event`].
pub const CLOUD_EVENT_CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = halberd::Event)]
pub struct Event {
    pub id: Uuid,
    pub recovery_id: Option<Uuid>,
    /// Within the recovery, from 1; events without one have their own row of numbers.
    pub sequence: i64,
    /// Of the engine's hold on the recovery when it was written.
    pub epoch: i64,
    /// `recovery.opened`, `host.fenced`, `guest.failed`, ...
    pub kind: String,
    pub time: DateTime<Utc>,
    /// `host/cmp-01`, `guest/<uuid>`, `service/keystone`.
    pub subject: String,
    pub data: Value,
}

impl Event {
    /// The event in the text of an SSE stream, with its blank line. A client resumes with `Last-Event-ID: <id>`.
    ///
    /// # Errors
    /// When the data cannot be written as JSON (a map with keys that are no strings; none of ours).
    pub fn to_sse(&self) -> Result<String, serde_json::Error> {
        // JSON escapes line feeds, so one data line carries all of it; the kind has none either.
        let kind: String = self.kind.chars().filter(|c| !c.is_control()).collect();
        Ok(format!("id: {}\nevent: {kind}\ndata: {}\n\n", self.id, serde_json::to_string(self)?))
    }

    /// The CloudEvents body. `source` is the URI of this installation. Extension attributes are lower case letters only, and
    /// `sequence` is a string, as that extension asks.
    pub fn cloud_event(&self, source: &str) -> Value {
        let mut body = json!({
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": format!("{TYPE_PREFIX}{}", self.kind),
            "subject": self.subject,
            "time": self.time.to_rfc3339_opts(SecondsFormat::Micros, true),
            "datacontenttype": "application/json",
            "sequence": self.sequence.to_string(),
            "epoch": self.epoch,
            "data": self.data,
        });
        if let Some(recovery) = self.recovery_id {
            body["recoveryid"] = json!(recovery);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            id: Uuid::from_u128(1),
            recovery_id: Some(Uuid::from_u128(2)),
            sequence: 3,
            epoch: 4,
            kind: "host.fenced".into(),
            time: DateTime::from_timestamp_micros(1_795_256_430_000_123).expect("a time"),
            subject: "host/cmp-01".into(),
            data: json!({ "text": "line\nbreak" }),
        }
    }

    #[test]
    fn sse_is_one_block_that_reads_back() {
        let text = event().to_sse().expect("json");
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 5, "{text:?}");
        assert_eq!(lines[0], "id: 00000000-0000-0000-0000-000000000001");
        assert_eq!(lines[1], "event: host.fenced");
        let back: Event =
            serde_json::from_str(lines[2].strip_prefix("data: ").expect("a data line")).expect("reads back");
        assert_eq!(back, event());
        assert_eq!(&lines[3..], ["", ""]);
        let injected = Event { kind: "a\nid: 9".into(), ..event() }.to_sse().expect("json");
        assert!(!injected.contains("\nid: 9"), "{injected}");
    }

    #[test]
    fn cloud_event_attributes() {
        let body = event().cloud_event("https://halberd.example");
        assert_eq!(body["specversion"], "1.0");
        assert_eq!(body["type"], "halberd.host.fenced");
        assert_eq!(body["time"], "2026-11-21T10:20:30.000123Z");
        assert_eq!((&body["sequence"], &body["epoch"]), (&json!("3"), &json!(4)));
        assert_eq!(body["recoveryid"], "00000000-0000-0000-0000-000000000002");
        let names = body.as_object().expect("object").keys();
        assert!(
            names.into_iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
        );
        let without = Event { recovery_id: None, ..event() }.cloud_event("s");
        assert!(without.get("recoveryid").is_none());
    }
}
