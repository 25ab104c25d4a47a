//! The figures of a database: `tests/run figures [WORD...]` prints them for SQLite, PostgreSQL, MariaDB and Galera, each durable as a
//! production's. Words choose: `sqlite postgres mariadb galera`, `commits flood storm`.
//!
//! The service is `halberd` as a process of its own; what is judged here is judged by what the simulated cloud and a recorder before its Nova
//! saw, and by what clients were answered. Ratios and orders are asserted; seconds are printed, for a reader who knows what else the machine
//! did.

#![expect(clippy::unwrap_used, reason = "in a benchmark a panic is the report")]

mod commits;
mod flood;
#[path = "../kit/mod.rs"]
mod kit;
mod recorder;
mod storm;

use std::path::Path;

use halberd_store::testing::{Kind, Server, galera_with};

use kit::{binary, load, machine};

/// As the product demands of a server that is to keep what it acknowledged.
const POSTGRES: [&str; 2] = ["fsync=on", "shared_buffers=128MB"];
const MARIADB: [&str; 4] = [
    "innodb-flush-method=O_DIRECT",
    "innodb-flush-log-at-trx-commit=1",
    "sync-frm=1",
    "innodb-buffer-pool-size=128M",
];
const DATABASES: [&str; 4] = ["sqlite", "postgres", "mariadb", "galera"];
const FIGURES: [&str; 3] = ["commits", "flood", "storm"];

/// The servers of one kind of database; they end with it.
struct Servers(Vec<Server>);

impl Servers {
    /// `None`: it is not installed.
    fn start(name: &str) -> Option<Servers> {
        Some(Servers(match name {
            "postgres" => vec![Server::new(Kind::Postgres, &POSTGRES)?],
            "mariadb" => vec![Server::new(Kind::Mariadb, &MARIADB)?],
            "galera" => galera_with(3, &MARIADB)?,
            _ => Vec::new(),
        }))
    }

    /// An empty database; SQLite's is a file in this folder.
    async fn database(&self, folder: &Path) -> String {
        match self.0.first() {
            Some(server) => server.create().await,
            None => format!("sqlite:{}", folder.join("halberd.db").display()),
        }
    }
}

#[tokio::main]
async fn main() {
    // What cargo itself says (`--bench`) is no word of ours.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for word in &words {
        let known = DATABASES.contains(&word.as_str()) || FIGURES.contains(&word.as_str());
        assert!(known, "{word}: there are {DATABASES:?} and {FIGURES:?}");
    }
    let chosen = |all: &[&'static str]| -> Vec<&'static str> {
        let named: Vec<&str> =
            all.iter().copied().filter(|one| words.iter().any(|word| word == one)).collect();
        if named.is_empty() { all.to_vec() } else { named }
    };
    let binary = binary();
    println!("{}; load {}; {}", machine(), load(), binary.display());
    for name in chosen(&DATABASES) {
        let Some(servers) = Servers::start(name) else {
            println!("\n{name}: skipped");
            continue;
        };
        println!("\n{name} (load {})", load());
        for figure in chosen(&FIGURES) {
            let folder = tempfile::TempDir::new().unwrap();
            let database = servers.database(folder.path()).await;
            match figure {
                "commits" => commits::show(&binary, &database),
                "flood" => flood::show(&binary, &database).await,
                _ => storm::show(&binary, &database).await,
            }
        }
    }
    println!("\nload {}", load());
}

/// Makes the schema where a service does not do so by itself.
async fn migrated(database: &str) {
    if !database.starts_with("sqlite:") {
        halberd_store::migrate::migrate(database).await.unwrap();
    }
}

/// The value at this share of sorted ones.
fn at(sorted: &[f64], share: f64) -> f64 {
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
