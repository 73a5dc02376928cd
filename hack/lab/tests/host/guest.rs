//! A guest that executes backdoor instructions by calling the device directly.

use std::{
    cell::RefCell,
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lab::vmx::{
    clock::ManualClock,
    device::{Access, Device, GuestMemory, Outcome, Registers},
    fault::Fault,
    host::{Config, HostDevice, SharedHost},
    tclo::Timing,
    transcript::{Event, Kind, Transcript},
};

/// EBX of OPEN.
pub const RPCI: u64 = 0x4943_5052;
pub const TCLO: u64 = 0x4F4C_4354;
/// Set in it by a guest that wants cookies.
pub const COOKIES: u64 = 0x8000_0000;
/// Where the guest's buffer is in its memory.
pub const BUFFER: u64 = 0x4000;

/// Status flags.
pub const SUCCESS: u16 = 0x01;
pub const DORECV: u16 = 0x02;
pub const CLOSED: u16 = 0x04;
pub const CPT: u16 = 0x10;
pub const HB: u16 = 0x80;

const PID: i32 = 44;
const MEMORY: u64 = 0x7F00_0000_0000;
const MAGIC: u64 = 0x564D_5868;

pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// 256 KiB of memory at a high address.
pub struct Memory {
    bytes: RefCell<Vec<u8>>,
}

impl Memory {
    pub fn at(&self, offset: u64) -> u64 {
        MEMORY + offset
    }

    pub fn put(&self, offset: u64, bytes: &[u8]) {
        self.write(self.at(offset), bytes).unwrap();
    }

    pub fn get(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        self.read(self.at(offset), &mut buffer).unwrap();
        buffer
    }

    fn range(&self, address: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
        let begin = address
            .checked_sub(MEMORY)
            .and_then(|offset| usize::try_from(offset).ok());
        let range = begin.map(|begin| begin..begin + length);
        range
            .filter(|range| range.end <= self.bytes.borrow().len())
            .ok_or(io::ErrorKind::InvalidInput.into())
    }
}

impl GuestMemory for Memory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let range = self.range(address, buffer.len())?;
        buffer.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let range = self.range(address, bytes.len())?;
        self.bytes.borrow_mut()[range].copy_from_slice(bytes);
        Ok(())
    }
}

/// An open channel, as the guest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub id: u16,
    pub high: u32,
    pub low: u32,
}

pub struct Guest {
    pub host: SharedHost,
    pub clock: Arc<ManualClock>,
    pub memory: Memory,
    /// Moves payloads by the low-bandwidth port even where high bandwidth is offered.
    pub only_low: bool,
    device: HostDevice,
}

impl Guest {
    pub fn new(config: Config) -> Self {
        let clock = Arc::new(ManualClock::default());
        // Time zero is "the start of the run": things happen after it.
        clock.advance(Duration::from_secs(1));
        let host = SharedHost::new(config, Transcript::new(None), Arc::<ManualClock>::clone(&clock));
        Self {
            clock,
            ..Self::on(host)
        }
    }

    /// A guest of a host that has its own clock.
    pub fn on(host: SharedHost) -> Self {
        let device = host.device();
        let memory = Memory {
            bytes: RefCell::new(vec![0; 256 << 10]),
        };
        Self {
            host,
            clock: Arc::default(),
            memory,
            only_low: false,
            device,
        }
    }

    pub fn access(&mut self, access: Access, registers: &mut Registers) -> Outcome {
        self.device.access(PID, access, registers, &self.memory)
    }

    pub fn low(&mut self, rbx: u64, rcx: u64, rdx: u64, rsi: u64, rdi: u64) -> Registers {
        let mut registers = Registers {
            rax: MAGIC,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp: 0,
        };
        assert_eq!(self.access(Access::Low, &mut registers), Outcome::Done);
        registers
    }

    pub fn high(&mut self, access: Access, rcx: u64, rdx: u64, rsi: u64, rdi: u64, rbp: u64) -> Registers {
        let mut registers = Registers {
            rax: MAGIC,
            rbx: 0x0001_0000,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
        };
        assert_eq!(self.access(access, &mut registers), Outcome::Done);
        registers
    }

