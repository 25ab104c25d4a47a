use super::*;

const SMALL: &str = "[agent]\nkey_file = '/k'\nengines = ['10.0.0.1:15869']\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, std::iter::empty())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn defaults_are_masakaris_where_it_has_one() {
    let config = parse(&format!("{SMALL}api_url='http://x'\n[process]\n")).unwrap();
    let process = config.process.as_ref().unwrap();
    assert_eq!((process.check_interval, process.restart_retries, process.restart_interval), (5.0, 3, 5.0));
    assert_eq!(config.beat_interval(), Duration::from_secs(1));
    assert!(config.instance.is_none());
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert_eq!(
        error(&SMALL.replace("engines", "engine")),
        "unknown key `agent.engine`; did you mean `agent.engines`?"
    );
    assert_eq!(error(&format!("{SMALL}[proces]\n")), "unknown key `[proces]`; did you mean `[process]`?");
    assert_eq!(error(&format!("{SMALL}[orders]\nzzzzzzzz = 1\n")), "unknown key `orders.zzzzzzzz`");
    let list = format!("{SMALL}[[networks]]\nname='tenant'\nbnid='1.2.3.4:1'\n");
    assert_eq!(error(&list), "unknown key `networks.bnid`; did you mean `networks.bind`?");
}

#[test]
fn impossible_values_are_named() {
    assert!(error(&format!("{SMALL}[process]\n")).starts_with("`agent.api_url`: is missing"));
    let network = "[[networks]]\nname='tenant'\nbind='10.0.0.2:0'\n";
    assert!(parse(&format!("{SMALL}{network}")).is_ok());
    assert!(error(&format!("{SMALL}{network}{network}")).contains("given twice"));
    assert!(error(&format!("[agent]\nkey_file='k'\n{network}")).contains("`agent.engines`: is empty"));
    assert!(error(&format!("{SMALL}[deep]\ninterval = 0\n")).contains("deep.interval"));
    assert!(error(&format!("{SMALL}[units]\nx = []\n")).contains("first word"));
}

#[test]
fn environment_overrides() {
    let env =
        [("HALBERD__AGENT__PROFILE", "fast"), ("HALBERD__ORDERS__POLL_INTERVAL", "3.5"), ("OTHER", "x")];
    let config = Config::parse(SMALL, env.iter().map(|(k, v)| ((*k).into(), (*v).into()))).unwrap();
    assert_eq!(config.agent.profile, Profile::Fast);
    assert_eq!(config.orders.poll_interval, 3.5);
    let wrong = [("HALBERD__AGENT__PROFIL".to_owned(), "fast".to_owned())];
    assert!(Config::parse(SMALL, wrong.into_iter()).unwrap_err().to_string().contains("agent.profile"));
}

/// Every key of the types is known to the check, and the other way round.
#[test]
fn known_keys_are_the_types_keys() {
    let full = Config {
        agent: AgentConfig {
            host: Some(Uuid::nil()),
            name: Some("n".into()),
            key_file: "k".into(),
            engines: vec![],
            state_dir: "s".into(),
            api_url: Some("u".into()),
            api_ca_file: Some("c".into()),
            profile: Profile::Fast,
            beat_interval_ms: Some(1),
        },
        networks: vec![NetworkConfig {
            name: Network::Tenant,
            bind: SocketAddr::from(([0, 0, 0, 0], 0)),
            engines: vec![],
        }],
        neighbours: NeighboursConfig::default(),
        deep: DeepConfig { storage_file: Some("f".into()), interval: 1.0 },
        process: Some(ProcessConfig::default()),
        instance: Some(InstanceConfig { control_socket: Some("c".into()), ..InstanceConfig::default() }),
        units: BTreeMap::new(),
        orders: OrdersConfig::default(),
    };
    let table = toml::Table::try_from(&full).unwrap();
    for (section, keys) in KEYS {
        let of_type: Vec<String> = match (*section, table.get(*section)) {
            ("", _) => table.keys().cloned().collect(),
            (_, Some(toml::Value::Table(t))) => t.keys().cloned().collect(),
            (_, Some(toml::Value::Array(a))) => a[0].as_table().unwrap().keys().cloned().collect(),
            other => panic!("{other:?}"),
        };
        let mut known: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        let mut of_type = of_type;
        known.sort();
        of_type.sort();
        assert_eq!(known, of_type, "section [{section}]");
    }
}
