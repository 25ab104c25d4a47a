//! The cryptography of suites 3 and 17: RAKP with HMAC-SHA1 or HMAC-SHA256, AES-CBC-128, cut HMACs as trailers.

use aes::Aes128;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// A cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    /// HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

impl Suite {
    /// The suite of these three algorithms, or the status that refuses them.
    pub(super) fn of(authentication: u8, integrity: u8, confidentiality: u8) -> Result<Self, u8> {
        match (authentication, integrity, confidentiality) {
            (1, 1, 1) => Ok(Self::Three),
            (3, 4, 1) => Ok(Self::Seventeen),
            (1 | 3, 1 | 4, 1) => Err(0x11),
            (1 | 3, 1 | 4, _) => Err(0x10),
            (1 | 3, _, _) => Err(0x05),
            _ => Err(0x04),
        }
    }

    /// Length of a cut code: RAKP 4's check value and the trailer's.
    pub(super) fn cut(self) -> usize {
        match self {
            Self::Three => 12,
            Self::Seventeen => 16,
        }
    }

    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Three => hmac::<Hmac<Sha1>>(key, parts),
            Self::Seventeen => hmac::<Hmac<Sha256>>(key, parts),
        }
    }
}

fn hmac<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// The keys of a session.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) suite: Suite,
    pub(super) sik: Vec<u8>,
    pub(super) k1: Vec<u8>,
    aes: [u8; 16],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?})", self.suite)
    }
}

impl Keys {
    /// Derived from the session integrity key: K1 and K2 are HMACs over twenty equal bytes, also with SHA-256.
    pub(super) fn new(suite: Suite, sik: Vec<u8>) -> Self {
        let k1 = suite.hmac(&sik, &[&[1; 20]]);
        let k2 = suite.hmac(&sik, &[&[2; 20]]);
        let mut aes = [0; 16];
        aes.copy_from_slice(&k2[..16]);
        Self { suite, sik, k1, aes }
    }

    pub(super) fn encrypt(&self, iv: [u8; 16], message: &[u8]) -> Vec<u8> {
        let pad = (16 - (message.len() + 1) % 16) % 16;
        let mut plain = message.to_vec();
        plain.extend((1..=pad).map(|n| n as u8));
        plain.push(pad as u8);
        let length = plain.len();
        let cipher = cbc::Encryptor::<Aes128>::new(&self.aes.into(), &iv.into());
        let sealed = cipher
            .encrypt_padded_mut::<NoPadding>(&mut plain, length)
            .expect("the padding above makes whole blocks");
        [iv.as_slice(), sealed].concat()
    }

    /// `None` when it is no whole number of blocks or its padding is wrong.
    pub(super) fn decrypt(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let iv: [u8; 16] = payload.get(..16)?.try_into().ok()?;
        let mut sealed = payload[16..].to_vec();
        let cipher = cbc::Decryptor::<Aes128>::new(&self.aes.into(), &iv.into());
        let plain = cipher.decrypt_padded_mut::<NoPadding>(&mut sealed).ok()?;
        let pad = usize::from(*plain.last()?);
        let end = plain.len().checked_sub(pad + 1)?;
        plain[end..plain.len() - 1]
            .iter()
            .eq((1..=pad).map(|n| n as u8).collect::<Vec<_>>().iter())
            .then(|| plain[..end].to_vec())
    }

    /// A whole datagram's part from the authentication type on: header, sealed payload, trailer.
    pub(super) fn seal(&self, session: u32, sequence: u32, iv: [u8; 16], message: &[u8]) -> Vec<u8> {
        let payload = self.encrypt(iv, message);
        let mut body = super::codec::header(0xc0, session, sequence, payload.len());
        body.extend(payload);
        let pad = (4 - (body.len() + 2) % 4) % 4;
        body.extend(std::iter::repeat_n(0xff, pad));
        body.extend([pad as u8, 0x07]);
        let code = self.suite.hmac(&self.k1, &[&body]);
        body.extend(&code[..self.suite.cut()]);
        body
    }

    /// Whether the trailer's code is right. `body` is everything from the authentication type on.
    pub(super) fn authentic(&self, body: &[u8]) -> bool {
        let cut = self.suite.cut();
        let Some(signed) = body.len().checked_sub(cut) else { return false };
        self.suite.hmac(&self.k1, &[&body[..signed]])[..cut] == body[signed..]
    }
}
