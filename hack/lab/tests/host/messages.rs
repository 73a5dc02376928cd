//! Messages over channels: worked examples 9.2 and 9.3, cookies, several channels.

use lab::vmx::{device::Access, host::Config, transcript::Kind};

use crate::guest::{COOKIES, Guest, Opened, RPCI, SUCCESS, TCLO};

#[test]
fn info_set_by_high_bandwidth_register_by_register() {
    let mut guest = Guest::new(Config::default());
    let message = b"info-set guestinfo.ip 10.0.0.5\0";
    assert_eq!(message.len(), 0x1f);

    let out = guest.low(0xC943_5052, 0x1E, 0x5658, 0, 0);
    assert_eq!(out.rcx, 0x0001_0000);
    let (id, high, low) = (out.rdx, out.rsi, out.rdi);
    assert_eq!(id & 0xffff, 0);

    let out = guest.low(0x1F, 0x0001_001E, id | 0x5658, high, low);
    assert_eq!(out.rcx, 0x0081_0000);
    guest.memory.put(0x1000, message);
    let out = guest.high(
        Access::HighOut,
        0x1F,
        id | 0x5659,
        guest.memory.at(0x1000),
        low,
        high,
    );
    assert_eq!(out.rbx, 0x0001_0000);
    let out = guest.low(0, 0x0003_001E, id | 0x5658, high, low);
    assert_eq!((out.rcx, out.rdx, out.rbx), (0x0083_0000, 0x0001_0000, 2));
    let out = guest.high(Access::HighIn, 2, id | 0x5659, high, guest.memory.at(0x2000), low);
    assert_eq!(out.rbx, 0x0001_0000);
    assert_eq!(guest.memory.get(0x2000, 2), b"1 ");
    let out = guest.low(1, 0x0005_001E, id | 0x5658, high, low);
    assert_eq!(out.rcx, 0x0001_0000);
    let out = guest.low(0, 0x0006_001E, id | 0x5658, high, low);
    assert_eq!(out.rcx, 0x0001_0000);

    assert_eq!(guest.variable("guestinfo.ip").unwrap(), b"10.0.0.5");
    guest.assert_no_violation();
    let kinds: Vec<Kind> = guest.events().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::Open, Kind::Rpci, Kind::RpciReply, Kind::Close]);
}

#[test]
fn log_by_low_bandwidth_register_by_register() {
    let mut guest = Guest::new(Config {
        high_bandwidth: false,
        ..Config::default()
    });
    let channel = guest.open(RPCI).unwrap();
    let out = guest.step(channel, 1, 7);
    assert_eq!(out.rcx, 0x0001_0000);
    assert_eq!(guest.step(channel, 2, 0x2067_6F6C).rcx, 0x0001_0000);
    assert_eq!(guest.step(channel, 2, 0x0079_6568).rcx, 0x0001_0000);
    let out = guest.step(channel, 3, 0);
    assert_eq!((out.rcx, out.rdx, out.rbx), (0x0003_0000, 0x0001_0000, 2));
    let out = guest.step(channel, 4, 1);
    assert_eq!((out.rcx, out.rdx, out.rbx), (0x0001_0000, 0x0002_0000, 0x2031));
    assert_eq!(guest.step(channel, 5, 1).rcx, 0x0001_0000);
    assert_eq!(guest.host.with(|host, _| host.rpci.log.clone()), ["hey"]);
    guest.assert_no_violation();
}

#[test]
fn both_ports_carry_messages_of_every_length() {
    for high_bandwidth in [true, false] {
        let mut guest = Guest::new(Config {
            high_bandwidth,
            ..Config::default()
        });
        let channel = guest.open(RPCI).unwrap();
        for length in (0..20).chain([65536 - 26]) {
            let value = vec![b'x'; length];
            let request = [b"info-set guestinfo.length ".as_slice(), &value].concat();
            assert_eq!(guest.rpc(channel, &request).unwrap(), b"1 ");
            let reply = guest.rpc(channel, b"info-get guestinfo.length").unwrap();
            assert_eq!(reply, [b"1 ".as_slice(), &value].concat());
        }
        guest.assert_no_violation();
    }
}

#[test]
fn low_bandwidth_is_allowed_where_high_is_offered() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    guest.only_low = true;
    assert_eq!(guest.rpc(channel, b"log hey").unwrap(), b"1 ");
    guest.assert_no_violation();
}

#[test]
fn a_wrong_cookie_or_number_is_no_success() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI | COOKIES).unwrap();
    for wrong in [
        Opened {
            high: channel.high ^ 1,
            ..channel
        },
        Opened {
            low: channel.low ^ 1,
            ..channel
        },
        Opened {
            high: channel.low,
            low: channel.high,
            ..channel
        },
        Opened {
            high: 0,
            low: 0,
            ..channel
        },
    ] {
        assert_eq!(guest.status(wrong, 1, 4), 0);
    }
    guest.assert_violations(&["cookies"; 4]);
    assert_eq!(guest.status(Opened { id: 77, ..channel }, 1, 4), 0);
    assert_eq!(
        guest.rpc(channel, b"log still alive").unwrap(),
        b"1 ",
        "nothing of it harmed the channel"
    );
    assert_eq!(guest.status(channel, 6, 0), SUCCESS);
    assert_eq!(guest.status(channel, 1, 4), 0, "a closed channel is closed");
    guest.assert_violations(&["cookies", "cookies", "cookies", "cookies", "channel", "channel"]);
}

#[test]
fn without_the_cookie_flag_no_cookie_is_asked_for() {
    let mut guest = Guest::new(Config {
        cookies: false,
        ..Config::default()
    });
    assert_eq!(
        guest.open(RPCI | COOKIES),
        None,
        "an ancient host does not know the flag"
    );
    let channel = guest.open(RPCI).unwrap();
    assert_eq!(
        guest
            .rpc(
                Opened {
                    high: 1,
                    low: 2,
                    ..channel
                },
                b"log hey"
            )
            .unwrap(),
        b"1 "
    );
    guest.assert_no_violation();
}

#[test]
fn unknown_protocols_are_refused() {
    let mut guest = Guest::new(Config::default());
    assert_eq!(guest.open(0x1234_5678), None);
    guest.assert_violations(&["protocol"]);
}

#[test]
fn channels_do_not_mix() {
    let mut guest = Guest::new(Config::default());
    let first = guest.open(RPCI | COOKIES).unwrap();
    let second = guest.open(RPCI | COOKIES).unwrap();
    assert_ne!(first, second);
    assert_ne!((first.high, first.low), (second.high, second.low));
    guest.send(first, b"info-set guestinfo.a 1").unwrap();
    guest.send(second, b"info-get guestinfo.a").unwrap();
    assert_eq!(guest.receive(second).unwrap().unwrap(), b"1 1");
    assert_eq!(guest.receive(first).unwrap().unwrap(), b"1 ");
    guest.assert_no_violation();
}

#[test]
fn a_guest_has_128_channels_and_no_more() {
    let mut guest = Guest::new(Config::default());
    let channels: Vec<Opened> = (0..128).map(|_| guest.open(RPCI).unwrap()).collect();
    assert_eq!(guest.open(RPCI), None);
    assert_eq!(guest.status(channels[5], 6, 0), SUCCESS);
    let again = guest.open(RPCI).unwrap();
    assert_eq!(again.id, channels[5].id);
    assert_eq!(guest.open(TCLO), None, "both protocols share them");
    assert_eq!(guest.host.with(|host, _| host.counters.open_failures), 2);
    guest.assert_no_violation();
}
