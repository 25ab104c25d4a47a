//! What each kind of device demands of its keys beyond their types.
//!
//! An agent's options are lines of its standard input and nothing else, so no shell of ours sees them. Some agents have options that hand
//! their value to a shell of their own, though: those are refused by name.
//!
//! Whatever is refused is refused with the way out, behind a semicolon.

use secrecy::{ExposeSecret, SecretString};

use super::{Device, fingerprint, host_port};
use crate::error::clip;
use crate::secret::is_reference;

/// Longest password of an IPMI 2.0 user, in bytes.
const IPMI_PASSWORD: usize = 20;
/// Longest name of an IPMI user, in bytes.
const IPMI_USERNAME: usize = 16;
/// Why a program is refused.
const NO_AGENT: &str = "is no program of the fence-agents family; give its name, fence_ and small letters, digits or _ (fence_apc), or an absolute path without .. that ends in such a name (/usr/sbin/fence_apc)";

/// Whether this names a program of the fence-agents family: `fence_` and `[a-z0-9_]+`, alone or at the end of an absolute path without
/// `..`. Whoever may describe fence devices chooses what the engine runs, and gives it its standard input: with `/bin/sh` there he
/// would have the controller. Which file stands behind the name is looked at when it is run (`agent/program.rs`).
pub(crate) fn is_agent(program: &str) -> bool {
    let (folders, name) = program.rsplit_once('/').unwrap_or(("/", program));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let named = name.strip_prefix("fence_").is_some_and(|rest| !rest.is_empty() && rest.chars().all(plain));
    named && (folders.is_empty() || folders.starts_with('/')) && !folders.split('/').any(|part| part == "..")
}

/// Why an option is refused that would have the agent run, load or write something of the description's choosing on the engine's machine:
/// `password_script` goes to a shell, `ssh_path` is started, `ssh_options` may hold a ProxyCommand, `openrc` is sourced, `debug_file` is
/// written (fence-agents' fencing.py).
const NO_REACH: &str = "names what the agent would run, read in or write on the engine's machine; leave it out (a secret may be a reference such as file:/path, anything else belongs into a program of your own, fence_... and owned by root)";
/// Why a word is refused that agents put into a command line of ssh, unquoted (fencing.py, `_login_ssh_with_password`).
const NO_WORD: &str =
    "begins with - or \\, or holds blanks or quotes, and agents put it into a command line; give a plain one";

/// Whether an option reaches beyond the agent ([`NO_REACH`]). Agents take a dash for an underscore.
fn reaches_out(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    // A path within a URL.
    let path = key.ends_with("_path") && key != "api_path";
    path || key.ends_with("_script")
        || matches!(key.as_str(), "ssh_options" | "openrc" | "exec" | "debug" | "debug_file" | "logfile")
}

/// Whether an option's value is one of the words that [`NO_WORD`] is about.
fn is_word(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    matches!(key.as_str(), "username" | "login" | "ip" | "ipaddr" | "ipport" | "identity_file")
}

/// Whether a command line takes this for one word, and not for an option.
fn stays_one_word(text: &str) -> bool {
    !text.starts_with(['-', '\\'])
        && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'))
}

