//! os-aggregates: where a reserved host joins the ranks of a dead one.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Microversion, Nova, lenient, no_empty};
use crate::Error;

/// A host aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Aggregate {
    /// Nova's number.
    pub id: i64,
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// The zone it makes, if any.
    #[serde(default, deserialize_with = "no_empty")]
    pub availability_zone: Option<String>,
    /// Its hosts.
    #[serde(default, deserialize_with = "lenient")]
    pub hosts: Vec<String>,
    /// Its keys.
    #[serde(default, deserialize_with = "lenient")]
    pub metadata: BTreeMap<String, String>,
}

impl Aggregate {
    fn has(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own == host)
    }
}

#[derive(Deserialize)]
struct Listed {
    aggregates: Vec<Aggregate>,
}

#[derive(Deserialize)]
struct Shown {
    aggregate: Aggregate,
}

impl Nova {
    /// All aggregates. Nova does not page this list.
    pub async fn aggregates(&self) -> Result<Vec<Aggregate>, Error> {
        Ok(self.get(Microversion::PLAIN, &["os-aggregates"], &[]).await?.json::<Listed>()?.aggregates)
    }

    /// Puts a host into an aggregate; being in it already is success. A 409 has several causes (the host's zone, for
    /// one), so the aggregate is read again rather than the message.
    ///
    /// Errors: [`Error::NotFound`] for an unknown aggregate or host, [`Error::Conflict`] for the other causes.
    pub async fn add_host(&self, aggregate: i64, host: &str) -> Result<(), Error> {
        match self.change(aggregate, json!({ "add_host": { "host": host } })).await {
            Err(Error::Conflict(answer))
                if self.aggregate(aggregate).await.is_ok_and(|now| now.has(host)) =>
            {
                tracing::debug!(aggregate, host, %answer, "already in the aggregate");
                Ok(())
            }
            other => other,
        }
    }

    /// Takes a host out of an aggregate; being absent already is success.
    ///
    /// Errors: [`Error::NotFound`] for an unknown aggregate.
    pub async fn remove_host(&self, aggregate: i64, host: &str) -> Result<(), Error> {
        match self.change(aggregate, json!({ "remove_host": { "host": host } })).await {
            Err(Error::NotFound(answer))
                if self.aggregate(aggregate).await.is_ok_and(|now| !now.has(host)) =>
            {
                tracing::debug!(aggregate, host, %answer, "not in the aggregate");
                Ok(())
            }
            other => other,
        }
    }

    async fn aggregate(&self, id: i64) -> Result<Aggregate, Error> {
        let id = id.to_string();
        Ok(self.get(Microversion::PLAIN, &["os-aggregates", &id], &[]).await?.json::<Shown>()?.aggregate)
    }

    async fn change(&self, id: i64, body: Value) -> Result<(), Error> {
        let id = id.to_string();
        let path = ["os-aggregates", id.as_str(), "action"];
        self.call(Method::POST, Microversion::PLAIN, &path, &[], Some(body)).await?;
        Ok(())
    }
}
