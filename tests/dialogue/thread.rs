//! The real thread, eventfd and clock, on the small host.

use std::time::Duration;

use talos_vmtoolsd::{
    rpci::{Request, Rpci},
    tclo::{Event, thread},
};
use tokio::time::timeout;

use super::host::Host;

/// For things that take milliseconds; long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_call_ends_the_poll_pause() {
    let (client, prepared) = thread::prepare().unwrap();
    let (running, mut events) = prepared
        .start(Host::default, Duration::from_secs(1), Vec::new())
        .unwrap();
    let connected = timeout(PATIENCE, events.recv()).await;
    assert_eq!(connected, Ok(Some(Event::Connected)));
    // Each would wait up to 1 s for the next poll: together far longer than the patience.
    let calls = async {
        for _ in 0..200 {
            assert_eq!(client.call(Request::text("log x")).await, Ok(Vec::new()));
        }
    };
    timeout(PATIENCE, calls).await.unwrap();
    assert!(running.counters().figures().calls == 200);
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_stop_answers_withdraws_and_closes() {
    let host = Host::asks(&["reset", "Capabilities_Register"]);
    let seen = host.seen.clone();
    let (client, prepared) = thread::prepare().unwrap();
    let (running, mut events) = prepared
        .start(move || host, Duration::from_secs(1), Vec::new())
        .unwrap();
    let registered = async {
        while let Some(event) = events.recv().await {
            if event == Event::Registered {
                break;
            }
        }
    };
    timeout(PATIENCE, registered).await.unwrap();
    assert!(running.stop().await);
    assert!(client.call(Request::text("log x")).await.is_err());
    let seen = seen.lock().unwrap();
    assert_eq!(seen.channels, 0);
    assert_eq!(seen.replies, [b"OK ATR toolbox".to_vec(), b"OK ".to_vec()]);
}
