//! A host that answers every exchange with registers of its choice: each operation ends, within its bounds.

#![no_main]

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use talos_vmtoolsd::{
    backdoor::{Hypercall, InRegisters, OutRegisters, Registers},
    message::{Channel, MAX_CHECKPOINTS, Protocol},
};

/// Largest message that the channel accepts, bytes.
const LIMIT: usize = 256;

/// Most accesses of one operation: attempts, times words, and the steps around them.
const MOST: usize = (MAX_CHECKPOINTS as usize + 1) * (LIMIT / 4 + 3);

struct Hostile<'a> {
    answers: Unstructured<'a>,
    accesses: usize,
}

impl Hostile<'_> {
    /// When nothing is left, zeros: no success.
    fn register(&mut self) -> u32 {
        self.answers.arbitrary().unwrap_or_default()
    }
}

impl Hypercall for Hostile<'_> {
    fn exchange(&mut self, _: Registers) -> Registers {
        self.accesses += 1;
        Registers {
            ecx: self.register(),
            ebx: self.register(),
            edx: self.register(),
            esi: self.register(),
            edi: self.register(),
            eax: 0,
        }
    }

    fn write(&mut self, _: OutRegisters, payload: &[u8]) -> u32 {
        self.accesses += 1;
        assert!(!payload.is_empty());
        self.register()
    }

    fn read(&mut self, _: InRegisters, buffer: &mut [u8]) -> u32 {
        self.accesses += 1;
        assert!(!buffer.is_empty() && buffer.len() <= LIMIT);
        let status = self.register();
        // Less than announced where nothing is left.
        let _: Result<()> = self.answers.fill_buffer(buffer);
        status
    }
}

fuzz_target!(|data: &[u8]| {
    let mut host = Hostile {
        answers: Unstructured::new(data),
        accesses: 0,
    };
    let Ok(channel) = Channel::open(&mut host, Protocol::Tclo, LIMIT) else {
        assert_eq!(host.accesses, 2);
        return;
    };
    let mut message = Vec::new();
    for sent in [b"".as_slice(), b"OK ", &[0; LIMIT]] {
        host.accesses = 0;
        let _ = channel.send(&mut host, sent);
        assert!(host.accesses <= MOST);
        host.accesses = 0;
        let received = channel.receive(&mut host, &mut message);
        assert!(host.accesses <= MOST && message.len() <= LIMIT && message.capacity() <= LIMIT);
        assert!(received == Ok(true) || received.is_err() || message.is_empty());
    }
    channel.close(&mut host);
});
