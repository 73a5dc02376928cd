//! Row 29: VIX frames of any form, over the whole channel and in both bandwidths.

use std::time::Duration;

use talos_vmtoolsd::vix::{ToolsState, Vix};
use tokio::sync::watch;

use super::host::{Bench, Host};

const MAGIC: u32 = 0xd00d_0001;

/// A frame with these lengths in its header, whatever follows it.
fn frame(total: u32, header: u32, body: u32, opcode: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"Vix_1_Relayed_Command \"1\"\0".to_vec();
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend(5_u16.to_le_bytes());
    for word in [total, header, body, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.push(0x0d);
    bytes.extend(opcode.to_le_bytes());
    bytes.extend([0; 24]);
    bytes.extend(rest);
    bytes
}

#[test]
fn row_29_vix_frames_of_any_form_are_answered() {
    let whole = frame(51, 51, 0, 62, b"");
    assert_eq!(whole.len(), b"Vix_1_Relayed_Command \"1\"\0".len() + 51);
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (b"Vix_1_Relayed_Command".to_vec(), "OK 10000 0 "),
        (b"Vix_1_Relayed_Command ".to_vec(), "OK 10000 0 "),
        (b"Vix_1_Relayed_Command \"1".to_vec(), "OK 10000 0 "),
        (b"Vix_1_Relayed_Command \"1\"".to_vec(), "OK 10000 0 "),
        (b"Vix_1_Relayed_Command \"1\"\0".to_vec(), "OK 10000 0 "),
        (whole.clone(), "OK 0 0 "),
        // The header declares more than there is, and more than can be.
        (frame(52, 51, 1, 62, b""), "OK 10000 0 "),
        (frame(u32::MAX, 51, 0, 62, b""), "OK 10000 0 "),
        (frame(51, u32::MAX, 0, 62, b""), "OK 10000 0 "),
        (frame(51, 51, u32::MAX, 62, b""), "OK 10000 0 "),
        (frame(50, 51, u32::MAX, 62, b""), "OK 10000 0 "),
        (frame(0, 0, 0, 62, b""), "OK 10000 0 "),
        // No guest operation exists.
        (frame(51 + 64, 51, 64, 185, &[0; 64]), "OK 3025 0 "),
        (frame(51 + 64, 51, 64, u32::MAX, &[0; 64]), "OK 3025 0 "),
    ];
    // Cut after every byte of the header.
    let shortest = whole.len() - 51;
    cases.extend((shortest..whole.len()).map(|length| (whole[..length].to_vec(), "OK 10000 0 ")));
    for high_bandwidth in [true, false] {
        let mut host = Host::default();
        host.high_bandwidth = high_bandwidth;
        let (_state, facts) = watch::channel(ToolsState::default());
        let mut bench = Bench::with_features(host, vec![Box::new(Vix::new(facts))]);
        for (request, reply) in &cases {
            bench.host().ask(request.clone());
            bench.run(Duration::from_secs(1));
            let replies = std::mem::take(&mut bench.host().seen().replies);
            let [answered] = replies.as_slice() else {
                panic!("{} replies to {}", replies.len(), request.escape_ascii());
            };
            assert!(
                answered.starts_with(reply.as_bytes()),
                "{} to {}",
                answered.escape_ascii(),
                request.escape_ascii()
            );
        }
    }
}
