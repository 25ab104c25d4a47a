//! Against a service with the faults of real ones.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Redfish, model};
use crate::error::FenceError;
use crate::power::{Answer, Expected, PowerDevice, PowerSession, PowerState};
use crate::{FenceDevices, Limits};

mod checks;
pub(crate) mod fake;
pub(crate) mod fuzz;
use fake::{RESET, SYSTEM, Shared, canned, start};

fn redfish(url: &str, extra: Value, expected: &Expected) -> Redfish {
    within(url, extra, expected, Duration::from_secs(20))
}

fn within(url: &str, extra: Value, expected: &Expected, request: Duration) -> Redfish {
    let limits = Limits {
        request,
        connect: Duration::from_secs(20),
        close: Duration::from_secs(20),
        ..Limits::default()
    };
    let mut device = json!({"type": "redfish", "address": url, "username": "admin", "password": "secret"});
    device.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let devices = FenceDevices::parse(&json!({"levels": [{"devices": [device]}]}).to_string()).unwrap();
    Redfish::new(&devices.levels[0].devices[0], expected, &limits).unwrap()
}

async fn session(url: &str) -> Box<dyn PowerSession> {
    let mut session = redfish(url, json!({}), &Expected::default()).open().await.unwrap();
    session.identify().await.unwrap();
    session
}

fn can(shared: &Shared, answer: fake::Canned) {
    shared.lock().unwrap().canned.push_back(answer);
}

#[tokio::test]
async fn a_session_opens_orders_reads_and_is_deleted() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    assert_eq!(session.token(), Some(format!("{url}/redfish/v1/SessionService/Sessions/1")));
    assert_eq!(session.read().await, Ok(PowerState::On));
    assert_eq!(session.off().await, Ok(Answer::Accepted));
    assert_eq!(session.read().await, Ok(PowerState::Off));
    assert_eq!(session.on().await, Ok(Answer::Accepted));
    assert_eq!(session.read().await, Ok(PowerState::On));
    session.close().await;
    let state = shared.lock().unwrap();
    assert_eq!(state.resets, ["ForceOff", "On"]);
    assert!(state.sessions.is_empty());
    assert!(state.matches.iter().all(Option::is_none), "no If-Match unless asked for");
}

#[tokio::test]
async fn basic_only_where_there_is_no_session_service() {
    let (url, shared) = start().await;
    shared.lock().unwrap().basic = true;
    let mut basic = session(&url).await;
    assert_eq!((basic.token(), basic.off().await), (None, Ok(Answer::Accepted)));
    assert!(basic.inspect().await.unwrap().warnings.iter().any(|w| w.contains("cannot be revoked")));
    // A login that fails for whatever reason is no reason for Basic.
    shared.lock().unwrap().basic = false;
    for (status, is) in [(401, "credentials"), (503, "busy"), (500, "busy"), (403, "privilege")] {
        can(&shared, canned("POST /redfish/v1/SessionService", status, ""));
        let error = redfish(&url, json!({}), &Expected::default()).open().await.err().unwrap();
        assert!(error.to_string().contains(is), "{status}: {error}");
    }
    let sent = shared.lock().unwrap().requests.clone();
    assert!(!sent[sent.len() - 8..].iter().any(|r| r.contains("Systems")), "{sent:?}");
}

#[tokio::test]
async fn only_the_literal_off_is_off() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    shared.lock().unwrap().power = "Off".into();
    for says in [
        json!("PoweringOff"),
        json!("PoweringOn"),
        json!("Paused"),
        json!("off"),
        json!("Off "),
        json!(null),
        json!("absent"),
        json!(0),
        json!({}),
    ] {
        shared.lock().unwrap().says = Some(says.clone());
        let state = session.read().await;
        assert!(matches!(state, Ok(PowerState::Other(_))), "{says}: {state:?}");
    }
    shared.lock().unwrap().says = None;
    assert_eq!(session.read().await, Ok(PowerState::Off));
}

