//! What goes, what stays, and that nobody can hide behind it. On all three databases.

use std::collections::BTreeSet;

use halberd_core::audit::{Broken, Entry};
use halberd_core::notification::NotificationStatus;
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{Body, Recovery};
use halberd_core::runner::Resolution;
use halberd_core::time::Stamp;
use serde_json::json;

use super::{Begun, DAY, Pass, RULES, Retention, Step, begin, dry_run, leaving, turn};
use crate::testing::On;
use crate::tests::{Kit, NOW, commit_of, event, everywhere, guest_down, hooks, intent, kit_on, vmove};
use crate::value::{Arg, args};
use crate::{Db, audit, commit, events, evidence, notifications, recoveries, vmoves, write};

everywhere!(
    every_table_has_one_rule,
    a_closed_recovery_goes_whole_and_what_is_open_stays,
    a_recovery_that_touched_power_is_kept_for_the_fence_history,
    what_is_undelivered_or_named_holds_its_recovery,
    a_large_recovery_is_gone_at_once_and_its_rest_follows,
    rows_of_no_recovery_go_by_age_and_the_newest_stays,
    a_chain_is_cut_at_an_anchor_and_still_verifies,
    a_purge_hides_nothing,
    a_clock_that_jumped_takes_at_most_a_days_stride,
    who_lost_the_turn_deletes_nothing_more,
    a_pass_that_dies_after_any_step_is_finished_by_the_next,
    who_waits_is_not_at_work,
);

fn day(n: i64) -> Stamp {
    Stamp(NOW.0 + n * DAY)
}

async fn pass(db: &Db, policy: &Retention, now: Stamp) -> Box<Pass> {
    let seen = turn(db).await.unwrap();
    match begin(db, policy, "test", seen.as_ref(), now).await.unwrap() {
        Begun::Pass(pass) => pass,
        Begun::Lost => panic!("nobody else is here"),
    }
}

/// A whole pass; rows deleted by table.
async fn purge(db: &Db, policy: &Retention, now: Stamp) -> Vec<(&'static str, u64)> {
    let mut pass = pass(db, policy, now).await;
    let mut gone: Vec<(&'static str, u64)> = Vec::new();
    loop {
        match pass.step(db, now).await.unwrap() {
            Step::Deleted { table, rows } if rows > 0 => {
                match gone.iter_mut().find(|(known, _)| *known == table) {
                    Some((_, sum)) => *sum += rows,
                    None => gone.push((table, rows)),
                }
            }
            Step::Deleted { .. } | Step::Looked => {}
            Step::Done => return gone,
            Step::Lost => panic!("nobody else is here"),
        }
    }
}

/// Closes what was opened, with a move, an intent, events and records of its own.
async fn close(kit: &Kit, recovery: &Recovery, effect: &str, at: Stamp) {
    let mut draft = commit_of(recovery);
    let mut order = intent(recovery, None);
    order.effect = effect.to_owned();
    draft.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Finished });
    draft.notification = Some((NotificationStatus::Finished, None));
    draft.vmoves = vec![vmove(recovery, 1), vmove(recovery, 2)];
    draft.resolved = vec![Resolution { intent: order.id, result: "done".into(), detail: json!({}) }];
    draft.audit = (0..3).map(|n| Entry::new("guest_verified", format!("{n}"), json!({"n": n}))).collect();
    draft.events = vec![event(Some(recovery.id)), event(Some(recovery.id))];
    let chosen =
        write(&kit.db, async |tx| crate::intents::record(tx, std::slice::from_ref(&order), &[], at).await);
    chosen.await.unwrap();
    commit::apply(&kit.db, &draft, &hooks(), at).await.unwrap();
}

async fn deliver_all(kit: &Kit, state: &str, at: Stamp) {
    let sql = "UPDATE deliveries SET state = ?, updated_at = ? WHERE state = 'pending'";
    write(&kit.db, async |tx| tx.exec(sql, args![state, at]).await).await.unwrap();
}

/// A recovery of a host of its own, closed then.
async fn closed(kit: &Kit, name: &str, effect: &str, at: Stamp) -> Recovery {
    let host = kit.add_host(name).await;
    let recoveries::Opened::New(opened) = kit.try_open(&kit.db, host).await.unwrap() else {
        panic!("none is open")
    };
    let claimed = write(&kit.db, async |tx| recoveries::claim(tx, opened.id, 0, None, kit.engine, at).await);
    let recovery = claimed.await.unwrap().unwrap();
    close(kit, &recovery, effect, at).await;
    deliver_all(kit, "delivered", at).await;
    recovery
}

