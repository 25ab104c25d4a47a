//! Sealed rows.

use std::os::unix::fs::PermissionsExt;

use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::fence_devices::{self, CheckRow};
use crate::seal::SealError;
use crate::sessions::{self, Session};
use crate::value::args;
use crate::{Error, Sealer, agent_keys};

everywhere!(
    devices_are_masked_for_all_and_opened_with_the_key,
    a_wrong_key_is_refused_and_says_so,
    a_sealed_value_opens_in_its_own_row_and_version_only,
    sessions_are_kept_until_they_are_closed,
    a_check_tells_whether_the_device_was_well_before,
);

fn sealer() -> Sealer {
    Sealer::new(&[7; 32])
}

fn devices() -> serde_json::Value {
    json!({"levels": [{"devices": [
        {"type": "redfish", "address": "https://root:calvin-canary@bmc:8443/x", "username": "u", "password": "canary-1"},
        {"type": "agent", "program": "fence_apc", "options": {"passwd": "canary-2", "plug": "3", "passwd_script": "/etc/p"},
         "kg": "canary-3"},
    ]}]})
}

/// The same as its caller shows it: the store does not know which keys are secret.
fn shown() -> serde_json::Value {
    json!({"levels": [{"devices": [{"type": "redfish", "username": "u", "password": "***"}, {"type": "agent", "kg": "***"}]}]})
}

async fn devices_are_masked_for_all_and_opened_with_the_key(on: On) {
    let kit = kit_on(on).await;
    write(&kit.db, async |tx| fence_devices::set(tx, &sealer(), kit.host, &devices(), &shown(), NOW).await)
        .await
        .unwrap();
    assert_eq!(fence_devices::get(&kit.db, kit.host).await.unwrap().unwrap().masked, shown());
    let opened = fence_devices::open(&kit.db, &sealer(), kit.host).await.unwrap().unwrap();
    assert!(!format!("{opened:?}").contains("canary"));
    let value: serde_json::Value = serde_json::from_str(opened.levels.expose_secret()).unwrap();
    assert_eq!(value, devices());
    for row in kit.raw("SELECT masked, sealed FROM fence_devices").await {
        assert!(!format!("{row:?}").contains("canary"));
    }
}

async fn a_wrong_key_is_refused_and_says_so(on: On) {
    let kit = kit_on(on).await;
    let wrong = Sealer::new(&[8; 32]);
    write(&kit.db, async |tx| sealer().check(tx, NOW).await).await.unwrap();
    write(&kit.db, async |tx| sealer().check(tx, NOW).await).await.expect("the same key again");
    let refused = write(&kit.db, async |tx| wrong.check(tx, NOW).await).await;
    assert!(matches!(refused, Err(Error::Seal(SealError::WrongKey))), "{refused:?}");
    write(&kit.db, async |tx| agent_keys::set(tx, &sealer(), kit.host, &[1; 32], NOW).await).await.unwrap();
    let unopened = agent_keys::get(&kit.db, &wrong, kit.host).await;
    assert!(matches!(unopened, Err(Error::Seal(SealError::Unopened { table: "agent_keys", .. }))));
    assert_eq!(
        agent_keys::get(&kit.db, &sealer(), kit.host).await.unwrap().unwrap().expose_secret(),
        [1; 32]
    );
}

async fn a_sealed_value_opens_in_its_own_row_and_version_only(on: On) {
    let kit = kit_on(on).await;
    let other = kit.add_host("cmp-02").await;
    for host in [kit.host, other] {
        write(&kit.db, async |tx| agent_keys::set(tx, &sealer(), host, &[1; 32], NOW).await).await.unwrap();
    }
    assert_eq!(agent_keys::all_keys(&kit.db, &sealer()).await.unwrap().len(), 2);
    let copy = "UPDATE agent_keys SET sealed = (SELECT sealed FROM agent_keys WHERE host = ?) WHERE host = ?";
    kit.tamper(copy, args![kit.host, other]).await;
    assert!(agent_keys::get(&kit.db, &sealer(), other).await.is_err(), "another host's");
    let second =
        write(&kit.db, async |tx| agent_keys::set(tx, &sealer(), other, &[2; 32], NOW).await).await.unwrap();
    assert_eq!(second, 2);
    kit.tamper("UPDATE agent_keys SET version = 1 WHERE host = ?", args![other]).await;
    assert!(agent_keys::get(&kit.db, &sealer(), other).await.is_err(), "another version's");
    kit.tamper("UPDATE agent_keys SET sealed = 'zz' WHERE host = ?", args![other]).await;
    assert!(agent_keys::get(&kit.db, &sealer(), other).await.is_err(), "no hex");
    assert!(agent_keys::get(&kit.db, &sealer(), kit.host).await.unwrap().is_some());
}