impl Device {
    pub(super) fn validate_redfish(&self) -> Result<(), (&'static str, String)> {
        let address = self.address.as_deref().unwrap_or_default();
        // URL parsers forgive a great deal (blanks around it, missing or turned slashes, dots in the path). What is taken for one here
        // is what everybody takes for one.
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        if !["https", "http"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) {
            return Err((
                "address",
                "is not an https:// or http:// URL; give one such as https://bmc.example".into(),
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(("address", "holds credentials; put them into username and password".into()));
        }
        if path.contains(['?', '#']) || authority.contains(['?', '#']) {
            return Err(("address", "has a query or fragment; give scheme, host and port only".into()));
        }
        if !matches!(path.trim_end_matches('/'), "" | "redfish" | "redfish/v1") {
            return Err((
                "address",
                "has a path; give the service's root and name the machine in `system`".into(),
            ));
        }
        host_port(authority, self.port, 443).map_err(|reason| ("address", reason))?;
        reqwest::Url::parse(address)
            .map_err(|e| ("address", format!("{e}; give a URL such as https://bmc.example")))?;
        let Some(tls) = &self.tls else { return Ok(()) };
        let chosen = usize::from(tls.ca_file.is_some())
            + usize::from(tls.fingerprint.is_some())
            + usize::from(tls.insecure);
        if chosen != 1 {
            return Err((
                "tls",
                "needs exactly one of ca_file, fingerprint, insecure = true; keep one".into(),
            ));
        }
        if tls.fingerprint.as_deref().is_some_and(|f| fingerprint(f).is_none()) {
            let reason = "fingerprint is not a SHA-256 in hex (64 digits, colons allowed); give what `openssl x509 -noout -fingerprint -sha256` prints";
            return Err(("tls", reason.into()));
        }
        Ok(())
    }

    pub(super) fn validate_ipmi(&self) -> Result<(), (&'static str, String)> {
        let address = self.address.as_deref().unwrap_or_default();
        host_port(address, self.port, 623).map_err(|reason| ("address", reason))?;
        if !matches!(self.cipher, None | Some(3 | 17)) {
            return Err((
                "cipher",
                "only suites 3 and 17 protect what they carry; leave it out to try both".into(),
            ));
        }
        if self.username.as_deref().unwrap_or_default().len() > IPMI_USERNAME {
            return Err((
                "username",
                format!(
                    "is longer than IPMI's {IPMI_USERNAME} bytes; make an account with a shorter name on the BMC"
                ),
            ));
        }
        // What a reference leads to is checked when it is resolved.
        let literal = |s: &SecretString| !is_reference(s.expose_secret());
        if self.password.as_ref().is_some_and(|p| literal(p) && p.expose_secret().len() > IPMI_PASSWORD) {
            return Err((
                "password",
                format!("is longer than IPMI's {IPMI_PASSWORD} bytes; set a shorter one on the BMC"),
            ));
        }
        match self.kg_bytes().filter(|_| self.kg.as_ref().is_some_and(literal)) {
            Some(Err(reason)) => Err(("kg", reason.into())),
            Some(Ok(kg)) if kg.len() > IPMI_PASSWORD => Err((
                "kg",
                format!("is longer than IPMI's {IPMI_PASSWORD} bytes; set a shorter one on the BMC"),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn validate_agent(&self) -> Result<(), (&'static str, String)> {
        if let Some(address) = self.address.as_deref() {
            host_port(address, self.port, 1).map_err(|reason| ("address", reason))?;
        }
        if !stays_one_word(self.username.as_deref().unwrap_or_default()) {
            return Err(("username", NO_WORD.into()));
        }
        if !is_agent(self.program.as_deref().unwrap_or_default()) {
            return Err(("program", NO_AGENT.into()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        for (key, value) in &self.options {
            if key.is_empty() || !key.chars().all(plain) {
                let key = clip(&format!("{key:?}"));
                return Err((
                    "options",
                    format!(
                        "{key} is no key of fence-agents' stdin; it may hold letters, digits, _ - and . alone"
                    ),
                ));
            }
            if value.chars().any(char::is_control) {
                return Err((
                    "options",
                    format!("the value of {:?} holds a control character; remove it", clip(key)),
                ));
            }
            if reaches_out(key) {
                return Err(("options", format!("{:?} {NO_REACH}", clip(key))));
            }
            if is_word(key) && !stays_one_word(value) {
                return Err(("options", format!("{:?} {NO_WORD}", clip(key))));
            }
            if key == "action" {
                return Err(("options", "`action` is ours to give; remove it".into()));
            }
        }
        Ok(())
    }
}
