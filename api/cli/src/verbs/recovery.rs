//! `halberd recovery`.

use serde_json::{Value, json};

use super::client::Api;
use super::failure::Failure;
use super::output::{self, Column, Format, Screen, at, milliseconds, second, text};
use super::story;
use super::watch;
use super::wish::{Patience, ask_and_show, reason};

const LIST: &[Column] = &[
    Column::id("id", "id"),
    Column::made("of", of),
    Column::text("state", "state"),
    Column::made("guests", guests),
    Column::time("opened", "opened_at"),
];

const SHOW: &[Column] = &[
    Column::id("id", "id"),
    Column::made("of", of),
    Column::text("state", "state"),
    Column::text("message", "message"),
    Column::made("waits for", waits_for),
    Column::made("guests", guests),
    Column::text("method", "recovery_method"),
    Column::made("verdict", verdict),
    Column::made("proof", proof),
    Column::text("engine", "owner"),
    Column::text("epoch", "epoch"),
    Column::time("opened", "opened_at"),
    Column::time("changed", "changed_at"),
    Column::time("closed", "closed_at"),
    Column::text("notifications", "notifications"),
    Column::text("you may", "operator_may"),
];

pub(super) const GUESTS: &[Column] = &[
    Column::id("guest", "instance_uuid"),
    Column::text("name", "name"),
    Column::text("outcome", "outcome"),
    Column::text("to", "dest_host"),
    Column::text("calls", "attempts"),
    Column::text("reason", "reason"),
];

#[derive(Debug, clap::Subcommand)]
pub enum Recovery {
    /// List recoveries, newest first
    List {
        /// Only those that are open
        #[arg(long)]
        open: bool,
        /// Only those of this host: name or uuid
        #[arg(long)]
        host: Option<String>,
        /// Only those of this kind
        #[arg(long, value_parser = ["host", "instance", "process", "return"])]
        kind: Option<String>,
        /// Only those in this state
        #[arg(long)]
        state: Option<String>,
        /// Only so many
        #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show a recovery and its guests
    Show {
        /// Its id, or the host or guest it is about
        recovery: String,
    },
    /// Follow a recovery until it ends
    ///
    /// Exits with 0 when it ends finished or cancelled (the host was alive), with 1 when it ends failed.
    /// With -f json each line is one entry of the time line, and the last line the recovery.
    #[command(verbatim_doc_comment)]
    Watch(watch::Watch),
    /// Let a held recovery pass the brake that withholds it
    Release(Asked),
    /// Try again what failed, or a recovery that stopped
    Retry(Asked),
    /// End a recovery that has not acted yet
    Cancel(Asked),
}

/// What is asked of the engine about a recovery.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// Its id, or the host or guest it is about
    recovery: String,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    #[command(flatten)]
    patience: Patience,
}

impl Asked {
    async fn run(self, word: &str, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let id = story::find(api, &self.recovery).await?.id;
        let path = format!("halberd/v1/recoveries/{id}/{word}");
        ask_and_show(api, screen, &path, &json!({ "reason": self.reason }), self.patience).await
    }
}

impl Recovery {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        match self {
            Recovery::List { open, host, kind, state, limit } => {
                let mut query = Vec::new();
                query.extend(open.then(|| ("open", "true".to_owned())));
                if let Some(host) = host {
                    // The service knows hosts that were deleted since, by their uuid.
                    let known = uuid::Uuid::parse_str(&host).is_ok();
                    query.push(("host", if known { host } else { api.host_id(&host).await? }));
                }
                query.extend(kind.map(|kind| ("kind", kind)));
                query.extend(state.map(|state| ("state", state)));
                let (found, more) =
                    api.pages("halberd/v1/recoveries", &query, "marker", limit as usize).await?;
                screen.list(&found, LIST)?;
                if more && screen.format == Format::Table {
                    screen.line("there are more: ask with --limit, --open or --host")?;
                }
                Ok(())
            }
            Recovery::Show { recovery } => {
                let story = story::find(api, &recovery).await?;
                let found = api.get(&format!("halberd/v1/recoveries/{}", story.id), &[]).await?;
                screen.show(&found, SHOW)?;
                let moves = found["moves"].as_array().cloned().unwrap_or_default();
                if screen.format == Format::Table && screen.columns.is_empty() && !moves.is_empty() {
                    screen.line(&format!("\n{}", output::table(&by_outcome(moves), GUESTS)))?;
                }
                Ok(())
            }
            Recovery::Watch(watch) => watch.run(api, screen).await,
            Recovery::Release(asked) => asked.run("release", api, screen).await,
            Recovery::Retry(asked) => asked.run("retry", api, screen).await,
            Recovery::Cancel(asked) => asked.run("cancel", api, screen).await,
        }
    }
}

/// What a person must see first.
pub(super) fn by_outcome(mut moves: Vec<Value>) -> Vec<Value> {
    let order = ["failed", "pending", "ongoing", "ignored", "succeeded"];
    moves.sort_by_key(|moved| order.iter().position(|word| moved["outcome"] == *word));
    moves
}

/// `host cmp-01`, `return of host cmp-01`.
pub(super) fn of(recovery: &Value) -> String {
    let subject = format!("{} {}", text(recovery, "subject.kind"), text(recovery, "subject.name"));
    match recovery["kind"] == "return" {
        true => format!("return of {subject}"),
        false => subject,
    }
}

/// How many guests are well, of how many.
pub(super) fn guests(recovery: &Value) -> String {
    let count = |word: &str| recovery["guests"][word].as_u64().unwrap_or(0);
    let mut told = match count("total") {
        0 => return String::new(),
        total => format!("{}/{total}", count("succeeded")),
    };
    for word in ["failed", "ignored"] {
        if count(word) > 0 {
            told.push_str(&format!(", {} {word}", count(word)));
        }
    }
    told
}

pub(super) fn waits_for(recovery: &Value) -> String {
    let waiting = &recovery["waiting"];
    let mut told = text(waiting, "reason");
    if let Some(normal) = waiting["normal_ms"].as_u64() {
        told.push_str(&format!(" (normally up to {})", milliseconds(normal)));
    }
    if !waiting["since"].is_null() {
        told.push_str(&format!(", since {}", second(&waiting["since"])));
    }
    told
}

fn verdict(recovery: &Value) -> String {
    match &recovery["verdict"] {
        Value::Null => String::new(),
        verdict => format!("{}: {}", text(verdict, "verdict"), text(verdict, "reasons")),
    }
}

fn proof(recovery: &Value) -> String {
    let proof = at(recovery, "proof");
    match proof {
        Value::Null => String::new(),
        _ if proof["voided_at"].is_null() => format!("{}: {}", text(proof, "means"), text(proof, "detail")),
        _ => format!(
            "{}: {}; void since {}",
            text(proof, "means"),
            text(proof, "detail"),
            second(&proof["voided_at"])
        ),
    }
}
