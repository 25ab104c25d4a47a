//! The outbox: a folder with one file for each message, named so that sorting is the order of sending.
//!
//! Written aside, synced, renamed, folder synced: after a power cut a message is there whole or not at all. Only
//! files with a whole name count; what a crash left aside is swept at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// More than a day of a badly flapping host; beyond, the oldest goes.
const MAX_MESSAGES: usize = 10_000;
/// Refused messages kept for a person to look at.
const MAX_REFUSED: usize = 100;
const SUFFIX: &str = ".json";

/// A request to be made until it is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// Path at the API.
    pub path: String,
    /// A waiting message of this name tells less than this one and goes.
    pub replaces: Option<String>,
    /// JSON text, sent as it is: the same bytes each time.
    pub body: String,
}

/// A message and its file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub name: String,
    pub message: Message,
}

/// Why the outbox cannot take or give.
#[derive(Debug, thiserror::Error)]
#[error("outbox {path}: cannot {what}; is the disk full, or `state_dir` not this user's?")]
pub struct OutboxError {
    path: PathBuf,
    what: &'static str,
    #[source]
    source: std::io::Error,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Outbox {
    dir: PathBuf,
    next: u64,
}

impl Outbox {
    /// Makes the folder, or takes it over from an earlier run.
    pub fn open(dir: &Path) -> Result<Outbox, OutboxError> {
        let refused = dir.join("refused");
        fs::create_dir_all(&refused).map_err(error(dir, "make the folder"))?;
        for entry in fs::read_dir(dir).map_err(error(dir, "list"))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut outbox = Outbox { dir: dir.to_owned(), next: 0 };
        let last = outbox.names()?.into_iter().next_back().and_then(|n| number(&n));
        outbox.next = last.map_or(0, |n| n + 1);
        Ok(outbox)
    }

    /// Stores durably.
    pub fn put(&mut self, message: &Message) -> Result<(), OutboxError> {
        let superseded = self.superseded(message);
        let name = format!("{:020}{SUFFIX}", self.next);
        let (aside, whole) = (self.dir.join(format!(".new-{name}")), self.dir.join(&name));
        let text = serde_json::to_vec(message).map_err(|e| error(&aside, "encode")(e.into()))?;
        let written = write_synced(&aside, &text).and_then(|()| fs::rename(&aside, &whole));
        if let Err(e) = written {
            let _ = fs::remove_file(&aside);
            return Err(error(&whole, "write")(e));
        }
        self.next += 1;
        self.sync_dir()?;
        for old in superseded {
            let _ = fs::remove_file(self.dir.join(old));
        }
        Ok(())
    }

    /// The oldest message; a file that is none is put aside.
    pub fn first(&mut self) -> Option<Stored> {
        loop {
            let name = self.names().ok()?.into_iter().next()?;
            let path = self.dir.join(&name);
            match fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok()) {
                Some(message) => return Some(Stored { name, message }),
                None => {
                    tracing::error!(file = %path.display(), "not a message of ours; moved to outbox/refused");
                    self.remove(&name, true).ok()?;
                }
            }
        }
    }

    /// Forgets a message, or keeps it aside as refused.
    pub fn remove(&mut self, name: &str, refused: bool) -> Result<(), OutboxError> {
        let path = self.dir.join(name);
        if !refused {
            return fs::remove_file(&path).map_err(error(&path, "remove"));
        }
        let dir = self.dir.join("refused");
        let kept = list(&dir).unwrap_or_default();
        for old in kept.iter().take((kept.len() + 1).saturating_sub(MAX_REFUSED)) {
            let _ = fs::remove_file(dir.join(old));
        }
        fs::rename(&path, dir.join(name)).map_err(error(&path, "put aside"))
    }

    /// Waiting messages that `message` makes needless, and the oldest when there are too many.
    fn superseded(&self, message: &Message) -> Vec<String> {
        let names = self.names().unwrap_or_default();
        let surplus = (names.len() + 1).saturating_sub(MAX_MESSAGES);
        if surplus > 0 {
            tracing::error!(surplus, "outbox is full: the oldest reports are lost");
        }
        let same = |name: &String| {
            let stored: Option<Message> =
                fs::read(self.dir.join(name)).ok().and_then(|b| serde_json::from_slice(&b).ok());
            stored.is_some_and(|s| s.replaces == message.replaces)
        };
        let (oldest, rest) = names.split_at(surplus);
        let replaced = rest.iter().filter(|n| message.replaces.is_some() && same(n));
        oldest.iter().chain(replaced).cloned().collect()
    }

    fn names(&self) -> Result<Vec<String>, OutboxError> {
        list(&self.dir).map_err(error(&self.dir, "list"))
    }

    fn sync_dir(&self) -> Result<(), OutboxError> {
        File::open(&self.dir).and_then(|d| d.sync_all()).map_err(error(&self.dir, "sync"))
    }
}

fn list(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(dir)?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| number(n).is_some())
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn error(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> OutboxError {
    let path = path.to_owned();
    move |source| OutboxError { path, what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Message {
        Message { path: "/p".into(), replaces: None, body: body.into() }
    }

    fn bodies(outbox: &mut Outbox) -> Vec<String> {
        let names = outbox.names().unwrap();
        let read =
            |n| serde_json::from_slice::<Message>(&fs::read(outbox.dir.join(n)).unwrap()).unwrap().body;
        names.into_iter().map(read).collect()
    }

    #[test]
    fn order_is_kept_across_runs() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Outbox::open(dir.path()).unwrap();
        first.put(&message("a")).unwrap();
        first.put(&message("b")).unwrap();
        drop(first);
        let mut second = Outbox::open(dir.path()).unwrap();
        second.put(&message("c")).unwrap();
        assert_eq!(bodies(&mut second), ["a", "b", "c"]);
        let a = second.first().unwrap();
        assert_eq!(a.message.body, "a");
        second.remove(&a.name, false).unwrap();
        assert_eq!(second.first().unwrap().message.body, "b");
    }

    #[test]
    fn a_crash_while_writing_leaves_no_half_message() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.put(&message("a")).unwrap();
        // As a crash leaves it: between create and rename.
        fs::write(dir.path().join(".new-00000000000000000001.json"), "{\"pa").unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        assert_eq!(bodies(&mut outbox), ["a"]);
        assert!(!dir.path().join(".new-00000000000000000001.json").exists());
        outbox.put(&message("b")).unwrap();
        assert_eq!(bodies(&mut outbox), ["a", "b"]);
    }

    #[test]
    fn what_is_no_message_holds_nobody() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00000000000000000000.json"), "rubbish").unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.put(&message("a")).unwrap();
        assert_eq!(outbox.first().unwrap().message.body, "a");
        assert!(dir.path().join("refused/00000000000000000000.json").exists());
    }

    #[test]
    fn a_newer_list_replaces_the_waiting_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        let list = |body| Message { replaces: Some("domains".into()), ..message(body) };
        outbox.put(&list("old")).unwrap();
        outbox.put(&message("event")).unwrap();
        outbox.put(&list("new")).unwrap();
        assert_eq!(bodies(&mut outbox), ["event", "new"]);
    }

    #[test]
    fn refused_messages_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        for i in 0..MAX_REFUSED + 5 {
            outbox.put(&message(&i.to_string())).unwrap();
            let name = outbox.first().unwrap().name;
            outbox.remove(&name, true).unwrap();
        }
        assert_eq!(list(&dir.path().join("refused")).unwrap().len(), MAX_REFUSED);
    }
}
