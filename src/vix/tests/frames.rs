//! Every opcode, and every way to break a frame.

use super::*;

#[test]
fn every_other_opcode_is_refused_with_3025() {
    let others = (0..=0x7ff).chain([i32::MIN, -1, i32::MAX]);
    for opcode in others.filter(|opcode| *opcode != 62) {
        // Longer than the fixed fields of any operation.
        let body = [0; 64];
        let text = relayed(&message(opcode, 0x0d, 0x100, &body, b""));
        assert_eq!(answer(&text, &state()), b"3025 0 \0", "opcode {opcode}");
        let binary = relayed(&message(opcode, 0x85, 0x100, &body, b""));
        assert_eq!(answer(&binary, &state()), b"3025 0 #", "opcode {opcode}");
    }
}

#[test]
fn an_operation_needs_its_fixed_fields_even_to_be_refused() {
    for opcode in (0..=300).map(Opcode) {
        let least = usize::try_from(opcode.least_body()).unwrap();
        let body = vec![0xff; least];
        let refused = answer(&relayed(&message(opcode.0, 0x0d, 0, &body, b"")), &state());
        if opcode != Opcode::GET_TOOLS_STATE {
            assert_eq!(refused, b"3025 0 \0", "{opcode}");
        }
        if let Some((_, short)) = body.split_last() {
            let short = message(opcode.0, 0x0d, 0, short, b"credentials do not count");
            assert_eq!(answer(&relayed(&short), &state()), b"10000 0 \0", "{opcode}");
        }
    }
}

#[test]
fn the_fixed_fields_have_the_sizes_of_the_protocol() {
    // Header and fixed fields.
    for (opcode, fixed) in [
        (4, 63),
        (46, 67),
        (62, 51),
        (84, 59),
        (116, 55),
        (177, 79),
        (178, 64),
        (179, 68),
        (181, 71),
        (183, 89),
        (185, 72),
        (186, 63),
        (188, 79),
        (189, 60),
        (197, 76),
        (207, 71),
        (998, 51),
    ] {
        assert_eq!(51 + Opcode(opcode).least_body(), fixed, "opcode {opcode}");
    }
    let short = message(185, 0x8d, 0, &[0; 20], b"");
    assert_eq!(answer(&relayed(&short), &state()), b"10000 0 #");
}

#[test]
fn real_guest_operations_are_refused() {
    let credentials = b"\x04\0\0\0\x04\0\0\0dXNlcgBwYXNzAA==\0";
    let list_processes = [0; 12];
    let mut list_files = vec![0; 28];
    list_files[4] = 4;
    list_files[16] = 50;
    list_files.extend_from_slice(b"/var\0");
    let mut start_program = vec![0; 21];
    start_program[1] = 10;
    start_program.extend_from_slice(b"/bin/true\0");
    for (opcode, body, total) in [
        (186, list_processes.as_slice(), 88),
        (177, &list_files, 109),
        (185, &start_program, 107),
    ] {
        let frame = message(opcode, 0x0d, 0x100, body, credentials);
        assert_eq!(frame.len(), total);
        assert_eq!(answer(&relayed(&frame), &state()), b"3025 0 \0");
    }
    // HGFS through VIX asks for the binary form.
    let hgfs = message(84, 0x85, 0, &[0; 76], credentials);
    assert_eq!(hgfs.len(), 152);
    assert_eq!(answer(&relayed(&hgfs), &state()), b"3025 0 #");
}

