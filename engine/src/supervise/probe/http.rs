//! Any HTTP service: one GET, without following redirects.

use reqwest::Url;

use super::{Failed, Probed, chain, resolve};
use crate::supervise::config::ServiceConfig;

#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    url: Url,
    expect: Vec<u16>,
}

impl Http {
    pub fn new(config: &ServiceConfig, target: &str) -> Result<Http, String> {
        // The provider is the process' choice; an earlier one by main stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .timeout(config.timeout())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // A kept connection would go on working while new ones are refused.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("halberd/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &config.cacert {
            let pem = std::fs::read(path).map_err(|error| format!("cacert {}: {error}", path.display()))?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| format!("cacert {}: {error}", path.display()))?;
            builder = bundle.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        let url = Url::parse(target).map_err(|error| format!("target '{target}': {error}"))?;
        Ok(Http { client, url, expect: config.expect_status.clone() })
    }

    pub async fn run(&self) -> Probed {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        resolve(&(host, self.url.port_or_known_default().unwrap_or(80))).await?;
        let response = self
            .client
            .get(self.url.clone())
            .send()
            .await
            .map_err(|error| Failed::Down(chain(&error.without_url())))?;
        let status = response.status().as_u16();
        let well =
            if self.expect.is_empty() { (200..400).contains(&status) } else { self.expect.contains(&status) };
        match status {
            _ if well => Ok(()),
            500.. => Err(Failed::Down(format!("answers {status}"))),
            _ => {
                Err(Failed::CannotTell(format!("answers {status}; set the target's path, or expect_status")))
            }
        }
    }
}