    pub fn open(&mut self, protocol: u64) -> Option<Opened> {
        let out = self.low(protocol, 0x1E, 0x5658, 0, 0);
        let word = |register: u64| u32::try_from(register & 0xffff_ffff).unwrap();
        (out.rcx >> 16 & 1 == 1).then(|| Opened {
            id: u16::try_from(out.rdx >> 16 & 0xffff).unwrap(),
            high: word(out.rsi),
            low: word(out.rdi),
        })
    }

    /// A low-bandwidth step on a channel.
    pub fn step(&mut self, channel: Opened, subcommand: u64, rbx: u64) -> Registers {
        let rdx = u64::from(channel.id) << 16 | 0x5658;
        self.low(
            rbx,
            subcommand << 16 | 0x1E,
            rdx,
            channel.high.into(),
            channel.low.into(),
        )
    }

    /// The status that a low-bandwidth step answers.
    pub fn status(&mut self, channel: Opened, subcommand: u64, rbx: u64) -> u16 {
        u16::try_from(self.step(channel, subcommand, rbx).rcx >> 16 & 0xffff).unwrap()
    }

    pub fn high_out(&mut self, channel: Opened, bytes: &[u8]) -> u16 {
        self.memory.put(BUFFER, bytes);
        let (address, rdx) = (self.memory.at(BUFFER), u64::from(channel.id) << 16 | 0x5659);
        let count = u64::try_from(bytes.len()).unwrap();
        let out = self.high(
            Access::HighOut,
            count,
            rdx,
            address,
            channel.low.into(),
            channel.high.into(),
        );
        u16::try_from(out.rbx >> 16 & 0xffff).unwrap()
    }

    pub fn high_in(&mut self, channel: Opened, count: u64) -> u16 {
        let (address, rdx) = (self.memory.at(BUFFER), u64::from(channel.id) << 16 | 0x5659);
        let out = self.high(
            Access::HighIn,
            count,
            rdx,
            channel.high.into(),
            address,
            channel.low.into(),
        );
        u16::try_from(out.rbx >> 16 & 0xffff).unwrap()
    }

    /// Sends a message; starts again after checkpoints.
    pub fn send(&mut self, channel: Opened, bytes: &[u8]) -> Result<(), u16> {
        let length = u64::try_from(bytes.len()).unwrap();
        for _ in 0..16 {
            let status = self.status(channel, 1, length);
            if status & 1 == 0 {
                return Err(status);
            }
            let status = if bytes.is_empty() {
                1
            } else if status & 0x80 != 0 && !self.only_low {
                self.high_out(channel, bytes)
            } else {
                self.send_words(channel, bytes)
            };
            match status {
                status if status & 1 == 1 => return Ok(()),
                status if status & 0x10 != 0 => {}
                status => return Err(status),
            }
        }
        Err(0x10)
    }

