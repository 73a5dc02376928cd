//! The dispatcher against a host that is a closure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::tclo::StateChange;

/// A feature that counts its resets and answers one power request.
struct Power {
    resets: Arc<AtomicUsize>,
}

impl Feature for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn capabilities(&mut self) -> Vec<Request> {
        vec![
            Request::raw("tools.capability.statechange "),
            Request::text("tools.capability.hgfs_server toolbox 1"),
        ]
    }

    fn on_reset(&mut self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    fn handle(&mut self, command: &Command<'_>) -> Option<Reply> {
        matches!(command, Command::StateChange(StateChange::Halt)).then(Reply::ok)
    }
}

/// A dispatcher, the resets its feature saw, and what was asked of the host.
struct Bench {
    dispatch: Dispatch,
    resets: Arc<AtomicUsize>,
    now: Instant,
    asked: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let resets = Arc::new(AtomicUsize::new(0));
        let power = Power {
            resets: resets.clone(),
        };
        Self {
            dispatch: Dispatch::new(vec![Box::new(power)]),
            resets,
            now: Instant::now(),
            asked: Vec::new(),
        }
    }

    fn handle(&mut self, request: &[u8]) -> Handled {
        self.handle_with(request, |_| Ok(Vec::new()))
    }

    fn handle_with(
        &mut self,
        request: &[u8],
        mut host: impl FnMut(&Request) -> Result<Vec<u8>, RpciError>,
    ) -> Handled {
        let asked = &mut self.asked;
        self.dispatch.handle(request, self.now, &mut |request| {
            asked.push(request.bytes().escape_ascii().to_string());
            host(request)
        })
    }

    fn reply(&mut self, request: &[u8]) -> Vec<u8> {
        self.handle(request).reply.encode()
    }
}

fn refused(request: &Request) -> RpciError {
    RpciError::Refused {
        command: request.name(),
        text: "Unknown command".into(),
    }
}

fn lost(request: &Request) -> RpciError {
    RpciError::Channel {
        command: request.name(),
        reason: "gone".into(),
        unsent: true,
    }
}

#[test]
fn built_in_commands_have_their_replies() {
    let mut bench = Bench::new();
    assert_eq!(bench.reply(b"reset"), b"OK ATR toolbox");
    assert_eq!(bench.reply(b"ping"), b"OK ");
    assert_eq!(bench.reply(b"Capabilities_Register"), b"OK ");
    assert_eq!(bench.reply(b"Set_Option synctime 0"), b"OK ");
    assert_eq!(bench.reply(b"OS_Halt"), b"OK ");
    assert_eq!(bench.reply(b"OS_Reboot"), b"ERROR Unknown Command");
    assert_eq!(bench.reply(b"vmbackup.start"), b"ERROR Unknown Command");
    assert_eq!(bench.reply(b" \0"), b"ERROR Bad command");
    assert_eq!(bench.reply(b"Set_Option x"), b"ERROR Unknown or invalid option");
}

proptest! {
    #[test]
    fn any_request_has_one_reply(request in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bench = Bench::new();
        let reply = bench.reply(&request);
        prop_assert!(reply.starts_with(b"OK ") || reply.starts_with(b"ERROR "), "{reply:?}");
    }
}

#[test]
fn only_a_ping_leaves_the_pace_alone() {
    let mut bench = Bench::new();
    assert!(!bench.handle(b"ping").restarts_polling);
    for request in [
        "reset",
        "Capabilities_Register",
        "Set_Option a b",
        "OS_Halt",
        "nonsense",
        " ",
    ] {
        assert!(bench.handle(request.as_bytes()).restarts_polling, "{request}");
    }
}

#[test]
fn registration_is_complete_and_in_order() {
    let mut bench = Bench::new();
    bench.handle(b"reset");
    let handled = bench.handle(b"Capabilities_Register");
    assert_eq!(handled.event, Some(Event::Registered));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        bench.asked,
        [
            "vmx.capability.unified_loop toolbox\\x00".to_owned(),
            "tools.capability.statechange ".to_owned(),
            "tools.capability.hgfs_server toolbox 1\\x00".to_owned(),
            "tools.set.versiontype 2147483647 4\\x00".to_owned(),
            format!("info-set guestinfo.vmtools.description talos-vmtoolsd {version}\\x00"),
            format!("info-set guestinfo.vmtools.versionString {version}\\x00"),
            format!("SetGuestInfo  4 build-{version}\\x00"),
        ]
    );
}

