//! The worked examples of the protocol, byte for byte.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use talos_vmtoolsd::{
    backdoor::{InRegisters, OutRegisters, Registers},
    dispatch::Dispatch,
    message::{Channel, ChannelError, Protocol},
    rpci::{self, Request, Waker},
    tclo::{Command, Counters, Events, Feature, Next, Pace, Pump, Reply, StateChange},
};

use super::script::{CPT, DORECV, HB, OPEN_RPCI, OPEN_TCLO, RPCI, Row, SUCCESS, Script, TCLO};

const MAGIC: u32 = 0x564D_5868;

/// Any value, where the example has a dot.
const X: u32 = 0xBAD0_BAD0;

fn registers([eax, ebx, ecx, edx, esi, edi]: [u32; 6]) -> Registers {
    Registers {
        eax,
        ebx,
        ecx,
        edx,
        esi,
        edi,
    }
}

fn row(input: [u32; 6], output: [u32; 6]) -> Row {
    Row::Exchange(registers(input), registers(output))
}

#[test]
fn example_9_2_info_set_with_high_bandwidth() {
    let request = Request::info_set("ip", "10.0.0.5");
    assert_eq!(request.bytes().len(), 0x1F);
    let (high, low) = (0x1A2B_3C4D, 0x5E6F_7081);
    let mut script = Script::new([vec![
        row(
            [MAGIC, 0xC943_5052, 0x0000_001E, 0x0000_5658, 0, 0],
            [X, X, 0x0001_0000, 0x0003_0000, high, low],
        ),
        row(
            [MAGIC, 0x0000_001F, 0x0001_001E, 0x0003_5658, high, low],
            [X, X, 0x0081_0000, X, X, X],
        ),
        Row::Write(
            OutRegisters {
                eax: MAGIC,
                ebx: 0x0001_0000,
                edx: 0x0003_5659,
                edi: low,
                ebp: high,
            },
            b"info-set guestinfo.ip 10.0.0.5\0".to_vec(),
            0x0001_0000,
        ),
        row(
            [MAGIC, 0, 0x0003_001E, 0x0003_5658, high, low],
            [X, 0x0000_0002, 0x0083_0000, 0x0001_0000, X, X],
        ),
        Row::Read(
            InRegisters {
                eax: MAGIC,
                ebx: 0x0001_0000,
                edx: 0x0003_5659,
                esi: high,
                ebp: low,
            },
            2,
            vec![0x31, 0x20],
            0x0001_0000,
        ),
        row(
            [MAGIC, 0x0000_0001, 0x0005_001E, 0x0003_5658, high, low],
            [X, X, 0x0001_0000, X, X, X],
        ),
        row(
            [MAGIC, 0, 0x0006_001E, 0x0003_5658, high, low],
            [X, X, 0x0001_0000, X, X, X],
        ),
    ]]);
    let channel = Channel::open(&mut script, Protocol::Rpci, rpci::MAX_REPLY).unwrap();
    channel.send(&mut script, request.bytes()).unwrap();
    let mut reply = Vec::new();
    assert_eq!(channel.receive(&mut script, &mut reply), Ok(true));
    assert_eq!(rpci::Reply::parse(&reply), Some(rpci::Reply::Accepted(b"")));
    channel.close(&mut script);
    script.finish();
}

#[test]
fn example_9_3_log_with_low_bandwidth() {
    let (high, low) = (0x1A2B_3C4D, 0x5E6F_7081);
    let step = |ebx, ecx, output| row([MAGIC, ebx, ecx, 0x0003_5658, high, low], output);
    let mut script = Script::new([
        RPCI.open(OPEN_RPCI),
        vec![
            step(0x0000_0007, 0x0001_001E, [X, X, 0x0001_0000, X, X, X]),
            step(0x2067_6F6C, 0x0002_001E, [X, X, 0x0001_0000, X, X, X]),
            step(0x0079_6568, 0x0002_001E, [X, X, 0x0001_0000, X, X, X]),
            step(0, 0x0003_001E, [X, 0x0000_0002, 0x0003_0000, 0x0001_0000, X, X]),
            step(
                0x0000_0001,
                0x0004_001E,
                [X, 0x0000_2031, 0x0001_0000, 0x0002_0000, X, X],
            ),
            step(0x0000_0001, 0x0005_001E, [X, X, 0x0001_0000, X, X, X]),
        ],
    ]);
    let channel = Channel::open(&mut script, Protocol::Rpci, rpci::MAX_REPLY).unwrap();
    channel.send(&mut script, b"log hey").unwrap();
    let mut reply = Vec::new();
    assert_eq!(channel.receive(&mut script, &mut reply), Ok(true));
    assert_eq!(reply, b"1 ");
    script.finish();
}

