//! `halberd vmove`.

use serde_json::Value;

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Screen, text};

const LIST: &[Column] = &[
    Column::id("instance_uuid", "instance_uuid"),
    Column::text("instance_name", "instance_name"),
    Column::text("source_host", "source_host"),
    Column::text("dest_host", "dest_host"),
    Column::text("status", "status"),
    Column::text("message", "message"),
];

#[derive(Debug, clap::Subcommand)]
pub enum Vmove {
    /// List the guests' moves of one notification, or of all
    List {
        /// Uuid of a notification of type COMPUTE_HOST; all of them unless given
        notification: Option<String>,
        /// Only those in this state
        #[arg(long, value_parser = ["pending", "ongoing", "ignored", "failed", "succeeded"])]
        status: Option<String>,
    },
}

impl Vmove {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Vmove::List { notification, status } = self;
        let notifications = match notification {
            Some(id) => vec![id],
            None => {
                let query = [("type", "COMPUTE_HOST".to_owned())];
                let all = api.all("v1/notifications", "notifications", &query).await?;
                all.iter().map(|one| text(one, "notification_uuid")).collect()
            }
        };
        let query: Vec<(&str, String)> = status.into_iter().map(|status| ("status", status)).collect();
        let mut moves: Vec<Value> = Vec::new();
        for id in notifications {
            moves.extend(api.all(&format!("v1/notifications/{id}/vmoves"), "vmoves", &query).await?);
        }
        screen.list(&moves, LIST)
    }
}
