//! Wishes: what an operator asks of the engine (DESIGN 10.8).
//!
//! The API never moves a recovery; it records a wish and answers 202 with it. An engine takes it within its poll, or refuses it with a reason.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Subject;
use crate::v1::body::{Fields, InvalidBody};
use crate::v1::value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WishKind {
    /// Let a held recovery pass its brake.
    Release,
    /// Try the failed guests, or a stopped recovery, again.
    Retry,
    Cancel,
    /// Answer yes to what a recovery asks.
    Approve,
    /// Turn a host off without a report.
    Fence,
    /// State that a host is off, naming its serial.
    ConfirmFenced,
    /// Take a host back that is out.
    Readmit,
    /// Check a host's fence devices now.
    CheckDevices,
    /// Stop all acting, until a given time.
    Disarm,
    Arm,
}

impl WishKind {
    /// Whether the `admin` role is needed; a manager may do the others (DESIGN 10.10).
    pub fn needs_admin(self) -> bool {
        !matches!(self, Self::Release | Self::Retry | Self::Readmit | Self::CheckDevices)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WishState {
    Open,
    Done,
    /// With the reason in `answer`.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wish {
    pub id: Uuid,
    pub kind: WishKind,
    pub subject: Subject,
    /// Who asked: user name or id.
    pub actor: String,
    pub reason: String,
    pub state: WishState,
    pub answer: Option<String>,
    pub made_at: DateTime<Utc>,
    pub answered_at: Option<DateTime<Utc>>,
}

/// Body of the requests that make a wish. The kind and the subject are in the path; which keys a kind has, [`ReasonRequest`],
/// [`ConfirmFencedRequest`] and [`DisarmRequest`] describe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WishRequest {
    /// Kept in the audit; must say something.
    pub reason: String,
    /// For `confirm_fenced`: the serial of the machine the operator stood before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// For `disarm`: when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

/// Why something is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// Kept in the audit; must say something.
    #[schema(min_length = 1, max_length = 255, pattern = r"^\S(.*\S)?$")]
    pub reason: String,
}

/// That a host is off, by somebody who stood before it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmFencedRequest {
    /// Kept in the audit; must say something.
    #[schema(min_length = 1, max_length = 255, pattern = r"^\S(.*\S)?$")]
    pub reason: String,
    /// The serial of the machine the operator stood before.
    #[schema(min_length = 1, max_length = 255, pattern = r"^\S(.*\S)?$")]
    pub serial: String,
}

/// Why all acting stops, and until when.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisarmRequest {
    /// Kept in the audit; must say something.
    #[schema(min_length = 1, max_length = 255, pattern = r"^\S(.*\S)?$")]
    pub reason: String,
    /// When it ends.
    pub until: DateTime<Utc>,
}

impl WishRequest {
    /// Reads the body for a wish of this kind.
    ///
    /// # Errors
    /// A missing reason, serial or end, or a key that does not belong to this kind.
    pub fn parse(kind: WishKind, body: &Value) -> Result<Self, InvalidBody> {
        let mut fields = Fields::of(body, "")?;
        let request = Self {
            reason: fields.require("reason", value::name)?,
            serial: if kind == WishKind::ConfirmFenced {
                Some(fields.require("serial", value::name)?)
            } else {
                None
            },
            until: if kind == WishKind::Disarm {
                Some(fields.require("until", value::timestamp)?.utc())
            } else {
                None
            },
        };
        fields.finish()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_has_its_own_keys() {
        use WishKind::{ConfirmFenced, Disarm, Retry};
        let table = [
            (Retry, json!({ "reason": "again" }), true),
            (Retry, json!({}), false),
            (Retry, json!({ "reason": "" }), false),
            (Retry, json!({ "reason": "r", "serial": "S" }), false),
            (ConfirmFenced, json!({ "reason": "r", "serial": "S1" }), true),
            (ConfirmFenced, json!({ "reason": "r" }), false),
            (Disarm, json!({ "reason": "r", "until": "2026-11-21T10:00:00Z" }), true),
            (Disarm, json!({ "reason": "r" }), false),
            (Disarm, json!({ "reason": "r", "until": "soon" }), false),
        ];
        for (kind, body, good) in table {
            assert_eq!(WishRequest::parse(kind, &body).is_ok(), good, "{kind:?} {body}");
        }
    }
}
