//! A sample configuration, from the types' own names and defaults; what a key means stands here, in the order of the sections.

use halberd_api::ApiConfig;
use halberd_core::policy::Policy;
use halberd_engine::EngineConfig;
use halberd_engine::bus::BusConfig;
use halberd_store::retention::Retention;
use serde_json::Value;

use super::keys::Known;

/// The sample. Every key stands as a comment: a configuration says only what differs from the default.
pub fn text() -> String {
    let known = Known::of_everything();
    let mut text = String::from(HEAD);
    let sections: [(&str, Option<Value>); 10] = [
        ("database", None),
        ("api", serde_json::to_value(ApiConfig::default()).ok()),
        ("openstack", None),
        ("engine", serde_json::to_value(EngineConfig::default()).ok()),
        ("policy", serde_json::to_value(Policy::default()).ok()),
        ("retention", serde_json::to_value(Retention::default()).ok()),
        ("webhooks", None),
        ("hooks", None),
        ("services", None),
        ("bus", serde_json::to_value(BusConfig::default()).ok()),
    ];
    for (section, defaults) in sections {
        text.push('\n');
        for line in about(section).lines() {
            text.push_str(&format!("# {line}\n"));
        }
        let header = if matches!(section, "webhooks" | "hooks" | "services") {
            format!("# [[{section}]]\n")
        } else {
            format!("[{section}]\n")
        };
        text.push_str(&header);
        for key in known.keys(section) {
            let value = defaults.as_ref().and_then(|defaults| defaults.get(key)).and_then(shown);
            let value =
                value.or_else(|| example(section, key).map(str::to_owned)).unwrap_or_else(|| "...".into());
            text.push_str(&format!("# {key} = {value}\n"));
        }
    }
    text
}

const HEAD: &str = "# Halberd. Every key below stands with its default or, where it has none, with an example; what is left out is the default.
# HALBERD__SECTION__KEY in the environment overrides a key; secrets are better in files of their own (the keys that end in _file).
";

fn about(section: &str) -> &'static str {
    match section {
        "database" => {
            "Where everything is remembered. url_file: a file with the URL, when it holds a password."
        }
        "api" => {
            "The API. auth = \"none\" makes everybody an administrator and is allowed on loopback only.\ntls_cert and tls_key make it HTTPS; with tls_client_ca clients need certificates. SIGHUP reads the three again."
        }
        "openstack" => {
            "The cloud: either cloud, a name in clouds.yaml, or auth_url with a user or an application credential."
        }
        "engine" => {
            "The engine. heartbeat_listen: one UDP address for each network, in the order management, tenant, storage.\nsecrets_key_file: 32 bytes, mode 0600, the same for every engine and API; on SQLite one is made beside the database.\nhigh_water_file: where this engine remembers how far the database was; beside an SQLite file, in /var/lib/halberd or in the working directory."
        }
        "policy" => {
            "Thresholds; a profile (fast, balanced, conservative) sets the timers, any key here overrides it, a segment overrides both.\nThe defaults shown are balanced's. Times are milliseconds."
        }
        "retention" => {
            "How long history is kept, in days; 0 keeps it for ever. What is open, undelivered or named by something that is kept is never deleted.\nA recovery goes with all its rows; one that touched power counts as fence history (fenced_days). purge = false: only `halberd db purge` deletes."
        }
        "webhooks" => {
            "Who is told. template: generic, servicenow, jira, pagerduty, alertmanager, slack, or a JSON document."
        }
        "hooks" => {
            "What is run beside recoveries: a command (no shell) or a POST to a url, at pre (permitted, nothing done yet), main (fenced or stopped,\nnothing brought back yet) or post (before the close). on_failure: continue, or hold until a person retries or releases the recovery."
        }
        "bus" => {
            "Masakari's event notifications on RabbitMQ; without url or url_file none are made. durable_queues and quorum_queues as your\nlisteners have them (amqp_durable_queues, rabbit_quorum_queue); keep: most that wait while the broker is away."
        }
        _ => "Which services of the control plane are watched, and what may be done about one that is down.",
    }
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Array(list) if list.is_empty() => Some("[]".into()),
        other => Some(other.to_string()),
    }
}

