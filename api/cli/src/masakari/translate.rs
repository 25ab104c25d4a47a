//! What each option of Masakari means here (contract 4.1), section by section of ours.
//!
//! An option that was looked at is taken; what nobody took in the end either means nothing here, with the reason, or is not known.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::gone;
use super::ini::{DEFAULT, Ini};
use super::out::Out;

/// Tasks that Masakari ships: the recoveries' own work, which ours does itself.
const BUILT_IN: &[&str] = &[
    "disable_compute_service_task",
    "prepare_HA_enabled_instances_task",
    "evacuate_instances_task",
    "stop_instance_task",
    "start_instance_task",
    "confirm_instance_active_task",
    "disable_compute_node_task",
    "confirm_compute_node_disabled_task",
    "no_op",
];
const FLOWS: &str = "taskflow_driver_recovery_flows";

/// Reads options and remembers which were asked for.
struct Options<'i> {
    ini: &'i Ini,
    taken: BTreeSet<(String, String)>,
    /// Every name that was asked for, for guesses.
    asked: BTreeSet<(&'static str, &'static str)>,
}

/// An option's value and its name for a comment.
struct Value {
    text: String,
    from: String,
}

fn shown(section: &str, name: &str) -> String {
    format!("[{section}] {name}")
}

impl Options<'_> {
    fn take(&mut self, section: &'static str, name: &'static str, out: &mut Out) -> Option<Value> {
        self.asked.insert((section, name));
        let value = self.ini.value(section, name)?;
        self.taken.insert((section.to_owned(), name.to_owned()));
        let from = shown(section, name);
        match value {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(Value { text, from }),
            Err(unknown) => {
                out.look.push(format!(
                    "{from} refers to ${unknown}, which these files do not set: give its value by hand"
                ));
                None
            }
        }
    }

    /// The first of these that is set.
    fn first(&mut self, of: &[(&'static str, &'static str)], out: &mut Out) -> Option<Value> {
        // All are asked for, so that the others count as understood.
        let mut found: Vec<Value> =
            of.iter().filter_map(|(section, name)| self.take(section, name, out)).collect();
        let first = (!found.is_empty()).then(|| found.remove(0))?;
        for other in found.iter().filter(|other| other.text != first.text) {
            out.gone(other.from.clone(), format!("{} was taken instead", first.from));
        }
        Some(first)
    }

    /// A number, times `factor`.
    fn number(
        &mut self,
        section: &'static str,
        name: &'static str,
        factor: i64,
        out: &mut Out,
    ) -> Option<(i64, String)> {
        let value = self.take(section, name, out)?;
        match value.text.parse::<i64>().ok().and_then(|number| number.checked_mul(factor)) {
            Some(number) if number >= 0 => Some((number, value.from)),
            _ => {
                out.look.push(format!("{} is no number that can be used", value.from));
                None
            }
        }
    }

    fn flag(&mut self, section: &'static str, name: &'static str, out: &mut Out) -> Option<(bool, String)> {
        let value = self.take(section, name, out)?;
        match value.text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some((true, value.from)),
            "false" | "0" | "no" | "off" => Some((false, value.from)),
            _ => {
                out.look.push(format!("{} is neither true nor false", value.from));
                None
            }
        }
    }
}

/// Translates everything.
pub(super) fn translate(ini: &Ini, policy: Option<&Path>, out: &mut Out) {
    let mut options = Options { ini, taken: BTreeSet::new(), asked: BTreeSet::new() };
    database(&mut options, out);
    api(&mut options, policy, out);
    openstack(&mut options, out);
    engine(&mut options, out);
    bus(&mut options, out);
    hooks(&mut options, out);
    for (key, given) in &ini.options {
        if options.taken.contains(key) {
            continue;
        }
        let (section, name) = key;
        let at = format!("{} ({}, line {})", shown(section, name), given.path.display(), given.line);
        match gone::why(section, name) {
            Some(why) => out.gone(shown(section, name), why),
            None => {
                let asked = options.asked.iter().filter(|(group, _)| group == section).map(|(_, name)| *name);
                let near = asked
                    .chain(gone::names(section))
                    .map(|known| (strsim::damerau_levenshtein(known, name), known))
                    .min()
                    .filter(|(distance, known)| *distance <= known.len() / 3)
                    .map(|(_, known)| shown(section, known));
                out.unknown.push((at, near));
            }
        }
    }
}

