//! Servers: Nova's word for guests.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Link, Microversion, Nova, Page, has_next, lenient, no_empty};
use crate::Error;

/// A guest as Nova sees it. A partial record (its cell is down) has status UNKNOWN and little else.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Server {
    /// The uuid.
    pub id: String,
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// `ACTIVE`, `SHUTOFF`, `REBUILD`, `ERROR`, …; UNKNOWN when its cell is down.
    #[serde(default, deserialize_with = "lenient")]
    pub status: String,
    /// The project it belongs to.
    #[serde(default, rename = "tenant_id", deserialize_with = "lenient")]
    pub project_id: String,
    /// `active`, `stopped`, `error`, `paused`, …
    #[serde(default, rename = "OS-EXT-STS:vm_state")]
    pub vm_state: Option<String>,
    /// `rebuilding`, …; none when nothing is under way.
    #[serde(default, rename = "OS-EXT-STS:task_state", deserialize_with = "no_empty")]
    pub task_state: Option<String>,
    /// 0 no state, 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended.
    #[serde(default, rename = "OS-EXT-STS:power_state")]
    pub power_state: Option<i64>,
    /// Where it is; after an evacuation the old host is still shown for a moment with status ACTIVE.
    #[serde(default, rename = "OS-EXT-SRV-ATTR:host", deserialize_with = "no_empty")]
    pub host: Option<String>,
    /// The hypervisor's own name for itself.
    #[serde(default, rename = "OS-EXT-SRV-ATTR:hypervisor_hostname", deserialize_with = "no_empty")]
    pub hypervisor_hostname: Option<String>,
    /// libvirt's name for it.
    #[serde(default, rename = "OS-EXT-SRV-ATTR:instance_name")]
    pub instance_name: Option<String>,
    /// Availability zone.
    #[serde(default, rename = "OS-EXT-AZ:availability_zone", deserialize_with = "no_empty")]
    pub availability_zone: Option<String>,
    /// `UP`, `DOWN` (forced), `UNKNOWN` (silent), `MAINTENANCE` (disabled).
    #[serde(default, deserialize_with = "no_empty")]
    pub host_status: Option<String>,
    /// Locked against its owner's changes; an admin's evacuate ignores it.
    #[serde(default, deserialize_with = "lenient")]
    pub locked: bool,
    /// Why, from 2.73.
    #[serde(default)]
    pub locked_reason: Option<String>,
    /// Owner's keys, `HA_Enabled` among them.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: BTreeMap<String, String>,
    /// Owner's tags.
    #[serde(default, deserialize_with = "lenient")]
    pub tags: Vec<String>,
    /// Size.
    #[serde(default, deserialize_with = "lenient")]
    pub flavor: Flavor,
    /// Booted from a volume (Nova shows no image then). False in a partial record.
    #[serde(default, rename = "image", deserialize_with = "no_image")]
    pub volume_backed: bool,
    /// Attached volumes.
    #[serde(default, rename = "os-extended-volumes:volumes_attached", deserialize_with = "lenient")]
    pub volumes: Vec<Volume>,
    /// The last fault; Nova shows it only in status ERROR.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// RFC 3339, UTC.
    #[serde(default)]
    pub created: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default)]
    pub updated: Option<String>,
}

impl Server {
    /// False for the partial record of a down cell.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.vm_state.is_some()
    }
}

/// The size a guest was made with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Flavor {
    /// The flavor's name at that time.
    #[serde(rename = "original_name", deserialize_with = "lenient")]
    pub name: String,
    /// Virtual CPUs.
    #[serde(deserialize_with = "lenient")]
    pub vcpus: u64,
    /// MiB.
    #[serde(deserialize_with = "lenient")]
    pub ram: u64,
    /// GiB.
    #[serde(deserialize_with = "lenient")]
    pub disk: u64,
    /// Extra specs; empty where policy hides them.
    #[serde(deserialize_with = "lenient")]
    pub extra_specs: BTreeMap<String, String>,
}

/// An attached volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Cinder's id.
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
}

