//! PostgreSQL: a row is written and read back, unless it is a standby, which takes no writes.

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::{Failed, Login, Probed, chain, io_failed, nonce, resolve};

const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS halberd_canary (prober VARCHAR(190) PRIMARY KEY, nonce CHAR(36) NOT NULL)";
const WRITE: &str = "INSERT INTO halberd_canary (prober, nonce) VALUES ($1, $2) ON CONFLICT (prober) DO UPDATE SET nonce = excluded.nonce";
const READ: &str = "SELECT nonce FROM halberd_canary WHERE prober = $1";

/// undefined_table.
const NO_TABLE: &str = "42P01";
/// invalid_authorization_specification, invalid_catalog_name, insufficient_privilege, invalid_schema_name: our user, its rights
/// or its database (PostgreSQL manual, appendix A).
const OURS: &[&str] = &["28", "3D", "42501", "3F"];

#[derive(Debug)]
pub(super) struct Postgres {
    pub login: Login,
    pub address: (String, u16),
}

impl Postgres {
    pub async fn run(&self) -> Probed {
        let mut connection = self.connect().await?;
        let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| failed(&error))?;
        match (standby, self.login.config.standby_ok) {
            (true, false) => return Err(Failed::Down("is a standby and takes no writes".into())),
            (true, true) => {}
            (false, _) => self.canary(&mut connection).await.map_err(|error| failed(&error))?,
        }
        let _ = connection.close().await;
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, Failed> {
        let config = &self.login.config;
        let address = resolve(&self.address).await?;
        let password = config.password().map_err(Failed::CannotTell)?;
        let host = if config.tls { self.address.0.clone() } else { address.ip().to_string() };
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&host)
            .port(address.port())
            .username(config.username.as_deref().unwrap_or_default())
            .password(password.expose_secret())
            .database(&config.schema)
            .application_name("halberd-canary")
            .ssl_mode(if config.tls { PgSslMode::VerifyFull } else { PgSslMode::Disable })
            .disable_statement_logging();
        if let Some(cacert) = &config.cacert {
            options = options.ssl_root_cert(cacert);
        }
        options.connect().await.map_err(|error| failed(&error))
    }

    async fn canary(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let value = nonce();
        let write = || sqlx::query(WRITE).bind(&self.login.prober).bind(value.clone());
        if let Err(error) = write().execute(&mut *connection).await {
            if code(&error).as_deref() != Some(NO_TABLE) {
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

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

fn failed(error: &sqlx::Error) -> Failed {
    match (error, code(error)) {
        (_, Some(code)) if OURS.iter().any(|ours| code.starts_with(ours)) => {
            Failed::CannotTell(format!("{error}; give the section's user a database of its own"))
        }
        (sqlx::Error::Io(error), _) => io_failed(error),
        (sqlx::Error::Configuration(_) | sqlx::Error::Tls(_), _) => Failed::CannotTell(chain(error)),
        _ => Failed::Down(chain(error)),
    }
}