#[tokio::test]
async fn already_off_is_believed_only_when_it_reads_off() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    let said = |id: &str| json!({"error": {"@Message.ExtendedInfo": [{"MessageId": id, "Message": "Host is powered off"}]}});
    for (status, id) in
        [(409, "IDRAC.2.8.PSU501"), (409, "Whatever"), (400, "iLO.2.14.InvalidOperationForSystemState")]
    {
        shared.lock().unwrap().power = "Off".into();
        can(&shared, canned("POST /redfish/v1/Systems", status, said(id)));
        assert_eq!(session.off().await, Ok(Answer::AlreadySo), "{status} {id}");
        shared.lock().unwrap().power = "On".into();
        can(&shared, canned("POST /redfish/v1/Systems", status, said(id)));
        assert!(matches!(session.off().await, Err(FenceError::Busy { .. })), "{status} {id}");
    }
    can(&shared, canned("POST /redfish/v1/Systems", 400, said("Base.1.0.MalformedJSON")));
    assert!(matches!(session.off().await, Err(FenceError::Refused { .. })));
    can(&shared, canned("POST /redfish/v1/Systems", 400, said("IDRAC.2.8.SYS518")));
    assert!(matches!(session.off().await, Err(FenceError::Busy { .. })));
}

#[tokio::test]
async fn statuses_keep_their_meaning() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    can(&shared, canned("POST /redfish/v1/Systems", 503, "").header("retry-after", 7));
    let error = session.off().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error}");
    for (status, is) in [
        (429, "busy"),
        (500, "busy"),
        (502, "busy"),
        (504, "busy"),
        (401, "credentials"),
        (403, "privilege"),
        (404, "not support"),
        (405, "not support"),
        (501, "not support"),
        (418, "refused"),
    ] {
        can(&shared, canned("POST /redfish/v1/Systems", status, ""));
        let error = session.off().await.unwrap_err().to_string();
        assert!(error.contains(is), "{status}: {error}");
    }
    assert!(shared.lock().unwrap().resets.is_empty());
}

#[tokio::test]
async fn preconditions_are_met_with_the_etag_as_given() {
    let (url, shared) = start().await;
    let mut first = session(&url).await;
    shared.lock().unwrap().etag = Some("W/\"abc\"".into());
    assert_eq!(first.off().await, Ok(Answer::Accepted));
    assert_eq!(shared.lock().unwrap().matches, [None, Some("W/\"abc\"".to_owned())]);
    // Refuses without, refuses with: a last time without.
    shared.lock().unwrap().etag = None;
    let mut second = session(&url).await;
    shared.lock().unwrap().matches.clear();
    let mut system = json!({"SerialNumber": "S1", "@odata.etag": "e1"});
    system["Actions"]["#ComputerSystem.Reset"]["target"] = RESET.into();
    can(&shared, canned("POST /redfish/v1/Systems", 412, ""));
    can(&shared, canned("GET /redfish/v1/Systems/1", 200, system));
    can(&shared, canned("POST /redfish/v1/Systems", 412, ""));
    assert_eq!(second.off().await, Ok(Answer::Accepted));
    assert_eq!(shared.lock().unwrap().matches, [None]);
    assert!(shared.lock().unwrap().canned.is_empty());
}

#[test]
fn rubbish_names_no_machine() {
    let serial = |text: &str| model::identity(&json!({"SerialNumber": text})).and_then(|i| i.serial);
    assert_eq!(serial(&"A".repeat(128)).map(|s| s.len()), Some(128));
    for rubbish in ["A".repeat(129), "A\n1".to_owned(), "A\u{1b}[2J".to_owned(), " ".to_owned()] {
        assert_eq!(serial(&rubbish), None, "{rubbish:.20?}");
    }
}

