//! Document to spec.

use std::net::IpAddr;

use serde_json::Value;

use super::{
    super::{
        release::Release,
        schema::{Field, Names, Shape},
    },
    Datum, Entry,
};

/// A document that is no spec of its type.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The document, or a nested message, is not a map.
    #[error("expected a map, found {0}")]
    NotAMap(Value),
    /// A key that the type does not have.
    #[error("no field is called {0:?}")]
    UnknownField(String),
    /// A value that the field cannot hold.
    #[error("{field}: expected {expected}, found {found}")]
    Value {
        /// The key.
        field: &'static str,
        /// What it holds.
        expected: &'static str,
        /// What was given.
        found: Value,
    },
}

pub(super) fn message(
    fields: &'static [Field],
    document: &Value,
    release: Release,
) -> Result<Vec<Entry>, SpecError> {
    let empty = serde_json::Map::new();
    let map = match document {
        Value::Object(map) => map,
        Value::Null => &empty,
        other => return Err(SpecError::NotAMap(other.clone())),
    };
    if let Some(key) = map
        .keys()
        .find(|key| fields.iter().all(|field| field.name != *key))
    {
        return Err(SpecError::UnknownField(key.clone()));
    }
    fields
        .iter()
        .filter(|field| field.since <= release)
        .map(|field| {
            let given = map.get(field.name).unwrap_or(&Value::Null);
            let value = datum(field.name, &field.shape, given, release)?;
            Ok(Entry { field, value })
        })
        .collect()
}

fn datum(
    field: &'static str,
    shape: &'static Shape,
    given: &Value,
    release: Release,
) -> Result<Datum, SpecError> {
    let wrong = |expected| SpecError::Value {
        field,
        expected,
        found: given.clone(),
    };
    // Addresses and hardware addresses are text in a document, and empty text is their zero value.
    let text = match given {
        Value::Null => Some(""),
        Value::String(text) => Some(text.as_str()),
        _ => None,
    };
    Ok(match shape {
        Shape::Bool => Datum::Bool(match given {
            Value::Null => false,
            _ => given.as_bool().ok_or_else(|| wrong("true or false"))?,
        }),
        Shape::Unsigned => Datum::Unsigned(match given {
            Value::Null => 0,
            _ => given.as_u64().ok_or_else(|| wrong("a number of 0 or more"))?,
        }),
        Shape::Signed => Datum::Signed(match given {
            Value::Null => 0,
            _ => given.as_i64().ok_or_else(|| wrong("a number"))?,
        }),
        // Versions and the like read as numbers in YAML when they are not quoted.
        Shape::Text => Datum::Text(match given {
            Value::Number(number) => number.to_string(),
            _ => text.ok_or_else(|| wrong("text"))?.to_owned(),
        }),
        Shape::Hardware => Datum::Bytes(
            text.and_then(hardware)
                .ok_or_else(|| wrong("a hardware address"))?,
        ),
        Shape::Address => Datum::Address(match text {
            Some("") => None,
            _ => Some(
                text.and_then(|text| text.parse::<IpAddr>().ok())
                    .ok_or_else(|| wrong("an IP address"))?,
            ),
        }),
        Shape::Prefix => Datum::Prefix(match text {
            Some("") => None,
            _ => Some(
                text.and_then(|text| text.parse().ok())
                    .ok_or_else(|| wrong("an IP address with a prefix length"))?,
            ),
        }),
        Shape::Named(names) => {
            Datum::Unsigned(number(names, given).ok_or_else(|| wrong("a name or a number"))?)
        }
        Shape::Bits(names) => {
            Datum::Unsigned(bits(names, given).ok_or_else(|| wrong("names joined by commas, or a number"))?)
        }
        Shape::Message(fields) => Datum::Message(message(fields, given, release)?),
        Shape::List(item) => Datum::List(match given {
            Value::Null => Vec::new(),
            Value::Array(items) => items
                .iter()
                .map(|given| datum(field, item, given, release))
                .collect::<Result<_, _>>()?,
            _ => return Err(wrong("a list")),
        }),
        Shape::TextMap => Datum::TextMap(match given {
            Value::Null => Default::default(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("a map of texts"))?,
            _ => return Err(wrong("a map of texts")),
        }),
    })
}

/// The octets of `00:50:56:…`; none for empty text.
fn hardware(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(':')
        .map(|octet| {
            (octet.len() == 2)
                .then(|| u8::from_str_radix(octet, 16).ok())
                .flatten()
        })
        .collect()
}

fn named(names: Names, name: &str) -> Option<u64> {
    names
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(number, _)| u64::from(*number))
        .or_else(|| name.parse().ok())
}

fn number(names: Names, given: &Value) -> Option<u64> {
    match given {
        Value::Null => Some(0),
        Value::String(name) => named(names, name),
        other => other.as_u64(),
    }
}

fn bits(names: Names, given: &Value) -> Option<u64> {
    match given {
        Value::String(joined) => joined
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .try_fold(0, |sum, name| Some(sum | named(names, name)?)),
        other => number(names, other),
    }
}
