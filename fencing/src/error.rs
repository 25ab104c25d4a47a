//! What went wrong with a power controller, by what it means for the next move (not by where it arose).
//!
//! Each message names the device and the way out. None of them says anything about the host: a controller that does
//! not answer may have died with its machine or alone.

use std::time::Duration;

use thiserror::Error;

/// A failed conversation with one device.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FenceError {
    /// Connection refused, no route, name not found: the controller's service is not there.
    #[error("{device}: not reachable ({detail}); check address, port and the path to the BMC network")]
    Unreachable { device: String, detail: String },
    /// Nothing came back in time: hung, cut off, or without supply together with its host.
    #[error("{device}: no answer to {what} within {after:?}; check that the BMC has power and is not hung")]
    Silent { device: String, what: String, after: Duration },
    /// A fence agent did not end in time. What it had begun may have been carried out.
    #[error(
        "{device}: no answer to {action} within {:.1} s, so the program was killed; run it by hand to see what it waits for, and give it shorter times (power_timeout, shell_timeout in `options`)",
        after.as_secs_f64()
    )]
    Killed { device: String, action: String, after: Duration },
    /// The account was not accepted.
    #[error("{device}: credentials refused ({detail}); check username, password and kg of this device")]
    Credentials { device: String, detail: String },
    /// The account is known, but may not do this.
    #[error(
        "{device}: not enough privilege ({detail}); the account needs OPERATOR (IPMI) or ConfigureComponents (Redfish)"
    )]
    Privilege { device: String, detail: String },
    /// The controller offers none of the cipher suites we use.
    #[error(
        "{device}: refuses cipher suite {asked}; enable suite 17 or 3 on the BMC, or set `cipher` to the one it offers"
    )]
    SuiteRefused { device: String, asked: String },
    /// Not now; the command may or may not have been carried out.
    #[error("{device}: busy ({detail}); it is asked again, look at the BMC's own log if this stays")]
    Busy { device: String, detail: String, retry_after: Option<Duration> },
    /// The device cannot do what fencing needs.
    #[error(
        "{device}: does not support this ({detail}); use another device or fix its `system` or `program`"
    )]
    Unsupported { device: String, detail: String },
    /// The device says beforehand that it has no such order; nothing was sent.
    #[error("{device}: cannot be ordered ({detail}); use another device for this host")]
    NotOffered { device: String, detail: String },
    /// The device controls another machine than the one on file. Nothing was sent to it.
    #[error(
        "{device}: controls another machine (expected {expected}, found {found}); correct its address or the host's serial"
    )]
    WrongMachine { device: String, expected: String, found: String },
    /// An answer that makes no sense.
    #[error("{device}: malformed answer ({detail}); check that the address is a BMC's, and its firmware")]
    Malformed { device: String, detail: String },
    /// The device's part failed without saying why: the command may or may not have been carried out.
    #[error("{device}: failed without a reason ({detail}); the power is read, look at the device's own log")]
    Failed { device: String, detail: String },
    /// A clear no that fits no other kind.
    #[error("{device}: refused ({detail}); look at the BMC's own log")]
    Refused { device: String, detail: String },
    /// The certificate is not the one we were told to trust.
    #[error("{device}: TLS failed ({detail}); set tls.ca_file or tls.fingerprint to what the BMC presents")]
    Tls { device: String, detail: String },
    /// The device's description cannot work.
    #[error("{device}: configuration: {detail}")]
    Config { device: String, detail: String },
    /// A secret that the description refers to cannot be had. Nothing was sent to the device.
    #[error("{device}: no secret from {reference} ({detail}); correct the reference or what it leads to")]
    Secret { device: String, reference: String, detail: String, transient: bool },
    /// A hung request was dropped because a more urgent one wanted the same controller.
    #[error("{device}: request dropped while unanswered, since another order needs this BMC; nothing to do")]
    Superseded { device: String },
}

impl FenceError {
    /// The same device will not do better by being asked again: go to the next one.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::SuiteRefused { .. }
                | Self::Unsupported { .. }
                | Self::NotOffered { .. }
                | Self::WrongMachine { .. }
                | Self::Tls { .. }
                | Self::Config { .. }
                | Self::Superseded { .. }
                | Self::Secret { transient: false, .. }
        )
    }

    /// One fresh session may help (an expired token), a second would only lock the account.
    #[must_use]
    pub fn is_login(&self) -> bool {
        matches!(self, Self::Credentials { .. } | Self::Privilege { .. })
    }

    /// The command may have been carried out although no answer says so.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Silent { .. }
                | Self::Killed { .. }
                | Self::Unreachable { .. }
                | Self::Malformed { .. }
                | Self::Busy { .. }
                | Self::Failed { .. }
                | Self::Superseded { .. }
        )
    }

    /// How long the device asks us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Characters of a device's own words that an error repeats: enough to recognise the answer, too few to fill a log.
const REPEATED: usize = 240;

/// What a device said, as it may stand in an error: bounded, on one line, without anything that moves a terminal.
pub(crate) fn clip(text: &str) -> String {
    one_line(text, REPEATED)
}

/// The same with another bound, in characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        out.push_str("...");
    }
    out
}