#[tokio::test]
async fn an_etag_that_cannot_be_sent_is_none() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    can(&shared, canned("POST /redfish/v1/Systems", 428, ""));
    can(
        &shared,
        canned("GET /redfish/v1/Systems/1", 200, json!({"SerialNumber": "S1", "@odata.etag": "a\nb"})),
    );
    let error = session.off().await.unwrap_err();
    assert!(matches!(error, FenceError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_task_proves_nothing_but_its_failure_is_told() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    shared.lock().unwrap().task = Some(json!({"TaskState": "Running"}));
    shared.lock().unwrap().ack_no_off = true;
    assert_eq!(session.off().await, Ok(Answer::Accepted));
    assert_eq!((session.read().await, session.note()), (Ok(PowerState::On), None));
    shared.lock().unwrap().task = Some(json!({"TaskState": "Exception"}));
    assert_eq!(session.read().await, Ok(PowerState::On));
    assert_eq!(session.note().as_deref(), Some("the reset's task ended Exception"));
    session.off().await.unwrap();
    can(&shared, canned("GET /task", 500, json!({"error": {"code": "X.1.0", "message": "PSU 2 is absent"}})));
    assert_eq!(session.read().await, Ok(PowerState::On));
    let why = "the reset's task ended with status 500: X.1.0 / PSU 2 is absent";
    assert_eq!(session.note().as_deref(), Some(why));
    // Completed, and still on: on it is.
    shared.lock().unwrap().task = Some(json!({"TaskState": "Completed"}));
    session.off().await.unwrap();
    assert_eq!(session.read().await, Ok(PowerState::On));
}

#[tokio::test]
async fn the_target_and_its_values_come_from_the_resource() {
    let (url, shared) = start().await;
    shared.lock().unwrap().target = Some("/oem/reset".into());
    session(&url).await.off().await.unwrap();
    assert!(shared.lock().unwrap().requests.contains(&"POST /oem/reset".to_owned()));
    for action_info in [false, true] {
        {
            let mut state = shared.lock().unwrap();
            state.allowable = Some(vec!["GracefulShutdown".into(), "PushPowerButton".into()]);
            (state.action_info, state.resets) = (action_info, vec![]);
        }
        let mut session = session(&url).await;
        assert!(matches!(session.off().await, Err(FenceError::NotOffered { .. })));
        assert_eq!(session.inspect().await.unwrap().faults.len(), 1);
        assert!(shared.lock().unwrap().resets.is_empty());
    }
    // Nowhere told: tried.
    shared.lock().unwrap().allowable = None;
    shared.lock().unwrap().action_info = false;
    let mut session = session(&url).await;
    assert_eq!(session.off().await, Ok(Answer::Accepted));
    assert!(session.inspect().await.unwrap().faults.is_empty());
}

#[tokio::test]
async fn nothing_leads_away_from_the_origin() {
    let (other, foreign) = start().await;
    let (url, shared) = start().await;
    let open = || async { redfish(&url, json!({}), &Expected::default()).open().await };
    fn malformed<T>(result: Result<T, FenceError>) -> bool {
        matches!(result.err(), Some(FenceError::Malformed { .. }))
    }
    // A link, a redirect, a session's URI, an action's target.
    can(
        &shared,
        canned("GET /redfish/v1", 200, json!({"Links": {"Sessions": {"@odata.id": format!("{other}/s")}}})),
    );
    assert!(malformed(open().await));
    can(
        &shared,
        canned("GET /redfish/v1", 200, json!({"Links": {"Sessions": {"@odata.id": "//evil.example/s"}}})),
    );
    assert!(malformed(open().await));
    can(&shared, canned("GET /redfish/v1", 308, "").header("location", &other));
    assert!(malformed(open().await));
    can(
        &shared,
        canned("POST /redfish/v1/SessionService", 201, "")
            .header("location", format!("{other}/s"))
            .header("x-auth-token", "t"),
    );
    assert!(malformed(open().await));
    shared.lock().unwrap().target = Some(format!("{other}{RESET}"));
    let elsewhere = session(&url).await.off().await;
    assert!(matches!(&elsewhere, Err(FenceError::NotOffered { .. })), "{elsewhere:?}");
    shared.lock().unwrap().target = None;
    // An order that was redirected was not carried out, except that a 303 says nothing of that.
    for (status, refused) in [(301, true), (302, true), (307, true), (308, true), (303, false)] {
        can(
            &shared,
            canned("POST /redfish/v1/Systems", status, "").header("location", format!("{other}{RESET}")),
        );
        let error = session(&url).await.off().await.unwrap_err();
        assert_eq!(matches!(&error, FenceError::Refused { .. }), refused, "{status}: {error}");
        assert_eq!(error.is_unknown(), !refused, "{status}: {error}");
    }
    // What was refused was sent, whatever is offered after that.
    can(&shared, canned("POST /redfish/v1/Systems", 404, ""));
    let mut moved = session(&url).await;
    shared.lock().unwrap().target = Some(format!("{other}{RESET}"));
    let error = moved.off().await.unwrap_err();
    assert!(matches!(&error, FenceError::Unsupported { .. }), "{error}");
    shared.lock().unwrap().target = None;
    assert!(foreign.lock().unwrap().requests.is_empty());
    // Of the same origin they are followed.
    can(&shared, canned("GET /redfish/v1/Systems/1", 307, "").header("location", format!("{SYSTEM}/")));
    can(&shared, canned("POST /redfish/v1/Systems", 307, "").header("location", RESET));
    assert_eq!(session(&url).await.off().await, Ok(Answer::Accepted));
}

#[tokio::test]
async fn bodies_are_bounded_and_rubbish_is_named() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    let huge = format!("{{\"x\": \"{}\"}}", "x".repeat(10 << 20));
    for body in
        [huge.as_str(), "<html><body>Login</body></html>", "", "[]", "{\"PowerState\": \"Off\"", "null"]
    {
        can(&shared, canned("GET /redfish/v1/Systems/1", 200, body));
        let state = session.read().await;
        assert!(matches!(state, Err(FenceError::Malformed { .. })), "{:.20}: {state:?}", body);
    }
    assert_eq!(session.read().await, Ok(PowerState::On));
}

