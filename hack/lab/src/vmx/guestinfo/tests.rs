//! The worked example of the format, open-vm-tools' own reports, and arbitrary bytes.

use proptest::prelude::*;

use super::{DecodeError, disk, nic, os, stats, text, uptime};

/// The record of a node with two adapters, four routes and a resolver, 548 bytes, as rpcgen's code encodes it.
const WORKED_EXAMPLE: &str = "
0000000300000001000000020000001130303a35303a35363a61613a62623a30
310000000000000300000001000000040a141e29000000180000000100000004
0000000100000001000000020000001020010db8000000010000000000000041
00000040000000010000000500000001000000010000000200000010fe800000
00000000025056fffeaabb010000004000000001000000010000000100000001
000000000000000000000000000000000000001130303a35303a35363a61613a
62623a3032000000000000010000000100000004c0a832290000001800000001
0000000200000001000000010000000000000000000000000000000000000004
000000010000000400000000000000000000000100000001000000040a141e01
00000000000000000000040000000001000000040a141e000000001800000000
0000000000000000000004000000000100000004c0a832000000001800000000
0000000100000000000000000000000200000010000000000000000000000000
0000000000000000000000010000000200000010fe8000000000000000000000
0000000100000000000000000000040000000001000000010000000a74616c6f
732d63702d310000000000010000000b6578616d706c652e6f72670000000002
00000001000000040a141e02000000020000001020010db80000000000000000
00000053000000010000000b6578616d706c652e6f7267000000000000000000
00000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn worked_example_decodes() {
    let record = bytes(WORKED_EXAMPLE);
    assert_eq!(record.len(), 548);
    let info = nic::decode(&record, nic::MAX_ADDRESSES_ID_10).unwrap();

    let addresses: Vec<Vec<String>> = info
        .adapters
        .iter()
        .map(|adapter| {
            let address = |a: &nic::Address| {
                format!(
                    "{}/{} {} {}",
                    a.ip,
                    a.prefix,
                    a.origin.unwrap_or("-"),
                    a.status.unwrap_or("-")
                )
            };
            adapter.addresses.iter().map(address).collect()
        })
        .collect();
    assert_eq!(
        addresses,
        [
            vec![
                "10.20.30.41/24 dhcp preferred",
                "2001:db8:0:1::41/64 linklayer preferred",
                "fe80::250:56ff:feaa:bb01/64 other preferred"
            ],
            vec!["192.168.50.41/24 manual preferred"],
        ]
    );
    assert_eq!(info.adapters[0].mac, "00:50:56:aa:bb:01");
    assert_eq!(info.adapters[1].mac, "00:50:56:aa:bb:02");

    let routes: Vec<String> = info
        .routes
        .iter()
        .map(|r| {
            let gateway = r.gateway.map_or("-".to_owned(), |gateway| gateway.to_string());
            format!(
                "{}/{} via {gateway} adapter {} metric {}",
                r.destination, r.prefix, r.adapter, r.metric
            )
        })
        .collect();
    assert_eq!(
        routes,
        [
            "0.0.0.0/0 via 10.20.30.1 adapter 0 metric 1024",
            "10.20.30.0/24 via - adapter 0 metric 1024",
            "192.168.50.0/24 via - adapter 1 metric 0",
            "::/0 via fe80::1 adapter 0 metric 1024",
        ]
    );

    let dns = info.dns.unwrap();
    assert_eq!(dns.host.as_deref(), Some("talos-cp-1"));
    assert_eq!(dns.domain.as_deref(), Some("example.org"));
    assert_eq!(dns.search, ["example.org"]);
    let servers: Vec<String> = dns.servers.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.20.30.2", "2001:db8::53"]);
    assert_eq!(info.wins, None);
    assert_eq!(info.dhcp, [None, None]);
}

#[test]
fn nic_record_is_read_to_the_last_bit() {
    let record = bytes(WORKED_EXAMPLE);
    for length in 0..record.len() {
        assert!(
            nic::decode(&record[..length], 64).is_err(),
            "the first {length} bytes decode"
        );
    }
    let mut longer = record.clone();
    longer.push(0);
    assert_eq!(nic::decode(&longer, 64), Err(DecodeError::Trailing { left: 1 }));

    let mut padded = record.clone();
    padded[0x21] = 1; // first of the three bytes after the first MAC
    assert_eq!(
        nic::decode(&padded, 64),
        Err(DecodeError::Padding { offset: 0x21 })
    );

    assert_eq!(
        nic::decode(&record, 2),
        Err(DecodeError::Limit {
            what: "addresses",
            value: 3,
            limit: 2
        }),
        "the limit belongs to the message id"
    );

    let mut no_such_adapter = record.clone();
    no_such_adapter[0x123] = 2; // adapter of the first route
    assert_eq!(
        nic::decode(&no_such_adapter, 64),
        Err(DecodeError::Value {
            what: "adapter of a route",
            value: 2
        })
    );

    let mut origin = record;
    origin[0x3f] = 3; // the origin that does not exist
    assert_eq!(
        nic::decode(&origin, 64),
        Err(DecodeError::Value {
            what: "origin",
            value: 3
        })
    );
}

