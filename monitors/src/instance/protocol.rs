//! libvirt's RPC as far as we speak it: packets, procedure numbers, the domain, errors, events.
//!
//! A packet is its length (itself included) and a header of program, version, procedure, type, serial and status, 28 bytes in
//! all, then XDR. Numbers are those of libvirt's `remote_protocol.x` and `virkeepaliveprotocol.x`; they never change.

use halberd_types::report::GuestPayload;
use uuid::Uuid;

use super::xdr::{Reader, Writer, XdrError};

pub(crate) const REMOTE: u32 = 0x2000_8086;
pub(crate) const KEEPALIVE: u32 = 0x6b65_6570;
pub(crate) const HEADER: usize = 28;
/// libvirt's own limit since 1.2 (VIR_NET_MESSAGE_MAX), 32 MiB; a list of 1,000 domains is 60 KiB.
pub(crate) const MAX_PACKET: usize = 4 << 20;
/// Domains in one list (REMOTE_DOMAIN_LIST_MAX).
const MAX_DOMAINS: u32 = 16_384;

pub(crate) mod procedure {
    pub const CONNECT_OPEN: i32 = 1;
    pub const DOMAIN_DESTROY: i32 = 12;
    pub const DOMAIN_LOOKUP_BY_UUID: i32 = 24;
    pub const AUTH_LIST: i32 = 66;
    pub const AUTH_POLKIT: i32 = 70;
    pub const DOMAIN_GET_STATE: i32 = 212;
    pub const LIST_ALL_DOMAINS: i32 = 273;
    pub const EVENT_REGISTER: i32 = 316;
    pub const EVENT_LIFECYCLE: i32 = 318;
    pub const EVENT_REBOOT: i32 = 319;
    pub const EVENT_WATCHDOG: i32 = 321;
    pub const EVENT_IO_ERROR_REASON: i32 = 324;
    pub const EVENT_CONTROL_ERROR: i32 = 325;
    pub const EVENT_AGENT_LIFECYCLE: i32 = 348;
}

/// Events we register (virDomainEventID). I/O errors only with their reason: the plain event would say each twice.
pub(crate) const EVENTS: [i32; 6] = [0, 1, 3, 6, 7, 18];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Call = 0,
    Reply = 1,
    Message = 2,
}

/// A packet without its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub program: u32,
    pub procedure: i32,
    pub kind: i32,
    pub serial: u32,
    pub failed: bool,
    pub payload: Vec<u8>,
}

pub(crate) fn encode(program: u32, procedure: i32, kind: Type, serial: u32, payload: &[u8]) -> Vec<u8> {
    // Our own payloads are a few hundred bytes at most.
    let length = (HEADER + payload.len()) as u32;
    let header = Writer::default().u32(length).u32(program).u32(1).i32(procedure).i32(kind as i32);
    let mut packet = header.u32(serial).u32(0).0;
    packet.extend_from_slice(payload);
    packet
}

/// Decodes what follows the length.
pub(crate) fn decode(bytes: &[u8]) -> Result<Packet, XdrError> {
    let mut r = Reader::new(bytes);
    let (program, _version) = (r.u32()?, r.u32()?);
    let (procedure, kind, serial, status) = (r.i32()?, r.i32()?, r.u32()?, r.u32()?);
    let payload = bytes.get(HEADER - 4..).unwrap_or_default().to_vec();
    Ok(Packet { program, procedure, kind, serial, failed: status == 1, payload })
}

/// A domain as packets name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DomainRef {
    pub name: String,
    pub uuid: Uuid,
    pub id: i32,
}

impl DomainRef {
    pub fn write(&self, w: Writer) -> Writer {
        w.string(&self.name).uuid(self.uuid).i32(self.id)
    }

    pub fn read(r: &mut Reader<'_>) -> Result<DomainRef, XdrError> {
        Ok(DomainRef { name: r.string()?, uuid: r.uuid()?, id: r.i32()? })
    }
}

