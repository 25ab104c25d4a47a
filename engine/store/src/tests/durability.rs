//! What a crash, a full disk and a hand in the database leave behind.

use halberd_core::audit::{Broken, Entry};
use serde_json::json;

use super::*;
use crate::db::Options;
use crate::value::args;
use crate::{Error, Tx, audit, commit, notifications, recoveries, segments};

everywhere!(
    a_transaction_dropped_before_its_commit_leaves_nothing,
    the_audit_verifies_and_each_tampering_names_its_record,
    missing_records_tails_and_chains_are_found,
    a_chain_written_by_many_at_once_verifies,
    an_unknown_word_names_table_row_and_column,
    a_state_that_is_not_the_documents_is_refused,
);

async fn a_transaction_dropped_before_its_commit_leaves_nothing(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let mut draft = commit_of(&recovery);
    draft.vmoves = vec![vmove(&recovery, 1)];
    draft.audit = vec![Entry::new("evacuation_ordered", "x", json!({}))];
    let mut tx = Tx::begin(&kit.db).await.unwrap();
    commit::apply_in(&mut tx, &draft, &hooks(), NOW).await.unwrap();
    drop(tx);
    assert_eq!(recoveries::get(&kit.db, recovery.id).await.unwrap(), recovery);
    assert_eq!(kit.count("SELECT COUNT(*) FROM vmoves").await, 0);
    assert!(!commit::was_applied(&kit.db, recovery.id, draft.nonce).await.unwrap());
    assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
    commit::apply(&kit.db, &draft, &hooks(), NOW).await.expect("and it can be applied afterwards");
}

