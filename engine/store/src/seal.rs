//! Sealing of secrets: ChaCha20-Poly1305 (RFC 8439) under one key that lies in a file, never in the database.
//!
//! The associated data names table, row and row version, so that a sealed value copied to another host's row, or an old one
//! put back, does not open (DESIGN 10.11). Only a few values are ever sealed under one key, far below what random 96-bit
//! nonces allow.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::rand_core::RngCore;
use chacha20poly1305::aead::{Aead, AeadCore, OsRng, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use halberd_core::time::Stamp;
use secrecy::SecretSlice;
use zeroize::Zeroizing;

pub use crate::rekey::{Rekeyed, rekey};

use crate::error::Result;
use crate::settings;
use crate::transaction::{Tx, first};
use crate::value::args;

/// Bytes of the key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// Why a secret could not be sealed or opened. Never says what it was.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("{path}: {reason}")]
    KeyFile { path: PathBuf, reason: String },
    #[error(
        "the secrets key is not the one this database was sealed with; put back the former key file (secrets_key_file)"
    )]
    WrongKey,
    #[error(
        "{table}, {row}: the sealed value does not open: it was sealed with another key, altered, or copied from another row"
    )]
    Unopened { table: &'static str, row: String },
    #[error("{table}, {row}: sealing failed")]
    Unsealed { table: &'static str, row: String },
}

/// Where a sealed value stands: part of what is authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub table: &'static str,
    pub row: &'a str,
    pub version: i64,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        format!("halberd\0{}\0{}\0{}", self.table, self.row, self.version).into_bytes()
    }
}

/// The row that shows which key is this database's.
pub(crate) const CHECK: Place<'static> = Place { table: "settings", row: settings::SEAL_CHECK, version: 1 };
/// What is sealed there.
pub(crate) const CHECKED: &[u8] = b"halberd";

/// Seals and opens under one key; the key is wiped when the last clone goes.
#[derive(Clone)]
pub struct Sealer {
    cipher: Arc<ChaCha20Poly1305>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// From a key of 32 bytes.
    pub fn new(key: &[u8; KEY_BYTES]) -> Sealer {
        Sealer { cipher: Arc::new(ChaCha20Poly1305::new(key.into())) }
    }

    /// Reads a key file: 32 bytes, or the same in 64 hex digits. Others than its owner must not be able to read it.
    pub fn from_file(path: &Path) -> std::result::Result<Sealer, SealError> {
        let refuse = |reason: String| SealError::KeyFile { path: path.to_owned(), reason };
        let mode = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            let mode = mode & 0o777;
            return Err(refuse(format!("others than its owner may use it (mode {mode:o}); chmod 600 it")));
        }
        let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| refuse(error.to_string()))?);
        let key = key_of(&bytes).ok_or_else(|| refuse("a key is 32 bytes, or 64 hex digits".to_owned()))?;
        Ok(Sealer::new(&key))
    }

    /// Reads the key file, or makes one of mode 0600. `true`: it was made now, tell the operator.
    pub fn from_file_or_new(path: &Path) -> std::result::Result<(Sealer, bool), SealError> {
        let refuse =
            |error: std::io::Error| SealError::KeyFile { path: path.to_owned(), reason: error.to_string() };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let mut key = Zeroizing::new([0u8; KEY_BYTES]);
                OsRng.fill_bytes(key.as_mut_slice());
                file.write_all(key.as_slice()).and_then(|()| file.sync_all()).map_err(refuse)?;
                Ok((Sealer::new(&key), true))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok((Sealer::from_file(path)?, false)),
            Err(error) => Err(refuse(error)),
        }
    }

    /// Nonce and ciphertext in hex.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> std::result::Result<String, SealError> {
        let nonce = ChaCha20Poly1305::generate_nonce(&mut OsRng);
        let sealed = self
            .cipher
            .encrypt(&nonce, Payload { msg: secret, aad: &place.bytes() })
            .map_err(|_| SealError::Unsealed { table: place.table, row: place.row.to_owned() })?;
        Ok(nonce.iter().chain(&sealed).map(|byte| format!("{byte:02x}")).collect())
    }

    /// What was sealed at this very place.
    pub fn open(&self, place: Place<'_>, sealed: &str) -> std::result::Result<SecretSlice<u8>, SealError> {
        let unopened = || SealError::Unopened { table: place.table, row: place.row.to_owned() };
        let bytes = from_hex(sealed.as_bytes()).ok_or_else(unopened)?;
        let (nonce, text) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(unopened)?;
        let payload = Payload { msg: text, aad: &place.bytes() };
        let secret = self.cipher.decrypt(Nonce::from_slice(nonce), payload).map_err(|_| unopened())?;
        Ok(SecretSlice::from(secret))
    }

    /// Proves that this key is the database's; the first key to come is kept as the one.
    ///
    /// # Errors
    /// [`SealError::WrongKey`].
    pub async fn check(&self, tx: &mut Tx, now: Stamp) -> Result<()> {
        let place = CHECK;
        let row = first(
            &mut &mut *tx,
            "SELECT name, value FROM settings WHERE name = ?",
            args![settings::SEAL_CHECK],
        )
        .await?;
        match row {
            Some(row) => {
                let sealed = row.of("settings", "name").string("value")?;
                self.open(place, &sealed).map_err(|_| SealError::WrongKey)?;
                Ok(())
            }
            None => settings::insert(tx, settings::SEAL_CHECK, &self.seal(place, CHECKED)?, now).await,
        }
    }
}

pub(crate) fn key_of(bytes: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if let Ok(raw) = <[u8; KEY_BYTES]>::try_from(bytes) {
        return Some(Zeroizing::new(raw));
    }
    let decoded = Zeroizing::new(from_hex(bytes.trim_ascii())?);
    <[u8; KEY_BYTES]>::try_from(decoded.as_slice()).ok().map(Zeroizing::new)
}

pub(crate) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