fn pump(script: Script, features: Vec<Box<dyn Feature>>, now: Instant) -> Pump<Script> {
    let (_client, calls) = rpci::client(Waker::new().unwrap());
    Pump::new(
        script,
        Dispatch::new(features),
        calls,
        Events::new().0,
        Arc::new(Counters::new(now)),
        Pace::new(Duration::from_millis(500), now),
    )
}

#[test]
fn example_9_4_start_reset_and_ping() {
    let script = Script::new([
        TCLO.open(OPEN_TCLO),
        TCLO.send_size(0, 0x0081_0000),
        TCLO.recv_size(0x0083_0000, 1, 5),
        TCLO.read(5, &[0x72, 0x65, 0x73, 0x65, 0x74], 0x0001_0000),
        TCLO.recv_status(1, 0x0001_0000),
        RPCI.open(OPEN_RPCI),
        RPCI.calls(b"vmx.capability.unified_loop toolbox\0", b"1 "),
        TCLO.send_size(0xE, 0x0081_0000),
        TCLO.write(
            &[
                0x4F, 0x4B, 0x20, 0x41, 0x54, 0x52, 0x20, 0x74, 0x6F, 0x6F, 0x6C, 0x62, 0x6F, 0x78,
            ],
            0x0001_0000,
        ),
        TCLO.recv_size(0x0081_0000, 0, 0),
        TCLO.send_size(0, 0x0081_0000),
        TCLO.recv_size(0x0083_0000, 1, 4),
        TCLO.read(4, &[0x70, 0x69, 0x6E, 0x67], 0x0001_0000),
        TCLO.recv_status(1, 0x0001_0000),
        TCLO.send_size(3, 0x0081_0000),
        TCLO.write(&[0x4F, 0x4B, 0x20], 0x0001_0000),
        TCLO.nothing(),
    ]);
    let mut now = Instant::now();
    let mut pump = pump(script, Vec::new(), now);
    assert_eq!(pump.step(now), Next::Now, "a reply is sent without delay");
    let pause = Duration::from_millis(10);
    assert_eq!(pump.step(now), Next::Pause(pause));
    now += pause;
    assert_eq!(pump.step(now), Next::Now);
    // A ping does not restart fast polling.
    assert_eq!(pump.step(now), Next::Pause(2 * pause));
    std::mem::replace(pump.port(), Script::new([])).finish();
}

/// Reports the state change on the way of answering, as the example does.
struct Halt(tokio::sync::mpsc::UnboundedSender<StateChange>);

impl Feature for Halt {
    fn name(&self) -> &'static str {
        "halt"
    }

    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        let Command::StateChange(change) = command else {
            return None;
        };
        self.0.send(*change).unwrap();
        Some(Reply::ok())
    }
}

