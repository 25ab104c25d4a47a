//! Probes: each does the thing that the service is for, and says in a [`Sight`] what came of it.
//!
//! A port that opens proves little: a database may take no writes, a broker may be blocked by an alarm. So each probe writes
//! and reads back, or lists with a token. A failure that lies with us (credentials, name resolution, no route) is
//! `CannotTell`: on such grounds nobody restarts a service.

mod http;
mod keystone;
mod memcached;
mod mysql;
mod nova;
mod postgres;
mod rabbitmq;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use halberd_openstack::OpenstackConfig;

use super::config::{Kind, ServiceConfig, address_of};
use super::judge::Sight;

/// Why a probe did not succeed: [`Sight::Down`] and [`Sight::CannotTell`] without the rest.
#[derive(Debug)]
pub(super) enum Failed {
    Down(String),
    CannotTell(String),
}

/// What a successful probe adds for people, e.g. a cluster's size; mostly nothing.
pub(super) type Probed = Result<(), Failed>;

/// The probe of one target, with what it keeps between two sights.
#[derive(Debug)]
pub struct Probe {
    inner: Inner,
    timeout: Duration,
    slow: Duration,
}

#[derive(Debug)]
enum Inner {
    Keystone(keystone::Keystone),
    Nova(nova::Nova),
    Mysql(mysql::Mysql),
    Postgres(postgres::Postgres),
    Rabbitmq(rabbitmq::Rabbitmq),
    Memcached(memcached::Memcached),
    Http(http::Http),
}

impl Probe {
    /// The probe of `target` for the prober of this name (each engine writes into a canary row of its own).
    ///
    /// # Errors
    /// What is wrong with the section.
    pub fn new(
        config: &ServiceConfig,
        target: &str,
        openstack: Option<&OpenstackConfig>,
        prober: &str,
    ) -> Result<Probe, String> {
        let login = Login { config: config.clone(), prober: prober.to_owned() };
        let host_and_port = || address_of(config.kind, target);
        let inner = match config.kind {
            Kind::Keystone => Inner::Keystone(keystone::Keystone::new(config, target, openstack)?),
            Kind::Nova => Inner::Nova(nova::Nova::new(config, openstack)?),
            Kind::Mysql | Kind::Mariadb => Inner::Mysql(mysql::Mysql { login, address: host_and_port()? }),
            Kind::Postgresql => Inner::Postgres(postgres::Postgres { login, address: host_and_port()? }),
            Kind::Rabbitmq => Inner::Rabbitmq(rabbitmq::Rabbitmq::new(login, host_and_port()?)),
            Kind::Memcached => Inner::Memcached(memcached::Memcached {
                prober: prober.to_owned(),
                address: host_and_port()?,
            }),
            Kind::Http => Inner::Http(http::Http::new(config, target)?),
        };
        Ok(Probe { inner, timeout: config.timeout(), slow: config.slow() })
    }

    /// Looks once. Never longer than the deadline, whatever the target does.
    pub async fn look(&self) -> Sight {
        let started = Instant::now();
        match tokio::time::timeout(self.timeout, self.run()).await {
            Err(_) => Sight::Down { reason: format!("no answer within {} ms", self.timeout.as_millis()) },
            Ok(Err(Failed::Down(reason))) => Sight::Down { reason },
            Ok(Err(Failed::CannotTell(reason))) => Sight::CannotTell { reason },
            Ok(Ok(())) => match started.elapsed() {
                latency if latency > self.slow => Sight::Slow { latency },
                latency => Sight::Up { latency },
            },
        }
    }

    async fn run(&self) -> Probed {
        match &self.inner {
            Inner::Keystone(probe) => probe.run(self.timeout).await,
            Inner::Nova(probe) => probe.run(self.timeout).await,
            Inner::Mysql(probe) => probe.run().await,
            Inner::Postgres(probe) => probe.run().await,
            Inner::Rabbitmq(probe) => probe.run(self.timeout).await,
            Inner::Memcached(probe) => probe.run().await,
            Inner::Http(probe) => probe.run().await,
        }
    }
}

/// Who a probe of a database or broker logs in as.
#[derive(Debug)]
pub(super) struct Login {
    pub config: ServiceConfig,
    pub prober: String,
}

/// A fresh value to write and read back.
fn nonce() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The name as addresses. A name that does not resolve says something of the name service, nothing of the target.
async fn resolve((host, port): &(String, u16)) -> Result<SocketAddr, Failed> {
    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
    let found = found.map_err(|error| Failed::CannotTell(format!("{host} does not resolve: {error}")))?;
    found.into_iter().next().ok_or_else(|| Failed::CannotTell(format!("{host} has no address")))
}

/// A failure of the connection: theirs, unless this machine has no way out or no means left.
fn io_failed(error: &io::Error) -> Failed {
    use io::ErrorKind::{AddrNotAvailable, NetworkDown, NetworkUnreachable, OutOfMemory, PermissionDenied};
    let ours = matches!(error.kind(), AddrNotAvailable | NetworkDown | NetworkUnreachable | OutOfMemory | PermissionDenied)
        // EMFILE and ENFILE have no kind of their own.
        || matches!(error.raw_os_error(), Some(23 | 24));
    if ours { Failed::CannotTell(error.to_string()) } else { Failed::Down(error.to_string()) }
}

/// An error with its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
