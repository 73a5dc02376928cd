//! How far the node's clock is from the host's. It is measured and told, and never set: Talos's NTP client keeps the
//! clock, and two masters would make it jump.
//!
//! ```text
//!  every minute or so, and after an interruption of the VM
//!      └─> measure on the backdoor thread: host, guest, host ──> Offset
//!                                                                  └─> Watch ── passes 1 s ──> log, vmware.log,
//!                                                                                guestinfo.talos.clock-offset
//! ```

#![forbid(unsafe_code)]

mod offset;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch as channel},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use self::{
    offset::{Measured, Offset, measure},
    watch::{LIMIT, News, Watch},
};
use crate::{
    backdoor::{Hypercall, host_time},
    guestinfo::{Variable, variable},
    hostlog::HostLog,
    jitter::jittered,
    limited,
    rpci::Rpci,
    tclo::thread::{AccessError, PortAccess},
};

/// Time between two measurements: the period of open-vm-tools (timeSync.c), and well below the 2048 s between two
/// looks of Talos's NTP client.
const PERIOD: Duration = Duration::from_secs(60);

/// Share by which it varies.
const JITTER: f64 = 0.2;

/// How the offset is measured. Implemented by the backdoor thread, and by scripts in tests.
pub trait Meter: Send + Sync + 'static {
    /// One measurement.
    fn measure(&self) -> impl Future<Output = Result<Measured, AccessError>> + Send;
}

impl Meter for PortAccess {
    async fn measure(&self) -> Result<Measured, AccessError> {
        self.run(|port: &mut dyn Hypercall| measure(|| host_time(port), std::time::SystemTime::now))
            .await
    }
}

/// A handle for those who know that something happened to the clock. Cheap to clone; no method waits.
#[derive(Clone, Debug, Default)]
pub struct Trigger(Arc<Notify>);

impl Trigger {
    /// The VM was interrupted: measure now.
    pub fn interrupted(&self) {
        self.0.notify_one();
    }
}

/// The task that measures.
#[derive(Debug)]
pub struct Clock<R, M> {
    variable: Variable<R>,
    meter: M,
    host: HostLog,
    trigger: Trigger,
    state: channel::Sender<Option<Measured>>,
    watch: Watch,
}

impl<R: Rpci, M: Meter> Clock<R, M> {
    /// A clock that has measured nothing, and the last measurement for whoever wants it.
    pub fn new(
        variable: Variable<R>,
        meter: M,
        host: HostLog,
        trigger: Trigger,
    ) -> (Self, channel::Receiver<Option<Measured>>) {
        let (state, last) = channel::channel(None);
        let clock = Self {
            variable,
            meter,
            host,
            trigger,
            state,
            watch: Watch::default(),
        };
        (clock, last)
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let follow = async {
            let mut random = fastrand::Rng::new();
            loop {
                let told = self.look().await;
                let pause = if told { PERIOD } else { variable::RETRY };
                let pause = jittered(&mut random, pause, JITTER);
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.trigger.0.notified() => {}
                    () = self.variable.forgotten() => {}
                }
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    /// Measures once and tells what is new. `false` when the host could not be told.
    async fn look(&mut self) -> bool {
        let measured = match self.meter.measure().await {
            Ok(measured) => measured,
            Err(error) => {
                debug!(feature = "clock", err = %error, "the clocks were not compared");
                return true;
            }
        };
        self.state.send_replace(Some(measured));
        match self.watch.see(measured) {
            News::None => {}
            News::NoHostTime => limited!(
                info,
                feature = "clock",
                "the host tells no time that can be right: the clocks are not compared"
            ),
            News::Apart(offset) => {
                let operation = self.host.operation();
                limited!(
                    warn,
                    feature = "clock",
                    operation = operation.number(),
                    %offset,
                    "the node's clock is off the host's; it is not set, NTP keeps it"
                );
                let text = format!("the guest's clock is {offset} s off the host's; it is not set");
                self.host.say(operation, text);
            }
            News::Together(offset) => limited!(
                info,
                feature = "clock",
                %offset,
                "the node's clock and the host's are together"
            ),
        }
        let value = self.watch.published();
        self.variable.tell(&value).await
    }
}

#[cfg(test)]
mod tests;
