//! Masakari's files as they are found in the field, good and bad, and what comes out.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::config::{FromMasakari, Made, from_masakari};
use super::ini::{Ini, IniError};
use crate::config::Config;

const CONF: &str = include_str!("tests/masakari.conf");
const CUSTOM: &str = include_str!("tests/custom.conf");

fn parsed(text: &str) -> Result<Ini, IniError> {
    Ini::parse(text, Path::new("masakari.conf"))
}

#[test]
fn ini_is_read_as_oslo_config_does() {
    let ini = parsed(
        "before = a section\n# a comment\n; another\n[DEFAULT]\nlist = one,\n    two,\n\tthree\n\nquoted = \" kept \"\ncolon: yes\n\
         dash-name = 1\ntwice = a\ntwice = b\nurl = http://h:1/v3\n[ other ]\nempty =\nrefers = $twice/${colon}/$DEFAULT.before\n\
         dollars = a$$b\\$c$\nnobody = $gone\nround = $round\n",
    )
    .unwrap();
    let value = |section: &str, name: &str| ini.value(section, name).unwrap();
    let wanted = [
        ("DEFAULT", "before", "a section"),
        ("DEFAULT", "list", "one,\ntwo,\nthree"),
        ("DEFAULT", "quoted", " kept "),
        ("DEFAULT", "colon", "yes"),
        ("DEFAULT", "dash_name", "1"),
        ("DEFAULT", "twice", "b"),
        ("DEFAULT", "url", "http://h:1/v3"),
        ("other", "empty", ""),
        ("other", "refers", "b/yes/a section"),
        ("other", "dollars", "a$b$c$"),
    ];
    for (section, name, text) in wanted {
        assert_eq!(value(section, name).as_deref(), Ok(text), "[{section}] {name}");
    }
    let twice = &ini.options[&("DEFAULT".to_owned(), "twice".to_owned())];
    assert_eq!((twice.values.len(), twice.line), (2, 13));
    assert_eq!(value("other", "nobody"), Err("gone".into()));
    assert_eq!(value("other", "round"), Err("round".into()), "it ends");
}

