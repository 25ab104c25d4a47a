//! Another key for the secrets, and an engine that works with it.

use halberd_store::{Sealer, seal};

use crate::kit::{KEY, Kit, small};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_fences_with_what_was_sealed_anew() {
    let mut kit = Kit::start(small()).await;
    let (_, found) = kit.wish("check_devices", "cmp-01").await;
    assert!(found.starts_with("1 of 1"), "{found}");
    kit.stop().await;
    let new = [9; 32];
    let done =
        seal::rekey(&kit.db, &Sealer::new(&KEY), &Sealer::new(&new), halberd_engine::clock::stamp()).await;
    assert_eq!(done.unwrap().fence_devices, 3);
    kit.run(&new).await;
    let (_, found) = kit.wish("check_devices", "cmp-01").await;
    assert!(found.starts_with("1 of 1"), "{found}");
}