const OF_A_RECOVERY: [&str; 7] = [
    "SELECT COUNT(*) AS n FROM recoveries WHERE id = ?",
    "SELECT COUNT(*) AS n FROM vmoves WHERE recovery = ?",
    "SELECT COUNT(*) AS n FROM notifications WHERE recovery = ?",
    "SELECT COUNT(*) AS n FROM intents WHERE recovery = ?",
    "SELECT COUNT(*) AS n FROM events WHERE recovery = ?",
    "SELECT COUNT(*) AS n FROM audit WHERE chain = ?",
    "SELECT COUNT(*) AS n FROM audit_heads WHERE chain = ?",
];

async fn rows_of(kit: &Kit, recovery: &Recovery) -> Vec<i64> {
    let mut found = Vec::new();
    for sql in OF_A_RECOVERY {
        let rows = crate::transaction::all(&mut &kit.db, sql, args![recovery.id]).await.unwrap();
        found.push(rows[0].first_int());
    }
    found
}

const WHOLE: [i64; 7] = [1, 2, 1, 1, 3, 4, 1];
const GONE: [i64; 7] = [0; 7];

async fn every_table_has_one_rule(on: On) {
    let kit = kit_on(on).await;
    let sql = match on {
        On::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        On::Postgres => {
            "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
             WHERE s.nspname = current_schema() AND c.relkind = 'r'"
        }
        On::Mariadb => {
            "SELECT CONVERT(table_name USING utf8mb4) AS name FROM information_schema.tables WHERE table_schema = DATABASE()"
        }
    };
    let text = |row: &crate::value::Row| match &row.values[0] {
        Arg::Text(name) => name.clone(),
        other => panic!("{other:?}"),
    };
    let mut tables: BTreeSet<String> = kit.raw(sql).await.iter().map(text).collect();
    // Which steps were applied, and the turn of who applies them: machinery of a fixed size.
    tables.retain(|name| !name.starts_with('_'));
    let ruled: BTreeSet<String> = RULES.iter().map(|rule| rule.table.to_owned()).collect();
    assert_eq!(tables, ruled, "left: the schema, right: the rules");
    assert_eq!(ruled.len(), RULES.len(), "a table has two rules");
    for aged in super::aged::AGED {
        assert!(!matches!(
            super::rule_of(aged.table).unwrap().keep,
            super::Keep::Forever(_) | super::Keep::Bounded(_)
        ));
    }
    // Its size can be told.
    let sizes = crate::size::size(&kit.db).await.unwrap();
    assert_eq!(sizes.tables.len(), RULES.len());
    let hosts = sizes.tables.iter().find(|table| table.rule.table == "hosts").unwrap();
    assert_eq!((hosts.rows, hosts.oldest), (1, Some(NOW)));
    assert!(hosts.bytes.unwrap() > 0 && sizes.bytes > 0, "{sizes:?}");
}

async fn a_closed_recovery_goes_whole_and_what_is_open_stays(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention::default();
    let old = closed(&kit, "old", "evacuate", day(1)).await;
    let open = kit.claimed().await;
    let young = closed(&kit, "young", "evacuate", day(100)).await;
    assert_eq!((rows_of(&kit, &old).await, rows_of(&kit, &young).await), (WHOLE.to_vec(), WHOLE.to_vec()));
    let last = closed(&kit, "last", "evacuate", day(190)).await;
    let expected = dry_run(&kit.db, &policy, day(180)).await.unwrap();
    assert_eq!(rows_of(&kit, &old).await, WHOLE, "a dry run deletes nothing");
    let gone = purge(&kit.db, &policy, day(180)).await;
    assert!(gone.iter().any(|(table, _)| *table == "recoveries"), "{gone:?}");
    assert_eq!(expected["recoveries"], 1);
    assert_eq!((expected["vmoves"], expected["audit"], expected["deliveries"]), (2, 4, 14));
    assert_eq!(rows_of(&kit, &old).await, GONE);
    assert_eq!(kit.count("SELECT COUNT(*) AS n FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.id = d.event)").await, 0);
    assert_eq!(rows_of(&kit, &young).await, WHOLE);
    assert_eq!(rows_of(&kit, &last).await, WHOLE);
    assert!(recoveries::get(&kit.db, open.id).await.unwrap().is_open(), "what is open stays, however old");
    assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
    assert_eq!(events::gaps(&kit.db).await.unwrap(), []);
}