fn database(options: &mut Options<'_>, out: &mut Out) {
    let Some(found) = options.take("database", "connection", out) else { return };
    let file = options.ini.options.get(&("database".to_owned(), "connection".to_owned()));
    let file = file.map_or_else(String::new, |given| given.path.display().to_string());
    out.say(
        "database",
        format!(
            "{} is Masakari's own database. It is not used here; take over what it holds, as often as you like, with\n\
             \x20   halberd db import-masakari {file} --dry-run\n\
             \x20   halberd db import-masakari {file}",
            found.from
        ),
    );
}

fn api(options: &mut Options<'_>, policy: Option<&Path>, out: &mut Out) {
    let open = match options.take(DEFAULT, "auth_strategy", out) {
        None => {
            out.set("api", "auth", "keystone", "Masakari's default");
            false
        }
        Some(found) => {
            let open = found.text == "noauth2";
            if !open && found.text != "keystone" {
                out.look.push(format!("{} is neither keystone nor noauth2: keystone was taken", found.from));
            }
            out.set("api", "auth", if open { "none" } else { "keystone" }, &found.from);
            open
        }
    };
    let address = options.take(DEFAULT, "masakari_api_listen", out);
    let port = options.number(DEFAULT, "masakari_api_listen_port", 1, out);
    let from = match (&address, &port) {
        (Some(address), Some((_, port))) => format!("{} and {port}", address.from),
        (Some(address), None) => address.from.clone(),
        (None, Some((_, port))) => port.clone(),
        (None, None) => "Masakari's default".to_owned(),
    };
    let port = port.map_or(15868, |(port, _)| port);
    let address = address.map_or_else(|| "0.0.0.0".to_owned(), |found| found.text);
    match (address.trim_matches(['[', ']']).parse::<IpAddr>(), u16::try_from(port)) {
        (Ok(ip), Ok(port)) if open && !ip.is_loopback() => {
            let loopback = SocketAddr::from(([127, 0, 0, 1], port)).to_string();
            out.look.push(format!("{from}: without Keystone everybody is an administrator, so the API listens on {loopback} only"));
            out.set("api", "listen", loopback, &format!("{from}, narrowed to loopback"));
        }
        (Ok(ip), Ok(port)) => out.set("api", "listen", SocketAddr::new(ip, port).to_string(), &from),
        _ => out.look.push(format!("{from}: [api] listen takes an IP address and a port; set it by hand")),
    }
    tls(options, out);
    if let Some((most, from)) = options.number(DEFAULT, "osapi_max_limit", 1, out) {
        out.set("api", "max_limit", most, &from);
    }
    if let Some(found) = options.take(DEFAULT, "osapi_masakari_link_prefix", out) {
        out.set("api", "link_prefix", found.text, &found.from);
    }
    let window = options.number(DEFAULT, "duplicate_notification_detection_interval", 1, out);
    if let Some((seconds, from)) = window {
        out.set("api", "duplicate_window_s", seconds, &from);
    }
    if let Some((on, from)) = options.flag("oslo_middleware", "enable_proxy_headers_parsing", out) {
        out.set("api", "proxy_headers", on, &from);
    }
    if let Some((bytes, from)) = options.number("oslo_middleware", "max_request_body_size", 1, out) {
        out.set("api", "max_body", bytes, &from);
    }
    if let Some(found) = options.take("osapi_v1", "project_id_regex", out) {
        out.set("api", "project_id_regex", found.text, &found.from);
    }
    if let Some(found) = options
        .first(&[("keystone_authtoken", "www_authenticate_uri"), ("keystone_authtoken", "auth_uri")], out)
    {
        out.set("api", "www_authenticate_uri", found.text, &found.from);
    }
    if let Some(found) = options.take("keystone_authtoken", "service_token_roles", out) {
        out.set("api", "service_token_roles", list(&found.text), &found.from);
    }
    if let Some((on, from)) = options.flag("keystone_authtoken", "service_token_roles_required", out) {
        out.set("api", "service_token_roles_required", on, &from);
    }
    policy_file(options, policy, out);
}

