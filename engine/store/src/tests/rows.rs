//! Engines, wishes, orders, services, sightings, settings.

use halberd_core::id::{ServiceId, WishId};

use super::*;
use crate::engines::{self, Registered};
use crate::services::{self, Seen};
use crate::settings::{self, Disarm};
use crate::sightings::{self, SightingRow};
use crate::wishes::{self, NewWish};
use crate::{Error, orders};

everywhere!(
    a_living_engines_name_is_not_taken_over,
    a_wish_is_taken_and_done_once,
    an_order_is_for_its_host_only,
    a_services_transitions_and_downs_are_kept,
    a_sighting_replaces_the_engines_former_one,
    disarming_stands_until_it_is_taken_back,
    a_unit_runs_again_on_conflict_and_gives_up_in_words,
);

async fn a_living_engines_name_is_not_taken_over(on: On) {
    let kit = kit_on(on).await;
    let ids: Vec<EngineId> = (0..4).map(|_| EngineId(Uuid::new_v4())).collect();
    let register = async |id, seen, alone| {
        let detail = json!({"version": "1"});
        write(&kit.db, async |tx| engines::register(tx, "ctl-1", id, seen, alone, &detail, NOW).await)
            .await
            .unwrap()
    };
    let renew = async |id| write(&kit.db, async |tx| engines::renew(tx, id, later(1)).await).await.unwrap();
    assert_eq!(register(ids[0], None, false).await, Registered::Done { former: None });
    assert_eq!(renew(ids[0]).await, Some(2));
    let Registered::Taken(seen) = register(ids[1], None, false).await else { panic!("it lives") };
    assert_eq!((seen.id, seen.counter), (ids[0], 2));
    // It renewed while it was watched: what was seen does not hold.
    renew(ids[0]).await;
    assert!(matches!(register(ids[1], Some((seen.id, seen.counter)), false).await, Registered::Taken(_)));
    assert_eq!(register(ids[1], Some((ids[0], 3)), false).await, Registered::Done { former: Some(ids[0]) });
    assert_eq!(renew(ids[0]).await, None, "the former run must stop acting");
    assert_eq!(
        register(ids[2], None, true).await,
        Registered::Done { former: Some(ids[1]) },
        "alone on the file"
    );
    write(&kit.db, async |tx| engines::stop(tx, ids[2], later(2)).await).await.unwrap();
    assert_eq!(renew(ids[2]).await, None);
    assert_eq!(
        register(ids[3], None, false).await,
        Registered::Done { former: Some(ids[2]) },
        "it had stopped"
    );
    let rows = engines::list(&kit.db).await.unwrap();
    assert_eq!((rows.len(), rows[0].id, rows[0].stopped_at), (1, ids[3], None));
    assert!(!write(&kit.db, async |tx| engines::forget(tx, "ctl-1").await).await.unwrap(), "it lives");
}

async fn a_wish_is_taken_and_done_once(on: On) {
    let kit = kit_on(on).await;
    let wish = NewWish {
        id: WishId(Uuid::new_v4()),
        kind: "fence".into(),
        subject: kit.host.to_string(),
        actor: "ann".into(),
        reason: "smoke".into(),
        body: json!({"force": true}),
    };
    write(&kit.db, async |tx| wishes::insert(tx, &wish, NOW).await).await.unwrap();
    assert_eq!(wishes::poll(&kit.db, 10).await.unwrap()[0].wish, wish);
    let (a, b) = (kit.engine, EngineId(Uuid::new_v4()));
    let take =
        async |seen, by| write(&kit.db, async |tx| wishes::take(tx, wish.id, seen, by).await).await.unwrap();
    assert!(take(None, a).await);
    assert!(!take(None, b).await);
    assert_eq!(
        wishes::poll(&kit.db, 10).await.unwrap()[0].taken_by,
        Some(a),
        "still there when its taker dies"
    );
    assert!(take(Some(a), b).await);
    let done = async |ok| {
        let result = json!({"proof": ok});
        write(&kit.db, async |tx| wishes::done(tx, wish.id, ok, &result, later(1)).await).await.unwrap()
    };
    assert!(done(true).await);
    assert!(!done(false).await);
    assert!(wishes::poll(&kit.db, 10).await.unwrap().is_empty());
    let row = wishes::get(&kit.db, wish.id).await.unwrap();
    assert_eq!(
        (row.succeeded, row.result, row.done_at),
        (Some(true), Some(json!({"proof": true})), Some(later(1)))
    );
    assert_eq!(wishes::list(&kit.db, 10).await.unwrap().len(), 1);
}

