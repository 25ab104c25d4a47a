//! The agents' datagrams: heartbeats to the engines, the engines' answers, and the beats neighbours send each other.
//!
//! What we believe here:
//! - A host speaks only for itself. Each has a key of its own, so nobody can forge a sign of life for another (which would block
//!   a recovery) and nobody can silence one.
//! - A beat is dated by the boot-time clock of its sender ([`Beat::counter`]), never by a wall clock and never by its arrival: the
//!   backlog of a stalled engine is no life. Each ack carries a nonce that the next beat echoes, which no replay can do.
//! - A witness must have *heard*, not merely been told: two neighbours share a [`LinkKey`] that their engine hands them, sealed,
//!   inside the acks, so a witness verifies a neighbour's beat itself. What it then writes into its own signed
//!   beat ([`Sight`]) is the witness' vote and nothing more; which vote counts is for the engine to judge.
//!
//! The codec is pure: bytes and keys in, values out. Fixed layouts, little endian, at most [`MAX_LEN`] bytes, the last 16 are
//! HMAC-SHA256 truncated (RFC 2104 section 5, RFC 4868) over everything before them. Decoding is total: any bytes give a value or an error, and every value
//! has exactly one encoding, so that there is nothing to smuggle in padding.
//!
//! ```text
//! beat  magic4 version1 kind1 network1 sights1 host16 boot16 counter8 flags2 watchdog_s2 lease_ms4 libvirt4 storage4
//!       echo_engine16 echo_nonce8 { hash8 network1 age_ms4 } x sights  tag16                        104 + 13 n
//! ack   magic4 version1 kind1 network1 peers1 engine16 counter8 nonce8 state1 flags1
//!       { hash8 ip16 port2 sealed_link16 } x peers  tag16          (host and boot are in the tag only)  58 + 42 n
//! peer  magic4 version1 kind1 network1 zero1 host16 boot16 counter8 tag16                                     64
//! ```

mod key;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use self::key::{AgentKey, KeyFile, KeyFileError, LinkKey};
pub(crate) use self::key::{base64_decode, base64_encode};

/// First bytes of every datagram. The first is no beginning of any text, so that no datagram's tag can pass for the
/// signature of a report, which begins with an HTTP method and is made with the same key.
pub const MAGIC: [u8; 4] = [0xf5, b'H', b'B', b'D'];
/// The layout above; another layout has another number and is refused.
pub const VERSION: u8 = 1;
/// No datagram is longer: far below any MTU, so none is ever fragmented.
pub const MAX_LEN: usize = 255;
/// Sights in one beat: k = 4 neighbours on two networks, or 2 on each of four. More are sent in turn.
pub const MAX_SIGHTS: usize = 8;
/// Ring neighbours in one ack: three witnesses are asked (SAFETY 10), one more so that a dead one leaves three.
pub const MAX_PEERS: usize = 4;

const TAG: usize = 16;
const BEAT_HEAD: usize = 88;
const SIGHT: usize = 13;
const ACK_HEAD: usize = 42;
const PEER: usize = 42;
const PEER_BEAT_HEAD: usize = 48;
const KIND_BEAT: u8 = 1;
const KIND_ACK: u8 = 2;
const KIND_PEER: u8 = 3;
const NEVER: u32 = u32::MAX;

/// The path a datagram travelled. Names are those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Where the control plane talks to hypervisors.
    Management,
    /// Where guests talk.
    Tenant,
    /// Where guests' disks are.
    Storage,
}

impl Network {
    /// All of them, in wire order.
    pub const ALL: [Network; 3] = [Network::Management, Network::Tenant, Network::Storage];

