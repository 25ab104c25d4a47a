//! The TOML that comes out: sections and keys in our order, each with where it came from, and only keys that the types know.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::config::keys::Known;

/// Sections, in the order they are written.
const ORDER: &[&str] = &["database", "api", "openstack", "engine", "policy", "bus"];

/// Lines of one section.
#[derive(Debug, Default)]
struct Section {
    lines: Vec<(String, String)>,
}

/// A configuration in the making.
#[derive(Debug)]
pub(super) struct Out {
    known: Known,
    sections: BTreeMap<&'static str, Section>,
    /// Blocks that stand whole, as comments.
    pub hints: Vec<String>,
    /// Option and why it means nothing here.
    pub gone: Vec<(String, String)>,
    /// Option and what it may have meant.
    pub unknown: Vec<(String, Option<String>)>,
    /// What a person must look at before this can be used.
    pub look: Vec<String>,
    /// Files to be written with secrets, by name.
    pub secrets: BTreeMap<&'static str, String>,
    pub secrets_dir: Option<PathBuf>,
}

impl Out {
    pub fn new(secrets_dir: Option<PathBuf>) -> Out {
        Out {
            known: Known::of_everything(),
            sections: BTreeMap::new(),
            hints: Vec::new(),
            gone: Vec::new(),
            unknown: Vec::new(),
            look: Vec::new(),
            secrets: BTreeMap::new(),
            secrets_dir,
        }
    }

    /// Sets a key from an option; a key that no type knows is said instead of written.
    pub fn set(&mut self, section: &'static str, key: &str, value: impl Into<toml::Value>, from: &str) {
        if self.known.keys(section).contains(&key) {
            let value: toml::Value = value.into();
            let lines = &mut self.sections.entry(section).or_default().lines;
            // Two options may lead to one key; the more telling one was asked first.
            if lines.iter().all(|(line, _)| !line.starts_with(&format!("{key} = "))) {
                lines.push((format!("{key} = {value}"), format!("from {from}")));
            }
        } else {
            self.look.push(format!("{from} is [{section}] {key}, which this version does not have yet"));
        }
    }

    /// A comment in a section.
    pub fn say(&mut self, section: &'static str, text: impl Into<String>) {
        self.sections.entry(section).or_default().lines.push((String::new(), text.into()));
    }

    /// A secret: never on the standard output. Into a file of its own, or named with what is to be done.
    pub fn secret(
        &mut self,
        section: &'static str,
        key: &str,
        file: &'static str,
        value: String,
        from: &str,
    ) {
        let folder = self.secrets_dir.clone();
        let path = folder.as_deref().unwrap_or(std::path::Path::new("/etc/halberd")).join(file);
        let path = path.display().to_string();
        if folder.is_some() {
            self.secrets.insert(file, value);
            self.set(section, key, path, &format!("{from}: its value was written to this file"));
        } else {
            self.look.push(format!(
                "put the value of {from} into {path} (mode 0600), or run this again with --secrets-dir DIR, which does it"
            ));
            self.set(section, key, path, &format!("{from}: its value is NOT copied, put it there"));
        }
    }

    pub fn gone(&mut self, option: String, why: impl Into<String>) {
        self.gone.push((option, why.into()));
    }

    /// The whole text.
    pub fn text(&self, sources: &[String]) -> String {
        let mut text = format!(
            "# Halberd's configuration, made from {} by `halberd config from-masakari`.\n\
             # Keys that are not here have their defaults: `halberd config sample` shows them all. Check this file with `halberd config check`.\n",
            sources.join(", ")
        );
        for name in ORDER {
            let Some(section) = self.sections.get(name) else { continue };
            // A section without any key would still switch something on.
            if section.lines.iter().all(|(line, _)| line.is_empty()) {
                text.push('\n');
            } else {
                let _ = write!(text, "\n[{name}]\n");
            }
            for (line, comment) in &section.lines {
                for comment in comment.lines() {
                    let _ = writeln!(text, "# {comment}");
                }
                if !line.is_empty() {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        for hint in &self.hints {
            text.push('\n');
            for line in hint.lines() {
                let _ = writeln!(text, "# {line}");
            }
        }
        self.list(&mut text, "To be looked at before this is used:", self.look.iter().cloned());
        let gone = self.gone.iter().map(|(option, why)| format!("{option}: {why}"));
        self.list(&mut text, "Options that mean nothing here:", gone);
        let unknown = self.unknown.iter().map(|(option, near)| match near {
            Some(near) => format!("{option} (did you mean {near}?)"),
            None => option.clone(),
        });
        self.list(
            &mut text,
            "Options that Masakari does not have either, or that are not known here:",
            unknown,
        );
        text
    }

    fn list(&self, text: &mut String, head: &str, lines: impl Iterator<Item = String>) {
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            return;
        }
        let _ = write!(text, "\n# {head}\n");
        for line in lines {
            let _ = writeln!(text, "#   {line}");
        }
    }
}
