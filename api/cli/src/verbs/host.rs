//! `halberd host`.

use clap::builder::BoolishValueParser;
use serde_json::{Map, Value, json};

use super::agent;
use super::client::{Api, hosts_of};
use super::failure::Failure;
use super::fence_devices::FenceDevices;
use super::output::{Column, Format, Screen, text};
use super::segment::{refuse_nothing, set};

const LIST: &[Column] = &[
    Column::id("uuid", "uuid"),
    Column::text("name", "name"),
    Column::text("segment", "failover_segment.name"),
    Column::text("reserved", "reserved"),
    Column::text("on_maintenance", "on_maintenance"),
];

const SHOW: &[Column] = &[
    Column::id("uuid", "uuid"),
    Column::text("name", "name"),
    Column::text("segment", "failover_segment.name"),
    Column::id("segment_id", "failover_segment_id"),
    Column::text("type", "type"),
    Column::text("control_attributes", "control_attributes"),
    Column::text("reserved", "reserved"),
    Column::text("on_maintenance", "on_maintenance"),
    Column::time("created_at", "created_at"),
    Column::time("updated_at", "updated_at"),
];

const ATTRIBUTES: &[Column] = &[
    Column::text("rack", "rack"),
    Column::text("power", "power"),
    Column::text("switch", "switch"),
    Column::text("serial", "serial"),
    Column::text("machine", "machine"),
];

#[derive(Debug, clap::Subcommand)]
pub enum Host {
    /// List hosts of all segments, or of one
    List {
        /// Only hosts of this segment: name or uuid
        #[arg(long)]
        segment: Option<String>,
        /// Only hosts that are reserved, or only the others
        #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new())]
        reserved: Option<bool>,
        /// Only hosts on maintenance, or only the others
        #[arg(long, alias = "on_maintenance", value_name = "BOOL", value_parser = BoolishValueParser::new())]
        on_maintenance: Option<bool>,
    },
    /// Show a host
    Show {
        /// Name or uuid
        host: String,
    },
    /// Put a hypervisor into a segment
    Create {
        /// Name of its nova-compute service, as `openstack compute service list` shows it
        name: String,
        /// The segment: name or uuid
        #[arg(long)]
        segment: String,
        /// Free text of letters and digits
        #[arg(long = "type", value_name = "TEXT", default_value = "COMPUTE")]
        host_type: String,
        /// Free text, kept for clients of the original
        #[arg(long, alias = "control_attributes", value_name = "TEXT", default_value = "SSH")]
        control_attributes: String,
        /// Keep it empty for recoveries
        #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new())]
        reserved: Option<bool>,
        /// Do not act on reports about it
        #[arg(long, alias = "on_maintenance", value_name = "BOOL", value_parser = BoolishValueParser::new())]
        on_maintenance: Option<bool>,
    },
    /// Change what is given of a host; the rest stays
    Update {
        /// Name or uuid
        host: String,
        /// New name: that of its nova-compute service
        #[arg(long)]
        name: Option<String>,
        /// Free text of letters and digits
        #[arg(long = "type", value_name = "TEXT")]
        host_type: Option<String>,
        /// Free text, kept for clients of the original
        #[arg(long, alias = "control_attributes", value_name = "TEXT")]
        control_attributes: Option<String>,
        /// Keep it empty for recoveries
        #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new())]
        reserved: Option<bool>,
        /// Do not act on reports about it; false asks to take back a host that is out
        #[arg(long, alias = "on_maintenance", value_name = "BOOL", value_parser = BoolishValueParser::new())]
        on_maintenance: Option<bool>,
    },
    /// Take hosts out of their segments
    Delete {
        /// Names or uuids
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<String>,
    },
    /// How a host is turned off
    #[command(subcommand)]
    FenceDevices(FenceDevices),
    /// Set where a host stands and which machine it is; what is not given is cleared
    Attributes(Attributes),
    /// Make a key for a host's agent in place of the former, which is void at once
    AgentKey(agent::Key),
}

#[derive(Debug, clap::Args)]
pub struct Attributes {
    /// Name or uuid
    host: String,
    /// Failure domain: hosts of a rack may be silent together
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    /// Failure domain: hosts on the same power feed
    #[arg(long, value_name = "NAME")]
    power: Option<String>,
    /// Failure domain: hosts on the same switch
    #[arg(long, value_name = "NAME")]
    switch: Option<String>,
    /// Serial number of the machine, as its label and its BMC say
    #[arg(long, value_name = "TEXT")]
    serial: Option<String>,
    /// The machine's own UUID (DMI product_uuid)
    #[arg(long, value_name = "UUID")]
    machine: Option<uuid::Uuid>,
    /// Clear all of them
    #[arg(long, conflicts_with_all = ["rack", "power", "switch", "serial", "machine"])]
    clear: bool,
}

impl Host {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Host::List { segment, reserved, on_maintenance } => {
                let mut query = Vec::new();
                query.extend(reserved.map(|flag| ("reserved", flag.to_string())));
                query.extend(on_maintenance.map(|flag| ("on_maintenance", flag.to_string())));
                screen.list(&api.hosts(segment.as_deref(), &query).await?, LIST)
            }
            Host::Show { host } => screen.show(&api.host(&host).await?, SHOW),
            Host::Create { name, segment, host_type, control_attributes, reserved, on_maintenance } => {
                let mut body = json!({
                    "name": name, "type": host_type, "control_attributes": control_attributes,
                });
                set(&mut body, "reserved", reserved);
                set(&mut body, "on_maintenance", on_maintenance);
                let path = hosts_of(&api.segment(&segment).await?);
                screen.show(&api.post(&path, &json!({ "host": body })).await?["host"], SHOW)
            }
            Host::Update { host, name, host_type, control_attributes, reserved, on_maintenance } => {
                let mut body = Value::Object(Map::new());
                set(&mut body, "name", name);
                set(&mut body, "type", host_type);
                set(&mut body, "control_attributes", control_attributes);
                set(&mut body, "reserved", reserved);
                set(&mut body, "on_maintenance", on_maintenance);
                refuse_nothing(&body)?;
                let path = path_of(&api.host(&host).await?);
                screen.show(&api.put(&path, &json!({ "host": body })).await?["host"], SHOW)
            }
            Host::Delete { hosts } => {
                for wanted in hosts {
                    let found = api.host(&wanted).await?;
                    api.delete(&path_of(&found)).await?;
                    screen.done(&format!("host {} is deleted", text(&found, "name")))?;
                }
                Ok(())
            }
            Host::FenceDevices(verb) => verb.run(api, screen).await,
            Host::Attributes(attributes) => attributes.run(api, screen).await,
            Host::AgentKey(key) => key.run(api, screen).await,
        }
    }
}

impl Attributes {
    async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let mut body = Value::Object(Map::new());
        set(&mut body, "rack", self.rack);
        set(&mut body, "power", self.power);
        set(&mut body, "switch", self.switch);
        set(&mut body, "serial", self.serial);
        set(&mut body, "machine", self.machine.map(|machine| machine.to_string()));
        if !self.clear {
            refuse_nothing(&body)?;
        }
        let path = format!("halberd/v1/hosts/{}/attributes", api.host_id(&self.host).await?);
        let set = api.put(&path, &body).await?;
        if screen.format == Format::Table && self.clear {
            return screen.done(&format!("the attributes of host {} are cleared", self.host));
        }
        screen.show(&set, ATTRIBUTES)
    }
}

fn path_of(host: &Value) -> String {
    format!("v1/segments/{}/hosts/{}", text(host, "failover_segment_id"), text(host, "uuid"))
}
