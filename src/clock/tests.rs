//! The task against a host whose clock is a number, on tokio's paused clock.

use std::sync::{
    Mutex,
    atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
};

use tokio::task::JoinSet;

use super::*;
use crate::{
    guestinfo::{Control, Key, StateKey},
    rpci::{Request, RpciError},
};

/// What the host was told, and whether it can be told anything.
#[derive(Default)]
struct Host {
    told: Mutex<Vec<String>>,
    away: Mutex<bool>,
}

impl Host {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Rpci for Host {
    async fn call(&self, request: Request) -> Result<Vec<u8>, RpciError> {
        if *self.away.lock().unwrap() {
            return Err(RpciError::Channel {
                command: request.name(),
                reason: "away".into(),
                unsent: true,
            });
        }
        let text = request.bytes().escape_ascii().to_string();
        self.told.lock().unwrap().push(text);
        Ok(Vec::new())
    }
}

/// An offset in microseconds that a test moves; counts the measurements.
#[derive(Clone, Default)]
struct Shifted(Arc<(AtomicI64, AtomicU32)>);

impl Meter for Shifted {
    async fn measure(&self) -> Result<Measured, AccessError> {
        self.0.1.fetch_add(1, Relaxed);
        Ok(Measured::Offset(Offset::from_micros(self.0.0.load(Relaxed))))
    }
}

struct Bench {
    _tasks: JoinSet<()>,
    host: Arc<Host>,
    meter: Shifted,
    trigger: Trigger,
    control: Control,
    last: channel::Receiver<Option<Measured>>,
}

fn start() -> Bench {
    let control = Control::default();
    let (host, meter, trigger) = (Arc::new(Host::default()), Shifted::default(), Trigger::default());
    let (clock, last) = Clock::new(
        Variable::new(host.clone(), Key::Talos(StateKey::ClockOffset), true, &control),
        meter.clone(),
        HostLog::silent(),
        trigger.clone(),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(clock.run(CancellationToken::new()));
    Bench {
        _tasks: tasks,
        host,
        meter,
        trigger,
        control,
        last,
    }
}

const EMPTY: &str = "info-set guestinfo.talos.clock-offset \\x00";

#[tokio::test(start_paused = true)]
async fn an_old_value_is_cleared_once_and_an_offset_published_when_it_passes_a_second() {
    let bench = start();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.host.told(), [EMPTY]);
    let looks = bench.meter.0.1.load(Relaxed);
    assert!((8..=13).contains(&looks), "{looks} looks in ten minutes");

    bench.meter.0.0.store(-5_000_000, Relaxed);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(
        bench.host.told(),
        ["info-set guestinfo.talos.clock-offset -5.0\\x00"]
    );
    assert_eq!(
        *bench.last.borrow(),
        Some(Measured::Offset(Offset::from_micros(-5_000_000)))
    );
    bench.meter.0.0.store(0, Relaxed);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(bench.host.told(), [EMPTY]);
}

#[tokio::test(start_paused = true)]
async fn an_interruption_is_measured_and_told_at_once() {
    let bench = start();
    sleep(Duration::from_secs(1)).await;
    bench.host.told();
    bench.meter.0.0.store(7_200_000_000, Relaxed);
    bench.trigger.interrupted();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        bench.host.told(),
        ["info-set guestinfo.talos.clock-offset +7200.0\\x00"]
    );
    bench.trigger.interrupted();
    sleep(Duration::from_millis(1)).await;
    assert!(bench.host.told().is_empty(), "it has not changed");
    // The host may have forgotten it.
    bench.control.forget();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        bench.host.told(),
        ["info-set guestinfo.talos.clock-offset +7200.0\\x00"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_is_told_when_it_is_back() {
    let bench = start();
    *bench.host.away.lock().unwrap() = true;
    sleep(Duration::from_secs(30)).await;
    assert!(bench.host.told().is_empty());
    *bench.host.away.lock().unwrap() = false;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.host.told(), [EMPTY]);
}
