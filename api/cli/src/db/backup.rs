//! `halberd db backup`: everything the database holds in one file, beside whatever runs on it.

use std::path::{Path, PathBuf};

use halberd_store::Db;
use halberd_store::backup::{self, Files, Manifest};

use super::{Done, open};
use crate::args::{Backup, DbArgs};
use crate::config::Config;
use crate::serve::{beside, high_water_file, host_name};

/// Takes a backup.
pub async fn run(args: &Backup) -> Done {
    let config = Config::load(args.config.as_deref())?;
    let db = open(&DbArgs { config: args.config.clone() }).await?;
    let done = take(&config, &db, args).await;
    db.close().await;
    done
}

async fn take(config: &Config, db: &Db, args: &Backup) -> Done {
    let key = key_file(config, db.path());
    let secrets_key = key.clone().filter(|path| !args.without_key && path.exists());
    let files = Files { secrets_key: secrets_key.clone(), high_water: Some(high_water(config, db.path())) };
    let now = halberd_engine::clock::stamp();
    let manifest = backup::write(db, &args.to, &files, args.force, now).await?;
    let mut said = vec![format!("{} is a backup of {}", args.to.display(), told(&manifest))];
    said.push(match (&secrets_key, key) {
        (Some(_), _) => "IT CONTAINS THE SECRETS KEY: whoever reads this file can open every password in it. Keep it as you keep the \
                         passwords of your BMCs, or take it with --without-key and keep the key apart"
            .to_owned(),
        (None, Some(path)) if args.without_key => format!(
            "the secrets key is not in it: without {} its passwords cannot be opened, so keep a copy of that file apart",
            path.display()
        ),
        (None, _) => "there is no secrets key file, so none is in it".to_owned(),
    });
    Ok(said.join("\n"))
}

/// Where the key lies that this configuration uses.
pub(super) fn key_file(config: &Config, database: Option<&Path>) -> Option<PathBuf> {
    config.engine.secrets_key_file.clone().or_else(|| database.map(beside))
}

/// Where this machine's engine remembers how far the database was.
pub(super) fn high_water(config: &Config, database: Option<&Path>) -> PathBuf {
    let name = config.engine.name.clone().unwrap_or_else(host_name);
    config.engine.high_water_file.clone().unwrap_or_else(|| high_water_file(database, &name))
}

/// What a backup is of, in words.
pub(super) fn told(manifest: &Manifest) -> String {
    let header = &manifest.header;
    let at = chrono::DateTime::from_timestamp_micros(header.taken_at.0).map(|at| at.to_rfc3339());
    let rows: u64 = manifest.rows.values().sum();
    format!(
        "{rows} rows in {} tables of a {} database (identity {}), taken {} by halberd {}; schema step {}, workflow version {}; {}, {}",
        manifest.rows.len(),
        header.database,
        header.identity.map_or("none yet".to_owned(), |id| id.to_string()),
        at.unwrap_or_else(|| "at an unknown time".to_owned()),
        header.halberd,
        header.schema,
        header.workflow,
        if manifest.with_key { "WITH the secrets key" } else { "without the secrets key" },
        if manifest.with_high_water {
            "with the engine's high-water file"
        } else {
            "without a high-water file"
        },
    )
}
