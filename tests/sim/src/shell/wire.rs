//! Nova's JSON. What a microversion adds or takes away is decided here, field by field.

use crate::model::{Action, Aggregate, Migration, Server, Service};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

fn time(epoch: i64, ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(epoch * 1_000 + ms).unwrap_or_default()
}

/// `2026-11-20T21:29:26.000000`: UTC without zone, whole seconds, as the database keeps them.
pub(super) fn naive(epoch: i64, ms: i64) -> String {
    time(epoch, ms).format("%Y-%m-%dT%H:%M:%S.000000").to_string()
}

/// `2026-11-20T21:29:26Z`, of servers and tokens.
pub(super) fn zulu(epoch: i64, ms: i64) -> String {
    time(epoch, ms).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn zulu_seconds(epoch: i64, ms: i64) -> String {
    time(epoch, ms).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A row of `os-services`; `number` is the integer id of microversions before 2.53.
pub(super) fn service(it: &Service, number: usize, minor: u16, epoch: i64) -> Value {
    if it.status == "UNKNOWN" && minor >= 69 {
        return json!({"binary": it.binary, "host": it.host, "status": "UNKNOWN"});
    }
    let mut row = json!({
        "binary": it.binary, "host": it.host, "zone": it.zone, "status": it.status,
        "state": if it.up { "up" } else { "down" },
        "updated_at": naive(epoch, it.updated_at as i64),
        "disabled_reason": it.disabled_reason,
    });
    row["id"] = if minor >= 53 { json!(it.id) } else { json!(number) };
    if minor >= 11 {
        row["forced_down"] = json!(it.forced_down);
    }
    row
}

/// A server of `servers/detail` or `servers/{id}`.
pub(super) fn server(it: &Server, minor: u16, epoch: i64, base: &str) -> Value {
    let links = json!([{"rel": "self", "href": format!("{base}/compute/v2.1/servers/{}", it.id)}]);
    if it.status == "UNKNOWN" && minor >= 69 {
        return json!({"id": it.id, "status": "UNKNOWN", "tenant_id": it.project,
                      "created": zulu_seconds(epoch, it.created_at), "links": links});
    }
    let mut row = json!({
        "id": it.id, "name": it.name, "status": it.status, "tenant_id": it.project, "user_id": "tenant",
        "metadata": it.metadata, "links": links,
        "created": zulu_seconds(epoch, it.created_at), "updated": zulu_seconds(epoch, it.updated_at as i64),
        "hostId": it.host.as_deref().map_or(String::new(), |host| format!("id-{host}")),
        "image": if it.volume_backed { json!("") } else { json!({"id": "cirros", "links": []}) },
        "flavor": {"id": "1", "links": []},
        "addresses": {}, "key_name": null, "config_drive": "", "accessIPv4": "", "accessIPv6": "",
        "OS-EXT-SRV-ATTR:host": it.host, "OS-EXT-SRV-ATTR:hypervisor_hostname": it.host,
        "OS-EXT-SRV-ATTR:instance_name": format!("instance-{:08x}", it.number),
        "OS-EXT-STS:vm_state": it.vm_state.name(), "OS-EXT-STS:task_state": it.task_state,
        "OS-EXT-STS:power_state": it.power_state, "OS-EXT-AZ:availability_zone": "nova",
        "os-extended-volumes:volumes_attached": [],
    });
    if it.volume_backed {
        row["os-extended-volumes:volumes_attached"] = json!([{"id": it.id, "delete_on_termination": false}]);
    }
    if minor >= 47 {
        row["flavor"] = json!({"vcpus": 1, "ram": 1024, "disk": 5, "ephemeral": 0, "swap": 0,
                               "original_name": "small", "extra_specs": {}});
    }
    if minor >= 9 {
        row["locked"] = json!(it.locked);
    }
    if minor >= 16 {
        row["host_status"] = json!(it.host_status);
    }
    if minor >= 26 {
        row["tags"] = json!(it.tags);
    }
    if minor >= 73 {
        row["locked_reason"] = json!(it.locked_reason);
    }
    if minor >= 96 {
        row["pinned_availability_zone"] = Value::Null;
    }
    if let Some(message) = &it.fault {
        row["fault"] = json!({"code": 500, "created": zulu_seconds(epoch, it.updated_at as i64),
                              "message": message, "details": message});
    }
    row
}

/// A migration record.
pub(super) fn migration(it: &Migration, minor: u16, epoch: i64) -> Value {
    let mut row = json!({
        "id": it.id, "instance_uuid": it.instance, "status": it.status,
        "source_compute": it.source, "source_node": it.source,
        "dest_compute": it.dest, "dest_node": it.dest,
        "dest_host": it.dest.as_ref().map(|_| "127.0.0.1"),
        "old_instance_type_id": null, "new_instance_type_id": null,
        "created_at": naive(epoch, it.created_at as i64),
        "updated_at": it.updated_at.map(|at| naive(epoch, at as i64)),
    });
    if minor >= 23 {
        row["migration_type"] = json!(it.kind);
    }
    if minor >= 59 {
        row["uuid"] = json!(it.uuid);
    }
    if minor >= 80 {
        row["user_id"] = json!("admin");
        row["project_id"] = json!("admin");
    }
    row
}

/// An instance action, with its events where `events` is set.
pub(super) fn action(it: &Action, server: uuid::Uuid, minor: u16, epoch: i64, events: bool) -> Value {
    let mut row = json!({
        "action": it.action, "instance_uuid": server, "request_id": it.request_id,
        "user_id": "admin", "project_id": "admin", "start_time": naive(epoch, it.start_at as i64),
        "message": it.error.then_some("Error"),
    });
    if minor >= 58 {
        row["updated_at"] = json!(naive(epoch, it.updated_at as i64));
    }
    if events {
        let event = |event: &crate::ActionEvent| {
            let mut row = json!({
                "event": event.event, "start_time": naive(epoch, event.start_at as i64),
                "finish_time": event.finish_at.map(|at| naive(epoch, at as i64)),
                "result": event.success.map(|success| if success { "Success" } else { "Error" }),
                "traceback": event.details.as_ref().map(|text| format!("Traceback: {text}")),
            });
            if minor >= 62 {
                row["host"] = json!(event.host);
                row["hostId"] = json!(format!("id-{}", event.host));
            }
            if minor >= 84 {
                row["details"] = json!(event.details);
            }
            row
        };
        row["events"] = Value::Array(it.events.iter().map(event).collect());
    }
    row
}

/// An aggregate; the answer to a create lacks hosts and metadata.
pub(super) fn aggregate(it: &Aggregate, minor: u16, epoch: i64, created: bool) -> Value {
    let mut row = json!({
        "id": it.id, "name": it.name, "availability_zone": null,
        "created_at": naive(epoch, it.created_at as i64), "updated_at": null, "deleted_at": null, "deleted": false,
    });
    if minor >= 41 {
        row["uuid"] = json!(it.uuid);
    }
    if !created {
        row["hosts"] = json!(it.hosts);
        row["metadata"] = json!(it.metadata);
    }
    row
}
