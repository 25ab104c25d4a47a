//! Keys of agents: one per host, known to that host and (sealed) to the control plane; and one per pair of ring
//! neighbours, derived, never stored.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

type HmacSha256 = Hmac<Sha256>;

/// First word of a key file.
const FORMAT: &str = "halberd-agent-key-v1";

/// A host's key: 32 bytes. Signs its beats and reports, and the acks and orders it gets.
#[derive(Clone)]
pub struct AgentKey {
    bytes: [u8; 32],
    // Ready with both key blocks absorbed, so that each datagram costs only its own blocks.
    mac: HmacSha256,
}

impl AgentKey {
    /// From the bytes of a key file or the opened database column.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mac = HmacSha256::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        Self { bytes, mac }
    }

    /// The secret itself: for sealing into the database and for [`KeyFile::render`].
    pub fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// HMAC-SHA256 over the parts, whole.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        first16(&self.mac(parts))
    }

    pub(super) fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.tag(parts).ct_eq(tag).into()
    }
}

impl PartialEq for AgentKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes.ct_eq(&other.bytes).into()
    }
}

impl Eq for AgentKey {}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentKey(redacted)")
    }
}

/// The key two ring neighbours share. Every engine derives the same one; the hosts get it sealed in acks.
#[derive(Clone, Copy)]
pub struct LinkKey([u8; 16]);

impl LinkKey {
    /// The pair's key, the same whichever of the two is named first. Derived from the key of the lower id: only the
    /// control plane (and that host, of which the other is the watcher) can make it.
    pub fn between(a: (Uuid, &AgentKey), b: (Uuid, &AgentKey)) -> Self {
        let (low, high) = if a.0 <= b.0 { (a, b) } else { (b, a) };
        Self(low.1.tag(&[b"halberd link v1\0", low.0.as_bytes(), high.0.as_bytes()]))
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn into_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Seals or opens (the same operation): XOR with a pad that only the holder of `key` can make for this nonce and slot.
    /// The ack's tag covers the result. A nonce that came twice would show only that two links are equal or not.
    pub(super) fn mask(self, key: &AgentKey, nonce: &[u8; 8], slot: usize) -> Self {
        let pad = key.tag(&[b"halberd seal v1\0", nonce, &[slot as u8]]);
        Self(std::array::from_fn(|i| self.0[i] ^ pad[i]))
    }

    pub(super) fn tag(&self, bytes: &[u8]) -> [u8; 16] {
        let mut mac = HmacSha256::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(bytes);
        first16(&mac.finalize().into_bytes().into())
    }

    pub(super) fn verify(&self, bytes: &[u8], tag: &[u8]) -> bool {
        self.tag(bytes).ct_eq(tag).into()
    }
}

impl PartialEq for LinkKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for LinkKey {}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(redacted)")
    }
}

fn first16(mac: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| mac[i])
}

/// What `halberd agent key HOST` prints once: one line, `halberd-agent-key-v1 <host-uuid> <hostname> <base64 of 32 bytes>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Our id of the host.
    pub host: Uuid,
    /// Its name, as in Nova.
    pub hostname: String,
    /// Its key.
    pub key: AgentKey,
}

/// Why a key file was not taken. Never shows any of the file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not the four words of a key file.
    #[error(
        "not an agent key file: expected one line `{FORMAT} <host-uuid> <hostname> <key>`; make one with `halberd agent key HOST`"
    )]
    Format,
    /// Second word.
    #[error("agent key file: its second word is not a UUID")]
    Host,
    /// Fourth word.
    #[error("agent key file: its fourth word is not the base64 of 32 bytes")]
    Key,
}

impl KeyFile {
    /// The file's text with its final newline. Contains the secret.
    pub fn render(&self) -> String {
        format!("{FORMAT} {} {} {}\n", self.host, self.hostname, base64_encode(self.key.expose()))
    }

    /// Reads the text of a key file; blank lines and lines that begin with `#` are ignored. Errors: [`KeyFileError`].
    pub fn parse(text: &str) -> Result<KeyFile, KeyFileError> {
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(KeyFileError::Format) };
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [FORMAT, host, hostname, key] = words[..] else { return Err(KeyFileError::Format) };
        let host = Uuid::parse_str(host).map_err(|_| KeyFileError::Host)?;
        let bytes = base64_decode(key).ok_or(KeyFileError::Key)?;
        let key = AgentKey::from_bytes(bytes.try_into().map_err(|_| KeyFileError::Key)?);
        Ok(KeyFile { host, hostname: hostname.to_owned(), key })
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 section 4, with padding.
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |acc, i| acc << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let sextet = (word >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    out
}

/// Strict: padded, canonical, nothing else in between.
pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let data = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(data.len() * 3 / 4);
    let (mut word, mut bits) = (0u32, 0u32);
    for byte in data.bytes() {
        let sextet = ALPHABET.iter().position(|&a| a == byte)? as u32;
        word = (word << 6 | sextet) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    (base64_encode(&out) == text).then_some(out)
}
