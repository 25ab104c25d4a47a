//! Cipher suites 3 and 17: keys, check values, sealing and opening (IPMI 2.0 13.20-13.33).
//!
//! Only suites that authenticate, protect and encrypt exist here; whatever a BMC proposes instead is refused by the
//! handshake. Every code is compared in constant time and before anything is decrypted.

use aes::Aes128;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::NoPadding};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::frame::{self, Packet, payload};

/// A cipher suite we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    /// HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

impl Suite {
    pub(super) fn id(self) -> u8 {
        match self {
            Self::Three => 3,
            Self::Seventeen => 17,
        }
    }

    /// Authentication, integrity, confidentiality.
    pub(super) fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Three => [1, 1, 1],
            Self::Seventeen => [3, 4, 1],
        }
    }

    /// Length of the truncated codes: RAKP 4's and the trailer's.
    pub(super) fn code_len(self) -> usize {
        match self {
            Self::Three => 12,
            Self::Seventeen => 16,
        }
    }

    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        const ANY: &str = "HMAC takes a key of any length";
        Zeroizing::new(match self {
            Self::Three => digest(Hmac::<Sha1>::new_from_slice(key).expect(ANY), parts),
            Self::Seventeen => digest(Hmac::<Sha256>::new_from_slice(key).expect(ANY), parts),
        })
    }
}

fn digest<M: Mac>(mut mac: M, parts: &[&[u8]]) -> Vec<u8> {
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// Equal, in time that does not depend on where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// What seals and opens a session's messages.
pub(super) struct Keys {
    suite: Suite,
    k1: Zeroizing<Vec<u8>>,
    aes: Zeroizing<[u8; 16]>,
}

impl Keys {
    pub(super) fn new(suite: Suite, sik: &[u8]) -> Self {
        // Twenty bytes with SHA-256 too: 32, as a reading of the text suggests, fails against ipmitool and FreeIPMI.
        let k1 = suite.hmac(sik, &[&[1; 20]]);
        let k2 = suite.hmac(sik, &[&[2; 20]]);
        let mut aes = Zeroizing::new([0; 16]);
        aes.copy_from_slice(&k2[..16]);
        Self { suite, k1, aes }
    }

    /// A whole datagram that carries `message` encrypted and authenticated.
    pub(super) fn seal(&self, session: [u8; 4], sequence: u32, iv: [u8; 16], message: &[u8]) -> Vec<u8> {
        let mut plain = message.to_vec();
        let pad = (16 - (message.len() + 1) % 16) % 16;
        plain.extend((1..=pad).map(|n| n as u8));
        plain.push(pad as u8);
        let cipher = cbc::Encryptor::<Aes128>::new((&*self.aes).into(), &iv.into());
        let mut payload = iv.to_vec();
        let length = plain.len();
        let secret =
            cipher.encrypt_padded_mut::<NoPadding>(&mut plain, length).expect("padded to whole blocks above");
        payload.extend_from_slice(secret);

        let mut out = frame::packet(payload::SEALED, session, sequence, &payload);
        // The session header without RMCP's four bytes, the payload, pad, pad length and next header: a multiple of 4.
        let pad = (4 - (out.len() - 4 + 2) % 4) % 4;
        out.extend(std::iter::repeat_n(0xff, pad));
        out.extend([pad as u8, 0x07]);
        let code = self.suite.hmac(&self.k1, &[&out[4..]]);
        out.extend(&code[..self.suite.code_len()]);
        out
    }

    /// The message in a datagram of this session, with its sequence number. `None` unless it is encrypted and
    /// authenticated, ours, and its code is right.
    pub(super) fn open(&self, session: [u8; 4], datagram: &[u8]) -> Option<(u32, Vec<u8>)> {
        let packet = Packet::parse(datagram)?;
        if packet.payload_type != payload::SEALED || packet.session != session {
            return None;
        }
        let (pad, code) =
            packet.trailer.split_at_checked(packet.trailer.len().checked_sub(self.suite.code_len())?)?;
        let signed = datagram.get(4..datagram.len() - code.len())?;
        if !same(&self.suite.hmac(&self.k1, &[signed])[..self.suite.code_len()], code) {
            return None;
        }
        let [pad @ .., pad_len, 0x07] = pad else { return None };
        if pad.len() != usize::from(*pad_len) {
            return None;
        }
        let (iv, secret) = packet.payload.split_first_chunk::<16>()?;
        let cipher = cbc::Decryptor::<Aes128>::new((&*self.aes).into(), iv.into());
        let mut plain = secret.to_vec();
        cipher.decrypt_padded_mut::<NoPadding>(&mut plain).ok()?;
        let pad = usize::from(plain.pop()?);
        let keep = plain.len().checked_sub(pad)?;
        if pad > 15 || plain[keep..].iter().zip(1..).any(|(b, n): (&u8, u8)| *b != n) {
            return None;
        }
        plain.truncate(keep);
        Some((packet.sequence, plain))
    }
}
