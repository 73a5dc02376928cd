//! What the kernel counts, at one moment.

use std::{fs::File, io::Read};

use nix::unistd::{SysconfVar, sysconf};

/// Most that is read of one file, in bytes. `zoneinfo` grows with processors and memory nodes.
const MAX_FILE: u64 = 1024 * 1024;

/// Memory in KiB; none where the kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Hundredths of a second.
    pub uptime: Option<u64>,
    pub total: Option<u64>,
    /// Memory of all zones.
    pub present: Option<u64>,
    pub free: Option<u64>,
    pub available: Option<u64>,
    pub buffers: Option<u64>,
    pub cached: Option<u64>,
    pub active_file: Option<u64>,
    pub slab_reclaimable: Option<u64>,
    pub swap_free: Option<u64>,
    pub huge_page_size: Option<u64>,
    /// A number.
    pub huge_pages: Option<u64>,
    /// Bytes.
    pub page_size: Option<u64>,
    /// KiB since boot.
    pub paged_in: Option<u64>,
    /// KiB since boot.
    pub paged_out: Option<u64>,
    pub context_switches: Option<u64>,
    /// Tasks that run or want to.
    pub running: Option<u64>,
    /// Whole disks that have done anything.
    pub disks: Vec<String>,
    /// Requests that wait at these disks.
    pub requests: Option<u64>,
    /// Time that requests have waited at these disks since boot, one by one added up.
    pub weighted_ms: Option<u64>,
}

impl Sample {
    /// Reads each file once.
    pub fn read() -> Self {
        let mut sample = Self {
            page_size: sysconf(SysconfVar::PAGE_SIZE)
                .ok()
                .flatten()
                .and_then(|size| u64::try_from(size).ok()),
            ..Self::default()
        };
        for (path, take) in [
            ("/proc/uptime", Self::take_uptime as fn(&mut Self, &str)),
            ("/proc/meminfo", Self::take_meminfo),
            ("/proc/zoneinfo", Self::take_zoneinfo),
            ("/proc/vmstat", Self::take_vmstat),
            ("/proc/stat", Self::take_stat),
            ("/proc/diskstats", Self::take_diskstats),
        ] {
            if let Some(text) = read(path) {
                take(&mut sample, &text);
            }
        }
        sample
    }

    /// Memory that the kernel has, without what the firmware keeps.
    pub fn usable(&self) -> Option<u64> {
        self.present.or(self.total)
    }

    fn take_uptime(&mut self, text: &str) {
        self.uptime = text.split_whitespace().next().and_then(|seconds| {
            let (whole, fraction) = seconds.split_once('.')?;
            let hundredths: u64 = fraction.get(..2)?.parse().ok()?;
            whole
                .parse::<u64>()
                .ok()?
                .checked_mul(100)?
                .checked_add(hundredths)
        });
    }

    fn take_meminfo(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, rest)) = line.split_once(':') else {
                continue;
            };
            let field = match key {
                "MemTotal" => &mut self.total,
                "MemFree" => &mut self.free,
                "MemAvailable" => &mut self.available,
                "Buffers" => &mut self.buffers,
                "Cached" => &mut self.cached,
                "Active(file)" => &mut self.active_file,
                "SReclaimable" => &mut self.slab_reclaimable,
                "SwapFree" => &mut self.swap_free,
                "Hugepagesize" => &mut self.huge_page_size,
                "HugePages_Total" => &mut self.huge_pages,
                _ => continue,
            };
            *field = number(rest);
        }
    }

    fn take_zoneinfo(&mut self, text: &str) {
        let zones = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("present "))
            .filter_map(number);
        let pages = zones.fold(0, u64::saturating_add);
        let per_page = self.page_size.map(|size| size / 1024);
        self.present = per_page
            .map(|kib| pages.saturating_mul(kib))
            .filter(|present| *present > 0);
    }

    fn take_vmstat(&mut self, text: &str) {
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("pgpgin", value)) => self.paged_in = number(value),
                Some(("pgpgout", value)) => self.paged_out = number(value),
                _ => {}
            }
        }
    }

    fn take_stat(&mut self, text: &str) {
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("ctxt", value)) => self.context_switches = number(value),
                Some(("procs_running", value)) => self.running = number(value),
                _ => {}
            }
        }
    }

    /// Adds up the whole disks: the partitions of a disk count with it.
    fn take_diskstats(&mut self, text: &str) {
        let mut disk = "";
        for line in text.lines() {
            let mut words = line.split_whitespace().skip(2);
            let Some(name) = words.next() else { continue };
            // Documentation/admin-guide/iostats.rst: reads, …, writes, …, in flight, ms, weighted ms.
            let mut fields = [0_u64; 11];
            for field in &mut fields {
                *field = words.next().and_then(number).unwrap_or(0);
            }
            let [reads, _, _, _, writes, _, _, _, in_flight, _, weighted] = fields;
            if is_partition(name, disk) {
                continue;
            }
            disk = name;
            if reads == 0 && writes == 0 {
                continue;
            }
            self.disks.push(name.to_owned());
            let add = |sum: &mut Option<u64>, value| *sum = Some(sum.unwrap_or(0).saturating_add(value));
            add(&mut self.requests, in_flight);
            add(&mut self.weighted_ms, weighted);
        }
    }
}

