//! Where a hook may connect: an optional list of networks, held against the very address that is connected to.
//!
//! Hooks of the configuration file are trusted, so an empty list allows everything. The check sits in the resolver of the
//! HTTP client: what passed it is what is connected to, and a name that changes its mind in between (DNS rebinding) gains
//! nothing (SAFETY 5.2 S8).

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A network in CIDR notation; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Network, String> {
        let refuse = || format!("allow_networks: '{text}' is no network such as 10.0.0.0/8 or fd00::/8");
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.parse().map_err(|_| refuse()))?;
        if bits > width { Err(refuse()) } else { Ok(Network { address, bits }) }
    }
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6 clothes is the IPv4 address.
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(own.to_bits().into(), other.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128 - self.bits),
            _ => false,
        }
    }
}

/// Equal but for the lowest `host` bits.
fn same(a: u128, b: u128, host: u8) -> bool {
    (a ^ b).checked_shr(host.into()).is_none_or(|rest| rest == 0)
}

pub(super) fn allows(networks: &[Network], address: IpAddr) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(address))
}

/// A URL that names an address is never resolved, so it is held against the list here.
pub(super) fn check_literal(url: &Url, networks: &[Network]) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) if !allows(networks, address) => {
            Err(format!("url: {address} is in none of allow_networks"))
        }
        _ => Ok(()),
    }
}

/// Resolves as the system does and keeps what is allowed.
#[derive(Debug)]
pub(super) struct Guarded(pub Vec<Network>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let kept: Vec<SocketAddr> =
                found.into_iter().filter(|address| allows(&networks, address.ip())).collect();
            if kept.is_empty() {
                return Err(format!("{} has no address within allow_networks", name.as_str()).into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn membership() {
        assert!(inside("10.0.0.0/8", "10.255.1.2") && !inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("0.0.0.0/0", "8.8.8.8") && inside("::/0", "fe80::1"));
        assert!(inside("192.0.2.7", "192.0.2.7") && !inside("192.0.2.7", "192.0.2.6"));
        assert!(inside("fd00::/8", "fdff::1") && !inside("fd00::/8", "fe80::1"));
        assert!(inside("127.0.0.0/8", "::ffff:127.0.0.1"), "a mapped address is the address it maps");
        assert!(!inside("::/0", "::ffff:127.0.0.1"));
        for bad in ["", "10.0.0.0/33", "x/8", "10.0.0.0/-1", "fd00::/129", "10.0.0.0/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_in_the_url_is_checked_in_every_spelling() {
        let networks: [Network; 1] = ["10.0.0.0/8".parse().unwrap()];
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::1]/",
        ] {
            assert!(check_literal(&Url::parse(url).unwrap(), &networks).is_err(), "{url}");
        }
        assert!(check_literal(&Url::parse("http://10.1.1.1/").unwrap(), &networks).is_ok());
    }
}
