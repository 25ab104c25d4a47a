//! What an agent says it can: its parameters and actions, from the XML that action `metadata` prints.
//!
//! Agents warn about an unknown parameter and go on without it: a misspelt `plug` would switch nothing, or the wrong thing.
//! So what the agent does not know is refused before it runs, with the name that was probably meant.
//!
//! The XML is read by a scanner for the four elements that matter (parameter, content, option, action) rather than by a parser: it
//! is flat, and what is not understood is passed over.

use std::collections::BTreeMap;

/// Parameters and actions of an agent. Bounded by the agent's bounded output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub parameters: BTreeMap<String, Parameter>,
    pub actions: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameter {
    pub required: bool,
    /// An older name that means the same.
    pub obsoletes: Option<String>,
    pub deprecated: bool,
    pub has_default: bool,
    /// `string`, `boolean`, `integer`, `second`, `select`.
    pub kind: String,
    /// Of a `select`.
    pub values: Vec<String>,
}

impl Metadata {
    /// Reads the output of action `metadata`; `None` if it is none.
    pub(super) fn parse(output: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(output);
        let mut found = Self::default();
        let mut present: Option<String> = None;
        for tag in Tags(&text) {
            let value = |name: &str| attribute(tag, name).filter(|v| !v.is_empty());
            let parameter = present.as_ref().and_then(|name| found.parameters.get_mut(name));
            match (element(tag), parameter) {
                ("parameter", _) => {
                    let Some(name) = value("name") else { continue };
                    let (required, obsoletes) =
                        (value("required").is_some_and(|v| v == "1"), value("obsoletes"));
                    let deprecated = value("deprecated").is_some();
                    let new = Parameter { required, obsoletes, deprecated, ..Parameter::default() };
                    found.parameters.insert(name.clone(), new);
                    present = Some(name);
                }
                ("content", Some(parameter)) => {
                    parameter.kind = value("type").unwrap_or_default();
                    parameter.has_default = attribute(tag, "default").is_some();
                }
                ("option", Some(parameter)) => parameter.values.extend(value("value")),
                ("/parameter", _) => present = None,
                ("action", _) => found.actions.extend(value("name")),
                _ => {}
            }
        }
        (!found.actions.is_empty() && !found.parameters.is_empty()).then_some(found)
    }

    /// The first of these names that the agent knows: names changed over the years.
    pub(super) fn known<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.parameters.contains_key(*name))
    }

    /// Why these parameters cannot be meant: the first that the agent does not know or whose value it cannot take.
    pub(super) fn refuses<'a>(&self, given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<String> {
        given.into_iter().find_map(|(key, value)| {
            // As the agents read them.
            let key = key.replace('-', "_");
            match self.parameters.get(&key) {
                None => Some(match self.nearest(&key) {
                    Some(near) => format!("the agent has no option {key:?}; did you mean {near:?}?"),
                    None => format!("the agent has no option {key:?}; remove it"),
                }),
                Some(parameter) => parameter.refuses(value).map(|why| format!("option {key:?} {why}")),
            }
        })
    }

    /// Parameters that the agent asks for and nobody gave.
    pub(super) fn missing(&self, given: &[&str]) -> Vec<&str> {
        let is_given = |name: &str| given.iter().any(|g| g.replace('-', "_") == name);
        let asked = self.parameters.iter().filter(|(name, p)| {
            p.required && !p.deprecated && !p.has_default && *name != "action" && !is_given(name)
        });
        asked
            .filter(|(_, p)| !p.obsoletes.as_deref().is_some_and(is_given))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn nearest(&self, key: &str) -> Option<&str> {
        let names = self.parameters.iter().filter(|(_, p)| !p.deprecated).map(|(name, _)| name.as_str());
        let measured = names.map(|name| (strsim::damerau_levenshtein(key, name), name));
        // Farther away it would be a guess rather than a misspelling.
        measured.min().filter(|(distance, name)| *distance <= name.len().max(3) / 2).map(|(_, name)| name)
    }
}

impl Parameter {
    fn refuses(&self, value: &str) -> Option<String> {
        const BOOLEANS: [&str; 8] = ["1", "0", "true", "false", "yes", "no", "on", "off"];
        match self.kind.as_str() {
            "boolean" if !BOOLEANS.iter().any(|b| value.eq_ignore_ascii_case(b)) => {
                Some("takes 1 or 0".to_owned())
            }
            "integer" | "second" if value.parse::<i64>().is_err() => Some("takes a number".to_owned()),
            "select" if !self.values.is_empty() && !self.values.iter().any(|v| v == value) => {
                Some(format!("takes one of {}", self.values.join(", ")))
            }
            _ => None,
        }
    }
}

/// The insides of all tags of an XML text, in order: what stands between `<` and `>`, quotes respected.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (_, rest) = self.0.split_once('<')?;
        let mut quote = None;
        let end = rest.char_indices().find(|(_, c)| match quote {
            Some(open) => {
                if *c == open {
                    quote = None;
                }
                false
            }
            None if *c == '"' || *c == '\'' => {
                quote = Some(*c);
                false
            }
            None => *c == '>',
        });
        let (tag, rest) = end.map(|(at, _)| (&rest[..at], &rest[at + 1..]))?;
        self.0 = rest;
        Some(tag)
    }
}

fn element(tag: &str) -> &str {
    tag.split([' ', '\t', '\n', '\r']).next().unwrap_or_default()
}

/// The value of an attribute, its entities resolved.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    loop {
        let (before, after) = rest.split_once('=')?;
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, next) = after[1..].split_once(quote)?;
        if before.trim().rsplit([' ', '\t', '\n', '\r']).next() == Some(name) {
            let plain = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
            return Some(plain.replace("&apos;", "'").replace("&amp;", "&"));
        }
        rest = next;
    }
}