#[test]
fn absurd_counts_are_refused_before_allocation() {
    let record = bytes("00000003 00000001 ffffffff");
    assert_eq!(
        nic::decode(&record, 64),
        Err(DecodeError::Limit {
            what: "adapters",
            value: u32::MAX,
            limit: 16
        })
    );
    let record = bytes("00000003 00000001 00000001 ffffffff");
    assert_eq!(
        nic::decode(&record, 64),
        Err(DecodeError::Limit {
            what: "MAC address",
            value: u32::MAX,
            limit: 18
        })
    );
}

fn os_report(short: &str, full: &str, properties: &str) -> Vec<u8> {
    let mut report = 1_u32.to_le_bytes().to_vec();
    report.extend(short.bytes());
    report.resize(4 + 129, 0);
    report.extend(full.bytes());
    report.resize(648, 0);
    report.extend(properties.bytes());
    report.push(0);
    report
}

#[test]
fn os_report_decodes() {
    let report = os_report(
        "other6xlinux-64",
        "Linux 6.18.45-talos Talos v1.14.0",
        r"architecture='X86' bitness='64' prettyName='Talos\'s \\ (v1.14.0)'",
    );
    let os = os::decode(&report).unwrap();
    assert_eq!(os.short_name, "other6xlinux-64");
    assert_eq!(os.full_name, "Linux 6.18.45-talos Talos v1.14.0");
    assert_eq!(os.properties["prettyName"], r"Talos's \ (v1.14.0)");
    assert_eq!(os.properties["architecture"], "X86");
    assert_eq!(os.properties.len(), 3);

    let mut dirty = report.clone();
    dirty[647] = 1;
    assert_eq!(os::decode(&dirty), Err(DecodeError::Padding { offset: 646 }));
    let mut dirty = report.clone();
    dirty[100] = b'x';
    assert_eq!(os::decode(&dirty), Err(DecodeError::Padding { offset: 4 + 15 }));
    let mut unterminated = report;
    unterminated.pop();
    assert!(os::decode(&unterminated).is_err());
}

#[test]
fn os_properties_have_one_grammar() {
    for wrong in [
        "bitness=64",
        "bitness='64",
        "bitness='64'  architecture='X86'",
        "bitness='64' ",
        "bitness='64'architecture='X86'",
        "='64'",
        "bitness='64' bitness='32'",
        r"bitness='6\4'",
    ] {
        assert!(
            os::decode(&os_report("a", "b", wrong)).is_err(),
            "{wrong:?} decodes"
        );
    }
    let longest = format!("prettyName='{}'", "x".repeat(1023 - 13));
    assert!(os::decode(&os_report("a", "b", &longest)).is_ok());
    let too_long = format!("prettyName='{}'", "x".repeat(1024 - 13));
    assert!(os::decode(&os_report("a", "b", &too_long)).is_err());
    assert!(
        os::decode(&os_report("a", "b", ""))
            .unwrap()
            .properties
            .is_empty()
    );
}

