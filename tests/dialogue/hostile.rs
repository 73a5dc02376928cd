//! A host that answers anything at all: every operation ends, within bounds.

use std::time::Instant;

use proptest::{collection::vec, prelude::*};
use talos_vmtoolsd::{
    backdoor::{Hypercall, InRegisters, OutRegisters, Registers},
    dispatch::Dispatch,
    message::{Channel, MAX_CHECKPOINTS, Protocol},
    rpci::{self, Connection, Request, Waker},
    tclo::{Counters, Events, Pace, Pump},
};

const LIMIT: usize = 4096;

/// Answers with these registers in turn, and then with the last one for ever.
#[derive(Debug)]
struct Anything {
    answers: Vec<Registers>,
    accesses: usize,
}

impl Anything {
    fn next(&mut self) -> Registers {
        let answer = self.answers[self.accesses.min(self.answers.len() - 1)];
        self.accesses += 1;
        answer
    }
}

impl Hypercall for Anything {
    fn exchange(&mut self, _: Registers) -> Registers {
        self.next()
    }

    fn write(&mut self, _: OutRegisters, payload: &[u8]) -> u32 {
        assert!(!payload.is_empty());
        self.next().ecx
    }

    fn read(&mut self, _: InRegisters, buffer: &mut [u8]) -> u32 {
        assert!(!buffer.is_empty());
        let answer = self.next();
        let fill = answer.eax.to_le_bytes();
        for (byte, value) in buffer.iter_mut().zip(fill) {
            *byte = value;
        }
        answer.ecx
    }
}

/// Any registers, but mostly such that get beyond the first check.
fn registers() -> impl Strategy<Value = Registers> {
    let status = prop_oneof![
        4 => Just(0x0003_0000_u32),
        4 => Just(0x0083_0000),
        2 => Just(0x0001_0000),
        2 => Just(0x0010_0000),
        1 => any::<u32>(),
    ];
    let size = prop_oneof![4 => 0..64_u32, 1 => 4090..4100_u32, 1 => any::<u32>()];
    let kind = prop_oneof![4 => Just(1_u32 << 16), 4 => Just(2 << 16), 1 => any::<u32>()];
    (any::<u32>(), size, status, kind, any::<u32>(), any::<u32>()).prop_map(
        |(eax, ebx, ecx, edx, esi, edi)| Registers {
            eax,
            ebx,
            ecx,
            edx,
            esi,
            edi,
        },
    )
}

fn host() -> impl Strategy<Value = Anything> {
    vec(registers(), 1..60).prop_map(|answers| Anything { answers, accesses: 0 })
}

/// Most accesses that one operation may take: attempts, times words, and the steps around them.
fn most(bytes: usize) -> usize {
    (usize::try_from(MAX_CHECKPOINTS).unwrap() + 1) * (bytes.div_ceil(4) + 3)
}

/// A channel on this host, whatever it says to OPEN.
fn opened() -> Channel {
    let mut willing = Anything {
        answers: vec![Registers {
            ecx: 0x0001_0000,
            ..Registers::default()
        }],
        accesses: 0,
    };
    Channel::open(&mut willing, Protocol::Tclo, LIMIT).unwrap()
}

proptest! {
    #[test]
    fn receiving_is_bounded(mut host in host()) {
        let channel = opened();
        let mut message = Vec::new();
        let received = channel.receive(&mut host, &mut message);
        prop_assert!(host.accesses <= most(LIMIT));
        prop_assert!(message.capacity() <= LIMIT, "{}", message.capacity());
        prop_assert!(received == Ok(true) || message.is_empty() || received.is_err());
    }

    #[test]
    fn sending_is_bounded(mut host in host(), message in vec(any::<u8>(), 0..40)) {
        let outcome = opened().send(&mut host, &message);
        prop_assert!(host.accesses <= most(message.len()));
        prop_assert!(outcome.is_ok() || host.accesses > 0);
    }

    #[test]
    fn calls_are_bounded(mut host in host()) {
        let mut connection = Connection::new();
        let now = Instant::now();
        for _ in 0..3 {
            let before = host.accesses;
            let answer = connection.call(&mut host, &Request::text("log x"), now);
            prop_assert!(host.accesses - before <= 2 * (most(6) + most(rpci::MAX_REPLY) + 4));
            if let Ok(value) = answer {
                prop_assert!(value.len() <= rpci::MAX_REPLY);
            }
        }
    }

    #[test]
    fn the_pump_goes_on(host in host()) {
        let mut now = Instant::now();
        let (_client, calls) = rpci::client(Waker::new().unwrap());
        let mut pump = Pump::new(
            host,
            Dispatch::new(Vec::new()),
            calls,
            Events::new().0,
            std::sync::Arc::new(Counters::new(now)),
            Pace::new(std::time::Duration::from_millis(500), now),
        );
        for _ in 0..20 {
            if let talos_vmtoolsd::tclo::Next::Pause(pause) = pump.step(now) {
                prop_assert!(!pause.is_zero() && pause <= std::time::Duration::from_secs(5));
                now += pause;
            }
        }
        pump.stop(now);
    }
}
