//! Who may do what: rules and what each asks for, as data (DESIGN 10.10).
//!
//! Every route asks for one rule, and every rule stands here with its default. On a cloud as it comes only `admin` may use this API, as
//! with the original. `manager`, `member` and `reader` are roles that any tenant's users have in their own project, so they count only
//! with system scope or in a project of `[api] operator_projects`. `service` is what services' users have: it reports and reads. What no
//! rule names needs `admin`. A policy file may say otherwise, rule by rule ([`crate::policy`]).

use crate::auth::Caller;

/// The least that a rule asks for by default. An administrator (whoever passes `admin_api`) reaches all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// A valid token.
    Anyone,
    /// Reads what is no secret: `reader` and above, and `service`.
    Reader,
    /// Reports a failure: `manager` and above, and `service`.
    Reporter,
    /// Changes segments and hosts, releases and retries: `manager` and above.
    Manager,
    /// Turns machines off, keeps secrets, stops the service: an administrator.
    Admin,
}

/// How far a tenant's roles reach here. Who is an administrator is another question: the policy answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Nobody,
    Reader,
    Member,
    Manager,
}

/// Every rule with its default: first the original's, by its names, then ours.
pub const RULES: [(&str, Least); 58] = [
    ("os_masakari_api:extensions:index", Least::Reader),
    ("os_masakari_api:extensions:detail", Least::Reader),
    ("os_masakari_api:extensions:discoverable", Least::Reader),
    ("os_masakari_api:segments:index", Least::Reader),
    ("os_masakari_api:segments:detail", Least::Reader),
    ("os_masakari_api:segments:create", Least::Manager),
    ("os_masakari_api:segments:update", Least::Manager),
    ("os_masakari_api:segments:delete", Least::Manager),
    ("os_masakari_api:segments:discoverable", Least::Reader),
    ("os_masakari_api:os-hosts:index", Least::Reader),
    ("os_masakari_api:os-hosts:detail", Least::Reader),
    ("os_masakari_api:os-hosts:create", Least::Manager),
    ("os_masakari_api:os-hosts:update", Least::Manager),
    ("os_masakari_api:os-hosts:delete", Least::Manager),
    ("os_masakari_api:os-hosts:discoverable", Least::Reader),
    ("os_masakari_api:notifications:index", Least::Reader),
    ("os_masakari_api:notifications:detail", Least::Reader),
    ("os_masakari_api:notifications:create", Least::Reporter),
    ("os_masakari_api:notifications:discoverable", Least::Reader),
    ("os_masakari_api:vmoves:index", Least::Reader),
    ("os_masakari_api:vmoves:detail", Least::Reader),
    ("os_masakari_api:vmoves:discoverable", Least::Reader),
    // The version documents are open to all; the original has a name for it, which files in the field hold.
    ("os_masakari_api:versions:index", Least::Anyone),
    ("os_masakari_api:versions:discoverable", Least::Anyone),
    ("halberd:recoveries:index", Least::Reader),
    ("halberd:recoveries:detail", Least::Reader),
    ("halberd:recoveries:explain", Least::Reader),
    ("halberd:recoveries:retry", Least::Manager),
    ("halberd:recoveries:release", Least::Manager),
    ("halberd:recoveries:cancel", Least::Admin),
    ("halberd:hosts:fence", Least::Admin),
    ("halberd:hosts:power_on", Least::Admin),
    ("halberd:hosts:drill", Least::Admin),
    ("halberd:hosts:fence_history", Least::Reader),
    ("halberd:hosts:confirm_fenced", Least::Admin),
    ("halberd:hosts:readmit", Least::Manager),
    ("halberd:hosts:attributes", Least::Manager),
    ("halberd:agent_keys:create", Least::Admin),
    ("halberd:agent_keys:delete", Least::Admin),
    ("halberd:fence_devices:detail", Least::Reader),
    ("halberd:fence_devices:update", Least::Admin),
    ("halberd:fence_devices:check", Least::Manager),
    ("halberd:wishes:detail", Least::Reader),
    ("halberd:events:index", Least::Reader),
    ("halberd:services:index", Least::Reader),
    ("halberd:agents:index", Least::Reader),
    ("halberd:engines:index", Least::Reader),
    ("halberd:readiness:detail", Least::Reader),
    ("halberd:site:disarm", Least::Admin),
    ("halberd:site:arm", Least::Admin),
    ("halberd:reconcile_only:detail", Least::Reader),
    ("halberd:reconcile_only:leave", Least::Admin),
    ("halberd:segment_policy:detail", Least::Reader),
    ("halberd:segment_policy:update", Least::Manager),
    // Besides the one above, where a policy is to believe reporters about hosts that nobody can fence.
    ("halberd:segment_policy:trust_reporter", Least::Admin),
    ("halberd:audit:index", Least::Reader),
    ("halberd:audit:chains", Least::Reader),
    ("halberd:audit:verify", Least::Reader),
];

