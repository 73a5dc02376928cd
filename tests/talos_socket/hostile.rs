//! A peer that breaks HTTP/2 or gRPC, in mid-stream: what was known stays and is marked, each condition is one line,
//! and everything is known again once the peer behaves.

use talos_vmtoolsd::talos::client::VERSION as VERSION_CALL;
use tokio::net::UnixListener;

use super::{
    wire::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frame, GOAWAY, HEADERS, PING, PUSH_PROMISE,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, announce_most, frame,
    },
    *,
};

/// What a failure costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// The connection, and with it every watch.
    Connection,
    /// One watch.
    Watch,
}

impl Bench {
    /// What follows a node through a wire, with a log.
    fn on_wire(node: &Node, patience: Duration) -> (Self, node::Served, Wire) {
        let bench = Self::with(|socket| Settings {
            silence: patience,
            ..settings(socket, patience)
        });
        let back = bench.socket.with_file_name("node.sock");
        let served = node.serve(&back);
        let wire = Wire::new(&bench.socket, &back);
        (bench, served, wire)
    }
}

/// Breaks the frame that tells a new host name.
async fn survives(cost: Cost, mischief: impl Fn(&Frame) -> Fate + Send + 'static) {
    let log = Log::default();
    let _guard = log.capture();
    let node = Node::new();
    let (mut bench, _served, wire) = Bench::on_wire(&node, LIMIT);
    bench.complete().await;

    wire.arm(mischief);
    // Nothing mends the name before the test has looked at it.
    node.fail(HOSTNAMES, Fault::Status(Code::Internal, "not now"));
    node.put(ResourceType::Hostname, "hostname", &hostname("talos-2"));
    let stale = bench
        .until("marked", |now| {
            assert_eq!(
                addresses(now),
                ["eth0/10.5.0.2/24"],
                "what was known is never gone"
            );
            matches!(now.hostname, Fact::Stale { .. })
        })
        .await;
    assert_eq!(name(&stale), "talos-1", "the last truth");
    node.called(HOSTNAMES, 3).await;
    node.mend(HOSTNAMES);
    let recovered = bench.complete().await;
    assert_eq!(name(&recovered), "talos-2");

    let lost = usize::from(cost == Cost::Connection);
    assert_eq!(node.count(VERSION), 1 + lost, "connections");
    assert_eq!(log.count("Talos does not answer"), lost);
    assert_eq!(log.count("Talos answers"), lost);
    assert_eq!(log.count("a watch failed"), 1, "the refusals of the test");
    assert_eq!(log.count("watched again"), 1);
    bench.end().await;
}

/// A gRPC message in a DATA frame of the same stream: compression flag, announced length, bytes.
fn message(of: &Frame, compressed: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    let mut payload = vec![compressed];
    payload.extend(length.to_be_bytes());
    payload.extend(bytes);
    frame(DATA, 0, of.stream, &payload)
}

fn goaway(code: u32) -> Vec<u8> {
    let mut payload = 0_u32.to_be_bytes().to_vec();
    payload.extend(code.to_be_bytes());
    payload.extend(b"too_many_pings");
    frame(GOAWAY, 0, 0, &payload)
}

#[tokio::test]
async fn garbage_in_mid_stream() {
    survives(Cost::Connection, |_| Fate::Replace(vec![0xa5; 4096])).await;
}

#[tokio::test]
async fn half_a_frame_and_the_end() {
    survives(Cost::Connection, |it| {
        Fate::Close(it.bytes[..it.bytes.len() / 2].to_vec())
    })
    .await;
}

#[tokio::test]
async fn half_a_frame_header_and_the_end() {
    survives(Cost::Connection, |it| Fate::Close(it.bytes[..5].to_vec())).await;
}

#[tokio::test]
async fn a_goaway_that_disowns_every_stream() {
    // ENHANCE_YOUR_CALM, as grpc-go ends a client that pings too often.
    survives(Cost::Connection, |_| Fate::Close(goaway(11))).await;
}

