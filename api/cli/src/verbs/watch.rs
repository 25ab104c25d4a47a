//! `halberd recovery watch`: the time line as it grows.
//!
//! Asked for again and again rather than streamed: the time line is made of what was stored, so a look after a broken connection, a
//! restart of the service or a switch to another controller shows exactly what is new, and nothing is told twice.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Api;
use super::explain::line;
use super::failure::{Failure, UNREACHABLE};
use super::output::{Format, Screen, clean, text};
use super::recovery::{guests, of, waits_for};
use super::story;

#[derive(Debug, clap::Args)]
pub struct Watch {
    /// Its id, or the host or guest it is about
    recovery: String,
    /// Look as often
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    interval: f64,
}

/// What was told already.
#[derive(Default)]
struct Told {
    entries: HashSet<String>,
    standing: String,
}

impl Watch {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let interval = Duration::try_from_secs_f64(self.interval)
            .map_err(|_| Failure::usage(format!("--interval {} is no number of seconds", self.interval)))?;
        let id = story::find(api, &self.recovery).await?.id;
        let recovery = follow(api, screen, &id, interval).await?;
        ended(screen, &recovery)
    }
}

/// Tells a recovery's time line as it grows, until the recovery is closed; the answer is the recovery.
pub(super) async fn follow(
    api: &Api,
    screen: &mut Screen<'_>,
    id: &str,
    interval: Duration,
) -> Result<Value, Failure> {
    let path = format!("halberd/v1/recoveries/{id}/explain");
    let mut told = Told::default();
    let mut reached = true;
    let mut explain = api.get(&path, &[]).await?;
    loop {
        told.tell(screen, &explain)?;
        let recovery = &explain["recovery"];
        if !recovery["closed_at"].is_null() {
            return Ok(recovery.clone());
        }
        tokio::time::sleep(interval).await;
        match api.get(&path, &[]).await {
            Ok(now) => (explain, reached) = (now, true),
            Err(failure) if failure.code == UNREACHABLE => {
                if reached {
                    eprintln!("halberd: {failure}\n  trying again until it answers");
                }
                reached = false;
            }
            Err(failure) => return Err(failure),
        }
    }
}

impl Told {
    fn tell(&mut self, screen: &mut Screen<'_>, explain: &Value) -> Result<(), Failure> {
        for entry in explain["timeline"].as_array().into_iter().flatten() {
            // A call's entry changes when its end is known: then it is told again, as news.
            if self.entries.insert(line(entry)) {
                match screen.format {
                    Format::Json => screen.line(&entry.to_string())?,
                    _ => screen.line(&line(entry))?,
                }
            }
        }
        let recovery = &explain["recovery"];
        let standing = [text(recovery, "state"), guests(recovery), waits_for(recovery)];
        let standing: Vec<String> = standing.into_iter().filter(|part| !part.is_empty()).collect();
        let standing = clean(&standing.join("; "));
        if screen.format == Format::Table && standing != self.standing {
            screen.line(&format!("  -> {standing}"))?;
            self.standing = standing;
        }
        screen.out.flush()?;
        Ok(())
    }
}

fn ended(screen: &mut Screen<'_>, recovery: &Value) -> Result<(), Failure> {
    if screen.format == Format::Json {
        screen.line(&json!({ "recovery": recovery }).to_string())?;
    }
    match recovery["state"] == "failed" {
        true => Err(Failure::refused(format!(
            "the recovery of {} failed: {}",
            of(recovery),
            text(recovery, "message")
        ))
        .with_remedy(format!("`halberd explain {}` tells which guest and why", text(recovery, "id")))),
        false => Ok(()),
    }
}
