//! The reply to one request, any bytes, through a host that delivers it faithfully: the caller gets the reply's own bytes
//! or an error.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use talos_vmtoolsd::{
    backdoor::{Hypercall, InRegisters, OutRegisters, Registers},
    rpci::{Connection, Request},
};

/// Status SUCCESS and HB, where a low-bandwidth exchange has it (guest_msg_def.h, message.c).
const WILLING: u32 = 0x0081_0000;

/// Status DORECV.
const MESSAGE: u32 = 0x0002_0000;

/// Sub-command RECVSTATUS: the message is consumed.
const RECV_STATUS: u32 = 5;

struct Faithful<'a> {
    reply: &'a [u8],
    waiting: bool,
}

impl Hypercall for Faithful<'_> {
    fn exchange(&mut self, registers: Registers) -> Registers {
        if registers.ecx >> 16 == RECV_STATUS {
            self.waiting = false;
        }
        Registers {
            ebx: self.reply.len() as u32,
            ecx: if self.waiting { WILLING | MESSAGE } else { WILLING },
            // The type of a size step.
            edx: 0x0001_0000,
            ..Registers::default()
        }
    }

    fn write(&mut self, _: OutRegisters, _: &[u8]) -> u32 {
        self.waiting = true;
        WILLING
    }

    fn read(&mut self, _: InRegisters, buffer: &mut [u8]) -> u32 {
        buffer.copy_from_slice(self.reply);
        WILLING
    }
}

fuzz_target!(|reply: &[u8]| {
    let mut host = Faithful {
        reply,
        waiting: false,
    };
    let answer = Connection::new().call(&mut host, &Request::text("info-get guestinfo.ip"), Instant::now());
    match answer {
        Ok(value) => assert_eq!([b"1 ", value.as_slice()].concat(), reply),
        Err(_) => assert!(!reply.starts_with(b"1 ")),
    }
});
