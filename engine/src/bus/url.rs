//! Where the broker is, in either of the two spellings that operators have at hand: RabbitMQ's own
//! `amqp://user:password@host:5672/vhost`, or oslo.messaging's `rabbit://u:p@one:5672,u:p@two:5672/vhost?ssl=1`, copied from
//! another service's `transport_url`.
//!
//! An error names the part that is wrong and never shows it.

use secrecy::SecretString;

/// AMQP's port, and the one of AMQP over TLS.
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;

/// The brokers of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub hosts: Vec<Host>,
    pub vhost: String,
    pub tls: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Host {
    pub user: String,
    pub password: SecretString,
    pub name: String,
    pub port: u16,
}

/// `tls`: asked for beside the URL.
pub(super) fn parse(url: &str, tls: bool) -> Result<Target, String> {
    let (scheme, rest) = url.trim().split_once("://").ok_or("is no URL: it has no ://")?;
    let scheme_tls = match scheme {
        "amqp" | "rabbit" | "kombu" => false,
        "amqps" => true,
        _ => return Err("must begin with amqp://, amqps:// or rabbit://".into()),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let tls = tls || scheme_tls || asks_for_tls(query)?;
    let vhost = match decode(path).ok_or("has a virtual host with a bad % sequence")? {
        // Both spell the default one this way; nobody has one without a name.
        path if path.is_empty() => "/".to_owned(),
        path => path,
    };
    let hosts = hosts.split(',').filter(|host| !host.is_empty()).map(|text| host(text, tls));
    let hosts = hosts.collect::<Result<Vec<Host>, String>>()?;
    if hosts.is_empty() {
        return Err("names no host".into());
    }
    Ok(Target { hosts, vhost, tls })
}

/// oslo.messaging takes its driver's options from the query; of those only `ssl` changes whom we talk to.
fn asks_for_tls(query: &str) -> Result<bool, String> {
    for pair in query.split('&') {
        if let Some(value) = pair.strip_prefix("ssl=") {
            return match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Ok(true),
                "0" | "false" | "no" | "off" => Ok(false),
                _ => Err("has an ssl= that is neither true nor false".into()),
            };
        }
    }
    Ok(false)
}

fn host(text: &str, tls: bool) -> Result<Host, String> {
    let (login, address) = text.rsplit_once('@').map_or((None, text), |(login, host)| (Some(login), host));
    let (user, password) = match login {
        // RabbitMQ's own default; it works from the same machine only.
        None => ("guest".to_owned(), "guest".to_owned()),
        Some(login) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let bad = || "has a user or password with a bad % sequence".to_owned();
            (decode(user).ok_or_else(bad)?, decode(password).ok_or_else(bad)?)
        }
    };
    let (name, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or("has an IPv6 address without its ]")?;
            (name, rest.strip_prefix(':'))
        }
        None => match address.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (address, None),
        },
    };
    if name.is_empty() {
        return Err("has a host without a name".into());
    }
    let default = if tls { TLS_PORT } else { PORT };
    let port = match port {
        None | Some("") => default,
        Some(port) => port
            .parse()
            .map_err(|_| "has a port that is no port (is a / or @ in the password written as %2F or %40?)")?,
    };
    Ok(Host { user, password: SecretString::from(password), name: name.to_owned(), port })
}

/// `%41` is `A`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn shown(url: &str) -> String {
        let target = parse(url, false).unwrap();
        let hosts: Vec<String> = target
            .hosts
            .iter()
            .map(|h| format!("{}|{}|{}|{}", h.user, h.password.expose_secret(), h.name, h.port))
            .collect();
        format!("{} {} {}", hosts.join(" "), target.vhost, if target.tls { "tls" } else { "plain" })
    }

    #[test]
    fn both_spellings_are_read() {
        let table = [
            ("amqp://u:p@h:5673/v", "u|p|h|5673 v plain"),
            ("amqp://u:p@h", "u|p|h|5672 / plain"),
            ("amqp://u:p@h/", "u|p|h|5672 / plain"),
            ("amqp://u:p@h/%2F", "u|p|h|5672 / plain"),
            ("rabbit://u:p@h:5672//", "u|p|h|5672 / plain"),
            ("rabbit://u:p%40s%2Fs@h/openstack", "u|p@s/s|h|5672 openstack plain"),
            ("rabbit://u:p:w@h", "u|p:w|h|5672 / plain"),
            ("amqps://u:p@h/v", "u|p|h|5671 v tls"),
            ("rabbit://u:p@a,u:q@[fd00::1]:99/v?ssl=1&heartbeat=3", "u|p|a|5671 u|q|fd00::1|99 v tls"),
            ("kombu://h?ssl=False", "guest|guest|h|5672 / plain"),
            (" rabbit://u:@h\n", "u||h|5672 / plain"),
        ];
        for (url, wanted) in table {
            assert_eq!(shown(url), wanted, "{url}");
        }
        assert_eq!(parse("amqp://h", true).unwrap().hosts[0].port, 5671);
    }

    #[test]
    fn what_is_wrong_is_named_and_not_shown() {
        let table = [
            ("hunter2", "://"),
            ("qpid://u:hunter2@h", "amqp://"),
            ("amqp://u:hunter2@", "without a name"),
            ("amqp:///hunter2", "no host"),
            ("amqp://u:hunter2@h:port", "port"),
            ("amqp://u:hunter2/x@h", "port"),
            ("amqp://u:hunter2%zz@h", "% sequence"),
            ("amqp://u:hunter2%4@h", "% sequence"),
            ("amqp://u:hunter2@[::1", "]"),
            ("amqp://u:hunter2@h?ssl=hunter2", "ssl="),
        ];
        for (url, says) in table {
            let error = parse(url, false).unwrap_err();
            assert!(error.contains(says) && !error.contains("hunter2"), "{url}: {error}");
        }
        let debug = format!("{:?}", parse("amqp://u:hunter2@h", false).unwrap());
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}