#[tokio::test]
async fn example_9_5_halt_with_state_change_report() {
    let script = Script::new([
        TCLO.open(OPEN_TCLO),
        TCLO.send_size(0, 0x0081_0000),
        TCLO.receives(&[0x4F, 0x53, 0x5F, 0x48, 0x61, 0x6C, 0x74]),
        // An answer that is owed goes before our own requests; hosts take either order.
        TCLO.sends(&[0x4F, 0x4B, 0x20]),
        TCLO.nothing(),
        RPCI.open(OPEN_RPCI),
        RPCI.calls(b"tools.os.statechange.status 1 1\0", &[0x31, 0x20]),
    ]);
    let now = Instant::now();
    let (client, calls) = rpci::client(Waker::new().unwrap());
    let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let mut pump = Pump::new(
        script,
        Dispatch::new(vec![Box::new(Halt(sender))]),
        calls,
        Events::new().0,
        Arc::new(Counters::new(now)),
        Pace::new(Duration::from_millis(500), now),
    );
    assert_eq!(pump.step(now), Next::Now);
    let change = changes.recv().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let report = format!("tools.os.statechange.status 1 {}", change.id());
        assert_eq!(report.len() + 1, 0x20);
        rpci::Rpci::call(&client, Request::text(report)).await
    });
    tokio::task::yield_now().await;
    assert!(matches!(pump.step(now), Next::Pause(_)));
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), Ok(Vec::new()));
    std::mem::replace(pump.port(), Script::new([])).finish();
}

#[test]
fn example_9_6_checkpoint_in_a_transfer_to_the_host() {
    let message = b"SetGuestInfo  7 123456\0";
    assert_eq!(message.len(), 0x17);
    let mut script = Script::new([
        RPCI.open(OPEN_RPCI),
        RPCI.send_size(0x17, 0x0081_0000),
        RPCI.write(message, 0x0010_0000),
        RPCI.send_size(0x17, 0x0081_0000),
        RPCI.write(message, 0x0001_0000),
    ]);
    let channel = Channel::open(&mut script, Protocol::Rpci, 100).unwrap();
    assert_eq!(channel.send(&mut script, message), Ok(()));
    script.finish();
}

#[test]
fn example_9_6_checkpoint_at_the_acknowledgement() {
    let mut script = Script::new([
        RPCI.open(OPEN_RPCI),
        RPCI.recv_size(0x0083_0000, 1, 10),
        RPCI.read(10, b"0123456789", SUCCESS),
        RPCI.recv_status(1, CPT),
        // The size may differ, and the first ten bytes are forgotten.
        RPCI.recv_size(SUCCESS | DORECV | HB, 1, 4),
        RPCI.read(4, b"abcd", SUCCESS),
        RPCI.recv_status(1, SUCCESS),
    ]);
    let channel = Channel::open(&mut script, Protocol::Rpci, 100).unwrap();
    let mut message = Vec::new();
    assert_eq!(channel.receive(&mut script, &mut message), Ok(true));
    assert_eq!(message, b"abcd");
    script.finish();
}

#[test]
fn example_9_7_an_oversized_message_is_refused() {
    let script = Script::new([
        TCLO.open(OPEN_TCLO),
        TCLO.send_size(0, SUCCESS | HB),
        TCLO.recv_size(0x0083_0000, 1, 0xFFFF_FFFF),
        TCLO.recv_word(0, 0xDEAD_0000, 7, 0),
        TCLO.close(),
        TCLO.open(OPEN_TCLO),
        TCLO.send_size(0, SUCCESS | HB),
        TCLO.nothing(),
    ]);
    let now = Instant::now();
    let mut pump = pump(script, Vec::new(), now);
    assert_eq!(pump.step(now), Next::Now, "the first reopening is at once");
    assert!(matches!(pump.step(now), Next::Pause(_)));
    std::mem::replace(pump.port(), Script::new([])).finish();

    let mut script = Script::new([
        TCLO.open(OPEN_TCLO),
        TCLO.recv_size(0x0083_0000, 1, 0xFFFF_FFFF),
        TCLO.recv_word(0, 0, 0, 0),
    ]);
    let channel = Channel::open(&mut script, Protocol::Tclo, 262_144).unwrap();
    let mut message = Vec::new();
    assert_eq!(
        channel.receive(&mut script, &mut message),
        Err(ChannelError::TooLarge {
            channel: 2,
            announced: 0xFFFF_FFFF,
            limit: 262_144
        })
    );
    assert_eq!(message.capacity(), 0, "nothing was allocated");
    script.finish();
}
