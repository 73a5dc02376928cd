//! Memory and queue statistics, as vSphere draws them beside its own.
//!
//! ```text
//!  /proc ──one read per file──> Sample ─┐
//!                        the one before ┴──> readings ──record──> SetGuestInfo  8
//! ```
//!
//! The set, its order and its units are open-vm-tools' (guestStats.h): the host knows a reading by its number. What
//! a kernel does not tell is in the message without value, and so is a rate that has nothing to compare with.

#![forbid(unsafe_code)]

mod record;
mod sample;

use self::{
    record::{Reading, Unit, Value},
    sample::Sample,
};

/// What turns samples into messages.
#[derive(Debug, Default)]
pub struct Statistics {
    previous: Option<Sample>,
}

impl Statistics {
    /// The readings of this moment, for people.
    pub fn describe() -> Vec<String> {
        readings(&Sample::read(), None)
            .iter()
            .map(Reading::to_string)
            .collect()
    }

    /// The message of this moment, behind `SetGuestInfo  8 `.
    pub fn collect(&mut self) -> Vec<u8> {
        self.follow(Sample::read())
    }

    fn follow(&mut self, sample: Sample) -> Vec<u8> {
        let readings = readings(&sample, self.previous.as_ref());
        let message = record::encode(sample.usable(), sample.huge_pages, &readings);
        self.previous = Some(sample);
        message
    }
}

/// In the order of the message.
fn readings(sample: &Sample, previous: Option<&Sample>) -> Vec<Reading> {
    let integer = |id, name, unit, value: Option<u64>| Reading {
        id,
        name,
        unit,
        value: Value::Integer(value),
    };
    let double = |id, name, unit, value: Option<f64>| Reading {
        id,
        name,
        unit,
        value: Value::Double(value),
    };
    let rate = |counter: fn(&Sample) -> Option<u64>| {
        let previous = previous?;
        per_second(counter(previous)?, counter(sample)?, previous, sample)
    };
    let comparable = previous.is_some_and(|previous| previous.disks == sample.disks);
    let queue = sample.requests.filter(|_| comparable);
    // Hundredths of a request: the host drops fractions.
    let queue_average = rate(|sample| sample.weighted_ms)
        .filter(|_| comparable)
        .map(|ms_per_second| ms_per_second / 10.0);
    let usable = sample.usable();
    let reservation = usable.map(|usable| usable / 20);
    let needed = usable
        .zip(sample.available)
        .map(|(usable, available)| usable.saturating_sub(available.saturating_sub(usable / 20)));
    vec![
        integer(11, "guest.hugePage.size", Unit::KiB, sample.huge_page_size),
        integer(6, "guest.mem.physUsable", Unit::KiB, usable),
        integer(4, "guest.mem.free", Unit::KiB, sample.free),
        integer(3, "guest.mem.activeFileCache", Unit::KiB, sample.active_file),
        integer(9, "guest.swap.spaceRemaining", Unit::KiB, sample.swap_free),
        integer(12, "guest.hugePage.total", Unit::HugePages, sample.huge_pages),
        double(
            7,
            "guest.page.inRate",
            Unit::PagesPerSecond,
            rate(|sample| sample.paged_in),
        ),
        double(
            8,
            "guest.page.outRate",
            Unit::PagesPerSecond,
            rate(|sample| sample.paged_out),
        ),
        double(
            2,
            "guest.contextSwapRate",
            Unit::NumberPerSecond,
            rate(|sample| sample.context_switches),
        ),
        integer(10, "guest.page.size", Unit::Bytes, sample.page_size),
        integer(5, "guest.mem.needed", Unit::KiB, needed),
        integer(13, "guest.mem.neededReservation", Unit::KiB, reservation),
        integer(25, "guest.mem.available", Unit::KiB, sample.available),
        integer(34, "guest.mem.slabReclaim", Unit::KiB, sample.slab_reclaimable),
        integer(26, "guest.mem.buffers", Unit::KiB, sample.buffers),
        integer(27, "guest.mem.cached", Unit::KiB, sample.cached),
        integer(60, "guest.mem.total", Unit::KiB, sample.total),
        integer(
            61,
            "guest.cpu.runQueue",
            Unit::Number,
            // The one that asks is no load.
            sample.running.map(|running| running.saturating_sub(1)),
        ),
        integer(62, "guest.disk.requestQueue", Unit::Number, queue),
        double(63, "guest.disk.requestQueueAvg", Unit::Number, queue_average),
    ]
}

