//! Who may do what, by rule: the defaults of [`crate::access`], and what the operator's policy file says instead.
//!
//! The file (`[api] policy_file`) is the original's, unchanged: YAML or JSON, a rule's name and its expression in oslo.policy's
//! language ([`expression`]). It overrides what it names and nothing else. All of ours that it leaves alone still follow its
//! `admin_api` and `context_is_admin`, as the original's did, beside the standings of DESIGN 10.10.
//!
//! A mistake in such a file is found when a machine must be fenced, or never, so whatever cannot be understood stops the start:
//! an unknown check, a rule that is referred to and is nowhere, a circle. An unknown rule that nothing refers to does no harm and
//! is warned about.
//!
//! **Ownership.** The original's `admin_or_owner` compares a caller's project with the project of the thing asked for. Nothing here
//! belongs to a project (segments, hosts and recoveries are the cloud's), and the original compares the caller with himself, so
//! that there the rule lets everybody in. Here such a comparison is unknown: it never grants, and `not` of it does not either.

pub(crate) mod expression;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

pub use file::PolicyError;

use crate::access::{Least, RULES};
use crate::auth::Caller;
use expression::{Attribute, Check};

/// Rules that others are made of, with the original's defaults.
const BASE: [(&str, &str); 4] = [
    ("context_is_admin", "role:admin"),
    ("admin_api", "is_admin:True"),
    ("admin_or_owner", "is_admin:True or project_id:%(project_id)s"),
    ("default", "rule:admin_api"),
];

/// Every rule with its check. It is made at the start and does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: BTreeMap<String, Check>,
    /// Those whose check comes from the file.
    from_file: Vec<String>,
    /// What the file has that an operator should look at.
    warnings: Vec<String>,
}

impl Default for Policy {
    /// Without a file.
    fn default() -> Self {
        let base = BASE.iter().map(|(name, text)| {
            (
                (*name).to_owned(),
                expression::parse(text).expect("the base rules are constants that a test reads"),
            )
        });
        let ours = RULES.iter().map(|(name, least)| ((*name).to_owned(), Check::Least(*least)));
        Self { rules: base.chain(ours).collect(), from_file: Vec::new(), warnings: Vec::new() }
    }
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`], naming the file and the rule.
    pub fn load(path: &Path) -> Result<Policy, PolicyError> {
        let at = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| PolicyError::Unreadable { file: at.clone(), why: error.to_string() })?;
        file::read(&text, &at)
    }

    /// What a start should say of the file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether a rule lets a caller through. A rule that is nowhere asks for what `admin_api` does.
    pub(crate) fn allows(&self, rule: &str, caller: &Caller) -> bool {
        self.named(rule, caller) == Some(true)
    }

    /// Whether the file has its own word on a rule.
    pub(crate) fn overrides(&self, rule: &str) -> bool {
        self.from_file.iter().any(|name| name == rule)
    }

    fn named(&self, rule: &str, caller: &Caller) -> Option<bool> {
        match self.rules.get(rule).or_else(|| self.rules.get("admin_api")) {
            Some(check) => self.verdict(check, caller),
            None => Some(false),
        }
    }

    /// Yes, no, or cannot tell, which is no yes and whose opposite is none either (Kleene's logic).
    fn verdict(&self, check: &Check, caller: &Caller) -> Option<bool> {
        match check {
            Check::Always => Some(true),
            Check::Never => Some(false),
            Check::Role(role) => Some(caller.roles.iter().any(|own| own.to_lowercase() == *role)),
            Check::Rule(name) => self.named(name, caller),
            Check::IsAdmin(wanted) => Some(caller.is_admin == *wanted),
            Check::Is(attribute, value) => Some(attribute.of(caller) == Some(value)),
            Check::Owner => None,
            Check::Least(least) => self.least(*least, caller),
            Check::Not(check) => self.verdict(check, caller).map(|verdict| !verdict),
            Check::All(checks) => self.fold(checks, caller, false),
            Check::Any(checks) => self.fold(checks, caller, true),
        }
    }

    fn least(&self, least: Least, caller: &Caller) -> Option<bool> {
        if least.admits(caller.standing, caller.is_service) {
            return Some(true);
        }
        self.named("admin_api", caller)
    }

    /// The first that decides; cannot tell, if none does and one cannot.
    fn fold(&self, checks: &[Check], caller: &Caller, decides: bool) -> Option<bool> {
        let mut known = true;
        for check in checks {
            match self.verdict(check, caller) {
                Some(verdict) if verdict == decides => return Some(decides),
                Some(_) => {}
                None => known = false,
            }
        }
        known.then_some(!decides)
    }
}

impl Attribute {
    fn of(self, caller: &Caller) -> Option<&str> {
        match self {
            Self::ProjectId => caller.project_id.as_deref(),
            Self::UserId => caller.user_id.as_deref(),
            Self::SystemScope => caller.system_scope.then_some("all"),
        }
    }
}