pub(crate) fn read_domains(payload: &[u8]) -> Result<Vec<DomainRef>, XdrError> {
    let mut r = Reader::new(payload);
    let count = r.count(MAX_DOMAINS)?;
    (0..count).map(|_| DomainRef::read(&mut r)).collect()
}

/// libvirt's error: its number (virErrorNumber) and words.
pub(crate) fn read_error(payload: &[u8]) -> Result<(i32, String), XdrError> {
    let mut r = Reader::new(payload);
    let (code, _domain) = (r.i32()?, r.i32()?);
    let message = if r.count(1)? == 1 { r.string()? } else { String::new() };
    Ok((code, message))
}

/// An event that libvirt sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestEvent {
    /// Nova's server id.
    pub uuid: Uuid,
    /// `instance-00000001`.
    pub name: String,
    /// What happened.
    pub what: Happened,
}

/// What can happen to a domain, with libvirt's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// virDomainEventType and its detail.
    Lifecycle {
        /// Type.
        event: i32,
        /// Detail of that type.
        detail: i32,
    },
    /// The guest rebooted.
    Reboot,
    /// The guest's virtual watchdog fired (virDomainEventWatchdogAction).
    Watchdog(i32),
    /// A disk failed (virDomainEventIOErrorAction).
    IoError {
        /// Action.
        action: i32,
        /// `enospc` or empty.
        reason: String,
    },
    /// The monitor of the domain's process failed.
    ControlError,
    /// Guest agent connected (1) or disconnected (2).
    AgentLifecycle(i32),
}

/// Decodes an event packet; `None` for events we did not ask for.
pub(crate) fn read_event(packet: &Packet) -> Result<Option<GuestEvent>, XdrError> {
    let mut r = Reader::new(&packet.payload);
    let _callback = r.i32()?;
    let domain = DomainRef::read(&mut r)?;
    let what = match packet.procedure {
        procedure::EVENT_LIFECYCLE => Happened::Lifecycle { event: r.i32()?, detail: r.i32()? },
        procedure::EVENT_REBOOT => Happened::Reboot,
        procedure::EVENT_WATCHDOG => Happened::Watchdog(r.i32()?),
        procedure::EVENT_IO_ERROR_REASON => {
            let (_path, _device) = (r.string()?, r.string()?);
            Happened::IoError { action: r.i32()?, reason: r.string()? }
        }
        procedure::EVENT_CONTROL_ERROR => Happened::ControlError,
        procedure::EVENT_AGENT_LIFECYCLE => Happened::AgentLifecycle(r.i32()?),
        _ => return Ok(None),
    };
    Ok(Some(GuestEvent { uuid: domain.uuid, name: domain.name, what }))
}

/// Masakari's words for an event, if it is worth a report (contract 5.6). What its user or an operator did to a
/// guest (shutdown, destroy, reboot) is none: the original stores a row for each only to ignore it.
pub fn payload_of(event: &GuestEvent) -> Option<GuestPayload> {
    let (name, detail) = match &event.what {
        Happened::Lifecycle { event: 3, detail } => {
            let detail = match detail {
                2 => "SUSPENDED_IOERROR",
                3 => "SUSPENDED_WATCHDOG",
                6 => "SUSPENDED_API_ERROR",
                _ => return None,
            };
            ("LIFECYCLE", detail)
        }
        Happened::Lifecycle { event: 5, detail: 5 } => ("LIFECYCLE", "STOPPED_FAILED"),
        // Not in the original's table: the guest's kernel panicked and libvirt stopped it.
        Happened::Lifecycle { event: 5, detail: 2 } => ("LIFECYCLE", "STOPPED_CRASHED"),
        Happened::Lifecycle { event: 8, detail: 0 } => ("LIFECYCLE", "CRASHED_PANICKED"),
        Happened::Lifecycle { event: 8, .. } => ("LIFECYCLE", "CRASHED_CRASHLOADED"),
        Happened::Watchdog(action) => {
            let words = ["NONE", "PAUSE", "RESET", "POWEROFF", "SHUTDOWN", "DEBUG", "INJECTNMI"];
            let word = usize::try_from(*action).ok().and_then(|i| words.get(i))?;
            return Some(payload(event.uuid, "WATCHDOG", format!("WATCHDOG_{word}")));
        }
        Happened::IoError { action, .. } => {
            let detail = match action {
                0 => "IO_ERROR_NONE",
                1 => "IO_ERROR_PAUSE",
                2 => "IO_ERROR_REPORT",
                _ => return None,
            };
            ("IO_ERROR", detail)
        }
        Happened::ControlError => ("CONTROL_ERROR", "UNKNOWN"),
        Happened::Lifecycle { .. } | Happened::Reboot | Happened::AgentLifecycle(_) => return None,
    };
    Some(payload(event.uuid, name, detail.to_owned()))
}

