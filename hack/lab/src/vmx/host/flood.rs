//! A host that asks nonsense at full speed: each request is there as soon as the one before is answered.

use std::time::Duration;

use super::Host;
use crate::vmx::tclo::Origin;

/// Longest request of a flood, in bytes.
const LONGEST: usize = 4096;

/// What is left of a flood.
#[derive(Debug, Default)]
pub(super) struct Flood {
    left: u64,
    made: u64,
}

impl Host {
    /// Asks this many hostile requests, one after the other, as fast as the guest answers.
    pub fn flood(&mut self, requests: u64) {
        self.flood.left = requests;
    }

    /// Requests of the flood that were not asked yet.
    pub fn flood_left(&self) -> u64 {
        self.flood.left
    }

    pub(super) fn pour(&mut self, now: Duration) {
        if self.flood.left == 0 {
            return;
        }
        let waiting = self
            .consoles
            .iter()
            .find(|console| console.is_toolbox() && console.is_idle());
        let Some(channel) = waiting.map(|console| console.channel) else {
            return;
        };
        self.flood.left -= 1;
        self.flood.made += 1;
        let request = hostile(self.flood.made);
        self.ask(now, channel, Origin::Flood, &request);
    }
}

/// The request of a number: every form of malformed and unwanted request in turn, with bytes that never repeat.
fn hostile(number: u64) -> Vec<u8> {
    let noise = noise(number);
    let with = |head: &[u8]| [head, noise.as_slice()].concat();
    match number % 20 {
        // An empty one would be an empty poll, to which no reply is owed.
        0 => with(b"\x01"),
        1 => with(b"No_Such_Command "),
        2 => b" ".to_vec(),
        3 => vec![0; 1 + noise.len() % 64],
        4 => vec![b'x'; LONGEST],
        5 => b"Set_Option".to_vec(),
        6 => b"Set_Option ".to_vec(),
        7 => format!("Set_Option no.such.option.{number} {number}").into_bytes(),
        8 => with(b"Set_Option synctime "),
        9 => b"Vix_1_Relayed_Command".to_vec(),
        10 => with(b"Vix_1_Relayed_Command \""),
        11 => with(b"Vix_1_Relayed_Command \"1\"\0"),
        // Every operation there might be, with a frame that is whole.
        12 => vix_request(u32::try_from(number / 20 % 300).unwrap_or(0), noise.len() % 64),
        13 => {
            let mut frame = vix_request(62, 0);
            frame.truncate(frame.len() - noise.len() % 60);
            frame
        }
        14 => with(b"vmbackup.start "),
        15 => b"vmbackup.snapshotDone".to_vec(),
        16 => with(b"Time_Synchronize "),
        17 => with(b"f "),
        18 => b"OS_Hal".to_vec(),
        _ => with(b"\xff\xfe\0"),
    }
}

/// Up to 255 bytes that depend on the number alone (Knuth's MMIX generator).
fn noise(number: u64) -> Vec<u8> {
    let mut state = number;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let length = next();
    (0..length).map(|_| next()).collect()
}

/// A VIX request frame: a header of 51 bytes with this operation, a body of zeros, no credentials.
#[must_use]
pub fn vix_request(opcode: u32, body: usize) -> Vec<u8> {
    let body_length = u32::try_from(body).unwrap_or(0);
    let mut request = b"Vix_1_Relayed_Command \"1\"\0".to_vec();
    request.extend_from_slice(&0xD00D_0001_u32.to_le_bytes()); // magic
    request.extend_from_slice(&5_u16.to_le_bytes()); // version
    request.extend_from_slice(&(51 + body_length).to_le_bytes()); // total length
    request.extend_from_slice(&51_u32.to_le_bytes()); // header length
    request.extend_from_slice(&body_length.to_le_bytes());
    request.extend_from_slice(&[0; 4]); // credentials
    request.push(0x0d); // a request that carries its own identity
    request.extend_from_slice(&opcode.to_le_bytes());
    request.extend_from_slice(&[0; 4]); // request flags
    request.extend_from_slice(&u32::MAX.to_le_bytes()); // time-out: none
    request.extend_from_slice(&[0; 8 + 4 + 4]); // cookie, client handle, credential type
    request.resize(request.len() + body, 0);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hostile_request_is_an_order_or_an_empty_poll() {
        for number in 1..=20_000 {
            let request = hostile(number);
            assert!(!request.is_empty(), "{number}");
            assert!(request.len() <= LONGEST);
            assert!(!request.starts_with(b"OS_Halt") && !request.starts_with(b"OS_Reboot"));
        }
    }

    #[test]
    fn a_flood_does_not_repeat_itself() {
        assert_ne!(hostile(20), hostile(40));
        assert_ne!(hostile(12), hostile(32));
        assert_eq!(hostile(20), hostile(20));
    }
}
