//! Rows 3 to 17 of the table of hostile input: one channel against a table of register exchanges.

use talos_vmtoolsd::message::{Channel, ChannelError, Protocol, Step};

use super::script::{CPT, DORECV, GARBAGE, HB, Name, OPEN_RPCI, RPCI, Row, SUCCESS, Script, refused};

const LIMIT: usize = 1000;

const CLOSED: u32 = 0x0004_0000;
const UNSENT: u32 = 0x0008_0000;
const POWEROFF: u32 = 0x0020_0000;
const TIMEOUT: u32 = 0x0040_0000;

/// Statuses of a step that failed for good.
const FAILURES: [u32; 6] = [0, CLOSED, UNSENT, POWEROFF, TIMEOUT, 0xFFEE_0000 & !CPT];

/// Runs `action` on a channel that OPEN gave, against exactly these rows.
fn on_channel<T>(
    rows: impl IntoIterator<Item = Vec<Row>>,
    action: impl FnOnce(&Channel, &mut Script) -> T,
) -> T {
    let opened = std::iter::once(RPCI.open(OPEN_RPCI));
    let mut script = Script::new(opened.chain(rows));
    let channel = Channel::open(&mut script, Protocol::Rpci, LIMIT).unwrap();
    let result = action(&channel, &mut script);
    script.finish();
    result
}

fn send(message: &[u8], rows: impl IntoIterator<Item = Vec<Row>>) -> Result<(), ChannelError> {
    on_channel(rows, |channel, script| channel.send(script, message))
}

fn receive(rows: impl IntoIterator<Item = Vec<Row>>) -> Result<Option<Vec<u8>>, ChannelError> {
    on_channel(rows, |channel, script| {
        let mut message = b"what was here before".to_vec();
        let received = channel.receive(script, &mut message)?;
        Ok(received.then_some(message))
    })
}

fn is_dead<T>(result: &Result<T, ChannelError>, at: Step) -> bool {
    matches!(result, Err(ChannelError::Dead { step, channel: 3, .. }) if *step == at)
}

fn is_checkpoints<T>(result: &Result<T, ChannelError>, at: Step) -> bool {
    matches!(result, Err(ChannelError::Checkpoints { step, .. }) if *step == at)
}

#[test]
fn row_03_open_is_tried_with_and_without_cookies() {
    let mut script = Script::new([refused(OPEN_RPCI), refused(0x4943_5052)]);
    let refusal = Channel::open(&mut script, Protocol::Rpci, LIMIT);
    assert!(matches!(
        refusal,
        Err(ChannelError::Refused {
            protocol: Protocol::Rpci,
            ..
        })
    ));
    script.finish();
}

#[test]
fn row_03_without_cookies_none_are_used() {
    // The answer to the second OPEN holds garbage where cookies would be.
    let bare = Name {
        id: 3,
        high: GARBAGE,
        low: GARBAGE,
    };
    let nameless = Name {
        id: 3,
        high: 0,
        low: 0,
    };
    let mut script = Script::new([
        refused(OPEN_RPCI),
        bare.open(0x4943_5052),
        nameless.sends(b"x"),
        nameless.close(),
    ]);
    let channel = Channel::open(&mut script, Protocol::Rpci, LIMIT).unwrap();
    assert_eq!(channel.send(&mut script, b"x"), Ok(()));
    channel.close(&mut script);
    script.finish();
}

#[test]
fn row_04_names_are_opaque() {
    for (id, high, low) in [
        (0, 0, 0),
        (0xFFFF, 0, 0),
        (0, u32::MAX, 0),
        (0xFFFF, u32::MAX, u32::MAX),
    ] {
        let name = Name { id, high, low };
        let mut script = Script::new([
            name.open(OPEN_RPCI),
            name.sends(b"log x\0"),
            name.receives(b"1 "),
            name.close(),
        ]);
        let channel = Channel::open(&mut script, Protocol::Rpci, LIMIT).unwrap();
        assert_eq!(channel.send(&mut script, b"log x\0"), Ok(()));
        assert_eq!(channel.receive(&mut script, &mut Vec::new()), Ok(true));
        channel.close(&mut script);
        script.finish();
    }
}

