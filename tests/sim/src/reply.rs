//! How the simulated services answer: after a while, and with an outcome or a refusal or not at all.

/// An answer of the simulated cloud. The deed itself is done when the call is made; the answer leaves `after_ms`
/// later, so a caller that dies or gives up in between has acted without knowing it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply<T, E = Refusal> {
    /// Milliseconds from the call to the answer.
    pub after_ms: u64,
    /// What is answered then.
    pub answer: Result<T, E>,
}

impl<T, E> Reply<T, E> {
    pub(crate) fn new(after_ms: u64, answer: Result<T, E>) -> Self {
        Self { after_ms, answer }
    }

    /// The same answer with its content mapped.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reply<U, E> {
        Reply { after_ms: self.after_ms, answer: self.answer.map(f) }
    }
}

/// Why an OpenStack call was not answered with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A complete HTTP answer with this status and Nova's own words.
    Status {
        /// HTTP status.
        code: u16,
        /// Text of the answer's `message`.
        message: String,
    },
    /// No answer will ever come; whether the call was executed, the caller cannot know.
    Silence,
}

impl Refusal {
    /// A complete HTTP answer.
    pub fn status(code: u16, message: impl Into<String>) -> Self {
        Self::Status { code, message: message.into() }
    }

    /// The HTTP status; `None` for silence.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::Silence => None,
        }
    }

    /// The text; empty for silence.
    pub fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } => message,
            Self::Silence => "",
        }
    }
}

/// Why a BMC did not do or tell what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BmcRefusal {
    /// No answer: dead, dark, hung or not there.
    Silence,
    /// User name or password refused.
    BadCredentials,
    /// The session was closed, revoked or has expired.
    SessionGone,
    /// Busy just now (Redfish 503, IPMI 0xC0); the order was not executed.
    Busy,
}
