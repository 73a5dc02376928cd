//! The figures of a run, or of a stretch of it.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::{counters::Counters, host::Host, measurement::Measurement, transcript::milliseconds};

/// Where a stretch begins.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// Time since the start of the run.
    pub at: Duration,
    /// The host's counters.
    pub counters: Counters,
    /// The tracer's counters.
    pub measurement: Measurement,
}

/// Figures from a baseline to now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names carry the unit")]
pub struct Summary {
    pub seconds: f64,
    pub calls: u64,
    pub calls_low: u64,
    pub calls_high_out: u64,
    pub calls_high_in: u64,
    pub calls_per_second: f64,
    pub steps: BTreeMap<&'static str, u64>,
    pub polls: u64,
    pub polls_per_second: f64,
    pub rpci: u64,
    pub tclo: u64,
    pub tclo_timeouts: u64,
    pub open_failures: u64,
    pub channels_open: usize,
    pub wakeups_per_second: f64,
    pub ptrace_stops: u64,
    pub cpu_ms: f64,
    pub cpu_percent: f64,
    pub resident_kib: u64,
    pub resident_peak_kib: u64,
    pub replies: usize,
    pub reply_median_ms: Option<f64>,
    pub reply_p99_ms: Option<f64>,
    pub reply_max_ms: Option<f64>,
    pub violations: BTreeMap<&'static str, u64>,
}

impl Summary {
    /// The figures from `since` to now.
    pub fn new(host: &Host, now: Duration, measurement: Measurement, since: &Baseline) -> Self {
        let elapsed = now.saturating_sub(since.at);
        let counters = &host.counters;
        let measured = measurement.since(since.measurement);
        let per_second = |count: u64| {
            if elapsed.is_zero() {
                0.0
            } else {
                rounded(count as f64 / elapsed.as_secs_f64())
            }
        };
        let grown = |now: u64, before: u64| now.saturating_sub(before);
        let calls = grown(counters.calls(), since.counters.calls());
        let polls = grown(counters.polls, since.counters.polls);
        let mut latencies: Vec<Duration> = counters
            .latencies
            .get(since.counters.latencies.len()..)
            .unwrap_or_default()
            .to_vec();
        latencies.sort_unstable();
        Self {
            seconds: rounded(elapsed.as_secs_f64()),
            calls,
            calls_low: grown(counters.low, since.counters.low),
            calls_high_out: grown(counters.high_out, since.counters.high_out),
            calls_high_in: grown(counters.high_in, since.counters.high_in),
            calls_per_second: per_second(calls),
            steps: growth(&counters.steps, &since.counters.steps),
            polls,
            polls_per_second: per_second(polls),
            rpci: grown(counters.rpci, since.counters.rpci),
            tclo: grown(counters.tclo_sent, since.counters.tclo_sent),
            tclo_timeouts: grown(counters.timeouts, since.counters.timeouts),
            open_failures: grown(counters.open_failures, since.counters.open_failures),
            channels_open: host.channel_count(),
            wakeups_per_second: per_second(measured.wakeups),
            ptrace_stops: measured.stops,
            cpu_ms: milliseconds(measured.cpu),
            cpu_percent: if elapsed.is_zero() {
                0.0
            } else {
                rounded(100.0 * measured.cpu.as_secs_f64() / elapsed.as_secs_f64())
            },
            resident_kib: measured.resident / 1024,
            resident_peak_kib: measured.resident_peak / 1024,
            replies: latencies.len(),
            reply_median_ms: percentile(&latencies, 50),
            reply_p99_ms: percentile(&latencies, 99),
            reply_max_ms: percentile(&latencies, 100),
            violations: growth(&counters.violations, &since.counters.violations),
        }
    }

    /// The figure of a name, for expectations.
    pub fn figure(&self, name: &str) -> Option<f64> {
        Some(match name {
            "calls-per-second" => self.calls_per_second,
            "polls-per-second" => self.polls_per_second,
            "wakeups-per-second" => self.wakeups_per_second,
            "calls" => self.calls as f64,
            "rpci" => self.rpci as f64,
            "cpu-percent" => self.cpu_percent,
            "resident-kib" => self.resident_kib as f64,
            "reply-median-ms" => self.reply_median_ms?,
            "reply-p99-ms" => self.reply_p99_ms?,
            "reply-max-ms" => self.reply_max_ms?,
            _ => return None,
        })
    }

    /// The names that [`Self::figure`] knows.
    pub const FIGURES: [&str; 10] = [
        "calls-per-second",
        "polls-per-second",
        "wakeups-per-second",
        "calls",
        "rpci",
        "cpu-percent",
        "resident-kib",
        "reply-median-ms",
        "reply-p99-ms",
        "reply-max-ms",
    ];
}

fn growth(
    now: &BTreeMap<&'static str, u64>,
    before: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    now.iter()
        .map(|(name, count)| {
            (
                *name,
                count.saturating_sub(before.get(name).copied().unwrap_or_default()),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The nearest-rank percentile of sorted times, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().map(milliseconds)
}

/// Three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "duration           {:.1} s", self.seconds)?;
        writeln!(
            f,
            "backdoor calls     {} ({:.1}/s): {} low, {} high out, {} high in",
            self.calls, self.calls_per_second, self.calls_low, self.calls_high_out, self.calls_high_in
        )?;
        writeln!(
            f,
            "polls              {} ({:.1}/s)",
            self.polls, self.polls_per_second
        )?;
        writeln!(
            f,
            "wake-ups           {:.1}/s, {} ptrace stops",
            self.wakeups_per_second, self.ptrace_stops
        )?;
        writeln!(
            f,
            "processor          {:.1} ms ({:.2} %)",
            self.cpu_ms, self.cpu_percent
        )?;
        writeln!(
            f,
            "memory             {} KiB now, {} KiB peak",
            self.resident_kib, self.resident_peak_kib
        )?;
        writeln!(f, "guest to host      {} requests", self.rpci)?;
        write!(
            f,
            "host to guest      {} requests, {} replies",
            self.tclo, self.replies
        )?;
        if let (Some(median), Some(p99), Some(max)) =
            (self.reply_median_ms, self.reply_p99_ms, self.reply_max_ms)
        {
            write!(
                f,
                " after {median:.3} ms median, {p99:.3} ms p99, {max:.3} ms max"
            )?;
        }
        writeln!(f, ", {} not answered in time", self.tclo_timeouts)?;
        write!(f, "channels open      {}", self.channels_open)?;
        for (kind, count) in &self.violations {
            write!(f, "\nviolation          {kind}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Some(100.0));
        assert_eq!(percentile(&times, 99), Some(198.0));
        assert_eq!(percentile(&times, 100), Some(200.0));
        assert_eq!(percentile(&times[..1], 50), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
