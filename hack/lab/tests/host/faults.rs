//! Checkpoints, aborts and faults: worked examples 9.6 and 9.7.

use lab::vmx::{
    device::{Access, Outcome, Registers},
    host::{Checkpoint, Config, Host},
    transcript::Kind,
    view::ToolsStatus,
};

use crate::guest::{
    BUFFER, CLOSED, COOKIES, CPT, DORECV, Guest, HB, Opened, RPCI, SUCCESS, TCLO, arm, quiet, register,
};

#[test]
fn a_checkpoint_while_sending_starts_again_with_the_size() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    assert_eq!(guest.status(channel, 1, 7), SUCCESS | HB);
    assert_eq!(
        guest
            .host
            .with(|host, now| host.checkpoint(now, Checkpoint::Soft)),
        1
    );
    assert_eq!(guest.high_out(channel, b"log hey"), CPT);
    assert_eq!(guest.status(channel, 1, 7), SUCCESS | HB);
    assert_eq!(guest.high_out(channel, b"log hey"), SUCCESS);
    assert_eq!(guest.receive(channel).unwrap().unwrap(), b"1 ");
    assert_eq!(guest.count(Kind::Rpci), 1, "delivered once");
    guest.assert_no_violation();
}

#[test]
fn going_on_after_a_checkpoint_is_wrong() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    arm(&guest, "hbout status CPT");
    assert_eq!(guest.status(channel, 1, 7), SUCCESS | HB);
    assert_eq!(guest.high_out(channel, b"log hey"), CPT);
    assert_eq!(guest.high_out(channel, b"log hey"), 0);
    guest.assert_violations(&["unannounced"]);
}

#[test]
fn a_checkpoint_at_recvstatus_keeps_the_message() {
    for low in [true, false] {
        let mut guest = Guest::new(quiet());
        guest.only_low = low;
        let channel = guest.open(TCLO).unwrap();
        arm(&guest, "recvstatus tclo next 2 status CPT");
        assert_eq!(guest.status(channel, 1, 0), SUCCESS | HB);
        for expected in [CPT, CPT, SUCCESS] {
            let out = guest.step(channel, 3, 0);
            assert_eq!((out.rcx >> 16, out.rbx), (u64::from(SUCCESS | DORECV | HB), 5));
            guest.read_payload(channel, 5);
            assert_eq!(guest.memory.get(BUFFER, 5), b"reset");
            assert_eq!(guest.status(channel, 5, 1), expected);
        }
        guest.send(channel, b"OK ATR toolbox").unwrap();
        assert_eq!(guest.host.with(|host, _| host.counters.tclo_sent), 1, "sent once");
        guest.assert_no_violation();
    }
}

#[test]
fn checkpoints_strike_single_words_too() {
    let mut guest = Guest::new(Config {
        high_bandwidth: false,
        ..Config::default()
    });
    let channel = guest.open(RPCI).unwrap();
    arm(&guest, "sendpayload nth 2 status CPT");
    arm(&guest, "recvpayload nth 1 status CPT");
    assert_eq!(
        guest.rpc(channel, b"log hey").unwrap(),
        b"1 ",
        "the guest of this test starts again"
    );
    assert_eq!(guest.count(Kind::Fault), 2);
    guest.assert_no_violation();
}

#[test]
fn an_oversized_message_can_be_refused() {
    let mut guest = Guest::new(quiet());
    let channel = guest.open(TCLO).unwrap();
    arm(&guest, "recvsize size 0xFFFFFFFF");
    assert_eq!(guest.status(channel, 1, 0), SUCCESS | HB);
    let out = guest.step(channel, 3, 0);
    assert_eq!(
        (out.rcx, out.rdx, out.rbx),
        (0x0083_0000, 0x0001_0000, 0xFFFF_FFFF)
    );
    assert_eq!(guest.status(channel, 4, 0), SUCCESS);
    assert_eq!(guest.status(channel, 6, 0), SUCCESS);
    assert_eq!(guest.count(Kind::TcloAborted), 1);
    guest.assert_no_violation();
    let channel = guest.open(TCLO).unwrap();
    register(&mut guest, channel);
    guest.assert_no_violation();
}

#[test]
fn faults_answer_what_they_are_told() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    arm(&guest, "sendsize rpci next 2 status 0");
    assert_eq!(guest.status(channel, 1, 4), 0);
    assert_eq!(guest.status(channel, 1, 4), 0);
    assert_eq!(guest.status(channel, 1, 4), SUCCESS | HB, "used up");
    arm(&guest, "hbout status UNSENT|TIMEOUT");
    assert_eq!(guest.high_out(channel, b"abcd"), 0x48);
    arm(&guest, "recvsize type 7");
    guest.send(channel, b"log hey").unwrap();
    assert_eq!(guest.step(channel, 3, 0).rdx, 7 << 16);
    guest.assert_no_violation();

    arm(&guest, "hbin short 1");
    guest.memory.put(BUFFER, b"??");
    assert_eq!(guest.high_in(channel, 2), SUCCESS);
    assert_eq!(guest.memory.get(BUFFER, 2), b"1?");
    assert_eq!(guest.status(channel, 5, 1), SUCCESS);

    arm(&guest, "sendsize no-hb");
    assert_eq!(guest.status(channel, 1, 7), SUCCESS);
    assert_eq!(guest.high_out(channel, b"log hey"), 0);
    guest.assert_violations(&["high-not-offered"]);
}

