//! Uptime: how the hypervisor notices that the guest was restarted without a reset of the virtual hardware, which is
//! what Talos does by default (kexec).
//!
//! A value that falls is a restart. So it is read anew for every message, from the clock that never goes back and
//! counts suspended time, and it is never guessed.

#![forbid(unsafe_code)]

use nix::time::{ClockId, clock_gettime};

use crate::rpci::Request;

/// Time since the kernel started, in hundredths of a second, as the host wants it (guestInfoServer.c).
///
/// `None` when the clock cannot be read, or in the first hundredth of a second: a 0 would be taken for a restart.
pub fn hundredths() -> Option<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let nanoseconds = u64::try_from(time.tv_nsec()).ok()?;
    let uptime = seconds.checked_mul(100)?.checked_add(nanoseconds / 10_000_000)?;
    (uptime > 0).then_some(uptime)
}

/// The request that tells it, with the value of this moment.
pub fn request() -> Option<Request> {
    hundredths().map(|uptime| Request::guest_info_text(7, &uptime.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_kernel() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        let uptime = hundredths().unwrap();
        let difference = uptime as f64 / 100.0 - seconds;
        assert!((-0.02..60.0).contains(&difference), "{uptime} against {seconds}");
        assert!(hundredths().unwrap() >= uptime);
    }
}