/// Why a guest is in ERROR.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// An HTTP-like number.
    pub code: i64,
    /// For people.
    #[serde(deserialize_with = "lenient")]
    pub message: String,
    /// When, RFC 3339.
    pub created: Option<String>,
}

/// A guest booted from a volume has `"image": ""`.
fn no_image<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Value::deserialize(from)?.as_str() == Some(""))
}

#[derive(Deserialize)]
struct Listed {
    servers: Vec<Server>,
    #[serde(default)]
    servers_links: Vec<Link>,
}

#[derive(Deserialize)]
struct Shown {
    server: Server,
}

impl Page for Listed {
    type Row = Server;

    fn split(self) -> (Vec<Server>, bool) {
        let more = has_next(&self.servers_links);
        (self.servers, more)
    }

    fn marker(row: &Server) -> &str {
        &row.id
    }
}

impl Nova {
    /// All guests that Nova places on a host, of all projects. With this filter Nova silently leaves out cells that are
    /// down: the host's own row ([`Nova::service`]) must be whole before and after.
    pub async fn servers(&self, host: &str) -> Result<Vec<Server>, Error> {
        self.list_servers(vec![("host", host.to_owned())]).await
    }

    /// All guests of the cloud, partial records of down cells among them.
    pub async fn all_servers(&self) -> Result<Vec<Server>, Error> {
        self.list_servers(Vec::new()).await
    }

    async fn list_servers(&self, mut query: Vec<(&'static str, String)>) -> Result<Vec<Server>, Error> {
        query.push(("all_tenants", "1".to_owned()));
        self.pages::<Listed>(Microversion::SERVERS, &["servers", "detail"], query).await
    }

    /// One guest.
    ///
    /// Errors: [`Error::NotFound`].
    pub async fn server(&self, id: &str) -> Result<Server, Error> {
        Ok(self.get(Microversion::SERVERS, &["servers", id], &[]).await?.json::<Shown>()?.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_whole_record() {
        let server: Server = serde_json::from_value(json!({
            "id": "u1", "name": "db", "status": "ERROR", "tenant_id": "p1", "metadata": {"HA_Enabled": "True"},
            "image": "", "flavor": {"vcpus": 2, "ram": 1024, "disk": 5, "ephemeral": 0, "swap": 0,
                "original_name": "m1", "extra_specs": {"hw:mem_page_size": "large"}},
            "OS-EXT-SRV-ATTR:host": "cmp-02", "OS-EXT-SRV-ATTR:hypervisor_hostname": "cmp-02.example",
            "OS-EXT-STS:vm_state": "error", "OS-EXT-STS:task_state": null, "OS-EXT-STS:power_state": 1,
            "os-extended-volumes:volumes_attached": [{"id": "v1", "delete_on_termination": false}],
            "locked": true, "locked_reason": "moving", "tags": ["a"], "created": "2026-11-20T21:29:26Z",
            "fault": {"code": 500, "created": "2026-11-20T21:29:26Z", "message": "No valid host was found. "}
        }))
        .unwrap();
        assert!(server.is_whole() && server.volume_backed && server.locked);
        assert_eq!(server.host.as_deref(), Some("cmp-02"));
        assert_eq!(server.task_state, None);
        assert_eq!((server.flavor.vcpus, server.flavor.ram), (2, 1024));
        assert_eq!(server.volumes[0].id, "v1");
        assert_eq!(server.fault.unwrap().message, "No valid host was found. ");
    }

    #[test]
    fn nulls_and_gaps_are_no_error() {
        let bare: Server = serde_json::from_value(json!({"id": "u1", "status": "UNKNOWN", "tenant_id": "p1",
            "created": "2026-11-20T21:29:26Z", "links": []}))
        .unwrap();
        assert!(!bare.is_whole() && !bare.volume_backed);
        let nulls: Server =
            serde_json::from_value(json!({"id": "u1", "name": null, "metadata": null, "tags": null,
            "flavor": null, "image": {"id": "i"}, "OS-EXT-SRV-ATTR:host": "", "locked": null,
            "OS-EXT-STS:power_state": null, "os-extended-volumes:volumes_attached": null}))
            .unwrap();
        assert_eq!((nulls.host, nulls.volume_backed), (None, false));
    }
}