    /// The word used in configuration, events and evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Network::Management => "management",
            Network::Tenant => "tenant",
            Network::Storage => "storage",
        }
    }

    fn from_wire(byte: u8) -> Result<Self, DatagramError> {
        Self::ALL.get(usize::from(byte)).copied().ok_or(DatagramError::Malformed("unknown network"))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a datagram was not taken. All are dropped and counted; none is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Not ours, or of another version.
    #[error("not a halberd datagram of version {VERSION}")]
    Foreign,
    /// Ours by its first bytes, yet no value of this kind has this encoding.
    #[error("malformed datagram: {0}")]
    Malformed(&'static str),
    /// Tag does not fit: another key, another boot, or altered on the way.
    #[error("datagram's signature does not fit this host's key")]
    Signature,
}

/// What the agent says of the watchdog that would reset its host (SAFETY 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watchdog {
    /// A device is open and is being fed only while the lease is fresh.
    pub armed: bool,
    /// The device cannot be disarmed by closing it.
    pub nowayout: bool,
    /// The device is the kernel's own timer (softdog): dies with the kernel it should kill.
    pub software: bool,
    /// W: seconds without food until the reset.
    pub timeout_s: u16,
    /// L: milliseconds after sending an acknowledged beat during which the agent goes on feeding.
    pub lease_ms: u32,
}

/// The last ack this agent heard from this engine on this path: what no replay can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Engine that made the nonce; others ignore the echo.
    pub engine: Uuid,
    /// The ack's nonce.
    pub nonce: [u8; 8],
}

/// "On this network I last verified a beat of that neighbour so long ago": the signer's vote as a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The neighbour, as [`host_hash`].
    pub neighbour: u64,
    /// Where it was heard.
    pub network: Network,
    /// Milliseconds since, on the witness' own clock; `None`: not heard since this agent learned of the neighbour.
    pub age_ms: Option<u32>,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Our id of the host.
    pub host: Uuid,
    /// Kernel's boot id.
    pub boot: Uuid,
    /// CLOCK_BOOTTIME at send, nanoseconds. Grows with each beat of a boot.
    pub counter: u64,
    /// Network it was sent on.
    pub network: Network,
    /// Nonce of the last ack heard from this engine on this network.
    pub echo: Option<Echo>,
    /// Watchdog attestation.
    pub watchdog: Watchdog,
    /// Milliseconds since libvirt last answered; `None`: never, or not watched.
    pub libvirt_age_ms: Option<u32>,
    /// Milliseconds since the last successful direct write to guests' storage; `None`: never, or not watched.
    pub storage_write_age_ms: Option<u32>,
    /// Neighbours heard, at most [`MAX_SIGHTS`]; more are left out when sealing.
    pub sights: Vec<Sight>,
}

/// What a beat claims before its tag was checked: enough to find the key and to drop floods, good for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Claimed host.
    pub host: Uuid,
    /// Claimed boot.
    pub boot: Uuid,
    /// Claimed send time.
    pub counter: u64,
    /// Claimed network.
    pub network: Network,
}

/// What the engine lets a host do (DESIGN 10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// Engine has not read the host's row yet: change nothing.
    Unknown,
    /// Member; guests may start.
    In,
    /// nova-compute may start, guests may not.
    Admitted,
    /// Being fenced, fenced, or this boot was not seen before: nothing may start.
    Out,
}

/// A ring neighbour: send it peer beats at this address, and believe its peer beats under this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The neighbour, as [`host_hash`].
    pub neighbour: u64,
    /// Where it listens, on the ack's network.
    pub address: SocketAddr,
    /// Key of the pair; sealed on the wire with the receiver's key and the ack's nonce.
    pub link: LinkKey,
}

/// The engine's answer to a beat: whether the lease is renewed, a fresh nonce, and who the neighbours are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The engine that answers.
    pub engine: Uuid,
    /// The host it answers. Not on the wire: bound by the tag.
    pub host: Uuid,
    /// The boot it answers. Not on the wire: bound by the tag.
    pub boot: Uuid,
    /// Counter of the beat it answers; a renewed lease counts from that instant: the beat's sending, never an answer's arrival.
    pub counter: u64,
    /// Network of the beat, and of the peers' addresses.
    pub network: Network,
    /// Made afresh for each ack; the next beat echoes it.
    pub nonce: [u8; 8],
    /// There are orders to fetch.
    pub fetch_orders: bool,
    /// It renews the lease on which a watchdog is fed. False from an engine that may not act, or that has not yet stored that it hears
    /// this host, and for a boot that was fenced: what may be proved dead meanwhile must not be kept alive by it.
    pub renews: bool,
    /// What this boot may do.
    pub state: HostState,
    /// Ring neighbours on this network, at most [`MAX_PEERS`].
    pub peers: Vec<Peer>,
}

