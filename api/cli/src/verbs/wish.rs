//! What is asked of the engine: recorded by the API at once, granted or refused by an engine soon after.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Screen, text};

/// As often as an engine looks for wishes: asking more often cannot find an answer sooner.
const POLL: Duration = Duration::from_millis(250);

pub(super) const SHOW: &[Column] = &[
    Column::id("id", "id"),
    Column::text("kind", "kind"),
    Column::text("subject", "subject.name"),
    Column::text("state", "state"),
    Column::text("answer", "answer"),
    Column::text("actor", "actor"),
    Column::text("reason", "reason"),
    Column::time("made_at", "made_at"),
    Column::time("answered_at", "answered_at"),
];

/// How long to wait for the engine.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Patience {
    /// Wait so long for an engine's answer; 0 only records what is asked
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    wait: u64,
    /// Do not wait for an engine: the same as --wait 0
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

impl Patience {
    fn seconds(self) -> u64 {
        if self.no_wait { 0 } else { self.wait }
    }
}

/// A reason says something: it is what a colleague reads in the audit next year.
pub(super) fn reason(given: &str) -> Result<String, String> {
    let text = given.trim();
    match text.chars().count() {
        0 => Err("say why in a few words; they are kept in the audit".to_owned()),
        1..=255 => Ok(text.to_owned()),
        long => Err(format!(
            "{long} characters are too many, 255 are kept; put the rest into a ticket and name it"
        )),
    }
}

/// Records a wish and waits for its end. The wish comes back open when only recording was asked for.
///
/// # Errors
/// When no engine answers in time.
pub(super) async fn ask(api: &Api, path: &str, body: &Value, patience: Patience) -> Result<Value, Failure> {
    let wish = api.post(path, body).await?;
    answered(api, wish, patience).await
}

/// Waits for the end of a wish that is recorded already.
///
/// # Errors
/// When no engine answers in time.
pub(super) async fn answered(api: &Api, mut wish: Value, patience: Patience) -> Result<Value, Failure> {
    let wait = patience.seconds();
    let until = Instant::now() + Duration::from_secs(wait);
    let place = format!("halberd/v1/wishes/{}", text(&wish, "id"));
    // One that takes long is open with a first word: an engine has it in hand.
    while wait > 0 && wish["state"] == "open" && wish["answer"].is_null() {
        if Instant::now() >= until {
            let recorded = format!(
                "it is recorded (wish {}), and no engine answered within {wait} s",
                text(&wish, "id")
            );
            return Err(Failure::refused(recorded).with_remedy(
                "`halberd engines list` shows whether one is at work; it will be taken up when one is",
            ));
        }
        tokio::time::sleep(POLL).await;
        wish = api.get(&place, &[]).await?;
    }
    Ok(wish)
}

/// Refused is a failure.
pub(super) fn granted(wish: &Value) -> Result<(), Failure> {
    match wish["state"] == "refused" {
        true => Err(Failure::refused(format!("the engine refused: {}", text(wish, "answer")))),
        false => Ok(()),
    }
}

/// Asks, shows what became of it, and fails if it was refused.
pub(super) async fn ask_and_show(
    api: &Api,
    screen: &mut Screen<'_>,
    path: &str,
    body: &Value,
    patience: Patience,
) -> Result<(), Failure> {
    let wish = ask(api, path, body, patience).await?;
    screen.show(&wish, SHOW)?;
    granted(&wish)
}
