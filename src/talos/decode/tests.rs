//! The vectors are what Talos's own encoder (siderolabs/protoenc 0.2.1, 0.2.2 and 0.2.4) writes for these values.

use std::fmt::Debug;

use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn prefix_of(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

fn net_ip(bytes: &[u8]) -> common::NetIp {
    common::NetIp { ip: bytes.to_vec() }
}

fn net_prefix(bytes: &[u8], prefix_length: i32) -> common::NetIpPrefix {
    common::NetIpPrefix {
        ip: bytes.to_vec(),
        prefix_length,
    }
}

const MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 5, 0, 2];

#[test]
fn an_address_is_the_same_from_every_release() {
    let expected = AddressStatus {
        address: prefix_of("10.5.0.2/24"),
        link_name: "eth0".into(),
        scope: 0,
        flags: 128,
    };
    for (release, bytes) in [
        (
            "1.12 to 1.14",
            "0a080a040a050002101812060a040a0500021a060a040a0500ff30023a04657468304002508001",
        ),
        (
            "1.5 to 1.9",
            "0a080a040a050002101812060a040a0500021a060a040a0500ff22002a0030023a046574683040024800508001",
        ),
        (
            "1.10 and 1.11",
            "0a080a040a050002101812060a040a0500021a060a040a0500ff22002a0030023a046574683040024800508001\
             5800",
        ),
    ] {
        assert_eq!(address(&hex(bytes)).as_ref(), Ok(&expected), "{release}");
    }
}

#[test]
fn a_link_local_address() {
    let bytes = hex("0a140a10fe80000000000000025056fffeabcdef104030023a0465746830400a48fd01508001");
    let status = address(&bytes).unwrap();
    assert_eq!(status.address, prefix_of("fe80::250:56ff:feab:cdef/64"));
    assert_eq!(status.scope, 253);
    assert_eq!(status.link_name, "eth0");
}

#[test]
fn a_vmxnet3_adapter() {
    let bytes = hex(
        "0802100120c3a0042a06005056abcdeff20106005056abcdef3206ffffffffffff38dc0b42026d7150066a0c30303030\
         3a30623a30302e307209313541443a303742307a07766d786e657433b00101b801904ec80101",
    );
    let mac = HardwareAddr(vec![0x00, 0x50, 0x56, 0xab, 0xcd, 0xef]);
    let status = link(&bytes).unwrap();
    assert_eq!(
        status,
        LinkStatus {
            index: 2,
            link_type: 1,
            flags: 69699,
            hardware_addr: mac.clone(),
            permanent_addr: mac,
            operational_state: 6,
            link_state: true,
            driver: "vmxnet3".into(),
            bus_path: "0000:0b:00.0".into(),
            mtu: 1500,
            ..LinkStatus::default()
        }
    );
    assert!(status.is_physical());
}

#[test]
fn a_vlan_whose_id_is_a_varint() {
    let status = link(&hex("080510015a04766c616ed2010708a01f10808202")).unwrap();
    assert_eq!((status.index, status.kind.as_str()), (5, "vlan"));
    assert!(!status.is_physical());
    assert!(status.is_candidate());
}

#[test]
fn only_links_that_can_carry_addresses_of_an_adapter_are_candidates() {
    let kind = |kind: &str| LinkStatus {
        link_type: 1,
        kind: kind.into(),
        ..LinkStatus::default()
    };
    for kept in ["", "bond", "bridge", "team", "vlan"] {
        assert!(kind(kept).is_candidate(), "{kept}");
    }
    for dropped in [
        "veth",
        "vxlan",
        "dummy",
        "wireguard",
        "geneve",
        "tun",
        "ipvlan",
        "macvlan",
    ] {
        assert!(!kind(dropped).is_candidate(), "{dropped}");
    }
    let loopback = LinkStatus {
        link_type: 772,
        ..LinkStatus::default()
    };
    assert!(!loopback.is_candidate());
}

