//! What a guest can do wrong: it gets no SUCCESS and a violation in the transcript.

use lab::vmx::{
    device::{Access, Outcome, Registers},
    host::Config,
};
use proptest::prelude::*;

use crate::guest::{COOKIES, Guest, Opened, RPCI, SUCCESS, TCLO};

/// Does something wrong and returns the status of it.
type Case = fn(&mut Guest, Opened) -> u16;

#[test]
fn order_of_steps_is_enforced() {
    let payload = |guest: &mut Guest, channel| guest.status(channel, 2, 0);
    let cases: [(&str, &str, Case); 14] = [
        ("payload without size", "unannounced", payload),
        ("high payload without size", "unannounced", |guest, channel| {
            guest.high_out(channel, b"x")
        }),
        ("size twice", "unfinished", |guest, channel| {
            assert_ne!(guest.status(channel, 1, 8), 0);
            guest.status(channel, 1, 8)
        }),
        (
            "receive in the middle of a message",
            "unfinished",
            |guest, channel| {
                assert_ne!(guest.status(channel, 1, 8), 0);
                guest.status(channel, 3, 0)
            },
        ),
        ("more bytes than announced", "count", |guest, channel| {
            assert_ne!(guest.status(channel, 1, 3), 0);
            guest.high_out(channel, b"four")
        }),
        ("no bytes", "count", |guest, channel| {
            assert_ne!(guest.status(channel, 1, 3), 0);
            guest.high_out(channel, b"")
        }),
        ("dirt in the last word", "padding", |guest, channel| {
            assert_ne!(guest.status(channel, 1, 3), 0);
            guest.status(channel, 2, 0x0167_6F6C)
        }),
        ("message too long", "message-too-long", |guest, channel| {
            guest.status(channel, 1, 65537)
        }),
        (
            "request while a reply is unread",
            "reply-unread",
            |guest, channel| {
                guest.send(channel, b"log hey").unwrap();
                guest.status(channel, 1, 3)
            },
        ),
        ("RECVSTATUS left out", "status-skipped", |guest, channel| {
            guest.send(channel, b"log hey").unwrap();
            assert_ne!(guest.status(channel, 3, 0), 0);
            assert_eq!(guest.high_in(channel, 2), SUCCESS);
            guest.status(channel, 1, 3)
        }),
        ("RECVSTATUS too early", "not-receiving", |guest, channel| {
            guest.send(channel, b"log hey").unwrap();
            assert_ne!(guest.status(channel, 3, 0), 0);
            guest.status(channel, 5, 1)
        }),
        ("payload without RECVSIZE", "not-receiving", |guest, channel| {
            guest.send(channel, b"log hey").unwrap();
            guest.status(channel, 4, 1)
        }),
        ("part of a payload", "count", |guest, channel| {
            guest.send(channel, b"log hey").unwrap();
            assert_ne!(guest.status(channel, 3, 0), 0);
            guest.high_in(channel, 1)
        }),
        ("unknown sub-command", "subcommand", |guest, channel| {
            guest.status(channel, 7, 0)
        }),
    ];
    for (name, kind, case) in cases {
        let mut guest = Guest::new(Config::default());
        let channel = guest.open(RPCI | COOKIES).unwrap();
        assert_eq!(case(&mut guest, channel) & SUCCESS, 0, "{name}");
        assert_eq!(guest.violations(), [kind], "{name}");
    }
}

#[test]
fn high_bandwidth_has_to_be_offered() {
    let mut guest = Guest::new(Config {
        high_bandwidth: false,
        ..Config::default()
    });
    let channel = guest.open(RPCI).unwrap();
    assert_eq!(guest.status(channel, 1, 7), SUCCESS);
    assert_eq!(guest.high_out(channel, b"log hey"), 0);
    guest.assert_violations(&["high-not-offered"]);
}

