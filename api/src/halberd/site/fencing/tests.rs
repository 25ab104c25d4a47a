use serde_json::{Value, json};

use super::*;
use crate::halberd::testing::{NOW, stored_host};

/// Some moments before now, in minutes.
fn ago_min(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(NOW.0 - minutes * 60_000_000).unwrap()
}

fn good() -> DeviceCheckView {
    DeviceCheckView {
        at: ago_min(1),
        ready: true,
        since: Some(ago_min(60)),
        reached: true,
        logged_in: true,
        identity_matches: Some(true),
        power: Some("on".into()),
        ..DeviceCheckView::default()
    }
}

fn bad(since: i64) -> DeviceCheckView {
    DeviceCheckView {
        ready: false,
        since: Some(ago_min(since)),
        error: Some("the password was refused".into()),
        logged_in: false,
        power: None,
        ..good()
    }
}

/// A host with levels of devices, each with its last check.
fn judged(levels: &[Vec<Option<DeviceCheckView>>]) -> HostReadiness {
    let device = json!({ "type": "ipmi", "address": "10.0.0.9", "username": "u", "password": "p" });
    let described: Vec<Value> =
        levels.iter().map(|level| json!({ "devices": vec![device.clone(); level.len()] })).collect();
    let view = FenceDevicesView::of_stored(&json!({ "levels": described }), |level, place| {
        levels[level][place].clone()
    });
    judge(&stored_host("cmp-1"), &view, |_, _| None, NOW)
}

fn causes(judged: &HostReadiness) -> Vec<(FencingCause, bool)> {
    judged.causes.iter().map(|cause| (cause.cause, cause.blocks)).collect()
}

#[test]
fn a_host_is_as_ready_as_its_best_level() {
    use HostFencing::{Degraded, NoDevice, NotReady, Ready, Unchecked};
    // A word is a level, a letter a device: good, old (checked long ago), ? never checked, a digit broken for so many minutes.
    let check = |device: char| match device {
        'g' => Some(good()),
        'o' => Some(DeviceCheckView { at: ago_min(11), ..good() }),
        '?' => None,
        minutes => Some(bad(minutes.to_digit(10).unwrap().into())),
    };
    let table = [
        ("", NoDevice, None),
        ("g", Ready, Some(60)),
        ("gg g", Ready, Some(60)),
        ("g 5", Degraded, Some(5)),
        ("5 g", Degraded, Some(5)),
        ("g ?", Degraded, None),
        ("g5", NotReady, Some(5)),
        ("5?", NotReady, Some(5)),
        // Not ready since the last of its levels broke, and a level since the first of its devices.
        ("97 3", NotReady, Some(3)),
        ("?", Unchecked, None),
        ("5 ?", Unchecked, None),
        ("o", Unchecked, None),
    ];
    for (words, fencing, since) in table {
        let levels: Vec<Vec<_>> =
            words.split_whitespace().map(|level| level.chars().map(check).collect()).collect();
        let judged = judged(&levels);
        assert_eq!((judged.fencing, judged.since), (fencing, since.map(ago_min)), "{words}");
    }
}

#[test]
fn the_first_obstacle_is_the_cause() {
    let broken = |change: fn(&mut DeviceCheckView)| {
        let mut check = DeviceCheckView { ready: false, error: Some("why".into()), ..good() };
        change(&mut check);
        judged(&[vec![Some(check)]])
    };
    type Change = fn(&mut DeviceCheckView);
    let table: [(Change, FencingCause); 5] = [
        (|check| (check.reached, check.logged_in, check.power) = (false, false, None), FencingCause::Reach),
        (|check| (check.logged_in, check.power) = (false, None), FencingCause::Login),
        (|check| check.identity_matches = Some(false), FencingCause::Serial),
        (|check| check.power = None, FencingCause::PowerState),
        (|_| (), FencingCause::Order),
    ];
    for (change, cause) in table {
        let judged = broken(change);
        assert_eq!(causes(&judged), [(cause, true)]);
        assert_eq!(
            (judged.causes[0].text.as_str(), judged.causes[0].device.as_deref()),
            ("why", Some("ipmi 10.0.0.9"))
        );
        let told = checks(&stored_host("cmp-1"), &judged);
        assert_eq!(
            (told[0].level, told[0].check.as_str()),
            (ReadinessLevel::Red, "fence_device_ready"),
            "{cause:?}"
        );
        assert_eq!(told[0].since, judged.since);
    }
}