    fn send_words(&mut self, channel: Opened, bytes: &[u8]) -> u16 {
        for chunk in bytes.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            let status = self.status(channel, 2, u32::from_le_bytes(word).into());
            if status & 1 == 0 {
                return status;
            }
        }
        1
    }

    /// Reads a payload of `length` bytes into the buffer and returns the last status.
    pub fn read_payload(&mut self, channel: Opened, length: usize) -> u16 {
        if !self.only_low {
            return self.high_in(channel, u64::try_from(length).unwrap());
        }
        self.read_words(channel, length)
    }

    fn read_words(&mut self, channel: Opened, length: usize) -> u16 {
        for offset in (0..length).step_by(4) {
            let out = self.step(channel, 4, 1);
            let status = u16::try_from(out.rcx >> 16 & 0xffff).unwrap();
            if status & 1 == 0 {
                return status;
            }
            let word = out.rbx.to_le_bytes();
            self.memory.put(
                BUFFER + u64::try_from(offset).unwrap(),
                &word[..4.min(length - offset)],
            );
        }
        1
    }

    /// Receives a message, if there is one; starts again after checkpoints.
    pub fn receive(&mut self, channel: Opened) -> Result<Option<Vec<u8>>, u16> {
        for _ in 0..16 {
            let out = self.step(channel, 3, 0);
            let status = u16::try_from(out.rcx >> 16 & 0xffff).unwrap();
            if status & 1 == 0 {
                return Err(status);
            }
            if status & 2 == 0 {
                return Ok(None);
            }
            let length = usize::try_from(out.rbx & 0xffff_ffff).unwrap();
            let read = if status & 0x80 == 0 || self.only_low {
                self.read_words(channel, length)
            } else {
                self.read_payload(channel, length)
            };
            let status = if read & 1 == 1 {
                self.status(channel, 5, 1)
            } else {
                read
            };
            match status {
                status if status & 1 == 1 => return Ok(Some(self.memory.get(BUFFER, length))),
                status if status & 0x10 != 0 => {}
                status => return Err(status),
            }
        }
        Err(0x10)
    }

    pub fn rpc(&mut self, channel: Opened, request: &[u8]) -> Result<Vec<u8>, u16> {
        self.send(channel, request)?;
        Ok(self.receive(channel)?.expect("a reply"))
    }

    /// An empty send, then the next request if there is one.
    pub fn poll(&mut self, channel: Opened) -> Result<Option<Vec<u8>>, u16> {
        self.send(channel, b"")?;
        self.receive(channel)
    }

    /// Gives `reply`, then answers request after request (`reset` with the registration, all else with OK) until an
    /// empty poll; returns the requests.
    pub fn answer_all(&mut self, channel: Opened, reply: &[u8]) -> Vec<String> {
        let mut asked = Vec::new();
        let mut reply = reply.to_vec();
        for _ in 0..100 {
            self.send(channel, &reply).unwrap();
            let Some(request) = self.receive(channel).unwrap() else {
                return asked;
            };
            reply = if request == b"reset" {
                b"OK ATR toolbox".to_vec()
            } else {
                b"OK ".to_vec()
            };
            asked.push(String::from_utf8_lossy(&request).into_owned());
        }
        panic!("the host does not stop asking: {asked:?}");
    }

    pub fn events(&self) -> Vec<Event> {
        self.host
            .with(|host, _| host.transcript().since(0).cloned().collect())
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.events().iter().filter(|event| event.kind == kind).count()
    }

    pub fn variable(&self, key: &str) -> Option<Vec<u8>> {
        self.host
            .with(|host, _| host.rpci.variables.get(key).map(<[u8]>::to_vec))
    }

    /// Kinds of the violations so far.
    pub fn violations(&self) -> Vec<&'static str> {
        self.events()
            .iter()
            .filter(|event| event.kind == Kind::Violation)
            .filter_map(|event| event.origin)
            .collect()
    }

    #[track_caller]
    pub fn assert_no_violation(&self) {
        self.assert_violations(&[]);
    }

    #[track_caller]
    pub fn assert_violations(&self, kinds: &[&str]) {
        let events = self.events();
        let text: Vec<String> = events
            .iter()
            .filter(|event| event.kind == Kind::Violation)
            .map(Event::readable)
            .collect();
        assert_eq!(self.violations(), kinds, "{text:?}");
    }
}

/// Arms a fault by the words of a scenario.
pub fn arm(guest: &Guest, fault: &str) {
    let words: Vec<String> = fault.split_whitespace().map(str::to_owned).collect();
    let fault = Fault::parse(&words).unwrap();
    guest.host.with(|host, _| host.faults.arm(fault));
}

/// A host that asks nothing by itself after registration.
pub fn quiet() -> Config {
    Config {
        timing: Timing {
            ping: None,
            broadcast: None,
            ..Timing::default()
        },
        ..Config::default()
    }
}

/// Registers and answers everything that follows; returns the commands that were asked.
pub fn register(guest: &mut Guest, channel: Opened) -> Vec<String> {
    assert_eq!(guest.poll(channel).unwrap().unwrap(), b"reset");
    guest.answer_all(channel, b"OK ATR toolbox")
}
