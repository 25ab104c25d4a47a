//! Addresses as operators write them: `host[:port]`, IPv6 with and without brackets.

const NO_PORT: &str = "has a port that is no number; give 1 to 65535 after the colon or leave both out";

/// Host and port of `host[:port]`, `[v6]:port` or a bare IPv6 address; `port` beside it is used where it has none.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(crate) fn host_port(address: &str, port: Option<u16>, default: u16) -> Result<(String, u16), String> {
    let (host, own) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or("has no closing ]; write an IPv6 address as [fd00::7] or [fd00::7]:623")?;
        let own = if rest.is_empty() {
            None
        } else {
            Some(rest.strip_prefix(':').ok_or("has text after ]; only :port may stand there")?)
        };
        (host, own)
    } else if address.matches(':').count() > 1 {
        (address, None)
    } else {
        address.split_once(':').map_or((address, None), |(host, own)| (host, Some(own)))
    };
    let own = match own {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse::<u16>().map_err(|_| NO_PORT)?)
        }
        Some(_) => return Err(NO_PORT.into()),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        return Err("is not host[:port]; give a name or an IP address, such as bmc.example, 10.0.0.7:623 or [fd00::7]:623".into());
    }
    if let (Some(own), Some(port)) = (own, port)
        && own != port
    {
        return Err("names another port than `port`; keep one of them".into());
    }
    if own == Some(0) || port == Some(0) {
        return Err("has port 0; give 1 to 65535 or leave it out".into());
    }
    Ok((host.to_owned(), own.or(port).unwrap_or(default)))
}

/// The host in a URL or `host[:port]`.
pub(super) fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if let Some(rest) = rest.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    if rest.matches(':').count() > 1 { rest } else { rest.split(':').next().unwrap_or(rest) }
}
