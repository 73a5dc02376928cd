//! OS identity (id 11): the C struct `HostinfoDetailedDataHeader` of 648 bytes, then `key='value'` items.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DecodeError, cursor::Cursor};

const VERSION: u32 = 1;
/// Length of the short name's field in bytes, its NUL included.
const SHORT_NAME: usize = 129;
/// Length of the full name's field in bytes, its NUL included.
const FULL_NAME: usize = 513;
/// The struct is not packed: two bytes align it to 648.
const STRUCT_PADDING: usize = 2;
/// Longest `key='value'` item in bytes that a sender may emit.
const MAX_ITEM: usize = 1023;

/// What a guest says it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OsDetailed {
    /// Name from VMware's list, for example `other6xlinux-64`.
    pub short_name: String,
    /// Free text.
    pub full_name: String,
    /// The properties.
    pub properties: BTreeMap<String, String>,
}

/// Decodes a report.
pub fn decode(payload: &[u8]) -> Result<OsDetailed, DecodeError> {
    let mut cursor = Cursor::new(payload);
    match cursor.u32_le()? {
        VERSION => {}
        value => {
            return Err(DecodeError::Value {
                what: "version of the OS header",
                value,
            });
        }
    }
    let short_name = fixed(&mut cursor, "short name", SHORT_NAME)?;
    let full_name = fixed(&mut cursor, "full name", FULL_NAME)?;
    let offset = cursor.offset();
    if cursor.take(STRUCT_PADDING)?.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Padding { offset });
    }
    let rest = payload.get(cursor.offset()..).unwrap_or_default();
    let text = rest
        .strip_suffix(b"\0")
        .ok_or(DecodeError::text("property string without its NUL", rest))?;
    if text.contains(&0) {
        return Err(DecodeError::text("NUL inside the property string", text));
    }
    let text = super::text(text)?;
    Ok(OsDetailed {
        short_name,
        full_name,
        properties: properties(text)?,
    })
}

/// A NUL-terminated text in a field of fixed length whose rest is zero.
fn fixed(cursor: &mut Cursor<'_>, what: &'static str, length: usize) -> Result<String, DecodeError> {
    let offset = cursor.offset();
    let field = cursor.take(length)?;
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(DecodeError::text(what, field))?;
    let (text, padding) = field.split_at(end);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Padding { offset: offset + end });
    }
    super::text(text).map(str::to_owned)
}

/// `key='value'` items, one space apart; `'` and `\` in a value are escaped by `\`.
fn properties(text: &str) -> Result<BTreeMap<String, String>, DecodeError> {
    let wrong = |what| DecodeError::text(what, text.as_bytes());
    let mut properties = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, quoted) = rest
            .split_once("='")
            .ok_or_else(|| wrong("property without value"))?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(wrong("name of a property"));
        }
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => match characters.next() {
                    Some((_, escaped @ ('\'' | '\\'))) => value.push(escaped),
                    _ => return Err(wrong("escape in a property")),
                },
                Some((index, '\'')) => break index + 1,
                Some((_, character)) => value.push(character),
                None => return Err(wrong("property without closing quote")),
            }
        };
        let item = key.len() + 2 + end;
        if item > MAX_ITEM {
            return Err(wrong("property of more than 1023 bytes"));
        }
        if properties.insert(key.to_owned(), value).is_some() {
            return Err(wrong("property named twice"));
        }
        rest = quoted.get(end..).unwrap_or_default();
        if !rest.is_empty() {
            rest = rest
                .strip_prefix(' ')
                .filter(|rest| !rest.is_empty())
                .ok_or_else(|| wrong("space between properties"))?;
        }
    }
    Ok(properties)
}
