//! Files as oslo.config reads them: sections, continuation lines, repeated keys, `$name` of another option.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file that cannot be read. Never shows a value: it may be a password.
#[derive(Debug, thiserror::Error)]
pub enum IniError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is a directory; name the file in it, usually masakari.conf", .0.display())]
    Directory(PathBuf),
    #[error("{}, line {line}: it is not UTF-8 here; convert the file, for instance with iconv", path.display())]
    NotText { path: PathBuf, line: usize },
    #[error("{}, line {line}: {what}", path.display())]
    Syntax { path: PathBuf, line: usize, what: &'static str },
    #[error("{} holds no option at all; is it the right file?", .0.display())]
    Empty(PathBuf),
}

/// Where an option stands, and every value it was given there.
#[derive(Clone, Debug)]
pub struct Given {
    /// In order; an option of one value takes the last.
    pub values: Vec<String>,
    pub path: PathBuf,
    pub line: usize,
}

/// The options of one or more files; a later file overrides an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Ini {
    /// By section and name, with `-` written as `_`.
    pub options: BTreeMap<(String, String), Given>,
}

/// What is before the first section belongs here.
pub const DEFAULT: &str = "DEFAULT";

impl Ini {
    /// Reads files in order.
    ///
    /// # Errors
    /// [`IniError`] for the first file that is none.
    pub fn read(paths: &[PathBuf]) -> Result<Ini, IniError> {
        let mut all = Ini::default();
        for path in paths {
            if path.is_dir() {
                return Err(IniError::Directory(path.clone()));
            }
            let bytes =
                std::fs::read(path).map_err(|source| IniError::Read { path: path.clone(), source })?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
                IniError::NotText { path: path.clone(), line }
            })?;
            let one = Ini::parse(&text, path)?;
            if one.options.is_empty() {
                return Err(IniError::Empty(path.clone()));
            }
            all.options.extend(one.options);
        }
        Ok(all)
    }

    /// Reads one file's text.
    ///
    /// # Errors
    /// [`IniError::Syntax`].
    pub fn parse(text: &str, path: &Path) -> Result<Ini, IniError> {
        let mut ini = Ini::default();
        let mut section = DEFAULT.to_owned();
        // The option that a continuation line belongs to.
        let mut last: Option<(String, String)> = None;
        for (i, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let refuse = |what| Err(IniError::Syntax { path: path.to_owned(), line: i + 1, what });
            let line = raw.trim_end();
            if line.contains('\0') {
                return refuse("it holds a NUL byte; this is no text file");
            }
            if line.is_empty() {
                last = None;
            } else if line.starts_with(['#', ';']) {
            } else if line.starts_with([' ', '\t']) {
                let given = last.as_ref().and_then(|key| ini.options.get_mut(key));
                let Some(value) = given.and_then(|given| given.values.last_mut()) else {
                    return refuse("the line begins with a blank and continues nothing; remove the blank");
                };
                value.push('\n');
                value.push_str(line.trim_start());
            } else if let Some(rest) = line.strip_prefix('[') {
                match rest.strip_suffix(']').map(str::trim) {
                    None => return refuse("the section's name is not closed by ']'"),
                    Some("") => return refuse("the section has no name"),
                    Some(name) => section = name.to_owned(),
                }
                last = None;
            } else {
                let Some(split) = line.find(['=', ':']) else {
                    return refuse("there is neither '=' nor ':'; is this an INI file?");
                };
                let name = line[..split].trim().replace('-', "_");
                if name.is_empty() {
                    return refuse("there is no name before the '='");
                }
                let value = unquoted(line[split + 1..].trim()).to_owned();
                let key = (section.clone(), name);
                let given = ini.options.entry(key.clone()).or_insert_with(|| Given {
                    values: Vec::new(),
                    path: path.to_owned(),
                    line: i + 1,
                });
                given.line = i + 1;
                given.values.push(value);
                last = Some(key);
            }
        }
        Ok(ini)
    }

    /// The value of an option with its `$name`s replaced. `Err`: a name that no option of these files gives.
    ///
    /// # Errors
    /// The name.
    pub fn value(&self, section: &str, name: &str) -> Option<Result<String, String>> {
        let given = self.options.get(&(section.to_owned(), name.to_owned()))?;
        given.values.last().map(|value| self.filled_in(value, (section, name), 0))
    }

    /// `$name`, `${name}`, `$section.name`; `$$` and `\$` are a dollar sign.
    fn filled_in(&self, text: &str, own: (&str, &str), depth: usize) -> Result<String, String> {
        let section = own.0;
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            if let Some(before) = before.strip_suffix('\\') {
                out.push_str(before);
                out.push('$');
                rest = after;
                continue;
            }
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let (name, after) = match after.strip_prefix('{') {
                Some(inner) => match inner.split_once('}') {
                    Some((name, after)) => (name, after),
                    None => ("", after),
                },
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
                    let name = after[..end.unwrap_or(after.len())].trim_end_matches('.');
                    (name, &after[name.len()..])
                }
            };
            if name.is_empty() {
                // A dollar sign and nothing that names: itself.
                out.push('$');
                rest = after;
                continue;
            }
            let (group, option) = name.split_once('.').unwrap_or((section, name));
            // Its own name means the one of DEFAULT: `[x] url = $url`.
            let groups = [group, DEFAULT].into_iter().filter(|group| (*group, option) != own);
            let found = groups.into_iter().find_map(|group| {
                self.options.get(&(group.to_owned(), option.to_owned())).map(|given| (group, given))
            });
            // Two options that name each other would never end.
            match found.and_then(|(group, given)| Some((group, given.values.last()?))) {
                Some((group, value)) if depth < 8 => {
                    out.push_str(&self.filled_in(value, (group, option), depth + 1)?);
                }
                _ => return Err(name.to_owned()),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Quotes around a whole value are not part of it.
fn unquoted(value: &str) -> &str {
    let mut chars = value.chars();
    match (chars.next(), chars.next_back()) {
        (Some(first), Some(last)) if first == last && matches!(first, '"' | '\'') => {
            &value[1..value.len() - 1]
        }
        _ => value,
    }
}
