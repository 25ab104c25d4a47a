//! Rows that cannot be taken, and sources that are none.

use std::path::Path;

use super::*;

#[tokio::test]
async fn what_cannot_be_taken_is_left_with_its_reason() {
    let kit = kit().await;
    let source = Masakari::new(&kit).await;
    source
        .run(
            "INSERT INTO failover_segments (id, uuid, name, service_type, recovery_method, deleted) VALUES
                 (31, '00000000-0000-4000-8000-000000000131', CAST(X'ff' AS TEXT), 'C', 'auto', 0),
                 (32, '00000000-0000-4000-8000-000000000132', 'b', 'C', 'by-magic', 0),
                 (33, 'no-uuid', 'c', 'C', 'auto', 0),
                 (34, '00000000-0000-4000-8000-000000000134', 'rack-a', 'C', 'auto', 0);
             INSERT INTO hosts (id, uuid, name, type, control_attributes, failover_segment_id, deleted) VALUES
                 (41, '00000000-0000-4000-8000-000000000241', 'lost', 'C', '', '00000000-0000-4000-8000-0000000001ff', 0),
                 (42, '00000000-0000-4000-8000-000000000242', 'second', 'C', '', '00000000-0000-4000-8000-000000000134', 0),
                 (43, '00000000-0000-4000-8000-000000000243', 'cmp-01', 'C', '', '00000000-0000-4000-8000-000000000103', 0);
             INSERT INTO notifications (id, notification_uuid, generated_time, source_host_uuid, type, payload, status, deleted) VALUES
                 (51, '00000000-0000-4000-8000-000000000351', '2026-01-01 00:00:00', '00000000-0000-4000-8000-0000000002ff', 'VM', '{}', 'ignored', 0),
                 (52, '00000000-0000-4000-8000-000000000352', '2026-01-01 00:00:00', '00000000-0000-4000-8000-000000000207', 'VM', '{u''event'': u''x''}', 'ignored', 0),
                 (53, '00000000-0000-4000-8000-000000000353', 'soon', '00000000-0000-4000-8000-000000000207', 'VM', '{}', 'ignored', 0),
                 (54, '00000000-0000-4000-8000-000000000354', '2026-01-01 00:00:00', '00000000-0000-4000-8000-000000000207', 'COMPUTE_HOST', '{}', 'odd', 0);
             INSERT INTO vmoves (id, uuid, notification_uuid, instance_uuid, instance_name, type, status, deleted) VALUES
                 (61, '00000000-0000-4000-8000-000000000461', '00000000-0000-4000-8000-0000000003ff', '00000000-0000-4000-8000-000000000903', 'a', 'evacuation', 'failed', 0),
                 (62, '00000000-0000-4000-8000-000000000462', '00000000-0000-4000-8000-000000000311', '00000000-0000-4000-8000-000000000901', 'web', 'evacuation', 'failed', 0),
                 (63, '00000000-0000-4000-8000-000000000463', '00000000-0000-4000-8000-000000000314', '00000000-0000-4000-8000-000000000903', 'a', 'evacuation', 'failed', 0),
                 (64, '00000000-0000-4000-8000-000000000464', '00000000-0000-4000-8000-000000000354', '00000000-0000-4000-8000-000000000903', 'a', 'evacuation', 'failed', 0),
                 (65, '00000000-0000-4000-8000-000000000465', '00000000-0000-4000-8000-000000000311', '00000000-0000-4000-8000-000000000904', 'a', 'live_migration', 'failed', 0);",
        )
        .await;
    let report = import(&kit, &source).await;
    let wanted: &[(&str, &str)] = &[
        ("segment 00000000-0000-4000-8000-000000000131", "its name is not UTF-8"),
        ("segment 00000000-0000-4000-8000-000000000132", "its recovery_method 'by-magic' is not known"),
        ("segment no-uuid", "its uuid 'no-uuid' is no uuid"),
        ("segment 00000000-0000-4000-8000-000000000134 (rack-a)", "a segment of this name exists here"),
        ("host 00000000-0000-4000-8000-000000000241 (lost)", "was not taken or is not in the source"),
        ("host 00000000-0000-4000-8000-000000000242 (second)", "was not taken or is not in the source"),
        ("host 00000000-0000-4000-8000-000000000243 (cmp-01)", "a host of this name exists here"),
        ("notification 00000000-0000-4000-8000-000000000351", "names no segment"),
        ("notification 00000000-0000-4000-8000-000000000352", "no JSON object of texts"),
        ("notification 00000000-0000-4000-8000-000000000353", "its generated_time 'soon' is no time"),
        ("notification 00000000-0000-4000-8000-000000000354", "its status 'odd' is not known"),
        ("vmove 00000000-0000-4000-8000-000000000461", "its notification is not in the source"),
        ("vmove 00000000-0000-4000-8000-000000000421", "its guest was moved again"),
        ("vmove 00000000-0000-4000-8000-000000000463", "its notification is not about a host"),
        ("vmove 00000000-0000-4000-8000-000000000464", "its notification was left"),
        ("vmove 00000000-0000-4000-8000-000000000465", "is no evacuation"),
    ];
    for (row, reason) in wanted {
        let found = report.left.iter().any(|left| {
            format!("{} {}", left.table.noun(), left.row) == *row && left.reason.contains(reason)
        });
        assert!(found, "{row}: {reason}\n{:#?}", report.left);
    }
    assert_eq!(report.left.len(), wanted.len(), "{:#?}", report.left);
    // What is left does not take its neighbours with it.
    assert_eq!((report.segments.taken, report.hosts.taken, report.notifications.taken), (2, 3, 4));
    assert_eq!(report.vmoves.taken, 3);
}