#[test]
fn row_05_a_failed_size_step_is_never_repeated() {
    for ecx in [0, CPT, CPT | HB, CLOSED, CPT | CLOSED] {
        let sent = send(b"hello", [RPCI.send_size(5, ecx)]);
        assert!(is_dead(&sent, Step::SendSize), "{sent:?}");
        assert!(sent.unwrap_err().is_unsent());
        let received = receive([RPCI.recv_size(ecx, 1, 5)]);
        assert!(is_dead(&received, Step::RecvSize), "{received:?}");
    }
}

#[test]
fn row_06_a_failed_payload_step_ends_the_channel() {
    for status in FAILURES {
        let sent = send(
            b"hello",
            [RPCI.send_size(5, SUCCESS | HB), RPCI.write(b"hello", status)],
        );
        assert!(is_dead(&sent, Step::SendPayload), "{status:#x} {sent:?}");
        assert!(!sent.unwrap_err().is_unsent());

        let sent = send(
            b"hello",
            [
                RPCI.send_size(5, SUCCESS),
                RPCI.send_word(u32::from_le_bytes(*b"hell"), SUCCESS),
                RPCI.send_word(u32::from(b'o'), status),
            ],
        );
        assert!(is_dead(&sent, Step::SendPayload), "{status:#x} {sent:?}");

        // A failed reception is given up with RECVPAYLOAD(0).
        let received = receive([
            RPCI.recv_size(SUCCESS | DORECV | HB, 1, 5),
            RPCI.read(5, b"hello", status),
            RPCI.recv_word(0, 0, 0, 0),
        ]);
        assert!(is_dead(&received, Step::RecvPayload), "{status:#x} {received:?}");

        let received = receive([
            RPCI.recv_size(SUCCESS | DORECV, 1, 5),
            RPCI.recv_word(1, SUCCESS, 2, u32::from_le_bytes(*b"hell")),
            RPCI.recv_word(1, status, 2, 0),
            RPCI.recv_word(0, 0, 0, 0),
        ]);
        assert!(is_dead(&received, Step::RecvPayload), "{status:#x} {received:?}");
    }
}

#[test]
fn row_06_a_checkpoint_restarts_the_operation() {
    for status in [CPT, CPT | CLOSED, CPT | POWEROFF | TIMEOUT] {
        let hell = u32::from_le_bytes(*b"hell");
        assert_eq!(
            send(
                b"hello",
                [
                    RPCI.send_size(5, SUCCESS),
                    RPCI.send_word(hell, SUCCESS),
                    RPCI.send_word(u32::from(b'o'), status),
                    // With the whole message.
                    RPCI.send_size(5, SUCCESS),
                    RPCI.send_word(hell, SUCCESS),
                    RPCI.send_word(u32::from(b'o'), SUCCESS),
                ]
            ),
            Ok(())
        );
        assert_eq!(
            receive([
                RPCI.recv_size(SUCCESS | DORECV, 1, 8),
                RPCI.recv_word(1, SUCCESS, 2, hell),
                RPCI.recv_word(1, status, 2, 0),
                RPCI.recv_size(SUCCESS | DORECV, 1, 4),
                RPCI.recv_word(1, SUCCESS, 2, hell),
                RPCI.recv_status(1, SUCCESS),
            ]),
            Ok(Some(b"hell".to_vec()))
        );
        assert_eq!(
            receive([
                RPCI.recv_size(SUCCESS | DORECV | HB, 1, 8),
                RPCI.read(8, b"half", status),
                RPCI.receives(b"hello"),
            ]),
            Ok(Some(b"hello".to_vec()))
        );
        // The message may be withdrawn at a checkpoint.
        assert_eq!(
            receive([
                RPCI.recv_size(SUCCESS | DORECV | HB, 1, 8),
                RPCI.read(8, b"half", status),
                RPCI.nothing(),
            ]),
            Ok(None)
        );
    }
}

