//! `halberd host fence-devices` and `halberd fence devices`: how a host is turned off. One implementation under both names.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, text};
use super::segment::set;
use super::wish::{self, Patience};

/// One device of one host, as a row made by [`rows`].
pub(super) const DEVICES: &[Column] = &[
    Column::text("host", "host"),
    Column::text("level", "level"),
    Column::text("device", "device"),
    Column::text("ready", "last_check.ready"),
    Column::text("power", "last_check.power"),
    Column::text("identity", "last_check.identity"),
    Column::time("checked", "last_check.at"),
    Column::text("note", "note"),
];

/// The same for a dry run: what would be asked of it.
pub(super) const WOULD: &[Column] = &[
    Column::text("level", "level"),
    Column::text("device", "device"),
    Column::text("power", "last_check.power"),
    Column::text("would send", "last_check.would"),
    Column::text("note", "note"),
];

/// Everything that is known of one device.
const DETAIL: &[Column] = &[
    Column::text("host", "host"),
    Column::text("level", "level"),
    Column::text("device", "device"),
    Column::text("account", "username"),
    Column::text("password", "password"),
    Column::text("ready", "last_check.ready"),
    Column::time("since", "last_check.since"),
    Column::text("power", "last_check.power"),
    Column::text("identity", "last_check.identity"),
    Column::text("would send", "last_check.would"),
    Column::text("restore policy", "last_check.restore_policy"),
    Column::text("firmware", "last_check.firmware"),
    Column::time("checked", "last_check.at"),
    Column::time("last drill", "last_drill_at"),
    Column::text("note", "note"),
];

/// `halberd fence devices`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Devices {
    /// Only those of this host, with all that is known of them: name or uuid
    host: Option<String>,
    #[command(subcommand)]
    verb: Option<FenceDevices>,
}

impl Devices {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match (self.verb, self.host) {
            (Some(verb), _) => verb.run(api, screen).await,
            (None, Some(host)) => FenceDevices::Show { host }.run(api, screen).await,
            (None, None) => all(api, screen).await,
        }
    }
}

