//! Microversions.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::Error;

/// A microversion of the compute API, e.g. 2.94.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microversion(pub u16, pub u16);

impl Microversion {
    /// os-services: rows of down cells are listed, with status UNKNOWN (2.69).
    pub(super) const SERVICES: Microversion = Microversion(2, 69);
    /// servers: flavor in the record (2.47), partial records of down cells (2.69), `locked_reason` (2.73).
    pub(super) const SERVERS: Microversion = Microversion(2, 73);
    /// lock: takes a reason.
    pub(super) const LOCK_REASON: Microversion = Microversion(2, 73);
    /// evacuate: the last one at which Nova restores the power state itself; from 2.95 guests are left stopped.
    pub(super) const EVACUATE: Microversion = Microversion(2, 94);
    /// The first one that leaves evacuated guests stopped.
    pub(super) const EVACUATES_STOPPED: Microversion = Microversion(2, 95);
    /// os-migrations: uuid and paging (2.59), user and project (2.80).
    pub(super) const MIGRATIONS: Microversion = Microversion(2, 80);
    /// os-instance-actions: `updated_at` (2.58), host of an event (2.62), `details` (2.84).
    pub(super) const ACTIONS: Microversion = Microversion(2, 84);
    /// Actions on servers and aggregates that have not changed since our minimum.
    pub(super) const PLAIN: Microversion = Microversion(2, 53);
    /// What we need at least: services by uuid, one PUT for disable and force-down (Pike, 2017).
    const NEEDED: Microversion = Microversion(2, 53);
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Microversion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        parsed
            .map(|(major, minor)| Microversion(major, minor))
            .ok_or_else(|| format!("{text:?} is no microversion"))
    }
}

/// The range that Nova offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The lowest.
    pub min: Microversion,
    /// The highest.
    pub max: Microversion,
}

impl Offered {
    /// The wanted one, or the nearest that is offered.
    #[must_use]
    pub fn choose(&self, wanted: Microversion) -> Microversion {
        wanted.min(self.max).max(self.min)
    }

    /// Whether guests evacuated here are left stopped, so that whoever wants them running must start them.
    #[must_use]
    pub fn evacuates_stopped(&self) -> bool {
        self.choose(Microversion::EVACUATE) >= Microversion::EVACUATES_STOPPED
    }

    /// From the document at `/v2.1/` (one version) or at the root (a list).
    pub(super) fn read(document: &Value) -> Option<Offered> {
        let range = |version: &Value| {
            let part = |key| version.get(key).and_then(Value::as_str).and_then(|text| text.parse().ok());
            Some(Offered { min: part("min_version")?, max: part("version")? })
        };
        match document.get("version") {
            Some(version) => range(version),
            None => document.get("versions")?.as_array()?.iter().find_map(range),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.max < Microversion::NEEDED {
            return Err(Error::Config(format!(
                "this Nova offers microversions {} to {}; evacuation needs at least {} (Pike)",
                self.min,
                self.max,
                Microversion::NEEDED
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn offered(min: Microversion, max: Microversion) -> Offered {
        Offered { min, max }
    }

    #[test]
    fn versions_order_by_number_not_by_text() {
        assert!("2.100".parse::<Microversion>().unwrap() > "2.94".parse().unwrap());
        assert!("2".parse::<Microversion>().is_err() && "2.x".parse::<Microversion>().is_err());
    }

    #[test]
    fn evacuate_goes_below_2_95_where_it_can() {
        let floor = Microversion(2, 1);
        let chosen = |min, max| offered(min, Microversion(2, max)).choose(Microversion::EVACUATE);
        assert_eq!(chosen(floor, 79), Microversion(2, 79));
        assert_eq!(chosen(floor, 94), Microversion(2, 94));
        assert_eq!(chosen(floor, 104), Microversion(2, 94));
        assert_eq!(chosen(Microversion(2, 96), 110), Microversion(2, 96));
        assert!(!offered(floor, Microversion(2, 104)).evacuates_stopped());
        assert!(offered(Microversion(2, 96), Microversion(2, 110)).evacuates_stopped());
    }

    #[test]
    fn both_documents_are_read() {
        let one =
            json!({"version": {"id": "v2.1", "status": "CURRENT", "version": "2.104", "min_version": "2.1"}});
        let expected = Some(offered(Microversion(2, 1), Microversion(2, 104)));
        assert_eq!(Offered::read(&one), expected);
        let list = json!({"versions": [
            {"id": "v2.0", "status": "SUPPORTED", "version": "", "min_version": ""},
            {"id": "v2.1", "status": "CURRENT", "version": "2.104", "min_version": "2.1"}]});
        assert_eq!(Offered::read(&list), expected);
        assert_eq!(Offered::read(&json!({"versions": []})), None);
        assert_eq!(Offered::read(&json!("x")), None);
    }

    #[test]
    fn a_nova_too_old_is_named() {
        let error = offered(Microversion(2, 1), Microversion(2, 42)).check().unwrap_err().to_string();
        assert!(error.contains("2.42") && error.contains("2.53"), "{error}");
    }
}