#[test]
fn disk_reports_decode() {
    let json = b"{\n\"version\":\"1\",\n\"disks\":[\n{\"name\":\"L3Zhcg==\",\"free\":\"21474836480\",\
        \"size\":\"42949672960\",\"fstype\":\"xfs\",\"devices\":[\"scsi0:0\"]},\n\
        {\"name\":\"L3N5c3RlbS9zdGF0ZQ==\",\"free\":\"94371840\",\"size\":\"104857600\"}\n]}\0";
    let disks = disk::decode_json(json).unwrap();
    assert_eq!(disks.len(), 2);
    assert_eq!(disks[0].mount_point, "/var");
    assert_eq!(disks[0].free, 20 << 30);
    assert_eq!(disks[0].devices, ["scsi0:0"]);
    assert_eq!(disks[1].mount_point, "/system/state");
    assert_eq!(disks[1].kind, None);

    for wrong in [
        &b"{\"version\":\"2\",\"disks\":[]}"[..],
        b"{\"version\":1,\"disks\":[]}",
        b"{\"version\":\"1\"}",
        b"{\"version\":\"1\",\"disks\":[{\"name\":\"L3Zhcg=\",\"free\":\"1\",\"size\":\"2\"}]}",
        b"{\"version\":\"1\",\"disks\":[{\"name\":\"L3Zhcg==\",\"free\":1,\"size\":\"2\"}]}",
        b"{\"version\":\"1\",\"disks\":[{\"name\":\"L3Zhcg==\",\"free\":\"3\",\"size\":\"2\"}]}",
    ] {
        assert!(
            disk::decode_json(wrong).is_err(),
            "{:?} decodes",
            String::from_utf8_lossy(wrong)
        );
    }

    let mut packed = vec![1];
    packed.extend((20_u64 << 30).to_le_bytes());
    packed.extend((40_u64 << 30).to_le_bytes());
    packed.extend(b"/var");
    packed.resize(1 + 116, 0);
    assert_eq!(disk::decode_v0(&packed).unwrap()[0].mount_point, "/var");
    packed.extend([0, 0]);
    assert!(
        disk::decode_v0(&packed).is_ok(),
        "open-vm-tools sends two bytes too many"
    );
    packed.push(0);
    assert_eq!(disk::decode_v0(&packed), Err(DecodeError::Trailing { left: 3 }));
}

#[test]
fn statistics_decode() {
    let mut report = bytes("05000000 01040000 24413d0000000000");
    report.resize(112, 0);
    report.extend(bytes(
        "ae000000 0a00 5f746f6f6c732f763100 0100 0b 0100 09 0200 0308 0200 0008",
    ));
    report.extend(bytes("ac000000 0100 0c 0100 09 0200 0388 0000"));
    report.extend(bytes("2c000000 0100 07 0100 0b 0200 4380"));
    report.extend(bytes("ac000000 0100 07 0100 0b 0200 4380 0400 00004841"));
    let decoded = stats::decode(&report).unwrap();
    assert_eq!(decoded.memory_total, 4_014_372);
    let values: Vec<_> = decoded.stats.iter().map(|stat| (stat.id, stat.value)).collect();
    assert_eq!(
        values,
        [(11, Some(2048.0)), (12, Some(0.0)), (7, None), (7, Some(12.5))]
    );

    report.pop();
    assert!(stats::decode(&report).is_err());
    // The first statistic has to carry the namespace.
    let mut report = bytes("05000000 01040000 24413d0000000000");
    report.resize(112, 0);
    report.extend(bytes("ac000000 0100 0c 0100 09 0200 0388 0000"));
    assert!(stats::decode(&report).is_err());
}

#[test]
fn texts_are_texts() {
    assert_eq!(text(b"talos-cp-1\0"), Ok("talos-cp-1"));
    assert_eq!(text(b"talos-cp-1"), Ok("talos-cp-1"));
    assert!(text(b"a\0b").is_err());
    assert!(text(b"a\0\0").is_err());
    assert!(text(b"\xff").is_err());
    assert_eq!(uptime(b"123456\0"), Ok(123_456));
    for wrong in [
        &b"0"[..],
        b"",
        b"-1",
        b"+1",
        b"1.5",
        b" 1",
        b"99999999999999999999999",
    ] {
        assert!(uptime(wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = nic::decode(&payload, nic::MAX_ADDRESSES_ID_10);
        let _ = os::decode(&payload);
        let _ = disk::decode_json(&payload);
        let _ = disk::decode_v0(&payload);
        let _ = stats::decode(&payload);
        let _ = text(&payload);
        let _ = uptime(&payload);
    }

    /// A mangled record either decodes or is refused; what decodes stays inside the format's limits.
    #[test]
    fn a_mangled_record_stays_bounded(at in 0_usize..548, value in any::<u8>()) {
        let mut record = bytes(WORKED_EXAMPLE);
        record[at] = value;
        if let Ok(info) = nic::decode(&record, nic::MAX_ADDRESSES_ID_10) {
            prop_assert!(info.adapters.len() <= 16 && info.routes.len() <= 100);
            prop_assert!(info.routes.iter().all(|route| (route.adapter as usize) < info.adapters.len()));
        }
    }

    /// Statistics in which only the data, not the frame, is arbitrary.
    #[test]
    fn statistics_with_any_data_are_bounded(data in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut report = vec![0; 112];
        report[0] = 5;
        report.extend(&data);
        if let Ok(decoded) = stats::decode(&report) {
            prop_assert!(decoded.stats.len() * 8 <= data.len());
        }
    }
}
