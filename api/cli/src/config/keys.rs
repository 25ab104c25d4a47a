//! The names that the configuration's types know, asked of the types themselves, so that no list can go stale.

use std::cell::Cell;
use std::collections::BTreeMap;

use halberd_api::ApiConfig;
use halberd_core::policy::Policy;
use halberd_engine::EngineConfig;
use halberd_engine::announcer::WebhookConfig;
use halberd_engine::bus::BusConfig;
use halberd_engine::effects::hooks::HookConfig;
use halberd_engine::supervise::ServiceConfig;
use halberd_openstack::OpenstackConfig;
use halberd_store::retention::Retention;
use serde::Deserialize;
use serde::de::value::Error as Stopped;
use serde::de::{Deserializer, Error, Visitor};
use toml::{Table, Value};

use super::DatabaseConfig;

/// A wrong key as given, and the nearest right one.
pub type Wrong = (String, Option<String>);

/// Every section with its keys.
#[derive(Debug)]
pub struct Known(BTreeMap<&'static str, &'static [&'static str]>);

impl Known {
    pub fn of_everything() -> Known {
        Known(BTreeMap::from([
            ("database", names::<DatabaseConfig>()),
            ("api", names::<ApiConfig>()),
            ("openstack", names::<OpenstackConfig>()),
            ("engine", names::<EngineConfig>()),
            ("policy", names::<Policy>()),
            ("retention", names::<Retention>()),
            ("webhooks", names::<WebhookConfig>()),
            ("hooks", names::<HookConfig>()),
            ("services", names::<ServiceConfig>()),
            ("bus", names::<BusConfig>()),
        ]))
    }

    /// Keys of a section, in the order of its type.
    pub fn keys(&self, section: &str) -> &'static [&'static str] {
        self.0.get(section).copied().unwrap_or_default()
    }

    /// Refuses the first key that no type knows.
    ///
    /// # Errors
    /// It, and the nearest right one.
    pub fn check(&self, table: &Table) -> Result<(), Wrong> {
        for (section, value) in table {
            self.section(section)?;
            let tables: Vec<&Table> = match value {
                Value::Table(table) => vec![table],
                Value::Array(list) => list.iter().filter_map(Value::as_table).collect(),
                _ => Vec::new(),
            };
            for key in tables.iter().flat_map(|table| table.keys()) {
                self.key(section, key)?;
            }
        }
        Ok(())
    }

    fn section(&self, section: &str) -> Result<(), Wrong> {
        if self.0.contains_key(section) {
            return Ok(());
        }
        // A key outside of its section is a common slip.
        let inside = self
            .0
            .iter()
            .find(|(_, keys)| keys.contains(&section))
            .map(|(name, _)| format!("[{name}] {section}"));
        let near = nearest(self.0.keys().copied(), section).map(|name| format!("[{name}]"));
        Err((format!("[{section}]"), near.or(inside)))
    }

    fn key(&self, section: &str, key: &str) -> Result<(), Wrong> {
        let keys = self.keys(section);
        // Sections of no type of one shape (a choice of several) are checked when they are read.
        if keys.is_empty() || keys.contains(&key) {
            return Ok(());
        }
        let near = nearest(keys.iter().copied(), key).map(|name| format!("[{section}] {name}"));
        Err((format!("[{section}] {key}"), near))
    }
}

fn nearest<'a>(names: impl Iterator<Item = &'a str>, wrong: &str) -> Option<&'a str> {
    names
        .map(|name| (strsim::damerau_levenshtein(name, wrong), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(3) / 2)
        .map(|(_, name)| name)
}

/// `SECTION__KEY` sets `[section] key`. What the type holds as text stays text; numbers, booleans and lists are read as TOML, and a list
/// may be given with commas.
pub(super) fn override_key(table: &mut Table, known: &Known, path: &str, text: &str) -> Result<(), Wrong> {
    let path = path.to_ascii_lowercase();
    let (section, key) = path.split_once("__").unwrap_or((&path, ""));
    known.section(section)?;
    known.key(section, key)?;
    let value = match default_of(section, key) {
        serde_json::Value::Array(_) => as_toml(text).filter(Value::is_array).unwrap_or_else(|| {
            Value::Array(text.split(',').map(|part| Value::String(part.trim().to_owned())).collect())
        }),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => {
            as_toml(text).unwrap_or_else(|| Value::String(text.into()))
        }
        _ => Value::String(text.into()),
    };
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Some(entry) = entry.as_table_mut() {
        entry.insert(key.to_owned(), value);
    }
    Ok(())
}

fn as_toml(text: &str) -> Option<Value> {
    format!("v = {text}").parse::<Table>().ok()?.remove("v")
}

/// The default of a key, as JSON; null for what has none.
fn default_of(section: &str, key: &str) -> serde_json::Value {
    let whole = match section {
        "api" => serde_json::to_value(ApiConfig::default()),
        "engine" => serde_json::to_value(EngineConfig::default()),
        "policy" => serde_json::to_value(Policy::default()),
        "retention" => serde_json::to_value(Retention::default()),
        "bus" => serde_json::to_value(BusConfig::default()),
        _ => return serde_json::Value::Null,
    };
    whole.ok().and_then(|mut whole| whole.get_mut(key).map(serde_json::Value::take)).unwrap_or_default()
}

/// The field names of a struct: what its Deserialize asks a deserializer for.
pub fn names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Ask<'c>(&'c Cell<&'static [&'static str]>);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = Stopped;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stopped> {
            Err(Stopped::custom("only asked for its names"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Stopped> {
            self.0.set(fields);
            Err(Stopped::custom("only asked for its names"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let fields = Cell::new(&[][..]);
    let _ = T::deserialize(Ask(&fields));
    fields.get()
}