#[test]
fn an_old_host_gets_the_version_without_its_type() {
    let mut bench = Bench::new();
    let handled = bench.handle_with(b"Capabilities_Register", |request| Err(refused(request)));
    assert_eq!(handled.event, Some(Event::Registered), "a refusal is never fatal");
    let versions: Vec<_> = bench
        .asked
        .iter()
        .filter(|asked| asked.starts_with("tools.set.version"))
        .collect();
    assert_eq!(
        versions,
        [
            "tools.set.versiontype 2147483647 4\\x00",
            "tools.set.version 2147483647\\x00"
        ]
    );
}

#[test]
fn row_27_a_reset_in_the_middle_of_registration() {
    let mut bench = Bench::new();
    bench.handle(b"reset");
    // The channel goes after two requests: the reply is sent, the registration is owed.
    let mut left = 2;
    let broken = bench.handle_with(b"Capabilities_Register", |request| {
        left -= 1;
        if left >= 0 {
            Ok(Vec::new())
        } else {
            Err(lost(request))
        }
    });
    assert_eq!((broken.reply, broken.event), (Reply::ok(), None));
    // A reset cancels what is owed: the host asks again.
    bench.handle(b"reset");
    bench.now += Duration::from_secs(60);
    let now = bench.now;
    let owed = bench
        .dispatch
        .finish_registration(now, &mut |_| panic!("nothing is owed"));
    assert_eq!(owed, None);
    assert_eq!(
        bench.handle(b"Capabilities_Register").event,
        Some(Event::Registered)
    );
}

#[test]
fn a_registration_that_broke_off_is_sent_again() {
    let mut bench = Bench::new();
    bench.handle(b"reset");
    bench.handle_with(b"Capabilities_Register", |request| Err(lost(request)));
    let soon = bench.now + Duration::from_millis(100);
    let early = bench
        .dispatch
        .finish_registration(soon, &mut |_| panic!("not due yet"));
    assert_eq!(early, None);
    let due = bench.now + REGISTRATION_RETRY;
    let mut asked = 0;
    let event = bench.dispatch.finish_registration(due, &mut |_| {
        asked += 1;
        Ok(Vec::new())
    });
    assert_eq!((event, asked), (Some(Event::Registered), 6));
}

#[test]
fn row_27_a_storm_of_resets_is_answered_and_announced_once() {
    let mut bench = Bench::new();
    for _ in 0..10_000 {
        assert_eq!(bench.reply(b"reset"), b"OK ATR toolbox");
    }
    assert_eq!(bench.asked.len(), 1);
    assert_eq!(bench.resets.load(Ordering::Relaxed), 10_000);
    bench.dispatch.on_silence();
    bench.handle(b"reset");
    assert_eq!(bench.asked.len(), 2, "a reset after silence is a new one");
}

#[test]
fn row_28_registration_can_be_repeated() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        assert_eq!(bench.reply(b"Capabilities_Register"), b"OK ");
    }
    assert_eq!(bench.dispatch.registered.len(), 1);
}

#[test]
fn withdrawal_covers_what_was_accepted() {
    let mut bench = Bench::new();
    bench.handle(b"Capabilities_Register");
    let mut asked = Vec::new();
    for _ in 0..2 {
        bench.dispatch.withdraw(&mut |request| {
            asked.push(request.bytes().to_vec());
            Ok(Vec::new())
        });
    }
    assert_eq!(asked, [b"tools.capability.hgfs_server toolbox 0\0".to_vec()]);
    let mut refusing = Bench::new();
    refusing.handle_with(b"Capabilities_Register", |request| Err(refused(request)));
    refusing
        .dispatch
        .withdraw(&mut |_| panic!("nothing was accepted"));
}