#[test]
fn a_name_with_and_without_domain() {
    let named = hostname(&hex("0a0a74616c6f732d63702d31120b6578616d706c652e6f7267")).unwrap();
    assert_eq!(
        (named.hostname.as_str(), named.domainname.as_str()),
        ("talos-cp-1", "example.org")
    );
    for short in ["0a0a74616c6f732d63702d31", "0a0a74616c6f732d63702d311200"] {
        let named = hostname(&hex(short)).unwrap();
        assert_eq!(
            (named.hostname.as_str(), named.domainname.as_str()),
            ("talos-cp-1", "")
        );
    }
    assert_eq!(hostname(&[]), Err(DecodeError::Missing { field: "hostname" }));
}

#[test]
fn a_name_that_is_no_utf_8_is_an_error() {
    // Field 1, three bytes that begin no character.
    let spec = b"\x0a\x03\xff\xfe\xfd";
    assert!(
        matches!(hostname(spec), Err(DecodeError::Protobuf(_))),
        "{:?}",
        hostname(spec)
    );
    assert!(nodename(spec).is_err());
}

#[test]
fn machine_stages() {
    let running = machine(&hex("080412020801")).unwrap();
    assert_eq!((running.stage, running.ready), (4, true));
    for bytes in [
        "08041210120e0a096e6f64655265616479120178",
        "080412120800120e0a096e6f64655265616479120178",
    ] {
        let waiting = machine(&hex(bytes)).unwrap();
        assert_eq!((waiting.stage, waiting.ready), (4, false));
        assert_eq!(
            waiting.unmet_conditions,
            [("nodeReady".to_owned(), "x".to_owned())]
        );
    }
    assert_eq!(
        machine(&hex("089a05")).unwrap().stage,
        666,
        "a stage that nobody knows is a number"
    );
}

#[test]
fn node_addresses_keep_their_order() {
    for bytes in ["0a080a040a0500021018", "0a080a040a05000210181000"] {
        assert_eq!(node_address(&hex(bytes)), Ok(vec![prefix_of("10.5.0.2/24")]));
    }
}

#[test]
fn node_ips_of_both_families_keep_their_order() {
    let address = |bytes: &[u8]| common::NetIp { ip: bytes.to_vec() };
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 5, 0, 3]);
    let six = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let spec = spec::NodeIp {
        // An address without bytes is none.
        addresses: vec![
            address(&six),
            address(&[]),
            address(&[10, 5, 0, 2]),
            address(&mapped),
        ],
    };
    let told = node_ip(&spec.encode_to_vec()).unwrap();
    let texts: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["2001:db8::1", "10.5.0.2", "10.5.0.3"]);
    assert_eq!(node_ip(&[]), Ok(vec![]));
    let five = spec::NodeIp {
        addresses: vec![address(&[10, 5, 0, 2, 0])],
    };
    assert_eq!(
        node_ip(&five.encode_to_vec()),
        Err(DecodeError::AddressLength {
            field: "addresses",
            length: 5
        })
    );
}

#[test]
fn the_zero_prefix_of_old_releases_is_no_prefix() {
    assert_eq!(node_address(&hex("0a0b10ffffffffffffffffff01")), Ok(vec![]));
    assert_eq!(
        address(&hex("0a0b10ffffffffffffffffff01")),
        Err(DecodeError::Missing { field: "address" })
    );
}

#[test]
fn a_length_that_is_absent_is_zero() {
    let bytes = spec::RouteStatus {
        destination: Some(net_prefix(&[0, 0, 0, 0], 0)),
        ..spec::RouteStatus::default()
    };
    assert!(route(&bytes.encode_to_vec()).unwrap().destination.is_default());
}