#[tokio::test]
async fn the_reasons_do_not_fill_the_memory() {
    let kit = kit().await;
    let source = Masakari::new(&kit).await;
    source
        .run(
            "INSERT INTO vmoves (uuid, notification_uuid, instance_uuid, instance_name, type, status, deleted)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
             SELECT 'v' || i, 'x', 'x', 'x', 'evacuation', 'failed', 0 FROM n",
        )
        .await;
    let report = import(&kit, &source).await;
    assert_eq!((report.vmoves.left, report.left.len(), report.left_unlisted), (1500, 1000, 500));
}

async fn refused(kit: &Kit, url: &str) -> String {
    let url = SecretString::from(url);
    let error = masakari(&kit.db, &Import { url: &url, since: None, dry_run: false }, NOW).await.unwrap_err();
    let shown = format!("{error}");
    assert!(!shown.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    shown
}

#[tokio::test]
async fn a_source_that_is_none_is_named_with_the_way_out() {
    let kit = kit().await;
    let path = |name: &str| kit.own.dir().join(name);
    let url = |path: &Path| format!("sqlite:///{}", path.display());
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("text"), "not a database, whatever its name says").unwrap();
    std::fs::create_dir(path("dir")).unwrap();
    let cases = [
        (url(&path("absent")), "there is no such file"),
        (url(&path("dir")), "it is a directory"),
        (url(&path("empty")), "it is empty"),
        (url(&path("text")), "no SQLite database"),
        // Our own.
        (url(&path("other.db")), "no database of Masakari's"),
        ("postgresql://m:hunter2@127.0.0.1:1/m".into(), "postgresql://127.0.0.1:1/m cannot be reached"),
        ("mysql+pymysql://m:hunter2@127.0.0.1:1/m".into(), "mysql://127.0.0.1:1/m cannot be reached"),
        ("oracle://m:hunter2@h/m".into(), "none of mysql"),
    ];
    let other =
        Db::open(&format!("sqlite:{}", path("other.db").display()), crate::Access::Shared).await.unwrap();
    other.close().await;
    for (url, what) in cases {
        let error = refused(&kit, &url).await;
        assert!(error.contains(what), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_schema_that_cannot_be_read_is_named() {
    let kit = kit().await;
    let source = Masakari { path: kit.own.dir().join("masakari.db") };
    let cases: &[(&'static str, &str)] = &[
        (
            "UPDATE masakari_alembic_version SET version_num = 'ffffffffffff'",
            "revision ffffffffffff, which this version",
        ),
        ("DELETE FROM masakari_alembic_version", "version without a number, which is older"),
        (
            "DROP TABLE masakari_alembic_version; CREATE TABLE migrate_version (version INTEGER); INSERT INTO migrate_version VALUES (5)",
            "legacy version 5, which is older",
        ),
        ("ALTER TABLE hosts DROP COLUMN reserved", "table hosts has no column reserved"),
        ("DROP TABLE hosts", "there is no table hosts among the 5"),
    ];
    for (sql, what) in cases {
        let _ = std::fs::remove_file(&source.path);
        source.run(include_str!("masakari.sql")).await;
        source.run(sql).await;
        let url = format!("sqlite:///{}", source.path.display());
        let error = refused(&kit, &url).await;
        assert!(error.contains(what), "{sql}: {error}");
    }
}

#[tokio::test]
async fn older_schemas_are_read_as_far_as_they_go() {
    let kit = kit().await;
    let source = Masakari::new(&kit).await;
    source
        .run(
            "DROP TABLE vmoves; ALTER TABLE notifications DROP COLUMN message;
             ALTER TABLE notifications DROP COLUMN failover_segment_uuid; ALTER TABLE failover_segments DROP COLUMN enabled;
             DROP TABLE masakari_alembic_version; CREATE TABLE migrate_version (version INTEGER);
             INSERT INTO migrate_version VALUES (7)",
        )
        .await;
    let report = import(&kit, &source).await;
    assert_eq!((&*report.revision, report.left.len()), ("legacy version 7", 0));
    assert_eq!((report.notifications.taken, report.vmoves.taken), (4, 0));
    let segment = segments::get(&kit.db, SegmentId(id(0x103))).await.unwrap();
    assert!(segment.enabled, "as it was before there was a switch");
}

/// A file in write-ahead mode: refused while somebody has it open, read without a trace when nobody has.
#[tokio::test]
async fn a_file_in_write_ahead_mode_is_not_touched_either() {
    let kit = kit().await;
    let source = Masakari::new(&kit).await;
    let mut open = source.open().await;
    sqlx::raw_sql("PRAGMA journal_mode = WAL; UPDATE hosts SET reserved = 0")
        .execute(&mut open)
        .await
        .unwrap();
    let error = refused(&kit, &format!("sqlite:///{}", source.path.display())).await;
    assert!(error.contains("-wal") && error.contains(".backup"), "{error}");
    open.close().await.unwrap();
    let before = beside(&source);
    assert_eq!(before.len(), 1, "{:?}", before.iter().map(|(name, _)| name).collect::<Vec<_>>());
    let report = import(&kit, &source).await;
    assert_eq!(report.hosts.taken, 3);
    assert!(!hosts::get(&kit.db, HostId(id(0x208))).await.unwrap().reserved, "what lay in the log before");
    assert!(beside(&source) == before, "nothing was made beside it");
}

/// A reader waits for nobody and blocks nobody beyond its own time in rollback-journal mode.
#[tokio::test]
async fn a_writer_at_work_is_waited_for_or_named() {
    let kit = kit().await;
    let source = Masakari::new(&kit).await;
    let mut open = source.open().await;
    sqlx::raw_sql("BEGIN IMMEDIATE; UPDATE hosts SET reserved = 1 WHERE id = 7")
        .execute(&mut open)
        .await
        .unwrap();
    // Not committed: the import sees what stood before.
    let report = import(&kit, &source).await;
    assert_eq!(report.hosts.taken, 3);
    assert!(!hosts::get(&kit.db, HostId(id(0x207))).await.unwrap().reserved);
}
