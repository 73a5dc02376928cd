//! A small host: it keeps channels, asks, answers, and misbehaves on demand.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use talos_vmtoolsd::{
    backdoor::{Hypercall, InRegisters, OutRegisters, Registers},
    dispatch::Dispatch,
    rpci::{self, Client, Waker},
    tclo::{Counters, Event, Events, Feature, Next, Pace, Pump},
};
use tokio::sync::mpsc;

const SUCCESS: u32 = 0x0001_0000;
const DORECV: u32 = 0x0002_0000;
const HB: u32 = 0x0080_0000;
const GARBAGE: u32 = 0xDEAD_BEEF;

/// The access that is about to happen, for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Open,
    SendSize,
    SendPayload,
    RecvSize,
    RecvPayload,
    RecvStatus,
    Close,
}

/// What the host observed.
#[derive(Debug, Default)]
pub struct Seen {
    pub opens: usize,
    pub closes: usize,
    pub accesses: usize,
    pub polls: usize,
    /// RPCI requests.
    pub commands: Vec<Vec<u8>>,
    /// TCLO replies; counted beyond the first thousand.
    pub replies: Vec<Vec<u8>>,
    pub reply_count: usize,
    /// Open channels.
    pub channels: usize,
}

struct Channel {
    tclo: bool,
    cookies: (u32, u32),
    expected: usize,
    inbound: Vec<u8>,
    outbound: VecDeque<Vec<u8>>,
    offset: usize,
}

type Fault = Box<dyn FnMut(At, bool) -> Option<u32> + Send>;
type Respond = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

pub struct Host {
    pub seen: Arc<Mutex<Seen>>,
    /// TCLO requests to hand out, in order.
    pub requests: VecDeque<Vec<u8>>,
    /// Handed out whenever `requests` is empty.
    pub endless: Option<Vec<u8>>,
    /// Answers RPCI.
    pub respond: Respond,
    /// Gives the status register instead of the step; the second argument says whether it is a TCLO channel.
    pub fault: Fault,
    pub high_bandwidth: bool,
    channels: BTreeMap<u16, Channel>,
    next: u16,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            seen: Arc::default(),
            requests: VecDeque::new(),
            endless: None,
            respond: Box::new(|_| b"1 ".to_vec()),
            fault: Box::new(|_, _| None),
            high_bandwidth: true,
            channels: BTreeMap::new(),
            next: 0,
        }
    }
}

impl Host {
    pub fn asks(requests: &[&str]) -> Self {
        Self {
            requests: requests.iter().map(|text| text.as_bytes().to_vec()).collect(),
            ..Self::default()
        }
    }

    /// A host that always has another request.
    pub fn asks_for_ever(request: &str) -> Self {
        Self {
            endless: Some(request.into()),
            ..Self::default()
        }
    }

    pub fn ask(&mut self, request: impl Into<Vec<u8>>) {
        self.requests.push_back(request.into());
    }

