//! Whether a server keeps what it acknowledges (SAFETY 3.2). An intent that vanishes with the power lets a guest run twice, so with
//! the wrong settings nothing starts; what is merely worse than it could be is said and goes on.

/// How a server's settings are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A setting that loses commits is refused.
    Strict,
    /// For tests, whose servers are fast and forgetful: looked at by nobody.
    Relaxed,
}

/// A setting that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub setting: &'static str,
    pub value: String,
    /// What can happen with it.
    pub why: &'static str,
    pub cure: &'static str,
    /// Acknowledged commits can be lost: refused at open.
    pub fatal: bool,
}

impl Finding {
    pub(crate) fn fatal(
        setting: &'static str,
        value: &str,
        why: &'static str,
        cure: &'static str,
    ) -> Finding {
        Finding { setting, value: value.to_owned(), why, cure, fatal: true }
    }

    pub(crate) fn warning(
        setting: &'static str,
        value: &str,
        why: &'static str,
        cure: &'static str,
    ) -> Finding {
        Finding { fatal: false, ..Finding::fatal(setting, value, why, cure) }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}: {}; {}", self.setting, self.value, self.why, self.cure)
    }
}

/// For an error: all at once, so that one visit to the server cures them.
pub(crate) fn told(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join(". ")
}
