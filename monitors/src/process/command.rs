//! Commands as users wrote them: words without a shell, quotes respected, killed with the agent.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Unbalanced quotes or nothing at all.
    #[error("`{0}` is no command: is a quote left open?")]
    Words(String),
    /// Program missing or not executable.
    #[error("cannot run `{0}`")]
    Start(String, #[source] std::io::Error),
    /// Status other than 0.
    #[error("`{0}` ended with {1}")]
    Status(String, std::process::ExitStatus),
    /// Longer than allowed; killed.
    #[error("`{0}` did not end within {1:?}")]
    Timeout(String, Duration),
}

/// Splits at spaces outside quotes; a backslash outside single quotes takes the next character as it is.
pub fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (vec![], None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Runs a command line; empty is done. With `root`, through `sudo -n` unless this is root. Errors: [`CommandError`].
pub async fn run_line(line: &str, root: bool, limit: Duration) -> Result<(), CommandError> {
    if line.is_empty() {
        return Ok(());
    }
    let mut argv =
        words(line).filter(|w| !w.is_empty()).ok_or_else(|| CommandError::Words(line.to_owned()))?;
    if root && !rustix::process::geteuid().is_root() {
        argv.splice(0..0, ["sudo".to_owned(), "-n".to_owned()]);
    }
    run(&argv, limit).await
}

/// Runs a program. Only its status counts: many that succeed write to stderr.
pub async fn run(argv: &[String], limit: Duration) -> Result<(), CommandError> {
    let shown = || argv.join(" ");
    let Some((program, arguments)) = argv.split_first() else {
        return Err(CommandError::Words(String::new()));
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // To the agent's own log. A pipe would fill, or break under a daemon that the command leaves behind.
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|e| CommandError::Start(shown(), e))?;
    let status = timeout(limit, child.wait()).await.map_err(|_| CommandError::Timeout(shown(), limit))?;
    let status = status.map_err(|e| CommandError::Start(shown(), e))?;
    if status.success() { Ok(()) } else { Err(CommandError::Status(shown(), status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_shell_splits_them_without_being_one() {
        let split = |line| words(line).unwrap();
        assert_eq!(split("systemctl  restart nova-compute"), ["systemctl", "restart", "nova-compute"]);
        assert_eq!(split(r#"sh -c 'a "b" \' "" x\ y"#), ["sh", "-c", "a \"b\" \\", "", "x y"]);
        assert_eq!(split("echo $HOME;ls *"), ["echo", "$HOME;ls", "*"]);
        assert_eq!(words("a 'b"), None);
        assert_eq!(words("a \\"), None);
    }

    #[tokio::test]
    async fn only_the_status_counts() {
        let limit = Duration::from_secs(60);
        run_line("", true, limit).await.unwrap();
        run_line("sh -c 'echo noise >&2'", false, limit).await.unwrap();
        assert!(matches!(run_line("false", false, limit).await, Err(CommandError::Status(..))));
        let missing = run_line("/no/such", false, limit).await.unwrap_err();
        assert_eq!(missing.to_string(), "cannot run `/no/such`");
        let slow = run_line("sleep 86398", false, Duration::from_millis(20)).await;
        assert!(matches!(slow, Err(CommandError::Timeout(..))));
    }

    #[tokio::test]
    async fn a_daemon_left_behind_holds_nobody() {
        run_line("sh -c 'sleep 3 & true'", false, Duration::from_secs(60)).await.unwrap();
    }
}
