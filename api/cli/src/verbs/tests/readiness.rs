//! `halberd readiness` and `halberd fence status`: what a stranger sees of a site.

use halberd_types::halberd::readiness::{
    FencingCause, HostCause, HostFencing, HostReadiness, Readiness, ReadinessCheck, ReadinessLevel,
};
use halberd_types::halberd::{Subject, SubjectKind};

use super::*;

fn check(
    host: &str,
    name: &str,
    level: ReadinessLevel,
    reason: &str,
    remedy: Option<&str>,
) -> ReadinessCheck {
    let subject = Subject { kind: SubjectKind::Host, id: id(0x101).to_string(), name: host.into() };
    ReadinessCheck {
        check: name.into(),
        subject: Some(subject).filter(|subject| !subject.name.is_empty()),
        level,
        reason: reason.into(),
        remedy: remedy.map(str::to_owned),
        since: None,
    }
}

fn cause(cause: FencingCause, blocks: bool, text: &str) -> HostCause {
    let device = (cause != FencingCause::NoDevice).then(|| "redfish https://10.0.0.9".to_owned());
    let place = device.is_some().then_some(0);
    HostCause { cause, level: place, position: place, device, blocks, text: text.into() }
}

fn host(number: u128, fencing: HostFencing, since: Option<i64>, causes: Vec<HostCause>) -> HostReadiness {
    HostReadiness {
        host_id: id(0x100 + number),
        host: format!("cmp-{number:02}"),
        fencing,
        since: since.map(at),
        causes,
        last_drill_at: (fencing == HostFencing::Ready).then(|| at(-86_400 * 30)),
    }
}

fn site() -> Readiness {
    use ReadinessLevel::{Green, Red, Yellow};
    let refused = "the BMC refused the password: set the right one";
    let mut checks = vec![
        check(
            "",
            "openstack_answers",
            Red,
            "engine ctl-1: the password was refused",
            Some("Mend the login."),
        ),
        check(
            "cmp-03",
            "fence_device_ready",
            Red,
            &format!("level 0, redfish https://10.0.0.9: {refused}"),
            Some("Set the right account; then it is checked again. `halberd fence devices set cmp-03`"),
        ),
    ];
    for n in 1..=5 {
        let name = format!("cmp-{n:02}");
        let remedy = format!("Set it: `halberd host attributes {name} --serial ..`");
        checks.push(check(
            &name,
            "serial_on_file",
            Yellow,
            "no serial is on file, so nobody can confirm by it that the machine is off",
            Some(&remedy),
        ));
    }
    checks.push(check("cmp-01", "agent_alive", Green, "its agent is heard", None));
    Readiness::of(checks).with_hosts(vec![
        host(1, HostFencing::Ready, Some(0), vec![]),
        host(
            2,
            HostFencing::NoDevice,
            None,
            vec![cause(
                FencingCause::NoDevice,
                true,
                "no fence device: a recovery of it stops and asks a person",
            )],
        ),
        host(
            3,
            HostFencing::NotReady,
            Some(60),
            vec![
                cause(FencingCause::Login, true, refused),
                cause(
                    FencingCause::RestorePolicy,
                    false,
                    "the machine switches itself on when its supply returns",
                ),
            ],
        ),
        host(4, HostFencing::Degraded, None, vec![cause(FencingCause::Reach, true, "no answer within 5 s")]),
    ])
}

#[tokio::test]
async fn the_worst_stands_first_and_what_many_share_once() {
    let service = Service::start().await;
    let readiness = site();
    service.on("GET /halberd/v1/readiness", 200, &readiness);
    let (out, end) = service.run(&["readiness"]).await;
    fits(&out);
    let expected = include_str!("readiness.txt");
    assert_eq!(out, expected, "{out}");
    assert_eq!(end, Err(Failure::refused("not ready: 2 checks are red")));
    let (out, end) = service.run(&["readiness", "-f", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!(readiness), "the API's own");
    assert!(end.is_err());
    let (all, _) = service.run(&["readiness", "--all"]).await;
    assert!(all.contains("agent_alive") && all.contains("cmp-01  ready"), "{all}");
    let (values, _) = service.run(&["readiness", "-f", "value", "-c", "check", "-c", "subject"]).await;
    assert_eq!(values.lines().count(), 7, "for a script each check is a line: {values}");
}

#[tokio::test]
async fn a_site_in_order_says_so_in_a_line() {
    let service = Service::start().await;
    let green = Readiness::of(vec![]).with_hosts(vec![host(1, HostFencing::Ready, Some(0), vec![])]);
    service.on("GET /halberd/v1/readiness", 200, green);
    assert_eq!(service.prints(&["readiness"]).await, "readiness: green; fencing: the one host is ready\n");
    // An older service tells no hosts.
    let service = Service::start().await;
    service.on("GET /halberd/v1/readiness", 200, json!({ "level": "yellow", "checks": [] }));
    assert_eq!(service.prints(&["readiness"]).await, "readiness: yellow\n");
}

#[tokio::test]
async fn fence_status_is_one_line_a_host() {
    let service = Service::with_hosts().await;
    service.on("GET /halberd/v1/readiness", 200, site());
    let out = service.prints(&["fence", "status"]).await;
    fits(&out);
    let order: Vec<&str> = out
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.starts_with("cmp"))
        .collect();
    assert_eq!(order, ["cmp-03", "cmp-02", "cmp-04", "cmp-01"], "{out}");
    assert!(
        out.contains("login (level 0, redfish https://10.0.0.9)") && !out.contains("supply"),
        "what blocks: {out}"
    );
    assert!(out.contains("2026-10-22") && out.contains("never"), "{out}");

    let none = json!({ "levels": [], "warnings": [] });
    service.on(&format!("GET /halberd/v1/hosts/{}/fence-devices", id(0x102)), 200, none);
    let one = service.prints(&["fence", "status", "cmp-02"]).await;
    assert!(one.lines().count() == 2 && one.contains("no device"), "{one}");
    let json = service.prints_json(&["fence", "status", "cmp-02"]).await;
    assert_eq!((&json[0]["host"], &json[0]["fence_devices"]["levels"]), (&json!("cmp-02"), &json!([])));
    let unknown = service.fails(&["fence", "status", "cmp-2"]).await;
    assert!(unknown.remedy.unwrap().contains("cmp-02"));
}
