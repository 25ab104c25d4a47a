//! Readiness: what is found before it is needed.

use halberd_core::event::EventKind;
use halberd_engine::login;
use halberd_sim::{BmcFault, Fault};
use halberd_store::{engines, fence_devices};
use serde_json::json;

use crate::kit::{KEY, Kit, small};

const HOST: &str = "cmp-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_at_once_and_so_is_its_end() {
    let kit = Kit::start(small()).await;
    let id = kit.host(HOST).await.id;
    let mut wrong = kit.bmc(HOST);
    wrong["password"] = json!("not-it");
    kit.set_devices(id, &[wrong]).await;
    // Within the second look, far before the interval of 240 s is over.
    let bad = kit
        .until("an event of the bad device", async || {
            let told = kit.told(EventKind::DeviceBad).await;
            told.into_iter().find(|data| data["host"] == HOST && data["ready"] == false)
        })
        .await;
    let text = bad["text"].as_str().unwrap();
    assert!(text.contains("credentials refused") && text.contains("check username, password"), "{text}");
    assert!(!text.contains("not-it"));
    let (_, found) = kit.wish("check_devices", HOST).await;
    assert!(
        found.starts_with("0 of 1 devices of cmp-01 ready") && found.contains("credentials refused"),
        "{found}"
    );
    kit.set_devices(id, &[kit.bmc(HOST)]).await;
    let good = kit
        .until("the event of its end", async || kit.told(EventKind::DeviceGood).await.into_iter().next())
        .await;
    assert_eq!((&good["host"], &good["bad"]), (&json!(HOST), &json!([])));
    let (granted, found) = kit.wish("check_devices", HOST).await;
    assert!(granted && found.starts_with("1 of 1"), "{found}");
    let bad = kit.told(EventKind::DeviceBad).await;
    assert_eq!(
        bad.iter().filter(|data| data["host"] == HOST && data["ready"] == false).count(),
        1,
        "told once: {bad:?}"
    );
    // http:// and the like are blemishes: each told once, however often it is looked at.
    let blemishes = bad.iter().filter(|data| data["host"] == HOST && data["ready"] == true).count();
    kit.wish("check_devices", HOST).await;
    let bad = kit.told(EventKind::DeviceBad).await;
    assert_eq!(
        bad.iter().filter(|data| data["host"] == HOST && data["ready"] == true).count(),
        blemishes,
        "{bad:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_dies_later_is_seen_by_the_check_that_comes_next() {
    let kit = Kit::start(small()).await;
    let (_, found) = kit.wish("check_devices", HOST).await;
    assert!(found.starts_with("1 of 1"), "{found}");
    kit.cloud.inject(Fault::Bmc { host: HOST.into(), fault: BmcFault::WrongPassword });
    kit.wish("check_devices", HOST).await;
    kit.wish("check_devices", HOST).await;
    let bad = kit.told(EventKind::DeviceBad).await;
    assert_eq!(bad.iter().filter(|data| data["ready"] == false).count(), 1, "{bad:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ironics_ownership_is_a_fault_until_its_node_is_in_maintenance() {
    let mut kit = Kit::bare(small()).await;
    let node = kit.cloud.with(|world, now| world.enroll(now, HOST, Some("node-7")));
    for name in [HOST, "cmp-02"] {
        let id = kit.add_host(name).await;
        kit.set_devices(id, &[kit.bmc(name)]).await;
    }
    kit.run(&KEY).await;
    let (_, found) = kit.wish("check_devices", HOST).await;
    assert!(found.starts_with("0 of 1") && found.contains("ironic node node-7 owns this machine"), "{found}");
    let (_, found) = kit.wish("check_devices", "cmp-02").await;
    assert!(found.starts_with("1 of 1"), "another machine: {found}");
    kit.cloud.with(|world, now| world.set_maintenance(now, node, true, None)).unwrap();
    let well = async || {
        let (_, found) = kit.wish("check_devices", HOST).await;
        found.starts_with("1 of 1").then_some(())
    };
    kit.until("the end of the fault", well).await;
    let row = &fence_devices::checks(&kit.db, kit.host(HOST).await.id).await.unwrap()[0];
    assert_eq!(row.detail["owner"], json!({"service": "ironic", "node": "node-7", "maintenance": true}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engines_row_says_whether_openstack_lets_it_in() {
    let kit = Kit::start(small()).await;
    let said = async || {
        let rows = engines::list(&kit.db).await.unwrap();
        login::of(&rows[0].detail).map(|(ok, text)| (ok, text.to_owned()))
    };
    kit.until("a login that works", async || said().await.filter(|(ok, _)| *ok)).await;
    let rows = engines::list(&kit.db).await.unwrap();
    assert!(rows[0].detail["version"].is_string(), "the rest stays");
    kit.cloud.inject(Fault::KeystoneDown { for_ms: None });
    kit.cloud.inject(Fault::TokensRevoked);
    let (_, why) = kit.until("a login that fails", async || said().await.filter(|(ok, _)| !*ok)).await;
    assert!(!why.is_empty() && !why.contains(kit.cloud.login("halberd").unwrap().password.as_str()), "{why}");
    kit.cloud.inject(Fault::KeystoneHealed);
    kit.until("a login that works again", async || said().await.filter(|(ok, _)| *ok)).await;
}