#[test]
fn row_07_checkpoints_without_end() {
    // The first attempt and 16 more.
    let repeat = |rows: Vec<Row>| vec![rows; 17];
    let sent = send(
        b"hello",
        repeat([RPCI.send_size(5, SUCCESS | HB), RPCI.write(b"hello", CPT)].concat()),
    );
    assert!(is_checkpoints(&sent, Step::SendPayload), "{sent:?}");
    let sent = send(
        b"abc",
        repeat([RPCI.send_size(3, SUCCESS), RPCI.send_word(0x0063_6261, CPT)].concat()),
    );
    assert!(is_checkpoints(&sent, Step::SendPayload), "{sent:?}");
    let size = RPCI.recv_size(SUCCESS | DORECV | HB, 1, 3);
    let received = receive(repeat([size.clone(), RPCI.read(3, b"abc", CPT)].concat()));
    assert!(is_checkpoints(&received, Step::RecvPayload), "{received:?}");
    let received = receive(repeat(
        [size, RPCI.read(3, b"abc", SUCCESS), RPCI.recv_status(1, CPT)].concat(),
    ));
    assert!(is_checkpoints(&received, Step::RecvStatus), "{received:?}");
    let received = receive(repeat(
        [
            RPCI.recv_size(SUCCESS | DORECV, 1, 3),
            RPCI.recv_word(1, CPT, 2, 0),
        ]
        .concat(),
    ));
    assert!(is_checkpoints(&received, Step::RecvPayload), "{received:?}");
}

#[test]
fn row_07_as_many_checkpoints_as_allowed_are_survived() {
    let cancelled = [RPCI.send_size(5, SUCCESS | HB), RPCI.write(b"hello", CPT)].concat();
    let mut rows = vec![cancelled; 16];
    rows.push(RPCI.sends(b"hello"));
    assert_eq!(send(b"hello", rows), Ok(()));
}

#[test]
fn row_08_the_bandwidth_of_the_current_attempt_counts() {
    let hell = u32::from_le_bytes(*b"hell");
    let by_words = [RPCI.send_size(4, SUCCESS), RPCI.send_word(hell, SUCCESS)].concat();
    let at_once = [RPCI.send_size(4, SUCCESS | HB), RPCI.write(b"hell", CPT)].concat();
    assert_eq!(send(b"hell", [at_once, by_words]), Ok(()));
    let by_words = [RPCI.send_size(4, SUCCESS), RPCI.send_word(hell, CPT)].concat();
    assert_eq!(send(b"hell", [by_words, RPCI.sends(b"hell")]), Ok(()));
    assert_eq!(
        receive([
            RPCI.recv_size(SUCCESS | DORECV | HB, 1, 4),
            RPCI.read(4, b"hell", CPT),
            RPCI.recv_size(SUCCESS | DORECV, 1, 4),
            RPCI.recv_word(1, SUCCESS, 2, hell),
            RPCI.recv_status(1, SUCCESS),
        ]),
        Ok(Some(b"hell".to_vec()))
    );
    assert_eq!(
        receive([
            RPCI.recv_size(SUCCESS | DORECV, 1, 4),
            RPCI.recv_word(1, CPT, 2, hell),
            RPCI.receives(b"hell"),
        ]),
        Ok(Some(b"hell".to_vec()))
    );
}

#[test]
fn row_09_a_message_without_bytes_is_acknowledged() {
    for hb in [0, HB] {
        assert_eq!(
            receive([
                RPCI.recv_size(SUCCESS | DORECV | hb, 1, 0),
                RPCI.recv_status(1, SUCCESS)
            ]),
            Ok(Some(Vec::new()))
        );
        // And a message to the host without bytes has no payload step.
        assert_eq!(send(b"", [RPCI.send_size(0, SUCCESS | hb)]), Ok(()));
    }
}

#[test]
fn row_10_and_11_impossible_sizes_allocate_nothing() {
    for announced in [0xFFFF_FFFF, 0xFFFF_FFFE, 0x8000_0000, 0x7FFF_FFFF, 1001] {
        for hb in [0, HB] {
            let rows = [
                RPCI.recv_size(SUCCESS | DORECV | hb, 1, announced),
                RPCI.recv_word(0, 0, 0, 0),
            ];
            let (received, capacity) = on_channel(rows, |channel, script| {
                let mut message = Vec::new();
                (channel.receive(script, &mut message), message.capacity())
            });
            assert_eq!(
                received,
                Err(ChannelError::TooLarge {
                    channel: 3,
                    announced,
                    limit: LIMIT
                })
            );
            assert_eq!(capacity, 0);
        }
    }
    let largest = vec![b'x'; LIMIT];
    assert_eq!(receive([RPCI.receives(&largest)]), Ok(Some(largest)));
}

