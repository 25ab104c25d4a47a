//! A rule's text, and what it says: the part of oslo.policy's language that the original's files use.
//!
//! `not` binds closer than `and`, `and` closer than `or`; words are in any case. A parenthesis belongs to the expression where it
//! opens or closes a word and to a check where it stands inside one (`project_id:%(project_id)s`), as in oslo.policy. Where that
//! quietly takes a rule it cannot read for "nobody", we refuse to start: a rule that nobody can read is not what was meant.

use std::fmt;

use crate::access::Least;

/// What a rule asks of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// `@` and the empty text: whoever has a valid token.
    Always,
    /// `!`
    Never,
    /// `role:NAME`, in lower case: Keystone compares role names without case.
    Role(String),
    /// `rule:NAME`
    Rule(String),
    /// `is_admin:True`: what `context_is_admin` says.
    IsAdmin(bool),
    /// `project_id:ID`, `user_id:ID`, `system_scope:all` with a value that stands in the file.
    Is(Attribute, String),
    /// The same with `%(...)s`, a field of the thing asked for. Nothing here belongs to a project or a user, so nobody can
    /// tell: see [`super::Policy::verdict`].
    Owner,
    /// A default of ours, where no file speaks.
    Least(Least),
    Not(Box<Check>),
    All(Vec<Check>),
    Any(Vec<Check>),
}

/// What of a caller can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    ProjectId,
    UserId,
    SystemScope,
}

/// What can be written, for whoever wrote something else.
pub(crate) const UNDERSTOOD: &str = "role:NAME, rule:NAME, is_admin:True, project_id:ID, user_id:ID, system_scope:all, @, !, \
     and, or, not, parentheses, and \"\" for everybody with a valid token";

/// Parentheses and `not` within one another; a rule of a person's own hand has two or three.
const DEEPEST: usize = 16;

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    #[error("the check {0:?} is not known; understood are {UNDERSTOOD}")]
    Check(String),
    #[error("{found} where a check should stand; understood are {UNDERSTOOD}")]
    NoCheck { found: String },
    #[error("{found} where and, or or the end should stand")]
    NoEnd { found: String },
    #[error("a parenthesis is not closed")]
    Open,
    #[error("more than {DEEPEST} parentheses and nots within one another")]
    TooDeep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(String),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("\"(\""),
            Self::Close => f.write_str("\")\""),
            Self::And => f.write_str("\"and\""),
            Self::Or => f.write_str("\"or\""),
            Self::Not => f.write_str("\"not\""),
            Self::Check(text) => write!(f, "{text:?}"),
        }
    }
}

/// Reads a rule's text.
///
/// # Errors
/// [`Unread`]: what stands where, and what could.
pub(crate) fn parse(text: &str) -> Result<Check, Unread> {
    if text.is_empty() {
        return Ok(Check::Always);
    }
    let mut reader = Reader { tokens: tokens(text), at: 0, depth: 0 };
    let check = reader.any()?;
    match reader.next() {
        None => Ok(check),
        Some(token) => Err(Unread::NoEnd { found: token.to_string() }),
    }
}

/// One check, as it stands between the words of an expression.
pub(crate) fn check(text: &str) -> Result<Check, Unread> {
    let unknown = || Unread::Check(text.to_owned());
    match text {
        "@" => return Ok(Check::Always),
        "!" => return Ok(Check::Never),
        _ => {}
    }
    let (kind, value) = text.split_once(':').ok_or_else(unknown)?;
    let of_thing = value.contains("%(");
    let attribute = match kind {
        _ if value.is_empty() || text.contains(char::is_whitespace) => return Err(unknown()),
        "role" if !of_thing => return Ok(Check::Role(value.to_lowercase())),
        "rule" if !of_thing => return Ok(Check::Rule(value.to_owned())),
        "is_admin" if value.eq_ignore_ascii_case("true") => return Ok(Check::IsAdmin(true)),
        "is_admin" if value.eq_ignore_ascii_case("false") => return Ok(Check::IsAdmin(false)),
        "project_id" => Attribute::ProjectId,
        "user_id" => Attribute::UserId,
        "system_scope" => Attribute::SystemScope,
        _ => return Err(unknown()),
    };
    Ok(if of_thing { Check::Owner } else { Check::Is(attribute, value.to_owned()) })
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let inner = word.trim_start_matches('(');
        tokens.extend(std::iter::repeat_n(Token::Open, word.len() - inner.len()));
        let word = inner.trim_end_matches(')');
        if !word.is_empty() {
            tokens.push(match word.to_lowercase().as_str() {
                "and" => Token::And,
                "or" => Token::Or,
                "not" => Token::Not,
                _ => Token::Check(word.to_owned()),
            });
        }
        tokens.extend(std::iter::repeat_n(Token::Close, inner.len() - word.len()));
    }
    tokens
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn meets(&mut self, wanted: &Token) -> bool {
        let meets = self.tokens.get(self.at) == Some(wanted);
        self.at += usize::from(meets);
        meets
    }

    fn any(&mut self) -> Result<Check, Unread> {
        let mut checks = vec![self.all()?];
        while self.meets(&Token::Or) {
            checks.push(self.all()?);
        }
        Ok(only(checks).unwrap_or_else(Check::Any))
    }

    fn all(&mut self) -> Result<Check, Unread> {
        let mut checks = vec![self.one()?];
        while self.meets(&Token::And) {
            checks.push(self.one()?);
        }
        Ok(only(checks).unwrap_or_else(Check::All))
    }

    fn one(&mut self) -> Result<Check, Unread> {
        if self.depth == DEEPEST {
            return Err(Unread::TooDeep);
        }
        self.depth += 1;
        let read = match self.next() {
            Some(Token::Not) => self.one().map(|check| Check::Not(Box::new(check))),
            Some(Token::Open) => {
                let inner = self.any()?;
                match self.next() {
                    Some(Token::Close) => Ok(inner),
                    Some(token) => Err(Unread::NoEnd { found: token.to_string() }),
                    None => Err(Unread::Open),
                }
            }
            Some(Token::Check(text)) => check(&text),
            Some(token) => Err(Unread::NoCheck { found: token.to_string() }),
            None => Err(Unread::NoCheck { found: "the end".to_owned() }),
        };
        self.depth -= 1;
        read
    }
}

/// A single check needs nothing around it; more come back.
pub(crate) fn only(mut checks: Vec<Check>) -> Result<Check, Vec<Check>> {
    match checks.pop() {
        Some(check) if checks.is_empty() => Ok(check),
        Some(check) => {
            checks.push(check);
            Err(checks)
        }
        None => Err(checks),
    }
}