#[tokio::test]
async fn a_goaway_on_a_connection_that_stays_open() {
    survives(Cost::Connection, |_| Fate::Silence(goaway(1))).await;
}

#[tokio::test]
async fn a_frame_of_16_mib() {
    survives(Cost::Connection, |it| {
        Fate::Silence(announce_most(DATA, it.stream))
    })
    .await;
}

#[tokio::test]
async fn a_header_block_of_16_mib() {
    survives(Cost::Connection, |it| {
        let mut bytes = frame(HEADERS, 0, it.stream, &[]);
        for _ in 0..1024 {
            bytes.extend(frame(CONTINUATION, 0, it.stream, &[0; 16 * 1024]));
        }
        Fate::Silence(bytes)
    })
    .await;
}

#[tokio::test]
async fn headers_that_are_no_hpack() {
    survives(Cost::Connection, |it| {
        Fate::Silence(frame(HEADERS, END_HEADERS, it.stream, &[0xff; 32]))
    })
    .await;
}

#[tokio::test]
async fn data_of_a_stream_that_nobody_opened() {
    survives(Cost::Connection, |_| {
        Fate::Silence(frame(DATA, 0, 9999, b"surprise"))
    })
    .await;
}

#[tokio::test]
async fn a_push_that_was_not_allowed() {
    survives(Cost::Connection, |it| {
        Fate::Silence(frame(PUSH_PROMISE, END_HEADERS, it.stream, &[0, 0, 0, 2, 0x82]))
    })
    .await;
}

