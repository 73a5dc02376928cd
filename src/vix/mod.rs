//! VIX: what the host asks through `Vix_1_Relayed_Command`, the guest operations of the vSphere API among it.
//!
//! ```text
//!  Command ──> Frame::parse ──> opcode 62 ──> ToolsState ──> property list ──base64──> Reply
//!                  │                └── any other ──> 3025: there is no such operation in this program
//!                  └── malformed ──> 10000
//! ```
//!
//! The host asks for the tools state after every registration and before every guest operation. This is all that is
//! answered. No operation can start a program, read or write a file, or check a password, because none exists here: the
//! opcode of an operation selects nothing but its name in the log.
//!
//! A VIX error travels inside an RPC that succeeded. `ERROR ` would tell the host that the handler itself is broken,
//! so every request, whatever its bytes, is answered `OK <error> <additional error> <payload>`.

#![forbid(unsafe_code)]

mod frame;
mod opcode;
mod property;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    frame::{Frame, FrameError},
    opcode::Opcode,
    property::PropertyList,
    state::ToolsState,
};

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tokio::{sync::watch, time::Instant};
use tracing::info;

use crate::tclo::{Command, Feature, Reply};

/// Carries a binary request (vixPlugin.c).
const RELAYED_COMMAND: &[u8] = b"Vix_1_Relayed_Command";

/// Asks for the property list without a frame (vixPlugin.c).
const GET_TOOLS_PROPERTIES: &[u8] = b"Vix_1_Get_ToolsProperties";

/// Least time between two log lines of one kind: the host can send a thousand requests a second.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// The errors this program answers with (vix.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Code {
    Ok = 0,
    ObjectIsBusy = 5,
    UnrecognizedCommandInGuest = 3025,
    InvalidMessageHeader = 10000,
}

/// Answers one `Vix_1_Relayed_Command`; `arguments` is everything behind the name, the separating space included.
///
/// Gives what follows `OK ` in the reply. Any bytes are answered, without allocating more than the answer.
pub fn answer(arguments: &[u8], state: &ToolsState) -> Vec<u8> {
    answer_frame(&Frame::parse(arguments), state)
}

/// Answers `Vix_1_Get_ToolsProperties`: the same list as opcode 62, without trailing NUL.
pub fn tools_properties(state: &ToolsState) -> Vec<u8> {
    let mut result = status(Code::Ok);
    result.extend_from_slice(encode(&state.properties()).as_bytes());
    result
}

fn answer_frame(frame: &Result<Frame, FrameError>, state: &ToolsState) -> Vec<u8> {
    let Ok(frame) = frame else {
        // Nothing in a frame that fails is believed, the form of the reply included.
        return reply(Code::InvalidMessageHeader, "", false);
    };
    let (code, payload) = if state.frozen {
        (Code::ObjectIsBusy, String::new())
    } else if frame.body_len < frame.opcode.least_body() {
        (Code::InvalidMessageHeader, String::new())
    } else if frame.opcode == Opcode::GET_TOOLS_STATE {
        (Code::Ok, encode(&state.properties()))
    } else {
        (Code::UnrecognizedCommandInGuest, String::new())
    };
    reply(code, &payload, frame.binary_reply)
}

/// Text ends with a NUL; binary begins with `#` and ends with its last byte.
fn reply(code: Code, payload: &str, binary: bool) -> Vec<u8> {
    let mut result = status(code);
    if binary {
        result.push(b'#');
    }
    result.extend_from_slice(payload.as_bytes());
    if !binary {
        result.push(0);
    }
    result
}

/// The error and the additional error, which is an errno and here always 0.
fn status(code: Code) -> Vec<u8> {
    format!("{} 0 ", code as u16).into_bytes()
}

fn encode(list: &PropertyList) -> String {
    BASE64.encode(list.bytes())
}

/// The VIX part of the daemon.
pub struct Vix {
    state: watch::Receiver<ToolsState>,
    refused: Occurrences,
    malformed: Occurrences,
}

impl Vix {
    /// Answers from the newest `state`; the sender may be gone, then from the last one.
    pub fn new(state: watch::Receiver<ToolsState>) -> Self {
        Self {
            state,
            refused: Occurrences::default(),
            malformed: Occurrences::default(),
        }
    }

    fn log(&mut self, frame: &Result<Frame, FrameError>) {
        let now = Instant::now();
        match frame {
            Ok(Frame { opcode, .. }) if *opcode != Opcode::GET_TOOLS_STATE => {
                if let Some(count) = self.refused.note(now) {
                    info!(feature = "vix", %opcode, count, "refused a guest operation");
                }
            }
            Ok(_) => {}
            Err(err) => {
                if let Some(count) = self.malformed.note(now) {
                    info!(feature = "vix", %err, count, "refused a malformed VIX request");
                }
            }
        }
    }
}

impl Feature for Vix {
    fn name(&self) -> &'static str {
        "vix"
    }

    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        match command {
            Command::Unknown { name, arguments } if *name == RELAYED_COMMAND => {
                let frame = Frame::parse(arguments);
                self.log(&frame);
                Some(Reply::Ok(answer_frame(&frame, &self.state.borrow())))
            }
            Command::Unknown { name, .. } if *name == GET_TOOLS_PROPERTIES => {
                Some(Reply::Ok(tools_properties(&self.state.borrow())))
            }
            _ => None,
        }
    }
}

/// Counts what happens, and says when it is time for a log line.
#[derive(Debug, Default)]
struct Occurrences {
    since_line: u64,
    last_line: Option<Instant>,
}

impl Occurrences {
    /// Counts one. Gives the number since the last line when a line is due: at the first one, and then at most once in
    /// [`LOG_PERIOD`].
    fn note(&mut self, now: Instant) -> Option<u64> {
        self.since_line = self.since_line.saturating_add(1);
        let due = self
            .last_line
            .is_none_or(|last| now.saturating_duration_since(last) >= LOG_PERIOD);
        due.then(|| {
            self.last_line = Some(now);
            std::mem::take(&mut self.since_line)
        })
    }
}
