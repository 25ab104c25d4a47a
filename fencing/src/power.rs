//! Power, identity, and the two traits at the door to the world.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::FenceError;

/// What a device says about the power. Only the literal On and Off are states; every other word, `null`, a missing
/// field or a transition is [`PowerState::Other`] and means "not yet".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerState {
    On,
    Off,
    Other(String),
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("On"),
            Self::Off => f.write_str("Off"),
            Self::Other(word) => write!(f, "neither On nor Off ({word})"),
        }
    }
}

/// What a machine does when its supply returns. One that starts by itself would undo a fence after a power cut, so
/// [`RestorePolicy::AlwaysOn`] is taken away while a host is fenced (SAFETY 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePolicy {
    AlwaysOff,
    /// As it was before the supply went.
    LastState,
    AlwaysOn,
}

impl fmt::Display for RestorePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlwaysOff => "always off",
            Self::LastState => "last state",
            Self::AlwaysOn => "always on",
        })
    }
}

/// Who the device says its machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub serial: Option<String>,
    pub uuid: Option<Uuid>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
}

impl Identity {
    /// True if it names one machine.
    #[must_use]
    pub fn names_a_machine(&self) -> bool {
        self.serial.is_some() || self.uuid.is_some()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name_machine(f, self.serial.as_deref(), self.uuid)
    }
}

/// Who the machine must be: what is on file for the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    pub serial: Option<String>,
    pub uuid: Option<Uuid>,
}

impl Expected {
    /// `Some(true)` if something on file agrees and nothing contradicts, `Some(false)` on any contradiction, `None` if
    /// nothing can be compared.
    #[must_use]
    pub fn compare(&self, seen: &Identity) -> Option<bool> {
        let serial = match (self.serial.as_deref().and_then(serial), seen.serial.as_deref().and_then(serial))
        {
            (Some(on_file), Some(seen)) => Some(on_file.eq_ignore_ascii_case(&seen)),
            _ => None,
        };
        let uuid = match (self.uuid, seen.uuid) {
            (Some(on_file), Some(seen)) => Some(same_uuid(on_file, seen)),
            _ => None,
        };
        match (serial, uuid) {
            (None, None) => None,
            (Some(false), _) | (_, Some(false)) => Some(false),
            _ => Some(true),
        }
    }

    /// True if there is nothing to compare with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.serial.as_deref().and_then(serial).is_none() && self.uuid.is_none()
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name_machine(f, self.serial.as_deref(), self.uuid)
    }
}

fn name_machine(f: &mut fmt::Formatter<'_>, serial: Option<&str>, uuid: Option<Uuid>) -> fmt::Result {
    match (serial, uuid) {
        (Some(serial), Some(uuid)) => write!(f, "serial {serial}, UUID {uuid}"),
        (Some(serial), None) => write!(f, "serial {serial}"),
        (None, Some(uuid)) => write!(f, "UUID {uuid}"),
        (None, None) => f.write_str("no identity"),
    }
}

/// A serial number worth comparing: trimmed, and none of the fillers that whole series of boards share (a match on
/// one of these would "confirm" any machine).
#[must_use]
pub fn serial(text: &str) -> Option<String> {
    let text = text.trim();
    const FILLERS: [&str; 11] = [
        "none",
        "null",
        "n/a",
        "na",
        "unknown",
        "not specified",
        "not available",
        "default string",
        "system serial number",
        "to be filled by o.e.m.",
        "empty",
    ];
    let filler = FILLERS.iter().any(|f| text.eq_ignore_ascii_case(f));
    let flat = text.chars().all(|c| matches!(c, '0' | '-' | '.' | ' ' | 'x' | 'X'));
    (!text.is_empty() && !filler && !flat).then(|| text.to_owned())
}

/// A UUID worth comparing: not all zeros, not all ones.
#[must_use]
pub fn uuid(uuid: Uuid) -> Option<Uuid> {
    (!uuid.is_nil() && !uuid.is_max()).then_some(uuid)
}

/// Sixteen GUID bytes of an IPMI answer as a UUID. Firmwares send RFC 4122 order, SMBIOS order (first three fields
/// little endian) or all of it reversed (IPMI 2.0 20.8); the first order that yields a valid version and variant wins.
#[must_use]
pub fn guid(bytes: [u8; 16]) -> Option<Uuid> {
    let straight = uuid(Uuid::from_bytes(bytes))?;
    let plausible =
        |u: &Uuid| u.get_variant() == uuid::Variant::RFC4122 && (1..=8).contains(&u.get_version_num());
    Some(
        [straight, smbios_order(straight), reversed(straight)]
            .into_iter()
            .find(plausible)
            .unwrap_or(straight),
    )
}

/// Equal, or the same sixteen bytes in another of the three byte orders in use. Either side may already have guessed
/// its order, so two reorderings in a row are allowed for as well.
fn same_uuid(a: Uuid, b: Uuid) -> bool {
    let (swapped, turned) = (smbios_order(b), reversed(b));
    uuid(b).is_some() && [b, swapped, turned, reversed(swapped), smbios_order(turned)].contains(&a)
}

fn smbios_order(u: Uuid) -> Uuid {
    Uuid::from_bytes_le(*u.as_bytes())
}

fn reversed(u: Uuid) -> Uuid {
    let mut bytes = *u.as_bytes();
    bytes.reverse();
    Uuid::from_bytes(bytes)
}

