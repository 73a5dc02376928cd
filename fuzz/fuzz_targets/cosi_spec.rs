//! The spec of a Talos resource, any bytes: the first selects the type.

#![no_main]

use libfuzzer_sys::fuzz_target;
use talos_vmtoolsd::talos::decode;

fuzz_target!(|data: &[u8]| {
    let Some((selector, spec)) = data.split_first() else {
        return;
    };
    match selector % 9 {
        0 => drop(decode::link(spec)),
        1 => drop(decode::address(spec)),
        2 => drop(decode::route(spec)),
        3 => drop(decode::node_address(spec)),
        4 => drop(decode::hostname(spec)),
        5 => drop(decode::resolver(spec)),
        6 => drop(decode::machine(spec)),
        7 => drop(decode::node_ip(spec)),
        _ => drop(decode::security(spec)),
    }
});
