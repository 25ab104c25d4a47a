//! Microversions of `/v1`: which one a request asks for, and what the answer says.
//!
//! Contract section 1.3. The minimum is 1.0, the maximum 1.3, and no header means 1.0. An entry for another
//! service type is not ours to judge and is ignored, even when it is malformed. Gating is loose on purpose: the version
//! decides only two things, [`Microversion::accepts_enabled`] and [`Microversion::shows_recovery_details`].

use std::fmt;

use thiserror::Error;

/// Request and response header.
pub const HEADER: &str = "OpenStack-API-Version";

/// The service type that our entries of the header carry.
pub const SERVICE_TYPE: &str = "instance-ha";

/// A version of the API inside 1.0..1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microversion {
    minor: u32,
}

impl Microversion {
    pub const MIN: Self = Self { minor: 0 };
    pub const MAX: Self = Self { minor: 3 };

    /// What the request's header lines ask for; several lines count as one list, its last entry for us wins.
    ///
    /// # Errors
    /// A version that is malformed (400) or not offered (406).
    pub fn from_headers<'a>(
        lines: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Result<Self, MicroversionError> {
        let asked = lines.rev().flat_map(|line| line.rsplit(',')).find_map(our_entry);
        asked.map_or(Ok(Self::MIN), Self::parse)
    }

    /// `X.Y` or `latest`.
    ///
    /// # Errors
    /// As [`Microversion::from_headers`].
    pub fn parse(asked: &str) -> Result<Self, MicroversionError> {
        if asked == "latest" {
            return Ok(Self::MAX);
        }
        let malformed = || MicroversionError::Malformed(asked.chars().take(64).collect());
        let (major, minor) = asked.split_once('.').ok_or_else(malformed)?;
        if !is_number(major) || !is_number(minor) || major == "0" {
            return Err(malformed());
        }
        match (major, minor.parse()) {
            ("1", Ok(minor)) if minor <= Self::MAX.minor => Ok(Self { minor }),
            _ => Err(MicroversionError::NotOffered(asked.chars().take(64).collect())),
        }
    }

    /// `enabled` may stand in segment create and update bodies (since 1.2).
    pub fn accepts_enabled(self) -> bool {
        self.minor >= 2
    }

    /// `recovery_workflow_details` stand in the answer to `GET /notifications/{id}` (since 1.1).
    pub fn shows_recovery_details(self) -> bool {
        self.minor >= 1
    }

    /// Value of the response's [`HEADER`].
    pub fn header_value(self) -> String {
        format!("{SERVICE_TYPE} {self}")
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

/// Why a request's version is refused. The text is for the fault's message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MicroversionError {
    #[error(
        "API version string {0:?} is of invalid format. It must be of the form MajorNum.MinorNum, such as 1.3."
    )]
    Malformed(String),
    #[error("Version {0} is not supported by the API. The minimum is 1.0 and the maximum is 1.3.")]
    NotOffered(String),
}

impl MicroversionError {
    /// 400 or 406.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotOffered(_) => 406,
        }
    }

    /// Whether the answer carries `Vary: OpenStack-API-Version`; neither of the two carries the version itself.
    pub fn sends_vary(&self) -> bool {
        matches!(self, Self::NotOffered(_))
    }
}

/// The version text of a header entry, if the entry is for this service and has one.
fn our_entry(entry: &str) -> Option<&str> {
    let (service, version) = entry.trim().split_once(char::is_whitespace)?;
    service.eq_ignore_ascii_case(SERVICE_TYPE).then(|| version.trim())
}

/// Decimal digits without a leading zero, or zero itself.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_what_they_ask_for() {
        let table: &[(&[&str], &str)] = &[
            (&[], "1.0"),
            (&["instance-ha 1.0"], "1.0"),
            (&["instance-ha 1.1"], "1.1"),
            (&["instance-ha 1.2"], "1.2"),
            (&["instance-ha 1.3"], "1.3"),
            (&["instance-ha latest"], "1.3"),
            (&["Instance-HA 1.2"], "1.2"),
            (&["  instance-ha   1.2  "], "1.2"),
            (&["compute 2.53, instance-ha 1.1"], "1.1"),
            (&["instance-ha 1.1,compute 2.53"], "1.1"),
            (&["compute 2.53", "instance-ha 1.2"], "1.2"),
            (&["instance-ha 1.1", "instance-ha 1.2"], "1.2"),
            (&["instance-ha 1.1,instance-ha 1.2"], "1.2"),
            (&["ha 1.3"], "1.0"),
            (&["masakari 1.3"], "1.0"),
            (&["compute 2.53"], "1.0"),
            (&["compute garbage"], "1.0"),
            (&["instance-ha"], "1.0"),
            (&["1.3"], "1.0"),
            (&[""], "1.0"),
            (&[","], "1.0"),
        ];
        for (lines, want) in table {
            let got = Microversion::from_headers(lines.iter().copied()).map(|v| v.to_string());
            assert_eq!(got.as_deref(), Ok(*want), "{lines:?}");
        }
    }

    #[test]
    fn malformed_is_400_and_out_of_range_406() {
        let table = [
            ("1", 400),
            ("1.", 400),
            (".1", 400),
            ("1.01", 400),
            ("01.1", 400),
            ("0.9", 400),
            ("0.0", 400),
            ("1.2.3", 400),
            ("v1.2", 400),
            ("1.x", 400),
            ("Latest", 400),
            ("1.2 x", 400),
            ("-1.0", 400),
            ("1.-1", 400),
            ("+1.0", 400),
            ("1.4", 406),
            ("1.10", 406),
            ("2.0", 406),
            ("2.1", 406),
            ("10.0", 406),
            ("99999999999999999999.0", 406),
            ("1.99999999999999999999", 406),
        ];
        for (asked, status) in table {
            let header = format!("instance-ha {asked}");
            let got = Microversion::from_headers([header.as_str()].into_iter())
                .map_err(|e| (e.status(), e.sends_vary()));
            assert_eq!(got, Err((status, status == 406)), "{asked}");
        }
    }

    #[test]
    fn what_each_version_adds() {
        let table = [("1.0", false, false), ("1.1", true, false), ("1.2", true, true), ("1.3", true, true)];
        for (version, details, enabled) in table {
            let version = Microversion::parse(version).expect("offered");
            assert_eq!(
                (version.shows_recovery_details(), version.accepts_enabled()),
                (details, enabled),
                "{version}"
            );
        }
        assert_eq!(Microversion::MAX.header_value(), "instance-ha 1.3");
    }
}