#[test]
fn impossible_lengths_are_errors() {
    for (ip, length) in [
        (&[10, 5, 0, 2][..], 33),
        (&[10, 5, 0, 2], -1),
        (&[0xfe; 16], 129),
        (&MAPPED, 95),
    ] {
        let bytes = spec::AddressStatus {
            address: Some(net_prefix(ip, length)),
            ..spec::AddressStatus::default()
        };
        assert!(
            matches!(
                address(&bytes.encode_to_vec()),
                Err(DecodeError::PrefixLength { field: "address", .. })
            ),
            "{length}"
        );
    }
    for length in [1, 3, 5, 15] {
        assert_eq!(
            ip_from_bytes("gateway", &vec![1; length]),
            Err(DecodeError::AddressLength {
                field: "gateway",
                length
            })
        );
    }
}

#[test]
fn mapped_and_zoned_addresses() {
    assert_eq!(
        ip("source", Some(net_ip(&MAPPED))),
        Ok(Some("10.5.0.2".parse().unwrap()))
    );
    assert_eq!(
        prefix("address", Some(net_prefix(&MAPPED, 120))),
        Ok(Some(prefix_of("10.5.0.2/24")))
    );
    let mut zoned = "fe80::1".parse::<Ipv6Addr>().unwrap().octets().to_vec();
    zoned.extend_from_slice(b"eth0");
    assert_eq!(
        ip("gateway", Some(net_ip(&zoned))),
        Ok(Some("fe80::1".parse().unwrap()))
    );
}

#[test]
fn our_side_of_a_point_to_point_link() {
    let bytes = spec::AddressStatus {
        address: Some(net_prefix(&[10, 0, 0, 1], 32)),
        local: Some(net_ip(&[10, 0, 0, 2])),
        ..spec::AddressStatus::default()
    };
    assert_eq!(
        address(&bytes.encode_to_vec()).unwrap().address,
        prefix_of("10.0.0.2/32")
    );
}

#[test]
fn default_routes_take_their_family_from_the_field_or_the_gateway() {
    let default = |family, gateway: &[u8], destination| {
        route(
            &spec::RouteStatus {
                family,
                destination,
                gateway: Some(net_ip(gateway)),
                table: 254,
                r#type: 1,
                ..spec::RouteStatus::default()
            }
            .encode_to_vec(),
        )
    };
    let four = default(2, &[10, 5, 0, 1], None).unwrap();
    assert_eq!(four.destination, prefix_of("0.0.0.0/0"));
    assert_eq!(four.gateway, Some("10.5.0.1".parse().unwrap()));
    assert!(four.is_main_unicast());
    // Talos up to 1.11.
    assert_eq!(
        default(10, &[], Some(net_prefix(&[], -1))).unwrap().destination,
        prefix_of("::/0")
    );
    assert_eq!(
        default(0, &[10, 5, 0, 1], None).unwrap().destination,
        prefix_of("0.0.0.0/0")
    );
    assert_eq!(default(0, &[], None), Err(DecodeError::Family { family: 0 }));
    assert_eq!(
        default(7, &[10, 5, 0, 1], None),
        Err(DecodeError::Family { family: 7 })
    );
}

#[test]
fn a_route_with_several_next_hops_takes_the_first() {
    let hop = |gateway: [u8; 4], link: &str| spec::RouteNextHop {
        gateway: Some(net_ip(&gateway)),
        out_link_name: link.into(),
        weight: 1,
    };
    let bytes = spec::RouteStatus {
        family: 2,
        next_hops: vec![hop([10, 0, 0, 1], "eth0"), hop([10, 0, 1, 1], "eth1")],
        ..spec::RouteStatus::default()
    };
    let route = route(&bytes.encode_to_vec()).unwrap();
    assert_eq!(
        (route.gateway, route.out_link_name.as_str()),
        (Some([10, 0, 0, 1].into()), "eth0")
    );
}