fn tls(options: &mut Options<'_>, out: &mut Out) {
    let on = options.flag(DEFAULT, "use_ssl", out);
    let files = [
        ("tls_cert", options.first(&[("wsgi", "ssl_cert_file"), ("ssl", "cert_file")], out)),
        ("tls_key", options.first(&[("wsgi", "ssl_key_file"), ("ssl", "key_file")], out)),
        ("tls_client_ca", options.first(&[("wsgi", "ssl_ca_file"), ("ssl", "ca_file")], out)),
    ];
    let wanted = on.is_some_and(|(on, _)| on);
    for (key, found) in files {
        match found {
            Some(found) if wanted => out.set("api", key, found.text, &found.from),
            Some(found) => out.gone(found.from, "[DEFAULT] use_ssl is not true, so Masakari did not use it"),
            None if wanted && key != "tls_client_ca" => {
                out.look
                    .push(format!("[DEFAULT] use_ssl is true and no file is named for [api] {key}: name it"));
            }
            None => {}
        }
    }
}

fn policy_file(options: &mut Options<'_>, policy: Option<&Path>, out: &mut Out) {
    let given = options.take("oslo_policy", "policy_file", out);
    if let Some(path) = policy {
        out.set("api", "policy_file", path.display().to_string(), "--policy");
        return;
    }
    let Some(found) = given else { return };
    let path = Path::new(&found.text);
    let beside = options.ini.options.get(&("oslo_policy".to_owned(), "policy_file".to_owned()));
    let beside = beside.and_then(|given| given.path.parent());
    let path = match beside {
        // As oslo.policy does, the configuration's own directory is looked into.
        Some(folder) if path.is_relative() => folder.join(path),
        _ => path.to_owned(),
    };
    if path.exists() {
        out.set("api", "policy_file", path.display().to_string(), &found.from);
    } else {
        out.look.push(format!(
            "{} names {}, which is not on this machine; set [api] policy_file by hand",
            found.from,
            path.display()
        ));
    }
}

