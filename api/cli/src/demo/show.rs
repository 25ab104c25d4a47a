//! What is shown: in a terminal a bar and a table of guests that change in place, elsewhere a line for each change; JSON alone when asked.

use std::collections::BTreeMap;
use std::sync::Mutex;

use comfy_table::{Table, presets};
use halberd_types::halberd::recovery::{GuestMove, GuestOutcome, RecoverySummary};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::Failure;
use super::outcome::Report;
use super::site::Site;

/// Guests that fit a table on a terminal.
const ROWS: usize = 20;

/// The show.
#[derive(Debug)]
pub(super) struct Show {
    json: bool,
    live: Option<Live>,
    /// What was said last of each recovery and guest, so that a line is a change.
    said: Mutex<BTreeMap<Uuid, String>>,
}

#[derive(Debug)]
struct Live {
    bars: MultiProgress,
    guests: ProgressBar,
    table: ProgressBar,
}

impl Show {
    pub(super) fn new(json: bool, terminal: bool) -> Show {
        Show { json, live: terminal.then(Live::new), said: Mutex::default() }
    }

    /// One line for people.
    pub(super) fn say(&self, line: &str) {
        match &self.live {
            _ if self.json => {}
            Some(live) => live.bars.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    /// The fault has come: from here on time is counted.
    pub(super) fn begin(&self, guests: usize) {
        if let Some(live) = &self.live {
            live.guests.reset_elapsed();
            live.guests.set_length(guests as u64);
            live.guests.set_message("nobody has noticed yet");
        }
    }

    /// The recoveries as they stand.
    pub(super) async fn live(&self, site: &Site, recoveries: &[RecoverySummary]) {
        if self.json {
            return;
        }
        let mut moves = Vec::new();
        for recovery in recoveries {
            self.changed(
                recovery.id,
                &format!(
                    "{}: {:?}, {}",
                    recovery.subject.name,
                    recovery.state,
                    recovery.message.as_deref().unwrap_or("")
                ),
            );
            // A look that fails is made up for by the next.
            if let Ok(detail) = site.client.recovery(recovery.id).await {
                moves.extend(detail.moves);
            }
        }
        match &self.live {
            Some(live) => live.draw(recoveries, &moves),
            None => {
                for guest in moves
                    .iter()
                    .filter(|guest| !matches!(guest.outcome, GuestOutcome::Pending | GuestOutcome::Ongoing))
                {
                    let place = guest.dest_host.as_deref().unwrap_or("nowhere");
                    let why = guest.reason.as_deref().unwrap_or_default();
                    self.changed(
                        guest.instance_uuid,
                        &format!("  {} {:?} on {place} {why}", guest.name, guest.outcome),
                    );
                }
            }
        }
    }

    fn changed(&self, id: Uuid, line: &str) {
        let news = {
            let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            said.insert(id, line.to_owned()).as_deref() != Some(line)
        };
        if news {
            self.say(line.trim_end());
        }
    }

    /// The time line and the figures, or the one JSON object.
    pub(super) async fn end(&self, site: &Site, report: &Report) -> Result<(), Failure> {
        if self.json {
            println!("{}", serde_json::to_string(report)?);
            return Ok(());
        }
        if let Some(live) = &self.live {
            live.bars.set_move_cursor(false);
            live.guests.finish();
            live.table.finish();
        }
        for story in &report.story {
            println!("\ntime line of {}, from the fault", story.recovery.subject.name);
            // What was seen before the fault belongs to the story of another day.
            for entry in story.timeline.iter().filter(|entry| entry.at >= report.struck) {
                let after = (entry.at - report.struck).num_milliseconds() as f64 / 1_000.0;
                println!("  +{after:7.3} s  {:<24} {}", entry.what, entry.detail);
            }
            println!(
                "  audit chain: {} records, {}",
                story.replay.records,
                if story.replay.chain_intact { "intact" } else { "BROKEN" }
            );
        }
        let second = |time: Option<f64>| time.map_or("-".into(), |time| format!("{time:.2} s"));
        let seconds = &report.seconds;
        println!(
            "\n{}: {} ({})\n{} guests ACTIVE elsewhere, {} lost, {} evacuate calls, {} before the proof, {} double runs",
            if report.good { "as it must be" } else { "NOT as it must be" },
            report.outcome,
            report.reason,
            report.recovered,
            report.lost,
            report.evacuate_calls,
            report.evacuate_before_proof,
            report.double_runs,
        );
        println!(
            "from the fault: verdict {}, proof {}, first evacuate {}, last evacuate {}, all ACTIVE {} (seed {})",
            second(seconds.death_to_verdict),
            second(seconds.death_to_fence_proof),
            second(seconds.death_to_first_evacuate),
            second(seconds.death_to_all_evacuates),
            second(seconds.death_to_all_active),
            site.seed(),
        );
        Ok(())
    }

    /// Says what is left running, and where.
    pub(super) fn keep(&self, site: &Site) {
        let text = format!(
            "kept running: API {}, Keystone {}, files {}; Ctrl-C ends it",
            site.client.url(),
            site.cloud.keystone_url(),
            site.files().display()
        );
        if self.json { eprintln!("{text}") } else { println!("\n{text}") }
    }
}

impl Live {
    fn new() -> Live {
        let bars = MultiProgress::new();
        let guests = bars.add(ProgressBar::new(1));
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {pos}/{len} guests back  {wide_msg}")
        {
            guests.set_style(style);
        }
        let table = bars.add(ProgressBar::new(1));
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            table.set_style(style);
        }
        Live { bars, guests, table }
    }

    fn draw(&self, recoveries: &[RecoverySummary], moves: &[GuestMove]) {
        let back = moves.iter().filter(|guest| guest.outcome == GuestOutcome::Succeeded).count();
        if !moves.is_empty() {
            self.guests.set_length(moves.len() as u64);
        }
        self.guests.set_position(back as u64);
        if let Some(recovery) = recoveries.first() {
            self.guests.set_message(format!("{:?}", recovery.state));
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["guest", "from", "to", "state"]);
        for guest in moves.iter().take(ROWS) {
            let to = guest.dest_host.clone().unwrap_or_default();
            table.add_row([
                guest.name.clone(),
                guest.source_host.clone(),
                to,
                format!("{:?}", guest.outcome).to_lowercase(),
            ]);
        }
        let more = moves.len().saturating_sub(ROWS);
        let more = if more > 0 { format!("\n... and {more} more") } else { String::new() };
        self.table.set_message(if moves.is_empty() { String::new() } else { format!("{table}{more}") });
    }
}
