//! Rows 18 to 23: RPCI over one channel, with its one careful second try.

use std::time::{Duration, Instant};

use talos_vmtoolsd::rpci::{Connection, MAX_REPLY, MAX_REQUEST, Request, RpciError};

use super::script::{DORECV, HB, Name, OPEN_RPCI, RPCI, Row, SUCCESS, Script, refused};

/// The channel that the host gives after the first was closed.
const SECOND: Name = Name {
    id: 4,
    high: 0x1111_2222,
    low: 0x3333_4444,
};

const REQUEST: &[u8] = b"log x\0";

fn once() -> Request {
    Request::text("log x")
}

fn never() -> Request {
    once().at_most_once()
}

/// One call on a fresh connection against exactly these rows.
fn call(request: &Request, rows: impl IntoIterator<Item = Vec<Row>>) -> Result<Vec<u8>, RpciError> {
    let mut script = Script::new(rows);
    let answer = Connection::new().call(&mut script, request, Instant::now());
    script.finish();
    answer
}

fn first_try(rest: impl IntoIterator<Item = Vec<Row>>) -> Vec<Row> {
    let rest: Vec<Vec<Row>> = rest.into_iter().collect();
    [RPCI.open(OPEN_RPCI), rest.concat(), RPCI.close()].concat()
}

fn second_try(reply: &[u8]) -> Vec<Row> {
    [SECOND.open(OPEN_RPCI), SECOND.calls(REQUEST, reply)].concat()
}

fn is_channel(answer: &Result<Vec<u8>, RpciError>) -> bool {
    matches!(answer, Err(RpciError::Channel { command, .. }) if command == "log")
}

#[test]
fn the_channel_is_kept_between_calls() {
    let mut script = Script::new([
        RPCI.open(OPEN_RPCI),
        RPCI.calls(REQUEST, b"1 "),
        RPCI.calls(REQUEST, b"1 value"),
        RPCI.calls(REQUEST, b"0 No value found"),
        RPCI.close(),
    ]);
    let mut connection = Connection::new();
    let now = Instant::now();
    assert_eq!(connection.call(&mut script, &once(), now), Ok(Vec::new()));
    assert_eq!(connection.call(&mut script, &once(), now), Ok(b"value".to_vec()));
    assert_eq!(
        connection.call(&mut script, &once(), now),
        Err(RpciError::Refused {
            command: "log".into(),
            text: "No value found".into()
        })
    );
    connection.close(&mut script);
    connection.close(&mut script);
    script.finish();
}

#[test]
fn row_18_a_stale_reply_is_never_paired() {
    // The host still holds a reply from before: it comes first, and the real one is left over.
    let stale = || {
        first_try([
            RPCI.sends(REQUEST),
            RPCI.receives(b"1 stale"),
            RPCI.recv_size(SUCCESS | DORECV | HB, 1, 5),
        ])
    };
    assert_eq!(
        call(&once(), [stale(), second_try(b"1 real")]),
        Ok(b"real".to_vec())
    );
    assert!(is_channel(&call(&never(), [stale()])));
}

#[test]
fn row_19_no_reply_after_a_request() {
    let silent = || first_try([RPCI.sends(REQUEST), RPCI.nothing()]);
    assert_eq!(call(&once(), [silent(), second_try(b"1 ")]), Ok(Vec::new()));
    let again = [
        SECOND.open(OPEN_RPCI),
        SECOND.sends(REQUEST),
        SECOND.nothing(),
        SECOND.close(),
    ]
    .concat();
    assert!(is_channel(&call(&once(), [silent(), again])), "bounded");
    assert!(is_channel(&call(&never(), [silent()])));
}

