//! Options of Masakari and its libraries that mean nothing here, each with the reason in words.

/// Section, name (`*`: every other one of the section) and why.
const GONE: &[(&str, &str, &str)] = &[
    (
        "DEFAULT",
        "wait_period_after_service_update",
        "no fixed sleep is needed: evacuation begins when the host is proved off and Nova calls it down",
    ),
    (
        "DEFAULT",
        "wait_period_after_evacuation",
        "a move is followed until Nova ends it; [policy] evacuation_deadline_ms (600 s) says when a person is asked",
    ),
    (
        "DEFAULT",
        "process_unfinished_notifications_interval",
        "nothing is left unfinished: an engine that dies is taken over within its lease ([policy] lease_ms)",
    ),
    (
        "DEFAULT",
        "retry_notification_new_status_interval",
        "a report is in the database before it is acknowledged and is taken up within 250 ms; none is lost on the way to an engine",
    ),
    (
        "DEFAULT",
        "check_expired_notifications_interval",
        "reports do not expire: each leads to an end with a reason",
    ),
    (
        "DEFAULT",
        "notifications_expired_interval",
        "reports do not expire: each leads to an end with a reason",
    ),
    ("DEFAULT", "notification_delay_max", "no request sleeps: duplicates are told apart in the database"),
    (
        "DEFAULT",
        "notification_driver",
        "there is one engine; what custom drivers did is done by [[hooks]] and [[webhooks]]",
    ),
    ("DEFAULT", "masakari_topic", "API and engine meet in the database, not on the message bus"),
    ("DEFAULT", "rpc_response_timeout", "API and engine meet in the database, not on the message bus"),
    ("DEFAULT", "executor_thread_pool_size", "API and engine meet in the database, not on the message bus"),
    ("DEFAULT", "rpc_conn_pool_size", "API and engine meet in the database, not on the message bus"),
    ("DEFAULT", "rpc_poll_timeout", "API and engine meet in the database, not on the message bus"),
    ("DEFAULT", "masakari_api_workers", "one process serves all requests"),
    (
        "DEFAULT",
        "graceful_shutdown_timeout",
        "a stop gives recoveries back, and another engine or the next start goes on with them",
    ),
    ("DEFAULT", "periodic_enable", "the engine's timers are its own"),
    ("DEFAULT", "periodic_fuzzy_delay", "the engine's timers are its own"),
    ("DEFAULT", "periodic_interval_max", "the engine's timers are its own"),
    ("DEFAULT", "run_external_periodic_tasks", "the engine's timers are its own"),
    ("DEFAULT", "report_interval", "Masakari does not use it either"),
    ("DEFAULT", "service_down_time", "Masakari does not use it either"),
    ("DEFAULT", "use_forwarded_for", "it is deprecated; [api] proxy_headers believes a proxy's headers"),
    ("DEFAULT", "enabled_apis", "there is one API"),
    ("DEFAULT", "enable_new_services", "Masakari does not use it either"),
    ("DEFAULT", "instance_usage_audit_period", "Masakari does not use it either"),
    (
        "DEFAULT",
        "nova_api_insecure",
        "certificates are always verified; name the cloud's authorities in [openstack] cacert",
    ),
    ("DEFAULT", "os_system_scope", "the login is for a project; give the account the admin role there"),
    ("DEFAULT", "state_path", "paths are given whole"),
    ("DEFAULT", "bindir", "paths are given whole"),
    ("DEFAULT", "pybasedir", "paths are given whole"),
    ("DEFAULT", "tempdir", "paths are given whole"),
    ("DEFAULT", "my_ip", "addresses are given where they are used"),
    ("DEFAULT", "monkey_patch", "there is no Python to patch"),
    ("DEFAULT", "monkey_patch_modules", "there is no Python to patch"),
    ("DEFAULT", "api_paste_config", "the API is not put together by a paste file"),
    ("DEFAULT", "fatal_exception_format_errors", "it was for Masakari's developers"),
    (
        "DEFAULT",
        "control_exchange",
        "no notifications were sent on the message bus (oslo_messaging_notifications driver)",
    ),
    (
        "DEFAULT",
        "transport_url",
        "API and engine meet in the database; it is of use only where notifications are sent (oslo_messaging_notifications driver)",
    ),
    ("host_failure", "service_disable_reason", "the reason given to Nova names the recovery"),
    ("process_failure", "service_disable_reason", "the reason given to Nova names the recovery"),
    ("taskflow", "*", "the state of a recovery is in [database]; there is no second one"),
    ("coordination", "*", "engines and APIs agree through the database; no etcd or redis is needed"),
    ("osapi_v1", "*", "deprecated in Masakari; every extension is there"),
    ("wsgi", "*", "it was for Masakari's own web server"),
    ("oslo_messaging_notifications", "*", "[bus] names what is needed: url, exchange, topics"),
    (
        "oslo_messaging_rabbit",
        "*",
        "API and engine meet in the database; how events are published is [bus]'s",
    ),
    ("oslo_messaging_amqp", "*", "events go to RabbitMQ only"),
    ("oslo_messaging_kafka", "*", "events go to RabbitMQ only"),
    ("oslo_concurrency", "*", "there are no lock files"),
    ("oslo_versionedobjects", "*", "it was for Masakari's developers"),
    ("oslo_reports", "*", "`halberd explain` and /metrics tell what goes on"),
    ("oslo_middleware", "*", "the API has limits of its own in [api]"),
    (
        "oslo_policy",
        "*",
        "[api] policy_file is the one that is read; there are no policy directories and no remote checks",
    ),
    ("healthcheck", "*", "/healthcheck answers always, /healthcheck?ready tells readiness"),
    ("cors", "*", "there is no CORS; put what a browser needs into the proxy before the API"),
    ("cache", "*", "tokens are cached in the process"),
    ("profiler", "*", "/metrics has the times"),
    ("ssl", "*", "[api] tls_cert and tls_key"),
    ("database", "*", "our own database has no such settings; Masakari's is imported once"),
    ("keystone_authtoken", "memcached_servers", "tokens are cached in the process"),
    ("keystone_authtoken", "memcache_security_strategy", "tokens are cached in the process"),
    ("keystone_authtoken", "memcache_secret_key", "tokens are cached in the process"),
    (
        "keystone_authtoken",
        "token_cache_time",
        "tokens are cached in the process until shortly before they expire",
    ),
    (
        "keystone_authtoken",
        "insecure",
        "certificates are always verified; name the cloud's authorities in [openstack] cacert",
    ),
    ("keystone_authtoken", "auth_type", "it follows from what stands in [openstack]"),
    ("keystone_authtoken", "auth_section", "the login stands in [openstack]"),
    (
        "keystone_authtoken",
        "*",
        "one login, [openstack], serves Keystone and Nova alike; this option has no counterpart there",
    ),
];