fn openstack(options: &mut Options<'_>, out: &mut Out) {
    const KS: &str = "keystone_authtoken";
    let set = |out: &mut Out, key: &str, found: Option<Value>| {
        if let Some(found) = found {
            out.set("openstack", key, found.text, &found.from);
        }
    };
    let auth_type = options.ini.value(KS, "auth_type").and_then(Result::ok).unwrap_or_default();
    let url = options
        .first(&[(DEFAULT, "os_privileged_user_auth_url"), (KS, "auth_url"), (KS, "identity_uri")], out);
    set(out, "auth_url", url);
    if auth_type == "v3applicationcredential" {
        let id = options.take(KS, "application_credential_id", out);
        set(out, "application_credential_id", id);
        if let Some(found) = options.take(KS, "application_credential_secret", out) {
            let key = "application_credential_secret_file";
            out.secret("openstack", key, "application-credential", found.text, &found.from);
        }
    } else {
        // The account that talks to Nova; it also checks tokens here, so one login serves both.
        let own = options.take(DEFAULT, "os_privileged_user_name", out);
        let own_password = options.take(DEFAULT, "os_privileged_user_password", out);
        let own_project = options.take(DEFAULT, "os_privileged_user_tenant", out);
        let user = options.first(&[(KS, "username"), (KS, "user_name"), (KS, "admin_user")], out);
        let password = options.first(&[(KS, "password"), (KS, "admin_password")], out);
        let project =
            options.first(&[(KS, "project_name"), (KS, "tenant_name"), (KS, "admin_tenant_name")], out);
        let (user, password, unused) = match own {
            Some(own) => (Some(own), own_password.or(password), user),
            None => (user, password.or(own_password), None),
        };
        if let (Some(unused), Some(user)) = (&unused, &user)
            && unused.text != user.text
        {
            out.gone(unused.from.clone(), "the account of [DEFAULT] os_privileged_user_name does both: it talks to Nova and checks tokens");
        }
        set(out, "username", user);
        match password {
            Some(found) => {
                out.secret("openstack", "password_file", "openstack-password", found.text, &found.from)
            }
            None => out.look.push("no password was found for [openstack]: set password_file".to_owned()),
        }
        set(out, "project_name", own_project.or(project));
        for (key, name, of_token, id) in [
            ("user_domain_name", "os_user_domain_name", "user_domain_name", "user_domain_id"),
            ("project_domain_name", "os_project_domain_name", "project_domain_name", "project_domain_id"),
        ] {
            let found = options.first(&[(DEFAULT, name), (KS, of_token)], out);
            let by_id = options.take(KS, id, out);
            match (found, by_id) {
                (Some(found), _) => out.set("openstack", key, found.text, &found.from),
                (None, Some(found)) if found.text == "default" => {
                    out.set(
                        "openstack",
                        key,
                        "Default",
                        &format!("{}, the domain that every cloud has", found.from),
                    );
                }
                (None, Some(found)) => {
                    out.look.push(format!(
                        "{} gives a domain's id; [openstack] {key} wants its name",
                        found.from
                    ));
                }
                (None, None) => {}
            }
        }
    }
    let region = options.first(&[(DEFAULT, "os_region_name"), (KS, "region_name")], out);
    set(out, "region", region);
    let interface = options.take(KS, "interface", out);
    let catalog = options.take(DEFAULT, "nova_catalog_admin_info", out).map(|found| {
        // type:name:interface
        let text = found.text.rsplit(':').next().unwrap_or_default().to_owned();
        Value { text, from: found.from }
    });
    if let Some(found) = catalog.or(interface) {
        match found.text.trim_end_matches("URL") {
            word @ ("public" | "internal" | "admin") => out.set("openstack", "interface", word, &found.from),
            _ => out.look.push(format!("{} names no interface (public, internal, admin)", found.from)),
        }
    }
    let authorities = options.first(&[(DEFAULT, "nova_ca_certificates_file"), (KS, "cafile")], out);
    set(out, "cacert", authorities);
}

fn engine(options: &mut Options<'_>, out: &mut Out) {
    if let Some(found) = options.take(DEFAULT, "host", out) {
        out.set("engine", "name", found.text.clone(), &found.from);
        out.set("bus", "host", found.text, &found.from);
    }
    for (section, name) in [
        ("host_failure", "evacuate_all_instances"),
        ("host_failure", "ignore_instances_in_error_state"),
        ("host_failure", "add_reserved_host_to_aggregate"),
        ("instance_failure", "process_all_instances"),
    ] {
        if let Some((on, from)) = options.flag(section, name, out) {
            out.set("policy", name, on, &from);
        }
    }
    let key = "ha_enabled_instance_metadata_key";
    let of_host = options.take("host_failure", key, out);
    let of_guest = options.take("instance_failure", key, out);
    if let (Some(host), Some(guest)) = (&of_host, &of_guest)
        && host.text != guest.text
    {
        out.look.push(format!(
            "{} and {} differ; there is one key here, and that of host failures was taken: mark the guests with it",
            host.from, guest.from
        ));
    } else if let (None, Some(guest)) = (&of_host, &of_guest)
        && guest.text != "HA_Enabled"
    {
        out.look.push(format!(
            "{} was set for instance failures only; here it counts for host failures too",
            guest.from
        ));
    }
    if let Some(found) = of_host.or(of_guest) {
        out.set("policy", key, found.text, &found.from);
    }
    for (name, key, factor) in [
        ("host_failure_recovery_threads", "evacuations_in_flight", 1),
        ("wait_period_after_power_off", "stop_timeout_ms", 1000),
        ("wait_period_after_power_on", "start_timeout_ms", 1000),
        ("verify_interval", "poll_ms", 1000),
    ] {
        if let Some((number, from)) = options.number(DEFAULT, name, factor, out) {
            out.set("policy", key, number.max(1), &from);
        }
    }
}

