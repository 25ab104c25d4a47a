//! `halberd event`.

use serde_json::Value;

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Screen, text};

const LIST: &[Column] = &[
    Column::time("time", "time"),
    Column::text("kind", "kind"),
    Column::text("subject", "subject"),
    Column::made("text", told),
];

#[derive(Debug, clap::Subcommand)]
pub enum Event {
    /// List events, oldest first
    List {
        /// Only those after the event with this id
        #[arg(long, value_name = "ID")]
        since: Option<String>,
        /// Only those of this recovery
        #[arg(long, value_name = "ID")]
        recovery: Option<String>,
        /// Only so many: the newest
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: usize,
    },
}

impl Event {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let Event::List { since, recovery, limit } = self;
        let query = [("format", "json".to_owned()), ("since", since.unwrap_or_else(|| "0".to_owned()))];
        let (mut events, _) = api.pages("halberd/v1/events", &query, "since", usize::MAX).await?;
        if let Some(recovery) = recovery {
            events.retain(|event| text(event, "recovery_id").eq_ignore_ascii_case(&recovery));
        }
        // The API gives them oldest first.
        let older = events.len().saturating_sub(limit);
        screen.list(&events[older..], LIST)
    }
}

/// The sentence of an event, or else all that it says.
fn told(event: &Value) -> String {
    let sentence = ["text", "message", "reason"].iter().find_map(|key| event["data"][key].as_str());
    sentence.map_or_else(|| text(event, "data"), str::to_owned)
}
