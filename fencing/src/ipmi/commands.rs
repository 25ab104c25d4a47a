//! The few commands of a fence as [`IpmiCommand`]s, and what their completion codes mean.

use ipmi_rs::connection::{CompletionErrorCode, IpmiCommand, Message, NetFn, NotEnoughData};

use crate::power::RestorePolicy;

/// How a command is sent again when its answer fails to come.
pub(super) trait Repeat: IpmiCommand {
    /// May it be sent again without knowing whether it was carried out?
    const IDEMPOTENT: bool;
    /// By how much the pauses before its resends are longer.
    const PATIENCE: u32 = 1;
}

/// Set Session Privilege Level (22.18): sessions start at USER, where Chassis Control is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct SetPrivilege(pub u8);

impl From<SetPrivilege> for Message {
    fn from(c: SetPrivilege) -> Self {
        Self::new_request(NetFn::App, 0x3b, vec![c.0])
    }
}

impl IpmiCommand for SetPrivilege {
    /// The new level.
    type Output = u8;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<u8, NotEnoughData> {
        data.first().map(|l| l & 0x0f).ok_or(NotEnoughData)
    }
}

impl Repeat for SetPrivilege {
    const IDEMPOTENT: bool = true;
}

/// Get System GUID (22.14).
#[derive(Debug, Clone, Copy)]
pub(super) struct GetSystemGuid;

impl From<GetSystemGuid> for Message {
    fn from(_: GetSystemGuid) -> Self {
        Self::new_request(NetFn::App, 0x37, vec![])
    }
}

impl IpmiCommand for GetSystemGuid {
    type Output = [u8; 16];
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<[u8; 16], NotEnoughData> {
        data.first_chunk().copied().ok_or(NotEnoughData)
    }
}

impl Repeat for GetSystemGuid {
    const IDEMPOTENT: bool = true;
}

/// Get Chassis Status (28.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct GetChassisStatus;

/// The part of the chassis status that matters to a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChassisStatus {
    pub on: bool,
    pub power_fault: bool,
    /// The chassis tried to change power and failed.
    pub control_fault: bool,
    /// What it does when supply returns: 0 stay off, 1 as before, 2 on, 3 unknown.
    pub restore_policy: u8,
}

impl From<GetChassisStatus> for Message {
    fn from(_: GetChassisStatus) -> Self {
        Self::new_request(NetFn::Chassis, 0x01, vec![])
    }
}

impl IpmiCommand for GetChassisStatus {
    type Output = ChassisStatus;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<ChassisStatus, NotEnoughData> {
        let [power, _last, _misc, ..] = data else { return Err(NotEnoughData) };
        Ok(ChassisStatus {
            on: power & 0x01 != 0,
            power_fault: power & 0x08 != 0,
            control_fault: power & 0x10 != 0,
            restore_policy: power >> 5 & 0x03,
        })
    }
}

impl Repeat for GetChassisStatus {
    const IDEMPOTENT: bool = true;
}

impl ChassisStatus {
    pub(super) fn policy(self) -> Option<RestorePolicy> {
        match self.restore_policy {
            0 => Some(RestorePolicy::AlwaysOff),
            1 => Some(RestorePolicy::LastState),
            2 => Some(RestorePolicy::AlwaysOn),
            _ => None,
        }
    }
}

/// Set Power Restore Policy (28.8).
#[derive(Debug, Clone, Copy)]
pub(super) struct SetRestorePolicy(pub RestorePolicy);

impl SetRestorePolicy {
    fn code(self) -> u8 {
        match self.0 {
            RestorePolicy::AlwaysOff => 0,
            RestorePolicy::LastState => 1,
            RestorePolicy::AlwaysOn => 2,
        }
    }

    /// Whether the chassis has this policy, by the bits of its answer.
    pub(super) fn is_among(self, supported: u8) -> bool {
        supported >> self.code() & 1 == 1
    }
}

impl From<SetRestorePolicy> for Message {
    fn from(c: SetRestorePolicy) -> Self {
        Self::new_request(NetFn::Chassis, 0x06, vec![c.code()])
    }
}

impl IpmiCommand for SetRestorePolicy {
    /// A bit for each policy that the chassis has.
    type Output = u8;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<u8, NotEnoughData> {
        data.first().copied().ok_or(NotEnoughData)
    }
}

impl Repeat for SetRestorePolicy {
    const IDEMPOTENT: bool = true;
}

/// Chassis Control (28.3), power down. Never cycle or reset: their completion cannot be seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct PowerDown;

impl From<PowerDown> for Message {
    fn from(_: PowerDown) -> Self {
        Self::new_request(NetFn::Chassis, 0x02, vec![0x00])
    }
}

impl IpmiCommand for PowerDown {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

impl Repeat for PowerDown {
    /// Simulators and BMCs do execute a repeated datagram again; off twice is off.
    const IDEMPOTENT: bool = true;
    /// A power off takes some BMCs seconds, and copies queue up behind it: three or four sent to one that needs 3 s each
    /// kept it dumb past the level's time (seen). So the first copy goes after 2 s rather than 0.5.
    const PATIENCE: u32 = 4;
}

/// Chassis Control (28.3), power up.
#[derive(Debug, Clone, Copy)]
pub(super) struct PowerUp;

impl From<PowerUp> for Message {
    fn from(_: PowerUp) -> Self {
        Self::new_request(NetFn::Chassis, 0x02, vec![0x01])
    }
}

impl IpmiCommand for PowerUp {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

impl Repeat for PowerUp {
    /// A late copy would start a machine that was fenced meanwhile.
    const IDEMPOTENT: bool = false;
}

/// Close Session (22.19).
#[derive(Debug, Clone, Copy)]
pub(super) struct CloseSession(pub [u8; 4]);

impl From<CloseSession> for Message {
    fn from(c: CloseSession) -> Self {
        Self::new_request(NetFn::App, 0x3c, c.0.to_vec())
    }
}

impl IpmiCommand for CloseSession {
    type Output = ();
    type Error = NotEnoughData;
    fn parse_success_response(_: &[u8]) -> Result<(), NotEnoughData> {
        Ok(())
    }
}

impl Repeat for CloseSession {
    const IDEMPOTENT: bool = true;
}

/// What a completion code means for the next move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Not now, perhaps carried out.
    Busy,
    Privilege,
    Unsupported,
    /// Not in the present state: of an off order, off already.
    Already,
    Refused,
}

pub(super) fn meaning(code: CompletionErrorCode) -> Meaning {
    use CompletionErrorCode as C;
    match code {
        C::NodeBusy
        | C::ProcessingTimeout
        | C::OutOfSpace
        | C::CannotExecuteDuplicateRequest
        | C::ResponseUnavailable { .. }
        | C::DestinationUnavailable
        | C::Unspecified => Meaning::Busy,
        C::InsufficientPrivilege => Meaning::Privilege,
        C::InvalidCommand
        | C::InvalidCommandForLun
        | C::InvalidDataFieldInRequest
        | C::SubFunctionDisabled => Meaning::Unsupported,
        C::CannotExecuteCommandInCurrentState => Meaning::Already,
        _ => Meaning::Refused,
    }
}
