//! Each host's user land: a listener with SSH's greeting on each of its networks, which dies with the host.
//!
//! Every host has one address per network, `127.64.x.y`, `127.65.x.y` and `127.66.x.y`, all with the same port, as real hosts have theirs. A
//! host that is down refuses connections; one that is frozen accepts them (its kernel is not asked, the sockets here are ours)
//! and says nothing, and so does one that is cut off.

use super::{Cloud, Shared};
use crate::model::{Network, Power};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 simulated\r\n";

/// Tries at finding a port that is free on all addresses; each collision needs another program's listener there.
const TRIES: u32 = 20;

/// The listeners of all hosts. They end with the cloud.
#[derive(Debug)]
pub struct UserLand {
    port: u16,
    hosts: Vec<String>,
}

impl UserLand {
    /// Opens all listeners.
    ///
    /// # Errors
    /// When no port is free on all addresses.
    pub async fn start(cloud: &Cloud) -> std::io::Result<Self> {
        let hosts = cloud.host_names();
        for attempt in 1.. {
            let port = TcpListener::bind("127.64.0.1:0").await?.local_addr()?.port();
            match bind_all(hosts.len(), port).await {
                Ok(listeners) => {
                    for (position, network, listener) in listeners {
                        let (shared, host) = (cloud.shared(), hosts[position].clone());
                        tokio::spawn(run(listener, address(position, network, port), shared, host, network));
                    }
                    return Ok(Self { port, hosts });
                }
                Err(error) if attempt == TRIES => return Err(error),
                Err(_) => {}
            }
        }
        Err(std::io::ErrorKind::AddrInUse.into())
    }

    /// The port, the same on every host and network.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the host listens on this network; `None` for an unknown host.
    pub fn address(&self, host: &str, network: Network) -> Option<SocketAddr> {
        let position = self.hosts.iter().position(|name| name == host)?;
        Some(address(position, network, self.port))
    }
}

fn address(position: usize, network: Network, port: u16) -> SocketAddr {
    let net = match network {
        Network::Management => 64,
        Network::Tenant => 65,
        Network::Storage => 66,
    };
    let ip = Ipv4Addr::new(127, net, (position / 250) as u8, (position % 250 + 1) as u8);
    SocketAddr::from((ip, port))
}

async fn bind_all(hosts: usize, port: u16) -> std::io::Result<Vec<(usize, Network, TcpListener)>> {
    let mut listeners = Vec::new();
    for position in 0..hosts {
        for network in Network::ALL {
            listeners.push((position, network, TcpListener::bind(address(position, network, port)).await?));
        }
    }
    Ok(listeners)
}

async fn run(
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    host: String,
    network: Network,
) {
    let mut deeds = shared.deeds.subscribe();
    let mut listener = Some(listener);
    let mut open = Vec::new();
    loop {
        let (down, answers) = shared.with(|world, now| {
            let answers = world.user_land_answers(now, &host, network);
            let view = world.host(&host);
            (view.power != Power::On || view.state == crate::HostState::Booting, answers)
        });
        if down {
            listener = None;
            open.clear();
        } else if listener.is_none() {
            // Old connections may keep the address a moment; the next deed or the next look tries again.
            listener = TcpListener::bind(address).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = deeds.changed() => {}
            () = tokio::time::sleep(super::TICK * 10), if listener.is_none() => {}
            stream = accepted => if let Some((mut stream, _)) = stream {
                if answers {
                    let _ = stream.write_all(BANNER).await;
                } else {
                    open.push(stream);
                }
            }
        }
    }
}
