//! os-migrations: where guests may be on their way to.

use serde::{Deserialize, Serialize};

use super::{Link, Microversion, Nova, Page, has_next, lenient, no_empty};
use crate::Error;

/// One migration, an evacuation being one kind.
///
/// Status of an evacuation: `accepted`, `pre-migrating` (claimed on the destination), `done`, `completed` (the source
/// has restarted); `error` (no host), `failed` (the destination failed). Records vanish when their server is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Migration {
    /// Nova's number.
    #[serde(default, deserialize_with = "lenient")]
    pub id: i64,
    /// Its uuid, from 2.59.
    #[serde(default, deserialize_with = "lenient")]
    pub uuid: String,
    /// The server.
    #[serde(default, deserialize_with = "lenient")]
    pub instance_uuid: String,
    /// `evacuation`, `live-migration`, `migration`, `resize`.
    #[serde(default, deserialize_with = "lenient")]
    pub migration_type: String,
    /// See above.
    #[serde(default, deserialize_with = "lenient")]
    pub status: String,
    /// From where.
    #[serde(default, deserialize_with = "no_empty")]
    pub source_compute: Option<String>,
    /// To where; none until the scheduler has chosen.
    #[serde(default, deserialize_with = "no_empty")]
    pub dest_compute: Option<String>,
    /// UTC, without a zone.
    #[serde(default)]
    pub created_at: Option<String>,
    /// UTC, without a zone; none at first.
    #[serde(default)]
    pub updated_at: Option<String>,
}

/// Which migrations; all given conditions hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationFilter {
    /// This host as source or destination.
    pub host: Option<String>,
    /// This host as source.
    pub source_compute: Option<String>,
    /// E.g. `evacuation`.
    pub migration_type: Option<String>,
    /// E.g. `accepted`. One only: Nova knows no list here.
    pub status: Option<String>,
    /// This server.
    pub instance_uuid: Option<String>,
}

impl MigrationFilter {
    /// All that come from or go to a host.
    #[must_use]
    pub fn of_host(host: &str) -> MigrationFilter {
        MigrationFilter { host: Some(host.to_owned()), ..MigrationFilter::default() }
    }

    /// All of a server.
    #[must_use]
    pub fn of_server(id: &str) -> MigrationFilter {
        MigrationFilter { instance_uuid: Some(id.to_owned()), ..MigrationFilter::default() }
    }

    /// Evacuations away from a host.
    #[must_use]
    pub fn evacuations_from(host: &str) -> MigrationFilter {
        MigrationFilter {
            source_compute: Some(host.to_owned()),
            migration_type: Some("evacuation".into()),
            ..MigrationFilter::default()
        }
    }

    /// Evacuations in a status, over all hosts.
    #[must_use]
    pub fn evacuations_in(status: &str) -> MigrationFilter {
        MigrationFilter {
            migration_type: Some("evacuation".into()),
            status: Some(status.to_owned()),
            ..MigrationFilter::default()
        }
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("host", &self.host),
            ("source_compute", &self.source_compute),
            ("migration_type", &self.migration_type),
            ("status", &self.status),
            ("instance_uuid", &self.instance_uuid),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

#[derive(Deserialize)]
struct Listed {
    migrations: Vec<Migration>,
    #[serde(default)]
    migrations_links: Vec<Link>,
}

impl Page for Listed {
    type Row = Migration;

    fn split(self) -> (Vec<Migration>, bool) {
        let more = has_next(&self.migrations_links);
        (self.migrations, more)
    }

    fn marker(row: &Migration) -> &str {
        &row.uuid
    }
}

impl Nova {
    /// The migrations that fit, all pages, newest first.
    pub async fn migrations(&self, filter: &MigrationFilter) -> Result<Vec<Migration>, Error> {
        if self.offered().await?.max < Microversion(2, 59) {
            // No paging before 2.59, and `limit` is an unknown filter: all in one answer.
            let reply = self.get(Microversion::MIGRATIONS, &["os-migrations"], &filter.query()).await?;
            return Ok(reply.json::<Listed>()?.migrations);
        }
        self.pages::<Listed>(Microversion::MIGRATIONS, &["os-migrations"], filter.query()).await
    }
}
