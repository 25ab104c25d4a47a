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
    /// Turn a host on that is out and drained.
    PowerOn,
    /// Turn an empty host on maintenance off and on again, to see that its devices can.
    Drill,
    /// State that a host is off, naming its serial.
    ConfirmFenced,
    /// Take a host back that is out.
    Readmit,
    /// Check a host's fence devices now.
    CheckDevices,
    /// Stop all acting, until a given time.
    Disarm,
    Arm,
    /// End reconcile-only, with what was found in the world.
    LeaveReconcileOnly,
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
/// [`FenceRequest`], [`FenceTestRequest`], [`ConfirmFencedRequest`] and [`DisarmRequest`] describe.
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

/// Why a host is to be turned off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceRequest {
    /// Kept in the audit; must say something.
    #[schema(min_length = 1, max_length = 255, pattern = r"^\S(.*\S)?$")]
    pub reason: String,
    /// Only ask each device what would be sent through it; nothing is turned off.
    #[serde(default)]
    pub dry_run: bool,
}

/// Why a host's fence devices are tried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceTestRequest {
    /// Kept in the audit; must say something.
    #[schema(min_length = 1, max_length = 255, pattern = r"^\S(.*\S)?$")]
    pub reason: String,
    /// Turn the host off and on again: granted only for an empty host on maintenance whose nova-compute is disabled. Without it its
    /// devices are checked and nothing is turned off.
    #[serde(default)]
    pub really_power_off: bool,
}

impl FenceRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// A missing reason, a flag that is none, or an unknown key.
    pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
        let (reason, dry_run) = reason_and_flag(body, "dry_run")?;
        Ok(Self { reason, dry_run })
    }
}

impl FenceTestRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// A missing reason, a flag that is none, or an unknown key.
    pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
        let (reason, really_power_off) = reason_and_flag(body, "really_power_off")?;
        Ok(Self { reason, really_power_off })
    }
}

/// JSON's own true and false alone: what turns a machine off is not read out of "yes".
fn reason_and_flag(body: &Value, flag: &str) -> Result<(String, bool), InvalidBody> {
    let mut fields = Fields::of(body, "")?;
    let reason = fields.require("reason", value::name)?;
    let set = fields.take(flag, |v| v.as_bool().ok_or_else(|| "is not true or false".to_owned()))?;
    fields.finish()?;
    Ok((reason, set.unwrap_or(false)))
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
    fn flags_are_flags_and_default_to_the_harmless() {
        let off = |body: Value| FenceRequest::parse(&body).map(|read| read.dry_run).ok();
        let test = |body: Value| FenceTestRequest::parse(&body).map(|read| read.really_power_off).ok();
        assert_eq!(off(json!({ "reason": "r" })), Some(false));
        assert_eq!(off(json!({ "reason": "r", "dry_run": true })), Some(true));
        assert_eq!(test(json!({ "reason": "r" })), Some(false));
        assert_eq!(test(json!({ "reason": "r", "really_power_off": true })), Some(true));
        for bad in [
            json!({ "dry_run": true }),
            json!({ "reason": " ", "dry_run": true }),
            json!({ "reason": "r", "dry_run": "yes" }),
            json!({ "reason": "r", "dry_run": 1 }),
            json!({ "reason": "r", "dry_run": null }),
            json!({ "reason": "r", "really_power_off": true }),
        ] {
            assert_eq!(off(bad.clone()), None, "{bad}");
        }
        for bad in
            [json!({ "reason": "r", "really_power_off": "true" }), json!({ "reason": "r", "dry_run": true })]
        {
            assert_eq!(test(bad.clone()), None, "{bad}");
        }
    }

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
