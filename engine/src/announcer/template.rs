//! Logic-less templates: a JSON document in whose strings `{{path.to.field}}` stands for a value of the event.
//!
//! There are no conditions, loops, filters or calls, and what was filled in is never read again for placeholders; so nothing
//! that an attacker writes into a guest's name can do more than be text (SAFETY 5.2 S11). Filling happens in the parsed
//! document, not in its text: whatever the value, the result is valid JSON of the template's own shape.

use serde_json::{Map, Value};

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Value);

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

impl Template {
    /// Reads a template. An error names what is wrong and where.
    pub fn parse(text: &str) -> Result<Template, String> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| format!("is no JSON document: {error}"))?;
        check(&document)?;
        Ok(Template(document))
    }

    /// Fills it. A string that is one placeholder becomes the value as it is (null when there is none); within other text
    /// a value stands as text (nothing when there is none).
    pub fn fill(&self, values: &Value) -> Value {
        fill(&self.0, values)
    }
}

fn check(node: &Value) -> Result<(), String> {
    match node {
        Value::String(text) => pieces(text).map(drop),
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(fields) => fields.values().try_for_each(check),
        _ => Ok(()),
    }
}

fn fill(node: &Value, values: &Value) -> Value {
    match node {
        Value::String(text) => fill_text(text, values),
        Value::Array(items) => items.iter().map(|item| fill(item, values)).collect(),
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(key, field)| (key.clone(), fill(field, values))).collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}

enum Piece<'t> {
    Text(&'t str),
    Path(&'t str),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (path, after) =
            after.split_once(CLOSE).ok_or_else(|| format!("'{{{{' without '}}}}' in {text:?}"))?;
        let path = path.trim();
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        if !path.split('.').all(is_name) {
            return Err(format!(
                "'{{{{{path}}}}}' is no path such as event.data.text; there is nothing but paths in templates"
            ));
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Path(path));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn fill_text(text: &str, values: &Value) -> Value {
    // Read once when it was parsed; a template that does not read stays as it stands.
    let Ok(pieces) = pieces(text) else { return text.into() };
    if let [Piece::Path(path)] = pieces[..] {
        return look_up(values, path).cloned().unwrap_or(Value::Null);
    }
    let mut filled = String::with_capacity(text.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Path(path) => match look_up(values, path) {
                None | Some(Value::Null) => {}
                Some(Value::String(value)) => filled.push_str(value),
                Some(other) => filled.push_str(&other.to_string()),
            },
        }
    }
    filled.into()
}

fn look_up<'v>(values: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(values, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(template: &str, values: Value) -> Value {
        Template::parse(template).unwrap().fill(&values)
    }

    #[test]
    fn values_keep_their_type_alone_and_become_text_within_text() {
        let values = json!({"n": 3, "o": {"list": [true, "b"]}, "s": "x"});
        let template = r#"{"a": "{{n}}", "b": "{{ o.list.1 }}-{{n}}", "c": "{{none}}", "d": "{{none}}.", "e": ["{{o}}", 7], "f": "{{o.list.0}}"}"#;
        assert_eq!(
            filled(template, values),
            json!({"a": 3, "b": "b-3", "c": null, "d": ".", "e": [{"list": [true, "b"]}, 7], "f": true})
        );
    }

    #[test]
    fn nothing_filled_in_is_ever_evaluated() {
        // The payload corpus of S11: templates of others, quotes, controls, our own placeholders.
        let corpus = [
            r#"", "admin": true, "x": ""#,
            "{{params.routing_key}}",
            "}}{{params.routing_key}}{{",
            "${7*7}",
            "#{7*7}",
            "{% raw %}",
            "{{7*7}}",
            "<%= 7*7 %>",
            "\u{0}\n\u{2028}\\u0022",
            "${jndi:ldap://x}",
            "__import__('os')",
        ];
        for payload in corpus {
            let values = json!({"name": payload, "params": {"routing_key": "SECRET"}});
            let result = filled(r#"{"t": "guest {{name}} failed", "u": "{{name}}"}"#, values);
            assert_eq!(result, json!({"t": format!("guest {payload} failed"), "u": payload}));
            let text = result.to_string();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), result, "{text}");
        }
    }

    #[test]
    fn anything_but_a_path_is_refused() {
        for bad in [
            "{",
            r#"{"a": "{{x"}"#,
            r#"["{{a b}}"]"#,
            r#"["{{}}"]"#,
            r#"["{{a..b}}"]"#,
            r#"["{{#if x}}"]"#,
            r#"["{{a|safe}}"]"#,
            r#"["{{f()}}"]"#,
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