fn bus(options: &mut Options<'_>, out: &mut Out) {
    const NOTES: &str = "oslo_messaging_notifications";
    const RABBIT: &str = "oslo_messaging_rabbit";
    let driver = options.take(NOTES, "driver", out);
    let told = driver.as_ref().is_some_and(|found| found.text.starts_with("messaging"));
    if !told {
        // Without a driver Masakari tells nothing, and what stands there is explained with the rest.
        if let Some(found) = driver {
            out.gone(
                found.from,
                "with this driver Masakari told nothing on the message bus; with [bus] url it would be told",
            );
        }
        return;
    }
    out.say(
        "bus",
        "[oslo_messaging_notifications] driver is set, so events are told on the message bus here too",
    );
    let url = options.first(&[(NOTES, "transport_url"), (DEFAULT, "transport_url")], out);
    match url {
        // A transport URL holds the broker's password.
        Some(found) => out.secret("bus", "url_file", "bus-url", found.text, &found.from),
        None => out.look.push(
            "[oslo_messaging_notifications] driver is set and no transport_url: set [bus] url_file".into(),
        ),
    }
    if let Some(found) = options.take(NOTES, "topics", out) {
        out.set("bus", "topics", list(&found.text), &found.from);
    }
    if let Some(found) = options.take(DEFAULT, "control_exchange", out) {
        out.set("bus", "exchange", found.text, &found.from);
    }
    for (name, key) in
        [("amqp_durable_queues", "durable_queues"), ("rabbit_quorum_queue", "quorum_queues"), ("ssl", "tls")]
    {
        if let Some((on, from)) = options.flag(RABBIT, name, out) {
            out.set("bus", key, on, &from);
        }
    }
    if let Some(found) = options.take(RABBIT, "ssl_ca_file", out) {
        out.set("bus", "ca_file", found.text, &found.from);
    }
}

/// Custom tasks become hooks, which only their operator can write: so they are shown as comments.
fn hooks(options: &mut Options<'_>, out: &mut Out) {
    for (name, recovery) in [
        ("host_auto_failure_recovery_tasks", "host"),
        ("host_rh_failure_recovery_tasks", "host"),
        ("instance_failure_recovery_tasks", "instance"),
        ("process_failure_recovery_tasks", "process"),
    ] {
        let Some(found) = options.take(FLOWS, name, out) else { continue };
        let custom = custom_tasks(&found.text);
        if custom.is_empty() {
            out.gone(found.from, "Masakari's own tasks are what a recovery does here by itself");
            continue;
        }
        for (at, task) in custom {
            out.look
                .push(format!("{} runs {task} at {at}: write the hook that is drafted above", found.from));
            out.hints.push(format!(
                "from {}: the task {task} is Python and does not run here. What it did can be a command or a webhook:\n\
                 [[hooks]]\nname = \"{}\"\nat = [\"{at}\"]\nrecoveries = [\"{recovery}\"]\ncommand = [\"/etc/halberd/hooks/{task}\"]",
                found.from,
                task.replace('_', "-")
            ));
        }
    }
}

/// `pre:[a,b],main:[c]`, however it is quoted, as (point, task), without Masakari's own.
fn custom_tasks(text: &str) -> Vec<(String, String)> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let mut at = "main".to_owned();
    let mut found = Vec::new();
    for word in words {
        match word {
            "pre" | "main" | "post" => word.clone_into(&mut at),
            task if BUILT_IN.contains(&task) => {}
            task => found.push((at.clone(), task.to_owned())),
        }
    }
    found
}

fn list(text: &str) -> toml::Value {
    let items = text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty());
    toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect())
}
