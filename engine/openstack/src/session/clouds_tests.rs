use super::*;

const CLOUDS: &str = r#"
clouds:
  plain:
    auth:
      auth_url: http://k:5000/v3
      username: admin
      password: hunter2
      project_name: admin
    region_name: RegionOne
  ids:
    auth_type: v3password
    auth:
      auth_url: http://k:5000
      user_id: u-1
      password: 12345
      project_id: p-1
    interface: internalURL
    cacert: /etc/ssl/our.pem
    compute_endpoint_override: http://nova:8774/v2.1
    identity_api_version: 3
    volume_api_version: "3"
  domains:
    auth_type: v3password
    auth:
      auth_url: http://k:5000
      username: ha
      password: hunter2
      user_domain_id: d-1
      project_name: service
      project_domain_name: Services
  credential:
    auth_type: v3applicationcredential
    auth:
      auth_url: http://k:5000
      application_credential_id: c-1
      application_credential_secret: hunter2
  system:
    auth: {auth_url: "http://k:5000", username: a, password: hunter2, system_scope: all}
    verify: false
  split:
    auth: {auth_url: "http://k:5000", username: a, project_name: p}
  kerberos:
    auth_type: v3kerberos
    auth: {auth_url: "http://k:5000"}
  lacking:
    auth: {auth_url: "http://k:5000", username: a, password: hunter2}
  wrong:
    auth: {auth_url: "http://k:5000", username: a, password: [hunter2]}
"#;

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new(clouds: &str) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clouds.yaml"), clouds).unwrap();
        Folder { folder }
    }

    fn load(&self, name: &str) -> Result<Settings, Error> {
        let path = |file| vec![self.folder.path().join("absent.yaml"), self.folder.path().join(file)];
        load(name, &Places { clouds: path("clouds.yaml"), secure: path("secure.yaml") })
    }
}

fn body(name: &str) -> serde_json::Value {
    Folder::new(CLOUDS).load(name).unwrap().credentials.body().unwrap()
}

#[test]
fn passwords_with_names_ids_and_domains() {
    assert_eq!(
        body("plain")["auth"],
        serde_json::json!({
            "identity": {"methods": ["password"], "password": {"user":
                {"name": "admin", "domain": {"id": "default"}, "password": "hunter2"}}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}
        })
    );
    let ids = body("ids");
    let user = &ids["auth"]["identity"]["password"]["user"];
    assert_eq!(user, &serde_json::json!({"id": "u-1", "password": "12345"}));
    assert_eq!(ids["auth"]["scope"], serde_json::json!({"project": {"id": "p-1"}}));
    let domains = body("domains");
    assert_eq!(domains["auth"]["identity"]["password"]["user"]["domain"], serde_json::json!({"id": "d-1"}));
    assert_eq!(domains["auth"]["scope"]["project"]["domain"], serde_json::json!({"name": "Services"}));
}

#[test]
fn application_credential_and_system_scope() {
    let credential = body("credential");
    assert_eq!(credential["auth"]["identity"]["application_credential"]["id"], "c-1");
    assert!(credential["auth"].get("scope").is_none(), "Keystone refuses a scope here");
    assert_eq!(body("system")["auth"]["scope"], serde_json::json!({"system": {"all": true}}));
}

#[test]
fn the_rest_of_a_cloud_counts_too() {
    let settings = Folder::new(CLOUDS).load("ids").unwrap();
    assert_eq!(settings.interface, Interface::Internal);
    assert_eq!(settings.tls.cacert, Some(PathBuf::from("/etc/ssl/our.pem")));
    assert_eq!(settings.overrides["compute"].as_str(), "http://nova:8774/v2.1");
    assert!(!settings.tls.insecure);
    let settings = Folder::new(CLOUDS).load("plain").unwrap();
    assert_eq!(settings.region.as_deref(), Some("RegionOne"));
    assert!(Folder::new(CLOUDS).load("system").unwrap().tls.insecure);
}

#[test]
fn secure_yaml_is_laid_over() {
    let folder = Folder::new(CLOUDS);
    let without = folder.load("split").unwrap_err().to_string();
    assert!(without.contains("auth.password is missing") && without.contains("split"), "{without}");
    std::fs::write(folder.folder.path().join("secure.yaml"), "clouds: {split: {auth: {password: hunter2}}}")
        .unwrap();
    let body = folder.load("split").unwrap().credentials.body().unwrap();
    let user = &body["auth"]["identity"]["password"]["user"];
    assert_eq!((user["name"].as_str(), user["password"].as_str()), (Some("a"), Some("hunter2")));
}

#[test]
fn faults_name_the_thing_and_never_the_secret() {
    let cases = [
        (CLOUDS, "nowhere", "nowhere"),
        (CLOUDS, "kerberos", "v3applicationcredential"),
        (CLOUDS, "lacking", "project_name"),
        (CLOUDS, "wrong", "wrong type"),
        ("clouds: 5", "x", "no mapping"),
        ("password: hunter2: x: y\n- hunter2", "x", "YAML"),
        ("- hunter2", "x", "YAML"),
    ];
    for (text, name, named) in cases {
        let error = Folder::new(text).load(name).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(matches!(error, Error::Config(_)) && shown.contains(named), "{name}: {shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let error = load("x", &Places::default()).unwrap_err().to_string();
    assert!(error.contains("OS_CLIENT_CONFIG_FILE"), "{error}");
    let shown = format!("{:?}", Folder::new(CLOUDS).load("credential").unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_usual_places_in_their_order() {
    let places = Places::from_variables(|name| match name {
        "OS_CLIENT_CONFIG_FILE" => Some("/run/clouds.yaml".into()),
        "HOME" => Some("/home/op".into()),
        _ => None,
    });
    let position = |path: &str| places.clouds.iter().position(|place| place == Path::new(path)).unwrap();
    assert_eq!(position("/run/clouds.yaml"), 0);
    assert!(position("clouds.yaml") < position("/home/op/.config/openstack/clouds.yaml"));
    assert!(position("/home/op/.config/openstack/clouds.yaml") < position("/etc/openstack/clouds.yaml"));
    assert!(!places.secure.contains(&PathBuf::from("/run/clouds.yaml")));
}