/// The devices of every host.
async fn all(api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let (mut objects, mut lines) = (Vec::new(), Vec::new());
    for host in api.hosts(None, &[]).await? {
        let mut view = api.get(&path_of(&host), &[]).await?;
        lines.extend(rows(&host, &view));
        view["host"] = host["name"].clone();
        view["host_id"] = json!(text(&host, "uuid"));
        objects.push(view);
    }
    match screen.format {
        Format::Json => screen.list(&objects, DEVICES),
        _ => screen.list(&lines, DEVICES),
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum FenceDevices {
    /// Replace the fence devices of a host
    ///
    /// Either --file with all levels, or one device by --type and the options after it. A password is read
    /// from a file, never from the command line, where others would see it. The engine checks what was set at
    /// once: the exit code says whether every device could fence (0) or not (1). Nothing is turned off.
    #[command(verbatim_doc_comment)]
    Set(Box<Set>),
    /// Show all that is known of the fence devices of a host; secrets are masked
    Show {
        /// Name or uuid
        host: String,
    },
    /// Have the engine reach, log into and read each fence device of a host now
    Check {
        /// Name or uuid
        host: String,
        #[command(flatten)]
        patience: Patience,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// JSON: {"levels": [{"devices": [{"type": .., "address": .., ..}]}]}; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Remove all devices
    #[arg(long)]
    none: bool,
    /// Protocol of the one device
    #[arg(long = "type", value_name = "TYPE", value_parser = ["redfish", "ipmi", "agent", "watchdog"])]
    device_type: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Set {
    /// Name or uuid
    host: String,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, clap::Args)]
#[group(multiple = true, conflicts_with_all = ["file", "none"])]
pub struct Device {
    /// URL for redfish, host[:port] for ipmi
    #[arg(long)]
    address: Option<String>,
    /// Account on the BMC
    #[arg(long)]
    username: Option<String>,
    /// File with the account's password; - is standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Where the engines find the password: file:/path, env:NAME or vault:MOUNT/PATH#KEY
    #[arg(long, value_name = "REFERENCE", conflicts_with = "password_file")]
    password_from: Option<String>,
    /// Redfish: id of the ComputerSystem
    #[arg(long, value_name = "ID")]
    system: Option<String>,
    /// Serial number the machine must have
    #[arg(long, value_name = "TEXT")]
    serial: Option<String>,
    /// Redfish: trust certificates of this authority; a path on the engines' machines
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fingerprint", "insecure"])]
    ca_file: Option<String>,
    /// Redfish: trust the certificate with this SHA-256
    #[arg(long, value_name = "HEX", conflicts_with = "insecure")]
    fingerprint: Option<String>,
    /// Redfish: trust any certificate
    #[arg(long)]
    insecure: bool,
}

impl FenceDevices {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            FenceDevices::Set(set) => set.run(api, screen).await,
            FenceDevices::Show { host } => {
                let host = api.host(&host).await?;
                let view = api.get(&path_of(&host), &[]).await?;
                detailed(screen, &host, &view)
            }
            FenceDevices::Check { host, patience } => {
                let host = api.host(&host).await?;
                let wish = wish::ask(api, &format!("{}/check", path_of(&host)), &json!({}), patience).await?;
                found(api, screen, &host, &wish).await
            }
        }
    }
}

impl Set {
    async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let body = self.body()?;
        // The API's own rules, so that a slip is named before anything is sent.
        halberd_types::halberd::fence_device::FenceDevices::parse(&body)
            .map_err(|error| Failure::usage(error.to_string()).with_remedy("nothing was sent"))?;
        let host = api.host(&self.host).await?;
        let set = api.put(&path_of(&host), &body).await?;
        let Some(check) = set["check"].as_str() else { return shown(screen, &host, &set) };
        let wish = json!({ "id": check, "state": "open" });
        let wish = wish::answered(api, wish, self.patience).await.map_err(|failure| Failure {
            text: format!(
                "the devices of {} are set, their check is open: {}",
                text(&host, "name"),
                failure.text
            ),
            ..failure
        })?;
        if wish["state"] == "open" {
            return shown(screen, &host, &set);
        }
        found(api, screen, &host, &wish).await
    }

    fn body(&self) -> Result<Value, Failure> {
        if self.source.none {
            return Ok(json!({ "levels": [] }));
        }
        if let Some(path) = &self.source.file {
            return serde_json::from_str(&read(path)?).map_err(|error| {
                // Only the place: the text may hold a password.
                Failure::usage(format!(
                    "{} is not JSON (line {}, column {})",
                    path.display(),
                    error.line(),
                    error.column()
                ))
            });
        }
        let mut device = Value::Object(Map::new());
        set(&mut device, "type", self.source.device_type.clone());
        set(&mut device, "address", self.device.address.clone());
        set(&mut device, "username", self.device.username.clone());
        if let Some(path) = &self.device.password_file {
            device["password"] = json!(read(path)?.trim_end_matches(['\n', '\r']));
        }
        if let Some(given) = &self.device.password_from {
            device["password"] = json!(reference(given)?);
        }
        set(&mut device, "system", self.device.system.clone());
        set(&mut device, "serial", self.device.serial.clone());
        let mut tls = Map::new();
        tls.extend(self.device.ca_file.clone().map(|file| ("ca_file".to_owned(), json!(file))));
        tls.extend(self.device.fingerprint.clone().map(|hex| ("fingerprint".to_owned(), json!(hex))));
        tls.extend(self.device.insecure.then(|| ("insecure".to_owned(), json!(true))));
        if !tls.is_empty() {
            device["tls"] = Value::Object(tls);
        }
        Ok(json!({ "levels": [{ "devices": [device] }] }))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))
}

