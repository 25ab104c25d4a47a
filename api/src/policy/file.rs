//! From a policy file to a [`Policy`]: reading, and everything that must be wrong at the start rather than at night.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml_ng::{Mapping, Value};

use super::Policy;
use super::expression::{self, Check, Unread};
use crate::access::{Least, RULES};

/// Checks that one rule may come to when all it refers to is written out, which bounds the work of a verdict: a hand-written file has
/// a dozen.
const MOST_CHECKS: usize = 1000;

/// Rules that may refer on to one another in a row, which bounds a verdict's depth.
const LONGEST_CHAIN: usize = 32;

/// A policy file that cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("[api] policy_file: {file} cannot be read: {why}")]
    Unreadable { file: String, why: String },
    #[error("[api] policy_file: {file} is no YAML: {why}")]
    Syntax { file: String, why: String },
    #[error(
        "[api] policy_file: {file} must hold rule names with their expressions, such as `\"os_masakari_api:segments:index\": \"role:reader\"`"
    )]
    NoTable { file: String },
    #[error("[api] policy_file: {file}: rule {rule:?}: {why}")]
    Rule { file: String, rule: String, why: String },
    #[error("[api] policy_file: {file}: rule {rule:?} refers to {wanted:?}, which is nowhere{}", near(.nearest))]
    Nowhere { file: String, rule: String, wanted: String, nearest: Option<String> },
    #[error("[api] policy_file: {file}: rules refer to one another in a circle: {circle}")]
    Circle { file: String, circle: String },
    #[error(
        "[api] policy_file: {file}: rule {rule:?} comes to more than {MOST_CHECKS} checks or {LONGEST_CHAIN} rules in a row; make it simpler"
    )]
    TooMuch { file: String, rule: String },
}

fn near(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

pub(super) fn read(text: &str, file: &str) -> Result<Policy, PolicyError> {
    let mut policy = Policy::default();
    let known: BTreeSet<String> = policy.rules.keys().cloned().collect();
    for (name, value) in table(text, file)? {
        let wrong = |why: String| PolicyError::Rule { file: file.to_owned(), rule: shown(&name), why };
        let Value::String(rule) = &name else { return Err(wrong("a rule's name must be text".into())) };
        let check = of_value(&value).map_err(wrong)?;
        policy.rules.insert(rule.clone(), check);
        policy.from_file.push(rule.clone());
    }
    let referred = references(&policy, file)?;
    Sizes { policy: &policy, file, known: BTreeMap::new(), path: Vec::new() }.all()?;
    policy.warnings = warnings(&policy, &known, &referred);
    Ok(policy)
}

/// An empty file, or one of comments alone as the original's sample is, overrides nothing.
fn table(text: &str, file: &str) -> Result<Mapping, PolicyError> {
    let value: Value = serde_yaml_ng::from_str(text)
        .map_err(|error| PolicyError::Syntax { file: file.to_owned(), why: error.to_string() })?;
    match value {
        Value::Null => Ok(Mapping::new()),
        Value::Mapping(table) => Ok(table),
        _ => Err(PolicyError::NoTable { file: file.to_owned() }),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("{value:?}"), str::to_owned)
}

/// Text, or oslo.policy's older list of lists: the outer one is `or`, the inner ones are `and`.
fn of_value(value: &Value) -> Result<Check, String> {
    let say = |error: Unread| error.to_string();
    match value {
        Value::String(text) => expression::parse(text).map_err(say),
        Value::Sequence(list) if list.is_empty() => Ok(Check::Always),
        Value::Sequence(list) => {
            let checks: Result<Vec<Check>, String> = list.iter().map(of_inner).collect();
            Ok(expression::only(checks?).unwrap_or_else(Check::Any))
        }
        // oslo.policy takes a rule without a value for "everybody", which is not what a forgotten value means.
        _ => Err("its expression must be text in quotes; \"@\" lets everybody in, \"!\" nobody".to_owned()),
    }
}

fn of_inner(value: &Value) -> Result<Check, String> {
    let one = |value: &Value| match value {
        Value::String(text) => expression::check(text).map_err(|error| error.to_string()),
        _ => Err("a list's checks must be text".to_owned()),
    };
    match value {
        Value::Sequence(list) if list.is_empty() => Err("an empty list inside of a list".to_owned()),
        Value::Sequence(list) => {
            let checks: Result<Vec<Check>, String> = list.iter().map(one).collect();
            Ok(expression::only(checks?).unwrap_or_else(Check::All))
        }
        value => one(value),
    }
}

/// What a check asks of other rules. A default of ours and `is_admin` lean on two of the base rules.
fn leans_on(check: &Check, found: &mut Vec<String>) {
    match check {
        Check::Rule(name) => found.push(name.clone()),
        Check::IsAdmin(_) => found.push("context_is_admin".to_owned()),
        Check::Least(Least::Anyone) => {}
        Check::Least(_) => found.push("admin_api".to_owned()),
        Check::Not(check) => leans_on(check, found),
        Check::All(checks) | Check::Any(checks) => {
            checks.iter().for_each(|check| leans_on(check, found));
        }
        Check::Always | Check::Never | Check::Role(_) | Check::Is(..) | Check::Owner => {}
    }
}

/// Every rule that another refers to.
fn references(policy: &Policy, file: &str) -> Result<BTreeSet<String>, PolicyError> {
    let mut referred = BTreeSet::new();
    for (rule, check) in &policy.rules {
        let mut found = Vec::new();
        leans_on(check, &mut found);
        if let Some(wanted) = found.iter().find(|name| !policy.rules.contains_key(*name)) {
            return Err(PolicyError::Nowhere {
                file: file.to_owned(),
                rule: rule.clone(),
                wanted: wanted.clone(),
                nearest: nearest(policy.rules.keys(), wanted),
            });
        }
        referred.extend(found);
    }
    Ok(referred)
}

fn nearest<'a>(names: impl Iterator<Item = &'a String>, wrong: &str) -> Option<String> {
    let near = names.map(|name| (strsim::damerau_levenshtein(name, wrong), name)).min();
    near.filter(|(distance, name)| *distance <= name.len().max(3) / 3).map(|(_, name)| name.clone())
}