#[test]
fn name_servers_from_either_list() {
    let server: IpAddr = "10.5.0.53".parse().unwrap();
    let old = spec::ResolverStatus {
        dns_servers: vec![net_ip(&[10, 5, 0, 53])],
        search_domains: vec!["example.org".into()],
        name_servers: vec![],
    };
    assert_eq!(resolver(&old.encode_to_vec()).unwrap().dns_servers, [server]);
    let named = spec::NameServer {
        addr: Some(net_ip(&[10, 5, 0, 53])),
        ..spec::NameServer::default()
    };
    let both = spec::ResolverStatus {
        name_servers: vec![named.clone()],
        ..old
    };
    assert_eq!(resolver(&both.encode_to_vec()).unwrap().dns_servers, [server]);
    let new = spec::ResolverStatus {
        name_servers: vec![named],
        ..spec::ResolverStatus::default()
    };
    assert_eq!(resolver(&new.encode_to_vec()).unwrap().dns_servers, [server]);
}

#[test]
fn a_hardware_address_has_a_limit() {
    let bytes = |length| {
        spec::LinkStatus {
            hardware_addr: vec![1; length],
            ..spec::LinkStatus::default()
        }
        .encode_to_vec()
    };
    assert_eq!(link(&bytes(20)).unwrap().hardware_addr.0.len(), 20, "InfiniBand");
    assert!(link(&bytes(32)).is_ok());
    assert_eq!(
        link(&bytes(33)),
        Err(DecodeError::HardwareAddrLength {
            field: "hardware_addr",
            length: 33
        })
    );
}

#[test]
fn another_wire_type_is_an_error() {
    // Field 10 of LinkStatus (operational_state) as four bytes.
    assert!(matches!(link(&hex("5500000000")), Err(DecodeError::Protobuf(_))));
    // A name that is not UTF-8.
    assert!(matches!(
        hostname(&hex("0a02ff80")),
        Err(DecodeError::Protobuf(_))
    ));
}

/// Decodes to something or to an error, and what it decodes to can be shown.
fn holds<T: Debug>(decoded: &Result<T, DecodeError>) -> bool {
    match decoded {
        Ok(value) => !format!("{value:?}").is_empty(),
        Err(error) => !error.to_string().is_empty(),
    }
}

fn all_hold(bytes: &[u8]) -> bool {
    holds(&link(bytes))
        && holds(&address(bytes))
        && holds(&route(bytes))
        && holds(&node_address(bytes))
        && holds(&node_ip(bytes))
        && holds(&hostname(bytes))
        && holds(&resolver(bytes))
        && holds(&machine(bytes))
        && holds(&security(bytes))
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(all_hold(&bytes));
    }

    /// Well-formed fields with arbitrary numbers, types and contents, nested once.
    #[test]
    fn any_fields_are_a_value_or_an_error(
        fields in prop::collection::vec(
            (1u8..16, prop::collection::vec((1u8..4, prop::collection::vec(any::<u8>(), 0..20)), 0..3), any::<i8>()),
            0..8,
        ),
    ) {
        let mut bytes = Vec::new();
        for (number, inner, scalar) in fields {
            let mut nested = Vec::new();
            for (number, content) in inner {
                nested.extend([number << 3 | 2, u8::try_from(content.len()).unwrap()]);
                nested.extend(content);
            }
            if scalar < 0 {
                bytes.extend([number << 3, scalar.unsigned_abs() & 0x7f]);
            } else {
                bytes.extend([number << 3 | 2, u8::try_from(nested.len()).unwrap()]);
                bytes.extend(nested);
            }
        }
        prop_assert!(all_hold(&bytes));
    }

    #[test]
    fn every_possible_node_ip_is_read_back(
        octets in prop::collection::vec(prop_oneof![any::<[u8; 4]>().prop_map(Vec::from), any::<[u8; 16]>().prop_map(Vec::from)], 0..5),
    ) {
        let bytes = spec::NodeIp {
            addresses: octets.iter().map(|ip| common::NetIp { ip: ip.clone() }).collect(),
        };
        let told = node_ip(&bytes.encode_to_vec()).unwrap();
        let expected: Vec<IpAddr> = octets
            .iter()
            .map(|octets| match <[u8; 4]>::try_from(octets.as_slice()) {
                Ok(octets) => IpAddr::from(octets),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(octets.as_slice()).unwrap()).to_canonical(),
            })
            .collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn every_possible_prefix_is_read_back(octets in any::<[u8; 4]>(), length in 0u8..=32) {
        let bytes = spec::AddressStatus {
            address: Some(net_prefix(&octets, length.into())),
            ..spec::AddressStatus::default()
        };
        let status = address(&bytes.encode_to_vec()).unwrap();
        prop_assert_eq!(status.address, Prefix::new(octets.into(), length).unwrap());
    }
}

