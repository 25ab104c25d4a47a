//! What a check says of certificates and accounts, and how long a BMC asks us to wait.

use std::collections::HashMap;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::super::http::Reply;
use super::super::tls;
use super::*;
use crate::power::Findings;

#[test]
fn retry_after_is_seconds_or_a_date_by_the_answers_own_clock() {
    let wait = |after: &str, date: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, after.parse().unwrap());
        date.map(|date| headers.insert(DATE, date.parse().unwrap()));
        let reply = Reply { status: reqwest::StatusCode::OK, headers, body: Vec::new(), certificate: None };
        reply.retry_after().map(|wait| wait.as_secs())
    };
    // RFC 9110 10.2.3's own examples.
    let date = "Fri, 31 Dec 1999 23:59:59 GMT";
    assert_eq!(wait("120", None), Some(120));
    assert_eq!(wait(date, Some("Fri, 31 Dec 1999 23:59:52 GMT")), Some(7));
    assert_eq!(wait(" Sat, 01 Jan 2000 00:00:04 GMT ", Some(date)), Some(5));
    assert_eq!(wait(date, Some("Sat, 01 Jan 2000 00:00:04 GMT")), Some(0), "that time has come");
    // Without its clock a date asks for some wait: whoever waits has a cap.
    let most = Limits::default().backoff_max;
    for date in [None, Some("whenever"), Some("Fri, 31 Dec 1999 23:59:52")] {
        assert!(wait("Fri, 31 Dec 1999 23:59:59 GMT", date).is_some_and(|w| w > most.as_secs()), "{date:?}");
    }
    for odd in [
        "",
        "soon",
        "-1",
        "1.5",
        "Fri, 31 Dec 1999 23:59:59",
        "Mon, 31 Dec 1999 23:59:59 GMT",
        "1999-12-31T23:59:59Z",
    ] {
        assert_eq!(wait(odd, Some(date)), None, "{odd}");
    }
}

#[test]
fn a_certificates_end_is_told_a_month_before() {
    let (day, ends) = (86_400, 1_582_977_600);
    assert_eq!(tls::expiry(ends, ends - 30 * day - 1), None);
    let soon = tls::expiry(ends, ends - 30 * day).unwrap();
    assert!(soon.contains("2020-02-29") && soon.contains("in 30 days"), "{soon}");
    assert!(tls::expiry(ends, ends).unwrap().contains("in 0 days"));
    assert!(tls::expiry(ends, ends + 1).unwrap().contains("ended on 2020-02-29"));
    for rubbish in [&b""[..], b"\x30\x03\x02\x01\x01", &[0x30; 600]] {
        assert_eq!(tls::not_after(rubbish), None);
    }
}

async fn inspected(url: &str, tls: Value) -> Result<Findings, FenceError> {
    let mut session = redfish(url, json!({"tls": tls}), &Expected::default()).open().await?;
    session.identify().await?;
    session.inspect().await
}

#[tokio::test]
async fn an_expired_certificate_is_told_whoever_trusts_it() {
    let (url, _shared) = fake::start_expired().await;
    // As openssl x509 -fingerprint -sha256 -dates prints them.
    let pin =
        "35:3B:D8:D5:63:1C:D3:E8:94:7A:19:E8:F1:BE:59:4D:5C:83:78:55:59:9D:47:96:CE:2D:DA:5D:A3:A0:6D:EB";
    for tls in [json!({"fingerprint": pin}), json!({"insecure": true})] {
        let warnings = inspected(&url, tls).await.unwrap().warnings.join("\n");
        assert!(warnings.contains("the certificate ended on 2020-02-29"), "{warnings}");
    }
    let error = inspected(&url, json!({"ca_file": fake::EXPIRED})).await.unwrap_err();
    assert!(matches!(&error, FenceError::Tls { detail, .. } if detail.contains("expired")), "{error}");
    let error = inspected(&url, json!({"fingerprint": pin.replace("35", "36")})).await.unwrap_err();
    assert!(matches!(error, FenceError::Tls { .. }), "{error}");
    // Over plain HTTP there is none to speak of.
    let (url, _shared) = start().await;
    let warnings = inspected(&url, Value::Null).await.unwrap().warnings.join("\n");
    assert!(!warnings.contains("certificate"), "{warnings}");
}

/// An account service with this account and this role.
fn accounts(role_id: &str, role: Value) -> HashMap<&'static str, Value> {
    let link = |to: &str| json!({"@odata.id": to});
    HashMap::from([
        ("/accounts", json!({"Accounts": link("/accounts/all"), "Roles": link("/roles")})),
        (
            "/accounts/all",
            json!({"Members": [link("/accounts/1"), link("/accounts/2"), link("/accounts/3")]}),
        ),
        ("/accounts/1", json!({"UserName": "root", "RoleId": "Administrator"})),
        ("/accounts/3", json!({"UserName": "admin", "RoleId": role_id})),
        ("/roles", json!({"Members": [link("/roles/Administrator"), link(&format!("/roles/{role_id}"))]})),
        ("/roles/Custom", role.clone()),
        ("/roles/ReadOnly", role),
    ])
}

#[tokio::test(start_paused = true)]
async fn an_account_that_may_not_reset_is_a_fault_where_it_can_be_seen() {
    let (url, shared) = start().await;
    let faults = async || {
        let mut session = session(&url).await;
        session.inspect().await.unwrap().faults
    };
    assert!(faults().await.is_empty(), "no account service");
    let (low, high) = (json!(["Login", "ConfigureSelf"]), json!(["Login", "ConfigureComponents"]));
    let table = [
        ("Custom", json!({"AssignedPrivileges": low}), true),
        ("Custom", json!({"AssignedPrivileges": high}), false),
        // A vendor's own privileges cannot be judged, nor can what is not told.
        ("Custom", json!({"AssignedPrivileges": low, "OemPrivileges": ["VirtualPowerAndResetPriv"]}), false),
        ("Custom", json!({}), false),
        ("Gone", json!({}), false),
        ("Operator", json!({}), false),
        ("ReadOnly", json!({}), true),
        ("ReadOnly", json!({"AssignedPrivileges": high}), false),
    ];
    for (role, document, fault) in table {
        shared.lock().unwrap().documents = accounts(role, document.clone());
        let found = faults().await;
        assert_eq!(!found.is_empty(), fault, "{role} {document}: {found:?}");
        assert!(
            found.iter().all(|f| f.contains("ConfigureComponents") && f.contains("Operator")),
            "{found:?}"
        );
        // The session's own document tells without a look at all accounts.
        shared.lock().unwrap().documents.remove("/accounts/all");
        shared.lock().unwrap().roles = Some(json!([role]));
        assert_eq!(!faults().await.is_empty(), fault, "{role} of the session");
        shared.lock().unwrap().roles = None;
        assert!(faults().await.is_empty(), "accounts that are not shown");
    }
    assert!(shared.lock().unwrap().resets.is_empty());
}
