use super::*;

fn key(byte: u8) -> AgentKey {
    AgentKey::from_bytes([byte; 32])
}

fn signed(body: &[u8]) -> Signed {
    sign(&key(1), "POST", REPORTS_PATH, Uuid::from_u128(7), Uuid::from_u128(8), 42, body)
}

#[test]
fn signature_is_the_documented_hmac() {
    // Computed apart, with Python's hmac over the string of the module's head.
    let s = signed(b"{}");
    assert_eq!(s.signature, "IAwt+311O3F5j9jzgHmsxcWNVCH0WGKslg/sM6Rqw7w=");
}

#[test]
fn any_change_breaks_the_signature() {
    let s = signed(b"body");
    assert_eq!(verify(&key(1), "POST", REPORTS_PATH, &s, b"body"), Ok(()));
    let mismatch = Err(SignatureError::Mismatch);
    assert_eq!(verify(&key(2), "POST", REPORTS_PATH, &s, b"body"), mismatch);
    assert_eq!(verify(&key(1), "GET", REPORTS_PATH, &s, b"body"), mismatch);
    assert_eq!(verify(&key(1), "POST", ORDERS_PATH, &s, b"body"), mismatch);
    assert_eq!(verify(&key(1), "POST", REPORTS_PATH, &s, b"Body"), mismatch);
    let later = Signed { counter: 43, ..s.clone() };
    assert_eq!(verify(&key(1), "POST", REPORTS_PATH, &later, b"body"), mismatch);
    let other_boot = Signed { boot: Uuid::from_u128(9), ..s.clone() };
    assert_eq!(verify(&key(1), "POST", REPORTS_PATH, &other_boot, b"body"), mismatch);
    let cut = Signed { signature: s.signature[..20].to_owned(), ..s };
    assert_eq!(verify(&key(1), "POST", REPORTS_PATH, &cut, b"body"), mismatch);
}

#[test]
fn headers_carry_the_signature() {
    let s = signed(b"x");
    let map: std::collections::HashMap<_, _> = s.headers().into_iter().collect();
    assert_eq!(Signed::from_headers(|name| map.get(name).map(String::as_str)), Ok(s));
    let missing =
        Signed::from_headers(|name| map.get(name).filter(|_| name != BOOT_HEADER).map(String::as_str));
    assert_eq!(missing, Err(SignatureError::Header(BOOT_HEADER)));
}

#[test]
fn an_answer_fits_its_own_request_only() {
    let request = sign(&key(1), "GET", ORDERS_PATH, Uuid::from_u128(7), Uuid::from_u128(8), 42, b"");
    let signature = sign_answer(&key(1), ORDERS_PATH, &request, b"{\"orders\":[]}");
    assert_eq!(verify_answer(&key(1), ORDERS_PATH, &request, &signature, b"{\"orders\":[]}"), Ok(()));
    let next = Signed { counter: 43, ..request.clone() };
    assert!(verify_answer(&key(1), ORDERS_PATH, &next, &signature, b"{\"orders\":[]}").is_err());
    // The request's own signature is no answer's.
    assert!(verify_answer(&key(1), ORDERS_PATH, &request, &request.signature, b"").is_err());
}

#[test]
fn wire_shapes() {
    let report = Report {
        report_id: Uuid::from_u128(1),
        host: Uuid::from_u128(2),
        boot: Uuid::from_u128(3),
        observed_ns: 5,
        observed_at: DateTime::UNIX_EPOCH,
        kind: ReportKind::ProcessStopped(ProcessPayload { process_name: "nova-compute".into() }),
    };
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["kind"], "process_stopped");
    assert_eq!(json["process_name"], "nova-compute");
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    let order: Order = serde_json::from_str(
        r#"{"id":"00000000-0000-0000-0000-000000000001","kind":"restart_unit","unit":"u","expires_after_ms":9}"#,
    )
    .unwrap();
    assert_eq!(order.kind, OrderKind::RestartUnit { unit: "u".into() });
}

#[test]
fn notifications_are_masakaris() {
    let kind = ReportKind::GuestStopped(GuestPayload {
        instance_uuid: Uuid::from_u128(1),
        event: "LIFECYCLE".into(),
        vir_domain_event: "STOPPED_FAILED".into(),
    });
    let n = kind.notification().unwrap();
    assert_eq!((n.kind, n.payload["event"].as_str()), ("VM", "LIFECYCLE"));
    assert_eq!(n.payload["instance_uuid"], "00000000-0000-0000-0000-000000000001");
    assert!(ReportKind::Domains { domains: vec![] }.notification().is_none());
}
