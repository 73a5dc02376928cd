//! The answers byte by byte, and what the tests share: frames to ask with, and a reader of what comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod frames;
mod hostile;
mod list;

use std::{
    io::{self, Write},
    ops::RangeInclusive,
    sync::{Arc, Mutex},
};

use super::*;

/// The message of the worked example: opcode 62, no body, no credentials.
const GET_TOOLS_STATE: [u8; 51] = [
    0x01, 0x00, 0x0d, 0xd0, // magic
    0x05, 0x00, // version
    0x33, 0x00, 0x00, 0x00, // total
    0x33, 0x00, 0x00, 0x00, // header
    0x00, 0x00, 0x00, 0x00, // body
    0x00, 0x00, 0x00, 0x00, // credentials
    0x0d, // common flags
    0x3e, 0x00, 0x00, 0x00, // opcode
    0x00, 0x00, 0x00, 0x00, // request flags
    0xff, 0xff, 0xff, 0xff, // time-out
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // cookie
    0x00, 0x00, 0x00, 0x00, // client handle
    0x00, 0x00, 0x00, 0x00, // credential type
];

/// The properties of the 29 guest operations.
const OPERATIONS: RangeInclusive<i32> = 4540..=4568;

/// A message of the given parts, whose header is right.
fn message(opcode: i32, common_flags: u8, request_flags: u32, body: &[u8], credentials: &[u8]) -> Vec<u8> {
    let auth_data: &[u8] = if request_flags & 0x10 == 0 {
        &[]
    } else {
        &[0xaa; 44]
    };
    let total = 51 + body.len() + credentials.len() + auth_data.len();
    let mut message = GET_TOOLS_STATE.to_vec();
    message[6..10].copy_from_slice(&u32::try_from(total).unwrap().to_le_bytes());
    message[14..18].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    message[18..22].copy_from_slice(&u32::try_from(credentials.len()).unwrap().to_le_bytes());
    message[22] = common_flags;
    message[23..27].copy_from_slice(&opcode.to_le_bytes());
    message[27..31].copy_from_slice(&request_flags.to_le_bytes());
    for part in [body, credentials, auth_data] {
        message.extend_from_slice(part);
    }
    message
}

/// The message with its quoted request name, as it stands behind the command's name.
fn relayed(message: &[u8]) -> Vec<u8> {
    [b" \"1\"\0".as_slice(), message].concat()
}

fn with_bytes(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = GET_TOOLS_STATE.to_vec();
    message[offset..offset + bytes.len()].copy_from_slice(bytes);
    message
}

fn state() -> ToolsState {
    ToolsState {
        host_name: Some("cp-1".into()),
        os_short_name: Some("other6xlinux-64".into()),
        os_full_name: Some("Talos v1.14.1".into()),
        frozen: false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Integer(i32),
    Text(String),
    Bool(u8),
}

/// Reads a property list as a host does, and fails on anything it could not read.
fn read(mut bytes: &[u8]) -> Vec<(i32, Value)> {
    fn number(bytes: &mut &[u8]) -> i32 {
        let (number, rest) = bytes.split_first_chunk().expect("a whole number");
        *bytes = rest;
        i32::from_le_bytes(*number)
    }
    let mut properties = Vec::new();
    while !bytes.is_empty() {
        let (id, kind, length) = (number(&mut bytes), number(&mut bytes), number(&mut bytes));
        let (data, rest) = bytes.split_at(usize::try_from(length).unwrap());
        bytes = rest;
        let value = match kind {
            1 => Value::Integer(i32::from_le_bytes(data.try_into().unwrap())),
            2 => {
                let text = std::ffi::CStr::from_bytes_with_nul(data).expect("one NUL, at the end");
                Value::Text(text.to_str().unwrap().into())
            }
            3 => Value::Bool(<[u8; 1]>::try_from(data).unwrap()[0]),
            other => panic!("type {other}"),
        };
        properties.push((id, value));
    }
    properties
}

/// The list in a successful answer, without the surroundings.
fn list_in(answer: &[u8]) -> Vec<(i32, Value)> {
    let base64 = answer
        .strip_prefix(b"0 0 ")
        .and_then(|rest| rest.strip_suffix(b"\0"))
        .expect("a successful text answer");
    read(&BASE64.decode(base64).unwrap())
}

#[test]
fn the_feature_answers_its_two_commands_and_leaves_the_others() {
    let (facts, receiver) = watch::channel(ToolsState::default());
    let mut vix = Vix::new(receiver);
    let arguments = relayed(&GET_TOOLS_STATE);
    let request = Command::Unknown {
        name: b"Vix_1_Relayed_Command",
        arguments: &arguments,
    };
    let before = answer(&arguments, &ToolsState::default());
    assert_eq!(vix.handle(&request), Some(Reply::Ok(before)));

    facts.send(state()).unwrap();
    let after = answer(&arguments, &state());
    assert_eq!(vix.handle(&request), Some(Reply::Ok(after.clone())));

    // Its sender gone, the last state stays.
    drop(facts);
    assert_eq!(vix.handle(&request), Some(Reply::Ok(after)));
    let properties = Command::Unknown {
        name: b"Vix_1_Get_ToolsProperties",
        arguments: b" \"ignored\"",
    };
    assert_eq!(
        vix.handle(&properties),
        Some(Reply::Ok(tools_properties(&state())))
    );

    for name in [
        b"Vix_1_Run_Program".as_slice(),
        b"Vix_1_Mount_Volumes",
        b"Vix_1_SyncDriver_Freeze",
        b"Vix_1_SyncDriver_Thaw",
        b"vix_1_relayed_command",
        b"",
    ] {
        let command = Command::Unknown {
            name,
            arguments: &arguments,
        };
        assert_eq!(vix.handle(&command), None);
    }
    assert_eq!(vix.handle(&Command::Ping), None);
    assert_eq!(vix.capabilities(), Vec::new());
}

#[test]
fn the_log_names_the_operation_and_never_the_payload() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&lines);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || Lines(Arc::clone(&writer)))
        .finish();
    let (_facts, receiver) = watch::channel(state());
    let mut vix = Vix::new(receiver);
    let program = message(185, 0x0d, 0x100, &[0; 64], b"dXNlcgBwYXNzAA==\0");
    tracing::subscriber::with_default(subscriber, || {
        for message in [GET_TOOLS_STATE.as_slice(), &program, &GET_TOOLS_STATE[..50]] {
            let arguments = relayed(message);
            let request = Command::Unknown {
                name: b"Vix_1_Relayed_Command",
                arguments: &arguments,
            };
            for _ in 0..1000 {
                assert!(vix.handle(&request).is_some());
            }
        }
    });

    let log = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains("185 START_PROGRAM"), "{log}");
    assert!(log.contains("50 bytes are no header of 51"), "{log}");
    assert!(!log.contains("dXNl"), "{log}");
}

/// Collects what is logged.
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_flood_costs_one_line_a_minute() {
    let start = Instant::now();
    let mut occurrences = Occurrences::default();
    assert_eq!(occurrences.note(start), Some(1));
    for _ in 0..1000 {
        assert_eq!(occurrences.note(start + LOG_PERIOD / 2), None);
    }
    assert_eq!(occurrences.note(start + LOG_PERIOD), Some(1001));
    assert_eq!(occurrences.note(start + LOG_PERIOD), None);
    // A clock that seems to go back is no reason to stop or to shout.
    assert_eq!(occurrences.note(start), None);
}
