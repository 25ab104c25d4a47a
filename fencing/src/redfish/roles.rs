//! What the account may do, as far as the service tells.
//!
//! Resetting a system needs ConfigureComponents (DSP0266 13.5; the role Operator has it). Many services show an account less than
//! this, or nothing: what cannot be seen is no fault. Only what plainly lacks the privilege is one, and the order itself has the last
//! word.

use std::time::Duration;

use serde_json::Value;

use super::{Session, model};

/// The privilege that ComputerSystem.Reset needs.
const NEEDED: &str = "ConfigureComponents";
/// Accounts that are looked at to find ours. BMCs have room for 10 to 16.
const ACCOUNTS: usize = 20;

/// All of it together. 4 s: what a check has found already must not be lost to a service that thinks about its accounts.
const PATIENCE: Duration = Duration::from_secs(4);

impl Session {
    /// Why the account is not privileged enough, if that can be seen.
    pub(super) async fn role_too_low(&self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.judged()).await.unwrap_or_default()
    }

    async fn judged(&self) -> Option<String> {
        for role in self.roles().await? {
            match self.may_reset(&role).await {
                Some(false) => {}
                // One role that suffices, or cannot be judged, is enough.
                _ => return None,
            }
        }
        let username = self.device.username.as_deref().unwrap_or_default();
        Some(format!("the account {username} lacks {NEEDED}; give it the role Operator"))
    }

    /// The account's roles: from our own session's document, else from the account's own.
    async fn roles(&self) -> Option<Vec<String>> {
        let login = self.login.as_ref()?;
        if let Some(uri) = &login.uri
            && let Ok((_, session)) = self.http.get(&login.auth, uri.as_str()).await
        {
            let roles = words(&session["Roles"]);
            if !roles.is_empty() {
                return Some(roles);
            }
        }
        let service = login.accounts.as_deref()?;
        let (_, service) = self.http.get(&login.auth, service).await.ok()?;
        let (_, accounts) = self.http.get(&login.auth, model::link(&service["Accounts"])?).await.ok()?;
        for member in model::members(&accounts).iter().take(ACCOUNTS) {
            let Ok((_, account)) = self.http.get(&login.auth, member).await else { continue };
            if account["UserName"].as_str() == self.device.username.as_deref() {
                let role = account["RoleId"].as_str().filter(|role| !role.is_empty())?;
                return Some(vec![role.to_owned()]);
            }
        }
        None
    }

    /// Whether a role may reset; `None` if it cannot be seen.
    async fn may_reset(&self, role: &str) -> Option<bool> {
        let known = match role {
            "Administrator" | "Operator" => Some(true),
            "ReadOnly" | "NoAccess" => Some(false),
            _ => None,
        };
        let document = self.role(role).await;
        document.as_ref().and_then(privileged).or(known)
    }

    async fn role(&self, role: &str) -> Option<Value> {
        let login = self.login.as_ref()?;
        let (_, service) = self.http.get(&login.auth, login.accounts.as_deref()?).await.ok()?;
        let (_, roles) = self.http.get(&login.auth, model::link(&service["Roles"])?).await.ok()?;
        let members = model::members(&roles);
        let link = members.iter().find(|m| m.trim_end_matches('/').rsplit('/').next() == Some(role))?;
        Some(self.http.get(&login.auth, link).await.ok()?.1)
    }
}

/// Whether a role's document grants the privilege. One with privileges of the vendor's own cannot be judged without it.
fn privileged(role: &Value) -> Option<bool> {
    let assigned = role["AssignedPrivileges"].as_array()?;
    let grants = assigned.iter().any(|p| p == NEEDED);
    let own = !words(&role["OemPrivileges"]).is_empty();
    if own && !grants { None } else { Some(grants) }
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