#[test]
fn opens_can_be_refused_and_odd() {
    let mut guest = Guest::new(Config::default());
    arm(&guest, "open every status 0");
    for _ in 0..3 {
        assert_eq!(guest.open(RPCI | COOKIES), None);
    }
    guest.host.with(|host, _| host.faults.clear());
    arm(&guest, "open id 0xFFFF");
    arm(&guest, "open cookies 0 0");
    let odd = guest.open(RPCI | COOKIES).unwrap();
    assert_eq!(
        odd,
        Opened {
            id: 0xFFFF,
            high: 0,
            low: 0
        }
    );
    assert_eq!(guest.rpc(odd, b"log hey").unwrap(), b"1 ");
    arm(&guest, "open sigsegv");
    let mut registers = Registers {
        rax: 0x564D_5868,
        rbx: RPCI,
        rcx: 0x1E,
        rdx: 0x5658,
        ..Registers::default()
    };
    assert_eq!(guest.access(Access::Low, &mut registers), Outcome::Fault);
    guest.assert_no_violation();
}

#[test]
fn scrambled_registers_still_carry_the_answer() {
    let mut guest = Guest::new(Config::default());
    arm(&guest, "any every scramble");
    let channel = guest.open(RPCI | COOKIES).unwrap();
    assert_eq!(
        guest.rpc(channel, b"log hey").unwrap(),
        b"1 ",
        "the guest of this test masks what it reads"
    );
    let out = guest.step(channel, 3, 0);
    assert!(out.rcx >> 32 != 0 && out.rsi != u64::from(channel.high));
    guest.assert_no_violation();
}

#[test]
fn a_request_can_stay_without_reply() {
    let mut guest = Guest::new(Config::default());
    let channel = guest.open(RPCI).unwrap();
    arm(&guest, "hbout no-reply");
    guest.send(channel, b"log hey").unwrap();
    assert_eq!(guest.receive(channel).unwrap(), None);
    assert_eq!(
        guest.host.with(|host, _| host.rpci.log.len()),
        1,
        "it was carried out"
    );
    guest.assert_no_violation();
}

#[test]
fn lost_channels_fail_without_being_a_violation() {
    let mut guest = Guest::new(quiet());
    let tclo = guest.open(TCLO | COOKIES).unwrap();
    let rpci = guest.open(RPCI | COOKIES).unwrap();
    register(&mut guest, tclo);
    guest
        .host
        .with(|host, now| host.checkpoint(now, Checkpoint::Hard));
    assert_eq!(
        guest.host.with(|host, _| host.tools_status()),
        ToolsStatus::NotRunning
    );
    for channel in [tclo, rpci] {
        assert_eq!(guest.status(channel, 1, 0), CLOSED);
        assert_eq!(guest.status(channel, 3, 0), CLOSED);
        assert_eq!(guest.status(channel, 6, 0) & SUCCESS, 0);
    }
    guest.assert_no_violation();
    assert_eq!(guest.status(rpci, 1, 0), 0);
    guest.assert_violations(&["channel"]);
    let again = guest.open(TCLO | COOKIES).unwrap();
    assert_eq!(guest.poll(again).unwrap().unwrap(), b"reset");
}

#[test]
fn closing_one_protocol_leaves_the_other() {
    let mut guest = Guest::new(quiet());
    let tclo = guest.open(TCLO | COOKIES).unwrap();
    let rpci = guest.open(RPCI | COOKIES).unwrap();
    let closed = guest
        .host
        .with(|host, now| host.close_channels(now, Some(lab::vmx::backdoor::Protocol::Tclo)));
    assert_eq!(closed, 1);
    assert_eq!(guest.status(tclo, 1, 0), CLOSED);
    assert_eq!(guest.rpc(rpci, b"log hey").unwrap(), b"1 ");
    guest.assert_no_violation();
}

#[test]
fn vmotion_registers_again_without_power_on() {
    let mut guest = Guest::new(quiet());
    let channel = guest.open(TCLO | COOKIES).unwrap();
    register(&mut guest, channel);
    let rpci = guest.open(RPCI | COOKIES).unwrap();
    guest.rpc(rpci, b"tools.os.statechange.status 1 3\0").unwrap();
    assert_eq!(
        guest
            .host
            .with(|host, now| host.checkpoint(now, Checkpoint::Soft)),
        0,
        "nothing was in flight"
    );
    let asked = register(&mut guest, channel);
    assert_eq!(asked[0], "Capabilities_Register");
    assert!(!asked.iter().any(|command| command.starts_with("OS_")));
    guest.host.with(Host::resume);
    let asked = register(&mut guest, channel);
    assert_eq!(asked.last().unwrap(), "OS_Resume");
    guest.assert_no_violation();
}
