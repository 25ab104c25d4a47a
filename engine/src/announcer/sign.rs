//! Standard Webhooks signatures (standardwebhooks.com, specification 1.0): HMAC-SHA256 over `id.timestamp.body`, base64,
//! after `v1,`. The receiver compares the time stamp with its clock against replays; we compare nothing with it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::fmt;

/// What marks a symmetric secret in text.
const PREFIX: &str = "whsec_";
/// The specification's bounds on a key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// One key, or several while one is being replaced.
pub(super) struct Keys(Vec<Hmac<Sha256>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Reads `whsec_BASE64`, several separated by blanks. The error never repeats the text.
    pub fn parse(text: &SecretString) -> Result<Keys, String> {
        let keys: Vec<_> = text.expose_secret().split_whitespace().map(key).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err("is empty".into()) } else { Ok(Keys(keys)) }
    }

    /// The `webhook-signature` header.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let sign = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

fn key(word: &str) -> Result<Hmac<Sha256>, String> {
    let encoded = word.strip_prefix(PREFIX).ok_or("must begin with whsec_")?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "what follows whsec_ is not base64")?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(format!(
            "holds {} bytes; Standard Webhooks asks for 24 to 64 (openssl rand -base64 32)",
            bytes.len()
        ));
    }
    Hmac::new_from_slice(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_reference_libraries() {
        // standard-webhooks/standard-webhooks, libraries/*/test: the same id, time, payload and secret in every language.
        let keys = Keys::parse(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_keys_sign_side_by_side() {
        let one = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let both = Keys::parse(&format!("{one} {other}\n").into()).unwrap().sign("a", 1, b"x");
        let single = |text: &str| Keys::parse(&text.to_owned().into()).unwrap().sign("a", 1, b"x");
        assert_eq!(both, format!("{} {}", single(one), single(&other)));
    }

    #[test]
    fn a_bad_secret_is_named_and_not_repeated() {
        for (text, what) in [
            ("", "empty"),
            ("hunter2", "whsec_"),
            ("whsec_hunter2!", "base64"),
            ("whsec_aHVudGVyMg==", "24 to 64"),
        ] {
            let error = Keys::parse(&text.to_owned().into()).unwrap_err();
            assert!(error.contains(what) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