pub(crate) fn payload(instance_uuid: Uuid, event: &str, vir_domain_event: String) -> GuestPayload {
    GuestPayload { instance_uuid, event: event.to_owned(), vir_domain_event }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(what: Happened) -> GuestEvent {
        GuestEvent { uuid: Uuid::from_u128(5), name: "instance-1".into(), what }
    }

    fn words(what: Happened) -> Option<(String, String)> {
        payload_of(&event(what)).map(|p| (p.event, p.vir_domain_event))
    }

    #[test]
    fn the_contracts_table() {
        let life = |event, detail| words(Happened::Lifecycle { event, detail });
        let said = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(life(5, 5), said("LIFECYCLE", "STOPPED_FAILED"));
        assert_eq!(life(3, 2), said("LIFECYCLE", "SUSPENDED_IOERROR"));
        assert_eq!(life(3, 3), said("LIFECYCLE", "SUSPENDED_WATCHDOG"));
        assert_eq!(life(3, 6), said("LIFECYCLE", "SUSPENDED_API_ERROR"));
        assert_eq!(life(8, 0), said("LIFECYCLE", "CRASHED_PANICKED"));
        assert_eq!(words(Happened::Watchdog(2)), said("WATCHDOG", "WATCHDOG_RESET"));
        let io = |action| words(Happened::IoError { action, reason: "enospc".into() });
        assert_eq!(io(1), said("IO_ERROR", "IO_ERROR_PAUSE"));
        assert_eq!(io(2), said("IO_ERROR", "IO_ERROR_REPORT"));
        assert_eq!(words(Happened::ControlError), said("CONTROL_ERROR", "UNKNOWN"));
    }

    #[test]
    fn what_users_do_is_no_report() {
        let life = |event, detail| words(Happened::Lifecycle { event, detail });
        // Shutdown, destroy, migrated away, saved; paused by hand; started; guest shut down; undefined.
        for (e, d) in [(5, 0), (5, 1), (5, 3), (5, 4), (3, 0), (2, 0), (4, 0), (6, 0), (1, 0), (0, 0)] {
            assert_eq!(life(e, d), None, "{e} {d}");
        }
        assert_eq!(words(Happened::Reboot), None);
        assert_eq!(words(Happened::AgentLifecycle(2)), None);
        assert_eq!(words(Happened::Watchdog(99)), None);
    }

    #[test]
    fn an_io_error_packet() {
        let dom = DomainRef { name: "instance-1".into(), uuid: Uuid::from_u128(5), id: 3 };
        let payload =
            dom.write(Writer::default().i32(1)).string("/disk").string("virtio0").i32(1).string("enospc").0;
        let bytes = encode(REMOTE, procedure::EVENT_IO_ERROR_REASON, Type::Message, 0, &payload);
        assert_eq!(bytes.len(), HEADER + payload.len());
        let packet = decode(&bytes[4..]).unwrap();
        assert_eq!(
            read_event(&packet).unwrap(),
            Some(event(Happened::IoError { action: 1, reason: "enospc".into() }))
        );
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), procedure in 300i32..360) {
            if let Ok(mut packet) = decode(&bytes) {
                packet.procedure = procedure;
                let _ = (read_event(&packet), read_domains(&packet.payload), read_error(&packet.payload));
            }
        }
    }
}
