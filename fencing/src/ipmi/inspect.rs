//! What a check asks beside the power: how the BMC lets consoles in, and what it is.
//!
//! None of it is needed for a fence, so none of it may stand in the way of one: an answer that fails to come is no fault, and
//! the waiting for all of them together is short.

use std::net::SocketAddr;
use std::time::Duration;

use ipmi_rs::connection::{IpmiCommand, Message, NetFn, NotEnoughData};
use tokio::time::{Instant, timeout_at};

use super::commands::Repeat;
use super::frame;
use super::session::{Link, connect};

/// How long an answer to one of these is waited for, its resends included. A BMC that answers at all does so within some tens of
/// milliseconds; four of these fit into a check's time with room to spare.
pub(super) const PATIENCE: Duration = Duration::from_millis(1_000);
/// Answers are at most 16 bytes of records each; the list of the longest BMC on record has some 50 bytes.
const PAGES: u8 = 8;

/// How a BMC lets consoles in (Get Channel Authentication Capabilities, 22.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// IPMI 2.0 sessions are offered; `None`: a BMC that knows only the older form of the answer.
    pub v2: Option<bool>,
    /// Users without a name.
    pub null_users: bool,
    /// Logins without name and password.
    pub anonymous: bool,
}

/// Get Channel Authentication Capabilities for this channel, 2.0 data included.
pub(super) fn ask_capabilities(privilege: u8) -> Message {
    Message::new_request(NetFn::App, 0x38, vec![0x8e, privilege])
}

impl Capabilities {
    /// Reads the data behind the completion code.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let [_channel, kinds, status, versions, ..] = *data else { return None };
        Some(Self {
            v2: (kinds & 0x80 != 0).then_some(versions & 0x02 != 0),
            null_users: status & 0x02 != 0,
            anonymous: status & 0x01 != 0,
        })
    }

    pub(super) fn warnings(self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.v2 == Some(false) {
            warnings.push("the BMC says that it offers no IPMI 2.0, though a session stands".to_owned());
        }
        if self.anonymous {
            warnings.push(
                "the BMC allows anonymous logins; disable the account without name and password".to_owned(),
            );
        }
        if self.null_users {
            warnings.push("the BMC has a user without a name; disable it".to_owned());
        }
        warnings
    }
}

/// Asks outside any session, from a port of its own. Silence is an answer to nothing.
pub(super) async fn capabilities(address: SocketAddr, privilege: u8) -> Option<Capabilities> {
    let socket = connect(address).await.ok()?;
    let request = ask_capabilities(privilege);
    let datagram = frame::outside(&frame::request(&request, 0));
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 512];
    for half in [until - PATIENCE / 2, until] {
        socket.send(&datagram).await.ok()?;
        while let Ok(Ok(length)) = timeout_at(half, socket.recv(&mut buffer)).await {
            let answer = frame::from_outside(&buffer[..length]).and_then(frame::response);
            let ours =
                |a: &frame::Response| a.message.cmd() == request.cmd() && a.message.netfn() == NetFn::App;
            if let Some(answer) = answer.filter(ours) {
                return if answer.completion == 0 {
                    Capabilities::parse(answer.message.data())
                } else {
                    None
                };
            }
        }
    }
    None
}

/// Get Device ID (20.1): what the BMC is.
#[derive(Debug, Clone, Copy)]
pub(super) struct GetDeviceId;

/// The part of it that people ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceId {
    /// IANA enterprise number.
    pub manufacturer: u32,
    pub product: u16,
    /// `major.minor`, the minor in BCD.
    pub firmware: String,
    /// It is updating its firmware, or initializes itself: commands may fail.
    pub updating: bool,
}

impl From<GetDeviceId> for Message {
    fn from(_: GetDeviceId) -> Self {
        Self::new_request(NetFn::App, 0x01, vec![])
    }
}

impl IpmiCommand for GetDeviceId {
    type Output = DeviceId;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<DeviceId, NotEnoughData> {
        let [_id, _revision, major, minor, _ipmi, _support, m0, m1, m2, p0, p1, ..] = *data else {
            return Err(NotEnoughData);
        };
        Ok(DeviceId {
            // Twenty bits; the upper four are reserved.
            manufacturer: u32::from_le_bytes([m0, m1, m2 & 0x0f, 0]),
            product: u16::from_le_bytes([p0, p1]),
            firmware: format!("{}.{minor:02x}", major & 0x7f),
            updating: major & 0x80 != 0,
        })
    }
}

impl Repeat for GetDeviceId {
    const IDEMPOTENT: bool = true;
}

impl DeviceId {
    /// The maker's name, or its number.
    pub(super) fn maker(&self) -> String {
        // IANA's enterprise numbers of those who make BMCs or put their number into them.
        let name = match self.manufacturer {
            2 => "IBM",
            11 => "HPE",
            343 => "Intel",
            674 => "Dell",
            2011 => "Huawei",
            7154 => "IPMI forum",
            7244 => "Quanta",
            10368 => "Fujitsu",
            10876 => "Supermicro",
            15370 => "Gigabyte",
            19046 => "Lenovo",
            20974 => "AMI",
            37945 => "Inspur",
            number => return format!("IANA enterprise {number}"),
        };
        name.to_owned()
    }
}

/// Get Channel Cipher Suites (22.15), one page of 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct GetCipherSuites(pub u8);

impl From<GetCipherSuites> for Message {
    fn from(c: GetCipherSuites) -> Self {
        // This channel, IPMI payload, records by suite.
        Self::new_request(NetFn::App, 0x54, vec![0x0e, 0x00, 0x80 | c.0 & 0x3f])
    }
}

impl IpmiCommand for GetCipherSuites {
    type Output = Vec<u8>;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Vec<u8>, NotEnoughData> {
        let (_channel, records) = data.split_first().ok_or(NotEnoughData)?;
        Ok(records.to_vec())
    }
}

impl Repeat for GetCipherSuites {
    const IDEMPOTENT: bool = true;
}

/// Numbers of the standard suites in the records; `None` if they are no records.
pub(super) fn suites(records: &[u8]) -> Option<Vec<u8>> {
    let (mut found, mut rest) = (Vec::new(), records);
    while let Some((start, after)) = rest.split_first() {
        let (suite, after) = after.split_first()?;
        let after = match start {
            0xc0 => {
                found.push(*suite);
                after
            }
            // An OEM's suite: its enterprise number follows.
            0xc1 => after.get(3..)?,
            _ => return None,
        };
        // Algorithms until the next record.
        let algorithms = after.iter().take_while(|b| **b < 0xc0).count();
        rest = &after[algorithms..];
    }
    Some(found)
}

/// All suites that the BMC tells of within a session; `None` if it does not say.
pub(super) async fn offered(link: &mut Link) -> Option<Vec<u8>> {
    let mut records = Vec::new();
    for page in 0..PAGES {
        let part = link.ask(GetCipherSuites(page), PATIENCE).await?;
        let last = part.len() < 16;
        records.extend(part);
        if last {
            break;
        }
    }
    suites(&records)
}
