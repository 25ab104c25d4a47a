//! What a person orders: off, on, a drill.

use std::os::unix::fs::PermissionsExt;

use halberd_core::event::EventKind;
use halberd_core::fence::OrderAnswer;
use halberd_core::host::Admission;
use halberd_core::notification::{NotificationStatus, Origin};
use halberd_core::recovery::StateWord;
use halberd_engine::ports::{Order, Power as _};
use halberd_sim::{Fault, Power, RestorePolicy, What, WorldSpec};
use halberd_store::intents::{FenceActKind, fence_history};
use halberd_store::notifications::{self, NotificationFilter};
use halberd_store::{Page, fence_drills, restore_policies};
use serde_json::json;
use uuid::Uuid;

use crate::kit::{Kit, small};

const HOST: &str = "cmp-01";

/// From the order to the host's return: a living host is turned off and its guests run elsewhere; it stays off through a loss of supply;
/// it is switched on because somebody asks, and gets back what was changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_fence_of_a_living_host_and_its_way_back() {
    let kit = Kit::start(WorldSpec { restore_policy: RestorePolicy::AlwaysOn, ..small() }).await;
    let guests = kit.cloud.world().guests_placed_on(HOST);
    assert_eq!((guests.len(), kit.cloud.world().host(HOST).power), (2, Power::On));
    let (granted, answer) = kit.wish("fence", HOST).await;
    let recovery = &kit.recoveries(Some(HOST)).await[0];
    assert!(granted && answer.contains(&recovery.id.to_string()), "{answer}");

    let closed = kit.closed(HOST).await;
    assert_eq!(closed.word(), StateWord::Finished, "{}", closed.reason);
    let world_now = |host: &str| kit.cloud.world().host(host);
    assert_eq!(world_now(HOST).power, Power::Off);
    assert!(kit.cloud.world().guests_placed_on(HOST).is_empty());
    assert!(kit.cloud.world().double_runs().is_empty());
    for guest in guests {
        let at =
            ["cmp-02", "cmp-03"].iter().filter(|host| world_now(host).executing.contains(&guest)).count();
        assert_eq!(at, 1, "{guest} runs elsewhere, once");
    }
    // v1's clients see a report of an operator, ended well.
    let reports =
        notifications::list(&kit.db, &NotificationFilter::default(), &Page::default()).await.unwrap();
    let told: Vec<_> = reports.iter().map(|report| (report.origin, report.status)).collect();
    assert_eq!(told, [(Origin::Caller, NotificationStatus::Finished)]);

    // Its controller would have started it by itself: that was changed, and what it was is on record.
    let host = kit.host(HOST).await;
    assert_eq!(host.admission, Admission::Out);
    assert!(host.set_by_us.restore_policy);
    let former = restore_policies::list(&kit.db, host.id).await.unwrap();
    assert_eq!(former.len(), 1);
    assert_eq!(
        (former[0].former.as_str(), world_now(HOST).restore_policy),
        ("always_on", RestorePolicy::AlwaysOff)
    );
    kit.cloud.inject(Fault::HostPowerLoss { host: HOST.into(), with_bmc: true });
    kit.cloud.inject(Fault::SupplyReturn { host: HOST.into() });
    assert_eq!(world_now(HOST).power, Power::Off, "fenced is fenced");

    let (granted, why) = kit.wish("fence", HOST).await;
    assert!(!granted && why.contains("out already") && why.contains("halberd fence on"), "{why}");
    let (granted, why) = kit.wish("power_on", HOST).await;
    assert!(granted, "{why}");
    kit.is_in(HOST).await;
    assert_eq!(world_now(HOST).power, Power::On);
    let policies = kit.seen(|what| match what {
        What::RestorePolicySet { machine, policy, .. } if machine == HOST => Some(*policy),
        _ => None,
    });
    assert_eq!(policies, [RestorePolicy::AlwaysOff, RestorePolicy::AlwaysOn]);
    let host = kit.host(HOST).await;
    assert!(!host.set_by_us.restore_policy && !host.set_by_us.forced_down && !host.set_by_us.disabled);
    assert!(restore_policies::list(&kit.db, host.id).await.unwrap().is_empty());

    let (granted, why) = kit.wish("power_on", HOST).await;
    assert!(!granted && why.contains("is in"), "{why}");
    let acts = fence_history(&kit.db, host.id, 10, None).await.unwrap();
    let told: Vec<_> = acts.iter().map(|act| (act.kind, act.result.as_deref())).collect();
    assert_eq!(told, [(FenceActKind::On, Some("done")), (FenceActKind::Off, Some("done"))]);
    assert!(acts[1].attempts[0].held && acts[1].text.contains("ann"), "{:?}", acts[1]);
    let orders = kit.seen(|what| match what {
        What::OnOrdered { .. } | What::OffOrdered { .. } => Some(matches!(what, What::OnOrdered { .. })),
        _ => None,
    });
    assert_eq!(orders.iter().filter(|on| **on).count(), 1, "an on order is not repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_turns_an_empty_host_off_and_on_again() {
    let name = "cmp-03";
    let kit = Kit::start(small()).await;
    let (granted, why) = kit.wish("drill", name).await;
    assert!(!granted && why.contains("maintenance"), "{why}");
    kit.set_aside(name).await;
    let (granted, answer) = kit.wish("drill", name).await;
    assert!(granted, "{answer}");
    let (granted, why) = kit.wish("drill", name).await;
    assert!(!granted && (why.contains("is open") || why.contains("out")), "{why}");
    let closed = kit.closed(name).await;
    assert_eq!(closed.word(), StateWord::Finished, "{}", closed.reason);
    kit.is_in(name).await;
    let power = kit.seen(|what| match what {
        What::PoweredOff { host } if host == name => Some("off"),
        What::PoweredOn { host } if host == name => Some("on"),
        _ => None,
    });
    assert_eq!(power, ["off", "on"]);
    let host = kit.host(name).await;
    assert!(host.maintenance.operator, "maintenance is its operator's");
    assert!(!kit.openstack.nova().service(name).await.unwrap().unwrap().forced_down);
    let shown = fence_drills::of_host(&kit.db, host.id).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert!(shown[0].at.is_some() && shown[0].recovery == closed.id);
    // v1 knows nothing of it.
    let reports =
        notifications::list(&kit.db, &NotificationFilter::default(), &Page::default()).await.unwrap();
    assert!(reports.is_empty(), "{reports:?}");
    let ended = kit.told(EventKind::DrillEnded).await;
    assert!(ended.len() == 1 && ended[0].to_string().contains("passed"), "{ended:?}");
    assert!(kit.told(EventKind::RecoveryOpened).await.is_empty());
    let acts = fence_history(&kit.db, host.id, 10, None).await.unwrap();
    let kinds: Vec<_> = acts.iter().map(|act| act.kind).collect();
    assert_eq!(kinds, [FenceActKind::On, FenceActKind::Drill, FenceActKind::Off]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_guests_is_not_drilled() {
    let kit = Kit::start(small()).await;
    kit.set_aside(HOST).await;
    let (granted, why) = kit.wish("drill", HOST).await;
    assert!(granted, "what is on it only Nova knows: {why}");
    let closed = kit.closed(HOST).await;
    assert_eq!(closed.word(), StateWord::Cancelled);
    assert!(closed.reason.contains("2 guests"), "{}", closed.reason);
    let orders = kit.seen(|what| matches!(what, What::OffOrdered { .. }).then_some(()));
    assert!(orders.is_empty());
    assert_eq!(kit.host(HOST).await.admission, Admission::In);
}

/// Its engine stood still between the decision and the order: the recovery has closed meanwhile, under the very same owner and epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_goes_out_for_a_recovery_that_has_closed() {
    let kit = Kit::start(small()).await;
    kit.set_aside(HOST).await;
    kit.wish("drill", HOST).await;
    let closed = kit.closed(HOST).await;
    let engine = closed.owner.expect("the engine that closed it");
    let intent = Uuid::nil();
    let order = Order { recovery: closed.id, engine, epoch: closed.epoch, intent, drill: false };
    let report = kit.power().off(kit.host(HOST).await.id, order).await.expect("a report");
    let why = report.attempts[0].error.clone().unwrap_or_default();
    assert!(report.attempts[0].order == OrderAnswer::NotSent && why.contains("has closed"), "{report:?}");
    assert_eq!(kit.cloud.world().host(HOST).power, Power::On);
}

/// A device that obeys and reads as ordered, and switches some other machine: nothing shows that until it is drilled, and the drill does.
/// After it, it still gets no order in earnest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_cannot_name_its_machine_is_not_trusted_without_a_drill() {
    let name = "cmp-03";
    let mut kit = Kit::bare(small()).await;
    let id = kit.add_host(name).await;
    let program = kit.files().join("fence_wrong_outlet");
    let state = kit.files().join("outlet");
    let log = kit.files().join("orders");
    std::fs::write(&state, "on").unwrap();
    std::fs::write(&log, "").unwrap();
    let script = format!(
        "#!/bin/sh\nwhile IFS='=' read -r key value; do [ \"$key\" = action ] && action=$value; done\ncase $action in\n\
         on|off) echo $action >> {log}; echo $action > {state};;\nstatus|monitor) if [ \"$(cat {state})\" = on ]; then echo 'Status: ON'; else echo 'Status: OFF'; exit 2; fi;;\n\
         metadata) echo '<resource-agent name=\"fence_wrong_outlet\"><parameters><parameter name=\"plug\"/></parameters><actions><action name=\"on\"/><action name=\"off\"/><action name=\"status\"/></actions></resource-agent>';;\nesac\n",
        log = log.display(),
        state = state.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    kit.set_devices(id, &[json!({"type": "agent", "program": program, "options": {"plug": "3"}})]).await;
    kit.run(&crate::kit::KEY).await;
    let orders =
        || std::fs::read_to_string(&log).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();

    let (_, found) = kit.wish("check_devices", name).await;
    assert!(found.starts_with("0 of 1") && found.contains("gets no order"), "{found}");
    kit.set_aside(name).await;
    let (granted, why) = kit.wish("drill", name).await;
    assert!(granted, "{why}");
    let closed = kit
        .until("the end of the drill", async || {
            let all = kit.recoveries(Some(name)).await;
            all.into_iter().find(|it| it.reason.contains("drill") && !it.is_open())
        })
        .await;
    assert_eq!(closed.word(), StateWord::Failed, "{}", closed.reason);
    assert!(closed.reason.contains("does not name the machine"), "{}", closed.reason);
    // What was switched off, whatever it was, is switched on again.
    kit.until("the other machine's power", async || (orders() == ["off", "on"]).then_some(())).await;
    assert_eq!(fence_drills::of_host(&kit.db, id).await.unwrap()[0].at, None);
    // Its own reading is no sight of this machine either: a person takes it back.
    let (granted, why) = kit.wish("readmit", name).await;
    assert!(granted, "{why}");
    kit.is_in(name).await;

    let (granted, why) = kit.wish("fence", name).await;
    assert!(granted, "{why}");
    let acts = kit
        .until("a fence in vain", async || {
            let acts = fence_history(&kit.db, id, 10, None).await.unwrap();
            acts.iter().any(|act| act.result.as_deref() == Some("not_proved")).then_some(acts)
        })
        .await;
    assert!(acts[0].attempts[0].error.as_deref().is_some_and(|why| why.contains("no drill")), "{acts:?}");
    assert_eq!(orders(), ["off", "on"], "nothing was sent since");
    assert_eq!(kit.cloud.world().host(name).boots, 1, "it was never touched");
}
