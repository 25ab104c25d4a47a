//! Lists and edits as v1 does them.

use halberd_core::segment::RecoveryMethod;

use super::*;
use crate::hosts::{self, HostEdit, HostFilter};
use crate::recoveries::{self, RecoveryFilter};
use crate::segments::{self, SegmentFilter};
use crate::vmoves::{self, VmoveFilter};
use crate::{Direction, Error, Marker, Page};

everywhere!(
    the_default_order_is_newest_first_and_the_id_breaks_ties,
    pages_walk_every_row_once_in_any_order_by_either_marker,
    a_bad_sort_key_or_marker_is_named,
    names_are_unique_among_the_living,
    hostile_strings_are_only_values,
    a_host_keeps_what_an_edit_does_not_name,
    a_boot_is_numbered_by_compare_and_swap,
    moves_and_recoveries_are_listed_by_report,
    a_segments_policy_is_replaced,
);

async fn named(kit: &Kit, page: &Page) -> Vec<String> {
    let rows = segments::list(&kit.db, &SegmentFilter::default(), page).await.unwrap();
    rows.into_iter().map(|row| row.value.name).collect()
}

fn page(limit: u32, marker: Option<Marker>, sort: &[(&str, Direction)]) -> Page {
    Page { limit, marker, sort: sort.iter().map(|(key, direction)| (key.to_string(), *direction)).collect() }
}

/// Five segments beside the kit's, two created at the same moment, some with descriptions.
async fn six(kit: &Kit) {
    for (name, at, description) in
        [("b", 1, Some("x")), ("c", 1, None), ("d", 2, Some("a")), ("e", 3, None), ("f", 3, Some("x"))]
    {
        let segment = Segment { description: description.map(str::to_owned), ..new_segment(name) };
        write(&kit.db, async |tx| segments::create(tx, &segment, later(at)).await).await.unwrap();
    }
    kit.tamper("UPDATE segments SET name = 'a' WHERE name = 'rack-a'", vec![]).await;
}

async fn the_default_order_is_newest_first_and_the_id_breaks_ties(on: On) {
    let kit = kit_on(on).await;
    six(&kit).await;
    assert_eq!(named(&kit, &Page::default()).await, ["f", "e", "d", "c", "b", "a"]);
    assert!(named(&kit, &page(0, None, &[])).await.is_empty());
}

async fn pages_walk_every_row_once_in_any_order_by_either_marker(on: On) {
    let kit = kit_on(on).await;
    six(&kit).await;
    let orders: [&[(&str, Direction)]; 5] = [
        &[],
        &[("name", Direction::Asc)],
        &[("description", Direction::Asc), ("name", Direction::Desc)],
        &[("created_at", Direction::Asc)],
        &[("enabled", Direction::Desc), ("description", Direction::Desc)],
    ];
    for sort in orders {
        let whole = named(&kit, &page(100, None, sort)).await;
        for by_id in [false, true] {
            let (mut walked, mut marker) = (Vec::new(), None);
            loop {
                let rows =
                    segments::list(&kit.db, &SegmentFilter::default(), &page(2, marker, sort)).await.unwrap();
                let Some(last) = rows.last() else { break };
                marker = Some(if by_id { Marker::Id(last.id.0) } else { Marker::Num(last.num) });
                walked.extend(rows.into_iter().map(|row| row.value.name));
                assert!(walked.len() <= whole.len(), "{walked:?}");
            }
            assert_eq!(walked, whole, "{sort:?}");
        }
    }
}

async fn a_bad_sort_key_or_marker_is_named(on: On) {
    let kit = kit_on(on).await;
    for bad in [page(1, None, &[("hosts", Direction::Asc)]), page(1, None, &[("name, id", Direction::Asc)])] {
        let error = segments::list(&kit.db, &SegmentFilter::default(), &bad).await.unwrap_err();
        assert!(matches!(&error, Error::BadList(text) if text.contains("sort_key")), "{error}");
    }
    let lost = page(1, Some(Marker::Num(99)), &[]);
    assert!(matches!(
        segments::list(&kit.db, &SegmentFilter::default(), &lost).await,
        Err(Error::BadList(_))
    ));
}

