use std::os::unix::fs::PermissionsExt;

use halberd_core::id::EngineId;
use halberd_core::time::Stamp;
use halberd_store::agent_keys;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

/// A database with one sealed agent's key, and its default key file.
struct Place {
    dir: TempDir,
    args: Rekey,
}

impl Place {
    async fn new(engine: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let text = format!(
            "[api]\nauth = \"none\"\n[database]\nurl = \"sqlite:{}\"\n[engine]\n{engine}",
            at("halberd.db").display()
        );
        fs::write(at("halberd.toml"), text.replace("DIR", &dir.path().display().to_string())).unwrap();
        let args = Rekey { config: Some(at("halberd.toml")), new_key_file: None };
        let place = Place { dir, args };
        let key = if engine.is_empty() { "halberd.key" } else { "mine.key" };
        let (sealer, _) = Sealer::from_file_or_new(&place.at(key)).unwrap();
        let db = place.open(Access::Shared).await;
        let (segment, host) = rows();
        write(&db, async |tx| {
            sealer.check(tx, Stamp(1)).await?;
            halberd_store::segments::create(tx, &segment, Stamp(1)).await?;
            halberd_store::hosts::create(tx, &host, Stamp(1)).await?;
            agent_keys::set(tx, &sealer, host.id, &[0xab; 32], Stamp(1)).await
        })
        .await
        .unwrap();
        db.close().await;
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn open(&self, access: Access) -> Db {
        Db::open(&format!("sqlite:{}", self.at("halberd.db").display()), access).await.unwrap()
    }

    async fn keys(&self, db: &Db) -> Keys {
        let config = Config::load(self.args.config.as_deref()).unwrap();
        keys(&config, db, self.args.new_key_file.as_deref()).unwrap()
    }

    async fn run(&self) -> Result<String, String> {
        run(&self.args).await.map_err(|error| crate::chain(&error))
    }

    /// Whether the key in a file opens what is sealed.
    async fn opens(&self, file: &str) -> bool {
        let sealer = Sealer::from_file(&self.at(file)).unwrap();
        let db = self.open(Access::Shared).await;
        let checked = write(&db, async |tx| sealer.check(tx, Stamp(2)).await).await.is_ok();
        let keys = agent_keys::all_keys(&db, &sealer).await;
        db.close().await;
        let opened =
            keys.is_ok_and(|keys| keys.first().is_some_and(|key| key.2.expose_secret() == [0xab; 32]));
        assert_eq!(checked, opened, "all or nothing");
        opened
    }
}

fn rows() -> (halberd_core::segment::Segment, halberd_core::host::Host) {
    use halberd_core::host::Host;
    use halberd_core::id::{HostId, SegmentId};
    use halberd_core::segment::{RecoveryMethod, Segment};
    let segment = Segment {
        id: SegmentId(Uuid::from_u128(1)),
        name: "s".into(),
        description: None,
        service_type: "COMPUTE".into(),
        recovery_method: RecoveryMethod::Auto,
        enabled: true,
    };
    let host = Host {
        kind: "COMPUTE".into(),
        control_attributes: "SSH".into(),
        boot_number: 1,
        ..Host::new(HostId(Uuid::from_u128(2)), segment.id, "cmp-01")
    };
    (segment, host)
}

#[tokio::test]
async fn the_default_key_is_replaced_and_the_former_kept() {
    let place = Place::new("").await;
    let first = fs::read(place.at("halberd.key")).unwrap();
    let said = place.run().await.unwrap();
    assert!(said.contains("the fence devices of 0 hosts, the keys of 1 agent, 0 BMC sessions"), "{said}");
    assert_eq!(fs::read(place.at("halberd.key.old")).unwrap(), first);
    for file in ["halberd.key", "halberd.key.old"] {
        assert_eq!(fs::metadata(place.at(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert!(!place.at("halberd.key.new").exists());
    assert!(place.opens("halberd.key").await && !place.opens("halberd.key.old").await);
    // Once more: no former key is lost, since each opens backups of its time.
    place.run().await.unwrap();
    assert_eq!(fs::read(place.at("halberd.key.old")).unwrap(), first);
    assert!(place.at("halberd.key.old.1").exists());
    assert!(place.opens("halberd.key").await && !place.opens("halberd.key.old.1").await);
}

#[tokio::test]
async fn a_crash_between_commit_and_rename_is_cured_by_the_same_command() {
    // Right after the commit, and after the former key was kept too.
    for kept in [false, true] {
        let place = Place::new("").await;
        let db = place.open(Access::Exclusive).await;
        let keys = place.keys(&db).await;
        assert_eq!(reseal(&db, &keys).await.unwrap().map(|done| done.agent_keys), Some(1));
        if kept {
            keep(&keys.key).unwrap();
        }
        db.close().await;
        drop(db);
        assert!(!place.opens("halberd.key").await, "so a start would be refused now");

        let said = place.run().await.unwrap();
        assert!(said.contains("was sealed with the new key before"), "{said}");
        assert!(place.opens("halberd.key").await && !place.opens("halberd.key.old").await);
        assert!(!place.at("halberd.key.new").exists() && !place.at("halberd.key.old.1").exists());
    }
}

/// The new key is on disk before anything is sealed with it: what a crash before the commit left behind is used.
#[tokio::test]
async fn a_crash_before_the_commit_changes_nothing() {
    let place = Place::new("").await;
    let (_, made) = Sealer::from_file_or_new(&place.at("halberd.key.new")).unwrap();
    assert!(made && place.opens("halberd.key").await);
    let new = fs::read(place.at("halberd.key.new")).unwrap();
    place.run().await.unwrap();
    assert_eq!(fs::read(place.at("halberd.key")).unwrap(), new);
    assert!(place.opens("halberd.key").await);
}

#[tokio::test]
async fn a_configured_key_is_another_s_to_set() {
    let mut place = Place::new("secrets_key_file = \"DIR/mine.key\"").await;
    place.args.new_key_file = Some(place.at("next.key"));
    let former = fs::read(place.at("mine.key")).unwrap();
    let said = place.run().await.unwrap();
    assert!(said.contains("set [engine] secrets_key_file = ") && said.contains("next.key"), "{said}");
    assert_eq!(fs::read(place.at("mine.key")).unwrap(), former, "not touched");
    assert!(place.opens("next.key").await && !place.opens("mine.key").await);
    // Run again before the configuration was changed.
    let again = place.run().await.unwrap();
    assert!(again.contains("before") && again.contains("set [engine]"), "{again}");
    place.args.new_key_file = Some(place.at("mine.key"));
    let same = place.run().await.unwrap_err();
    assert!(same.contains("mine.key is the key in use already"), "{same}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_named_and_nothing_changes() {
    let place = Place::new("").await;
    let engine = place.open(Access::Exclusive).await;
    let locked = place.run().await.unwrap_err();
    assert!(locked.contains("halberd.db is in use by another engine"), "{locked}");
    engine.close().await;
    drop(engine);
    assert!(place.opens("halberd.key").await && !place.at("halberd.key.new").exists());

    let right = fs::read(place.at("halberd.key")).unwrap();
    fs::write(place.at("halberd.key"), [1; 32]).unwrap();
    let wrong = place.run().await.unwrap_err();
    assert!(wrong.contains("neither") && wrong.contains("halberd.key.new"), "{wrong}");
    fs::write(place.at("halberd.key"), &right).unwrap();

    fs::write(place.at("halberd.key.new"), "no key").unwrap();
    fs::set_permissions(place.at("halberd.key.new"), fs::Permissions::from_mode(0o600)).unwrap();
    let short = place.run().await.unwrap_err();
    assert!(short.contains("the new key: ") && short.contains("32 bytes"), "{short}");

    fs::write(place.at("halberd.key.new"), &right).unwrap();
    let same = place.run().await.unwrap_err();
    assert!(same.contains("is the key in use already"), "a copy of the key is no new key: {same}");
    assert!(place.opens("halberd.key").await);

    fs::remove_file(place.at("halberd.key")).unwrap();
    fs::remove_file(place.at("halberd.key.new")).unwrap();
    let gone = place.run().await.unwrap_err();
    assert!(gone.contains("the key in use: ") && gone.contains("halberd.key"), "{gone}");
    assert!(!place.at("halberd.key").exists(), "no key is made where one is missing");
}

#[test]
fn an_engine_is_at_work_when_its_counter_moves() {
    let row = |n: u128, counter: i64, stopped: bool| EngineRow {
        name: format!("e-{n}"),
        id: EngineId(Uuid::from_u128(n)),
        counter,
        started_at: Stamp(0),
        renewed_at: Stamp(0),
        stopped_at: stopped.then_some(Stamp(1)),
        detail: json!({}),
    };
    let before = [row(1, 5, false), row(2, 7, true)];
    let name = |after: &[EngineRow]| at_work(&before, after).map(|engine| engine.name.clone());
    assert_eq!(name(&before), None, "a row that stands still is a dead engine's");
    assert_eq!(name(&[row(1, 6, false), row(2, 7, true)]).as_deref(), Some("e-1"));
    assert_eq!(name(&[row(1, 5, false), row(3, 1, false)]).as_deref(), Some("e-3"));
    assert_eq!(name(&[row(1, 6, true)]), None, "it stopped meanwhile");
}
