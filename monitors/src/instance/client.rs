//! A connection to libvirtd: calls one after the other, events in between.
//!
//! Everything runs in the caller's task. Reading can be given up at any point without loss: bytes that came stay in the
//! buffer until they make a packet.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use halberd_types::report::Domain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::protocol::{
    self, DomainRef, EVENTS, GuestEvent, HEADER, KEEPALIVE, MAX_PACKET, Packet, REMOTE, Type, procedure,
};
use super::xdr::{Reader, Writer, XdrError};

/// No answer for so long is no answer: libvirt's own client gives up after 15 s without keepalive.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_PING: i32 = 1;
const KEEPALIVE_PONG: i32 = 2;
const AUTH_NONE: i32 = 0;
const AUTH_POLKIT: i32 = 2;
/// VIR_ERR_NO_DOMAIN
const NO_DOMAIN: i32 = 42;
/// VIR_ERR_OPERATION_INVALID: of destroy, that the domain is not running.
const OPERATION_INVALID: i32 = 55;

/// What goes wrong between us and libvirtd.
#[derive(Debug, thiserror::Error)]
pub enum LibvirtError {
    /// No such socket, nobody listens, or not for us.
    #[error(
        "cannot connect to libvirt at {path}; is libvirtd (or virtqemud) running and `instance.socket` right?"
    )]
    Connect {
        /// Socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Connection lost.
    #[error("connection to libvirt is lost")]
    Lost(#[source] std::io::Error),
    /// Alive by its socket, yet silent.
    #[error("libvirt did not answer a call of procedure {0} within {CALL_TIMEOUT:?}")]
    Timeout(i32),
    /// Wants SASL.
    #[error(
        "libvirt asks for authentication {0:?} on this socket; use the read-only socket or let this user in"
    )]
    Authentication(Vec<i32>),
    /// libvirt says no.
    #[error("libvirt: {message} (error {code})")]
    Refused {
        /// virErrorNumber.
        code: i32,
        /// Its words.
        message: String,
    },
    /// Not libvirt, or broken.
    #[error("libvirt speaks otherwise than expected")]
    Malformed(#[from] XdrError),
    /// A packet longer than any we expect.
    #[error("libvirt announces a packet of {0} bytes")]
    Length(usize),
}

/// One connection with its driver open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    events: VecDeque<GuestEvent>,
    serial: u32,
}

