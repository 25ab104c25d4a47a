//! A segment's policy: `PUT /halberd/v1/segments/{uuid}/policy`.
//!
//! Every tunable by its name, all optional: what is absent is inherited from `[policy]` in the configuration, and there from the
//! profile. Times are milliseconds. A recovery keeps the policy it began with, so a change applies to the next one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::v1::body::{Fields, InvalidBody};
use crate::v1::value::{self, Reason};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl Tunable for $name {
            fn read(value: &Value) -> Result<Self, Reason> {
                value::word(value, &[$(($word, Self::$variant)),+])
            }
        }
    };
}

/// A value that a policy may hold.
trait Tunable: Sized {
    fn read(value: &Value) -> Result<Self, Reason>;
}

impl Tunable for bool {
    fn read(value: &Value) -> Result<Self, Reason> {
        value.as_bool().ok_or_else(|| "is not true or false".to_owned())
    }
}

/// A day: no timer of this service is longer, and a slip of the pen in milliseconds is caught.
const LONGEST_MS: u64 = 86_400_000;

impl Tunable for u64 {
    fn read(value: &Value) -> Result<Self, Reason> {
        let number = value.as_u64().ok_or_else(|| "is not a whole number of milliseconds".to_owned())?;
        if (1..=LONGEST_MS).contains(&number) {
            Ok(number)
        } else {
            Err(format!("is not within 1..={LONGEST_MS} ms"))
        }
    }
}

impl Tunable for u32 {
    fn read(value: &Value) -> Result<Self, Reason> {
        value.as_u64().and_then(|n| Self::try_from(n).ok()).ok_or_else(|| "is not a whole number".to_owned())
    }
}

impl Tunable for String {
    fn read(value: &Value) -> Result<Self, Reason> {
        value::name(value)
    }
}

words! {
    /// A set of detection timers.
    ProfileName { Fast = "fast", Balanced = "balanced", Conservative = "conservative" }
}

words! {
    /// How far a report about a host that never had our agent is believed.
    Reporters {
        /// A report by an authorised caller suffices for a fence attempt.
        Trusted = "trusted",
        /// A second sight is asked for.
        Witnessed = "witnessed",
    }
}

words! {
    /// What to do with a host that has no fence device.
    Unfenced {
        /// Stop and ask.
        Refuse = "refuse",
        /// Believe the reporter. Dangerous: nothing shows that the host is off.
        TrustReporter = "trust-reporter",
    }
}

words! {
    /// What happens to a guest whose state does not survive a rebuild.
    Fragile {
        /// Leave it where it is and say why.
        Ignore = "ignore",
        /// Evacuate it; it ends stopped, as with the original.
        EvacuateStopped = "evacuate-stopped",
    }
}

macro_rules! policy {
    ($($(#[$doc:meta])* $field:ident: $type:ty),+ $(,)?) => {
        /// What a segment sets itself.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct SegmentPolicy {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>),+
        }

        impl SegmentPolicy {
            /// The names of all tunables.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            /// Reads the body of the PUT, which replaces the whole policy. Null is the same as absent.
            ///
            /// # Errors
            /// The first value that breaks its rule, or an unknown name.
            pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
                let mut fields = Fields::of(body, "")?;
                let policy = Self { $($field: fields.take(stringify!($field), read_or_null::<$type>)?.flatten()),+ };
                fields.finish()?;
                Ok(policy)
            }
        }
    };
}

fn read_or_null<T: Tunable>(value: &Value) -> Result<Option<T>, Reason> {
    if value.is_null() { Ok(None) } else { T::read(value).map(Some) }
}

policy! {
    profile: ProfileName,
    /// Time between two beats of an agent.
    beat_interval_ms: u64,
    /// Silence after which a host is suspect.
    suspect_after_ms: u64,
    /// Time for witnesses to speak before silence may become a verdict.
    confirm_ms: u64,
    silence_floor_ms: u64,
    storage_grace_ms: u64,
    /// Nova's own `report_interval`.
    nova_report_interval_ms: u64,
    report_stale_ms: u64,
    reporters: Reporters,
    unfenced: Unfenced,
    domain_hold_hosts: u32,
    domain_hold_percent: u32,
    domain_window_ms: u64,
    require_capacity: bool,
    evacuations_in_flight: u32,
    request_lifetime_ms: u64,
    evacuation_attempts: u32,
    retry_ms: u64,
    evacuation_deadline_ms: u64,
    poll_ms: u64,
    power_fresh_ms: u64,
    fence_retry_ms: u64,
    evacuate_all_instances: bool,
    ignore_instances_in_error_state: bool,
    process_all_instances: bool,
    add_reserved_host_to_aggregate: bool,
    ha_enabled_instance_metadata_key: String,
    fragile_instances: Fragile,
    stop_timeout_ms: u64,
    start_timeout_ms: u64,
    agentless_return_ms: u64,
    clear_maintenance_on_return: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_is_inherited_and_what_is_unknown_refused() {
        let policy = SegmentPolicy::parse(
            &json!({ "profile": "fast", "unfenced": "trust-reporter", "poll_ms": 500, "retry_ms": null }),
        );
        let policy = policy.expect("a good policy");
        assert_eq!(
            (policy.profile, policy.poll_ms, policy.retry_ms),
            (Some(ProfileName::Fast), Some(500), None)
        );
        assert_eq!(
            serde_json::to_value(&policy).expect("json"),
            json!({ "profile": "fast", "unfenced": "trust-reporter", "poll_ms": 500 })
        );
        assert_eq!(SegmentPolicy::parse(&json!({})), Ok(SegmentPolicy::default()));
        for bad in [
            json!({ "pol_ms": 1 }),
            json!({ "poll_ms": "500" }),
            json!({ "poll_ms": 0 }),
            json!({ "poll_ms": 1.5 }),
            json!({ "poll_ms": 86_400_001 }),
            json!({ "profile": "Fast" }),
            json!({ "require_capacity": "true" }),
            json!([]),
        ] {
            assert!(SegmentPolicy::parse(&bad).is_err(), "{bad}");
        }
    }
}
