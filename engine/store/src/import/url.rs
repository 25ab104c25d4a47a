//! Addresses as SQLAlchemy writes them: `dialect+driver://user:password@host:port/database?options`.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::error::ImportError;

/// Where a source is. Shown without its user and password.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Sqlite(PathBuf),
    Postgres(Server),
    Mysql(Server),
}

/// A server and how to log in.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub database: String,
    /// Of the driver; those that matter here are read, the others (charset, pool sizes) mean nothing to us.
    pub options: Vec<(String, String)>,
}

impl Server {
    /// The last of these options that was given.
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| &**value)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, server) = match self {
            Place::Sqlite(path) => return write!(f, "sqlite:{}", path.display()),
            Place::Postgres(server) => ("postgresql", server),
            Place::Mysql(server) => ("mysql", server),
        };
        let host = server.host.as_deref().unwrap_or("localhost");
        match server.port {
            Some(port) => write!(f, "{scheme}://{host}:{port}/{}", server.database),
            None => write!(f, "{scheme}://{host}/{}", server.database),
        }
    }
}

fn refuse<T>(what: impl Into<String>) -> Result<T, ImportError> {
    Err(ImportError::Url(what.into()))
}

pub(super) fn parse(url: &SecretString) -> Result<Place, ImportError> {
    let url = url.expose_secret().trim();
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.strip_prefix("sqlite:") {
            Some(path) => sqlite(path),
            None => refuse("it has no scheme (mysql+pymysql://, postgresql+psycopg2://, sqlite:///)"),
        };
    };
    let dialect = scheme.split('+').next().unwrap_or_default();
    match dialect {
        // Three slashes and a relative path, four and an absolute one.
        "sqlite" => match rest.strip_prefix('/') {
            Some(path) => sqlite(path),
            None if rest.is_empty() => sqlite(""),
            None => refuse("SQLite's has three slashes before a relative path, four before an absolute one"),
        },
        "postgres" | "postgresql" => server(rest).map(Place::Postgres),
        "mysql" | "mariadb" => server(rest).map(Place::Mysql),
        other => refuse(format!("'{other}' is none of mysql, mariadb, postgresql, sqlite")),
    }
}

fn sqlite(path: &str) -> Result<Place, ImportError> {
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" {
        return refuse("it names no file");
    }
    Ok(Place::Sqlite(PathBuf::from(path)))
}

fn server(rest: &str) -> Result<Server, ImportError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold '@' and '/' unescaped; SQLAlchemy takes the last '@' as well.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login), rest),
        None => (None, rest),
    };
    let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.is_empty() {
        return refuse("it names no database after the host");
    }
    let mut server = Server { database: decoded(database, "database")?, ..Server::default() };
    if let Some(login) = login {
        let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
        server.user = Some(decoded(user, "user")?).filter(|user| !user.is_empty());
        server.password = password.map(|p| decoded(p, "password").map(SecretString::from)).transpose()?;
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => return refuse("the bracket of its IPv6 address is not closed"),
        },
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    server.host = Some(host.to_owned()).filter(|host| !host.is_empty());
    server.port = match port.filter(|port| !port.is_empty()) {
        Some(port) => match port.parse() {
            Ok(port) => Some(port),
            Err(_) => return refuse("its port is no number up to 65535"),
        },
        None => None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        server.options.push((name.to_owned(), decoded(value, "options")?));
    }
    Ok(server)
}

/// Percent-decoding; a '+' stays one, as in SQLAlchemy's passwords.
fn decoded(text: &str, what: &str) -> Result<String, ImportError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => bytes.push(*first),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => refuse(format!("its {what} is not UTF-8 after %-decoding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Place, ImportError> {
        parse(&SecretString::from(url))
    }

    #[test]
    fn what_masakari_conf_holds_is_understood() {
        let url =
            "mysql+pymysql://masakari:p%40ss%2Fw@rd@db.example:3307/masakari?charset=utf8&ssl_ca=/etc/ca.pem";
        let Place::Mysql(server) = read(url).unwrap() else { panic!() };
        assert_eq!(server.user.as_deref(), Some("masakari"));
        assert_eq!(server.password.as_ref().unwrap().expose_secret(), "p@ss/w@rd");
        assert_eq!((server.host.as_deref(), server.port), (Some("db.example"), Some(3307)));
        assert_eq!(server.option(&["ssl_ca"]), Some("/etc/ca.pem"));
        let Place::Postgres(server) = read("postgresql+psycopg2://u@[::1]:5433/m").unwrap() else { panic!() };
        assert_eq!((server.host.as_deref(), server.port), (Some("::1"), Some(5433)));
        for (url, path) in
            [("sqlite:////var/m.db", "/var/m.db"), ("sqlite:///m.db", "m.db"), ("sqlite:m.db", "m.db")]
        {
            let Place::Sqlite(read) = read(url).unwrap() else { panic!() };
            assert_eq!(read, PathBuf::from(path), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_its_password() {
        for url in [
            "",
            "hunter2",
            "oracle://u:hunter2@h/d",
            "mysql://u:hunter2@h",
            "mysql://u:hunter2@h:port/d",
            "sqlite://",
            "sqlite:///",
            "postgresql://u:hunter2%ff@h/d",
            "mysql://u:hunter2@[::1/d",
        ] {
            let error = format!("{:?} {0}", read(url).unwrap_err());
            assert!(error.contains("mysql+pymysql://") && !error.contains("hunter2"), "{url}: {error}");
        }
        let shown = format!("{0} {0:?}", read("mysql://root:hunter2@h/d").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