#[test]
fn who_asked_for_an_address_stands_in_the_id() {
    let spec = spec::AddressSpec {
        address: Some(common::NetIpPrefix {
            ip: vec![10, 5, 0, 40],
            prefix_length: 32,
        }),
        link_name: "eth0".into(),
    }
    .encode_to_vec();
    let origin = |id: &str| address_spec(id, &spec).unwrap().origin;
    assert_eq!(origin("dhcp4/eth0/eth0/10.5.0.40/32"), Origin::Dhcp4);
    assert_eq!(origin("dhcp6/eth0/eth0/10.5.0.40/32"), Origin::Dhcp6);
    assert_eq!(origin("vip/eth0/eth0/10.5.0.40/32"), Origin::Vip);
    assert_eq!(origin("configuration/eth0/10.5.0.40/32"), Origin::Configuration);
    assert_eq!(origin("platform/eth0/10.5.0.40/32"), Origin::Platform);
    assert_eq!(origin("cmdline/eth0/10.5.0.40/32"), Origin::Cmdline);
    assert_eq!(origin("default/lo/10.5.0.40/32"), Origin::Default);
    assert_eq!(origin("dhcp9/eth0/10.5.0.40/32"), Origin::Other);
    assert_eq!(
        address_spec("vip/eth0/x", &[]),
        Err(DecodeError::Missing { field: "address" })
    );
}

#[test]
fn a_mount_is_the_same_in_both_forms() {
    let new = spec::MountStatus {
        spec: Some(spec::MountRequest {
            volume_id: "EPHEMERAL".into(),
        }),
        target: "/var".into(),
        source: "/dev/sda6".into(),
        filesystem: 1,
        ..spec::MountStatus::default()
    };
    let old = spec::RuntimeMountStatus {
        source: "/dev/sda6".into(),
        target: "/var".into(),
        filesystem_type: "xfs".into(),
        ..spec::RuntimeMountStatus::default()
    };
    assert_eq!(
        mount(&new.encode_to_vec()).unwrap(),
        runtime_mount("EPHEMERAL", &old.encode_to_vec()).unwrap()
    );
    let detached = spec::MountStatus {
        detached: true,
        ..new
    };
    assert_eq!(mount(&detached.encode_to_vec()).unwrap().target, "");
}

#[test]
fn what_says_nothing_is_an_error_and_an_unknown_number_is_none() {
    assert_eq!(nodename(&[]), Err(DecodeError::Missing { field: "nodename" }));
    assert_eq!(boot_id(&[]), Err(DecodeError::Missing { field: "boot_id" }));
    assert_eq!(
        schematic(&[]),
        Err(DecodeError::Missing {
            field: "schematic_id"
        })
    );
    // machine_type 77, filesystem 99: a later Talos.
    assert_eq!(machine_type(&[0x08, 77]).unwrap().0, 77);
    assert_eq!(volume(&[0x50, 99]).unwrap().filesystem_name(), None);
    // Zero values up to 1.11 stand on the wire: phase 0, location "", size 0.
    assert_eq!(volume(&[0x08, 0, 0x12, 0, 0x48, 0]), volume(&[]));
    assert!(disk(&[0xff; 7]).is_err());
}

#[test]
fn labels_of_a_kubernetes_node_are_skipped() {
    // 1 nodename "n", 2 ready, 4 a label { "a": "b" }.
    let bytes = [0x0a, 1, b'n', 0x10, 1, 0x22, 6, 0x0a, 1, b'a', 0x12, 1, b'b'];
    let node = node_status(&bytes).unwrap();
    assert!(node.ready && !node.unschedulable);
}
