//! Who may do what: roles as data (DESIGN 10.10).
//!
//! On a cloud as it comes only `admin` may use this API, as with the original. `manager`, `member` and `reader` are roles that any tenant's
//! users have in their own project, so they count only with system scope or in a project of `[api] operator_projects`. `service` is what
//! services' users have: it reports and reads. What no rule names needs `admin`.

use crate::auth::Caller;

/// The least standing that a verb asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// Reads what is no secret: `reader` and above, and `service`.
    Reader,
    /// Reports a failure: `manager` and above, and `service`.
    Reporter,
    /// Changes segments and hosts, releases and retries: `manager` and above.
    Manager,
    /// Turns machines off, keeps secrets, stops the service: `admin`.
    Admin,
}

/// How far a caller's roles reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Nobody,
    Reader,
    Member,
    Manager,
    Admin,
}

/// The verbs of `/v1`, by the names that the original's policy gives them.
pub const RULES: [(&str, Least); 18] = [
    ("os_masakari_api:extensions:index", Least::Reader),
    ("os_masakari_api:extensions:detail", Least::Reader),
    ("os_masakari_api:segments:index", Least::Reader),
    ("os_masakari_api:segments:detail", Least::Reader),
    ("os_masakari_api:segments:create", Least::Manager),
    ("os_masakari_api:segments:update", Least::Manager),
    ("os_masakari_api:segments:delete", Least::Manager),
    ("os_masakari_api:os-hosts:index", Least::Reader),
    ("os_masakari_api:os-hosts:detail", Least::Reader),
    ("os_masakari_api:os-hosts:create", Least::Manager),
    ("os_masakari_api:os-hosts:update", Least::Manager),
    ("os_masakari_api:os-hosts:delete", Least::Manager),
    ("os_masakari_api:notifications:index", Least::Reader),
    ("os_masakari_api:notifications:detail", Least::Reader),
    ("os_masakari_api:notifications:create", Least::Reporter),
    ("os_masakari_api:vmoves:index", Least::Reader),
    ("os_masakari_api:vmoves:detail", Least::Reader),
    ("versions:show", Least::Reader),
];

/// What a rule asks for; `Admin` for one that is not in the table.
pub fn least(rule: &str) -> Least {
    RULES.iter().find(|(name, _)| *name == rule).map_or(Least::Admin, |(_, least)| *least)
}

/// How far role names reach; `operator` is whether tenants' roles count where the caller comes from. Keystone compares role names
/// without case.
pub fn standing(roles: &[String], operator: bool) -> Standing {
    let has = |role: &str| roles.iter().any(|own| own.eq_ignore_ascii_case(role));
    let tenant = [("manager", Standing::Manager), ("member", Standing::Member), ("reader", Standing::Reader)];
    if has("admin") {
        return Standing::Admin;
    }
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
    /// Whether a caller reaches it.
    pub fn admits(self, standing: Standing, service: bool) -> bool {
        match self {
            Self::Reader => service || standing >= Standing::Reader,
            Self::Reporter => service || standing >= Standing::Manager,
            Self::Manager => standing >= Standing::Manager,
            Self::Admin => standing >= Standing::Admin,
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Reader => "the role admin, service, or an operator's reader",
            Self::Reporter => "the role admin, service, or an operator's manager",
            Self::Manager => "the role admin, or an operator's manager",
            Self::Admin => "the role admin",
        }
    }
}

impl Caller {
    /// Asks for what the table says of `rule`.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn may(&self, rule: &str) -> Result<(), Forbidden> {
        self.require(least(rule), rule)
    }

    /// Asks for a standing, for the verb named `rule`.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn require(&self, least: Least, rule: &str) -> Result<(), Forbidden> {
        if least.admits(self.standing, self.is_service) {
            Ok(())
        } else {
            Err(Forbidden { rule: rule.to_owned(), needs: least.needs() })
        }
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
            ("admin", false, Standing::Admin),
            ("Admin reader", false, Standing::Admin),
            ("manager", false, Standing::Nobody),
            ("member reader", false, Standing::Nobody),
            ("manager member", true, Standing::Manager),
            ("member reader", true, Standing::Member),
            ("READER", true, Standing::Reader),
            ("service", true, Standing::Nobody),
            ("administrator", true, Standing::Nobody),
            ("", true, Standing::Nobody),
        ];
        for (names, operator, want) in table {
            assert_eq!(standing(&roles(names), operator), want, "{names} {operator}");
        }
    }

    #[test]
    fn every_verb_by_every_standing() {
        use Standing::{Admin, Manager, Member, Nobody, Reader};
        let all = [Nobody, Reader, Member, Manager, Admin];
        for (rule, least) in RULES {
            let reads = ["index", "detail", "show"].iter().any(|verb| rule.ends_with(verb));
            for standing in all {
                let admitted = least.admits(standing, false);
                let want = if reads { standing >= Reader } else { standing >= Manager };
                assert_eq!(admitted, want, "{rule} {standing:?}");
            }
            let want = reads || rule == "os_masakari_api:notifications:create";
            assert_eq!(least.admits(Nobody, true), want, "service {rule}");
        }
        assert_eq!(least("os_masakari_api:segments:format-all"), Least::Admin);
    }
}
