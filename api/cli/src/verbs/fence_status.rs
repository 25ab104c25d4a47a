//! `halberd fence status`: whether hosts could be turned off, from the service's readiness.

use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::fence::HOSTS;
use super::fence_devices::{DEVICES, path_of, rows};
use super::output::{Format, Screen, text};

#[derive(Debug, clap::Args)]
pub struct Status {
    /// Only this host, with its devices: name or uuid
    host: Option<String>,
}

impl Status {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let wanted = match &self.host {
            Some(host) => Some(api.host(host).await?),
            None => None,
        };
        let readiness = api.get("halberd/v1/readiness", &[]).await?;
        let all = readiness["hosts"].as_array().cloned().unwrap_or_default();
        let Some(host) = wanted else { return screen.list(&all, HOSTS) };
        let mut one: Vec<Value> =
            all.into_iter().filter(|one| text(one, "host_id") == text(&host, "uuid")).collect();
        let view = api.get(&path_of(&host), &[]).await?;
        if screen.format == Format::Json {
            for one in &mut one {
                one["fence_devices"] = json!(view);
            }
            return screen.list(&one, HOSTS);
        }
        screen.list(&one, HOSTS)?;
        if screen.format == Format::Table && screen.columns.is_empty() && view["levels"] != json!([]) {
            screen.line("")?;
            screen.list(&rows(&host, &view), DEVICES)?;
        }
        Ok(())
    }
}
