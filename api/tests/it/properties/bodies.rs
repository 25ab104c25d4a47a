//! Bodies that nobody should send: any JSON, valid bodies with something wrong in them, and bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

/// Texts that have broken somebody's parser, index or terminal.
const NASTY: [&str; 22] = [
    "",
    " ",
    "\0",
    "a\0b",
    "\u{1}",
    "\n",
    "\u{7f}",
    "\u{85}",
    "\u{200b}",
    "\u{202e}abc",
    "\u{fffd}",
    "\u{ffff}",
    "\u{1f600}",
    "e\u{301}",
    "İ",
    "ß",
    "' OR 1=1 --",
    "%s%n%00",
    "../../etc/passwd",
    "null",
    "NaN",
    "00000000-0000-0000-0000-000000000000",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(&NASTY[..]).prop_map(str::to_owned),
        5 => vec(any::<char>(), 0..20).prop_map(|chars| chars.into_iter().collect()),
        1 => (250usize..300).prop_map(|length| "x".repeat(length)),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

pub fn document() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((text(), inner), 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// One thing wrong, somewhere.
#[derive(Clone, Debug)]
pub enum Wrong {
    Replaced(Value),
    Removed,
    Renamed(String),
    Added(String, Value),
    Wrapped,
}

fn wrong() -> impl Strategy<Value = Wrong> {
    prop_oneof![
        5 => prop_oneof![2 => scalar().boxed(), 1 => document().boxed()].prop_map(Wrong::Replaced),
        1 => Just(Wrong::Removed),
        1 => text().prop_map(Wrong::Renamed),
        1 => (text(), scalar()).prop_map(|(key, value)| Wrong::Added(key, value)),
        1 => Just(Wrong::Wrapped),
    ]
}

/// Where every value of a document stands.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{n}"), found);
            }
        }
        _ => {}
    }
}

fn spoil(document: &mut Value, which: &Index, wrong: Wrong) {
    let mut found = Vec::new();
    places(document, "", &mut found);
    let place = which.get(&found).clone();
    let parent = place.rsplit_once('/').map(|(parent, key)| (parent.to_owned(), key.to_owned()));
    let key = |key: &str| key.replace("~1", "/").replace("~0", "~");
    match (wrong, parent) {
        (Wrong::Removed, Some((parent, at))) => match document.pointer_mut(&parent) {
            Some(Value::Object(fields)) => drop(fields.remove(&key(&at))),
            Some(Value::Array(items)) => drop(at.parse().map(|n: usize| items.remove(n))),
            _ => {}
        },
        (Wrong::Renamed(name), Some((parent, at))) => {
            if let Some(Value::Object(fields)) = document.pointer_mut(&parent)
                && let Some(value) = fields.remove(&key(&at))
            {
                fields.insert(name, value);
            }
        }
        (Wrong::Added(name, value), _) => {
            if let Some(Value::Object(fields)) = document.pointer_mut(&place) {
                fields.insert(name, value);
            }
        }
        (Wrong::Replaced(value), _) => {
            if let Some(old) = document.pointer_mut(&place) {
                *old = value;
            }
        }
        (Wrong::Wrapped, _) => {
            if let Some(old) = document.pointer_mut(&place) {
                *old = json!([old.take()]);
            }
        }
        _ => {}
    }
}

/// Written with one object's keys twice, the second time with another value.
fn twice(document: &Value, which: &Index, second: &Value) -> String {
    let text = document.to_string();
    let ends: Vec<usize> = text.match_indices("\":").map(|(at, _)| at).collect();
    if ends.is_empty() {
        return text;
    }
    let end = *which.get(&ends);
    let begin = text[..end].rfind('"').unwrap_or(0);
    let key = &text[begin..=end];
    format!("{}{key}:{second},{}", &text[..begin], &text[begin..])
}

/// The body with NUL in one of its texts, once for each text, and for each key.
pub fn with_nul(valid: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    places(valid, "", &mut found);
    let texts = found.iter().filter_map(|place| {
        let mut body = valid.clone();
        let text = body.pointer_mut(place)?;
        *text = json!(format!("{}\0x", text.as_str()?));
        Some(body)
    });
    let keys = found.iter().filter_map(|place| {
        let mut body = valid.clone();
        body.pointer_mut(place)?.as_object_mut()?.insert("a\0".to_owned(), json!("b"));
        Some(body)
    });
    texts.chain(keys).collect()
}

