//! Version and time: worked example 9.1 of the protocol.

use lab::vmx::host::Config;

use crate::guest::{Guest, unix_seconds};

#[test]
fn version_is_that_of_esxi() {
    let mut guest = Guest::new(Config::default());
    let out = guest.low(0xA9B2_A797, 0xFFFF_000A, 0x5658, 0, 0);
    assert_eq!((out.rax, out.rbx, out.rcx), (6, 0x564D_5868, 2));
    let out = guest.low(0xA9B2_A797, 17, 0x5658, 0, 0);
    assert_eq!((out.rax, out.rbx), (21, 0x564D_5868));
    guest.assert_no_violation();
}

#[test]
fn time_is_the_machines() {
    let mut guest = Guest::new(Config::default());
    let before = unix_seconds();
    for command in [46, 55] {
        let out = guest.low(0, command, 0x5658, 0, 0);
        assert_eq!(out.rax, 0x564D_5868);
        let seconds = out.rsi << 32 | out.rdx;
        assert!((before..=unix_seconds()).contains(&seconds));
        assert!(out.rbx < 1_000_000);
    }
    let out = guest.low(0, 23, 0x5658, 0, 0);
    assert!((before..=unix_seconds()).contains(&out.rax));
    let out = guest.low(0xFFFF_FFFF, 45, 0x5658, 0, 0);
    assert_eq!(out.rbx << 32 | out.rax, Config::default().tsc_hz);
}

#[test]
fn unknown_commands_answer_all_ones() {
    let mut guest = Guest::new(Config::default());
    assert_eq!(guest.low(0, 104, 0x5658, 0, 0).rax, 0xFFFF_FFFF);
    guest.assert_no_violation();
    assert_eq!(guest.low(0, 50, 0x5658, 0, 0).rax, 0xFFFF_FFFF);
    guest.assert_violations(&["kernel-only"]);
}