async fn sessions_are_kept_until_they_are_closed(on: On) {
    let kit = kit_on(on).await;
    let session = Session {
        id: Uuid::new_v4(),
        host: kit.host,
        device: "redfish https://bmc".into(),
        token: SecretString::from("canary"),
        recovery: None,
        at: NOW,
    };
    write(&kit.db, async |tx| sessions::add(tx, &sealer(), &session).await).await.unwrap();
    let kept = sessions::list(&kit.db, &sealer(), kit.host).await.unwrap();
    assert_eq!((kept[0].id, kept[0].token.expose_secret()), (session.id, "canary"));
    assert!(!format!("{kept:?}{:?}", kit.raw("SELECT * FROM sessions").await).contains("canary"));
    assert!(write(&kit.db, async |tx| sessions::remove(tx, session.id).await).await.unwrap());
    assert_eq!(sessions::count(&kit.db, kit.host).await.unwrap(), 0);
}

async fn a_check_tells_whether_the_device_was_well_before(on: On) {
    let kit = kit_on(on).await;
    write(&kit.db, async |tx| fence_devices::set(tx, &sealer(), kit.host, &devices(), &shown(), NOW).await)
        .await
        .unwrap();
    let later = |minutes: i64| Stamp(NOW.0 + minutes * 60_000_000);
    let check = |ok, minutes| CheckRow {
        host: kit.host,
        level: 0,
        position: 1,
        device: "agent fence_apc".into(),
        at: later(minutes),
        ok,
        power: ok.then(|| "on".into()),
        text: "login refused: correct the password".into(),
        detail: json!({}),
    };
    let record = async |ok, minutes| {
        write(&kit.db, async |tx| fence_devices::record_check(tx, &check(ok, minutes)).await).await.unwrap()
    };
    assert_eq!(record(true, 0).await, None);
    assert_eq!(record(false, 5).await, Some(true));
    assert_eq!(record(false, 10).await, Some(false));
    let since = json!({"since": later(5).0});
    let last = CheckRow { detail: since, ..check(false, 10) };
    assert_eq!(fence_devices::checks(&kit.db, kit.host).await.unwrap(), [last], "bad since it turned bad");
    write(&kit.db, async |tx| fence_devices::set(tx, &sealer(), kit.host, &devices(), &shown(), NOW).await)
        .await
        .unwrap();
    assert!(fence_devices::all_checks(&kit.db).await.unwrap().is_empty(), "new devices were not checked yet");
}

#[test]
fn a_key_file_is_made_once_private_and_checked() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("halberd.key");
    let (made, new) = Sealer::from_file_or_new(&path).unwrap();
    assert!(new);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (again, new) = Sealer::from_file_or_new(&path).unwrap();
    assert!(!new);
    let place = crate::seal::Place { table: "t", row: "r", version: 1 };
    let sealed = made.seal(place, b"secret").unwrap();
    assert_ne!(sealed, made.seal(place, b"secret").unwrap(), "a nonce of its own each time");
    assert_eq!(again.open(place, &sealed).unwrap().expose_secret(), b"secret");

    // The same key in hex digits opens it too.
    let hex: String = std::fs::read(&path).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&path, hex + "\n").unwrap();
    assert!(Sealer::from_file(&path).unwrap().open(place, &sealed).is_ok());
    std::fs::write(&path, "short").unwrap();
    assert!(Sealer::from_file(&path).unwrap_err().to_string().contains("32 bytes"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(Sealer::from_file(&path).unwrap_err().to_string().contains("chmod 600"));
    assert!(Sealer::from_file(&dir.path().join("none")).is_err());
}