/// How a body is made from a good one. Independent of the route, so that one pool of them serves all.
#[derive(Clone, Debug)]
pub enum Spoiled {
    By(Vec<(Index, Wrong)>),
    Twice(Index, Value),
    Other(Value),
    /// Under the top key that the route wants.
    OtherInside(Value),
    Bytes(Vec<u8>),
    /// Cut off there, with these bytes; perhaps it goes on after them.
    Broken(Index, Vec<u8>, bool),
}

pub fn spoiled() -> impl Strategy<Value = Spoiled> {
    prop_oneof![
        6 => vec((any::<Index>(), wrong()), 1..4).prop_map(Spoiled::By),
        2 => (any::<Index>(), scalar()).prop_map(|(which, second)| Spoiled::Twice(which, second)),
        2 => document().prop_map(Spoiled::Other),
        1 => document().prop_map(Spoiled::OtherInside),
        1 => vec(any::<u8>(), 0..200).prop_map(Spoiled::Bytes),
        2 => (any::<Index>(), vec(any::<u8>(), 0..4), any::<bool>())
            .prop_map(|(at, bytes, goes_on)| Spoiled::Broken(at, bytes, goes_on)),
    ]
}

impl Spoiled {
    /// The body near `valid`.
    pub fn body(&self, valid: &Value) -> Vec<u8> {
        match self {
            Spoiled::By(wrongs) => {
                let mut document = valid.clone();
                for (which, wrong) in wrongs {
                    spoil(&mut document, which, wrong.clone());
                }
                document.to_string().into_bytes()
            }
            Spoiled::Twice(which, second) => twice(valid, which, second).into_bytes(),
            Spoiled::Other(document) => document.to_string().into_bytes(),
            Spoiled::OtherInside(document) => {
                let key = valid.as_object().and_then(|fields| fields.keys().next().cloned());
                let fields = [(key.unwrap_or_default(), document.clone())];
                Value::Object(Map::from_iter(fields)).to_string().into_bytes()
            }
            Spoiled::Bytes(bytes) => bytes.clone(),
            Spoiled::Broken(at, bytes, goes_on) => {
                let whole = valid.to_string().into_bytes();
                let at = at.index(whole.len());
                let rest = if *goes_on { &whole[at..] } else { &[] };
                [&whole[..at], bytes, rest].concat()
            }
        }
    }
}

/// Percent-encoded, all of it.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A part of a path: what a client may have meant, any text, any bytes.
pub fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => text().prop_map(|text| encoded(&text)),
        2 => vec(any::<u8>(), 0..12).prop_map(|bytes| bytes.iter().map(|byte| format!("%{byte:02x}")).collect()),
        2 => "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}",
        1 => "[ -~&&[^ #?\"<>{}|\\\\^`%]]{0,20}",
        1 => prop::sample::select(vec!["%", "%zz", "%f", ".", "..", "%2e%2e", "%2F", "new", "detail", "x.json", "%00"])
            .prop_map(str::to_owned),
    ]
}

/// A query string with the names that lists know, and others.
pub fn query() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => prop::sample::select(vec![
            "limit", "marker", "sort_key", "sort_dir", "recovery_method", "service_type", "enabled", "type", "on_maintenance",
            "reserved", "status", "generated-since", "source_host_uuid", "open", "host", "kind", "state", "chain", "after", "since",
            "format", "name", "uuid", "created_at",
        ])
        .prop_map(str::to_owned),
        1 => text().prop_map(|text| encoded(&text)),
    ];
    let value = prop_oneof![
        3 => part(),
        2 => prop::sample::select(vec!["1", "0", "-1", "1000", "99999999999999999999", "true", "asc", "desc", "json", "name", "id", "uuid"])
            .prop_map(str::to_owned),
        1 => (-5i64..2000).prop_map(|number| number.to_string()),
        1 => prop::sample::select(vec!["created_at", "updated_at", "type", "status", "2026-11-21T10:00:00", "2026-13-41", "auto", "new"])
            .prop_map(str::to_owned),
    ];
    vec((name, value), 0..5).prop_map(|pairs| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    })
}