/// What a rule asks for by default; `Admin` for one that is not in the table.
pub fn least(rule: &str) -> Least {
    RULES.iter().find(|(name, _)| *name == rule).map_or(Least::Admin, |(_, least)| *least)
}

/// How far role names reach; `operator` is whether tenants' roles count where the caller comes from. Keystone compares role names
/// without case.
pub fn standing(roles: &[String], operator: bool) -> Standing {
    let has = |role: &str| roles.iter().any(|own| own.eq_ignore_ascii_case(role));
    let tenant = [("manager", Standing::Manager), ("member", Standing::Member), ("reader", Standing::Reader)];
    let found = tenant.iter().find(|(role, _)| operator && has(role));
    found.map_or(Standing::Nobody, |(_, standing)| *standing)
}

/// Refused: 403.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Policy doesn't allow {rule} to be performed; it needs {needs}.")]
pub struct Forbidden {
    pub rule: String,
    pub needs: &'static str,
}

impl Least {
    /// Whether a caller who is no administrator reaches it.
    pub fn admits(self, standing: Standing, service: bool) -> bool {
        match self {
            Self::Anyone => true,
            Self::Reader => service || standing >= Standing::Reader,
            Self::Reporter => service || standing >= Standing::Manager,
            Self::Manager => standing >= Standing::Manager,
            Self::Admin => false,
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Anyone => "a valid token",
            Self::Reader => "the role admin, service, or an operator's reader",
            Self::Reporter => "the role admin, service, or an operator's manager",
            Self::Manager => "the role admin, or an operator's manager",
            Self::Admin => "the role admin",
        }
    }
}

impl Caller {
    /// Asks for what the policy says of `rule`.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn may(&self, rule: &str) -> Result<(), Forbidden> {
        if self.policy.allows(rule, self) {
            return Ok(());
        }
        let needs =
            if self.policy.overrides(rule) { "what the policy file asks for" } else { least(rule).needs() };
        Err(Forbidden { rule: rule.to_owned(), needs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn tenants_roles_count_only_for_operators() {
        let table = [
            ("manager", false, Standing::Nobody),
            ("member reader", false, Standing::Nobody),
            ("manager member", true, Standing::Manager),
            ("member reader", true, Standing::Member),
            ("READER", true, Standing::Reader),
            ("service", true, Standing::Nobody),
            ("admin", true, Standing::Nobody),
            ("", true, Standing::Nobody),
        ];
        for (names, operator, want) in table {
            assert_eq!(standing(&roles(names), operator), want, "{names} {operator}");
        }
    }

    #[test]
    fn every_rule_by_every_standing() {
        use Standing::{Manager, Member, Nobody, Reader};
        for (rule, least) in RULES {
            let table = [(Nobody, false), (Reader, false), (Member, false), (Manager, false), (Nobody, true)];
            let got = table.map(|(standing, service)| least.admits(standing, service));
            let want = match least {
                Least::Anyone => [true; 5],
                Least::Reader => [false, true, true, true, true],
                Least::Reporter => [false, false, false, true, true],
                Least::Manager => [false, false, false, true, false],
                Least::Admin => [false; 5],
            };
            assert_eq!(got, want, "{rule}");
        }
        assert_eq!(least("os_masakari_api:segments:format-all"), Least::Admin);
    }

    #[test]
    fn names_are_unique_and_what_only_reads_is_no_deed() {
        for (at, (rule, least)) in RULES.iter().enumerate() {
            assert!(RULES[at + 1..].iter().all(|(other, _)| other != rule), "{rule} stands twice");
            let reads = ["index", "detail", "explain", "chains", "verify", "fence_history", "discoverable"]
                .iter()
                .any(|verb| rule.ends_with(&format!(":{verb}")));
            assert_eq!(reads, matches!(least, Least::Reader | Least::Anyone), "{rule}");
        }
    }
}
