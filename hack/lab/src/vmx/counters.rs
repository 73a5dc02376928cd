//! Numbers that only grow: what the guest did at the backdoor.

use std::{collections::BTreeMap, time::Duration};

/// Reply latencies kept for the summary.
const MAX_LATENCIES: usize = 65536;

/// Counters since the start of the run.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Low-bandwidth accesses.
    pub low: u64,
    /// High-bandwidth accesses, from guest to host.
    pub high_out: u64,
    /// High-bandwidth accesses, from host to guest.
    pub high_in: u64,
    /// Low-bandwidth commands by number.
    pub commands: BTreeMap<u16, u64>,
    /// Steps of the message layer by name.
    pub steps: BTreeMap<&'static str, u64>,
    /// Empty messages on TCLO channels.
    pub polls: u64,
    /// RPCI requests.
    pub rpci: u64,
    /// Requests that the guest fetched.
    pub tclo_sent: u64,
    /// OPENs that failed.
    pub open_failures: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// Violations by kind.
    pub violations: BTreeMap<&'static str, u64>,
    /// From fetching a request to its reply, in the order of the replies.
    pub latencies: Vec<Duration>,
}

impl Counters {
    /// All accesses.
    pub fn calls(&self) -> u64 {
        self.low + self.high_out + self.high_in
    }

    /// Notes a reply.
    pub fn replied(&mut self, latency: Duration) {
        if self.latencies.len() < MAX_LATENCIES {
            self.latencies.push(latency);
        }
    }
}