    /// Every channel is gone, as after a migration or a restart of the host's side.
    pub fn forget(&mut self) {
        self.channels.clear();
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn hb(&self) -> u32 {
        if self.high_bandwidth { HB } else { 0 }
    }

    fn open(&mut self, registers: Registers) -> Registers {
        self.next += 1;
        let id = self.next;
        self.seen().opens += 1;
        let cookies = if registers.ebx & 0x8000_0000 == 0 {
            (0, 0)
        } else {
            (0xAAAA_0000 | u32::from(id), 0xBBBB_0000 | u32::from(id))
        };
        let channel = Channel {
            tclo: registers.ebx & 0x7FFF_FFFF == 0x4F4C_4354,
            cookies,
            expected: 0,
            inbound: Vec::new(),
            outbound: VecDeque::new(),
            offset: 0,
        };
        self.channels.insert(id, channel);
        self.seen.lock().unwrap().channels = self.channels.len();
        Registers {
            ecx: SUCCESS,
            edx: u32::from(id) << 16,
            esi: cookies.0,
            edi: cookies.1,
            ..status(0)
        }
    }

    /// Whether this names an open channel.
    fn knows(&self, id: u16, cookies: (u32, u32)) -> bool {
        self.channels
            .get(&id)
            .is_some_and(|channel| channel.cookies == cookies)
    }

    fn is_tclo(&self, id: u16) -> bool {
        self.channels.get(&id).is_some_and(|channel| channel.tclo)
    }

    /// A message of the guest is complete.
    fn deliver(&mut self, id: u16) {
        let channel = self.channels.get_mut(&id).unwrap();
        let message = std::mem::take(&mut channel.inbound);
        let mut seen = self.seen.lock().unwrap();
        if channel.tclo {
            if message.is_empty() {
                seen.polls += 1;
            } else {
                seen.reply_count += 1;
                if seen.replies.len() < 1000 {
                    seen.replies.push(message);
                }
            }
        } else {
            seen.commands.push(message.clone());
            drop(seen);
            channel.outbound.push_back((self.respond)(&message));
        }
    }

    fn announce(&mut self, id: u16) -> Registers {
        let hb = self.hb();
        if self.is_tclo(id) && self.channels[&id].outbound.is_empty() {
            let request = self.requests.pop_front().or_else(|| self.endless.clone());
            self.channels.get_mut(&id).unwrap().outbound.extend(request);
        }
        let channel = self.channels.get_mut(&id).unwrap();
        channel.offset = 0;
        match channel.outbound.front() {
            Some(message) => Registers {
                ebx: u32::try_from(message.len()).unwrap(),
                edx: 1 << 16,
                ..status(SUCCESS | DORECV | hb)
            },
            None => status(SUCCESS | hb),
        }
    }
}

impl Hypercall for Host {
    fn exchange(&mut self, registers: Registers) -> Registers {
        assert_eq!(registers.eax, 0x564D_5868);
        assert_eq!(registers.ecx & 0xFFFF, 0x1E);
        assert_eq!(registers.edx & 0xFFFF, 0x5658);
        self.seen().accesses += 1;
        let at = [
            At::Open,
            At::SendSize,
            At::SendPayload,
            At::RecvSize,
            At::RecvPayload,
            At::RecvStatus,
            At::Close,
        ][usize::try_from(registers.ecx >> 16).unwrap()];
        let id = u16::try_from(registers.edx >> 16).unwrap();
        let tclo = self.is_tclo(id) || registers.ebx & 0x7FFF_FFFF == 0x4F4C_4354 && at == At::Open;
        if let Some(ecx) = (self.fault)(at, tclo) {
            return status(ecx);
        }
        if at == At::Open {
            return self.open(registers);
        }
        if !self.knows(id, (registers.esi, registers.edi)) {
            return status(0);
        }
        let hb = self.hb();
        let channel = self.channels.get_mut(&id).unwrap();
        match at {
            At::SendSize => {
                channel.expected = usize::try_from(registers.ebx).unwrap();
                channel.inbound.clear();
                if channel.expected == 0 {
                    self.deliver(id);
                }
                status(SUCCESS | hb)
            }
            At::SendPayload => {
                let left = channel.expected - channel.inbound.len();
                let word = registers.ebx.to_le_bytes();
                channel.inbound.extend_from_slice(&word[..left.min(4)]);
                if channel.inbound.len() == channel.expected {
                    self.deliver(id);
                }
                status(SUCCESS)
            }
            At::RecvSize => self.announce(id),
            At::RecvPayload if registers.ebx == 0 => status(SUCCESS),
            At::RecvPayload => {
                let message = &channel.outbound[0];
                let mut word = [0; 4];
                let rest = &message[channel.offset..];
                let count = rest.len().min(4);
                word[..count].copy_from_slice(&rest[..count]);
                channel.offset += count;
                Registers {
                    ebx: u32::from_le_bytes(word),
                    edx: 2 << 16,
                    ..status(SUCCESS)
                }
            }
            At::RecvStatus => {
                if registers.ebx == 1 {
                    channel.outbound.pop_front();
                }
                status(SUCCESS)
            }
            At::Close => {
                self.channels.remove(&id);
                let mut seen = self.seen.lock().unwrap();
                seen.closes += 1;
                seen.channels = self.channels.len();
                drop(seen);
                status(SUCCESS)
            }
            At::Open => unreachable!(),
        }
    }

