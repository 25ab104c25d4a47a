//! Why a verb failed, for a person at a shell: what went wrong, with which thing, what to do. And the exit code, for a script.

use std::fmt;

use halberd_openstack::Error;

/// Refused by the service, failed there, or came to no good end.
pub const REFUSED: u8 = 1;
/// The command line, a file it names or a setting is wrong; clap ends with the same code.
pub const USAGE: u8 = 2;
/// Nobody answered, or answered that it cannot serve now: the same command may succeed later.
pub const UNREACHABLE: u8 = 3;

/// A verb's end when it did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    /// What went wrong, with which thing.
    pub text: String,
    /// What to do, if that is not in the text already.
    pub remedy: Option<String>,
}

impl Failure {
    pub fn refused(text: impl Into<String>) -> Failure {
        Failure { code: REFUSED, text: text.into(), remedy: None }
    }

    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { code: USAGE, text: text.into(), remedy: None }
    }

    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = Some(remedy.into());
        self
    }

    /// The reader of our output went away (`| head`): no fault of anybody's.
    fn closed() -> Failure {
        Failure { code: 0, text: String::new(), remedy: None }
    }

    /// What a call to the API ended with; `place` is the address it was sent to.
    pub fn of_call(error: &Error, place: &str) -> Failure {
        match error {
            Error::Refused(answer) => Failure::refused(said(&answer.message, answer.request_id.as_deref())),
            Error::NotFound(answer) => {
                Failure::refused(said(&answer.message, answer.request_id.as_deref())).with_remedy(format!(
                    "the service at {place} does not have it (any more), or does not offer this request"
                ))
            }
            Error::Conflict(answer) => Failure::refused(said(&answer.message, answer.request_id.as_deref())),
            Error::Forbidden(answer) => {
                Failure::refused(said(&answer.message, answer.request_id.as_deref())).with_remedy(
                    "use a login with the role this needs: reader to look, manager for segments, hosts and reports, \
                     admin to fence, confirm and set devices (outside of system scope: in an [api] operator_projects)",
                )
            }
            Error::Unavailable { reason, status: Some(_), retry_after, .. } => {
                let when =
                    retry_after.map_or("in a moment".to_owned(), |after| format!("in {} s", after.as_secs()));
                unreachable(format!("{place} cannot serve this now: {reason}"), format!("if that passes by itself: try again {when}"))
            }
            Error::Unavailable { call, reason, .. } => unreachable(
                format!("no connection for {call}: {}", cause(reason)),
                format!(
                    "see that `halberd serve` runs at {place}, or name another address with --url or HALBERD_URL, \
                     or a cloud with --cloud or OS_CLOUD"
                ),
            ),
            Error::OutcomeUnknown { call, reason, status: None, .. } if !call.contains(" GET ") => unreachable(
                format!("the answer to {call} was lost: {reason}"),
                "it may have been done all the same: look before you repeat it".to_owned(),
            ),
            Error::OutcomeUnknown { call, reason, status: None, .. } => {
                unreachable(format!("no answer to {call}: {reason}"), "try again".to_owned())
            }
            Error::OutcomeUnknown { reason, request_id, .. } => {
                Failure::refused(said(&format!("the service failed: {reason}"), request_id.as_deref()))
                    .with_remedy("look before you repeat it; the service's log has the cause under this request id")
            }
            Error::Malformed { call, reason, .. } => {
                Failure::refused(format!("the answer to {call} is not understood: {reason}"))
                    .with_remedy(format!("is {place} an instance-ha API?"))
            }
            Error::Auth { reason, remedy } => {
                Failure::refused(format!("the login failed: {reason}")).with_remedy(remedy.clone())
            }
            Error::Config(text) => Failure::usage(text.clone()),
        }
    }
}

fn unreachable(text: String, remedy: String) -> Failure {
    Failure { code: UNREACHABLE, text, remedy: Some(remedy) }
}

/// The HTTP client's layers say "error sending request: client error (Connect): " before the cause.
fn cause(reason: &str) -> &str {
    reason.rsplit_once("(Connect): ").map_or(reason, |(_, cause)| cause)
}

fn said(message: &str, request: Option<&str>) -> String {
    let message = if message.is_empty() { "the service refused and gave no reason" } else { message };
    match request {
        Some(id) => format!("{} (request {id})", message.trim_end()),
        None => message.trim_end().to_owned(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::output::clean(&self.text))?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  {}", super::output::clean(remedy)),
            None => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::closed();
        }
        Failure::refused(format!("the output cannot be written: {error}"))
    }
}
