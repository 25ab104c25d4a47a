//! MySQL and MariaDB, Galera included: a row is written and read back, and a Galera node must be part of the primary component.
//!
//! The canary's table is made once, when it is missing: in Galera a CREATE stops the whole cluster for its moment.

use secrecy::ExposeSecret;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::{ConnectOptions, Connection};

use super::{Failed, Login, Probed, chain, io_failed, nonce, resolve};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS halberd_canary (prober VARCHAR(190) PRIMARY KEY, nonce CHAR(36) NOT NULL) ENGINE=InnoDB";
const WRITE: &str =
    "INSERT INTO halberd_canary (prober, nonce) VALUES (?, ?) ON DUPLICATE KEY UPDATE nonce = VALUES(nonce)";
const READ: &str = "SELECT nonce FROM halberd_canary WHERE prober = ?";
const WSREP: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_status', 'wsrep_ready', 'wsrep_local_state_comment')";

/// ER_NO_SUCH_TABLE.
const NO_TABLE: u16 = 1146;
/// ER_UNKNOWN_COM_ERROR: what a Galera node outside the primary component answers to everything but SHOW and SET.
const NOT_PREPARED: u16 = 1047;
/// Our user or its rights: access denied for database, user, command, column; privilege missing; unknown database; unknown
/// authentication plugin; secure transport demanded.
const OURS: &[u16] = &[1044, 1045, 1049, 1142, 1143, 1227, 1251, 1698, 3159, 4151];

#[derive(Debug)]
pub(super) struct Mysql {
    pub login: Login,
    pub address: (String, u16),
}

impl Mysql {
    pub async fn run(&self) -> Probed {
        let mut connection = self.connect().await?;
        let written = self.canary(&mut connection).await;
        // Asked even when the canary failed: a node outside the primary component still tells its state.
        match wsrep(&mut connection).await {
            Some(state) if matches!(written, Ok(()) | Err(sqlx::Error::Database(_))) => {
                return Err(Failed::Down(state));
            }
            _ => {}
        }
        written.map_err(|error| failed(&error))?;
        // A farewell, so that the server counts no aborted client; its failure is nobody's outage.
        let _ = connection.close().await;
        Ok(())
    }

    async fn connect(&self) -> Result<MySqlConnection, Failed> {
        let config = &self.login.config;
        let address = resolve(&self.address).await?;
        let password = config.password().map_err(Failed::CannotTell)?;
        let host = if config.tls { self.address.0.clone() } else { address.ip().to_string() };
        let mut options = MySqlConnectOptions::new()
            .host(&host)
            .port(address.port())
            .username(config.username.as_deref().unwrap_or_default())
            .password(password.expose_secret())
            .database(&config.schema)
            .ssl_mode(if config.tls { MySqlSslMode::VerifyIdentity } else { MySqlSslMode::Disabled })
            .disable_statement_logging();
        if let Some(cacert) = &config.cacert {
            options = options.ssl_ca(cacert);
        }
        options.connect().await.map_err(|error| failed(&error))
    }

    async fn canary(&self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        let value = nonce();
        let write = || sqlx::query(WRITE).bind(&self.login.prober).bind(value.clone());
        if let Err(error) = write().execute(&mut *connection).await {
            if number(&error) != Some(NO_TABLE) {
                return Err(error);
            }
            sqlx::query(CREATE).execute(&mut *connection).await?;
            write().execute(&mut *connection).await?;
        }
        let back: String =
            sqlx::query_scalar(READ).bind(&self.login.prober).fetch_one(&mut *connection).await?;
        if back == value {
            Ok(())
        } else {
            Err(sqlx::Error::Protocol("another value than was written is read back".into()))
        }
    }
}

/// What is wrong with this Galera node; `None`: nothing, or it is no Galera node.
async fn wsrep(connection: &mut MySqlConnection) -> Option<String> {
    let on: Option<(String, String)> = sqlx::query_as("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
        .fetch_optional(&mut *connection)
        .await
        .ok()?;
    if !on.is_some_and(|(_, value)| value.eq_ignore_ascii_case("ON")) {
        return None;
    }
    let rows: Vec<(String, String)> = sqlx::query_as(WSREP).fetch_all(connection).await.ok()?;
    let value = |name: &str| {
        rows.iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map_or("not told", |(_, value)| value.as_str())
    };
    let (status, ready) = (value("wsrep_cluster_status"), value("wsrep_ready"));
    let well = status.eq_ignore_ascii_case("Primary") && ready.eq_ignore_ascii_case("ON");
    (!well).then(|| {
        format!(
            "Galera: cluster status {status}, ready {ready}, state {}",
            value("wsrep_local_state_comment")
        )
    })
}

fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

fn failed(error: &sqlx::Error) -> Failed {
    match (error, number(error)) {
        (_, Some(NOT_PREPARED)) => Failed::Down(format!("not part of a primary component: {error}")),
        (_, Some(number)) if OURS.contains(&number) => Failed::CannotTell(format!(
            "{error}; give the section's user all rights on its schema, and that alone"
        )),
        (sqlx::Error::Io(error), _) => io_failed(error),
        (sqlx::Error::Configuration(_) | sqlx::Error::Tls(_), _) => Failed::CannotTell(chain(error)),
        _ => Failed::Down(chain(error)),
    }
}
