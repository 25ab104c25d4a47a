use super::*;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, "halberd.toml", variables, false)
}

const OPEN: &str = "[api]\nauth = \"none\"\n";

#[test]
fn bad_input_is_refused_with_file_key_and_the_right_name() {
    let table: &[(&str, &[&str])] = &[
        ("[polcy]\nprofile = \"fast\"", &["halberd.toml", "[polcy]", "[policy]"]),
        ("[api]\nlistn = \"127.0.0.1:1\"", &["[api] listn", "[api] listen"]),
        ("[policy]\npol_ms = 5", &["[policy] pol_ms", "[policy] poll_ms"]),
        ("[openstack]\npasword = \"x\"", &["[openstack] pasword", "[openstack] password"]),
        ("[database]\nulr = \"sqlite:x\"", &["[database] ulr", "[database] url"]),
        ("[[webhooks]]\nname = \"a\"\nurll = \"http://x\"", &["[webhooks] urll", "[webhooks] url"]),
        ("[[services]]\nkinds = \"mysql\"", &["[services] kinds", "[services] kind"]),
        ("listen = \"127.0.0.1:1\"", &["[listen]", "[api] listen"]),
        ("[bus]\ntopic = [\"x\"]", &["[bus] topic", "[bus] topics"]),
        ("[api]\nauth = \"none\"\n[bus]\nurl = \"qpid://h\"", &["[bus] url", "amqp://"]),
        ("[policy]\npoll_ms = \"many\"", &["[policy] poll_ms", "expected u64"]),
        ("[policy]\nprofile = \"hasty\"", &["[policy] profile"]),
        ("[api]\nauth = \"none\"\n[retention]\nevents_days = 1", &["[retention] events_days", "at least 2"]),
        ("[retention]\nevent_days = 40", &["[retention] event_days", "[retention] events_days"]),
        ("[api]\nmax_limit = \"many\"", &["[api] max_limit", "expected u32"]),
        ("[api]\nauth = \"basic\"", &["[api] auth", "keystone"]),
        ("[api]\nlisten = \"everywhere\"", &["[api] listen", "socket address"]),
        ("[api]\nauth = \"none\"\nlisten = \"0.0.0.0:15868\"", &["loopback", "0.0.0.0:15868"]),
        ("[api]\nauth = \"none\"\ntls_cert = \"a.pem\"", &["tls_cert", "tls_key"]),
        ("", &["[openstack]", "keystone"]),
        (
            "[api]\nauth = \"none\"\n[[webhooks]]\nname = \"a\"\nurl = \"ftp://x\"",
            &["[[webhooks]] 'a'", "http"],
        ),
        (
            "[api]\nauth = \"none\"\n[[hooks]]\nname = \"a\"\nat = [\"pre\"]\ncommand = [\"tell\"]",
            &["[[hooks]] 'a'", "absolute path"],
        ),
        ("[[hooks]]\nname = \"a\"\ntimeout = 3", &["[hooks] timeout", "[hooks] timeout_s"]),
        ("[api\nauth = \"none\"", &["halberd.toml, line 1, column"]),
        ("[api]\nauth = \"none\"\n\nauth = \"none\"", &["line 4"]),
    ];
    for (text, names) in table {
        let error = read(text, &[]).expect_err(text).to_string();
        for name in *names {
            assert!(error.contains(name), "{text:?} gives {error:?}, which does not say {name:?}");
        }
    }
}

#[test]
fn no_error_shows_a_value() {
    let secret = "hunter2";
    let table = [
        format!("[openstack]\npassword = \"{secret}"),
        format!("[openstack]\npassword = {secret}"),
        format!("[openstack]\npassword = [\"{secret}\"]"),
        format!("[openstack]\ninterface = \"{secret}\""),
        format!("[database]\nurl = {{ a = \"{secret}\" }}"),
        format!("[policy]\nprofile = \"{secret}\""),
        format!("[policy]\npoll_ms = \"{secret}\""),
        format!("[api]\nauth = \"{secret}\""),
        format!("[api]\nlisten = \"{secret}\""),
        format!("[[webhooks]]\nname = \"a\"\nurl = \"{secret}\""),
        format!("[[webhooks]]\nname = \"a\"\nurl = \"http://a\"\nsecret = \"{secret}\""),
        format!("[[services]]\nkind = \"{secret}\"\nname = \"a\""),
        format!("[api]\nauth = \"none\"\n[bus]\nurl = \"amqp://u:{secret}@h:x\""),
        format!("[bus]\nurl = [\"{secret}\"]"),
        format!("[[services]]\nkind = \"mysql\"\nname = \"a\"\npassword = [\"{secret}\"]"),
    ];
    for text in table {
        let error = read(&text, &[]).expect_err(&text);
        let shown = format!("{error} {error:?} {}", crate::chain(&error));
        assert!(!shown.contains(secret), "{text:?} gives {shown:?}");
    }
    let good =
        read("[database]\nurl = \"mysql://u:hunter2@h/d\"\n[api]\nauth = \"none\"", &[]).expect("valid");
    assert!(!format!("{good:?}").contains(secret));
}