/// A sign of life for a ring neighbour, under the pair's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerBeat {
    /// Sender.
    pub host: Uuid,
    /// Sender's boot.
    pub boot: Uuid,
    /// CLOCK_BOOTTIME at send, nanoseconds; a receiver takes only growing ones.
    pub counter: u64,
    /// Network it was sent on.
    pub network: Network,
}

/// Eight bytes that stand for a host where sixteen are too many: the first of SHA-256 of its id.
pub fn host_hash(host: Uuid) -> u64 {
    let digest = Sha256::digest(host.as_bytes());
    let mut first = [0u8; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// Which kind of datagram these bytes claim to be; for a socket that receives more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Beat`].
    Beat,
    /// [`Ack`].
    Ack,
    /// [`PeerBeat`].
    Peer,
}

/// Reads magic, version and kind only.
pub fn kind(bytes: &[u8]) -> Result<Kind, DatagramError> {
    if bytes.len() < 6 || bytes[..4] != MAGIC || bytes[4] != VERSION {
        return Err(DatagramError::Foreign);
    }
    match bytes[5] {
        KIND_BEAT => Ok(Kind::Beat),
        KIND_ACK => Ok(Kind::Ack),
        KIND_PEER => Ok(Kind::Peer),
        _ => Err(DatagramError::Malformed("unknown kind")),
    }
}

impl Beat {
    /// Encodes and signs.
    pub fn seal(&self, key: &AgentKey) -> Vec<u8> {
        let sights = &self.sights[..self.sights.len().min(MAX_SIGHTS)];
        let mut out = head(KIND_BEAT, self.network, sights.len());
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(self.boot.as_bytes());
        out.extend_from_slice(&self.counter.to_le_bytes());
        let w = &self.watchdog;
        let flags = u16::from(self.echo.is_some())
            | u16::from(w.armed) << 1
            | u16::from(w.nowayout) << 2
            | u16::from(w.software) << 3;
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&w.timeout_s.to_le_bytes());
        out.extend_from_slice(&w.lease_ms.to_le_bytes());
        out.extend_from_slice(&age_to_wire(self.libvirt_age_ms).to_le_bytes());
        out.extend_from_slice(&age_to_wire(self.storage_write_age_ms).to_le_bytes());
        out.extend_from_slice(self.echo.map_or([0; 16], |e| e.engine.into_bytes()).as_slice());
        out.extend_from_slice(&self.echo.map_or([0; 8], |e| e.nonce));
        for sight in sights {
            out.extend_from_slice(&sight.neighbour.to_le_bytes());
            out.push(sight.network as u8);
            out.extend_from_slice(&age_to_wire(sight.age_ms).to_le_bytes());
        }
        let tag = key.tag(&[&out]);
        out.extend_from_slice(&tag);
        out
    }

    /// What it claims, unverified; costs no cryptography.
    pub fn claim(bytes: &[u8]) -> Result<Claim, DatagramError> {
        let (mut r, _) = body(bytes, Kind::Beat, BEAT_HEAD, SIGHT, MAX_SIGHTS)?;
        r.skip(6);
        let network = Network::from_wire(r.u8())?;
        r.skip(1);
        Ok(Claim { host: r.uuid(), boot: r.uuid(), counter: r.u64(), network })
    }

    /// Verifies, then decodes. Errors: [`DatagramError`].
    pub fn open(bytes: &[u8], key: &AgentKey) -> Result<Beat, DatagramError> {
        let (mut r, count) = body(bytes, Kind::Beat, BEAT_HEAD, SIGHT, MAX_SIGHTS)?;
        verify(bytes, |signed, tag| key.verify(&[signed], tag))?;
        r.skip(6);
        let network = Network::from_wire(r.u8())?;
        r.skip(1);
        let (host, boot, counter, flags) = (r.uuid(), r.uuid(), r.u64(), r.u16());
        if flags & !0b1111 != 0 {
            return Err(DatagramError::Malformed("unknown flag"));
        }
        let watchdog = Watchdog {
            armed: flags & 2 != 0,
            nowayout: flags & 4 != 0,
            software: flags & 8 != 0,
            timeout_s: r.u16(),
            lease_ms: r.u32(),
        };
        let (libvirt_age_ms, storage_write_age_ms) = (age_from_wire(r.u32()), age_from_wire(r.u32()));
        let echoed = Echo { engine: r.uuid(), nonce: r.array() };
        let echo = (flags & 1 != 0).then_some(echoed);
        if echo.is_none() && (!echoed.engine.is_nil() || echoed.nonce != [0; 8]) {
            return Err(DatagramError::Malformed("an echo that is flagged absent"));
        }
        let mut sights = Vec::with_capacity(count);
        for _ in 0..count {
            let (neighbour, network) = (r.u64(), Network::from_wire(r.u8())?);
            sights.push(Sight { neighbour, network, age_ms: age_from_wire(r.u32()) });
        }
        Ok(Beat {
            host,
            boot,
            counter,
            network,
            echo,
            watchdog,
            libvirt_age_ms,
            storage_write_age_ms,
            sights,
        })
    }
}

