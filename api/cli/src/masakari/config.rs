//! `halberd config from-masakari FILE...`: masakari.conf, and masakari-custom-recovery-methods.conf, as our TOML.
//!
//! The TOML goes to the standard output and holds no secret: those go into files of their own (`--secrets-dir`), or are named with the
//! place they are expected at. What means nothing here and what is not known stands at its end, so that nothing is lost without a word.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;

use super::ini::{Ini, IniError};
use super::out::Out;
use super::translate::translate;
use crate::config::Config;

/// What `config from-masakari` takes.
#[derive(Clone, Debug, Args)]
pub struct FromMasakari {
    /// masakari.conf, then masakari-custom-recovery-methods.conf if there is one; a later file overrides
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The policy.yaml that the API is to use
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Directory for files with the secrets (made with mode 0700, the files with 0600)
    ///
    /// Without it no secret is copied: the TOML names the files that are expected, and you write them.
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum FromMasakariError {
    #[error(transparent)]
    Ini(#[from] IniError),
    #[error("--policy {}: {what}", path.display())]
    Policy { path: PathBuf, what: String },
    #[error("--secrets-dir {}: {source}", path.display())]
    SecretsDir { path: PathBuf, source: std::io::Error },
    #[error("{} exists with other content; move it away, or name another --secrets-dir", .0.display())]
    SecretExists(PathBuf),
    #[error("{} cannot be written: {source}", path.display())]
    Secret { path: PathBuf, source: std::io::Error },
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The configuration.
    pub toml: String,
    /// What is said beside it, for a person.
    pub said: Vec<String>,
}

/// Translates, and writes the files with secrets when a directory for them is given.
///
/// # Errors
/// [`FromMasakariError`].
pub fn from_masakari(args: &FromMasakari) -> Result<Made, FromMasakariError> {
    let ini = Ini::read(&args.files)?;
    if let Some(path) = &args.policy {
        let refuse = |what: String| Err(FromMasakariError::Policy { path: path.clone(), what });
        match std::fs::metadata(path) {
            Err(error) => return refuse(error.to_string()),
            Ok(found) if found.is_dir() => return refuse("it is a directory; name the file in it".into()),
            Ok(_) => {}
        }
    }
    let folder = args.secrets_dir.as_deref().map(whole).transpose()?;
    let mut out = Out::new(folder.clone());
    translate(&ini, args.policy.as_deref(), &mut out);
    let sources: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    let mut said = Vec::new();
    // What is wrong with it is known here already, and belongs into it.
    if let Err(error) = Config::parse(&out.text(&sources), "the configuration", std::iter::empty(), false) {
        out.look.insert(0, error.to_string());
    }
    if let Some(folder) = &folder {
        for (name, value) in &out.secrets {
            let path = folder.join(name);
            write_secret(folder, &path, value)?;
            said.push(format!("wrote {} (mode 0600)", path.display()));
        }
    }
    said.extend(out.look.iter().map(|line| format!("look: {line}")));
    said.push(format!(
        "{} options mean nothing here and {} are not known; both lists stand at the end of the configuration",
        out.gone.len(),
        out.unknown.len()
    ));
    Ok(Made { toml: out.text(&sources), said })
}

/// The configuration may be read from another directory.
fn whole(path: &Path) -> Result<PathBuf, FromMasakariError> {
    std::path::absolute(path)
        .map_err(|source| FromMasakariError::SecretsDir { path: path.to_owned(), source })
}

fn write_secret(folder: &Path, path: &Path, value: &str) -> Result<(), FromMasakariError> {
    if !folder.exists() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| FromMasakariError::SecretsDir { path: folder.to_owned(), source })?;
    }
    let failed = |source| FromMasakariError::Secret { path: path.to_owned(), source };
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(mut file) => file.write_all(format!("{value}\n").as_bytes()).map_err(failed),
        // A second run with the same files is no conflict.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            match std::fs::read_to_string(path) {
                Ok(there) if there.trim_end_matches('\n') == value => Ok(()),
                Ok(_) => Err(FromMasakariError::SecretExists(path.to_owned())),
                Err(source) => Err(failed(source)),
            }
        }
        Err(source) => Err(failed(source)),
    }
}

/// The verb: the TOML on the standard output, everything else on standard error.
pub fn run(args: &FromMasakari) -> std::process::ExitCode {
    match from_masakari(args) {
        Ok(made) => {
            for line in &made.said {
                eprintln!("halberd: {line}");
            }
            match std::io::stdout().write_all(made.toml.as_bytes()) {
                Ok(()) => std::process::ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("halberd: the configuration could not be written: {error}");
                    std::process::ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            eprintln!("halberd: {}", crate::chain(&error));
            std::process::ExitCode::FAILURE
        }
    }
}