pub(super) fn path_of(host: &Value) -> String {
    format!("halberd/v1/hosts/{}/fence-devices", text(host, "uuid"))
}

/// What a check that was answered has found, and whether every device could fence.
async fn found(api: &Api, screen: &mut Screen<'_>, host: &Value, wish: &Value) -> Result<(), Failure> {
    let view = api.get(&path_of(host), &[]).await?;
    shown(screen, host, &view)?;
    wish::granted(wish)?;
    match wish["state"] == "open" {
        true => Ok(()),
        false => all_ready(host, &view),
    }
}

/// A literal would stand in the process list for everybody to see; so that it stands nowhere else, it is not repeated.
fn reference(given: &str) -> Result<&str, Failure> {
    match ["file:", "env:", "vault:"].iter().any(|kind| given.starts_with(kind)) {
        true => Ok(given),
        false => Err(Failure::usage("--password-from takes file:/path, env:NAME or vault:MOUNT/PATH#KEY")
            .with_remedy("a password itself goes into a file named with --password-file")),
    }
}

/// One device after the other, with every field.
fn detailed(screen: &mut Screen<'_>, host: &Value, view: &Value) -> Result<(), Failure> {
    if screen.format != Format::Table || !screen.columns.is_empty() || view["levels"] == json!([]) {
        return shown(screen, host, view);
    }
    for (place, row) in rows(host, view).iter().enumerate() {
        if place > 0 {
            screen.line("")?;
        }
        screen.show(row, DETAIL)?;
    }
    warned(screen, view)
}

pub(super) fn shown(screen: &mut Screen<'_>, host: &Value, view: &Value) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.json(view);
    }
    screen.list(&rows(host, view), DEVICES)?;
    warned(screen, view)
}

fn warned(screen: &mut Screen<'_>, view: &Value) -> Result<(), Failure> {
    if screen.format == Format::Table {
        for warning in view["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            screen.line(&format!("warning: {}", super::output::clean(warning)))?;
        }
    }
    Ok(())
}

/// A host's devices as rows; a host without one is a row that says so.
pub(super) fn rows(host: &Value, view: &Value) -> Vec<Value> {
    let mut rows = Vec::new();
    for (level, devices) in view["levels"].as_array().into_iter().flatten().enumerate() {
        for device in devices["devices"].as_array().into_iter().flatten() {
            let mut row = device.clone();
            row["host"] = host["name"].clone();
            row["level"] = json!(level);
            row["device"] = json!(name(device));
            row["note"] = match &device["last_check"] {
                Value::Null => json!("not checked since it was set"),
                check if check["error"].is_string() => check["error"].clone(),
                check => check["warnings"].clone(),
            };
            rows.push(row);
        }
    }
    if rows.is_empty() {
        let note = "no fence device: a recovery of it stops and asks a person";
        rows.push(json!({ "host": host["name"], "note": note }));
    }
    rows
}

/// Kind and address.
fn name(device: &Value) -> String {
    let parts = ["type", "program", "address"].map(|key| text(device, key));
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// One whole level is enough to turn a host off.
pub(super) fn could_fence(host: &Value, view: &Value) -> Result<(), Failure> {
    let ready = |level: &Value| {
        let mut devices = level["devices"].as_array().into_iter().flatten();
        devices.all(|device| device["last_check"]["ready"] == true)
    };
    match view["levels"].as_array().into_iter().flatten().any(ready) {
        true => Ok(()),
        false => {
            Err(Failure::refused(format!("no level of devices could turn {} off now", text(host, "name"))))
        }
    }
}

pub(super) fn all_ready(host: &Value, view: &Value) -> Result<(), Failure> {
    let rows = rows(host, view);
    let broken = rows.iter().filter(|row| row["last_check"]["ready"] != true).count();
    match broken {
        0 => Ok(()),
        _ => Err(Failure::refused(format!(
            "{broken} of {} fence devices of host {} could not fence it now",
            rows.len(),
            text(host, "name")
        ))),
    }
}