impl Ack {
    /// Encodes and signs with the key of the host it answers; the peers' links are sealed with the same key and [`Ack::nonce`].
    pub fn seal(&self, key: &AgentKey) -> Vec<u8> {
        let peers = &self.peers[..self.peers.len().min(MAX_PEERS)];
        let mut out = head(KIND_ACK, self.network, peers.len());
        out.extend_from_slice(self.engine.as_bytes());
        out.extend_from_slice(&self.counter.to_le_bytes());
        out.extend_from_slice(&self.nonce);
        out.push(self.state as u8);
        out.push(u8::from(self.fetch_orders) | u8::from(self.renews) << 1);
        for (slot, peer) in peers.iter().enumerate() {
            out.extend_from_slice(&peer.neighbour.to_le_bytes());
            let ip = match peer.address.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            out.extend_from_slice(&ip.octets());
            out.extend_from_slice(&peer.address.port().to_le_bytes());
            out.extend_from_slice(&peer.link.mask(key, &self.nonce, slot).into_bytes());
        }
        let tag = key.tag(&[&out, self.host.as_bytes(), self.boot.as_bytes()]);
        out.extend_from_slice(&tag);
        out
    }

    /// Verifies that this is an ack to `host` on `boot`, then decodes. Errors: [`DatagramError`].
    pub fn open(bytes: &[u8], key: &AgentKey, host: Uuid, boot: Uuid) -> Result<Ack, DatagramError> {
        let (mut r, count) = body(bytes, Kind::Ack, ACK_HEAD, PEER, MAX_PEERS)?;
        verify(bytes, |signed, tag| key.verify(&[signed, host.as_bytes(), boot.as_bytes()], tag))?;
        r.skip(6);
        let network = Network::from_wire(r.u8())?;
        r.skip(1);
        let (engine, counter, nonce) = (r.uuid(), r.u64(), r.array::<8>());
        let state = match r.u8() {
            0 => HostState::Unknown,
            1 => HostState::In,
            2 => HostState::Admitted,
            3 => HostState::Out,
            _ => return Err(DatagramError::Malformed("unknown host state")),
        };
        let flags = r.u8();
        if flags & !0b11 != 0 {
            return Err(DatagramError::Malformed("unknown flag"));
        }
        let (fetch_orders, renews) = (flags & 1 != 0, flags & 2 != 0);
        let mut peers = Vec::with_capacity(count);
        for slot in 0..count {
            let neighbour = r.u64();
            let ip = Ipv6Addr::from(r.array::<16>()).to_canonical();
            let address = SocketAddr::new(ip, r.u16());
            let link = LinkKey::from_bytes(r.array()).mask(key, &nonce, slot);
            peers.push(Peer { neighbour, address, link });
        }
        Ok(Ack { engine, host, boot, counter, network, nonce, fetch_orders, renews, state, peers })
    }
}