/// What a device answered to an order that it did not refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    /// It says that the power is already as ordered.
    AlreadySo,
}

/// What a check found beyond reach, login, identity and state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The device cannot fence as it is.
    pub faults: Vec<String>,
    /// It can, but somebody should look.
    pub warnings: Vec<String>,
    /// Firmware of the device itself, as it names it.
    pub firmware: Option<String>,
    /// Who made it, where its identity does not say.
    pub manufacturer: Option<String>,
}

/// One described device. Opening it costs a login.
#[async_trait]
pub trait PowerDevice: Send + Sync + fmt::Debug {
    /// Logs in. Errors as [`FenceError`]; nothing was ordered.
    async fn open(&self) -> Result<Box<dyn PowerSession>, FenceError>;
}

/// One authenticated conversation. Everything that shall count for one proof happens in one of these.
#[async_trait]
pub trait PowerSession: Send {
    /// Who the machine is; `None` if the device cannot say.
    async fn identify(&mut self) -> Result<Option<Identity>, FenceError>;
    /// The power as [`PowerSession::identify`] happened to see it; `None` if it needs a reading of its own.
    fn state_at_identify(&self) -> Option<PowerState> {
        None
    }
    /// Reads the power afresh.
    async fn read(&mut self) -> Result<PowerState, FenceError>;
    /// Orders off.
    async fn off(&mut self) -> Result<Answer, FenceError>;
    /// Orders on. Sent once: the caller decides about a second time.
    async fn on(&mut self) -> Result<Answer, FenceError>;
    /// What the machine does when supply returns, as the last document or status happened to say. Costs no command.
    fn restore_policy(&self) -> Option<RestorePolicy> {
        None
    }
    /// Sets that.
    async fn set_restore_policy(&mut self, _policy: RestorePolicy) -> Result<(), FenceError>;
    /// What an off would send, in one line without any secret, as the device was seen in this session; `None` if nothing.
    fn would(&self) -> Option<String>;
    /// True, once, if the device itself says that the last accepted order came to nothing.
    fn came_to_nothing(&mut self) -> bool {
        false
    }
    /// Whether this session could fence (privilege, method offered) and what else deserves a warning. Changes nothing.
    async fn inspect(&mut self) -> Result<Findings, FenceError>;
    /// Ends what earlier owners of the account left open, where the description says that it is ours alone. Best effort;
    /// for acts only, since it also ends their orders.
    async fn take_over(&mut self) {}
    /// What the device said beside its answers (a failed task, a power fault), once.
    fn note(&mut self) -> Option<String> {
        None
    }
    /// By what this session can be revoked by somebody else; no secret.
    fn token(&self) -> Option<String>;
    /// Ends the session, best effort.
    async fn close(self: Box<Self>);
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "564d3988-87f7-0b5a-8010-d454645c55f8";

    fn on_file(serial: Option<&str>, uuid: Option<&str>) -> Expected {
        Expected { serial: serial.map(str::to_owned), uuid: uuid.map(|u| u.parse().unwrap()) }
    }

    fn seen(serial: Option<&str>, uuid: Option<Uuid>) -> Identity {
        Identity { serial: serial.map(str::to_owned), uuid, ..Identity::default() }
    }

    #[test]
    fn one_contradiction_outweighs_an_agreement() {
        let uuid: Uuid = UUID.parse().unwrap();
        let expected = on_file(Some("A1"), Some(UUID));
        assert_eq!(expected.compare(&seen(Some("a1 "), Some(uuid))), Some(true));
        assert_eq!(expected.compare(&seen(Some("B2"), Some(uuid))), Some(false));
        assert_eq!(expected.compare(&seen(Some("A1"), Some(Uuid::from_u128(7)))), Some(false));
        assert_eq!(expected.compare(&seen(None, Some(uuid))), Some(true));
        assert_eq!(expected.compare(&seen(None, None)), None);
        assert_eq!(on_file(None, None).compare(&seen(Some("A1"), Some(uuid))), None);
    }

    #[test]
    fn fillers_confirm_nobody() {
        for filler in ["", " ", "None", "Default string", "0000000000", "To Be Filled By O.E.M."] {
            let expected = on_file(Some(filler), None);
            assert_eq!(expected.compare(&seen(Some(filler), None)), None, "{filler:?}");
            assert!(expected.is_empty());
        }
        assert_eq!(on_file(None, Some(UUID)).compare(&seen(None, Some(Uuid::nil()))), Some(false));
    }

    #[test]
    fn a_guid_is_known_in_every_byte_order() {
        let machine: Uuid = "8839d356-f787-4a0b-8010-d454645c55f8".parse().unwrap();
        let expected = Expected { serial: None, uuid: Some(machine) };
        let straight = *machine.as_bytes();
        let smbios = machine.to_bytes_le();
        let mut turned = straight;
        turned.reverse();
        for wire in [straight, smbios, turned] {
            let found = guid(wire).unwrap();
            assert_eq!(expected.compare(&seen(None, Some(found))), Some(true), "{found}");
            assert_eq!(expected.compare(&seen(None, Some(Uuid::from_bytes(wire)))), Some(true), "{found}");
        }
        let mut other = straight;
        other[15] ^= 1;
        assert_eq!(expected.compare(&seen(None, guid(other))), Some(false));
        assert_eq!(guid([0; 16]), None);
        assert_eq!(guid([0xff; 16]), None);
    }
}
