//! User land answers while the host lives, on the networks it has.

use halberd_sim::shell::{Cloud, UserLand};
use halberd_sim::{Fault, Network, WorldSpec};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Banner,
    Refused,
    Silence,
}

async fn listen(address: SocketAddr) -> Heard {
    let Ok(mut stream) = TcpStream::connect(address).await else { return Heard::Refused };
    let mut banner = [0; 4];
    match tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut banner)).await {
        Ok(Ok(_)) if &banner == b"SSH-" => Heard::Banner,
        Ok(_) => Heard::Refused,
        Err(_) => Heard::Silence,
    }
}

/// The listeners follow the world a moment later.
async fn until_heard(address: SocketAddr, wanted: &Heard) {
    while listen(address).await != *wanted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn it_dies_with_the_host_and_comes_back() {
    let cloud = Cloud::start(WorldSpec { boot_ms: 50, ..WorldSpec::spread(2, 2) }).await.unwrap();
    let land = UserLand::start(&cloud).await.unwrap();
    let at = |host, network| land.address(host, network).unwrap();
    let management = at("cmp-01", Network::Management);
    assert_eq!(listen(management).await, Heard::Banner);
    cloud.inject(Fault::HostHang { host: "cmp-01".into(), for_ms: None });
    until_heard(management, &Heard::Silence).await;
    cloud.inject(Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    until_heard(management, &Heard::Refused).await;
    assert_eq!(listen(at("cmp-02", Network::Management)).await, Heard::Banner);
    cloud.inject(Fault::HostReturn { host: "cmp-01".into() });
    until_heard(management, &Heard::Banner).await;
    let networks = vec![Network::Storage];
    cloud.inject(Fault::NetworkCut { host: "cmp-01".into(), networks, for_ms: None });
    until_heard(at("cmp-01", Network::Storage), &Heard::Silence).await;
    assert_eq!(listen(management).await, Heard::Banner);
}