async fn names_are_unique_among_the_living(on: On) {
    let kit = kit_on(on).await;
    let create = async |name: &str| {
        let segment = new_segment(name);
        write(&kit.db, async |tx| segments::create(tx, &segment, NOW).await).await
    };
    assert!(matches!(create("rack-a").await, Err(Error::Exists { what: "segment", .. })));
    let other = create("rack-b").await.unwrap();
    let renamed = Segment { name: "rack-a".into(), ..other.value.clone() };
    let taken = write(&kit.db, async |tx| segments::update(tx, &renamed, NOW).await).await;
    assert!(matches!(taken, Err(Error::Exists { .. })));
    // Host names are unique over all segments.
    let host = new_host(other.id, "cmp-01");
    let taken = write(&kit.db, async |tx| hosts::create(tx, &host, NOW).await).await;
    assert!(matches!(taken, Err(Error::Exists { what: "host", .. })));
    for _ in 0..2 {
        let id = create("short-lived").await.unwrap().id;
        write(&kit.db, async |tx| segments::delete(tx, id, later(1)).await).await.unwrap();
        assert!(matches!(segments::get(&kit.db, id).await, Err(Error::NotFound { .. })));
    }
    write(&kit.db, async |tx| segments::delete(tx, kit.segment, later(1)).await).await.unwrap();
    write(&kit.db, async |tx| hosts::create(tx, &host, NOW).await)
        .await
        .expect("free again with its segment");
}

async fn hostile_strings_are_only_values(on: On) {
    let kit = kit_on(on).await;
    for text in ["'; DROP TABLE hosts; --", "\"", "?", "$1", "\u{1F980}", "a\0b", "%_\\"] {
        let segment = Segment {
            name: text.into(),
            description: Some(text.into()),
            service_type: text.into(),
            recovery_method: RecoveryMethod::RhPriority,
            ..new_segment("")
        };
        let created = write(&kit.db, async |tx| segments::create(tx, &segment, NOW).await).await;
        if on == On::Postgres && text.contains('\0') {
            // PostgreSQL stores no NUL; it says so, and nothing is cut off.
            assert!(
                matches!(&created, Err(error @ Error::Value(_)) if !error.is_unavailable()),
                "{created:?}"
            );
            continue;
        }
        let stored = created.unwrap();
        assert_eq!(stored.value, segment);
        let filter = SegmentFilter { service_type: Some(text.into()), ..SegmentFilter::default() };
        assert_eq!(segments::list(&kit.db, &filter, &Page::default()).await.unwrap(), [stored]);
        let filter = SegmentFilter { recovery_method: Some(text.into()), ..SegmentFilter::default() };
        assert!(segments::list(&kit.db, &filter, &Page::default()).await.unwrap().is_empty());
    }
    assert_eq!(kit.count("SELECT COUNT(*) FROM hosts").await, 1);
}

async fn a_host_keeps_what_an_edit_does_not_name(on: On) {
    let kit = kit_on(on).await;
    let edit = async |edit: HostEdit| {
        write(&kit.db, async |tx| hosts::edit(tx, kit.host, &edit, later(1)).await).await.unwrap()
    };
    let on = edit(HostEdit {
        on_maintenance: Some(true),
        serial: Some(Some("SN1".into())),
        ..HostEdit::default()
    })
    .await;
    assert!(on.maintenance.operator && !on.maintenance.recovery);
    assert_eq!((on.serial.as_deref(), on.updated_at), (Some("SN1"), Some(later(1))));
    kit.tamper("UPDATE hosts SET maintenance_recovery = 1, reserved_by = 'x'", vec![]).await;
    kit.tamper("UPDATE hosts SET reserved_by = NULL", vec![]).await;
    let filter =
        |on| HostFilter { segment: Some(kit.segment), on_maintenance: Some(on), ..HostFilter::default() };
    assert_eq!(hosts::list(&kit.db, &filter(true), &Page::default()).await.unwrap().len(), 1);
    let off =
        edit(HostEdit { on_maintenance: Some(false), kind: Some("GPU".into()), ..HostEdit::default() }).await;
    assert!(!off.maintenance.any(), "a v1 PUT clears all");
    assert_eq!(
        (off.kind.as_str(), off.serial.as_deref(), off.control_attributes.as_str()),
        ("GPU", Some("SN1"), "SSH")
    );
    assert!(hosts::list(&kit.db, &filter(true), &Page::default()).await.unwrap().is_empty());
    let sorted = page(10, None, &[("on_maintenance", Direction::Asc), ("type", Direction::Asc)]);
    assert_eq!(hosts::list(&kit.db, &filter(false), &sorted).await.unwrap()[0].value, off.value);
}