impl Connection {
    /// Connects, authenticates and opens `uri`. Errors: [`LibvirtError`].
    pub async fn open(socket: &Path, uri: &str) -> Result<Connection, LibvirtError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| LibvirtError::Connect { path: socket.to_owned(), source })?;
        let mut c = Connection { stream, buffer: Vec::new(), events: VecDeque::new(), serial: 0 };
        c.authenticate().await?;
        c.call(procedure::CONNECT_OPEN, Writer::default().u32(1).string(uri).u32(0)).await?;
        Ok(c)
    }

    async fn authenticate(&mut self) -> Result<(), LibvirtError> {
        let answer = self.call(procedure::AUTH_LIST, Writer::default()).await?;
        let mut r = Reader::new(&answer);
        let kinds: Vec<i32> = (0..r.count(20)?).map(|_| r.i32()).collect::<Result<_, _>>()?;
        if kinds.contains(&AUTH_NONE) || kinds.is_empty() {
            return Ok(());
        }
        if kinds.contains(&AUTH_POLKIT) {
            return self.call(procedure::AUTH_POLKIT, Writer::default()).await.map(drop);
        }
        Err(LibvirtError::Authentication(kinds))
    }

    /// Asks for all events that the monitor can use.
    pub async fn register(&mut self) -> Result<(), LibvirtError> {
        for event in EVENTS {
            self.call(procedure::EVENT_REGISTER, Writer::default().i32(event).u32(0)).await?;
        }
        Ok(())
    }

    /// Every domain; `id` is -1 for those that do not run.
    pub async fn list(&mut self) -> Result<Vec<DomainRef>, LibvirtError> {
        let answer = self.call(procedure::LIST_ALL_DOMAINS, Writer::default().i32(1).u32(0)).await?;
        Ok(protocol::read_domains(&answer)?)
    }

    /// State of a domain; `None` if it is gone meanwhile.
    pub async fn state(&mut self, domain: &DomainRef) -> Result<Option<Domain>, LibvirtError> {
        let answer = self.call(procedure::DOMAIN_GET_STATE, domain.write(Writer::default()).u32(0)).await;
        let answer = match answer {
            Err(LibvirtError::Refused { code: NO_DOMAIN, .. }) => return Ok(None),
            other => other?,
        };
        let mut r = Reader::new(&answer);
        let (state, reason) = (r.i32()?, r.i32()?);
        Ok(Some(Domain { uuid: domain.uuid, name: domain.name.clone(), state, reason }))
    }

    /// Ends a domain hard; true if it ran. Gone or stopped already is well.
    pub async fn destroy(&mut self, uuid: Uuid) -> Result<bool, LibvirtError> {
        let found = self.call(procedure::DOMAIN_LOOKUP_BY_UUID, Writer::default().uuid(uuid)).await;
        let answer = match found {
            Err(LibvirtError::Refused { code: NO_DOMAIN, .. }) => return Ok(false),
            other => other?,
        };
        let domain = DomainRef::read(&mut Reader::new(&answer))?;
        match self.call(procedure::DOMAIN_DESTROY, domain.write(Writer::default())).await {
            Ok(_) => Ok(true),
            Err(LibvirtError::Refused { code: NO_DOMAIN | OPERATION_INVALID, .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// The next event. May be dropped while waiting.
    pub async fn event(&mut self) -> Result<GuestEvent, LibvirtError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let packet = self.packet().await?;
            self.unasked(&packet).await?;
        }
    }

    /// Calls and waits for the answer's payload. Must not be dropped while waiting: the next answer would be this one's.
    pub async fn call(&mut self, number: i32, arguments: Writer) -> Result<Vec<u8>, LibvirtError> {
        timeout(CALL_TIMEOUT, self.exchange(number, arguments))
            .await
            .map_err(|_| LibvirtError::Timeout(number))?
    }

    async fn exchange(&mut self, number: i32, arguments: Writer) -> Result<Vec<u8>, LibvirtError> {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        self.write(&protocol::encode(REMOTE, number, Type::Call, serial, &arguments.0)).await?;
        loop {
            let packet = self.packet().await?;
            let ours = packet.program == REMOTE && packet.kind == Type::Reply as i32;
            if !ours {
                self.unasked(&packet).await?;
            } else if packet.serial == serial && packet.failed {
                let (code, message) = protocol::read_error(&packet.payload)?;
                return Err(LibvirtError::Refused { code, message });
            } else if packet.serial == serial {
                return Ok(packet.payload);
            }
        }
    }

    /// What libvirt sends by itself: events and keepalive pings.
    async fn unasked(&mut self, packet: &Packet) -> Result<(), LibvirtError> {
        if packet.program == KEEPALIVE && packet.procedure == KEEPALIVE_PING {
            let pong = protocol::encode(KEEPALIVE, KEEPALIVE_PONG, Type::Message, packet.serial, &[]);
            return self.write(&pong).await;
        }
        if packet.program == REMOTE && packet.kind == Type::Message as i32 {
            self.events.extend(protocol::read_event(packet)?);
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LibvirtError> {
        self.stream.write_all(bytes).await.map_err(LibvirtError::Lost)
    }

    async fn packet(&mut self) -> Result<Packet, LibvirtError> {
        loop {
            if let Some(packet) = self.whole()? {
                return Ok(packet);
            }
            let read = self.stream.read_buf(&mut self.buffer).await.map_err(LibvirtError::Lost)?;
            if read == 0 {
                return Err(LibvirtError::Lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes a packet from the buffer if it is there whole.
    fn whole(&mut self) -> Result<Option<Packet>, LibvirtError> {
        let Some(first) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*first) as usize;
        if !(HEADER..=MAX_PACKET).contains(&length) {
            return Err(LibvirtError::Length(length));
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let packet = protocol::decode(&self.buffer[4..length])?;
        self.buffer.drain(..length);
        Ok(Some(packet))
    }
}
