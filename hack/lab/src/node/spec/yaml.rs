//! Spec to YAML, four columns to a level as Talos prints it.

use std::fmt::Write as _;

use super::{
    super::schema::{Names, Shape},
    Datum, Entry,
};

pub(super) fn document(entries: &[Entry]) -> String {
    let mut out = String::new();
    map(&mut out, entries, 0);
    if out.is_empty() {
        out.push_str("{}\n");
    }
    out
}

/// The bare value of `entry` as a document.
pub(super) fn scalar(entry: &Entry) -> String {
    format!("{}\n", inline(&entry.field.shape, &entry.value))
}

fn map(out: &mut String, entries: &[Entry], depth: usize) {
    for Entry { field, value } in entries {
        if field.omit_empty && is_zero(value) {
            continue;
        }
        _ = write!(out, "{:depth$}{}:", "", field.name);
        nested(out, &field.shape, value, depth);
    }
}

/// The value of a key that was just written: on the same line, or deeper on the next ones.
fn nested(out: &mut String, shape: &Shape, value: &Datum, depth: usize) {
    match (shape, value) {
        (_, Datum::Message(entries)) => {
            out.push('\n');
            map(out, entries, depth + 4);
        }
        (Shape::List(item), Datum::List(items)) if !items.is_empty() => {
            out.push('\n');
            for value in items {
                _ = write!(out, "{:1$}- ", "", depth + 4);
                if let Datum::Message(entries) = value {
                    let mut body = String::new();
                    map(&mut body, entries, depth + 6);
                    out.push_str(body.trim_start());
                } else {
                    _ = writeln!(out, "{}", inline(item, value));
                }
            }
        }
        (_, Datum::TextMap(map)) if !map.is_empty() => {
            out.push('\n');
            for (key, value) in map {
                _ = writeln!(out, "{:3$}{}: {}", "", quoted(key), quoted(value), depth + 4);
            }
        }
        _ => _ = writeln!(out, " {}", inline(shape, value)),
    }
}

fn inline(shape: &Shape, value: &Datum) -> String {
    match (shape, value) {
        (Shape::Named(names), Datum::Unsigned(number)) => quoted(&name(names, *number)),
        (Shape::Bits(names), Datum::Unsigned(sum)) => quoted(
            &names
                .iter()
                .filter(|(bit, _)| sum & u64::from(*bit) != 0)
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(","),
        ),
        (_, Datum::Bool(value)) => value.to_string(),
        (_, Datum::Unsigned(value)) => value.to_string(),
        (_, Datum::Signed(value)) => value.to_string(),
        (_, Datum::Text(text)) => quoted(text),
        (_, Datum::Bytes(octets)) => {
            let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            quoted(&octets.join(":"))
        }
        (_, Datum::Address(address)) => quoted(&address.map_or(String::new(), |address| address.to_string())),
        (_, Datum::Prefix(prefix)) => quoted(&prefix.map_or(String::new(), |prefix| prefix.to_string())),
        (_, Datum::List(_)) => "[]".to_owned(),
        (_, Datum::TextMap(_) | Datum::Message(_)) => "{}".to_owned(),
    }
}

fn name(names: Names, number: u64) -> String {
    names
        .iter()
        .find(|(known, _)| u64::from(*known) == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

fn is_zero(value: &Datum) -> bool {
    match value {
        Datum::Bool(value) => !value,
        Datum::Unsigned(value) => *value == 0,
        Datum::Signed(value) => *value == 0,
        Datum::Text(text) => text.is_empty(),
        Datum::Bytes(bytes) => bytes.is_empty(),
        Datum::Address(address) => address.is_none(),
        Datum::Prefix(prefix) => prefix.is_none(),
        Datum::Message(entries) => entries.iter().all(|entry| is_zero(&entry.value)),
        Datum::List(items) => items.is_empty(),
        Datum::TextMap(map) => map.is_empty(),
    }
}

/// `0x07b0` and the like, which a reader takes for a number.
fn is_based_number(text: &str) -> bool {
    [("0x", 16), ("0o", 8), ("0b", 2)].iter().any(|(prefix, base)| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| u64::from_str_radix(digits, *base).is_ok())
    })
}

/// Text as a YAML scalar: plain where no reader could take it for anything else, else quoted as in JSON.
fn quoted(text: &str) -> String {
    let word = |character: char| character.is_ascii_alphanumeric() || "_./:,-+ ".contains(character);
    let plain = text.starts_with(|first: char| first.is_ascii_alphanumeric() || "/_.:".contains(first))
        && text.chars().all(word)
        && text
            .chars()
            .any(|character| character.is_ascii_alphabetic() || character == '.')
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && text.parse::<f64>().is_err()
        && !is_based_number(text)
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}
