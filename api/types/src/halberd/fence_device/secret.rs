//! Which values are secrets, how a secret is shown, and where one may lie instead of being given.
//!
//! This is the one list and the one mask: what the API stores in the open and what it answers went through here. Rather one key too
//! many is hidden than one too few. A reference names where a secret lies and is none itself, so it is shown.

use std::path::Path;

use serde_json::Value;

/// What a secret looks like in every answer.
pub const MASK: &str = "********";

/// A key whose name contains one of these holds a secret: ours (`password`, `kg`) and those of fence-agents (`passwd`,
/// `snmp_priv_passwd`, `community`, `apikey`, `hexadecimal_kg`).
const PARTS: [&str; 9] =
    ["passw", "passphrase", "secret", "token", "community", "kg", "_key", "apikey", "hexadecimal"];

/// Keys of a device, and of an agent's options, whose values are secrets. Agents take a dash for an underscore.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    PARTS.iter().any(|part| key.contains(part))
}

/// A secret as every output has it: masked, or, being a mere reference, as it is.
pub(super) fn shown(value: &Value) -> Value {
    match value.as_str().and_then(reference) {
        Some(Ok(())) => value.clone(),
        _ => MASK.into(),
    }
}

/// Whether a text names where a secret lies: `file:/path`, `env:NAME`, `vault:MOUNT/PATH#KEY`. `None`: it is a secret itself. The
/// reason of a refusal does not repeat the text, which might be a secret after all.
pub(super) fn reference(text: &str) -> Option<Result<(), &'static str>> {
    if let Some(path) = text.strip_prefix("file:") {
        let plain = Path::new(path).is_absolute()
            && !path.split('/').any(|part| part == "..")
            && !path.chars().any(char::is_control);
        return Some(plain.then_some(()).ok_or("names a file: that needs an absolute path without .."));
    }
    if let Some(name) = text.strip_prefix("env:") {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let plain = name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit());
        return Some(plain.then_some(()).ok_or("names an env: that needs the name of a variable"));
    }
    let rest = text.strip_prefix("vault:")?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    let segment = |s: &str| !s.is_empty() && !matches!(s, "." | "..") && s.chars().all(word);
    let good = rest.split_once('#').is_some_and(|(path, key)| {
        path.contains('/') && path.split('/').all(segment) && !key.is_empty() && key.chars().all(word)
    });
    Some(good.then_some(()).ok_or("names a vault: that needs MOUNT/PATH#KEY of letters, digits, _ - . @"))
}

/// Any document with [`MASK`] in place of every secret in it, also of a password within a URL; for records that are shown again.
pub fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mask = |(key, value): (&String, &Value)| {
                let hide = is_secret(key) && !value.is_null() && !value.is_boolean();
                (key.clone(), if hide { shown(value) } else { masked(value) })
            };
            Value::Object(fields.iter().map(mask).collect())
        }
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::String(text) => mask_url(text).into(),
        other => other.clone(),
    }
}

/// Whether a document has [`MASK`] where a secret should be: one that was read and is being written back.
pub fn has_mask(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| (is_secret(key) && value == MASK) || has_mask(value))
        }
        Value::Array(items) => items.iter().any(has_mask),
        _ => false,
    }
}

/// `https://user:password@bmc` without the password.
fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:{MASK}@{host}{}", &rest[authority.len()..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_is_told_from_a_secret() {
        for good in
            ["file:/etc/halberd/bmc", "env:BMC_PASSWORD", "env:_X", "vault:secret/bmc/cmp-01#password"]
        {
            assert_eq!(reference(good), Some(Ok(())), "{good}");
        }
        for bad in [
            "file:bmc",
            "file:",
            "file:/a/../b",
            "file:/a\nb",
            "env:",
            "env:1A",
            "env:A-B",
            "vault:",
            "vault:a#k",
            "vault:a/b",
            "vault:a/b#",
            "vault:a//b#k",
            "vault:a/../b#k",
            "vault:a/b#k k",
        ] {
            assert!(matches!(reference(bad), Some(Err(_))), "{bad}");
        }
        for literal in ["", "hunter2", "File:/x", " file:/x", "files:/x"] {
            assert_eq!(reference(literal), None, "{literal}");
        }
    }

    #[test]
    fn documents_are_masked_to_their_depth() {
        let given = json!({
            "text": "GET https://u:hunter2@bmc/x failed", "where": "https://bmc/", "n": 3, "at": "a@b",
            "in": [{ "passwd": "hunter2", "snmp_priv_passwd": "hunter2", "apikey": "hunter2", "api-key": "hunter2", "kg": "0xhunter2",
                "password": "env:BMC", "pin_token": 1234, "plug": "4", "has_token": true,
                "tokens": ["hunter2"], "secrets": { "a": "hunter2" } }],
        });
        let shown = masked(&given);
        assert!(!shown.to_string().contains("hunter2") && !shown.to_string().contains("1234"), "{shown}");
        assert_eq!(shown["text"], format!("GET https://u:{MASK}@bmc/x failed"));
        assert_eq!(
            (&shown["where"], &shown["n"], &shown["at"]),
            (&given["where"], &given["n"], &given["at"])
        );
        assert_eq!(shown["in"][0]["password"], "env:BMC", "a reference is no secret");
        assert_eq!((&shown["in"][0]["plug"], &shown["in"][0]["has_token"]), (&json!("4"), &json!(true)));
        assert!(has_mask(&shown) && !has_mask(&given));
        assert_eq!(masked(&shown), shown, "masking twice is masking once");
    }
}