#[test]
fn instructions_belong_to_their_ports() {
    let mut guest = Guest::new(Config::default());
    let mut registers = Registers {
        rax: 0x564D_5868,
        rcx: 10,
        rdx: 0x5659,
        ..Registers::default()
    };
    assert_eq!(guest.access(Access::Low, &mut registers), Outcome::Fault);
    let mut registers = Registers {
        rax: 1,
        rcx: 10,
        rdx: 0x5658,
        ..Registers::default()
    };
    assert_eq!(guest.access(Access::Low, &mut registers), Outcome::Fault);
    guest.assert_violations(&["port", "magic"]);
}

#[test]
fn dirt_in_upper_halves_is_seen_and_ignored() {
    let mut guest = Guest::new(Config::default());
    let mut registers = Registers {
        rax: 0xFFFF_FFFF_564D_5868,
        rbx: 0xA9B2_A797,
        rcx: 10,
        rdx: 1 << 40 | 0x5658,
        ..Registers::default()
    };
    assert_eq!(guest.access(Access::Low, &mut registers), Outcome::Done);
    assert_eq!(registers.rax, 6);
    guest.assert_violations(&["high-halves"]);
}

#[test]
fn memory_that_is_not_there_is_no_success() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    assert_ne!(guest.status(channel, 1, 4), 0);
    let out = guest.high(
        Access::HighOut,
        4,
        u64::from(channel.id) << 16 | 0x5659,
        0x10,
        channel.low.into(),
        channel.high.into(),
    );
    assert_eq!(out.rbx, 0);
    guest.assert_violations(&["memory"]);
}

/// One access of a guest that knows no rules.
#[derive(Clone, Copy, Debug)]
struct Wild {
    access: Access,
    registers: Registers,
}

fn wild() -> impl Strategy<Value = Wild> {
    let word = || prop_oneof![Just(0_u64), Just(1), 0_u64..16, any::<u64>()];
    let rbx = prop_oneof![
        Just(RPCI),
        Just(TCLO),
        Just(RPCI | COOKIES),
        Just(0x0001_0000),
        0_u64..8,
        Just(65536),
        Just(65537),
        any::<u64>()
    ];
    let rcx = prop_oneof![
        (0_u64..8).prop_map(|step| step << 16 | 0x1E),
        (0_u64..128).prop_map(|command| 0xFFFF_0000 | command),
        0_u64..8,
        any::<u64>()
    ];
    let port = prop_oneof![Just(0x5658_u64), Just(0x5659)];
    let access = prop_oneof![3 => Just(Access::Low), 1 => Just(Access::HighOut), 1 => Just(Access::HighIn)];
    (access, rbx, rcx, (port, 0_u64..4), word(), word(), word()).prop_map(
        |(access, rbx, rcx, (port, channel), rsi, rdi, rbp)| Wild {
            access,
            registers: Registers {
                rax: 0x564D_5868,
                rbx,
                rcx,
                rdx: channel << 16 | port,
                rsi,
                rdi,
                rbp,
            },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a guest executes, the host answers, keeps its limits and works for the next one.
    #[test]
    fn any_accesses_are_survived(accesses in proptest::collection::vec(wild(), 0..200), cookies in any::<bool>()) {
        let mut guest = Guest::new(Config { cookies, ..Config::default() });
        for Wild { access, mut registers } in accesses {
            guest.access(access, &mut registers);
            guest.clock.advance(std::time::Duration::from_millis(300));
        }
        prop_assert!(guest.host.with(|host, _| host.channel_count()) <= 128);
        guest.host.with(|host, now| host.close_channels(now, None));
        let channel = guest.open(RPCI).unwrap();
        prop_assert_eq!(guest.rpc(channel, b"log hey").unwrap(), b"1 ");
    }

    /// Low bandwidth carries any bytes as they are.
    #[test]
    fn any_message_arrives(message in proptest::collection::vec(any::<u8>(), 0..300), high_bandwidth in any::<bool>()) {
        let mut guest = Guest::new(Config { high_bandwidth, ..Config::default() });
        let channel = guest.open(RPCI).unwrap();
        let request = [b"info-set guestinfo.any ".as_slice(), &message, b"\0"].concat();
        prop_assert_eq!(guest.rpc(channel, &request).unwrap(), b"1 ");
        prop_assert_eq!(guest.variable("guestinfo.any").unwrap(), message);
        guest.assert_no_violation();
    }
}
