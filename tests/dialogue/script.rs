//! A host that is a table: it expects exactly these register exchanges, in this order.

use std::collections::VecDeque;

use talos_vmtoolsd::backdoor::{Hypercall, InRegisters, OutRegisters, Registers};

/// In every output register that the guest must not use.
pub const GARBAGE: u32 = 0xDEAD_BEEF;

pub const SUCCESS: u32 = 0x0001_0000;
pub const HB: u32 = 0x0080_0000;
pub const DORECV: u32 = 0x0002_0000;
pub const CPT: u32 = 0x0010_0000;

pub const OPEN_RPCI: u32 = 0xC943_5052;
pub const OPEN_TCLO: u32 = 0xCF4C_4354;

/// One expected access and its answer.
#[derive(Clone, Debug)]
pub enum Row {
    Exchange(Registers, Registers),
    Write(OutRegisters, Vec<u8>, u32),
    Read(InRegisters, usize, Vec<u8>, u32),
}

/// The table.
pub struct Script {
    rows: VecDeque<Row>,
    done: usize,
}

impl Script {
    pub fn new(rows: impl IntoIterator<Item = Vec<Row>>) -> Self {
        Self {
            rows: rows.into_iter().flatten().collect(),
            done: 0,
        }
    }

    /// Nothing that was expected is missing.
    pub fn finish(self) {
        assert!(
            self.rows.is_empty(),
            "after {} rows, missing: {:x?}",
            self.done,
            self.rows
        );
    }

    fn next(&mut self, found: &dyn std::fmt::Debug) -> Row {
        self.done += 1;
        let row = self.rows.pop_front();
        row.unwrap_or_else(|| panic!("row {}: nothing expected, found {found:x?}", self.done))
    }
}

impl Hypercall for Script {
    fn exchange(&mut self, registers: Registers) -> Registers {
        match self.next(&registers) {
            Row::Exchange(expected, answer) if expected == registers => answer,
            other => panic!("row {}: {other:x?}, found {registers:x?}", self.done),
        }
    }

    fn write(&mut self, registers: OutRegisters, payload: &[u8]) -> u32 {
        match self.next(&registers) {
            Row::Write(expected, bytes, ebx) if expected == registers && bytes == payload => ebx,
            other => panic!("row {}: {other:x?}, found {registers:x?} {payload:x?}", self.done),
        }
    }

    fn read(&mut self, registers: InRegisters, buffer: &mut [u8]) -> u32 {
        match self.next(&registers) {
            Row::Read(expected, count, bytes, ebx) if expected == registers && count == buffer.len() => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                ebx
            }
            other => panic!(
                "row {}: {other:x?}, found {registers:x?} {}",
                self.done,
                buffer.len()
            ),
        }
    }
}

/// A channel as the host names it.
#[derive(Clone, Copy)]
pub struct Name {
    pub id: u32,
    pub high: u32,
    pub low: u32,
}

/// The channels of the worked examples.
pub const RPCI: Name = Name {
    id: 3,
    high: 0x1A2B_3C4D,
    low: 0x5E6F_7081,
};
pub const TCLO: Name = Name {
    id: 2,
    high: 0x0BAD_F00D,
    low: 0x00C0_FFEE,
};

impl Name {
    /// OPEN with this EBX gives this channel.
    pub fn open(self, ebx: u32) -> Vec<Row> {
        let answer = Registers {
            eax: GARBAGE,
            ebx: GARBAGE,
            ecx: SUCCESS,
            edx: self.id << 16,
            esi: self.high,
            edi: self.low,
        };
        vec![Row::Exchange(open(ebx), answer)]
    }

    fn step(self, step: u32, ebx: u32, answer: Registers) -> Vec<Row> {
        let expected = Registers {
            eax: 0x564D_5868,
            ebx,
            ecx: step << 16 | 0x1E,
            edx: self.id << 16 | 0x5658,
            esi: self.high,
            edi: self.low,
        };
        vec![Row::Exchange(expected, answer)]
    }

    pub fn send_size(self, length: u32, ecx: u32) -> Vec<Row> {
        self.step(1, length, status(ecx))
    }

    pub fn send_word(self, word: u32, ecx: u32) -> Vec<Row> {
        self.step(2, word, status(ecx))
    }

    pub fn write(self, bytes: &[u8], ebx: u32) -> Vec<Row> {
        let expected = OutRegisters {
            eax: 0x564D_5868,
            ebx: 0x0001_0000,
            edx: self.id << 16 | 0x5659,
            edi: self.low,
            ebp: self.high,
        };
        vec![Row::Write(expected, bytes.to_vec(), ebx)]
    }

    /// RECVSIZE; `kind` and `size` are EDX.hi and EBX of the answer.
    pub fn recv_size(self, ecx: u32, kind: u32, size: u32) -> Vec<Row> {
        let answer = Registers {
            ebx: size,
            edx: kind << 16,
            ..status(ecx)
        };
        self.step(3, 0, answer)
    }

    /// RECVPAYLOAD; `argument` is EBX on entry.
    pub fn recv_word(self, argument: u32, ecx: u32, kind: u32, word: u32) -> Vec<Row> {
        let answer = Registers {
            ebx: word,
            edx: kind << 16,
            ..status(ecx)
        };
        self.step(4, argument, answer)
    }

    pub fn read(self, count: usize, bytes: &[u8], ebx: u32) -> Vec<Row> {
        let expected = InRegisters {
            eax: 0x564D_5868,
            ebx: 0x0001_0000,
            edx: self.id << 16 | 0x5659,
            esi: self.high,
            ebp: self.low,
        };
        vec![Row::Read(expected, count, bytes.to_vec(), ebx)]
    }

    pub fn recv_status(self, argument: u32, ecx: u32) -> Vec<Row> {
        self.step(5, argument, status(ecx))
    }

    pub fn close(self) -> Vec<Row> {
        self.step(6, 0, status(SUCCESS))
    }

    /// A whole message to the host, high bandwidth.
    pub fn sends(self, bytes: &[u8]) -> Vec<Row> {
        let length = u32::try_from(bytes.len()).unwrap();
        [self.send_size(length, SUCCESS | HB), self.write(bytes, SUCCESS)].concat()
    }

    /// A whole message from the host, high bandwidth.
    pub fn receives(self, bytes: &[u8]) -> Vec<Row> {
        let length = u32::try_from(bytes.len()).unwrap();
        [
            self.recv_size(SUCCESS | DORECV | HB, 1, length),
            self.read(bytes.len(), bytes, SUCCESS),
            self.recv_status(1, SUCCESS),
        ]
        .concat()
    }

    /// RECVSIZE without a message.
    pub fn nothing(self) -> Vec<Row> {
        self.recv_size(SUCCESS | HB, GARBAGE >> 16, GARBAGE)
    }

    /// One RPCI request with its reply, and the look whether that was all.
    pub fn calls(self, request: &[u8], reply: &[u8]) -> Vec<Row> {
        [self.sends(request), self.receives(reply), self.nothing()].concat()
    }
}

fn open(ebx: u32) -> Registers {
    Registers {
        eax: 0x564D_5868,
        ebx,
        ecx: 0x0000_001E,
        edx: 0x0000_5658,
        esi: 0,
        edi: 0,
    }
}

/// OPEN with this EBX is refused, with garbage that looks like a channel.
pub fn refused(ebx: u32) -> Vec<Row> {
    vec![Row::Exchange(open(ebx), status(0))]
}

/// An answer that holds a status and nothing else.
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
