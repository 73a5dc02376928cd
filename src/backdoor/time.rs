//! The host's time of day, read by one exchange (backdoor_def.h; timeSync.c).

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Hypercall, LOW_BANDWIDTH_PORT, MAGIC, Registers};

/// Seconds in 64 bits, and the interrupt lag apart (`BDOOR_CMD_GETTIMEFULL_WITH_LAG`).
const GETTIMEFULL_WITH_LAG: u32 = 55;

/// Seconds in 64 bits (`BDOOR_CMD_GETTIMEFULL`).
const GETTIMEFULL: u32 = 46;

/// Seconds in 32 bits (`BDOOR_CMD_GETTIME`), for hosts that know nothing newer.
const GETTIME: u32 = 23;

/// EAX of a command that failed.
const ERROR: u32 = u32::MAX;

/// 1 January 2100, in seconds since 1970. A host that claims a later time has no time.
const FAR_FUTURE: u64 = 4_102_444_800;

/// Microseconds in a second.
const MICROSECONDS: u32 = 1_000_000;

/// What the host said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostTime {
    /// The host's time of day.
    pub time: SystemTime,
    /// How far the guest's timer interrupts are behind; zero where the host does not tell it apart.
    pub lag: Duration,
}

/// Asks the host, with the newest of the three commands that it answers. `None` when it has no time, or an impossible one:
/// zero, negative or far-future seconds, a million microseconds or more.
pub fn host_time(port: &mut dyn Hypercall) -> Option<HostTime> {
    for command in [GETTIMEFULL_WITH_LAG, GETTIMEFULL] {
        let answer = ask(port, command);
        if answer.eax == MAGIC {
            let seconds = u64::from(answer.esi) << 32 | u64::from(answer.edx);
            let lag = if command == GETTIMEFULL_WITH_LAG {
                answer.edi
            } else {
                0
            };
            return checked(seconds, answer.ebx, lag);
        }
    }
    let answer = ask(port, GETTIME);
    if answer.eax == ERROR || answer.eax == MAGIC {
        return None;
    }
    checked(answer.eax.into(), answer.ebx, 0)
}

fn ask(port: &mut dyn Hypercall, command: u32) -> Registers {
    port.exchange(Registers {
        eax: MAGIC,
        ecx: command,
        edx: LOW_BANDWIDTH_PORT.into(),
        ..Registers::default()
    })
}

fn checked(seconds: u64, microseconds: u32, lag: u32) -> Option<HostTime> {
    if !(1..FAR_FUTURE).contains(&seconds) || microseconds >= MICROSECONDS {
        return None;
    }
    let since = Duration::from_secs(seconds) + Duration::from_micros(microseconds.into());
    Some(HostTime {
        time: UNIX_EPOCH.checked_add(since)?,
        lag: Duration::from_micros(lag.into()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{InRegisters, OutRegisters},
        *,
    };

    /// A host that answers each time command with these registers.
    struct Host(fn(u32) -> Registers);

    impl Hypercall for Host {
        fn exchange(&mut self, registers: Registers) -> Registers {
            assert_eq!((registers.eax, registers.edx), (MAGIC, 0x5658));
            (self.0)(registers.ecx)
        }

        fn write(&mut self, _: OutRegisters, _: &[u8]) -> u32 {
            0
        }

        fn read(&mut self, _: InRegisters, _: &mut [u8]) -> u32 {
            0
        }
    }

    fn at(seconds: u64, microseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(microseconds)
    }

    #[test]
    fn the_newest_command_that_is_answered_counts() {
        let newest = host_time(&mut Host(|command| Registers {
            eax: if command == 55 { MAGIC } else { ERROR },
            ebx: 250_000,
            edx: 1_800_000_000,
            edi: 1500,
            ..Registers::default()
        }));
        let lag = Duration::from_micros(1500);
        assert_eq!(
            newest,
            Some(HostTime {
                time: at(1_800_000_000, 250_000),
                lag
            })
        );

        let older = host_time(&mut Host(|command| Registers {
            eax: if command == 46 { MAGIC } else { ERROR },
            edx: 1_800_000_000,
            edi: 1500,
            ..Registers::default()
        }));
        let lag = Duration::ZERO;
        assert_eq!(
            older,
            Some(HostTime {
                time: at(1_800_000_000, 0),
                lag
            })
        );

        let oldest = host_time(&mut Host(|command| Registers {
            eax: if command == 23 { 1_700_000_000 } else { ERROR },
            ebx: 7,
            ..Registers::default()
        }));
        assert_eq!(
            oldest,
            Some(HostTime {
                time: at(1_700_000_000, 7),
                lag
            })
        );
        assert_eq!(
            host_time(&mut Host(|_| Registers {
                eax: ERROR,
                ..Registers::default()
            })),
            None
        );
    }

    #[test]
    fn row_37_impossible_times_are_no_times() {
        for (high, low, microseconds) in [
            (0_u32, 0_u32, 0),
            (u32::MAX, u32::MAX, 0),
            (0x8000_0000, 1, 0),
            (1, 0, 0),
            (0, 4_102_444_800, 0),
            (0, 1_800_000_000, 1_000_000),
            (0, 1_800_000_000, u32::MAX),
        ] {
            let seconds = u64::from(high) << 32 | u64::from(low);
            assert_eq!(
                checked(seconds, microseconds, 0),
                None,
                "{seconds} {microseconds}"
            );
        }
        // A host that does not know any of them leaves EAX as it was.
        assert_eq!(
            host_time(&mut Host(|_| Registers {
                eax: MAGIC,
                ..Registers::default()
            })),
            None
        );
        assert_eq!(host_time(&mut Host(|_| Registers::default())), None);
    }

    proptest! {
        #[test]
        fn any_registers(seconds in any::<u64>(), microseconds in any::<u32>(), lag in any::<u32>()) {
            if let Some(told) = checked(seconds, microseconds, lag) {
                prop_assert!(told.time > UNIX_EPOCH && told.time < at(FAR_FUTURE, 0));
            }
        }
    }
}
