#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, option, prelude::*};

use super::*;

/// A decoder written from nicinfo.x alone, for these tests: it shares nothing with the writer.
pub(in crate::guestinfo) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> u32 {
        let word = u32::from_be_bytes(self.bytes[self.at..self.at + 4].try_into().unwrap());
        self.at += 4;
        word
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let length = self.word() as usize;
        assert!(length <= limit, "{length} bytes where {limit} are allowed");
        let bytes = self.bytes[self.at..self.at + length].to_vec();
        self.at += length;
        while !self.at.is_multiple_of(4) {
            assert_eq!(self.bytes[self.at], 0, "padding is zero");
            self.at += 1;
        }
        bytes
    }

    fn text(&mut self, limit: usize) -> String {
        String::from_utf8(self.bytes(limit)).unwrap()
    }

    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match self.word() {
            0 => None,
            1 => Some(read(self)),
            other => panic!("{other} is no bool"),
        }
    }

    fn list<T>(&mut self, limit: usize, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.word() as usize;
        assert!(count <= limit, "{count} items where {limit} are allowed");
        (0..count).map(|_| read(self)).collect()
    }

    fn ip(&mut self) -> IpAddr {
        match self.word() {
            1 => <[u8; 4]>::try_from(self.bytes(255)).unwrap().into(),
            2 => <[u8; 16]>::try_from(self.bytes(255)).unwrap().into(),
            other => panic!("{other} is no address type"),
        }
    }

    fn prefix(&mut self) -> Prefix {
        let address = self.ip();
        Prefix {
            address,
            length: self.word().try_into().unwrap(),
        }
    }

    fn nothing(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.word(), 0);
        }
    }

    fn nic(&mut self, ips: usize) -> Nic {
        let text = self.text(18);
        let mac: Vec<u8> = text
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).unwrap())
            .collect();
        let addresses = self.list(ips, |reader| Address {
            prefix: reader.prefix(),
            origin: reader.maybe(|reader| match reader.word() {
                1 => Origin::Other,
                2 => Origin::Manual,
                4 => Origin::Dhcp,
                5 => Origin::LinkLayer,
                6 => Origin::Random,
                other => panic!("{other} is no origin"),
            }),
            status: match reader.maybe(Reader::word) {
                Some(1) => Status::Preferred,
                Some(2) => Status::Deprecated,
                Some(8) => Status::Optimistic,
                other => panic!("{other:?} is no status"),
            },
        });
        self.nothing(2);
        let mut dhcp = || {
            self.maybe(|reader| {
                let enabled = reader.word();
                assert!(enabled < 2, "{enabled} is no bool");
                assert_eq!(reader.text(16_384), "");
                enabled == 1
            })
        };
        Nic {
            mac: MacAddr(mac.try_into().unwrap()),
            addresses,
            dhcp4: dhcp(),
            dhcp6: dhcp(),
        }
    }

    pub(in crate::guestinfo) fn record(bytes: &[u8], ips: usize) -> NicInfo {
        let mut reader = Reader { bytes, at: 0 };
        assert_eq!(reader.word(), 3);
        assert_eq!(reader.word(), 1);
        let nics = reader.list(16, |reader| reader.nic(ips));
        let routes = reader.list(100, |reader| {
            let destination = reader.prefix();
            let next_hop = reader.maybe(Reader::ip);
            let nic = reader.word() as usize;
            assert_eq!(reader.word(), 0);
            Route {
                destination,
                next_hop,
                nic,
                metric: reader.word(),
            }
        });
        let dns = reader.maybe(|reader| Dns {
            host: reader.maybe(|reader| reader.text(255)),
            domain: reader.maybe(|reader| reader.text(255)),
            servers: reader.list(16, Reader::ip),
            search: reader.list(10, |reader| reader.text(255)),
            left_out: 0,
        });
        reader.nothing(3);
        assert_eq!(reader.at, bytes.len(), "nothing trails the record");
        NicInfo { nics, routes, dns }
    }
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