/// How many checks each rule comes to, everything it refers to written out.
struct Sizes<'p> {
    policy: &'p Policy,
    file: &'p str,
    known: BTreeMap<&'p str, usize>,
    /// The rules we are in, outermost first.
    path: Vec<&'p str>,
}

impl<'p> Sizes<'p> {
    fn all(&mut self) -> Result<(), PolicyError> {
        self.policy.rules.keys().try_for_each(|rule| self.rule(rule).map(|_| ()))
    }

    fn rule(&mut self, rule: &'p str) -> Result<usize, PolicyError> {
        if let Some(size) = self.known.get(rule) {
            return Ok(*size);
        }
        if let Some(from) = self.path.iter().position(|name| *name == rule) {
            let circle = [&self.path[from..], &[rule]].concat().join(" -> ");
            return Err(PolicyError::Circle { file: self.file.to_owned(), circle });
        }
        let too_much = || PolicyError::TooMuch { file: self.file.to_owned(), rule: rule.to_owned() };
        if self.path.len() > LONGEST_CHAIN {
            return Err(too_much());
        }
        self.path.push(rule);
        let size = self.check(&self.policy.rules[rule])?;
        self.path.pop();
        if size > MOST_CHECKS {
            return Err(too_much());
        }
        self.known.insert(rule, size);
        Ok(size)
    }

    fn check(&mut self, check: &'p Check) -> Result<usize, PolicyError> {
        Ok(1 + match check {
            Check::Rule(name) => self.rule(name)?,
            Check::IsAdmin(_) => self.rule("context_is_admin")?,
            Check::Least(Least::Anyone) => 0,
            Check::Least(_) => self.rule("admin_api")?,
            Check::Not(check) => self.check(check)?,
            Check::All(checks) | Check::Any(checks) => {
                let mut size = 0_usize;
                for check in checks {
                    size = size.saturating_add(self.check(check)?);
                }
                size
            }
            Check::Always | Check::Never | Check::Role(_) | Check::Is(..) | Check::Owner => 0,
        })
    }
}

/// What stands in the file and can be meant, but an operator should know of.
fn warnings(policy: &Policy, known: &BTreeSet<String>, referred: &BTreeSet<String>) -> Vec<String> {
    let mut said = Vec::new();
    for rule in &policy.from_file {
        if !known.contains(rule) && !referred.contains(rule) {
            let nearest = near(&nearest(known.iter(), rule));
            said.push(format!("rule {rule:?} is none of this service's, and no other refers to it{nearest}"));
        }
        if RULES.contains(&(rule, Least::Admin)) {
            said.push(format!("rule {rule:?} is an administrator's by default, and the file changes that"));
        }
        if asks_for_owner(&policy.rules[rule]) {
            said.push(format!(
                "rule {rule:?} compares with the thing asked for; nothing here belongs to a project or a user, so that never grants"
            ));
        }
    }
    said
}

fn asks_for_owner(check: &Check) -> bool {
    match check {
        Check::Owner => true,
        Check::Not(check) => asks_for_owner(check),
        Check::All(checks) | Check::Any(checks) => checks.iter().any(asks_for_owner),
        _ => false,
    }
}
