//! Any bytes get an answer in bounds.

use proptest::prelude::*;

use super::*;

/// `<error> 0 ` and either `#` or a last NUL; no more memory than a list takes, whatever the request declared.
fn assert_grammar(answer: &Vec<u8>) {
    assert!(answer.capacity() <= 4096, "{} bytes", answer.capacity());
    let mut fields = answer.splitn(3, |byte| *byte == b' ');
    let code = std::str::from_utf8(fields.next().unwrap()).unwrap();
    assert!(["0", "5", "3025", "10000"].contains(&code), "error {code}");
    assert_eq!(fields.next(), Some(b"0".as_slice()));
    let payload = fields.next().unwrap();
    assert!(payload.starts_with(b"#") != payload.ends_with(b"\0"));
    let text = payload
        .strip_prefix(b"#")
        .or(payload.strip_suffix(b"\0"))
        .unwrap();
    assert_eq!(text.is_empty(), code != "0");
    assert!(BASE64.decode(text).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(arguments in prop::collection::vec(any::<u8>(), 0..400)) {
        assert_grammar(&answer(&arguments, &state()));
    }

    /// Whatever its number, its flags and its body, an operation that is not the tools state is refused.
    #[test]
    fn any_other_opcode_is_refused(
        opcode in prop_oneof![0_i32..=0x7ff, any::<i32>()].prop_filter("the one", |opcode| *opcode != 62),
        binary in any::<bool>(),
        flags in any::<u32>().prop_map(|flags| flags & !0x10),
        body in prop::collection::vec(any::<u8>(), 0..80),
        credentials in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let common = if binary { 0x8d } else { 0x0d };
        let request = relayed(&message(opcode, common, flags, &body, &credentials));
        let code = if body.len() < usize::try_from(Opcode(opcode).least_body()).unwrap() { "10000" } else { "3025" };
        let end = if binary { '#' } else { '\0' };
        prop_assert_eq!(answer(&request, &state()), format!("{code} 0 {end}").into_bytes());
    }

    #[test]
    fn any_message_behind_a_name_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        assert_grammar(&answer(&relayed(&bytes), &state()));
    }

    #[test]
    fn any_damage_to_a_sound_frame_is_answered(
        opcode in any::<i32>(),
        flags in any::<(u8, u32)>(),
        body in prop::collection::vec(any::<u8>(), 0..80),
        damage in prop::collection::vec((0_usize..60, any::<u8>()), 0..4),
        kept in 0_usize..200,
    ) {
        let mut message = message(opcode, flags.0, flags.1, &body, b"");
        for (offset, byte) in damage {
            if let Some(at) = message.get_mut(offset) {
                *at = byte;
            }
        }
        message.truncate(kept);
        assert_grammar(&answer(&relayed(&message), &state()));
    }

    #[test]
    fn no_sound_frame_gets_more_than_a_refusal(
        opcode in any::<i32>().prop_filter("the tools state", |opcode| *opcode != 62),
        flags in any::<(u8, u32)>(),
        body in prop::collection::vec(any::<u8>(), 64..200),
        credentials in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let message = message(opcode, flags.0 | 0x01, flags.1, &body, &credentials);
        let expected: &[u8] = if flags.0 & 0x80 == 0 { b"3025 0 \0" } else { b"3025 0 #" };
        prop_assert_eq!(answer(&relayed(&message), &state()), expected);
    }

    #[test]
    fn any_facts_make_a_list_that_can_be_read(facts in any::<[Option<String>; 3]>()) {
        let [host_name, os_short_name, os_full_name] = facts;
        let state = ToolsState { host_name, os_short_name, os_full_name, frozen: false };
        let list = list_in(&answer(&relayed(&GET_TOOLS_STATE), &state));
        prop_assert!(list.ends_with(&OPERATIONS.map(|id| (id, Value::Bool(1))).collect::<Vec<_>>()));
    }
}
