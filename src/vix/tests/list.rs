//! The property list: the worked example of the protocol notes, the reply of Debian's open-vm-tools 12.2.0 as it went over the wire, and
//! our own.

use super::*;

/// What the answer to the worked example's list looks like behind `OK 0 0 `.
const WORKED_EXAMPLE: &str = "lxEAAAIAAAAOAAAAVGFsb3MgdjEuMTIuMACoEQAAAgAAAAkAAAB0YWxvcy02NACZEQAAAgAAAAUAAABjcC0x\
     AJURAAABAAAABAAAAAEAAACWEQAAAQAAAAQAAAABAAAApxEAAAEAAAAEAAAAQAAAALwRAAADAAAAAQAAAAG9EQAAAwAAAAEAAAAA";

/// The property list of Debian's unmodified vmtoolsd 12.2.0, fetched with opcode 62 under a simulated host.
/// The names of the machine it ran on are replaced by others of the same length.
const OPEN_VM_TOOLS: &str = "lxEAAAIAAABXAAAATGludXggNi4xLjE1OC0xLWFtZDY0IERlYmlhbiBHTlUvTGludXggMTIgKGJvb2t3b3Jt\
     KSBEZWJpYW4gR05VL0xpbnV4IDEyIDEyIChib29rd29ybSkAqBEAAAIAAAAMAAAAZGViaWFuMTItNjQAnxEAAAIAAAANAAAAVk13YXJl\
     IFRvb2xzAJQRAAACAAAAFgAAADEyLjIuMCBidWlsZC0yMTIyMzA3NACZEQAAAgAAAAMAAABuMQCVEQAAAQAAAAQAAAABAAAAlhEAAAEA\
     AAAEAAAAAQAAAJgRAAACAAAAAQAAAADLAAAAAgAAAB4AAAAvdG1wL3Ztd2FyZS1yb290XzEwLTEyMzQ1Njc4OQCnEQAAAQAAAAQAAABA\
     AAAArREAAAIAAAAKAAAAL21udC9oZ2ZzALwRAAADAAAAAQAAAAC9EQAAAwAAAAEAAAAAvhEAAAMAAAABAAAAAL8RAAADAAAAAQAAAADA\
     EQAAAwAAAAEAAAAAwREAAAMAAAABAAAAAMIRAAADAAAAAQAAAADDEQAAAwAAAAEAAAAAxBEAAAMAAAABAAAAAMURAAADAAAAAQAAAADG\
     EQAAAwAAAAEAAAAAxxEAAAMAAAABAAAAAMgRAAADAAAAAQAAAADJEQAAAwAAAAEAAAAAyhEAAAMAAAABAAAAAMsRAAADAAAAAQAAAADM\
     EQAAAwAAAAEAAAAAzREAAAMAAAABAAAAAM4RAAADAAAAAQAAAADPEQAAAwAAAAEAAAAA0BEAAAMAAAABAAAAANERAAADAAAAAQAAAADS\
     EQAAAwAAAAEAAAAA0xEAAAMAAAABAAAAANQRAAADAAAAAQAAAADVEQAAAwAAAAEAAAAA1hEAAAMAAAABAAAAANcRAAADAAAAAQAAAADY\
     EQAAAwAAAAEAAAAA";

/// Largest payload of open-vm-tools: the TCLO reply buffer less the longest prefix.
const MAX_PAYLOAD: usize = 65444;

#[test]
fn the_worked_example_comes_out_byte_for_byte() {
    let mut list = PropertyList::default();
    list.string(4503, "Talos v1.12.0");
    list.string(4520, "talos-64");
    list.string(4505, "cp-1");
    list.integer(4501, 1);
    list.integer(4502, 1);
    list.integer(4519, 64);
    list.boolean(4540, true);
    list.boolean(4541, false);
    assert_eq!(list.bytes().len(), 138);

    let reply = Reply::Ok(reply(Code::Ok, &encode(&list), false)).encode();
    assert_eq!(reply.len(), 192);
    assert_eq!(reply, format!("OK 0 0 {WORKED_EXAMPLE}\0").into_bytes());
}

#[test]
fn the_encoder_writes_what_open_vm_tools_writes() {
    let captured = BASE64.decode(OPEN_VM_TOOLS).unwrap();
    let mut list = PropertyList::default();
    for (id, value) in read(&captured) {
        match value {
            Value::Integer(value) => list.integer(id, value),
            Value::Text(value) => list.string(id, &value),
            Value::Bool(value) => list.boolean(id, value != 0),
        }
    }
    assert_eq!(list.bytes(), captured);
}

#[test]
fn the_list_of_this_program_opens_nothing() {
    let text = |value: &str| Value::Text(value.into());
    let mut expected = vec![
        (4503, text("Talos v1.14.1")),
        (4520, text("other6xlinux-64")),
        (4511, text("talos-vmtoolsd")),
        (4500, text(concat!(env!("CARGO_PKG_VERSION"), " build-0"))),
        (4505, text("cp-1")),
        (4501, Value::Integer(1)),
        (4502, Value::Integer(1)),
        (4504, text("")),
        (4519, Value::Integer(64)),
    ];
    expected.extend(OPERATIONS.map(|operation| (operation, Value::Bool(1))));
    assert_eq!(list_in(&answer(&relayed(&GET_TOOLS_STATE), &state())), expected);
}

#[test]
fn the_list_has_the_order_of_open_vm_tools() {
    let ids = |list: Vec<(i32, Value)>| list.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let mut expected = ids(read(&BASE64.decode(OPEN_VM_TOOLS).unwrap()));
    // The directories for temporary files and shared folders, which do not exist here.
    expected.retain(|id| ![203, 4525].contains(id));
    assert_eq!(ids(read(state().properties().bytes())), expected);
}

#[test]
fn what_is_not_known_is_left_out() {
    let names = [4503, 4505, 4520];
    for unknown in [
        ToolsState::default(),
        ToolsState {
            host_name: Some(String::new()),
            os_short_name: Some("two\0strings".into()),
            os_full_name: Some("x".repeat(PropertyList::MAX_STRING + 1)),
            frozen: false,
        },
    ] {
        let list = list_in(&answer(&relayed(&GET_TOOLS_STATE), &unknown));
        assert!(list.iter().all(|(id, _)| !names.contains(id)), "{list:?}");
        assert_eq!(list.len(), 6 + OPERATIONS.count());
    }
}

#[test]
fn the_longest_facts_fit_by_far() {
    let longest = Some("ä".repeat(PropertyList::MAX_STRING / 2));
    let state = ToolsState {
        host_name: longest.clone(),
        os_short_name: longest.clone(),
        os_full_name: longest.clone(),
        frozen: false,
    };
    let answer = answer(&relayed(&GET_TOOLS_STATE), &state);
    assert!(answer.len() < MAX_PAYLOAD / 10, "{}", answer.len());
    let list = list_in(&answer);
    for id in [4503, 4505, 4520] {
        assert!(list.contains(&(id, Value::Text(longest.clone().unwrap()))));
    }
}

#[test]
fn the_properties_command_has_the_same_list_and_no_nul() {
    let with_nul = [tools_properties(&state()).as_slice(), b"\0"].concat();
    assert_eq!(with_nul, answer(&relayed(&GET_TOOLS_STATE), &state()));
}