/// A guest with two adapters, both families and DNS, encoded by rpcgen from nicinfo.x.
fn example() -> NicInfo {
    let address = |text, origin| Address {
        prefix: prefix(text),
        origin: Some(origin),
        status: Status::Preferred,
    };
    let route = |destination, next_hop: Option<&str>, nic, metric| Route {
        destination: prefix(destination),
        next_hop: next_hop.map(|hop| hop.parse().unwrap()),
        nic,
        metric,
    };
    NicInfo {
        nics: vec![
            Nic {
                mac: MacAddr([0x00, 0x50, 0x56, 0xaa, 0xbb, 0x01]),
                addresses: vec![
                    address("10.20.30.41/24", Origin::Dhcp),
                    address("2001:db8:0:1::41/64", Origin::LinkLayer),
                    address("fe80::250:56ff:feaa:bb01/64", Origin::Other),
                ],
                dhcp4: None,
                dhcp6: None,
            },
            Nic {
                mac: MacAddr([0x00, 0x50, 0x56, 0xaa, 0xbb, 0x02]),
                addresses: vec![address("192.168.50.41/24", Origin::Manual)],
                dhcp4: None,
                dhcp6: None,
            },
        ],
        routes: vec![
            route("0.0.0.0/0", Some("10.20.30.1"), 0, 1024),
            route("10.20.30.0/24", None, 0, 1024),
            route("192.168.50.0/24", None, 1, 0),
            route("::/0", Some("fe80::1"), 0, 1024),
        ],
        dns: Some(Dns {
            host: Some("talos-cp-1".into()),
            domain: Some("example.org".into()),
            servers: vec!["10.20.30.2".parse().unwrap(), "2001:db8::53".parse().unwrap()],
            search: vec!["example.org".into()],
            left_out: 0,
        }),
    }
}

/// What rpcgen's code for nicinfo.x makes of that guest; sha256
/// 46673f7c4694eb5f38cbf7db4752ff9859907e4ea587ab5666436e47c59fb04a.
const EXAMPLE: &str = concat!(
    "0000000300000001000000020000001130303a35303a35363a61613a62623a30",
    "310000000000000300000001000000040a141e29000000180000000100000004",
    "0000000100000001000000020000001020010db8000000010000000000000041",
    "00000040000000010000000500000001000000010000000200000010fe800000",
    "00000000025056fffeaabb010000004000000001000000010000000100000001",
    "000000000000000000000000000000000000001130303a35303a35363a61613a",
    "62623a3032000000000000010000000100000004c0a832290000001800000001",
    "0000000200000001000000010000000000000000000000000000000000000004",
    "000000010000000400000000000000000000000100000001000000040a141e01",
    "00000000000000000000040000000001000000040a141e000000001800000000",
    "0000000000000000000004000000000100000004c0a832000000001800000000",
    "0000000100000000000000000000000200000010000000000000000000000000",
    "0000000000000000000000010000000200000010fe8000000000000000000000",
    "0000000100000000000000000000040000000001000000010000000a74616c6f",
    "732d63702d310000000000010000000b6578616d706c652e6f72670000000002",
    "00000001000000040a141e02000000020000001020010db80000000000000000",
    "00000053000000010000000b6578616d706c652e6f7267000000000000000000",
    "00000000",
);

#[test]
fn the_worked_example_byte_for_byte() {
    let (bytes, cut) = example().encode(Message::V3);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, EXAMPLE);
    assert!(cut.is_nothing());
    assert_eq!(Reader::record(&bytes, 2048), example());
}

#[test]
fn seventeen_adapters_lose_the_last_and_its_routes() {
    let nic = |index: u8| Nic {
        mac: MacAddr([0, 0x50, 0x56, 0, 0, index]),
        addresses: vec![],
        dhcp4: None,
        dhcp6: None,
    };
    let route = |nic| Route {
        destination: prefix("0.0.0.0/0"),
        next_hop: None,
        nic,
        metric: 0,
    };
    let info = NicInfo {
        nics: (0..17).map(nic).collect(),
        routes: vec![route(16), route(15)],
        dns: None,
    };
    let (bytes, cut) = info.encode(Message::V3);
    let decoded = Reader::record(&bytes, 2048);
    assert_eq!(decoded.nics, info.nics[..16]);
    assert_eq!(decoded.routes, [route(15)]);
    assert_eq!((cut.nics, cut.routes), (1, 1));
}

#[test]
fn a_crowded_adapter_does_not_displace_the_others() {
    let address = |index: u16| Address {
        prefix: Prefix::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index).into(), 64).unwrap(),
        origin: Some(Origin::LinkLayer),
        status: Status::Preferred,
    };
    let info = NicInfo {
        nics: vec![
            Nic {
                mac: MacAddr([0, 0x50, 0x56, 0, 0, 1]),
                addresses: (0..3000).map(address).collect(),
                dhcp4: None,
                dhcp6: None,
            },
            Nic {
                mac: MacAddr([0, 0x50, 0x56, 0, 0, 2]),
                addresses: (0..3).map(address).collect(),
                dhcp4: None,
                dhcp6: None,
            },
        ],
        ..NicInfo::default()
    };

    let (bytes, cut) = info.encode(Message::V3);
    let decoded = Reader::record(&bytes, 2048);
    assert!(
        bytes.len() <= MAX_RECORD && MAX_RECORD - bytes.len() < 44,
        "{}",
        bytes.len()
    );
    assert_eq!(decoded.nics[1], info.nics[1]);
    let kept = decoded.nics[0].addresses.len();
    assert_eq!(decoded.nics[0].addresses, info.nics[0].addresses[..kept]);
    assert_eq!(cut.addresses, 3000 - kept);

    let (bytes, cut) = info.encode(Message::V2);
    assert_eq!(Reader::record(&bytes, 64).nics[0].addresses.len(), 64);
    assert_eq!(cut.addresses, 3000 - 64);
}

