//! Ironic: which machines it believes to be its own. It puts the power of its nodes right again every two minutes, so a machine that
//! we turn off behind its back it turns on (`sync_power_state_interval`), unless the node is in maintenance.
//!
//! Only read, and only what tells a machine from others. Shapes as in the Bare Metal API reference (nodes/detail).

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Error;
use crate::session::ServiceType;
use crate::transport::{Outgoing, Reply, Transport, join};

/// Nodes have names since 1.5 (Kilo, 2015); what we read has not changed since.
const MICROVERSION: &str = "1.5";
/// Rows per page; ironic's own default maximum, and a smaller one there wins.
const PAGE: usize = 1000;

/// Ironic's API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ironic {
    transport: Transport,
}

/// A machine that ironic manages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its id.
    pub uuid: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Left alone by the power sync.
    pub maintenance: bool,
    /// How its controller is reached; ironic masks passwords here.
    #[serde(deserialize_with = "object")]
    driver_info: Map<String, Value>,
    /// Facts about the hardware.
    #[serde(deserialize_with = "object")]
    properties: Map<String, Value>,
    /// Whatever its operators keep.
    #[serde(deserialize_with = "object")]
    extra: Map<String, Value>,
}

/// null and other shapes alike tell nothing.
fn object<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Object(map) => map,
        _ => Map::new(),
    })
}

impl Node {
    /// What people call it.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.uuid)
    }

    /// Addresses of its controller as its driver has them (`redfish_address`, `ipmi_address`, `ilo_address`, ...), with the driver's own
    /// port where one is named.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let named = self.driver_info.iter().filter_map(|(key, value)| {
            let driver = key.strip_suffix("_address")?;
            let address = value.as_str()?.trim();
            let port = self.driver_info.get(&format!("{driver}_port"));
            let port = port.and_then(|port| port.as_u64().or_else(|| port.as_str()?.trim().parse().ok()));
            let bare = !address.contains("://");
            Some(match port {
                Some(port) if bare && address.contains(':') && !address.starts_with('[') => {
                    format!("[{address}]:{port}")
                }
                Some(port) if bare => format!("{address}:{port}"),
                _ => address.to_owned(),
            })
        });
        named.filter(|address| !address.is_empty()).collect()
    }

    /// Its id among the machines of one Redfish service.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        let path = self.driver_info.get("redfish_system_id")?.as_str()?;
        path.trim_end_matches('/').rsplit('/').next().filter(|id| !id.is_empty())
    }

    /// Serial numbers and UUIDs of the machine that its operators or its inspection have put on record.
    #[must_use]
    pub fn identities(&self) -> Vec<String> {
        let mut found = Vec::new();
        gather(&self.properties, &mut found);
        gather(&self.extra, &mut found);
        found
    }
}

/// Texts under keys that speak of a serial number or a UUID, at any depth.
fn gather(map: &Map<String, Value>, found: &mut Vec<String>) {
    for (key, value) in map {
        let key = key.to_ascii_lowercase();
        match value {
            Value::Object(inner) => gather(inner, found),
            Value::String(text) if key.contains("serial") || key.contains("uuid") => {
                found.push(text.trim().to_owned())
            }
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<Node>,
    #[serde(default)]
    next: Option<String>,
}

impl Ironic {
    pub(crate) fn new(transport: Transport) -> Ironic {
        Ironic { transport }
    }

    /// Every node that our user may see; none where the catalog has no such service. A user without a role there may be shown an empty
    /// list instead of a refusal.
    ///
    /// Errors: [`Error::Forbidden`] where a policy says so in words.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        if !self.transport.is_listed(ServiceType::BareMetal).await? {
            return Ok(Vec::new());
        }
        let mut nodes: Vec<Node> = Vec::new();
        loop {
            let marker = nodes.last().map(|node| node.uuid.clone());
            let reply = self.page(marker.as_deref()).await?;
            let page = reply.json::<Nodes>()?;
            let last = page.nodes.last().map(|node| node.uuid.clone());
            nodes.extend(page.nodes);
            // Pages are asked for by marker: the links carry ironic's own idea of its address, which is wrong behind many a proxy.
            if page.next.is_none() || last.is_none() {
                return Ok(nodes);
            }
            if last == marker || last.as_deref() == Some("") {
                return Err(reply.malformed("a page ends with the marker it was asked from".into()));
            }
        }
    }

    async fn page(&self, marker: Option<&str>) -> Result<Reply, Error> {
        let base = self.transport.endpoint(ServiceType::BareMetal).await?;
        // Catalogs have it with and without its version.
        let versioned = base.path().trim_end_matches('/').ends_with("/v1");
        let path: &[&str] = if versioned { &["nodes", "detail"] } else { &["v1", "nodes", "detail"] };
        let mut query = vec![("limit", PAGE.to_string())];
        query.extend(marker.map(|marker| ("marker", marker.to_owned())));
        let outgoing = Outgoing::new(ServiceType::BareMetal, Method::GET, join(&base, path, &query))
            .header("x-openstack-ironic-api-version", MICROVERSION)?;
        self.transport.send(&outgoing).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(document: Value) -> Node {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn what_tells_a_machine_is_gathered_and_nothing_else() {
        let node = node(json!({
            "uuid": "n1", "name": "rack1-7", "maintenance": false, "some_future_field": {},
            "driver_info": {"redfish_address": "https://10.0.0.7/", "redfish_system_id": "/redfish/v1/Systems/S1/",
                            "redfish_password": "******", "ipmi_address": "10.0.0.8", "ipmi_port": "6230",
                            "ilo_address": "fd00::9", "ilo_port": 4443, "drac_address": "", "deploy_kernel": "x"},
            "properties": {"cpus": 8, "serial_number": " SN7 "},
            "extra": {"system_vendor": {"serial_number": "SN7", "product": "x"}, "smbios_uuid": "u-1", "note": "serial"},
        }));
        assert_eq!((node.label(), node.system()), ("rack1-7", Some("S1")));
        assert_eq!(node.addresses(), ["[fd00::9]:4443", "10.0.0.8:6230", "https://10.0.0.7/"]);
        let mut identities = node.identities();
        identities.sort();
        assert_eq!(identities, ["SN7", "SN7", "u-1"]);
    }

    #[test]
    fn a_sparse_node_is_a_node() {
        let node =
            node(json!({"uuid": "n1", "name": null, "driver_info": null, "extra": "odd", "properties": {}}));
        assert_eq!((node.label(), node.system(), node.maintenance), ("n1", None, false));
        assert!(node.addresses().is_empty() && node.identities().is_empty());
    }
}