impl PeerBeat {
    /// Encodes and signs with the pair's key.
    pub fn seal(&self, link: &LinkKey) -> Vec<u8> {
        let mut out = head(KIND_PEER, self.network, 0);
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(self.boot.as_bytes());
        out.extend_from_slice(&self.counter.to_le_bytes());
        let tag = link.tag(&out);
        out.extend_from_slice(&tag);
        out
    }

    /// The claimed sender, unverified: to find the link.
    pub fn claimed_host(bytes: &[u8]) -> Result<Uuid, DatagramError> {
        let (mut r, _) = body(bytes, Kind::Peer, PEER_BEAT_HEAD, 0, 0)?;
        r.skip(8);
        Ok(r.uuid())
    }

    /// Verifies, then decodes. A receiver must also check that `host` is the neighbour whose link it used: both ends
    /// hold the same key, so its own beat reflected would verify. Errors: [`DatagramError`].
    pub fn open(bytes: &[u8], link: &LinkKey) -> Result<PeerBeat, DatagramError> {
        let (mut r, _) = body(bytes, Kind::Peer, PEER_BEAT_HEAD, 0, 0)?;
        verify(bytes, |signed, tag| link.verify(signed, tag))?;
        r.skip(6);
        let network = Network::from_wire(r.u8())?;
        r.skip(1);
        Ok(PeerBeat { host: r.uuid(), boot: r.uuid(), counter: r.u64(), network })
    }
}

fn head(kind: u8, network: Network, count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_LEN);
    out.extend_from_slice(&MAGIC);
    // The count is at most MAX_SIGHTS.
    out.extend_from_slice(&[VERSION, kind, network as u8, count as u8]);
    out
}

/// Milliseconds as the wire has them: the largest number means never, so that a true age stops one below.
fn age_to_wire(age: Option<u32>) -> u32 {
    age.map_or(NEVER, |a| a.min(NEVER - 1))
}

fn age_from_wire(wire: u32) -> Option<u32> {
    (wire != NEVER).then_some(wire)
}

/// Checks kind and exact length; afterwards the reader cannot run over the end.
fn body(
    bytes: &[u8],
    expected: Kind,
    head: usize,
    item: usize,
    most: usize,
) -> Result<(Reader<'_>, usize), DatagramError> {
    if kind(bytes)? != expected {
        return Err(DatagramError::Malformed("another kind of datagram"));
    }
    let count = usize::from(*bytes.get(7).ok_or(DatagramError::Malformed("too short"))?);
    if count > most {
        return Err(DatagramError::Malformed("too many entries"));
    }
    if bytes.len() != head + count * item + TAG {
        return Err(DatagramError::Malformed("length does not fit its count"));
    }
    Ok((Reader { rest: &bytes[..bytes.len() - TAG] }, count))
}

fn verify(bytes: &[u8], check: impl Fn(&[u8], &[u8]) -> bool) -> Result<(), DatagramError> {
    let (signed, tag) = bytes.split_at(bytes.len().saturating_sub(TAG));
    if check(signed, tag) { Ok(()) } else { Err(DatagramError::Signature) }
}

/// Reads a length-checked body. Beyond the end it reads zeros, which `body` has ruled out: total without a panic.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn skip(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        if let Some((first, rest)) = self.rest.split_first_chunk::<N>() {
            out = *first;
            self.rest = rest;
        }
        out
    }
    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
    fn uuid(&mut self) -> Uuid {
        Uuid::from_bytes(self.array())
    }
}