#[tokio::test]
async fn silence_and_refusal_are_told_apart() {
    let (url, shared) = start().await;
    let hasty = within(&url, json!({}), &Expected::default(), Duration::from_millis(700));
    let mut session = hasty.open().await.unwrap();
    session.identify().await.unwrap();
    shared.lock().unwrap().drop_reset = true;
    let error = session.off().await.unwrap_err();
    assert!(matches!(error, FenceError::Silent { .. }), "{error}");
    assert_eq!(session.read().await, Ok(PowerState::Off), "it was carried out");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error =
        redfish(&format!("http://{free}"), json!({}), &Expected::default()).open().await.err().unwrap();
    assert!(matches!(error, FenceError::Unreachable { .. }), "{error}");
    // TLS towards a plain port.
    let tls = json!({"tls": {"insecure": true}});
    let error =
        redfish(&url.replace("http:", "https:"), tls, &Expected::default()).open().await.err().unwrap();
    assert!(matches!(error, FenceError::Tls { .. } | FenceError::Unreachable { .. }), "{error}");
    // A hung BMC: its kernel takes the connection, and nothing comes.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let device = json!({"type": "redfish", "address": format!("https://{}", listener.local_addr().unwrap()),
        "username": "admin", "password": "secret"});
    let devices = FenceDevices::parse(&json!({"levels": [{"devices": [device]}]}).to_string()).unwrap();
    let connect = Duration::from_millis(50);
    let limits = Limits { connect, ..Limits::default() };
    let hung = Redfish::new(&devices.levels[0].devices[0], &Expected::default(), &limits).unwrap();
    let error = hung.open().await.err().unwrap();
    assert!(matches!(error, FenceError::Silent { after, .. } if after == connect), "{error}");
}

