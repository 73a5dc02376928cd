//! One request of the host, any bytes: a command whose parts are parts of the request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use talos_vmtoolsd::tclo::Command;

fuzz_target!(|request: &[u8]| {
    match Command::parse(request) {
        Ok(Command::SetOption { name, value }) => {
            assert!(!name.is_empty() && !value.is_empty() && !value.ends_with(b"\0"));
        }
        Ok(Command::Unknown { name, arguments }) => {
            assert!(!name.is_empty() && request.ends_with(&[name, arguments].concat()));
        }
        _ => {}
    }
});
