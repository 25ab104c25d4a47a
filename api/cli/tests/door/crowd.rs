//! Ten thousand connections that want nothing.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::interval;

use crate::kit::{Serve, client};

const CROWD: usize = 10_000;
/// Default of `[api] max_connections`.
const MOST: f64 = 8_192.0;
/// For what the test itself opens besides.
const OTHER: u64 = 200;
/// What such connections may cost: a request's buffer each, and some.
const MIB: u64 = 256;

/// As many as this process may open.
fn crowd() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER);
    let crowd = CROWD.min(usize::try_from(most).unwrap_or(CROWD));
    if crowd < CROWD {
        println!("the limit of open files allows {crowd} connections, not {CROWD}");
    }
    crowd
}

/// A third is silent, a third stops in the head of its request, a third in the body.
fn words(n: usize) -> &'static [u8] {
    match n % 3 {
        0 => b"",
        1 => b"POST /v1/notifications HTTP/1.1\r\nHost: h\r\nX-",
        _ => b"POST /halberd/v1/agents/self/reports HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{\"report_id\": ",
    }
}

#[tokio::test]
async fn ten_thousand_connections_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    // None ends by itself while the test lasts.
    let serve = Serve::start(dir.path(), "head_timeout_s = 3600\nbody_timeout_s = 3600").await;
    let client = client();
    serve.stores(&client, "before").await;
    let before = serve.rss_mib();
    let crowd = crowd();
    let mut open = Vec::with_capacity(crowd);
    for n in 0..crowd {
        let mut stream = TcpStream::connect(serve.address).await.unwrap();
        // It may have been cut for another already.
        let _ = stream.write_all(words(n)).await;
        open.push(stream);
        if n % 1_000 == 0 {
            serve.stores(&client, &format!("during-{n}")).await;
        }
    }
    serve.stores(&client, "with all").await;
    let (during, connections) = (serve.rss_mib(), serve.metric(&client, "halberd_api_connections").await);
    println!("{crowd} connections, {connections} kept: {before} MiB before, {during} MiB with them");
    assert!(connections <= MOST + 1.0, "{connections}");
    assert!(connections >= MOST.min(crowd as f64) * 0.9, "the crowd was not there: {connections}");
    assert!(during < before + MIB, "{before} MiB, then {during} MiB");
    drop(open);
    let mut look = interval(Duration::from_millis(50));
    while serve.metric(&client, "halberd_api_connections").await > 1.0 {
        look.tick().await;
    }
    println!("after them: {} MiB", serve.rss_mib());
    serve.stores(&client, "after").await;
    let (status, log) = serve.stop().await;
    assert!(status.success(), "{log}");
    if crowd as f64 > MOST {
        assert_eq!(log.matches("as many connections as may be").count(), 1, "said once: {log}");
    }
}