#[tokio::test]
async fn a_copy_of_the_files_at_any_moment_is_whole() {
    // What a power cut leaves: the files as they are, without a close. A second opening recovers the write-ahead log.
    let kit = kit().await;
    let recovery = kit.claimed().await;
    let mut draft = commit_of(&recovery);
    draft.vmoves = (0..20).map(|n| vmove(&recovery, n)).collect();
    draft.audit = vec![Entry::new("evacuation_ordered", "x", json!({}))];
    let version = commit::apply(&kit.db, &draft, &hooks(), NOW).await.unwrap();
    // A unit under way at the moment of the cut.
    let mut tx = Tx::begin(&kit.db).await.unwrap();
    let next = Recovery { version, ..recovery.clone() };
    commit::apply_in(&mut tx, &commit_of(&next), &hooks(), NOW).await.unwrap();
    let after = TempDir::new().unwrap();
    for name in ["halberd.db", "halberd.db-wal"] {
        std::fs::copy(kit.own.dir().join(name), after.path().join(name)).unwrap();
    }
    drop(tx);
    let db = Db::open(&url(after.path()), Access::Exclusive).await.unwrap();
    assert_eq!(recoveries::get(&db, recovery.id).await.unwrap().version, version);
    assert!(commit::was_applied(&db, recovery.id, draft.nonce).await.unwrap());
    assert_eq!(audit::verify(&db).await.unwrap(), []);
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_nothing_is_half_written() {
    let dir = TempDir::new().unwrap();
    let options = Options { max_pages: Some(130), ..Options::new(Access::Exclusive) };
    let db = Db::open_with(&url(dir.path()), options).await.unwrap();
    let segment = new_segment("s");
    let host = new_host(segment.id, "cmp-01");
    write(&db, async |tx| {
        segments::create(tx, &segment, NOW).await?;
        crate::hosts::create(tx, &host, NOW).await
    })
    .await
    .unwrap();
    let mut accepted = Vec::new();
    let error = loop {
        assert!(accepted.len() < 5_000, "the limit was never met");
        let report = guest_down(segment.id, host.id, &Uuid::new_v4().to_string());
        let window = std::time::Duration::from_secs(180);
        match write(&db, async |tx| notifications::receive(tx, &report, window, NOW).await).await {
            Ok(_) => accepted.push(report.id),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.is_unavailable() && error.to_string().contains("full"), "{error}");
    for id in &accepted {
        notifications::get(&db, *id).await.expect("what was acknowledged is there");
    }
    let count = |sql| {
        let db = db.clone();
        async move { (&db).rows(sqlx::SqlStr::from_static(sql), vec![]).await.unwrap()[0].first_int() }
    };
    assert_eq!(count("SELECT COUNT(*) FROM notifications").await, accepted.len() as i64);
    assert_eq!(count("SELECT COUNT(*) FROM duplicates").await, accepted.len() as i64);
    // Room again: the same database goes on.
    db.close().await;
    drop(db);
    let db = Db::open(&url(dir.path()), Access::Exclusive).await.unwrap();
    write(&db, async |tx| segments::create(tx, &new_segment("more"), NOW).await).await.unwrap();
}

/// F51: SQLite ends a transaction by itself when its commit meets a full disk.
#[tokio::test]
async fn a_transaction_that_ended_by_itself_leaves_the_database_writable() {
    let dir = TempDir::new().unwrap();
    let db = Db::open(&url(dir.path()), Access::Exclusive).await.unwrap();
    let ended = write(&db, async |tx| tx.exec("ROLLBACK", vec![]).await).await;
    assert!(ended.is_err(), "there was nothing left to commit: {ended:?}");
    write(&db, async |tx| segments::create(tx, &new_segment("after"), NOW).await).await.unwrap();
}

async fn three_records(kit: &Kit) -> String {
    let recovery = kit.claimed().await;
    let mut draft = commit_of(&recovery);
    draft.audit = vec![
        Entry::new("host_fenced", "off", json!({"readings": [1, 2], "share": 0.1})),
        Entry::new("evacuation_ordered", "sent", json!({"b": 1, "a": {"c": null}})),
    ];
    commit::apply(&kit.db, &draft, &[], NOW).await.unwrap();
    recovery.id.to_string()
}

async fn the_audit_verifies_and_each_tampering_names_its_record(on: On) {
    let flips: [(&'static str, i64); 6] = [
        ("UPDATE audit SET text = 'Off' WHERE sequence = 2", 2),
        ("UPDATE audit SET detail = replace(detail, '0.1', '0.2') WHERE sequence = 2", 2),
        (
            "UPDATE audit SET detail = replace(detail, '{\"readings\"', '{ \"readings\"') WHERE sequence = 2",
            2,
        ),
        ("UPDATE audit SET detail = '{' WHERE sequence = 3", 3),
        ("UPDATE audit SET at = at + 1 WHERE sequence = 1", 1),
        ("UPDATE audit SET hash = replace(hash, substr(hash, 1, 1), 'x') WHERE sequence = 3", 3),
    ];
    for (sql, record) in flips {
        let kit = kit_on(on).await;
        let chain = three_records(&kit).await;
        assert_eq!(audit::verify(&kit.db).await.unwrap(), [], "whole before");
        kit.tamper(sql, vec![]).await;
        assert_eq!(
            audit::verify(&kit.db).await.unwrap(),
            [Broken::Hash { chain, sequence: record }],
            "{sql}"
        );
    }
}

async fn missing_records_tails_and_chains_are_found(on: On) {
    let kit = kit_on(on).await;
    let chain = three_records(&kit).await;
    assert!(write(&kit.db, async |tx| audit::checkpoint(tx, NOW).await).await.unwrap());
    assert!(
        !write(&kit.db, async |tx| audit::checkpoint(tx, NOW).await).await.unwrap(),
        "nothing happened since"
    );
    assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
    kit.tamper("DELETE FROM audit WHERE sequence = 3 AND chain <> 'checkpoints'", vec![]).await;
    let gap = Broken::Gap { chain: chain.clone(), expected: 3, found: 3 };
    assert_eq!(audit::verify(&kit.db).await.unwrap(), [gap], "the head knows of a third");
    // With the head moved back as well, the checkpoint still knows.
    kit.tamper(
        "UPDATE audit_heads SET sequence = 2, hash = (SELECT hash FROM audit a WHERE a.chain = ? AND a.sequence = 2) \
         WHERE chain = ?",
        args![&chain, &chain],
    )
    .await;
    assert_eq!(audit::verify(&kit.db).await.unwrap().len(), 1);
    write(&kit.db, async |tx| {
        tx.exec("DELETE FROM audit WHERE chain = ?", args![&chain]).await?;
        tx.exec("DELETE FROM audit_heads WHERE chain = ?", args![&chain]).await
    })
    .await
    .unwrap();
    assert_eq!(audit::verify(&kit.db).await.unwrap(), [Broken::Gap { chain, expected: 3, found: 0 }]);
}

async fn a_chain_written_by_many_at_once_verifies(on: On) {
    let kit = kit_on(on).await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let db = kit.db.clone();
            tokio::spawn(async move {
                for _ in 0..8 {
                    let entry = [Entry::new("agent_lost", format!("{n}"), json!({"n": n}))];
                    write(&db, async |tx| audit::append(tx, "api:1", 0, &entry, NOW).await).await.unwrap();
                }
            })
        })
        .collect();
    // I31: whole at any instant, also while they write.
    for _ in 0..10 {
        assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(audit::of_chain(&kit.db, "api:1").await.unwrap().len(), 128);
    assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
}

async fn an_unknown_word_names_table_row_and_column(on: On) {
    let kit = kit_on(on).await;
    kit.tamper("UPDATE hosts SET admission = 'quarantined'", vec![]).await;
    match crate::hosts::get(&kit.db, kit.host).await {
        Err(Error::UnknownWord { table: "hosts", row, column: "admission", source }) => {
            assert_eq!((row, source.word.as_str()), (kit.host.to_string(), "quarantined"));
        }
        wrong => panic!("{wrong:?}"),
    }
    kit.tamper("UPDATE hosts SET admission = 'in', retired_boots = '[1'", vec![]).await;
    let error = crate::hosts::get(&kit.db, kit.host).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("table hosts, row {}, column retired_boots: ", kit.host)), "{error}");
}

async fn a_state_that_is_not_the_documents_is_refused(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.open().await;
    kit.tamper("UPDATE recoveries SET state = 'evacuating'", vec![]).await;
    let error = recoveries::get(&kit.db, recovery.id).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { table: "recoveries", column: "state", .. }), "{error}");
}