#[test]
fn row_12_wrong_types_end_the_channel() {
    for kind in [0, 2, 3, 0xFFFF] {
        let found = u16::try_from(kind).unwrap();
        let received = receive([
            RPCI.recv_size(SUCCESS | DORECV | HB, kind, 5),
            RPCI.recv_word(0, 0, 0, 0),
        ]);
        let (channel, step) = (3, Step::RecvSize);
        assert_eq!(received, Err(ChannelError::Type { channel, step, found }));
        // Without a payload there is only the status step to give up with.
        let received = receive([
            RPCI.recv_size(SUCCESS | DORECV | HB, kind, 0),
            RPCI.recv_status(0, 0),
        ]);
        assert_eq!(received, Err(ChannelError::Type { channel, step, found }));
    }
    for kind in [0, 1, 3, 0xFFFF] {
        let found = u16::try_from(kind).unwrap();
        let received = receive([
            RPCI.recv_size(SUCCESS | DORECV, 1, 5),
            RPCI.recv_word(1, SUCCESS, kind, 0),
            RPCI.recv_word(0, 0, 0, 0),
        ]);
        let (channel, step) = (3, Step::RecvPayload);
        assert_eq!(received, Err(ChannelError::Type { channel, step, found }));
    }
}

#[test]
fn row_13_the_last_word_is_cut() {
    for length in 1..=9_usize {
        let message = &b"123456789"[..length];
        let words: Vec<u32> = message
            .chunks(4)
            .map(|chunk| {
                let mut word = [0; 4];
                word[..chunk.len()].copy_from_slice(chunk);
                u32::from_le_bytes(word)
            })
            .collect();
        let size = u32::try_from(length).unwrap();
        let mut rows = vec![RPCI.send_size(size, SUCCESS)];
        rows.extend(words.iter().map(|word| RPCI.send_word(*word, SUCCESS)));
        assert_eq!(send(message, rows), Ok(()));

        let mut rows = vec![RPCI.recv_size(SUCCESS | DORECV, 1, size)];
        rows.extend(words.iter().enumerate().map(|(i, word)| {
            // Beyond the message the host leaves anything.
            let used = (length - 4 * i).min(4);
            let beyond = u32::MAX
                .checked_shl(u32::try_from(used).unwrap() * 8)
                .unwrap_or(0);
            RPCI.recv_word(1, SUCCESS, 2, word | beyond)
        }));
        rows.push(RPCI.recv_status(1, SUCCESS));
        assert_eq!(receive(rows), Ok(Some(message.to_vec())));
    }
}

#[test]
fn row_14_an_unacknowledged_message_is_not_delivered() {
    let fetched = [
        RPCI.recv_size(SUCCESS | DORECV | HB, 1, 5),
        RPCI.read(5, b"hello", SUCCESS),
    ]
    .concat();
    for status in FAILURES {
        let received = receive([
            fetched.clone(),
            RPCI.recv_status(1, status),
            RPCI.recv_status(0, 0),
        ]);
        assert!(is_dead(&received, Step::RecvStatus), "{received:?}");
    }
    // With a checkpoint the host hands it out again, and it is delivered once.
    assert_eq!(
        receive([fetched.clone(), RPCI.recv_status(1, CPT), RPCI.receives(b"hello")]),
        Ok(Some(b"hello".to_vec()))
    );
    // Or it does not.
    assert_eq!(
        receive([fetched, RPCI.recv_status(1, CPT), RPCI.nothing()]),
        Ok(None)
    );
}

#[test]
fn row_16_every_register_is_loaded_anew() {
    // Every answer of the script leaves garbage in the registers that mean nothing, the cookies' ones included; each row
    // states all registers on entry.
    let exchange = on_channel(
        [
            RPCI.sends(b"one"),
            RPCI.receives(b"1 "),
            RPCI.sends(b"two"),
            RPCI.receives(b"1 "),
        ],
        |channel, script| {
            let mut reply = Vec::new();
            channel.send(script, b"one")?;
            channel.receive(script, &mut reply)?;
            channel.send(script, b"two")?;
            channel.receive(script, &mut reply)
        },
    );
    assert_eq!(exchange, Ok(true));
}

#[test]
fn row_17_what_the_host_does_not_write_is_zero() {
    assert_eq!(
        receive([
            RPCI.recv_size(SUCCESS | DORECV | HB, 1, 12),
            RPCI.read(12, b"half", SUCCESS),
            RPCI.recv_status(1, SUCCESS),
        ]),
        Ok(Some(b"half\0\0\0\0\0\0\0\0".to_vec()))
    );
}