#[tokio::test]
async fn a_window_beyond_the_largest() {
    survives(Cost::Connection, |_| {
        Fate::Silence(frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()))
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_ignores_the_window() {
    survives(Cost::Connection, |it| {
        let flood = vec![frame(DATA, 0, it.stream, &[0; 16 * 1024]); 1024];
        Fate::Silence(flood.concat())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset() {
    // INTERNAL_ERROR of one stream. tonic tells it like a broken connection, and so it is treated.
    survives(Cost::Connection, |it| {
        Fate::Replace(frame(RST_STREAM, 0, it.stream, &2_u32.to_be_bytes()))
    })
    .await;
}

#[tokio::test]
async fn a_message_of_4_gib_in_mid_stream() {
    survives(Cost::Watch, |it| {
        Fate::Replace(message(it, 0, u32::MAX, &[1, 2, 3]))
    })
    .await;
}

#[tokio::test]
async fn a_message_just_beyond_32_mib() {
    survives(Cost::Watch, |it| {
        Fate::Replace(message(it, 0, (32 << 20) + 1, &[]))
    })
    .await;
}

#[tokio::test]
async fn a_compressed_message_that_nobody_asked_for() {
    survives(Cost::Watch, |it| Fate::Replace(message(it, 1, 3, &[1, 2, 3]))).await;
}

#[tokio::test]
async fn a_message_that_is_no_protobuf() {
    survives(Cost::Watch, |it| Fate::Replace(message(it, 0, 3, &[0xff; 3]))).await;
}

#[tokio::test]
async fn an_event_whose_id_is_no_utf_8() {
    // WatchResponse.event > Event.resource > Resource.metadata > Metadata.id = ff fe.
    let id = [0x0a, 8, 0x0a, 6, 0x0a, 4, 0x1a, 2, 0xff, 0xfe];
    survives(Cost::Watch, move |it| Fate::Replace(message(it, 0, 10, &id))).await;
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message() {
    survives(Cost::Watch, |it| {
        let mut bytes = message(it, 0, 100, &[1, 2, 3]);
        bytes[4] = END_STREAM;
        Fate::Replace(bytes)
    })
    .await;
}

#[tokio::test]
async fn frames_that_mean_nothing_cost_nothing() {
    let node = Node::new();
    let (mut bench, _served, wire) = Bench::on_wire(&node, LIMIT);
    bench.complete().await;
    wire.arm(|it| {
        let mut bytes = frame(0xfa, 0xff, it.stream, b"a frame type of a later HTTP/2");
        for number in 0..1000_u64 {
            bytes.extend(frame(PING, 0, 0, &number.to_be_bytes()));
        }
        bytes.extend(&it.bytes);
        Fate::Replace(bytes)
    });
    node.put(ResourceType::Hostname, "hostname", &hostname("talos-2"));
    bench.until("the new name", |now| name(now) == "talos-2").await;
    assert_eq!(node.count(VERSION), 1, "the connection is the same");
    bench.end().await;
}

#[tokio::test]
async fn a_peer_that_takes_no_more_calls_is_left() {
    let node = Node::new();
    let (mut bench, _served, wire) = Bench::on_wire(&node, SHORT);
    bench.complete().await;
    // SETTINGS_MAX_CONCURRENT_STREAMS is 0: calls wait in the client for ever.
    wire.arm(|it| {
        let mut bytes = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0]);
        bytes.extend(&it.bytes);
        Fate::Silence(bytes)
    });
    node.put(ResourceType::Hostname, "hostname", &hostname("talos-2"));
    bench.until("the new name", |now| name(now) == "talos-2").await;
    let overdue = bench.client.shutdown(false).await.unwrap_err();
    assert!(overdue.to_string().contains("DeadlineExceeded"), "{overdue}");
    assert_eq!(bench.client.shutdown(false).await.unwrap(), "actor-1");
    assert_eq!(node.count(SHUTDOWN), 1, "the first one never left");
    bench.end().await;
}

#[tokio::test]
async fn half_an_answer_and_silence() {
    let node = Node::new();
    let (mut bench, _served, wire) = Bench::on_wire(&node, SHORT);
    // The first DATA frame is what Version answers.
    wire.arm(|it| Fate::Silence(it.bytes[..it.bytes.len() / 2].to_vec()));
    node.called(VERSION, 2).await;
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn half_an_event_and_silence_is_noticed() {
    let log = Log::default();
    let _guard = log.capture();
    let node = Node::new();
    let (mut bench, _served, wire) = Bench::on_wire(&node, SHORT);
    bench.complete().await;
    wire.arm(|it| Fate::Silence(it.bytes[..it.bytes.len() / 2].to_vec()));
    node.put(ResourceType::Hostname, "hostname", &hostname("talos-2"));
    // Watches are quiet on a quiet node, so nothing is missing: Talos is asked, and does not answer.
    bench
        .until("the new name", |now| is_complete(now) && name(now) == "talos-2")
        .await;
    assert_eq!(log.count("Talos does not answer"), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_call_that_hangs_alone_costs_no_connection() {
    let log = Log::default();
    let _guard = log.capture();
    let node = Node::new();
    // One filesystem that hangs holds the call up, and nothing else; so does a container runtime.
    node.fail(client::MOUNTS.path, Fault::Silence);
    node.fail(client::CONTAINERS.path, Fault::Silence);
    let mut bench = Bench::with_patience(SHORT);
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    bench.client.mounts().await.unwrap_err();
    bench.client.containers().await.unwrap_err();
    node.put(ResourceType::Hostname, "hostname", &hostname("talos-2"));
    bench.until("the new name", |now| name(now) == "talos-2").await;
    assert_eq!(node.count(LINKS), 1, "the watches stand");
    assert_eq!(log.count("Talos does not answer"), 0);
    bench.end().await;
}

#[tokio::test]
async fn two_hundred_mebibytes_are_not_taken() {
    let node = Node::new();
    node.fail(VERSION, Fault::Long);
    node.fail(client::MOUNTS.path, Fault::Long);
    node.fail(client::WATCH.path, Fault::Long);
    let mut bench = Bench::new();
    let _served = node.serve(&bench.socket);
    node.called(VERSION, 2).await;
    node.mend(VERSION);
    let connected = |now: &Snapshot| is_known(&now.version) && now.links == Fact::Unknown;
    bench.until("connected", connected).await;
    bench.client.mounts().await.unwrap_err();
    // What one answer can be written before the client has refused it: its window, and what is buffered on the way.
    let answers = u64::try_from(node.calls().len() + ResourceType::ALL.len()).unwrap();
    let most = answers * 512 * 1024;
    assert!(node.taken() < most, "{} bytes of at most {most}", node.taken());
    assert!(most < u64::from(node::LONG), "the bound says something");
    node.mend(client::WATCH.path);
    node.mend(client::MOUNTS.path);
    bench.complete().await;
    bench.end().await;
}

#[tokio::test]
async fn hostile_trailers() {
    let long = vec![b'x'; 8 * 1024];
    for trailers in [
        vec![],
        vec![("grpc-status", b"".to_vec())],
        vec![("grpc-status", b"seventeen".to_vec())],
        vec![("grpc-status", b"-1".to_vec())],
        vec![("grpc-status", b"99999999999999999999".to_vec())],
        vec![("grpc-status", vec![0xff, 0xfe])],
        // OK, and no message.
        vec![("grpc-status", b"0".to_vec())],
        vec![("grpc-status", b"5".to_vec()), ("grpc-status", b"0".to_vec())],
        vec![("grpc-status", b"13".to_vec()), ("grpc-message", b"%".to_vec())],
        vec![
            ("grpc-status", b"13".to_vec()),
            ("grpc-message", b"%ff%fe%0a%1b[2J".to_vec()),
        ],
        vec![("grpc-status", b"13".to_vec()), ("grpc-message", vec![0xff; 64])],
        vec![("grpc-status", b"13".to_vec()), ("grpc-message", long)],
        vec![
            ("grpc-status", b"7".to_vec()),
            ("grpc-status-details-bin", b"no base64 %%%".to_vec()),
        ],
    ] {
        let log = Log::default();
        let _guard = log.capture();
        let node = Node::new();
        node.fail(VERSION, Fault::Trailers(trailers.clone()));
        node.fail(client::WATCH.path, Fault::Trailers(trailers.clone()));
        let mut bench = Bench::new();
        let _served = node.serve(&bench.socket);
        node.called(VERSION, 3).await;
        assert_eq!(log.count("Talos does not answer"), 1, "{trailers:?}");
        node.mend(VERSION);
        let connected = |now: &Snapshot| is_known(&now.version);
        bench.until("connected", connected).await;
        node.mend(client::WATCH.path);
        bench.complete().await;
        bench.end().await;
    }
}

#[tokio::test]
async fn a_message_of_a_status_is_cut_in_what_is_kept() {
    let node = Node::new();
    let trailers = vec![
        ("grpc-status", b"13".to_vec()),
        ("grpc-message", vec![b'x'; 8 * 1024]),
    ];
    node.fail(VERSION, Fault::Trailers(trailers));
    let (_directory, socket) = directory();
    let _served = node.serve(&socket);
    let failed = Client::new(settings(&socket, LIMIT)).version().await.unwrap_err();
    let text = failed.to_string();
    assert!(text.starts_with(VERSION_CALL.path), "{text}");
    assert!(text.len() < 2048, "{} bytes", text.len());
}

#[tokio::test]
async fn garbage_from_the_first_byte_is_one_line() {
    let log = Log::default();
    let _guard = log.capture();
    let mut bench = Bench::new();
    let garbage = UnixListener::bind(&bench.socket).unwrap();
    for _ in 0..3 {
        let mut stream = accept(&garbage).await;
        // The peer may be gone before it has read everything.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    }
    log.until("Talos still does not answer", 2).await;
    std::fs::remove_file(&bench.socket).unwrap();
    drop(garbage);
    let node = Node::new();
    let _served = node.serve(&bench.socket);
    bench.complete().await;
    assert_eq!(log.count("Talos does not answer"), 1);
    assert_eq!(log.count("Talos answers"), 1);
    bench.end().await;
}