    fn write(&mut self, registers: OutRegisters, payload: &[u8]) -> u32 {
        assert_eq!(registers.ebx, SUCCESS);
        self.seen().accesses += 1;
        let id = u16::try_from(registers.edx >> 16).unwrap();
        let tclo = self.is_tclo(id);
        if let Some(ebx) = (self.fault)(At::SendPayload, tclo) {
            return ebx;
        }
        if !self.knows(id, (registers.ebp, registers.edi)) {
            return 0;
        }
        let channel = self.channels.get_mut(&id).unwrap();
        assert_eq!(channel.expected, payload.len(), "SENDSIZE said otherwise");
        channel.expected = 0;
        channel.inbound = payload.to_vec();
        self.deliver(id);
        SUCCESS
    }

    fn read(&mut self, registers: InRegisters, buffer: &mut [u8]) -> u32 {
        self.seen().accesses += 1;
        let id = u16::try_from(registers.edx >> 16).unwrap();
        let tclo = self.is_tclo(id);
        if let Some(ebx) = (self.fault)(At::RecvPayload, tclo) {
            return ebx;
        }
        if !self.knows(id, (registers.esi, registers.ebp)) {
            return 0;
        }
        buffer.copy_from_slice(&self.channels[&id].outbound[0]);
        SUCCESS
    }
}

fn status(ecx: u32) -> Registers {
    Registers {
        eax: GARBAGE,
        ebx: GARBAGE,
        ecx,
        edx: GARBAGE,
        esi: GARBAGE,
        edi: GARBAGE,
    }
}

/// A pump on a host, with a clock that only moves when told.
pub struct Bench {
    pub pump: Pump<Host>,
    pub now: Instant,
    pub events: mpsc::Receiver<Event>,
    pub client: Client,
    pub counters: Arc<Counters>,
}

impl Bench {
    pub fn new(host: Host) -> Self {
        Self::with_features(host, Vec::new())
    }

    pub fn with_features(host: Host, features: Vec<Box<dyn Feature>>) -> Self {
        Self::with_client(host, rpci::client(Waker::new().unwrap()), features)
    }

    /// For features that have the client already.
    pub fn with_client(
        host: Host,
        (client, calls): (Client, rpci::Calls),
        features: Vec<Box<dyn Feature>>,
    ) -> Self {
        let now = Instant::now();
        let (sender, events) = Events::new();
        let counters = Arc::new(Counters::new(now));
        let pace = Pace::new(Duration::from_millis(500), now);
        let dispatch = Dispatch::new(features);
        Self {
            pump: Pump::new(host, dispatch, calls, sender, counters.clone(), pace),
            now,
            events,
            client,
            counters,
        }
    }

    /// One step, after which the clock stands where the thread would wake up.
    pub fn step(&mut self) -> Next {
        let next = self.pump.step(self.now);
        if let Next::Pause(pause) = next {
            self.now += pause;
        }
        next
    }

    /// Steps until this much time has passed; gives their number.
    pub fn run(&mut self, duration: Duration) -> usize {
        let end = self.now + duration;
        for steps in 0..1_000_000 {
            if self.now >= end {
                return steps;
            }
            self.step();
        }
        panic!("no end of work within {duration:?}");
    }

    /// Steps until there is nothing to do at once.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            if matches!(self.step(), Next::Pause(_)) {
                return;
            }
        }
        panic!("it never pauses");
    }

    pub fn host(&mut self) -> &mut Host {
        self.pump.port()
    }

    /// Everything that was told since the last look.
    pub fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}
