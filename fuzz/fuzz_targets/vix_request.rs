//! The arguments of one relayed VIX command, any bytes: always an answer, and a short one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use talos_vmtoolsd::vix::{ToolsState, answer};

/// More than the property list of an unknown guest has in base64, bytes.
const LONGEST_ANSWER: usize = 4096;

fuzz_target!(|arguments: &[u8]| {
    for frozen in [false, true] {
        let state = ToolsState {
            frozen,
            ..ToolsState::default()
        };
        let answer = answer(arguments, &state);
        assert!(answer.first().is_some_and(u8::is_ascii_digit) && answer.len() < LONGEST_ANSWER);
    }
});
