//! `halberd explain`: why things happened, or did not.

use chrono::{DateTime, Utc};
use halberd_types::v1::value::parse_time;
use serde_json::Value;

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, clean, grid, table, text};
use super::recovery::{GUESTS, by_outcome, guests, of, waits_for};
use super::story::{self, Guest};

const GATES: &[Column] =
    &[Column::text("gate", "title"), Column::text("answer", "answer"), Column::text("reason", "reason")];

#[derive(Debug, clap::Args)]
pub struct Explain {
    /// A host, a guest or a recovery: name or id. Of a host or guest the newest recovery is told
    #[arg(value_name = "HOST|RECOVERY|GUEST")]
    subject: String,
}

impl Explain {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let story = story::find(api, &self.subject).await?;
        let mut told = api.get(&format!("halberd/v1/recoveries/{}/explain", story.id), &[]).await?;
        if let Some(guest) = &story.guest {
            narrow(&mut told, guest);
        }
        match screen.format {
            Format::Json => screen.json(&told),
            Format::Value => screen.line(&lines(&told).join("\n")),
            Format::Table => {
                let mut page = page(&told, story.guest.as_ref());
                for other in &story.others {
                    let id = text(other, "id");
                    page.push_str(&format!("\nSee also {id}: {}, {}", of(other), text(other, "state")));
                }
                screen.line(&page)
            }
        }
    }
}

/// Leaves what concerns a guest: its move, its calls, and of the time line what does not speak of other guests.
fn narrow(told: &mut Value, guest: &Guest) {
    let others: Vec<String> = told["guests"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|moved| text(moved, "instance_uuid") != guest.id)
        .flat_map(|moved| [text(moved, "instance_uuid"), text(moved, "name")])
        .filter(|name| !name.is_empty() && *name != guest.name)
        .collect();
    keep(&mut told["guests"], |moved| text(moved, "instance_uuid") == guest.id);
    keep(&mut told["calls"], |call| {
        call["subject"]["kind"] != "guest" || text(call, "subject.id") == guest.id
    });
    keep(&mut told["timeline"], |entry| {
        let said = text(entry, "detail");
        let names = |name: &str| speaks_of(&said, name);
        names(&guest.id) || names(&guest.name) || !others.iter().any(|name| names(name))
    });
}

fn keep(list: &mut Value, wanted: impl Fn(&Value) -> bool) {
    if let Value::Array(items) = list {
        items.retain(wanted);
    }
}

/// Whether a name stands in a text as a whole: `web-1` does not stand in `web-12`.
fn speaks_of(text: &str, name: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

fn page(told: &Value, guest: Option<&Guest>) -> String {
    let recovery = &told["recovery"];
    let mut parts = vec![head(recovery, guest)];
    let rows = timeline(told).into_iter().map(Vec::from).collect();
    let head = ["TIME", "WHAT", "TEXT"].map(str::to_owned).to_vec();
    parts.push(grid(Some(head), rows, &[false, false, true]));
    let items = |key: &str| told[key].as_array().cloned().unwrap_or_default();
    for (items, columns) in [(items("gates"), GATES), (by_outcome(items("guests")), GUESTS)] {
        if !items.is_empty() {
            parts.push(table(&items, columns));
        }
    }
    parts.push(foot(told));
    parts.join("\n\n")
}

fn head(recovery: &Value, guest: Option<&Guest>) -> String {
    let mut lines = vec![
        vec!["recovery".to_owned(), text(recovery, "id")],
        vec!["of".to_owned(), clean(&of(recovery))],
        vec!["state".to_owned(), clean(&text(recovery, "state"))],
    ];
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(vec![name.to_owned(), clean(&value)]);
        }
    };
    row("message", text(recovery, "message"));
    row("waits for", waits_for(recovery));
    row("guests", guests(recovery));
    row("guest", guest.map(|guest| format!("{} {}", guest.name, guest.id)).unwrap_or_default());
    row("opened", full(recovery, "opened_at"));
    row("closed", full(recovery, "closed_at"));
    grid(None, lines, &[false, true])
}

/// To the millisecond, in UTC; what the time line's clock times belong to.
fn full(recovery: &Value, key: &str) -> String {
    let told = text(recovery, key);
    parse_time(&told).map_or(told, |at| at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string())
}

/// Rows of time, what and text. The date is left out where all is of one day, which the head names.
fn timeline(told: &Value) -> Vec<[String; 3]> {
    let entries = told["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    let times: Vec<Option<DateTime<Utc>>> =
        entries.iter().map(|entry| parse_time(&text(entry, "at"))).collect();
    let opened = parse_time(&text(told, "recovery.opened_at")).map(|at| at.date_naive());
    let one_day = times.iter().all(|at| at.map(|at| at.date_naive()) == opened);
    let format = if one_day { "%H:%M:%S%.3f" } else { "%m-%d %H:%M:%S%.3f" };
    let row = |(entry, at): (&Value, &Option<DateTime<Utc>>)| {
        let at = at.map_or_else(|| text(entry, "at"), |at| at.format(format).to_string());
        [clean(&at), clean(&text(entry, "what")), clean(&text(entry, "detail"))]
    };
    entries.iter().zip(&times).map(row).collect()
}

fn lines(told: &Value) -> Vec<String> {
    let entries = told["timeline"].as_array().into_iter().flatten();
    entries.map(line).collect()
}

/// One entry of a time line on one line.
pub(super) fn line(entry: &Value) -> String {
    clean(&format!("{} {} {}", text(entry, "at"), text(entry, "what"), text(entry, "detail")))
}

/// How many calls, and whether the record can be relied on.
fn foot(told: &Value) -> String {
    let calls = told["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut kinds: Vec<(String, usize, usize)> = Vec::new();
    for call in calls {
        let effect = text(call, "effect");
        let done = usize::from(call["state"] == "done");
        match kinds.iter_mut().find(|(known, _, _)| *known == effect) {
            Some(kind) => (kind.1, kind.2) = (kind.1 + 1, kind.2 + done),
            None => kinds.push((effect, 1, done)),
        }
    }
    let told_calls: Vec<String> = kinds
        .iter()
        .map(|(effect, all, done)| match all == done {
            true => format!("{all} {effect}"),
            false => format!("{all} {effect} ({done} done)"),
        })
        .collect();
    let replay = &told["replay"];
    let chain = match replay["chain_intact"] == true {
        true => format!("intact, {} records", text(replay, "records")),
        false => format!("NOT INTACT, {} records: do not rely on the story above", text(replay, "records")),
    };
    let mut rows = vec![vec!["audit".to_owned(), clean(&chain)]];
    if !told_calls.is_empty() {
        rows.insert(0, vec!["calls".to_owned(), clean(&told_calls.join(", "))]);
    }
    let note = text(replay, "note");
    if !note.is_empty() {
        rows.push(vec!["replay".to_owned(), clean(&note)]);
    }
    grid(None, rows, &[false, true])
}

#[cfg(test)]
mod tests {
    use super::speaks_of;

    #[test]
    fn a_name_is_no_part_of_a_name() {
        assert!(speaks_of("evacuate web-1 (attempt 1)", "web-1"));
        assert!(!speaks_of("evacuate web-12 (attempt 1)", "web-1"));
        assert!(!speaks_of("evacuate my-web-1", "web-1"));
        assert!(speaks_of("web-12, web-1", "web-1"));
    }
}