fn example(section: &str, key: &str) -> Option<&'static str> {
    Some(match (section, key) {
        ("database", "url") => "\"sqlite:halberd.db\"",
        ("database", "url_file") => "\"/etc/halberd/database-url\"",
        ("api", "tls_cert") => "\"/etc/halberd/api.pem\"",
        ("api", "tls_key") => "\"/etc/halberd/api.key\"",
        ("api", "tls_client_ca") => "\"/etc/halberd/clients.pem\"",
        ("api", "healthcheck_disable_file") => "\"/etc/halberd/healthcheck_disable\"",
        ("api", "policy_file") => "\"/etc/halberd/policy.yaml\"",
        ("api", "link_prefix") => "\"https://ha.example.org/instance-ha\"",
        ("api", "www_authenticate_uri") => "\"https://keystone.example.org/v3\"",
        ("openstack", "cloud") => "\"mycloud\"",
        ("openstack", "auth_url") => "\"https://keystone.example.org/v3\"",
        ("openstack", "username") => "\"halberd\"",
        ("openstack", "password") => "\"better in password_file\"",
        ("openstack", "password_file") => "\"/etc/halberd/password\"",
        ("openstack", "project_name") => "\"service\"",
        ("openstack", "user_domain_name" | "project_domain_name") => "\"Default\"",
        ("openstack", "application_credential_id") => "\"21dced0fd20347869b93710d2b98aae0\"",
        ("openstack", "application_credential_secret_file") => "\"/etc/halberd/credential\"",
        ("openstack", "region") => "\"RegionOne\"",
        ("openstack", "interface") => "\"public\"",
        ("openstack", "cacert") => "\"/etc/ssl/certs/cloud.pem\"",
        ("engine", "name") => "\"controller-1\"",
        ("engine", "secrets_key_file") => "\"/etc/halberd/halberd.key\"",
        ("engine", "high_water_file") => "\"/var/lib/halberd/halberd.high-water\"",
        ("bus", "url") => {
            "\"rabbit://halberd:better-in-url_file@10.0.0.11:5672,halberd:...@10.0.0.12:5672/\""
        }
        ("bus", "url_file") => "\"/etc/halberd/bus-url\"",
        ("bus", "ca_file") => "\"/etc/ssl/certs/rabbitmq.pem\"",
        ("bus", "host") => "\"controller-1\"",
        ("webhooks", "name") => "\"tickets\"",
        ("webhooks", "url") => "\"https://tickets.example.org/hook\"",
        ("webhooks", "secret") => "\"whsec_... (better in secret_file)\"",
        ("webhooks", "secret_file") => "\"/etc/halberd/webhook-secret\"",
        ("webhooks", "template") => "\"generic\"",
        ("webhooks", "events") => "[\"recovery.opened\", \"recovery.closed\"]",
        ("webhooks", "headers") => "{ Authorization = { file = \"/etc/halberd/ticket-token\" } }",
        ("webhooks", "params") => "{ project = \"OPS\" }",
        ("webhooks", "allow_networks") => "[\"10.0.0.0/8\"]",
        ("webhooks", "proxy") => "\"http://proxy.example.org:3128\"",
        ("webhooks", "timeout_ms") => "10000",
        ("hooks", "name") => "\"detach-volumes\"",
        ("hooks", "at") => "[\"main\"]",
        ("hooks", "recoveries") => "[\"host\"]",
        ("hooks", "command") => "[\"/usr/local/bin/detach-volumes\", \"--force\"]",
        ("hooks", "url") => "\"https://automation.example.org/halberd\"",
        ("hooks", "secret_file") => "\"/etc/halberd/hook-secret\"",
        ("hooks", "headers") => "{ Authorization = { file = \"/etc/halberd/automation-token\" } }",
        ("hooks", "timeout_s") => "30",
        ("hooks", "attempts") => "1",
        ("hooks", "on_failure") => "\"continue\"",
        ("services", "kind") => "\"mariadb\"",
        ("services", "name") => "\"galera\"",
        ("services", "targets") => "[\"10.0.0.11\", \"10.0.0.12\", \"10.0.0.13\"]",
        ("services", "username") => "\"canary\"",
        ("services", "password") => "\"better in password_file\"",
        ("services", "password_file") => "\"/etc/halberd/canary-password\"",
        ("services", "schema") => "\"halberd_canary\"",
        ("services", "vhost") => "\"/\"",
        ("services", "tls" | "standby_ok") => "false",
        ("services", "cacert") => "\"/etc/ssl/certs/db.pem\"",
        ("services", "expect_status") => "[200]",
        ("services", "openstack") => "{ cloud = \"prober\" }",
        ("services", "unit") => "\"mariadb.service\"",
        ("services", "hosts") => "[\"ctl-1\", \"ctl-2\", \"ctl-3\"]",
        ("services", "action") => "\"none\"",
        ("services", "thresholds") => "{ fail_after = 3, interval_ms = 2000 }",
        _ => return None,
    })
}