#[test]
fn garbage_is_named_by_file_and_line_without_its_content() {
    for (text, line, what) in [
        ("[DEFAULT\npassword = hunter2", 1, "not closed"),
        ("[]\n", 1, "no name"),
        ("[a]\nhunter2", 2, "neither '=' nor ':'"),
        ("[a]\n  hunter2", 2, "continues nothing"),
        ("[a]\nx = 1\n\n  hunter2", 4, "continues nothing"),
        ("= hunter2", 1, "no name before"),
        ("a = \0hunter2", 1, "NUL"),
    ] {
        let error = parsed(text).unwrap_err().to_string();
        assert!(error.contains(&format!("masakari.conf, line {line}:")) && error.contains(what), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

struct Case {
    dir: TempDir,
}

impl Case {
    fn new() -> Case {
        Case { dir: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn args(&self, files: Vec<PathBuf>) -> FromMasakari {
        FromMasakari { files, policy: None, secrets_dir: None }
    }

    fn make(&self, text: &str) -> Made {
        from_masakari(&self.args(vec![self.file("masakari.conf", text)])).unwrap()
    }
}

fn read(toml: &str) -> Config {
    Config::parse(toml, "made", std::iter::empty(), false).unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

#[test]
fn a_deployers_file_becomes_a_configuration() {
    let case = Case::new();
    let files = vec![case.file("masakari.conf", CONF), case.file("custom.conf", CUSTOM)];
    let made = from_masakari(&case.args(files)).unwrap();
    let config = read(&made.toml);
    assert_eq!(config.api.listen.to_string(), "10.0.0.11:15868");
    assert_eq!((config.api.max_limit, config.api.duplicate_window_s), (500, 120));
    assert!(config.api.proxy_headers);
    let openstack = config.openstack.expect("a login");
    assert_eq!(openstack.username.as_deref(), Some("nova"), "the account that talks to Nova");
    assert_eq!(openstack.auth_url.as_deref(), Some("http://10.0.0.10:5000/v3"));
    assert_eq!(openstack.user_domain_name.as_deref(), Some("Default"));
    assert!(openstack.password.is_none() && openstack.password_file.is_some());
    assert!(!config.policy.evacuate_all_instances && config.policy.process_all_instances);
    assert_eq!(config.policy.ha_enabled_instance_metadata_key, "HA");
    assert_eq!((config.policy.stop_timeout_ms, config.policy.evacuations_in_flight), (200_000, 6));
    for said in [
        "# from [DEFAULT] osapi_max_limit\nmax_limit = 500\n",
        "halberd db import-masakari",
        "#   [DEFAULT] wait_period_after_service_update: no fixed sleep is needed",
        "#   [coordination] backend_url: engines and APIs agree through the database",
        "evacuate_al_instances",
        "[DEFAULT] periodic_interval_max?)",
        "[host_failure] ha_enabled_instance_metadata_key and [instance_failure] ha_enabled_instance_metadata_key differ",
        "at = [\"pre\"]",
        "command = [\"/etc/halberd/hooks/ipmi_power_off_task\"]",
        "recoveries = [\"instance\"]",
        "[keystone_authtoken] memcached_servers: tokens are cached",
    ] {
        assert!(made.toml.contains(said), "{said}\n{}", made.toml);
    }
    // Each option of the files is accounted for: a key of ours, or in one of the lists.
    for line in CONF.lines().chain(CUSTOM.lines()) {
        let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with([' ', '#'])) else {
            continue;
        };
        let name = name.trim();
        // Both logins name the same project and domain; the first one that is asked says where it is from.
        let twice =
            ["project_name", "project_domain_id", "user_domain_id", "ssl", "os_privileged_user_auth_url"];
        assert!(made.toml.contains(name) || twice.contains(&name), "{name} is lost\n{}", made.toml);
    }
    let everything = format!("{} {:?}", made.toml, made.said);
    assert!(!everything.contains("hunter2"), "{everything}");
}

#[test]
fn secrets_go_into_files_of_their_own() {
    let case = Case::new();
    let folder = case.dir.path().join("new/secrets");
    let args = FromMasakari {
        secrets_dir: Some(folder.clone()),
        ..case.args(vec![case.file("masakari.conf", CONF)])
    };
    let made = from_masakari(&args).unwrap();
    assert!(!format!("{made:?}").contains("hunter2"));
    let password = folder.join("openstack-password");
    assert_eq!(std::fs::read_to_string(&password).unwrap(), "hunter2-of-nova\n");
    let bus = std::fs::read_to_string(folder.join("bus-url")).unwrap();
    assert_eq!(bus, "rabbit://openstack:hunter2@10.0.0.11:5672//\n", "$transport_url was followed");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&password), mode(&folder)), (0o600, 0o700));
    assert_eq!(read(&made.toml).openstack.unwrap().password_file, Some(password.clone()));
    from_masakari(&args).expect("the same again is no conflict");
    std::fs::write(&password, "another").unwrap();
    let error = from_masakari(&args).unwrap_err().to_string();
    assert!(error.contains("exists with other content") && error.contains("--secrets-dir"), "{error}");
    assert_eq!(std::fs::read_to_string(&password).unwrap(), "another", "never overwritten");
}

#[test]
fn an_open_api_stays_on_loopback() {
    let case = Case::new();
    let made = case.make("[DEFAULT]\nauth_strategy = noauth2\nmasakari_api_listen = 0.0.0.0\n");
    let config = read(&made.toml);
    assert!(config.api.listen.ip().is_loopback());
    assert!(made.toml.contains("everybody is an administrator"), "{}", made.toml);
}

#[test]
fn what_cannot_stand_is_said_rather_than_guessed() {
    let case = Case::new();
    let made = case.make(
        "[DEFAULT]\nosapi_max_limit = many\nmasakari_api_listen = controller\nuse_ssl = true\nhost_failure_recovery_threads = -1\n\
         [keystone_authtoken]\nauth_url = http://k/v3\nusername = m\nproject_name = s\npassword = $nothing\nuser_domain_id = 0a1b\n\
         interface = outside\n[host_failure]\nevacuate_all_instances = maybe\n[oslo_policy]\npolicy_file = absent.yaml\n",
    );
    for said in [
        "[DEFAULT] osapi_max_limit is no number",
        "[DEFAULT] masakari_api_listen: [api] listen takes an IP address",
        "no file is named for [api] tls_cert",
        "[DEFAULT] host_failure_recovery_threads is no number that can be used",
        "[keystone_authtoken] password refers to $nothing",
        "[keystone_authtoken] user_domain_id gives a domain's id",
        "[keystone_authtoken] interface names no interface",
        "[host_failure] evacuate_all_instances is neither true nor false",
        "absent.yaml, which is not on this machine",
    ] {
        assert!(made.toml.contains(said), "{said}\n{}", made.toml);
        assert!(made.said.iter().any(|line| line.contains(said)), "{said}\n{:?}", made.said);
    }
    // Without a login it is no configuration yet, and says so.
    let made = case.make("[DEFAULT]\ndebug = true\n");
    assert!(made.said.iter().any(|line| line.contains("[openstack]")), "{:?}", made.said);
}

#[test]
fn old_names_and_application_credentials_are_known() {
    let case = Case::new();
    let made = case.make(
        "[keystone_authtoken]\nauth_type = v3applicationcredential\nauth_url = http://k/v3\napplication_credential_id = abc\n\
         application_credential_secret = hunter2\nregion_name = R\nauth_uri = http://public\ncafile = /ca.pem\n",
    );
    let openstack = read(&made.toml).openstack.unwrap();
    assert_eq!(openstack.application_credential_id.as_deref(), Some("abc"));
    assert!(openstack.application_credential_secret_file.is_some());
    assert_eq!((openstack.region.as_deref(), openstack.cacert), (Some("R"), Some("/ca.pem".into())));
    assert!(made.toml.contains("www_authenticate_uri = \"http://public\"") && !made.toml.contains("hunter2"));
}

#[test]
fn files_that_are_none_are_named_with_the_way_out() {
    let case = Case::new();
    let absent = case.dir.path().join("absent.conf");
    let good = case.file("good.conf", "[DEFAULT]\ndebug = 1\n");
    let cases = [
        (absent.clone(), "absent.conf cannot be read: No such file"),
        (case.dir.path().to_owned(), "is a directory; name the file"),
        (case.file("empty.conf", ""), "holds no option at all"),
        (case.file("latin.conf", b"[DEFAULT]\nname = caf\xe9\n"), "latin.conf, line 2: it is not UTF-8"),
        (case.file("db.conf", b"SQLite format 3\0\x01"), "line 1"),
        (case.file("yaml.conf", "- a\n- b\n"), "line 1: there is neither"),
    ];
    for (file, what) in cases {
        let error = from_masakari(&case.args(vec![file])).unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
    let policy = |path: PathBuf| FromMasakari { policy: Some(path), ..case.args(vec![good.clone()]) };
    let error = from_masakari(&policy(absent)).unwrap_err().to_string();
    assert!(error.contains("--policy") && error.contains("No such file"), "{error}");
    let error = from_masakari(&policy(case.dir.path().into())).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
    let blocked =
        FromMasakari { secrets_dir: Some(good.join("x")), ..case.args(vec![case.file("m.conf", CONF)]) };
    let error = from_masakari(&blocked).unwrap_err().to_string();
    assert!(error.contains("--secrets-dir"), "{error}");
}