async fn a_recovery_that_touched_power_is_kept_for_the_fence_history(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention::default();
    let fenced = closed(&kit, "fenced", "power_off", day(1)).await;
    let mut times = vec![day(300), day(402)];
    closed(&kit, "last", "evacuate", day(500)).await;
    // A pass goes a day beyond the one before at most, so the second is far enough only after many; a fresh turn has no former.
    let forget = "DELETE FROM settings WHERE name = 'purge_turn'";
    purge(&kit.db, &policy, times.remove(0)).await;
    assert_eq!(rows_of(&kit, &fenced).await, WHOLE);
    write(&kit.db, async |tx| tx.exec(forget, vec![]).await).await.unwrap();
    purge(&kit.db, &policy, times.remove(0)).await;
    assert_eq!(rows_of(&kit, &fenced).await, GONE);
}

async fn what_is_undelivered_or_named_holds_its_recovery(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention::default();
    let named = closed(&kit, "named", "evacuate", day(1)).await;
    let undelivered = closed(&kit, "undelivered", "evacuate", day(1)).await;
    let dead = closed(&kit, "dead", "evacuate", day(1)).await;
    let out = closed(&kit, "out", "evacuate", day(1)).await;
    closed(&kit, "last", "evacuate", day(500)).await;
    let change = async |sql: &'static str, args: Vec<Arg>| {
        write(&kit.db, async |tx| tx.exec(sql, args.clone()).await).await.unwrap()
    };
    change("UPDATE hosts SET reserved_by = ? WHERE name = 'cmp-01'", args![named.id]).await;
    change(
        "UPDATE deliveries SET state = 'pending' WHERE recovery = ? AND webhook = 'chat'",
        args![undelivered.id],
    )
    .await;
    change(
        "UPDATE deliveries SET state = 'dead', updated_at = ? WHERE recovery = ?",
        args![day(60), dead.id],
    )
    .await;
    change("UPDATE hosts SET admission = 'out' WHERE name = 'out'", args![]).await;
    purge(&kit.db, &policy, day(120)).await;
    for held in [&named, &undelivered, &dead, &out] {
        assert_eq!(rows_of(&kit, held).await, WHOLE);
    }
    change("UPDATE hosts SET reserved_by = NULL WHERE name = 'cmp-01'", args![]).await;
    change("UPDATE hosts SET admission = 'in' WHERE name = 'out'", args![]).await;
    purge(&kit.db, &policy, day(121)).await;
    for (held, rows) in [(&named, GONE), (&undelivered, WHOLE), (&dead, WHOLE), (&out, GONE)] {
        assert_eq!(rows_of(&kit, held).await, rows);
    }
}

async fn a_large_recovery_is_gone_at_once_and_its_rest_follows(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention { step_rows: 10, ..Retention::default() };
    let large = closed(&kit, "large", "evacuate", day(1)).await;
    let chain = large.id.to_string();
    for n in 0..30 {
        let entry = [Entry::new("guest_verified", format!("{n}"), json!({}))];
        write(&kit.db, async |tx| audit::append(tx, &chain, 1, &entry, day(1)).await).await.unwrap();
    }
    closed(&kit, "last", "evacuate", day(200)).await;
    let mut pass = pass(&kit.db, &policy, day(200)).await;
    while !matches!(pass.step(&kit.db, day(200)).await.unwrap(), Step::Deleted { table: "recoveries", .. }) {}
    assert!(recoveries::get(&kit.db, large.id).await.is_err());
    assert!(vmoves::of_recovery(&kit.db, large.id).await.unwrap().is_empty());
    assert_eq!(leaving(&kit.db).await.unwrap(), BTreeSet::from([chain]));
    assert!(rows_of(&kit, &large).await[5] > 0, "the rest is there");
    assert_eq!(audit::verify(&kit.db).await.unwrap(), [], "and is no broken chain");
    assert_eq!(events::gaps(&kit.db).await.unwrap(), []);
    drop(pass);
    purge(&kit.db, &policy, day(200)).await;
    assert_eq!(rows_of(&kit, &large).await, GONE);
    assert_eq!(leaving(&kit.db).await.unwrap(), BTreeSet::new());
}