#[test]
fn the_environment_overrides_by_the_type_of_the_key() {
    let variables = [
        ("HALBERD__API__AUTH", "none"),
        ("HALBERD__API__MAX_LIMIT", "7"),
        ("HALBERD__ENGINE__HEARTBEAT_LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("HALBERD__POLICY__PROFILE", "fast"),
        ("HALBERD__POLICY__POLL_MS", "321"),
        ("HALBERD__RETENTION__AUDIT_DAYS", "0"),
        ("HALBERD__OPENSTACK__AUTH_URL", "http://k/v3"),
        ("HALBERD__OPENSTACK__USERNAME", "u"),
        ("HALBERD__OPENSTACK__PASSWORD", "12345"),
        ("HALBERD__OPENSTACK__PROJECT_NAME", "true"),
    ];
    let config = read("[api]\nmax_limit = 3", &variables).expect("valid");
    assert_eq!((config.api.auth, config.api.max_limit), (AuthMode::None, 7));
    assert_eq!(config.engine.heartbeat_listen.len(), 2);
    assert_eq!((config.policy.poll_ms, config.policy.beat_interval_ms), (321, 500), "over the profile's own");
    assert_eq!(config.engine.retention.audit_days, 0);
    let openstack = config.openstack.expect("configured");
    assert_eq!(openstack.project_name.as_deref(), Some("true"), "text stays text");
    let error = read(OPEN, &[("HALBERD__API__LISTN", "x")]).expect_err("unknown").to_string();
    assert!(error.contains("HALBERD__API__LISTN") && error.contains("[api] listen"), "{error}");
}

#[test]
fn without_anything_it_is_open_on_loopback_and_a_file_is_not() {
    let config = Config::parse("", "nothing", std::iter::empty(), true).expect("valid");
    assert_eq!(config.api.auth, AuthMode::None);
    assert!(config.api.listen.ip().is_loopback());
    let error = read("[policy]\nprofile = \"fast\"", &[]).expect_err("keystone by default").to_string();
    assert!(error.contains("[openstack]"), "{error}");
}

#[test]
fn the_sample_is_a_configuration_and_names_every_key() {
    let sample = sample::text();
    // Each commented key, given alone, is one that the types know.
    let known = Known::of_everything();
    for section in [
        "database",
        "api",
        "openstack",
        "engine",
        "policy",
        "retention",
        "webhooks",
        "hooks",
        "services",
        "bus",
    ] {
        assert!(!known.keys(section).is_empty(), "{section}: the type does not tell its names");
        for key in known.keys(section) {
            assert!(sample.contains(&format!("\n# {key} = ")), "[{section}] {key} is not in the sample");
        }
    }
    assert!(!sample.contains("= ...\n"), "a key has neither default nor example:\n{sample}");
    Config::parse(&sample, "sample", std::iter::empty(), true).expect("everything in it is a comment");
    // Defaults that are shown are values of the right type.
    let wanted = ["[api]", "[engine]", "[policy]", "[retention]", "[bus]"];
    let mut taken = String::new();
    let mut inside = false;
    for line in sample.lines() {
        if line.starts_with('[') || line.starts_with("# [[") {
            inside = wanted.contains(&line);
            if inside {
                taken += &format!("{line}\n");
            }
        } else if inside
            && line.starts_with("# ")
            && line.contains(" = ")
            && !line.contains("pem\"")
            && !line.contains(".key\"")
            // Another spelling of `url`, not to be given beside it.
            && !line.contains("url_file")
        {
            let line = line.trim_start_matches("# ").replace("auth = \"keystone\"", "auth = \"none\"");
            // Prose may hold an equals sign as well; keys are one word.
            if line.split(" = ").next().is_some_and(|key| !key.contains(' ')) {
                taken += &format!("{line}\n");
            }
        }
    }
    read(&taken, &[]).unwrap_or_else(|error| panic!("{error}\n{taken}"));
}

#[tokio::test]
async fn files_are_checked_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = dir.path().join("url");
    let text = format!("{OPEN}[database]\nurl_file = \"{}\"", url.display());
    let config = read(&text, &[]).expect("valid");
    let error = config.check_files().await.expect_err("missing").to_string();
    assert!(error.contains("url_file") && error.contains(&url.display().to_string()), "{error}");
    std::fs::write(&url, "sqlite:other.db\n").expect("written");
    config.check_files().await.expect("good");
    assert_eq!(config.database_url().expect("read").expose_secret(), "sqlite:other.db");
}