#[test]
fn what_blocks_stands_first_and_the_rest_is_yellow() {
    let weak = DeviceCheckView {
        identity_matches: None,
        restore_policy: Some("always_on".into()),
        warnings: vec!["power restore policy is always-on: ..".into(), "suite 3 is weak".into()],
        ..good()
    };
    let judged = judged(&[vec![Some(weak)], vec![Some(bad(5))]]);
    assert_eq!(
        causes(&judged),
        [
            (FencingCause::Login, true),
            (FencingCause::RestorePolicy, false),
            (FencingCause::Unnamed, false),
            (FencingCause::Weakness, false),
        ],
        "the restore policy once"
    );
    let told = checks(&stored_host("cmp-1"), &judged);
    assert!(
        told[..4].iter().all(|check| check.level == ReadinessLevel::Yellow),
        "one level would do: {told:#?}"
    );
    assert_eq!((told[4].level, told[4].check.as_str()), (ReadinessLevel::Green, "host_fencing"));
    let remedies: Vec<&str> = told.iter().filter_map(|check| check.remedy.as_deref()).collect();
    assert!(
        remedies.iter().any(|remedy| remedy.contains("`halberd fence test cmp-1 --really-power-off`")),
        "{remedies:?}"
    );
}

#[test]
fn a_drill_stands_in_for_a_name_and_plain_http_is_told() {
    let device = json!({ "type": "redfish", "address": "http://bmc", "username": "u", "password": "p" });
    let check = DeviceCheckView { identity_matches: None, ..good() };
    let view = FenceDevicesView::of_stored(&json!({ "levels": [{ "devices": [device] }] }), |_, _| {
        Some(check.clone())
    });
    let of = |view: &FenceDevicesView, owner: Option<&str>| {
        judge(&stored_host("cmp-1"), view, |_, _| owner.map(str::to_owned), NOW)
    };
    assert_eq!(causes(&of(&view, None)), [(FencingCause::Unnamed, false), (FencingCause::Transport, false)]);
    let drilled = view.with_drills(|name| (name == "redfish http://bmc").then(|| ago_min(9)));
    assert_eq!(causes(&of(&drilled, None)), [(FencingCause::Transport, false)]);
    assert_eq!(of(&drilled, None).last_drill_at, Some(ago_min(9)));
}

#[test]
fn a_machine_that_another_service_switches_on_is_not_ready_for_that_reason() {
    let of = |check: DeviceCheckView| {
        let device = json!({ "type": "redfish", "address": "https://bmc", "username": "u", "password": "p" });
        let view = FenceDevicesView::of_stored(&json!({ "levels": [{ "devices": [device] }] }), |_, _| {
            Some(check.clone())
        });
        judge(&stored_host("cmp-1"), &view, |_, _| Some("node-1".to_owned()), NOW)
    };
    let owned = DeviceCheckView { ready: false, error: Some("Ironic owns node-1".into()), ..good() };
    let judged = of(owned);
    assert_eq!(
        (judged.fencing, causes(&judged)),
        (HostFencing::NotReady, vec![(FencingCause::Ironic, true)])
    );
    assert_eq!(judged.causes[0].text, "Ironic owns node-1");
    assert_eq!(causes(&of(bad(5))), [(FencingCause::Login, true)], "what stands in the way first");
}

#[test]
fn a_node_on_maintenance_owns_nothing() {
    let of = |maintenance: Value| {
        owner(&json!({ "owner": { "service": "ironic", "node": "n", "maintenance": maintenance } }))
    };
    assert_eq!(owner(&json!({})), None);
    assert_eq!(of(json!(true)), None);
    assert_eq!(of(json!(false)).as_deref(), Some("n"));
}