/// Options of oslo.log, which stand in DEFAULT.
const LOGGING: &[&str] = &[
    "debug",
    "verbose",
    "log_file",
    "log_dir",
    "log_config_append",
    "log_date_format",
    "log_format",
    "log_options",
    "use_syslog",
    "use_journal",
    "use_json",
    "use_stderr",
    "use_eventlog",
    "use_color",
    "use_ssl_log",
    "syslog_log_facility",
    "watch_log_file",
    "log_rotate_interval",
    "log_rotate_interval_type",
    "log_rotation_type",
    "max_logfile_count",
    "max_logfile_size_mb",
    "logging_context_format_string",
    "logging_default_format_string",
    "logging_debug_format_suffix",
    "logging_exception_prefix",
    "logging_user_identity_format",
    "default_log_levels",
    "publish_errors",
    "instance_format",
    "instance_uuid_format",
    "rate_limit_interval",
    "rate_limit_burst",
    "rate_limit_except_level",
    "fatal_deprecations",
];

/// Why an option means nothing here; `None`: it is not known.
pub(super) fn why(section: &str, name: &str) -> Option<&'static str> {
    if section == super::ini::DEFAULT && LOGGING.contains(&name) {
        return Some("logs go to standard error; RUST_LOG says how much, --log-format in which form");
    }
    let found = |wanted: &str| GONE.iter().find(|(group, known, _)| *group == section && *known == wanted);
    found(name).or_else(|| found("*")).map(|(_, _, why)| *why)
}

/// Every name of a section that is known as meaningless, for guesses.
pub(super) fn names(section: &str) -> impl Iterator<Item = &'static str> {
    let of_section = GONE.iter().filter(move |(group, name, _)| *group == section && *name != "*");
    let logging = LOGGING.iter().copied().filter(move |_| section == super::ini::DEFAULT);
    of_section.map(|(_, name, _)| *name).chain(logging)
}
