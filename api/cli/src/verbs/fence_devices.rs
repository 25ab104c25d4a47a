//! `halberd host fence-devices`: how a host is turned off.

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
    Column::text("type", "type"),
    Column::text("address", "address"),
    Column::text("ready", "last_check.ready"),
    Column::text("power", "last_check.power"),
    Column::text("identity", "last_check.identity"),
    Column::time("checked", "last_check.at"),
    Column::text("note", "note"),
];

#[derive(Debug, clap::Subcommand)]
pub enum FenceDevices {
    /// Replace the fence devices of a host
    ///
    /// Either --file with all levels, or one device by --type and the options after it. A password is read
    /// from a file, never from the command line, where others would see it.
    #[command(verbatim_doc_comment)]
    Set(Box<Set>),
    /// Show the fence devices of a host with their last checks; secrets are masked
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
                shown(screen, &host, &api.get(&path_of(&host), &[]).await?)
            }
            FenceDevices::Check { host, patience } => {
                let host = api.host(&host).await?;
                let wish = wish::ask(api, &format!("{}/check", path_of(&host)), &json!({}), patience).await?;
                let view = api.get(&path_of(&host), &[]).await?;
                shown(screen, &host, &view)?;
                wish::granted(&wish)?;
                all_ready(&host, &view)
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
        shown(screen, &host, &api.put(&path_of(&host), &body).await?)
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

fn shown(screen: &mut Screen<'_>, host: &Value, view: &Value) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.json(view);
    }
    screen.list(&rows(host, view), DEVICES)?;
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

fn all_ready(host: &Value, view: &Value) -> Result<(), Failure> {
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
