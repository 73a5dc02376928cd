use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use talos_vmtoolsd::pb::spec as pb;

use super::{
    super::{
        release::Release,
        schema::{self, cluster, network, runtime},
    },
    *,
};

/// Spaces and line ends in a vector are only for the reader.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|character| character.to_digit(16))
        .map(|digit| u8::try_from(digit).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn spec(kind: &str, release: Release, document: &Value) -> Spec {
    Spec::read(schema::find(kind, release).unwrap(), document, release).unwrap()
}

fn encoded(kind: &str, release: Release, document: &Value) -> Vec<u8> {
    spec(kind, release, document).encode()
}

#[test]
fn address_status_before_and_after_the_zero_rule() {
    let document = json!({
        "address": "10.5.0.2/24", "local": "10.5.0.2", "broadcast": "10.5.0.255", "linkIndex": 2,
        "linkName": "eth0", "family": "inet4", "scope": "global", "flags": "permanent",
    });
    let old = unhex(
        "0a080a040a050002101812060a040a0500021a060a040a0500ff22002a0030023a0465746830400248005080015800",
    );
    let new = unhex("0a080a040a050002101812060a040a0500021a060a040a0500ff30023a04657468304002508001");
    for release in Release::ALL {
        let expected = if release < Release::V1_12 { &old } else { &new };
        assert_eq!(
            &encoded(network::ADDRESS_STATUSES, release, &document),
            expected,
            "{release}"
        );
    }
}

#[test]
fn link_local_ipv6_address_status() {
    let document = json!({
        "address": "fe80::250:56ff:feab:cdef/64", "linkIndex": 2, "linkName": "eth0", "family": "inet6",
        "scope": "link", "flags": "permanent",
    });
    assert_eq!(
        encoded(network::ADDRESS_STATUSES, Release::V1_12, &document),
        unhex("0a140a10fe80000000000000025056fffeabcdef104030023a0465746830400a48fd01508001")
    );
}

fn vmxnet3() -> Value {
    json!({
        "index": 2, "type": "ether", "flags": "UP,BROADCAST,RUNNING,MULTICAST,LOWER_UP",
        "hardwareAddr": "00:50:56:ab:cd:ef", "permanentAddr": "00:50:56:ab:cd:ef",
        "broadcastAddr": "ff:ff:ff:ff:ff:ff", "mtu": 1500, "queueDisc": "mq", "operationalState": "up",
        "busPath": "0000:0b:00.0", "pciID": "15AD:07B0", "driver": "vmxnet3", "linkState": true,
        "speedMbit": 10000, "port": "TwistedPair", "duplex": "Full",
    })
}

#[test]
fn link_status_in_order_of_declaration() {
    let expected = unhex(
        "0802100120c3a0042a06005056abcdeff20106005056abcdef3206ffffffffffff38dc0b42026d7150066a0c30303030
         3a30623a30302e307209313541443a303742307a07766d786e657433b00101b801904ec80101",
    );
    assert_eq!(
        encoded(network::LINK_STATUSES, Release::V1_12, &vmxnet3()),
        expected
    );
    assert_eq!(
        encoded(network::LINK_STATUSES, Release::V1_14, &vmxnet3()),
        expected
    );
}

#[test]
fn link_status_of_the_old_habit_starts_with_an_empty_alias_and_carries_zero_messages() {
    let bytes = encoded(network::LINK_STATUSES, Release::V1_11, &vmxnet3());
    // Field 31, empty; then index 2.
    assert_eq!(&bytes[..5], unhex("fa01000802"));
    // Field 26, an all-zero VLAN.
    assert!(bytes.windows(7).any(|window| window == unhex("d2010408001000")));
    let link = pb::LinkStatus::decode(&*bytes).unwrap();
    assert_eq!(link.vlan, Some(pb::Vlan::default()));
    assert_eq!(link.permanent_addr, unhex("005056abcdef"));
}

#[test]
fn vlan_link_status() {
    let document =
        json!({ "index": 5, "kind": "vlan", "vlan": { "vlanID": 4000, "vlanProtocol": "802.1q" } });
    assert_eq!(
        encoded(network::LINK_STATUSES, Release::V1_13, &document),
        unhex("08055a04766c616ed2010708a01f10808202")
    );
    // The vector also has type 1.
    let document = json!({
        "index": 5, "type": 1, "kind": "vlan", "vlan": { "vlanID": 4000, "vlanProtocol": "802.1q" }
    });
    assert_eq!(
        encoded(network::LINK_STATUSES, Release::V1_13, &document),
        unhex("080510015a04766c616ed2010708a01f10808202")
    );
}

#[test]
fn hostname_status_with_and_without_domain() {
    let with = json!({ "hostname": "talos-cp-1", "domainname": "example.org" });
    let without = json!({ "hostname": "talos-cp-1" });
    for release in Release::ALL {
        let spec = spec(network::HOSTNAME_STATUSES, release, &with);
        assert_eq!(
            spec.encode(),
            unhex("0a0a74616c6f732d63702d31120b6578616d706c652e6f7267")
        );
        assert_eq!(spec.yaml(), "hostname: talos-cp-1\ndomainname: example.org\n");
        let zero = if release < Release::V1_12 { "1200" } else { "" };
        assert_eq!(
            encoded(network::HOSTNAME_STATUSES, release, &without),
            unhex(&format!("0a0a74616c6f732d63702d31{zero}"))
        );
    }
}

#[test]
fn machine_status_ready_and_not() {
    let ready = json!({ "stage": "running", "status": { "ready": true } });
    let waiting = json!({
        "stage": "running",
        "status": { "unmetConditions": [{ "name": "nodeReady", "reason": "x" }] },
    });
    for release in Release::ALL {
        assert_eq!(
            encoded(runtime::MACHINE_STATUSES, release, &ready),
            unhex("080412020801")
        );
        let expected = if release < Release::V1_12 {
            "080412120800120e0a096e6f64655265616479120178"
        } else {
            "08041210120e0a096e6f64655265616479120178"
        };
        assert_eq!(
            encoded(runtime::MACHINE_STATUSES, release, &waiting),
            unhex(expected)
        );
    }
}

#[test]
fn node_address_and_the_zero_prefix() {
    let document = json!({ "addresses": ["10.5.0.2/24"] });
    for release in Release::ALL {
        let zero = if release < Release::V1_12 { "1000" } else { "" };
        assert_eq!(
            encoded(network::NODE_ADDRESSES, release, &document),
            unhex(&format!("0a080a040a0500021018{zero}"))
        );
    }
    let old = encoded(network::ADDRESS_STATUSES, Release::V1_11, &json!({}));
    assert!(old.starts_with(&unhex("0a0b10ffffffffffffffffff01")));
    assert!(encoded(network::ADDRESS_STATUSES, Release::V1_12, &json!({})).is_empty());
    // An address with /0 keeps its address and drops the zero length on every release.
    assert!(
        encoded(
            network::ROUTE_STATUSES,
            Release::V1_14,
            &json!({ "dst": "10.0.0.0/0" })
        )
        .starts_with(&unhex("12060a040a000000"))
    );
}

#[test]
fn machine_type_is_encoded_by_generated_code() {
    for release in Release::ALL {
        assert!(encoded(cluster::MACHINE_TYPES, release, &json!({})).is_empty());
        let spec = spec(
            cluster::MACHINE_TYPES,
            release,
            &json!({ "machineType": "controlplane" }),
        );
        assert_eq!(spec.encode(), unhex("0802"));
        assert_eq!(spec.yaml(), "controlplane\n");
    }
}

#[test]
fn fields_of_later_releases_are_left_out() {
    let document = json!({ "dnsServers": ["10.5.0.1"], "nameServers": [{ "addr": "10.5.0.1" }] });
    let old = pb::ResolverStatus::decode(&*encoded(network::RESOLVER_STATUSES, Release::V1_13, &document));
    assert_eq!(old.unwrap().name_servers, []);
    let new = pb::ResolverStatus::decode(&*encoded(network::RESOLVER_STATUSES, Release::V1_14, &document));
    assert_eq!(new.unwrap().name_servers.len(), 1);
}

#[test]
fn mistakes_name_the_field() {
    let kind = schema::find(network::LINK_STATUSES, Release::V1_14).unwrap();
    for (document, expected) in [
        (json!({ "mut": 1500 }), "no field is called \"mut\""),
        (
            json!({ "mtu": "many" }),
            "mtu: expected a number of 0 or more, found \"many\"",
        ),
        (
            json!({ "hardwareAddr": "00:5" }),
            "hardwareAddr: expected a hardware address, found \"00:5\"",
        ),
        (
            json!({ "flags": "UP,SIDEWAYS" }),
            "flags: expected names joined by commas, or a number, found \"UP,SIDEWAYS\"",
        ),
        (json!(["mtu"]), "expected a map, found [\"mtu\"]"),
    ] {
        let error = Spec::read(kind, &document, Release::V1_14).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn yaml_prints_names_lists_and_nesting() {
    let document = json!({
        "address": "fd00::1/64", "linkIndex": 7, "linkName": "eth0", "family": "inet6", "scope": "site",
        "flags": "temporary,deprecated",
    });
    assert_eq!(
        spec(network::ADDRESS_STATUSES, Release::V1_14, &document).yaml(),
        "address: fd00::1/64\nlinkIndex: 7\nlinkName: eth0\nfamily: inet6\nscope: site\n\
         flags: temporary,deprecated\npriority: 0\n"
    );
    let document = json!({
        "stage": "shutting down",
        "status": { "unmetConditions": [{ "name": "time", "reason": "5" }] },
    });
    assert_eq!(
        spec(runtime::MACHINE_STATUSES, Release::V1_14, &document).yaml(),
        "stage: shutting down\nstatus:\n    ready: false\n    unmetConditions:\n        - name: time\n          \
         reason: \"5\"\n"
    );
}

/// Bytes and YAML of Talos's own code: `protoenc.Marshal` and `yaml.Marshal` over the structs of
/// `pkg/machinery` v1.11.0.
#[test]
fn specs_of_1_11_are_what_its_own_encoder_writes() {
    let check = |kind: &str, document: &Value, hex: &str, yaml: &str| {
        let spec = spec(kind, Release::V1_11, document);
        assert_eq!(spec.encode(), unhex(hex), "{kind}");
        assert_eq!(spec.yaml(), yaml, "{kind}");
    };
    check(
        network::LINK_STATUSES,
        &vmxnet3(),
        "fa010008021001180020c3a0042a06005056abcdeff20106005056abcdef3206ffffffffffff38dc0b42026d71480050065a00
         62006a0c303030303a30623a30302e307209313541443a303742307a07766d786e6574338201008a01009201009a0100a20100
         aa0100b00101b801904ec00100c80101d2010408001000da01080a02080012020800e201390800100018002000280030003800
         40004800500058006000680070007800800100880100900100980100a00100a80100b00100b80100c00100ea01080a00120018
         002000",
        "index: 2\ntype: ether\nlinkIndex: 0\nflags: UP,BROADCAST,RUNNING,MULTICAST,LOWER_UP\n\
         hardwareAddr: 00:50:56:ab:cd:ef\npermanentAddr: 00:50:56:ab:cd:ef\nbroadcastAddr: ff:ff:ff:ff:ff:ff\n\
         mtu: 1500\nqueueDisc: mq\noperationalState: up\nkind: \"\"\nslaveKind: \"\"\nbusPath: 0000:0b:00.0\n\
         pciID: 15AD:07B0\ndriver: vmxnet3\nlinkState: true\nspeedMbit: 10000\nport: TwistedPair\n\
         duplex: Full\n",
    );
    check(
        network::ROUTE_STATUSES,
        &json!({
            "family": "inet4", "gateway": "10.5.0.1", "outLinkIndex": 2, "outLinkName": "eth0", "table": "main",
            "priority": 1024, "type": "unicast", "protocol": "static",
        }),
        "0802120b10ffffffffffffffffff011a0022060a040a050001280232046574683038fe014080084800500158006004
         6800",
        "family: inet4\ndst: \"\"\nsrc: \"\"\ngateway: 10.5.0.1\noutLinkIndex: 2\noutLinkName: eth0\n\
         table: main\npriority: 1024\nscope: global\ntype: unicast\nflags: \"\"\nprotocol: static\n",
    );
    check(
        network::RESOLVER_STATUSES,
        &json!({ "dnsServers": ["10.5.0.53"], "searchDomains": ["example.org"] }),
        "0a060a040a050035120b6578616d706c652e6f7267",
        "dnsServers:\n    - 10.5.0.53\nsearchDomains:\n    - example.org\n",
    );
    check(
        runtime::SECURITY_STATES,
        &json!({ "selinuxState": "enabled, permissive", "bootedWithUKI": true }),
        "080012001a00200130002801",
        "secureBoot: false\nselinuxState: enabled, permissive\nbootedWithUKI: true\n",
    );
    check(
        runtime::MACHINE_STATUSES,
        &json!({ "stage": "running", "status": { "unmetConditions": [{ "name": "time", "reason": "5" }] } }),
        "0804120d080012090a0474696d65120135",
        "stage: running\nstatus:\n    ready: false\n    unmetConditions:\n        - name: time\n          \
         reason: \"5\"\n",
    );
    check(
        network::ADDRESS_SPECS,
        &json!({
            "address": "10.5.0.2/24", "linkName": "eth0", "family": "inet4", "flags": "permanent",
            "layer": "configuration",
        }),
        "0a080a040a050002101812046574683018022000288001300040003804",
        "address: 10.5.0.2/24\nlinkName: eth0\nfamily: inet4\nscope: global\nflags: permanent\n\
         layer: configuration\n",
    );
}

proptest! {
    /// What a reader decodes is what was put in, whichever habit wrote it.
    #[test]
    fn both_habits_mean_the_same(
        index: u32, mtu: u32, speed: i64, up: bool, kind in "[a-z]{0,8}", octets: [u8; 6], vid in 0u32..4096,
    ) {
        let mac = octets.map(|octet| format!("{octet:02x}")).join(":");
        let document = json!({
            "index": index, "mtu": mtu, "speedMbit": speed, "linkState": up, "kind": kind, "permanentAddr": mac,
            "vlan": { "vlanID": vid },
        });
        for release in Release::ALL {
            let link = pb::LinkStatus::decode(&*encoded(network::LINK_STATUSES, release, &document)).unwrap();
            prop_assert_eq!(link.index, index);
            prop_assert_eq!(link.mtu, mtu);
            prop_assert_eq!(link.link_state, up);
            prop_assert_eq!(&link.kind, &kind);
            prop_assert_eq!(&link.permanent_addr, &octets);
            prop_assert_eq!(link.vlan.unwrap_or_default().vid, vid);
        }
    }

    #[test]
    fn a_prefix_is_read_as_it_is_written(bits: u128, length in 0u8..=128) {
        let prefix = Prefix::new(IpAddr::V6(bits.into()), length).unwrap();
        prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
        prop_assert!(prefix.contains(prefix.address));
    }

    #[test]
    fn no_document_text_breaks_the_prefix_parser(text in ".{0,40}") {
        _ = text.parse::<Prefix>();
    }
}