#[test]
fn row_20_malformed_replies() {
    for reply in [
        b"".as_slice(),
        b"1",
        b"1x",
        b"2 x",
        b"10",
        b"\0\0\0",
        b"\xff\xfe\xfd",
    ] {
        let received = if reply.is_empty() {
            [
                RPCI.recv_size(SUCCESS | DORECV | HB, 1, 0),
                RPCI.recv_status(1, SUCCESS),
            ]
            .concat()
        } else {
            RPCI.receives(reply)
        };
        let malformed = || first_try([RPCI.sends(REQUEST), received.clone(), RPCI.nothing()]);
        let expected = RpciError::Malformed {
            command: "log".into(),
            length: reply.len(),
        };
        assert_eq!(call(&never(), [malformed()]), Err(expected));
        assert_eq!(call(&once(), [malformed(), second_try(b"1 ")]), Ok(Vec::new()));
    }
    // What is behind the prefix is raw.
    let raw = b"1 \0\xff\xfe\0";
    let rows = [RPCI.open(OPEN_RPCI), RPCI.calls(REQUEST, raw)];
    assert_eq!(call(&once(), rows), Ok(b"\0\xff\xfe\0".to_vec()));
    let rows = [RPCI.open(OPEN_RPCI), RPCI.calls(REQUEST, b"0 \xff bad\0")];
    assert!(matches!(call(&once(), rows), Err(RpciError::Refused { text, .. }) if text == "\u{fffd} bad"));
}

#[test]
fn row_21_a_reply_beyond_the_cap() {
    let announced = u32::try_from(MAX_REPLY).unwrap() + 1;
    let rows = first_try([
        RPCI.sends(REQUEST),
        RPCI.recv_size(SUCCESS | DORECV | HB, 1, announced),
        RPCI.recv_word(0, 0, 0, 0),
    ]);
    assert!(is_channel(&call(&once(), [rows])));
    let largest = [b"1 ".as_slice(), &vec![b'x'; MAX_REPLY - 2]].concat();
    let rows = [RPCI.open(OPEN_RPCI), RPCI.calls(REQUEST, &largest)];
    assert_eq!(call(&once(), rows).map(|value| value.len()), Ok(MAX_REPLY - 2));
}

#[test]
fn row_22_a_channel_closed_between_request_and_reply() {
    let closed = || first_try([RPCI.sends(REQUEST), RPCI.recv_size(0x0004_0000, 0, 0)]);
    assert_eq!(call(&once(), [closed(), second_try(b"1 ")]), Ok(Vec::new()));
    // The host may have executed it: not sent again.
    assert!(is_channel(&call(&never(), [closed()])));
    // And never more than once again.
    let again = [
        SECOND.open(OPEN_RPCI),
        SECOND.sends(REQUEST),
        SECOND.recv_size(0, 0, 0),
        SECOND.close(),
    ]
    .concat();
    assert!(is_channel(&call(&once(), [closed(), again])));
}

#[test]
fn row_22_a_payload_whose_fate_is_unknown_is_not_repeated() {
    let rows = first_try([RPCI.send_size(6, SUCCESS | HB), RPCI.write(REQUEST, 0)]);
    assert!(is_channel(&call(&never(), [rows])));
}

#[test]
fn row_23_cookies_of_another_time_cost_a_reopening() {
    for request in [once(), never()] {
        let mut script = Script::new([
            RPCI.open(OPEN_RPCI),
            RPCI.calls(REQUEST, b"1 "),
            // Reverted: the host does not know this channel. Nothing was sent, so even this request may go again.
            RPCI.send_size(6, 0),
            RPCI.close(),
            second_try(b"1 "),
        ]);
        let mut connection = Connection::new();
        let now = Instant::now();
        assert_eq!(connection.call(&mut script, &request, now), Ok(Vec::new()));
        assert_eq!(connection.call(&mut script, &request, now), Ok(Vec::new()));
        script.finish();
    }
}

#[test]
fn a_request_that_is_too_long_never_leaves() {
    let request = Request::raw(vec![b'x'; MAX_REQUEST + 1]);
    assert!(matches!(
        call(&request, [Vec::new()]),
        Err(RpciError::TooLarge { length: 65_537, .. })
    ));
}

#[test]
fn a_refused_channel_is_not_asked_for_at_every_call() {
    let no_channel = [refused(OPEN_RPCI), refused(0x4943_5052)].concat();
    let mut script = Script::new([
        no_channel.clone(),
        no_channel,
        RPCI.open(OPEN_RPCI),
        RPCI.calls(REQUEST, b"1 "),
    ]);
    let mut connection = Connection::new();
    let mut now = Instant::now();
    // The first failure and one more at once, then none for a second however many calls there are.
    for _ in 0..100 {
        assert!(is_channel(&connection.call(&mut script, &once(), now)));
    }
    now += Duration::from_millis(1300);
    assert_eq!(connection.call(&mut script, &once(), now), Ok(Vec::new()));
    script.finish();
}
