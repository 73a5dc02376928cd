//! Spec to protobuf, with the habits of Talos's encoder (siderolabs/protoenc) before and after 0.2.4.

use std::net::IpAddr;

use prost::encoding::{WireType, encode_key, encode_varint};

use super::{Datum, Entry, Prefix};

/// `entries` in order; with `zeros`, zero values stand on the wire as well.
pub(super) fn message(entries: &[Entry], zeros: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for Entry { field, value } in entries {
        put(&mut out, field.number, value, zeros);
    }
    out
}

fn put(out: &mut Vec<u8>, number: u32, value: &Datum, zeros: bool) {
    match value {
        Datum::Bool(value) => varint(out, number, u64::from(*value), zeros),
        Datum::Unsigned(value) => varint(out, number, *value, zeros),
        Datum::Signed(value) => varint(out, number, value.cast_unsigned(), zeros),
        Datum::Text(text) => {
            if zeros || !text.is_empty() {
                delimited(out, number, text.as_bytes());
            }
        }
        Datum::Bytes(bytes) => {
            if !bytes.is_empty() {
                delimited(out, number, bytes);
            }
        }
        Datum::Address(None) | Datum::Prefix(None) if !zeros => {}
        Datum::Address(address) => delimited(out, number, &net_ip(*address)),
        Datum::Prefix(prefix) => delimited(out, number, &net_ip_prefix(*prefix)),
        Datum::Message(entries) => {
            let body = message(entries, zeros);
            if zeros || !body.is_empty() {
                delimited(out, number, &body);
            }
        }
        // An element counts by being there, zero or not.
        Datum::List(items) => items.iter().for_each(|item| element(out, number, item, zeros)),
        Datum::TextMap(map) => {
            for (key, value) in map {
                let mut body = Vec::new();
                delimited(&mut body, 1, key.as_bytes());
                delimited(&mut body, 2, value.as_bytes());
                delimited(out, number, &body);
            }
        }
    }
}

fn element(out: &mut Vec<u8>, number: u32, item: &Datum, zeros: bool) {
    match item {
        Datum::Message(entries) => delimited(out, number, &message(entries, zeros)),
        other => put(out, number, other, true),
    }
}

/// common.NetIP
fn net_ip(address: Option<IpAddr>) -> Vec<u8> {
    let mut body = Vec::new();
    match address {
        Some(IpAddr::V4(address)) => delimited(&mut body, 1, &address.octets()),
        Some(IpAddr::V6(address)) => delimited(&mut body, 1, &address.octets()),
        None => {}
    }
    body
}

/// common.NetIPPrefix; Go's zero prefix has the length -1.
fn net_ip_prefix(prefix: Option<Prefix>) -> Vec<u8> {
    let mut body = net_ip(prefix.map(|prefix| prefix.address));
    let length = prefix.map_or(-1, |prefix| i64::from(prefix.length));
    varint(&mut body, 2, length.cast_unsigned(), false);
    body
}

fn varint(out: &mut Vec<u8>, number: u32, value: u64, zeros: bool) {
    if zeros || value != 0 {
        encode_key(number, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn delimited(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