#[tokio::test]
async fn one_of_several_systems_is_chosen_or_none() {
    let (url, shared) = start().await;
    shared.lock().unwrap().members = vec!["2".into(), "1".into()];
    let who = |extra: Value, serial: Option<&str>| {
        let expected = Expected { serial: serial.map(str::to_owned), uuid: None };
        let device = redfish(&url, extra, &expected);
        async move { device.open().await.unwrap().identify().await.map(|i| i.unwrap().serial.unwrap()) }
    };
    assert!(matches!(who(json!({}), None).await, Err(FenceError::Config { .. })));
    assert_eq!(who(json!({}), Some("S1")).await.unwrap(), "S1");
    assert_eq!(who(json!({}), Some("S2")).await.unwrap(), "S2");
    assert!(matches!(who(json!({}), Some("S3")).await, Err(FenceError::WrongMachine { .. })));
    assert_eq!(who(json!({"system": "2"}), None).await.unwrap(), "S2");
    assert_eq!(who(json!({"system": SYSTEM}), None).await.unwrap(), "S1");
    assert!(matches!(who(json!({"system": "7"}), None).await, Err(FenceError::Config { .. })));
    shared.lock().unwrap().members.clear();
    assert!(matches!(who(json!({}), None).await, Err(FenceError::Unsupported { .. })));
}

#[tokio::test]
async fn a_machine_that_changes_under_a_session_is_noticed() {
    let (url, shared) = start().await;
    let mut session = session(&url).await;
    shared.lock().unwrap().serial = "S9".into();
    assert!(matches!(session.read().await, Err(FenceError::WrongMachine { .. })));
}

#[tokio::test]
async fn recorded_and_left_over_sessions_end() {
    let (url, shared) = start().await;
    let old = session(&url).await;
    let (token, device) = (old.token().unwrap(), redfish(&url, json!({}), &Expected::default()));
    std::mem::forget(old);
    assert!(device.owns(&token) && !device.owns("http://127.0.0.1:1/x") && !device.owns("/x"));
    device.revoke(&token).await.unwrap();
    assert!(shared.lock().unwrap().sessions.is_empty());
    device.revoke(&token).await.unwrap();
    // Others of the account: only where the device says that it is ours alone.
    std::mem::forget(session(&url).await);
    redfish(&url, json!({}), &Expected::default()).open().await.unwrap().close().await;
    assert_eq!(shared.lock().unwrap().sessions.len(), 1);
    let mut ours =
        redfish(&url, json!({"account_exclusive": true}), &Expected::default()).open().await.unwrap();
    ours.take_over().await;
    assert_eq!(shared.lock().unwrap().sessions.len(), 1, "a look alone would have left both");
    assert_eq!(ours.off().await, Ok(Answer::Accepted), "our own is spared");
    ours.close().await;
    assert!(shared.lock().unwrap().sessions.is_empty());
}

#[test]
fn dells_service_tag_is_its_serial() {
    let dell = json!({"Manufacturer": "Dell Inc.", "SKU": "7QX1234", "SerialNumber": "CNIVC0012"});
    assert_eq!(model::identity(&dell).unwrap().serial.as_deref(), Some("7QX1234"));
    // Elsewhere an SKU names a model, shared by thousands.
    let other = json!({"Manufacturer": "HPE", "SKU": "P408i", "SerialNumber": "CZ1"});
    assert_eq!(model::identity(&other).unwrap().serial.as_deref(), Some("CZ1"));
    assert_eq!(
        model::identity(&json!({"SerialNumber": "None", "UUID": "00000000-0000-0000-0000-000000000000"})),
        None
    );
}

fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let key = proptest::sample::select(
        &[
            "PowerState",
            "Actions",
            "#ComputerSystem.Reset",
            "target",
            "Members",
            "UUID",
            "SerialNumber",
            "@odata.id",
            "Parameters",
            "Name",
            "AllowableValues",
            "error",
            "TaskState",
            "SKU",
        ][..],
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(Value::from("ResetType")),
        Just(Value::from("Dell"))
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn documents_of_any_shape_do_no_harm(document in any_json()) {
        let state = model::power_state(&document);
        proptest::prop_assert_eq!(state == PowerState::Off, document["PowerState"] == "Off");
        let _ = (model::identity(&document), model::reset(&document), model::members(&document));
        let _ = (model::allowed_by_info(&document), model::task(&document), model::link(&document));
        super::http::mentions(&document, &["already"]);
    }
}
