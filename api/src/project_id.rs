//! `[api] project_id_regex`: which first part of a path is a project's id, as in the original's option of that name.
//!
//! What deployments write there is a class of characters and how often it stands (`[0-9a-f\-]+`, `[0-9a-f]{32}`, `[^/]+`), so that is what is
//! understood: classes, `.`, `\d`, `\w`, plain characters, each with `+ * ? {n} {n,} {n,m}`. Anything else is refused at the start. Matching
//! takes time in proportion to the id's length, whatever the pattern.

use std::str::Chars;

/// The whole of an id must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectIds(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Ranges of characters, or all but these.
    ranges: Vec<(char, char)>,
    negated: bool,
    least: usize,
    most: usize,
}

/// Longer ids are none: Keystone's have 32 characters, its column 64.
const LONGEST: usize = 255;

impl Part {
    fn takes(&self, c: char) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != self.negated
    }
}

impl ProjectIds {
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        let inner = pattern.strip_prefix('^').unwrap_or(pattern);
        let inner = inner.strip_suffix('$').unwrap_or(inner);
        let mut chars = inner.chars();
        let mut parts = Vec::new();
        while let Some(c) = chars.next() {
            let (ranges, negated) = match c {
                '[' => class(&mut chars)?,
                '.' => (Vec::new(), true),
                '\\' => (escaped(chars.next())?, false),
                '(' | ')' | '|' | '*' | '+' | '?' | '{' | '}' | '^' | '$' | ']' => {
                    return Err(format!("{c:?} is not understood there"));
                }
                c => (vec![(c, c)], false),
            };
            let (least, most) = times(&mut chars)?;
            parts.push(Part { ranges, negated, least, most });
        }
        if parts.is_empty() { Err("it is empty".to_owned()) } else { Ok(Self(parts)) }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().take(LONGEST + 1).collect();
        if chars.is_empty() || chars.len() > LONGEST {
            return false;
        }
        // Which lengths of the text the parts so far can take.
        let mut reached = vec![false; chars.len() + 1];
        reached[0] = true;
        for part in &self.0 {
            let mut next = vec![false; chars.len() + 1];
            for from in (0..reached.len()).filter(|from| reached[*from]) {
                let run = chars[from..].iter().take_while(|c| part.takes(**c)).take(part.most).count();
                for length in part.least..=run {
                    next[from + length] = true;
                }
            }
            reached = next;
        }
        reached[chars.len()]
    }
}

const DIGITS: [(char, char); 1] = [('0', '9')];
const WORD: [(char, char); 4] = [('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')];

fn escaped(c: Option<char>) -> Result<Vec<(char, char)>, String> {
    match c {
        Some('d') => Ok(DIGITS.to_vec()),
        Some('w') => Ok(WORD.to_vec()),
        Some(c) if !c.is_alphanumeric() => Ok(vec![(c, c)]),
        Some(c) => Err(format!("\\{c} is not understood")),
        None => Err("it ends in a backslash".to_owned()),
    }
}

/// What stands after `[`, to its end.
fn class(chars: &mut Chars<'_>) -> Result<(Vec<(char, char)>, bool), String> {
    let open = || "a [ is not closed".to_owned();
    let negated = chars.as_str().starts_with('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let from = match chars.next().ok_or_else(open)? {
            ']' if !ranges.is_empty() => return Ok((ranges, negated)),
            '\\' => escaped(chars.next())?,
            c => vec![(c, c)],
        };
        let single = |ranges: &[(char, char)]| match ranges {
            [(from, to)] if from == to => Some(*from),
            _ => None,
        };
        let goes_on = chars.as_str().starts_with('-') && !chars.as_str().starts_with("-]");
        let Some(from) = single(&from).filter(|_| goes_on) else {
            ranges.extend(from);
            continue;
        };
        chars.next();
        let to = match chars.next().ok_or_else(open)? {
            '\\' => single(&escaped(chars.next())?).ok_or("a range must end in a character")?,
            c => c,
        };
        if to < from {
            return Err(format!("the range {from}-{to} is the wrong way round"));
        }
        ranges.push((from, to));
    }
}

fn times(chars: &mut Chars<'_>) -> Result<(usize, usize), String> {
    let rest = chars.as_str();
    let (times, length) = match rest.chars().next() {
        Some('+') => ((1, usize::MAX), 1),
        Some('*') => ((0, usize::MAX), 1),
        Some('?') => ((0, 1), 1),
        Some('{') => {
            let wrong = || "a { must be followed by numbers and }".to_owned();
            let (inner, _) = rest[1..].split_once('}').ok_or_else(wrong)?;
            let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
            let times = match inner.split_once(',') {
                None => (number(inner)?, number(inner)?),
                Some((least, "")) => (number(least)?, usize::MAX),
                Some((least, most)) => (number(least)?, number(most)?),
            };
            if times.1 < times.0 {
                return Err(wrong());
            }
            (times, inner.len() + 2)
        }
        _ => ((1, 1), 0),
    };
    *chars = rest[length..].chars();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_what_they_take() {
        let uuid = "0c3d1f3e9a4b4a0e8f2d7c6b5a493827";
        let table: [(&str, &[&str], &[&str]); 10] = [
            (r"[0-9a-f\-]+", &["0f-9", "-", uuid], &["", "g", "0F", "segments", "0/9"]),
            (r"[0-9a-zA-Z_-]+", &["My_Project-1", "segments"], &["a.b", "ä"]),
            (r"[0-9a-f]{32}", &[uuid], &["0f", &uuid[1..]]),
            (r"[^/]+", &["anything at all", "ä"], &[""]),
            (r"^\w+$", &["a_1"], &["a-1"]),
            (r".*", &["x"], &[""]),
            (r"p-\d{2,3}", &["p-12", "p-123"], &["p-1", "p-1234", "q-12"]),
            (r"[a-c]*[b-d]+x?", &["abcbcd", "bx", "d"], &["a", "aaax", "xb"]),
            (r"[\d_]+[\w-][!-\-]", &["01_--", "9a!"], &["a--", "9-.", "9-"]),
            (r"[]a]+\.[\]\-]", &["]a.]", "a.-"], &["a.", "ax]"]),
        ];
        for (pattern, takes, refuses) in table {
            let ids = ProjectIds::parse(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            for id in takes {
                assert!(ids.matches(id), "{pattern} {id}");
            }
            for id in refuses {
                assert!(!ids.matches(id), "{pattern} {id}");
            }
        }
        assert!(!ProjectIds::parse(".+").expect("read").matches(&"a".repeat(LONGEST + 1)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pattern in [
            "", "^$", "(a|b)+", "a|b", "[a", "[", "a{", "a{x}", "a{1", "a{2,1}", "+", "a++", "[z-a]", r"\s+",
            "a\\", "[a-\\w]",
        ] {
            assert!(ProjectIds::parse(pattern).is_err(), "{pattern}");
        }
    }
}
