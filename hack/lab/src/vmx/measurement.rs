//! What the tracer measures of the guest's processes.

use std::time::Duration;

/// Counters of all processes of the guest since the start of the run, and their memory at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measurement {
    /// Time the guest computed, in user and in kernel mode. Ptrace stops inflate it.
    pub cpu: Duration,
    /// Resident memory of all processes now, in bytes.
    pub resident: u64,
    /// Largest resident memory seen, in bytes.
    pub resident_peak: u64,
    /// Times a thread gave up the processor to wait, ptrace stops subtracted.
    pub wakeups: u64,
    /// Stops for the tracer's sake.
    pub stops: u64,
}

impl Measurement {
    /// The counters' growth since an earlier measurement; memory stays as it is now.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            resident: self.resident,
            resident_peak: self.resident_peak,
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
            stops: self.stops.saturating_sub(earlier.stops),
        }
    }
}