#[test]
fn every_broken_envelope_is_answered_10000() {
    let sound = relayed(&GET_TOOLS_STATE);
    assert!(Frame::parse(&sound).is_ok());
    let with_auth_data = |message: &[u8]| {
        let mut message = message.to_vec();
        message[27] = 0x10;
        message
    };
    let oversized = message(62, 0x0d, 0, &[0; 65536 - 51 + 1], b"");

    let broken: Vec<(Vec<u8>, FrameError)> = vec![
        (b"".to_vec(), FrameError::NoMessage),
        (b" ".to_vec(), FrameError::NoMessage),
        (b"\"".to_vec(), FrameError::NoMessage),
        (b" \"\"".to_vec(), FrameError::NoMessage),
        (b" \"x\"".to_vec(), FrameError::NoMessage),
        (b" \"x".to_vec(), FrameError::NoMessage),
        (b"\0".to_vec(), FrameError::NoName),
        (
            [b" \"x\0", GET_TOOLS_STATE.as_slice()].concat(),
            FrameError::NoName,
        ),
        (
            [b" x\"\0", GET_TOOLS_STATE.as_slice()].concat(),
            FrameError::NoName,
        ),
        (b" \"x\"\0".to_vec(), FrameError::Short { len: 0 }),
        (
            [b" \"a\0b\"\0", GET_TOOLS_STATE.as_slice()].concat(),
            FrameError::NoName,
        ),
        (
            relayed(&with_bytes(0, &[1, 0, 0x0d, 0xd1])),
            FrameError::Magic(0xd10d_0001),
        ),
        (relayed(&with_bytes(4, &[4])), FrameError::Version(4)),
        (relayed(&with_bytes(4, &[6])), FrameError::Version(6)),
        (relayed(&with_bytes(5, &[1])), FrameError::Version(0x0105)),
        (relayed(&with_bytes(10, &[0])), FrameError::HeaderLength(0)),
        (relayed(&with_bytes(10, &[23])), FrameError::HeaderLength(23)),
        (relayed(&with_bytes(10, &[50])), FrameError::HeaderLength(50)),
        (relayed(&with_bytes(10, &[52])), FrameError::HeaderLength(52)),
        (
            relayed(&with_bytes(10, &[0xff; 4])),
            FrameError::HeaderLength(u32::MAX),
        ),
        (relayed(&with_bytes(22, &[0x0c])), FrameError::NotARequest(0x0c)),
        (
            relayed(&with_bytes(6, &[50])),
            FrameError::Total { total: 50, parts: 51 },
        ),
        (
            relayed(&with_bytes(6, &[52])),
            FrameError::Total { total: 52, parts: 51 },
        ),
        (
            // In 32 bits the sum would be 51 again.
            relayed(&with_bytes(14, &[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0])),
            FrameError::Total {
                total: 51,
                parts: (1 << 32) + 51,
            },
        ),
        (
            relayed(&with_auth_data(&GET_TOOLS_STATE)),
            FrameError::Total { total: 51, parts: 95 },
        ),
        (relayed(&oversized), FrameError::TooLarge { total: 65537 }),
        (
            relayed(&message(62, 0x0d, 0, &[0; 9], b"")[..59]),
            FrameError::Truncated {
                total: 60,
                received: 59,
            },
        ),
    ];
    for (arguments, defect) in broken {
        assert_eq!(Frame::parse(&arguments), Err(defect));
        assert_eq!(answer(&arguments, &state()), b"10000 0 \0", "{defect}");
    }
    for len in 0..GET_TOOLS_STATE.len() {
        let arguments = relayed(&GET_TOOLS_STATE[..len]);
        assert_eq!(Frame::parse(&arguments), Err(FrameError::Short { len }));
        assert_eq!(answer(&arguments, &state()), b"10000 0 \0");
    }
}

#[test]
fn a_malformed_frame_is_twelve_bytes_on_the_wire() {
    assert_eq!(Reply::Ok(answer(b"", &state())).encode(), b"OK 10000 0 \0");
}

#[test]
fn a_sound_frame_is_served_whatever_surrounds_it() {
    let expected = answer(&relayed(&GET_TOOLS_STATE), &state());
    assert!(expected.starts_with(b"0 0 lxEAAAIAAAA"));
    let long_name = [b" \"".as_slice(), &[b'n'; 4096], b"\"\0"].concat();
    for name in [
        b" \"\"\0".as_slice(),
        b"\"1\"\0",
        b"  \"3d723429103dc253\"\0",
        b" \"%s%n\xff\xfe\"\0",
        b" \"1\" \0",
        &long_name,
    ] {
        let arguments = [name, &GET_TOOLS_STATE].concat();
        assert_eq!(answer(&arguments, &state()), expected);
    }
    for message in [
        // A request that asks for a property list.
        message(62, 0x41, 0, b"", b""),
        message(62, 0x0d, 0x100, b"body", b"no credentials at all"),
        message(62, 0x0d, 0x110, b"", b"\x04\0\0\0"),
        [GET_TOOLS_STATE.as_slice(), b"behind the total"].concat(),
        // The largest request.
        message(62, 0x0d, 0, &[0xff; 65536 - 51], b""),
    ] {
        assert_eq!(answer(&relayed(&message), &state()), expected);
    }
}

#[test]
fn the_binary_flag_chooses_the_form_of_the_answer() {
    let text = answer(&relayed(&GET_TOOLS_STATE), &state());
    let binary = answer(&relayed(&with_bytes(22, &[0x8d])), &state());
    let list = text.strip_prefix(b"0 0 ").unwrap().strip_suffix(b"\0").unwrap();
    assert_eq!(binary.strip_prefix(b"0 0 #").unwrap(), list);
}

#[test]
fn while_frozen_every_opcode_is_busy() {
    let frozen = ToolsState {
        frozen: true,
        ..state()
    };
    for opcode in [62, 84, 185, 998, -1] {
        assert_eq!(
            answer(&relayed(&message(opcode, 0x0d, 0, b"", b"")), &frozen),
            b"5 0 \0"
        );
    }
    assert_eq!(answer(b" \"1\"\0", &frozen), b"10000 0 \0");
}
