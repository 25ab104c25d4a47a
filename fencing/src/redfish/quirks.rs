//! Where firmwares differ, as data: a row per habit with whoever has it and where that is on record.
//!
//! Only what changes our behaviour stands here. What is right for everybody is code: no If-Match until one is asked for (iDRAC 10
//! refuses any, Huawei's iBMC and AMI's firmware demand one), the action's target from the document (OpenBMC, Lenovo and Dell name
//! their systems differently), ForceOff and never a restart (a Lenovo SR675 V3 hung on one), "accepted" never believed
//! (Supermicro accepts orders that it does not carry out).
//!
//! A habit of speech holds for every vendor: error documents do not say whose they are, boards are sold under many names, and
//! a word taken wrongly costs one more reading of the power.

use serde_json::Value;

use super::http::mentions;

/// One habit.
#[derive(Debug)]
pub(super) struct Quirk {
    /// Beginning of `Manufacturer`, letter case aside; empty: not one vendor's.
    pub vendor: &'static str,
    pub does: Does,
    /// Where it is on record.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever changes the row"))]
    pub source: &'static str,
}

/// What a firmware does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// The number on the machine's sticker, which DMI has too, stands in this property; `SerialNumber` is the board's.
    SerialIn(&'static str),
    /// An error with this word says that the power is already as ordered, or that the order does not fit it.
    SaysAlready(&'static str),
    /// A 400 with this word is a 503: not ready yet.
    SaysNotReady(&'static str),
}

pub(super) const QUIRKS: [Quirk; 9] = [
    Quirk {
        vendor: "Dell",
        does: Does::SerialIn("SKU"),
        source: "Dell: the ComputerSystem's SKU is the service tag (iDRAC Redfish API guide)",
    },
    Quirk {
        vendor: "Dell",
        does: Does::SaysAlready("PSU501"),
        source: "openstack-k8s-operators/infra-operator issue 434: iDRAC answers 409 when the host is off already",
    },
    Quirk {
        vendor: "Dell",
        does: Does::SaysAlready("ActionParameterValueConflict"),
        source: "iDRAC 10: On is refused with 409 for a while after off",
    },
    Quirk {
        vendor: "HPE",
        does: Does::SaysAlready("InvalidOperationForSystemState"),
        source: "HPE iLO message registry: 400 when the power is off, or too soon after an earlier action",
    },
    Quirk { vendor: "", does: Does::SaysAlready("already"), source: "DMTF Base registry's usual wording" },
    Quirk {
        vendor: "",
        does: Does::SaysAlready("current state"),
        source: "Base.ResourceInUse and OpenBMC's texts",
    },
    Quirk {
        vendor: "",
        does: Does::SaysAlready("invalid for"),
        source: "\"invalid for the state\" of several firmwares",
    },
    Quirk {
        vendor: "Dell",
        does: Does::SaysNotReady("SYS518"),
        source: "iDRAC message registry SYS518: the server is not ready for the request",
    },
    Quirk {
        vendor: "Dell",
        does: Does::SaysNotReady("SWC0700"),
        source: "iDRAC message registry SWC0700: iDRAC is not ready; try again",
    },
];

/// Where the serial number of this manufacturer's machines may stand, best first.
pub(super) fn serial_properties(manufacturer: Option<&str>) -> impl Iterator<Item = &'static str> {
    let of = move |vendor: &str| {
        let start = manufacturer.and_then(|m| m.get(..vendor.len()));
        !vendor.is_empty() && start.is_some_and(|start| start.eq_ignore_ascii_case(vendor))
    };
    let own = QUIRKS.iter().filter(move |q| of(q.vendor)).filter_map(|q| match q.does {
        Does::SerialIn(property) => Some(property),
        _ => None,
    });
    own.chain(["SerialNumber"])
}

/// True if this error says that the power is already so. It is not believed: the state is read, this only decides that it is.
pub(super) fn says_already(error: &Value) -> bool {
    QUIRKS.iter().any(|q| matches!(q.does, Does::SaysAlready(word) if mentions(error, &[word])))
}

/// True if this error only means "not now".
pub(super) fn says_not_ready(error: &Value) -> bool {
    QUIRKS.iter().any(|q| matches!(q.does, Does::SaysNotReady(word) if mentions(error, &[word])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::redfish::model::identity;

    #[test]
    fn every_row_has_a_source_and_an_effect() {
        for quirk in &QUIRKS {
            assert!(quirk.source.len() > 20, "{quirk:?}");
            let said = |word: &str| json!({"error": {"@Message.ExtendedInfo": [{"MessageId": format!("X.1.0.{word}")}]}});
            match quirk.does {
                Does::SerialIn(property) => {
                    let manufacturer = format!("{} Inc.", quirk.vendor.to_uppercase());
                    let mut system = json!({"Manufacturer": manufacturer, "SerialNumber": "BOARD"});
                    system[property] = "STICKER".into();
                    assert_eq!(identity(&system).unwrap().serial.as_deref(), Some("STICKER"), "{quirk:?}");
                    system[property] = "None".into();
                    assert_eq!(
                        identity(&system).unwrap().serial.as_deref(),
                        Some("BOARD"),
                        "a filler is none"
                    );
                    system["Manufacturer"] = "ACME".into();
                    system[property] = "STICKER".into();
                    assert_eq!(
                        identity(&system).unwrap().serial.as_deref(),
                        Some("BOARD"),
                        "another vendor's"
                    );
                }
                Does::SaysAlready(word) => assert!(says_already(&said(word)) && !says_not_ready(&said(word))),
                Does::SaysNotReady(word) => {
                    assert!(says_not_ready(&said(word)) && !says_already(&said(word)))
                }
            }
        }
        let other = json!({"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.0.MalformedJSON"}]}});
        assert!(!says_already(&other) && !says_not_ready(&other));
    }
}
