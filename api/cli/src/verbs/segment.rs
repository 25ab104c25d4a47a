//! `halberd segment`.

use clap::builder::BoolishValueParser;
use serde_json::{Map, Value, json};

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Screen, text};

const LIST: &[Column] = &[
    Column::id("uuid", "uuid"),
    Column::text("name", "name"),
    Column::text("recovery_method", "recovery_method"),
    Column::text("service_type", "service_type"),
    Column::text("enabled", "enabled"),
];

const SHOW: &[Column] = &[
    Column::id("uuid", "uuid"),
    Column::text("name", "name"),
    Column::text("description", "description"),
    Column::text("recovery_method", "recovery_method"),
    Column::text("service_type", "service_type"),
    Column::text("enabled", "enabled"),
    Column::time("created_at", "created_at"),
    Column::time("updated_at", "updated_at"),
];

/// Which hosts take over.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Method {
    /// Nova's scheduler chooses
    Auto,
    /// A reserved host of the segment
    ReservedHost,
    /// auto, then reserved_host
    AutoPriority,
    /// reserved_host, then auto
    RhPriority,
}

impl Method {
    fn word(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::ReservedHost => "reserved_host",
            Method::AutoPriority => "auto_priority",
            Method::RhPriority => "rh_priority",
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum Segment {
    /// List segments
    List,
    /// Show a segment
    Show {
        /// Name or uuid
        segment: String,
    },
    /// Create a segment
    Create {
        /// Name of the new segment
        name: String,
        /// Which hosts take over from a dead one
        #[arg(value_enum, default_value = "auto")]
        recovery_method: Method,
        /// Free text; COMPUTE by convention
        #[arg(default_value = "COMPUTE")]
        service_type: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Whether failures in it are recovered
        #[arg(long, alias = "is_enabled", value_name = "BOOL", value_parser = BoolishValueParser::new())]
        enabled: Option<bool>,
    },
    /// Change what is given of a segment; the rest stays
    Update {
        /// Name or uuid
        segment: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// Which hosts take over from a dead one
        #[arg(long, alias = "recovery_method", value_enum, value_name = "METHOD")]
        recovery_method: Option<Method>,
        /// Free text; COMPUTE by convention
        #[arg(long, alias = "service_type", value_name = "TEXT")]
        service_type: Option<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Whether failures in it are recovered
        #[arg(long, alias = "is_enabled", value_name = "BOOL", value_parser = BoolishValueParser::new())]
        enabled: Option<bool>,
    },
    /// Delete segments with their hosts
    Delete {
        /// Names or uuids
        #[arg(required = true, value_name = "SEGMENT")]
        segments: Vec<String>,
    },
}

impl Segment {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Segment::List => screen.list(&api.segments().await?, LIST),
            Segment::Show { segment } => screen.show(&api.segment(&segment).await?, SHOW),
            Segment::Create { name, recovery_method, service_type, description, enabled } => {
                let mut body = json!({
                    "name": name, "recovery_method": recovery_method.word(), "service_type": service_type,
                });
                set(&mut body, "description", description);
                set(&mut body, "enabled", enabled);
                let made = api.post("v1/segments", &json!({ "segment": body })).await?;
                screen.show(&made["segment"], SHOW)
            }
            Segment::Update { segment, name, recovery_method, service_type, description, enabled } => {
                let mut body = Value::Object(Map::new());
                set(&mut body, "name", name);
                set(&mut body, "recovery_method", recovery_method.map(Method::word));
                set(&mut body, "service_type", service_type);
                set(&mut body, "description", description);
                set(&mut body, "enabled", enabled);
                refuse_nothing(&body)?;
                let path = format!("v1/segments/{}", text(&api.segment(&segment).await?, "uuid"));
                screen.show(&api.put(&path, &json!({ "segment": body })).await?["segment"], SHOW)
            }
            Segment::Delete { segments } => {
                for wanted in segments {
                    let found = api.segment(&wanted).await?;
                    api.delete(&format!("v1/segments/{}", text(&found, "uuid"))).await?;
                    screen.done(&format!("segment {} is deleted", text(&found, "name")))?;
                }
                Ok(())
            }
        }
    }
}

/// Puts a field into a body if it was given.
pub(super) fn set(body: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body[key] = value.into();
    }
}

/// An update that names nothing to change is a slip.
pub(super) fn refuse_nothing(body: &Value) -> Result<(), Failure> {
    match body.as_object().is_some_and(Map::is_empty) {
        true => {
            Err(Failure::usage("nothing to change is given").with_remedy("--help lists what can be changed"))
        }
        false => Ok(()),
    }
}