/// How fast a counter grew between two samples. Some counters of the kernel have 32 bits and start again.
fn per_second(before: u64, after: u64, previous: &Sample, sample: &Sample) -> Option<f64> {
    let grown = match after.checked_sub(before) {
        Some(grown) => grown,
        None => after.checked_add(1 << 32)?.checked_sub(before)?,
    };
    let elapsed = sample.uptime?.checked_sub(previous.uptime?)?;
    // Counters stay far below 2^52, where a double still holds every integer.
    (elapsed > 0).then(|| grown as f64 * 100.0 / elapsed as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reading as a host decodes it: number, type, unit, bytes of the value if there are any.
    type Decoded = (u64, u64, u64, Option<Vec<u8>>);

    /// Written from the layout alone (guestStats.h).
    fn decode(message: &[u8]) -> Vec<Decoded> {
        let mut rest = &message[112..];
        let mut decoded = Vec::new();
        while !rest.is_empty() {
            let flags = u32::from_le_bytes(rest[..4].try_into().unwrap());
            rest = &rest[4..];
            let mut data: [Option<Vec<u8>>; 8] = Default::default();
            for (bit, datum) in data.iter_mut().enumerate() {
                if flags & (1 << bit) != 0 {
                    let size = usize::from(u16::from_le_bytes(rest[..2].try_into().unwrap()));
                    *datum = Some(rest[2..2 + size].to_vec());
                    rest = &rest[2 + size..];
                }
            }
            let number = |bytes: &Option<Vec<u8>>| {
                let mut whole = [0; 8];
                let bytes = bytes.as_ref().unwrap();
                whole[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(whole)
            };
            assert_eq!(
                data[1].is_some(),
                decoded.is_empty(),
                "namespace on the first only"
            );
            decoded.push((
                number(&data[2]),
                number(&data[3]),
                number(&data[5]),
                data[7].clone(),
            ));
        }
        decoded
    }

    fn sample(uptime: u64) -> Sample {
        Sample {
            uptime: Some(uptime),
            total: Some(4_014_372),
            free: Some(1_000_000),
            available: Some(3_000_000),
            page_size: Some(4096),
            huge_page_size: Some(2048),
            huge_pages: Some(0),
            paged_in: Some(1000),
            weighted_ms: Some(5000),
            requests: Some(3),
            disks: vec!["sda".into()],
            running: Some(4),
            ..Sample::default()
        }
    }

    #[test]
    fn the_set_and_its_order() {
        let ids: Vec<u64> = decode(&Statistics::default().follow(sample(100)))
            .iter()
            .map(|(id, ..)| *id)
            .collect();
        assert_eq!(
            ids,
            [
                11, 6, 4, 3, 9, 12, 7, 8, 2, 10, 5, 13, 25, 34, 26, 27, 60, 61, 62, 63
            ]
        );
    }

    #[test]
    fn rates_want_two_samples_and_the_same_disks() {
        let mut statistics = Statistics::default();
        let value = |message: &[u8], wanted: u64| {
            let decoded = decode(message);
            decoded.into_iter().find(|(id, ..)| *id == wanted).unwrap().3
        };
        let first = statistics.follow(sample(1000));
        for id in [7, 8, 2, 62, 63] {
            assert_eq!(value(&first, id), None, "{id}");
        }
        // 250 in 20 s.
        let second = statistics.follow(Sample {
            paged_in: Some(1250),
            weighted_ms: Some(5000 + 40_000),
            ..sample(3000)
        });
        assert_eq!(value(&second, 7), Some(12.5_f32.to_le_bytes().to_vec()));
        assert_eq!(value(&second, 8), None, "a counter that is not told");
        assert_eq!(value(&second, 62), Some(vec![3]));
        // 2 s of waiting in each second: 2 requests on average.
        assert_eq!(value(&second, 63), Some(200.0_f32.to_le_bytes().to_vec()));
        let plugged = statistics.follow(Sample {
            disks: vec!["sda".into(), "sdb".into()],
            ..sample(5000)
        });
        assert_eq!((value(&plugged, 62), value(&plugged, 63)), (None, None));
        let frozen = statistics.follow(sample(5000));
        assert_eq!(value(&frozen, 7), None, "no time has passed");
    }

    #[test]
    fn a_counter_of_32_bits_may_start_again() {
        let (before, after) = (sample(0), sample(100));
        assert_eq!(per_second(u64::from(u32::MAX), 9, &before, &after), Some(10.0));
        assert_eq!(per_second(1 << 40, 9, &before, &after), None);
        assert_eq!(per_second(9, 9, &after, &before), None, "time does not go back");
    }

    #[test]
    fn derived_readings() {
        let read = readings(&sample(0), None);
        let integer = |wanted| {
            let reading = read.iter().find(|reading| reading.id == wanted).unwrap();
            match reading.value {
                Value::Integer(value) => value,
                Value::Double(_) => None,
            }
        };
        assert_eq!(integer(6), Some(4_014_372), "without zones it is the total");
        assert_eq!(integer(13), Some(200_718));
        assert_eq!(integer(5), Some(4_014_372 - (3_000_000 - 200_718)));
        assert_eq!(integer(61), Some(3));
        assert_eq!(integer(27), None);
    }

    #[test]
    fn this_machine_has_statistics() {
        let mut statistics = Statistics::default();
        let decoded = decode(&statistics.collect());
        for id in [6, 4, 60, 10, 25, 61] {
            let (.., value) = decoded.iter().find(|(known, ..)| *known == id).unwrap();
            assert!(value.is_some(), "{id}");
        }
    }

    proptest! {
        #[test]
        fn any_two_samples_give_a_message(values in prop::array::uniform16(prop::option::of(any::<u64>()))) {
            let mut statistics = Statistics::default();
            for values in [&values[..8], &values[8..]] {
                let message = statistics.follow(Sample {
                    uptime: values[0],
                    total: values[1],
                    present: values[2],
                    available: values[3],
                    paged_in: values[4],
                    weighted_ms: values[5],
                    running: values[6],
                    huge_pages: values[7],
                    page_size: values[4],
                    ..Sample::default()
                });
                prop_assert_eq!(decode(&message).len(), 20);
            }
        }
    }
}
