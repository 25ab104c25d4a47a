//! `halberd db restore`: a backup into an empty database of any kind; afterwards every engine waits for a person's look.

use std::path::PathBuf;
use std::time::Duration;

use halberd_store::backup::{self, Former, Restored};
use secrecy::ExposeSecret;

use super::Done;
use super::backup::{high_water, key_file, told};
use crate::args::Restore;
use crate::config::Config;

/// An engine renews its lease several times within this.
const WATCH: Duration = Duration::from_secs(4);

/// Restores a backup, or only verifies it.
pub async fn run(args: &Restore) -> Done {
    if let Some(file) = &args.check {
        let backup = backup::open(file).await?;
        return Ok(format!("{} is whole: {}", file.display(), told(&backup.manifest)));
    }
    let Some(from) = &args.from else { return Err("name the backup with --from FILE".into()) };
    let config = Config::load(args.config.as_deref())?;
    let url = config.database_url()?;
    // Its file and its digest before the database is so much as opened.
    let mut backup = backup::open(from).await?;
    let database = sqlite_file(url.expose_secret());
    let how = backup::Restore {
        former: match (args.replace, args.yes) {
            (true, true) => Former::Remove,
            (true, false) => Former::Name,
            (false, _) => Former::Keep,
        },
        engines_are_stopped: args.engines_are_stopped,
        watch: WATCH,
        secrets_key: key_file(&config, database.as_deref()),
        without_key: args.without_key,
        high_water: Some(high_water(&config, database.as_deref())),
        by: format!("restore by {}", std::env::var("USER").unwrap_or_else(|_| "an operator".to_owned())),
        why: format!("the database was restored from {}: {}", from.display(), told(&backup.manifest)),
        webhooks: config.webhooks.iter().map(|hook| hook.name.clone()).collect(),
    };
    let restored =
        backup::restore(url.expose_secret(), &mut backup, &how, halberd_engine::clock::stamp()).await?;
    Ok(said(&restored, args.without_key))
}

/// The file that an SQLite URL names; it need not exist yet.
fn sqlite_file(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    Some(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
}

fn said(restored: &Restored, without_key: bool) -> String {
    let mut lines = vec![format!("restored {}", told(&restored.manifest))];
    if !restored.removed.is_empty() {
        let rows: u64 = restored.removed.values().sum();
        lines.push(format!("{rows} rows that were there before are gone"));
    }
    lines.push(match &restored.secrets_key {
        Some(path) => format!("the secrets key lies in {}", path.display()),
        None if restored.manifest.with_key && !without_key => "the secrets key lay there already".to_owned(),
        None => {
            "NO SECRETS KEY WAS WRITTEN: put the key file of this database back before anything starts on it"
                .to_owned()
        }
    });
    if let Some(path) = &restored.high_water {
        lines.push(format!("the engine's high-water file lies in {}", path.display()));
    }
    lines.push(
        "every engine on this database now only looks (reconcile-only): the cloud has seen more than the backup knows\n\
         next: start engines and APIs (restart an API that ran on), see what they find with `halberd reconcile show`, \
         then let them work with `halberd reconcile leave`"
            .to_owned(),
    );
    lines.join("\n")
}