async fn an_order_is_for_its_host_only(on: On) {
    let kit = kit_on(on).await;
    let other = kit.add_host("cmp-02").await;
    let id = Uuid::new_v4();
    let body = json!({"unit": "nova-compute.service"});
    write(&kit.db, async |tx| orders::insert(tx, id, kit.host, "restart_unit", &body, NOW).await)
        .await
        .unwrap();
    assert!(orders::pending(&kit.db, other).await.unwrap().is_empty());
    assert_eq!(orders::hosts_pending(&kit.db).await.unwrap(), [kit.host]);
    assert_eq!(orders::pending(&kit.db, kit.host).await.unwrap()[0].body, body);
    let done = async |host| {
        write(&kit.db, async |tx| orders::done(tx, id, host, true, &json!(null), later(1)).await)
            .await
            .unwrap()
    };
    assert!(!done(other).await, "another host cannot end it");
    assert!(done(kit.host).await);
    assert!(!done(kit.host).await);
    assert_eq!(orders::get(&kit.db, id).await.unwrap().succeeded, Some(true));
    assert!(orders::hosts_pending(&kit.db).await.unwrap().is_empty());
}

async fn a_services_transitions_and_downs_are_kept(on: On) {
    let kit = kit_on(on).await;
    let id = ServiceId(Uuid::new_v4());
    let probe = json!({"ms": 12});
    let record = async |state: &str, down, at| {
        let seen = Seen { name: "keystone", kind: "http", state, down, reason: "r", probe: &probe };
        let transition =
            write(&kit.db, async |tx| services::record(tx, id, &seen, later(at)).await).await.unwrap();
        transition.map(|transition| transition.from)
    };
    assert_eq!(record("up", false, 0).await, Some(None));
    assert_eq!(record("up", false, 1).await, None, "no transition");
    assert_eq!(record("down", true, 10).await, Some(Some("up".into())));
    assert_eq!(record("slow", true, 12).await, Some(Some("down".into())));
    assert_eq!(record("up", false, 20).await, Some(Some("slow".into())));
    assert_eq!(record("down", true, 30).await, Some(Some("up".into())));
    let downs: Vec<_> = services::downs(&kit.db, id, NOW)
        .await
        .unwrap()
        .iter()
        .map(|row| (row.began_at, row.ended_at))
        .collect();
    assert_eq!(downs, [(later(10), Some(later(20))), (later(30), None)]);
    assert_eq!(services::downs(&kit.db, id, later(25)).await.unwrap().len(), 1);
    let row = services::by_name(&kit.db, "keystone").await.unwrap().unwrap();
    assert_eq!((row.id, row.state.as_str(), row.since), (id, "down", later(30)));
    assert_eq!(services::list(&kit.db).await.unwrap(), [row]);
}

async fn a_sighting_replaces_the_engines_former_one(on: On) {
    let kit = kit_on(on).await;
    let sight = |engine, state: &str| SightingRow {
        host: kit.host,
        engine,
        boot: None,
        state: state.into(),
        since: NOW,
    };
    let other = EngineId(Uuid::new_v4());
    for row in [sight(kit.engine, "alive"), sight(other, "alive"), sight(kit.engine, "silent")] {
        write(&kit.db, async |tx| sightings::record(tx, &row).await).await.unwrap();
    }
    let mut expected = vec![sight(kit.engine, "silent"), sight(other, "alive")];
    expected.sort_by_key(|row| row.engine);
    assert_eq!(sightings::of_host(&kit.db, kit.host).await.unwrap(), expected);
    write(&kit.db, async |tx| sightings::forget(tx, other).await).await.unwrap();
    assert_eq!(sightings::list(&kit.db).await.unwrap(), [sight(kit.engine, "silent")]);
}

async fn disarming_stands_until_it_is_taken_back(on: On) {
    let kit = kit_on(on).await;
    assert_eq!(settings::disarm(&kit.db).await.unwrap(), None);
    let disarm =
        Disarm { actor: "ann".into(), reason: "power work".into(), since: NOW, until: Some(later(3600)) };
    for _ in 0..2 {
        write(&kit.db, async |tx| settings::set_disarm(tx, Some(&disarm), NOW).await).await.unwrap();
        assert_eq!(settings::disarm(&kit.db).await.unwrap().as_ref(), Some(&disarm));
    }
    write(&kit.db, async |tx| settings::set_disarm(tx, None, NOW).await).await.unwrap();
    assert_eq!(settings::disarm(&kit.db).await.unwrap(), None);
}

async fn a_unit_runs_again_on_conflict_and_gives_up_in_words(on: On) {
    let kit = kit_on(on).await;
    let runs = std::sync::atomic::AtomicU32::new(0);
    let third = write(&kit.db, async |tx| {
        settings::set(tx, "run", "x", NOW).await?;
        match runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => Err(Error::Conflict { attempts: 1, source: None }),
            n => Ok(n),
        }
    });
    assert_eq!(third.await.unwrap(), 2);
    assert_eq!(
        settings::get(&kit.db, "run").await.unwrap(),
        Some(("x".into(), 1)),
        "the failed runs left nothing"
    );
    let never = write(&kit.db, async |_| Err::<(), _>(Error::Conflict { attempts: 1, source: None })).await;
    assert!(matches!(never, Err(Error::Conflict { attempts: 5, .. })), "{never:?}");
}
