//! One secret of HashiCorp Vault (or OpenBao), key-value engine version 2, over HTTP.
//!
//! Where and who is said by Vault's own variables: VAULT_ADDR; VAULT_TOKEN, or the file VAULT_TOKEN_FILE, or `~/.vault-token`
//! (what `vault login` and a Vault agent's sink write); VAULT_NAMESPACE and VAULT_CACERT if need be. `MOUNT/PATH` is read at
//! `/v1/MOUNT/data/PATH`, as `vault kv get MOUNT/PATH` does; the API's own path with `data` in it is understood too.

use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Env, Failed, LONGEST, lasting, passing};
use crate::device::Tls;
use crate::limits::Limits;
use crate::redfish::tls;

/// Largest answer: a secret's document with its metadata is some hundred bytes.
const ANSWER: usize = 1 << 18;

pub(super) async fn read(
    path: &str,
    key: &str,
    limits: &Limits,
    env: Env<'_>,
) -> Result<Zeroizing<String>, Failed> {
    let address = env("VAULT_ADDR").ok_or_else(|| lasting("VAULT_ADDR is not set"))?;
    let url = url(&address, path).ok_or_else(|| lasting("VAULT_ADDR is no http:// or https:// URL"))?;
    let mut token =
        HeaderValue::from_str(&token(env).await?).map_err(|_| lasting("the token is no header value"))?;
    token.set_sensitive(true);
    let authority = env("VAULT_CACERT").map(|file| Tls { ca_file: Some(file), ..Tls::default() });
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(limits.connect)
        .timeout(limits.request);
    let client = tls::apply(builder, authority.as_ref(), url.scheme() == "http").map_err(lasting)?;
    let client = client.build().map_err(|_| lasting("no HTTP client can be made; check VAULT_CACERT"))?;
    let mut request = client.get(url).header("X-Vault-Token", token).header("X-Vault-Request", "true");
    if let Some(namespace) = env("VAULT_NAMESPACE") {
        request = request.header("X-Vault-Namespace", namespace);
    }
    // Only the kind of failure: reqwest's own text may hold the URL, which is no secret, and more than fits.
    let unanswered = |e: reqwest::Error| {
        passing(if e.is_timeout() { "Vault does not answer" } else { "Vault cannot be reached" })
    };
    let mut response = request.send().await.map_err(unanswered)?;
    match response.status().as_u16() {
        200 => {}
        status @ (400 | 401 | 403) => {
            return Err(lasting(format!(
                "Vault answers {status}: the token may not read this path, or has expired"
            )));
        }
        404 => {
            return Err(lasting(
                "Vault answers 404: no such secret, or no key-value engine of version 2 there",
            ));
        }
        status @ 300..=399 => {
            return Err(lasting(format!("Vault answers {status}; set VAULT_ADDR to where it leads")));
        }
        status => return Err(passing(format!("Vault answers {status}; is it sealed?"))),
    }
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > ANSWER {
            return Err(lasting("Vault's answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    let document: Value = serde_json::from_slice(&body).map_err(|_| lasting("Vault's answer is no JSON"))?;
    let value = document["data"]["data"][key].as_str().filter(|v| v.len() as u64 <= LONGEST);
    value
        .map(|v| Zeroizing::new(v.to_owned()))
        .ok_or_else(|| lasting(format!("the secret has no text under {key:?}")))
}

fn url(address: &str, path: &str) -> Option<Url> {
    let (mount, rest) = path.split_once('/')?;
    let rest = rest.strip_prefix("data/").unwrap_or(rest);
    let url = Url::parse(&format!("{}/v1/{mount}/data/{rest}", address.trim_end_matches('/'))).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

async fn token(env: Env<'_>) -> Result<Zeroizing<String>, Failed> {
    if let Some(token) = env("VAULT_TOKEN") {
        return Ok(Zeroizing::new(token));
    }
    let file = env("VAULT_TOKEN_FILE").or_else(|| env("HOME").map(|home| format!("{home}/.vault-token")));
    let file = file.ok_or_else(|| lasting("neither VAULT_TOKEN nor VAULT_TOKEN_FILE is set"))?;
    let text = super::read(&file).await.map_err(|e| lasting(format!("token file {file}: {}", e.detail)))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_key_value_engines() {
        let shown = |address, path| url(address, path).map(|u| u.to_string());
        let expected = Some("https://vault.example/v1/secret/data/bmc/h1".to_owned());
        assert_eq!(shown("https://vault.example", "secret/bmc/h1"), expected);
        assert_eq!(shown("https://vault.example/", "secret/data/bmc/h1"), expected);
        assert_eq!(shown("vault.example", "secret/bmc/h1"), None);
        assert_eq!(shown("ftp://vault.example", "secret/bmc/h1"), None);
    }
}