#[test]
fn what_was_left_out_before_counts_as_cut() {
    let dns = Dns {
        search: vec!["example.org".into(); 12],
        left_out: 3,
        ..Dns::default()
    };
    let info = NicInfo {
        dns: Some(dns),
        ..NicInfo::default()
    };
    let (bytes, cut) = info.encode(Message::V3);
    assert_eq!(Reader::record(&bytes, 2048).dns.unwrap().search.len(), 10);
    assert_eq!(cut.dns, 2 + 3);
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6)
    ]
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    (any_ip(), 0u8..=32).prop_map(|(address, length)| Prefix { address, length })
}

fn any_address() -> impl Strategy<Value = Address> {
    let origin = prop_oneof![
        Just(Origin::Other),
        Just(Origin::Manual),
        Just(Origin::Dhcp),
        Just(Origin::LinkLayer),
        Just(Origin::Random)
    ];
    let status = prop_oneof![
        Just(Status::Preferred),
        Just(Status::Deprecated),
        Just(Status::Optimistic)
    ];
    (any_prefix(), option::of(origin), status).prop_map(|(prefix, origin, status)| Address {
        prefix,
        origin,
        status,
    })
}

fn any_nic() -> impl Strategy<Value = Nic> {
    // Most adapters have a handful of addresses, some a flood.
    let count = prop_oneof![9 => 0usize..6, 1 => 0usize..3000];
    let dhcp = (option::of(any::<bool>()), option::of(any::<bool>()));
    (any::<[u8; 6]>(), vec(any_address(), 6), count, dhcp).prop_map(|(mac, some, count, (dhcp4, dhcp6))| {
        Nic {
            mac: MacAddr(mac),
            addresses: some.into_iter().cycle().take(count).collect(),
            dhcp4,
            dhcp6,
        }
    })
}

fn any_dns() -> impl Strategy<Value = Dns> {
    let name = || "[a-z.]{0,12}".prop_flat_map(|name| prop_oneof![Just(name.clone()), Just(name.repeat(20))]);
    (
        option::of(name()),
        option::of(name()),
        vec(any_ip(), 0..24),
        vec(name(), 0..16),
    )
        .prop_map(|(host, domain, servers, search)| Dns {
            host,
            domain,
            servers,
            search,
            left_out: 0,
        })
}

prop_compose! {
    fn any_info()(
        nics in vec(any_nic(), 0..20),
        routes in vec((any_prefix(), option::of(any_ip()), 0usize..24, any::<u32>()), 0..140),
        dns in option::of(any_dns()),
    ) -> NicInfo {
        let routes = routes
            .into_iter()
            .map(|(destination, next_hop, nic, metric)| Route { destination, next_hop, nic, metric })
            .collect();
        NicInfo { nics, routes, dns }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any record fits, and what the decoder finds is the record without exactly what was counted as cut.
    #[test]
    fn any_record_fits_and_comes_back(info in any_info(), v2 in any::<bool>()) {
        let (message, ips) = if v2 { (Message::V2, 64) } else { (Message::V3, 2048) };
        let (bytes, cut) = info.encode(message);
        prop_assert!(bytes.len() + PREAMBLE <= rpci::MAX_REQUEST);
        let decoded = Reader::record(&bytes, ips);

        prop_assert_eq!(decoded.nics.len() + cut.nics, info.nics.len());
        for (got, wanted) in decoded.nics.iter().zip(&info.nics) {
            prop_assert_eq!(got.mac, wanted.mac);
            prop_assert!(wanted.addresses.starts_with(&got.addresses));
        }
        let count = |nics: &[Nic]| nics.iter().map(|nic| nic.addresses.len()).sum::<usize>();
        prop_assert_eq!(count(&decoded.nics) + cut.addresses, count(&info.nics));
        prop_assert_eq!(decoded.routes.len() + cut.routes, info.routes.len());
        prop_assert!(decoded.routes.iter().all(|route| route.nic < decoded.nics.len()));
        prop_assert_eq!(decoded.dns.is_some(), info.dns.is_some());
        if cut.is_nothing() {
            prop_assert_eq!(decoded, info);
        }
    }
}
