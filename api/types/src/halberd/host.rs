//! What `/v1` has no field for: where a host stands, which machine it is, and its agent's key.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::v1::body::{Fields, InvalidBody};
use crate::v1::value::{self, Reason};

/// Body and answer of `PUT /halberd/v1/hosts/{uuid}/attributes`, which replaces all of them; null is the same as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostAttributes {
    /// Failure domains: hosts that share one are silent together when it fails.
    pub rack: Option<String>,
    pub power: Option<String>,
    pub switch: Option<String>,
    /// The machine's serial number, as its BMC and its label say.
    pub serial: Option<String>,
    /// The machine's own UUID (DMI `product_uuid`).
    pub machine: Option<Uuid>,
}

impl HostAttributes {
    /// Reads the body of the PUT.
    ///
    /// # Errors
    /// The first value that breaks its rule, or an unknown key.
    pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
        let mut fields = Fields::of(body, "")?;
        let attributes = Self {
            rack: fields.take("rack", text_or_null)?.flatten(),
            power: fields.take("power", text_or_null)?.flatten(),
            switch: fields.take("switch", text_or_null)?.flatten(),
            serial: fields.take("serial", text_or_null)?.flatten(),
            machine: fields.take("machine", uuid_or_null)?.flatten(),
        };
        fields.finish()?;
        Ok(attributes)
    }
}

fn text_or_null(value: &Value) -> Result<Option<String>, Reason> {
    if value.is_null() { Ok(None) } else { value::name(value).map(Some) }
}

fn uuid_or_null(value: &Value) -> Result<Option<Uuid>, Reason> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Uuid::parse_str(text).map(Some).map_err(|_| "is not a UUID".to_owned()),
        _ => Err("is not of type string".to_owned()),
    }
}

/// Answer of `POST /halberd/v1/hosts/{uuid}/agent-key`, given once: the key cannot be asked for again.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentKeyIssued {
    pub host_id: Uuid,
    pub host: String,
    /// The text of the agent's key file. A secret.
    pub key_file: String,
}

impl std::fmt::Debug for AgentKeyIssued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentKeyIssued").field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_are_texts_and_the_machine_a_uuid() {
        let read = HostAttributes::parse(
            &json!({ "rack": "r1", "serial": null, "machine": "00000000-0000-0000-0000-000000000007" }),
        );
        let expected = HostAttributes {
            rack: Some("r1".into()),
            machine: Some(Uuid::from_u128(7)),
            ..Default::default()
        };
        assert_eq!(read, Ok(expected));
        for bad in [
            json!({ "rack": 1 }),
            json!({ "rack": "" }),
            json!({ "machine": "x" }),
            json!({ "color": "red" }),
            json!([]),
        ] {
            assert!(HostAttributes::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_issued_key_is_not_printed() {
        let issued = AgentKeyIssued { host_id: Uuid::nil(), host: "cmp-1".into(), key_file: "s3cret".into() };
        assert!(!format!("{issued:?}").contains("s3cret"));
    }
}
