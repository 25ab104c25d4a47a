//! The original's versioned objects, field by field (contract 3.9): SegmentApiPayload 1.1, HostApiPayload 1.0 with FailoverSegment
//! 1.1, NotificationApiPayload 1.0, ExceptionPayload 1.0.

use serde_json::{Map, Value, json};

use super::{Fault, Row, Subject};
use crate::segment::Segment;
use crate::time::Stamp;

/// Characters of a fault's message that are sent. What is longer was written for a log.
pub const LONGEST_FAULT: usize = 1_000;

pub(super) fn of(subject: Subject<'_>, fault: Option<Value>) -> Value {
    let (name, version, mut data) = match subject {
        Subject::Segment(segment, row) => ("SegmentApiPayload", "1.1", segment_fields(segment, row)),
        Subject::Host(host, row, (segment, segment_row)) => {
            let mut data = fields(json!({
                "name": host.name,
                "failover_segment": failover_segment(segment, segment_row),
                "type": host.kind,
                "reserved": host.reserved,
                "control_attributes": host.control_attributes,
                "on_maintenance": host.maintenance.any(),
            }));
            put_ids(&mut data, "uuid", host.id.to_string(), row);
            ("HostApiPayload", "1.0", data)
        }
        Subject::Notification(report, row) => {
            let mut data = fields(json!({
                "generated_time": isotime(report.generated_at),
                "source_host_uuid": report.host.to_string(),
                "type": report.kind.as_str(),
                "payload": report.payload,
                "status": report.status.as_str(),
            }));
            put_ids(&mut data, "notification_uuid", report.id.to_string(), row);
            ("NotificationApiPayload", "1.0", data)
        }
    };
    data.insert("fault".to_owned(), fault.unwrap_or(Value::Null));
    versioned(name, version, data)
}

/// `operation` such as `segment.create` stands where a Python program names its function.
pub(super) fn fault(fault: &Fault, operation: &str) -> Value {
    let message: String = fault.message.chars().take(LONGEST_FAULT).collect();
    let data = json!({
        "module_name": "halberd",
        "function_name": operation,
        "exception": fault.exception,
        "exception_message": message,
        // Not nullable in ExceptionPayload 1.0, and there is none: what happened stands in the audit.
        "traceback": "",
    });
    versioned("ExceptionPayload", "1.0", fields(data))
}

fn segment_fields(segment: &Segment, row: Option<Row>) -> Map<String, Value> {
    let mut data = fields(json!({
        "name": segment.name,
        "service_type": segment.service_type,
        "description": segment.description,
        "recovery_method": segment.recovery_method.as_str(),
        "enabled": segment.enabled,
    }));
    put_ids(&mut data, "uuid", segment.id.to_string(), row);
    data
}

/// The stored object itself, as a host's payload embeds it.
fn failover_segment(segment: &Segment, row: Row) -> Value {
    let mut data = segment_fields(segment, Some(row));
    data.insert("created_at".to_owned(), json!(isotime(row.created_at)));
    data.insert("updated_at".to_owned(), json!(row.updated_at.map(isotime)));
    data.insert("deleted_at".to_owned(), json!(row.deleted_at.map(isotime)));
    data.insert("deleted".to_owned(), json!(row.deleted_at.is_some()));
    versioned("FailoverSegment", "1.1", data)
}

fn put_ids(data: &mut Map<String, Value>, key: &str, id: String, row: Option<Row>) {
    if let Some(row) = row {
        data.insert("id".to_owned(), json!(row.num));
        data.insert(key.to_owned(), json!(id));
    }
}

fn versioned(name: &str, version: &str, data: Map<String, Value>) -> Value {
    json!({
        "masakari_object.name": name,
        "masakari_object.namespace": "masakari",
        "masakari_object.version": version,
        "masakari_object.data": data,
    })
}

fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// As oslo.versionedobjects writes a time: whole seconds, UTC.
fn isotime(at: Stamp) -> String {
    let (date, clock, _) = civil(at);
    format!("{date}T{clock}Z")
}

/// As oslo.messaging writes the time of a message: UTC, with a blank and without a zone.
pub fn timestamp(at: Stamp) -> String {
    let (date, clock, micros) = civil(at);
    format!("{date} {clock}.{micros:06}")
}

/// Date, time of day and microseconds, by the Gregorian calendar; days are counted from 1 March of a year divisible by 400, so
/// that the leap day is a cycle's last.
fn civil(at: Stamp) -> (String, String, i64) {
    let (seconds, micros) = (at.0.div_euclid(1_000_000), at.0.rem_euclid(1_000_000));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let from_march = day + 719_468;
    let (era, day) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let clock = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    (format!("{year:04}-{month:02}-{day:02}"), clock, micros)
}