async fn rows_of_no_recovery_go_by_age_and_the_newest_stays(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention::default();
    let piece = |text: &str| evidence::NewEvidence {
        host: kit.host,
        notification: None,
        source: "agent".into(),
        class: None,
        text: text.into(),
        detail: json!({}),
    };
    for (text, at) in
        [("old", day(1)), ("of the recovery", day(5)), ("young", day(100)), ("newest", day(101))]
    {
        let piece = piece(text);
        write(&kit.db, async |tx| evidence::insert(tx, &piece, at).await).await.unwrap();
    }
    // A recovery of that host that is kept: what was seen while it was open is kept with it.
    let recovery = kit.claimed().await;
    close(&kit, &recovery, "power_off", day(9)).await;
    deliver_all(&kit, "delivered", day(9)).await;
    let sql = "UPDATE recoveries SET opened_at = ?";
    write(&kit.db, async |tx| tx.exec(sql, args![day(4)]).await).await.unwrap();
    let reports: Vec<_> = (0..3).map(|n| guest_down(kit.segment, kit.host, &format!("guest-{n}"))).collect();
    for report in &reports {
        let window = std::time::Duration::from_secs(180);
        write(&kit.db, async |tx| notifications::receive(tx, report, window, day(2)).await).await.unwrap();
    }
    let settle = async |n: usize| {
        let (from, to) = (NotificationStatus::New, NotificationStatus::Ignored);
        write(&kit.db, async |tx| notifications::settle(tx, reports[n].id, from, to, None, day(2)).await)
            .await
            .unwrap()
    };
    assert!(settle(0).await);
    // The newest by number, so that the table's own time is young.
    let sql = "UPDATE notifications SET updated_at = ?, status = 'ignored' WHERE id = ?";
    write(&kit.db, async |tx| tx.exec(sql, args![day(100), reports[2].id]).await).await.unwrap();
    let sql = "UPDATE duplicates SET last_at = ? WHERE notification = ?";
    write(&kit.db, async |tx| tx.exec(sql, args![day(100), reports[2].id]).await).await.unwrap();
    purge(&kit.db, &policy, day(1_000)).await;
    let left: Vec<String> = evidence::list(&kit.db, kit.host, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.evidence.text)
        .collect();
    assert_eq!(left, ["newest", "young", "of the recovery"]);
    assert!(notifications::get(&kit.db, reports[0].id).await.is_err(), "settled and old");
    assert!(notifications::get(&kit.db, reports[1].id).await.is_ok(), "nobody has looked at it");
    assert!(notifications::get(&kit.db, reports[2].id).await.is_ok(), "the newest");
    assert_eq!(kit.count("SELECT COUNT(*) AS n FROM duplicates").await, 2);
}

async fn records(kit: &Kit, chain: &str, times: impl Iterator<Item = Stamp>) {
    for (n, at) in times.enumerate() {
        let entry = [Entry::new("service_went_down", format!("{n}"), json!({"n": n}))];
        write(&kit.db, async |tx| audit::append(tx, chain, 0, &entry, at).await).await.unwrap();
    }
}

async fn checkpoint(kit: &Kit, at: Stamp) -> bool {
    write(&kit.db, async |tx| audit::checkpoint(tx, at).await).await.unwrap()
}

async fn a_chain_is_cut_at_an_anchor_and_still_verifies(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention { step_rows: 50, audit_days: 10, ..Retention::default() };
    records(&kit, "engine:a", (0..130).map(|n| Stamp(NOW.0 + n)).chain([day(15)])).await;
    records(&kit, "engine:b", (0..40).map(|n| Stamp(NOW.0 + n))).await;
    records(&kit, "api:young", [day(14)].into_iter()).await;
    for n in 0..130 {
        records(&kit, "api:busy", [day(14)].into_iter()).await;
        assert!(checkpoint(&kit, Stamp(NOW.0 + n)).await);
    }
    assert!(!checkpoint(&kit, day(15)).await);
    records(&kit, "api:busy", [day(15)].into_iter()).await;
    assert!(checkpoint(&kit, day(15)).await);
    assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
    let mut pass = pass(&kit.db, &policy, day(15)).await;
    loop {
        match pass.step(&kit.db, day(15)).await.unwrap() {
            Step::Done => break,
            Step::Lost => panic!("nobody else is here"),
            _ => assert_eq!(audit::verify(&kit.db).await.unwrap(), [], "whole after each step"),
        }
    }
    let chains = audit::inspect(&kit.db, None).await.unwrap();
    let records: Vec<(&str, u64)> = chains.iter().map(|chain| (chain.name.as_str(), chain.records)).collect();
    // The checkpoints keep their anchor, the one of today, and what the purge said: b went, a was cut, they were cut.
    assert_eq!(records, [("checkpoints", 5), ("api:busy", 131), ("api:young", 1), ("engine:a", 2)]);
    // It goes on from there, and the cut is remembered by what the checkpoints carry over.
    self::records(&kit, "engine:a", [day(16)].into_iter()).await;
    assert!(checkpoint(&kit, day(16)).await);
    assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
}

