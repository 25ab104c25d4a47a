//! The second run: what is new or changed, nothing twice, nothing of ours overwritten.

use halberd_core::host::Maintenance;

use super::*;
use crate::hosts::HostEdit;

everywhere!(
    nothing_is_taken_twice,
    what_changed_in_the_source_is_brought_up_to_date,
    what_changed_here_stands,
    what_only_an_engine_wrote_is_no_change_of_ours,
    a_host_under_recovery_waits_for_the_next_run,
    a_segment_deleted_in_the_source_keeps_the_hosts_that_were_added_here,
);

async fn nothing_is_taken_twice(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    import(&kit, &source).await;
    let report = import(&kit, &source).await;
    assert_eq!(counts(&report.segments), [0, 0, 2, 0, 0, 0]);
    assert_eq!(counts(&report.hosts), [0, 0, 3, 0, 0, 0]);
    assert_eq!(counts(&report.notifications), [0, 0, 4, 0, 0, 0]);
    assert_eq!(counts(&report.vmoves), [0, 0, 3, 0, 0, 0]);
    assert_eq!(report.unfinished.len(), 3, "still to be looked at");
    let all = notifications::list(&kit.db, &Default::default(), &Page::default()).await.unwrap();
    assert_eq!(all.len(), 4);
}

async fn what_changed_in_the_source_is_brought_up_to_date(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    import(&kit, &source).await;
    source
        .run(
            "UPDATE failover_segments SET recovery_method = 'reserved_host', updated_at = '2026-03-01 00:00:00' WHERE id = 3;
             UPDATE hosts SET on_maintenance = 0, updated_at = '2026-03-01 00:00:00' WHERE id = 7;
             UPDATE hosts SET deleted = 8, deleted_at = '2026-03-01 00:00:00' WHERE id = 8;
             UPDATE notifications SET status = 'finished', updated_at = '2026-03-01 00:00:00' WHERE id = 12;
             UPDATE vmoves SET status = 'succeeded', dest_host = 'cmp-08' WHERE id = 23;
             INSERT INTO notifications SELECT created_at, updated_at, NULL, 0, 15, '00000000-0000-4000-8000-000000000315',
                 generated_time, source_host_uuid, type, payload, 'ignored', NULL, 'new one' FROM notifications WHERE id = 14;",
        )
        .await;
    let report = import(&kit, &source).await;
    assert_eq!(counts(&report.segments), [0, 0, 1, 1, 0, 0]);
    assert_eq!(counts(&report.hosts), [0, 0, 1, 2, 0, 0]);
    assert_eq!(counts(&report.notifications), [1, 0, 3, 1, 0, 0]);
    assert_eq!(counts(&report.vmoves), [0, 0, 2, 1, 0, 0]);
    assert_eq!(report.on_maintenance, []);
    let host = hosts::get(&kit.db, HostId(id(0x207))).await.unwrap();
    assert_eq!((host.maintenance, host.version), (Maintenance::default(), 2));
    assert!(hosts::get(&kit.db, HostId(id(0x208))).await.is_err());
    let row = notifications::get(&kit.db, NotificationId(id(0x312))).await.unwrap();
    assert_eq!((row.status, row.message.as_deref()), (NotificationStatus::Finished, None));
    assert_eq!(recoveries::get(&kit.db, id(0x312).into()).await.unwrap().word(), StateWord::Finished);
    let moves = vmoves::of_recovery(&kit.db, id(0x312).into()).await.unwrap();
    assert_eq!((moves[0].status, moves[0].dest_host.as_deref()), (VmoveStatus::Succeeded, Some("cmp-08")));
    assert_eq!(counts(&import(&kit, &source).await.hosts), [0, 0, 3, 0, 0, 0]);
}

async fn what_changed_here_stands(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    import(&kit, &source).await;
    let cleared = HostEdit { on_maintenance: Some(false), ..HostEdit::default() };
    let free = HostEdit { reserved: Some(false), ..HostEdit::default() };
    write(&kit.db, async |tx| {
        hosts::edit(tx, HostId(id(0x207)), &cleared, later(1)).await?;
        hosts::edit(tx, HostId(id(0x208)), &free, later(1)).await
    })
    .await
    .unwrap();
    // Only one of the two is changed in the source as well.
    source.run("UPDATE hosts SET control_attributes = 'IPMI' WHERE id = 8").await;
    let report = import(&kit, &source).await;
    assert_eq!(counts(&report.hosts), [0, 0, 1, 0, 1, 1]);
    assert_eq!(report.on_maintenance, [], "cleared here: nothing is left to do");
    let [left] = report.left.as_slice() else { panic!("{report:?}") };
    assert!(left.row.ends_with("(cmp-08)") && left.reason.contains("changed here as well"), "{left:?}");
    assert!(!hosts::get(&kit.db, HostId(id(0x207))).await.unwrap().maintenance.operator);
    let host = hosts::get(&kit.db, HostId(id(0x208))).await.unwrap();
    assert_eq!((host.reserved, &*host.control_attributes), (false, "SSH"));
}

async fn what_only_an_engine_wrote_is_no_change_of_ours(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    import(&kit, &source).await;
    let boot = Some(Uuid::new_v4().into());
    let set =
        write(&kit.db, async |tx| hosts::set_boot(tx, HostId(id(0x208)), 1, 1, boot, true, later(1)).await);
    assert!(set.await.unwrap());
    source.run("UPDATE hosts SET control_attributes = 'IPMI' WHERE id = 8").await;
    let report = import(&kit, &source).await;
    assert_eq!(counts(&report.hosts), [0, 0, 2, 1, 0, 0]);
    let host = hosts::get(&kit.db, HostId(id(0x208))).await.unwrap();
    assert_eq!((&*host.control_attributes, host.ever_agent, host.boot), ("IPMI", true, boot));
}

async fn a_host_under_recovery_waits_for_the_next_run(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    import(&kit, &source).await;
    exec(&kit, "UPDATE notifications SET status = 'running' WHERE num = 11").await;
    source
        .run("UPDATE hosts SET reserved = 1 WHERE id = 7; UPDATE failover_segments SET enabled = 0 WHERE id = 3")
        .await;
    let report = import(&kit, &source).await;
    let left: Vec<_> = report.left.iter().map(|left| (left.table, &*left.reason)).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|(_, why)| why.contains("under recovery") && why.contains("again")), "{left:?}");
    // The import itself put that report right again.
    assert_eq!(import(&kit, &source).await.left, []);
}

async fn a_segment_deleted_in_the_source_keeps_the_hosts_that_were_added_here(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    import(&kit, &source).await;
    let added = new_host(SegmentId(id(0x103)), "cmp-99");
    write(&kit.db, async |tx| hosts::create(tx, &added, NOW).await).await.unwrap();
    source
        .run(
            "UPDATE failover_segments SET deleted = 3, deleted_at = '2026-03-01 00:00:00' WHERE id = 3;
             UPDATE hosts SET deleted = id, deleted_at = '2026-03-01 00:00:00' WHERE deleted = 0;",
        )
        .await;
    let report = import(&kit, &source).await;
    assert_eq!(counts(&report.hosts), [0, 0, 1, 2, 0, 0]);
    assert!(report.left[0].reason.contains("still has hosts here"), "{report:?}");
    write(&kit.db, async |tx| hosts::delete(tx, added.id, NOW).await).await.unwrap();
    let report = import(&kit, &source).await;
    assert_eq!((counts(&report.segments), report.left.len()), ([0, 0, 1, 1, 0, 0], 0));
    assert!(segments::get(&kit.db, SegmentId(id(0x103))).await.is_err());
}
