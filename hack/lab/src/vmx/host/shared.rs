//! The host behind its mutex.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{Config, Host};
use crate::vmx::{
    clock::Clock,
    device::{Access, Device, GuestMemory, Outcome, Registers},
    transcript::Transcript,
};

/// Longest sleep of a waiting thread: conditions that depend on time alone are looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

struct Inner {
    host: Mutex<Host>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

/// A handle on the host; clones share it.
#[derive(Clone)]
pub struct SharedHost {
    inner: Arc<Inner>,
}

impl SharedHost {
    /// A host that was just powered on.
    pub fn new(config: Config, transcript: Transcript, clock: Arc<dyn Clock>) -> Self {
        let host = Mutex::new(Host::new(config, transcript));
        Self {
            inner: Arc::new(Inner {
                host,
                changed: Condvar::new(),
                clock,
            }),
        }
    }

    /// The end for the tracer.
    pub fn device(&self) -> HostDevice {
        HostDevice { host: self.clone() }
    }

    /// Time since the start of the run.
    pub fn now(&self) -> Duration {
        self.inner.clock.elapsed()
    }

    /// Does something with the host at this moment.
    pub fn with<T>(&self, action: impl FnOnce(&mut Host, Duration) -> T) -> T {
        let mut host = self.lock();
        let now = self.now();
        host.tick(now);
        let result = action(&mut host, now);
        self.publish(&mut host);
        result
    }

    /// Waits until `look` finds what it looks for, but no longer than until `deadline`; looks at least once.
    pub fn wait<T>(
        &self,
        deadline: Duration,
        mut look: impl FnMut(&mut Host, Duration) -> Option<T>,
    ) -> Option<T> {
        let mut host = self.lock();
        loop {
            let now = self.now();
            host.tick(now);
            let found = look(&mut host, now);
            self.publish(&mut host);
            if found.is_some() || now >= deadline {
                return found;
            }
            let pause = LOOK_AGAIN.min(deadline - now);
            host = self
                .inner
                .changed
                .wait_timeout(host, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    // A panic of another thread leaves counters and queues that are still fit for a report.
    fn lock(&self) -> MutexGuard<'_, Host> {
        self.inner.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, host: &mut Host) {
        if std::mem::take(&mut host.changed) {
            self.inner.changed.notify_all();
        }
    }
}

/// The host as the tracer sees it.
pub struct HostDevice {
    host: SharedHost,
}

impl Device for HostDevice {
    fn access(
        &mut self,
        pid: i32,
        access: Access,
        registers: &mut Registers,
        memory: &dyn GuestMemory,
    ) -> Outcome {
        let (outcome, stall) = self.host.with(|host, now| {
            let outcome = host.access(now, pid, access, registers, memory);
            (outcome, std::mem::take(&mut host.stall))
        });
        // Without the mutex: only the guest waits.
        if stall > 0 {
            thread::sleep(Duration::from_millis(stall.into()));
        }
        outcome
    }
}