async fn a_purge_hides_nothing(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention { audit_days: 10, ..Retention::default() };
    let tamper = async |sql: &'static str, args: Vec<Arg>| {
        write(&kit.db, async |tx| tx.exec(sql, args.clone()).await).await.unwrap()
    };
    let broken = async || audit::verify(&kit.db).await.unwrap();
    records(&kit, "engine:a", (0..130).map(|n| Stamp(NOW.0 + n)).chain([day(15)])).await;
    records(&kit, "api:b", (0..3).map(|n| Stamp(NOW.0 + n)).chain([day(15)])).await;
    assert!(checkpoint(&kit, day(15)).await);
    purge(&kit.db, &policy, day(15)).await;
    assert_eq!(broken().await, []);
    // A start that goes without a note.
    tamper("DELETE FROM audit WHERE chain = 'api:b' AND sequence < 3", vec![]).await;
    assert_eq!(broken().await, [Broken::Gap { chain: "api:b".into(), expected: 1, found: 3 }]);
    // A chain that goes with its head, and a checkpoint after that: what was listed once is not forgotten.
    tamper("DELETE FROM audit WHERE chain = 'api:b'", vec![]).await;
    tamper("DELETE FROM audit_heads WHERE chain = 'api:b'", vec![]).await;
    records(&kit, "engine:a", [day(16)].into_iter()).await;
    assert!(checkpoint(&kit, day(16)).await);
    let lost = Broken::Gap { chain: "api:b".into(), expected: 4, found: 0 };
    assert_eq!(broken().await, std::slice::from_ref(&lost));
    // Nor by one more purge, which carries it over; nor by saying that it is just going.
    tamper("INSERT INTO settings (name, value, version, updated_at) VALUES ('purge_leaving', '[\"api:b\"]', 1, 0)", vec![]).await;
    purge(&kit.db, &policy, day(17)).await;
    assert_eq!(broken().await, [lost]);
    // The anchor itself cannot be another record.
    tamper("UPDATE audit SET text = 'other' WHERE chain = 'engine:a' AND sequence = 130", vec![]).await;
    assert!(broken().await.contains(&Broken::Hash { chain: "engine:a".into(), sequence: 130 }));
    tamper("DELETE FROM audit WHERE chain = 'engine:a' AND sequence = 130", vec![]).await;
    assert!(broken().await.contains(&Broken::Gap { chain: "engine:a".into(), expected: 130, found: 131 }));
}

async fn a_clock_that_jumped_takes_at_most_a_days_stride(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention::default();
    let old = closed(&kit, "old", "evacuate", day(1)).await;
    let last = closed(&kit, "last", "evacuate", day(80)).await;
    // This machine believes that it is years later; the newest row does not.
    purge(&kit.db, &policy, day(2_000)).await;
    assert_eq!(rows_of(&kit, &old).await, WHOLE);
    // A clock that is right again goes on from where it is.
    purge(&kit.db, &policy, day(81)).await;
    // Somebody whose clock is ahead writes, and the same or another purges: one day beyond the last pass, not more.
    let sql = "UPDATE recoveries SET updated_at = ? WHERE id = ?";
    write(&kit.db, async |tx| tx.exec(sql, args![day(2_000), last.id]).await).await.unwrap();
    for passes in 0..10 {
        assert_eq!(rows_of(&kit, &old).await, WHOLE, "after {passes} passes");
        purge(&kit.db, &policy, day(2_000)).await;
    }
    purge(&kit.db, &policy, day(2_000)).await;
    assert_eq!(rows_of(&kit, &old).await, GONE, "day 92: ninety days, and one that the clock was ahead");
    assert_eq!(rows_of(&kit, &last).await, WHOLE, "the newest stays");
}

