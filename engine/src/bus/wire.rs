//! A waiting message as oslo.messaging's listeners read it: the notification's fields as JSON text inside of the envelope of format
//! 2.0, again JSON. The queue is the topic and the priority's name in lower case.

use halberd_core::bus::{Priority, timestamp};
use halberd_store::bus::Waiting;
use lapin::BasicProperties;
use serde_json::json;

/// AMQP's delivery mode of a message that a durable queue keeps through a restart.
const PERSISTENT: u8 = 2;

/// Queue and routing key of a topic.
pub(super) fn queue(topic: &str, priority: Priority) -> String {
    format!("{topic}.{}", priority.as_str().to_ascii_lowercase())
}

/// The body.
pub(super) fn body(message: &Waiting) -> Vec<u8> {
    let notification = json!({
        "message_id": message.id.to_string(),
        "publisher_id": message.publisher,
        "event_type": message.event_type,
        "priority": message.priority.as_str(),
        "payload": message.payload,
        "timestamp": timestamp(message.at),
        // Of this sending. A listener that meets it twice drops the second and leaves it unacknowledged, which in time costs it its
        // channel; so a repeat of ours differs here, and is known by its message_id.
        "_unique_id": format!("{}-{}", message.id.simple(), message.version),
    });
    json!({ "oslo.version": "2.0", "oslo.message": notification.to_string() }).to_string().into_bytes()
}

pub(super) fn properties(message: &Waiting) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use halberd_core::time::Stamp;
    use serde_json::Value;
    use uuid::Uuid;

    #[test]
    fn the_envelope_is_text_in_an_object() {
        let message = Waiting {
            num: 1,
            id: Uuid::from_u128(0xe437834a_73e1_4c47_939a_83f6aca2e7ac),
            object: "segment:1".into(),
            publisher: "masakari-api:ctl-1".into(),
            event_type: "segment.create.end".into(),
            priority: Priority::Info,
            payload: json!({ "masakari_object.name": "SegmentApiPayload" }),
            at: Stamp(1_543_310_790_123_456),
            attempts: 0,
            version: 1,
        };
        let outer: Value = serde_json::from_slice(&body(&message)).unwrap();
        assert_eq!(outer["oslo.version"], "2.0");
        assert_eq!(outer.as_object().unwrap().len(), 2);
        let inner: Value = serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap();
        let wanted = json!({
            "message_id": "e437834a-73e1-4c47-939a-83f6aca2e7ac",
            "publisher_id": "masakari-api:ctl-1",
            "event_type": "segment.create.end",
            "priority": "INFO",
            "payload": { "masakari_object.name": "SegmentApiPayload" },
            "timestamp": "2018-11-27 09:26:30.123456",
            "_unique_id": "e437834a73e14c47939a83f6aca2e7ac-1"
        });
        assert_eq!(inner, wanted);
        assert_eq!(queue("versioned_notifications", Priority::Error), "versioned_notifications.error");
    }
}
