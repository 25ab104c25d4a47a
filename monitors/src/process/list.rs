//! The original's `process_list.yaml`, read as users wrote it: keys may be missing or empty, `run_as_root` may be a word.

use std::path::Path;

use serde_yaml_ng::Value;

/// One watched process and its commands; an empty command is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name, path, or path and first words of the command line.
    pub process_name: String,
    /// Run when the agent starts and the process is not there.
    pub start_command: String,
    /// Before `start_command`.
    pub pre_start_command: String,
    /// After `start_command`.
    pub post_start_command: String,
    /// Run when the process is gone.
    pub restart_command: String,
    /// Before `restart_command`.
    pub pre_restart_command: String,
    /// After `restart_command`.
    pub post_restart_command: String,
    /// Commands need root.
    pub run_as_root: bool,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// File cannot be read.
    #[error("process list {0}: cannot be read")]
    Read(String, #[source] std::io::Error),
    /// Not YAML.
    #[error("process list {0}: not YAML")]
    Yaml(String, #[source] serde_yaml_ng::Error),
    /// YAML of another shape.
    #[error("process list {0}: {1}")]
    Shape(String, String),
}

impl Entry {
    /// The name sent in reports: without directories and arguments, as the original sends it.
    pub fn short_name(&self) -> &str {
        let first = self.process_name.split_ascii_whitespace().next().unwrap_or("");
        first.rsplit('/').next().unwrap_or(first)
    }
}

/// Reads the file. Errors: [`ListError`].
pub fn read(path: &Path) -> Result<Vec<Entry>, ListError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| ListError::Read(name.clone(), e))?;
    parse(&text, &name)
}

/// The same from text; `name` is for errors.
pub fn parse(text: &str, name: &str) -> Result<Vec<Entry>, ListError> {
    let value: Value = serde_yaml_ng::from_str(text).map_err(|e| ListError::Yaml(name.to_owned(), e))?;
    let shape = |why: String| ListError::Shape(name.to_owned(), why);
    let list = match value {
        Value::Null => return Ok(vec![]),
        Value::Sequence(list) => list,
        _ => return Err(shape("must be a list of processes".into())),
    };
    let entries: Vec<Entry> =
        list.iter().enumerate().map(|(i, v)| entry(v, i + 1)).collect::<Result<_, _>>().map_err(&shape)?;
    for (i, e) in entries.iter().enumerate() {
        if entries[..i].iter().any(|other| other.process_name == e.process_name) {
            return Err(shape(format!("`{}` is listed twice", e.process_name)));
        }
    }
    Ok(entries)
}

fn entry(value: &Value, number: usize) -> Result<Entry, String> {
    let map = value.as_mapping().ok_or_else(|| format!("entry {number} must be a map"))?;
    let mut entry = Entry::default();
    for (key, value) in map {
        let key = key.as_str().unwrap_or_default();
        let field = match key {
            "process_name" => &mut entry.process_name,
            "start_command" => &mut entry.start_command,
            "pre_start_command" => &mut entry.pre_start_command,
            "post_start_command" => &mut entry.post_start_command,
            "restart_command" => &mut entry.restart_command,
            "pre_restart_command" => &mut entry.pre_restart_command,
            "post_restart_command" => &mut entry.post_restart_command,
            "run_as_root" => {
                entry.run_as_root = truth(value)
                    .ok_or_else(|| format!("entry {number}: run_as_root must be true or false"))?;
                continue;
            }
            other => return Err(format!("entry {number}: unknown key `{other}`")),
        };
        *field = text(value).ok_or_else(|| format!("entry {number}: `{key}` must be text"))?;
    }
    if entry.process_name.is_empty() {
        return Err(format!("entry {number}: process_name is empty"));
    }
    // The API's limit for any payload value (contract 2.3).
    if entry.short_name().is_empty() || entry.short_name().len() > 255 {
        return Err(format!("entry {number}: process_name must end in a name of 1 to 255 bytes"));
    }
    Ok(entry)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(s) => Some(s.trim().to_owned()),
        Value::Number(n) => Some(n.to_string()),
        // A command may be the program `true`.
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Null => Some(false),
        Value::Bool(b) => Some(*b),
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "" | "false" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &str = "\
# Define the monitoring processes as follows:
-
    # libvirt-bin
    process_name: /usr/sbin/libvirtd
    start_command: systemctl start libvirt-bin
    pre_start_command:
    post_start_command:
    restart_command: systemctl restart libvirt-bin
    pre_restart_command:
    post_restart_command:
    run_as_root: True
-
    process_name: /usr/local/bin/nova-compute --config-file x
    start_command: systemctl start nova-compute
    restart_command: false
    run_as_root: 'yes'
";

    #[test]
    fn the_originals_file_with_its_empty_values() {
        let list = parse(ORIGINAL, "f").unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].short_name(), "libvirtd");
        assert_eq!(list[0].pre_restart_command, "");
        assert!(list[0].run_as_root && list[1].run_as_root);
        assert_eq!((list[1].short_name(), list[1].restart_command.as_str()), ("nova-compute", "false"));
        assert_eq!(parse("", "f").unwrap(), vec![]);
    }

    #[test]
    fn bad_lists_name_the_entry() {
        let error = |text| parse(text, "F").unwrap_err().to_string();
        assert_eq!(error("a: b"), "process list F: must be a list of processes");
        assert_eq!(error("- x"), "process list F: entry 1 must be a map");
        assert_eq!(error("- {process_name: }"), "process list F: entry 1: process_name is empty");
        assert_eq!(error("- {process_name: a, comand: b}"), "process list F: entry 1: unknown key `comand`");
        assert_eq!(error("- {process_name: [a]}"), "process list F: entry 1: `process_name` must be text");
        assert_eq!(error("- {process_name: a}\n- {process_name: a}"), "process list F: `a` is listed twice");
        assert_eq!(
            error("- {process_name: a, run_as_root: maybe}"),
            "process list F: entry 1: run_as_root must be true or false"
        );
        assert!(error("- {").starts_with("process list F: not YAML"));
    }
}