async fn who_lost_the_turn_deletes_nothing_more(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention::default();
    let old = closed(&kit, "old", "evacuate", day(1)).await;
    closed(&kit, "last", "evacuate", day(200)).await;
    let mut first = pass(&kit.db, &policy, day(200)).await;
    let seen = turn(&kit.db).await.unwrap().unwrap();
    let Begun::Pass(_second) = begin(&kit.db, &policy, "b", Some(&seen), day(200)).await.unwrap() else {
        panic!("it is free to take")
    };
    assert!(
        matches!(begin(&kit.db, &policy, "c", Some(&seen), day(200)).await.unwrap(), Begun::Lost),
        "seen too long ago"
    );
    assert!(matches!(begin(&kit.db, &policy, "c", None, day(200)).await.unwrap(), Begun::Lost));
    loop {
        match first.step(&kit.db, day(200)).await.unwrap() {
            Step::Looked => {}
            Step::Lost => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first.step(&kit.db, day(200)).await.unwrap(), Step::Done);
    assert_eq!(rows_of(&kit, &old).await, WHOLE);
    assert_eq!(turn(&kit.db).await.unwrap().unwrap().by, "b");
}

async fn a_pass_that_dies_after_any_step_is_finished_by_the_next(on: On) {
    let kit = kit_on(on).await;
    let policy = Retention { step_rows: 10, audit_days: 10, ..Retention::default() };
    let recoveries =
        [closed(&kit, "a", "evacuate", day(1)).await, closed(&kit, "b", "evacuate", day(1)).await];
    records(&kit, "engine:a", (0..130).map(|n| Stamp(NOW.0 + n)).chain([day(200)])).await;
    closed(&kit, "last", "evacuate", day(200)).await;
    checkpoint(&kit, day(200)).await;
    let mut steps = 0;
    loop {
        let mut pass = pass(&kit.db, &policy, day(200)).await;
        let done = loop {
            match pass.step(&kit.db, day(200)).await.unwrap() {
                Step::Deleted { rows, .. } if rows > 0 => break false,
                Step::Done => break true,
                Step::Lost => panic!("nobody else is here"),
                _ => {}
            }
        };
        assert_eq!(audit::verify(&kit.db).await.unwrap(), []);
        assert_eq!(events::gaps(&kit.db).await.unwrap(), []);
        for recovery in &recoveries {
            let rows = rows_of(&kit, recovery).await;
            assert!(rows[..3] == WHOLE[..3] || rows[..3] == GONE[..3], "half of one: {rows:?}");
        }
        if done {
            break;
        }
        steps += 1;
        assert!(steps < 200, "it does not end");
    }
    for recovery in &recoveries {
        assert_eq!(rows_of(&kit, recovery).await, GONE);
    }
    // What a cut would be too small for stays for the next.
    let left = kit.count("SELECT COUNT(*) AS n FROM audit WHERE chain = 'engine:a'").await;
    assert!(left <= super::chains::LEAST + 1, "{left} are left");
}

async fn who_waits_is_not_at_work(on: On) {
    let kit = kit_on(on).await;
    assert!(!recoveries::any_at_work(&kit.db).await.unwrap());
    kit.claimed().await;
    assert!(recoveries::any_at_work(&kit.db).await.unwrap());
    for (state, works) in
        [("needs_operator", false), ("evacuating", true), ("returning", false), ("held", false)]
    {
        write(&kit.db, async |tx| tx.exec("UPDATE recoveries SET state = ?", args![state]).await)
            .await
            .unwrap();
        assert_eq!(recoveries::any_at_work(&kit.db).await.unwrap(), works, "{state}");
    }
}

#[test]
fn figures_that_cannot_be_are_refused_by_name() {
    assert_eq!(Retention::default().check(), Ok(()));
    let bad = [
        (Retention { events_days: 1, ..Retention::default() }, "events_days"),
        (Retention { step_rows: 5_000, ..Retention::default() }, "step_rows"),
        (Retention { fenced_days: 30, ..Retention::default() }, "fenced_days"),
    ];
    for (policy, name) in bad {
        assert!(policy.check().unwrap_err().contains(name));
    }
    assert_eq!(Retention { audit_days: 0, fenced_days: 0, ..Retention::default() }.check(), Ok(()));
}