async fn a_boot_is_numbered_by_compare_and_swap(on: On) {
    let kit = kit_on(on).await;
    let boot = Some(halberd_core::id::BootId(Uuid::new_v4()));
    let set = async |version, number| {
        write(&kit.db, async |tx| hosts::set_boot(tx, kit.host, version, number, boot, true, NOW).await)
            .await
            .unwrap()
    };
    assert!(set(1, 2).await);
    assert!(!set(1, 3).await, "the row has moved on");
    let host = hosts::get(&kit.db, kit.host).await.unwrap();
    assert_eq!((host.boot_number, host.boot, host.ever_agent, host.version), (2, boot, true, 2));
    write(&kit.db, async |tx| hosts::keep_identity(tx, kit.host, Some("first"), None).await).await.unwrap();
    write(&kit.db, async |tx| hosts::keep_identity(tx, kit.host, Some("second"), None).await).await.unwrap();
    assert_eq!(hosts::by_name(&kit.db, "cmp-01").await.unwrap().unwrap().serial.as_deref(), Some("first"));
    assert!(hosts::by_name(&kit.db, "CMP-01").await.unwrap().is_none(), "case matters");
}

async fn moves_and_recoveries_are_listed_by_report(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let mut commit = commit_of(&recovery);
    commit.vmoves = (0..3).map(|n| vmove(&recovery, n)).collect();
    crate::commit::apply(&kit.db, &commit, &[], NOW).await.unwrap();
    let list = async |status: Option<&str>, page: &Page| {
        let filter = VmoveFilter { status: status.map(str::to_owned), kind: Some("evacuation".into()) };
        vmoves::list(&kit.db, recovery.notification, &filter, page).await.unwrap()
    };
    assert_eq!(list(Some("pending"), &Page::default()).await.len(), 3);
    assert!(list(Some("nonsense"), &Page::default()).await.is_empty());
    let first = list(None, &page(1, None, &[("instance_name", Direction::Asc)])).await;
    assert_eq!(first[0].instance_name, "guest-0");
    assert_eq!(vmoves::get(&kit.db, first[0].id).await.unwrap(), first[0]);
    let filter =
        RecoveryFilter { notification: Some(recovery.notification), open: Some(true), ..Default::default() };
    let found = recoveries::list(&kit.db, &filter, &Page::default()).await.unwrap();
    assert_eq!((found.len(), found[0].1.id), (1, recovery.id));
    let none = RecoveryFilter { open: Some(false), ..RecoveryFilter::default() };
    assert!(recoveries::list(&kit.db, &none, &Page::default()).await.unwrap().is_empty());
    assert_eq!(recoveries::count_open(&kit.db).await.unwrap(), [("host".to_owned(), 1)]);
}

async fn a_segments_policy_is_replaced(on: On) {
    let kit = kit_on(on).await;
    assert_eq!(segments::policy(&kit.db, kit.segment).await.unwrap(), json!({}));
    for value in [json!({"profile": "fast"}), json!({"unfenced": "trust-reporter"})] {
        write(&kit.db, async |tx| segments::set_policy(tx, kit.segment, &value, NOW).await).await.unwrap();
        assert_eq!(segments::policy(&kit.db, kit.segment).await.unwrap(), value);
        assert_eq!(segments::policies(&kit.db).await.unwrap(), [(kit.segment, value)]);
    }
    let nobody = SegmentId(Uuid::new_v4());
    let refused = write(&kit.db, async |tx| segments::set_policy(tx, nobody, &json!({}), NOW).await).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
}
