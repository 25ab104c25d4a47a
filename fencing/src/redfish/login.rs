//! Redfish sessions: open, close, and end somebody else's (DSP0266 13.3).

use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::http::{Auth, Http};
use super::{MEMBERS, model};
use crate::device::Device;
use crate::error::FenceError;

/// An authenticated way in.
#[derive(Debug)]
pub(super) struct Login {
    pub auth: Auth,
    /// The session's URI; `None` with Basic.
    pub uri: Option<Url>,
    /// The collection it stands in.
    sessions: Option<String>,
    /// The collection of systems, from the same service root.
    pub systems: String,
    /// The service that tells of accounts and their roles.
    pub accounts: Option<String>,
}

/// Logs in: a session where the service root names a session service, else Basic.
pub(super) async fn log_in(http: &Http, device: &Device) -> Result<Login, FenceError> {
    let username = device.username.clone().unwrap_or_default();
    let password = device.password.clone().unwrap_or_else(|| SecretString::from(""));
    let (_, root) = http.get(&Auth::None, "/redfish/v1/").await?;
    let accounts = model::link(&root["AccountService"]).map(str::to_owned);
    let systems = model::link(&root["Systems"]).unwrap_or("/redfish/v1/Systems").to_owned();
    let service = model::link(&root["SessionService"]);
    let sessions = match (model::link(&root["Links"]["Sessions"]), service) {
        (Some(sessions), _) => sessions.to_owned(),
        (None, Some(service)) => format!("{}/Sessions", service.trim_end_matches('/')),
        (None, None) => {
            let auth = Auth::Basic(username, password);
            return Ok(Login { auth, uri: None, sessions: None, systems, accounts });
        }
    };
    let url = http.resolve(&sessions)?;
    let body = json!({"UserName": username, "Password": password.expose_secret()});
    let reply = http.send(&Auth::None, Method::POST, url, Some(&body), None).await?;
    if !reply.status.is_success() {
        // Some answer a wrong password with 400; an error text of theirs might repeat what was sent, so none is kept.
        return Err(match reply.status.as_u16() {
            400 | 401 => FenceError::Credentials {
                device: device.name(),
                detail: format!("login answered {}", reply.status.as_u16()),
            },
            _ => http.refused(&reply, "login"),
        });
    }
    let token = reply.headers.get("X-Auth-Token").and_then(|t| t.to_str().ok()).filter(|t| !t.is_empty());
    let token = token.ok_or_else(|| http.malformed("login gives no X-Auth-Token"))?;
    let body = reply.json();
    let uri = reply.location().or_else(|| model::link(&body)).map(|l| http.resolve(l)).transpose()?;
    let (auth, sessions) = (Auth::Session(SecretString::from(token)), Some(sessions));
    Ok(Login { auth, uri, sessions, systems, accounts })
}

impl Login {
    /// Ends our own session, best effort.
    pub(super) async fn log_out(self, http: &Http) {
        if let Some(uri) = self.uri {
            let _ = delete(http, &self.auth, uri).await;
        }
    }
}

/// Deletes a session. One that is gone is deleted.
pub(super) async fn delete(http: &Http, auth: &Auth, uri: Url) -> Result<(), FenceError> {
    let what = format!("DELETE {}", uri.path());
    let reply = http.send(auth, Method::DELETE, uri, None, None).await?;
    match reply.status.as_u16() {
        200..=299 | 404 | 410 => Ok(()),
        _ => Err(http.refused(&reply, &what)),
    }
}

/// Deletes the account's other sessions: where it is ours alone they are left-overs of an engine that is gone. Best
/// effort: what stays can be seen in the report of whoever recorded it.
pub(super) async fn delete_others(http: &Http, own: &Login, username: &str) {
    let Some(sessions) = &own.sessions else { return };
    let Ok((_, collection)) = http.get(&own.auth, sessions).await else { return };
    for member in model::members(&collection).iter().take(MEMBERS) {
        let Ok(url) = http.resolve(member) else { continue };
        if own.uri.as_ref().is_some_and(|own| own.path() == url.path()) {
            continue;
        }
        let Ok((_, session)) = http.get(&own.auth, member).await else { continue };
        if session["UserName"] == username {
            let _ = delete(http, &own.auth, url).await;
        }
    }
}