/// A partition is named after its disk: `sda1`, and `nvme0n1p1` where the disk's name ends in a digit.
fn is_partition(name: &str, disk: &str) -> bool {
    let Some(rest) = name.strip_prefix(disk).filter(|_| !disk.is_empty()) else {
        return false;
    };
    let digits = if disk.ends_with(|last: char| last.is_ascii_digit()) {
        rest.strip_prefix('p')
    } else {
        Some(rest)
    };
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_file() {
        let mut sample = Sample {
            page_size: Some(4096),
            ..Sample::default()
        };
        sample.take_uptime("248341.24 991.02\n");
        sample.take_meminfo("MemTotal:        4014372 kB\nMemFree: 17 kB\nActive(file):  5 kB\nHugePages_Total:       3\nHugepagesize:       2048 kB\nJunk\n");
        sample.take_zoneinfo(
            "Node 0, zone      DMA\n        spanned  4095\n        present  3998\n        managed  3840\nNode 0, zone   Normal\n        present  1000\n",
        );
        sample.take_vmstat("nr_free_pages 1\npgpgin 77\npgpgout 78\npgpginx 1\n");
        sample.take_stat("cpu  1 2 3\nctxt 1990473\nprocs_running 2\n");
        assert_eq!(sample.uptime, Some(24_834_124));
        assert_eq!((sample.total, sample.free), (Some(4_014_372), Some(17)));
        assert_eq!(sample.active_file, Some(5));
        assert_eq!((sample.huge_pages, sample.huge_page_size), (Some(3), Some(2048)));
        assert_eq!(sample.usable(), Some(4998 * 4));
        assert_eq!((sample.paged_in, sample.paged_out), (Some(77), Some(78)));
        assert_eq!(
            (sample.context_switches, sample.running),
            (Some(1_990_473), Some(2))
        );
        assert_eq!(sample.available, None);
    }

    #[test]
    fn whole_disks_that_have_done_something() {
        let mut sample = Sample::default();
        sample.take_diskstats(
            "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0\n\
             \x20  8       0 sda 10 0 0 0 5 0 0 0 2 0 300 0 0\n\
             \x20  8       1 sda1 10 0 0 0 5 0 0 0 2 0 300 0 0\n\
             \x20 65     160 sdaa 1 0 0 0 0 0 0 0 1 0 7\n\
             \x20259       0 nvme0n1 1 0 0 0 1 0 0 0 4 0 50 0\n\
             \x20259       1 nvme0n1p1 1 0 0 0 1 0 0 0 4 0 50 0\n\
             \x20254       1 dm-1 1 0 0 0 1 0 0 0 0 0 1 0\n\
             \x20254      10 dm-10 1 0 0 0 1 0 0 0 0 0 1 0\n",
        );
        assert_eq!(sample.disks, ["sda", "sdaa", "nvme0n1", "dm-1", "dm-10"]);
        assert_eq!((sample.requests, sample.weighted_ms), (Some(7), Some(359)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(?s)[ a-zA-Z0-9:.()\n_é-]{0,200}", size in prop::option::of(any::<u64>())) {
            let mut sample = Sample { page_size: size, ..Sample::default() };
            for take in [
                Sample::take_uptime as fn(&mut Sample, &str),
                Sample::take_meminfo,
                Sample::take_zoneinfo,
                Sample::take_vmstat,
                Sample::take_stat,
                Sample::take_diskstats,
            ] {
                take(&mut sample, &text);
            }
            prop_assert!(sample.disks.len() <= text.lines().count());
        }
    }
}
