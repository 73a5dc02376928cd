//! Finds the CPUID instructions in machine code.
//!
//! `0F A2` also occurs inside other instructions and in data, and to patch it there would change a value without
//! anybody noticing. So each occurrence is looked at where it stands:
//!
//! ```text
//!  in a function whose start is known ([`super::elf`]) -> decoded from there: the stream comes to a CPUID, or it is none
//!  in what is not code, by the section headers         -> none
//!  anywhere else (Go, generated code)                  -> put to the vote
//! ```
//!
//! The vote: x86 code read from a wrong start falls into step with the real instructions after a few of them. Decoded from
//! every start between 32 and 96 bytes before the occurrence, two of three streams must come to a CPUID here, and what
//! follows must be code as well.
//!
//! Checked against `objdump -d` on Debian 12: of the 858 occurrences in 130 programs and libraries, both named the same
//! 597 instructions, and objdump one more, in a table of libcrypto that it takes for code. Real ones had at least seven
//! of ten votes, others none.
//!
//! Limits: data among code whose start is not known can look like code; code that is made to overlap itself has two
//! truths. [`super::patching`] repairs what it can when such a place is executed.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic};

/// The instruction: `0F A2`.
pub(crate) const CPUID: [u8; 2] = [0x0f, 0xa2];

/// Longest x86 instruction, in bytes.
pub(crate) const LONGEST_INSTRUCTION: usize = 15;
/// Starts nearer to the occurrence than this may not be in step yet.
const NEAREST_START: usize = 32;
/// Starts farther away add nothing.
const FARTHEST_START: usize = 96;
/// How many instructions after the occurrence must decode, unless the flow ends before.
const AFTER: usize = 6;

/// Offsets of `0F A2` in `code` that are CPUID instructions, ascending. `place` says what is known of an offset; a
/// function's start is an offset in `code` too.
pub(super) fn cpuid_offsets(code: &[u8], place: impl Fn(usize) -> Known) -> Vec<usize> {
    memchr::memmem::find_iter(code, &CPUID)
        .filter(|at| match place(*at) {
            Known::Function(start) => code.get(start..at + CPUID.len()).is_some_and(comes_to_cpuid),
            Known::Nothing => is_voted_for(code, *at),
            Known::Data => false,
        })
        .collect()
}

/// What is known of a place in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It belongs to the function that starts at this offset.
    Function(usize),
    /// It may be code.
    Nothing,
    /// It is no code.
    Data,
}

/// The length of the instruction at the start of `code` if it is a CPUID, with whatever prefixes.
pub(crate) fn cpuid_length(code: &[u8]) -> Option<usize> {
    let instruction = decode(code)?;
    (instruction.mnemonic() == Mnemonic::Cpuid).then(|| instruction.len())
}

/// The length of the instruction at the start of `code`; none where it is no instruction.
pub(crate) fn length(code: &[u8]) -> Option<usize> {
    decode(code).map(|instruction| instruction.len())
}

fn decode(code: &[u8]) -> Option<Instruction> {
    let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

fn is_voted_for(code: &[u8], at: usize) -> bool {
    let Some(end) = at.checked_add(CPUID.len()) else {
        return false;
    };
    if !is_followed_by_code(code.get(end..).unwrap_or_default()) {
        return false;
    }
    // At the very beginning of the code there is nothing to vote with but the beginning itself.
    let nearest = at.saturating_sub(NEAREST_START);
    let farthest = at.saturating_sub(FARTHEST_START);
    let votes = nearest - farthest + 1;
    let agreed = (farthest..=nearest)
        .filter(|start| comes_to_cpuid(code.get(*start..end).unwrap_or_default()))
        .count();
    agreed * 3 >= votes * 2
}

/// Whether the stream from the start of `code` has a CPUID as its last instruction, ending where `code` ends.
fn comes_to_cpuid(code: &[u8]) -> bool {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut last = Mnemonic::INVALID;
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        last = instruction.mnemonic();
    }
    last == Mnemonic::Cpuid
}

fn is_followed_by_code(code: &[u8]) -> bool {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    for _ in 0..AFTER {
        if decoder.max_position() - decoder.position() < LONGEST_INSTRUCTION {
            return true;
        }
        let instruction = decoder.decode();
        match instruction.code() {
            Code::INVALID => return false,
            Code::Retnq | Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Int3 | Code::Ud2 => return true,
            // What no user-space function contains.
            Code::Hlt
            | Code::Cli
            | Code::Sti
            | Code::In_AL_DX
            | Code::Out_DX_AL
            | Code::Iretd
            | Code::Retfd => {
                return false;
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stretch of ordinary code: `mov rax, [rdi]; add rax, rsi; test rax, rax; je +2; nop; nop`.
    const ORDINARY: [u8; 13] = [
        0x48, 0x8b, 0x07, 0x48, 0x01, 0xf0, 0x48, 0x85, 0xc0, 0x74, 0x02, 0x90, 0x90,
    ];

    fn surrounded(middle: &[u8]) -> (Vec<u8>, usize) {
        let before = ORDINARY.repeat(12);
        let at = before.len();
        (
            [before, middle.to_vec(), ORDINARY.repeat(4), vec![0xc3]].concat(),
            at,
        )
    }

    #[test]
    fn an_instruction_is_found() {
        // xor ecx, ecx; cpuid; mov [rdi], ebx
        let (code, at) = surrounded(&[0x31, 0xc9, 0x0f, 0xa2, 0x89, 0x1f]);
        assert_eq!(cpuid_offsets(&code, |_| Known::Nothing), [at + 2]);
    }

    #[test]
    fn an_instruction_at_the_very_start_is_found() {
        assert_eq!(cpuid_offsets(&[0x0f, 0xa2, 0xc3], |_| Known::Nothing), [0]);
        assert_eq!(cpuid_offsets(&[0x31, 0xc0, 0x0f, 0xa2], |_| Known::Nothing), [2]);
    }

    #[test]
    fn a_prefixed_instruction_is_found() {
        let (code, at) = surrounded(&[0x48, 0x0f, 0xa2]);
        assert_eq!(cpuid_offsets(&code, |_| Known::Nothing), [at + 1]);
        assert_eq!(cpuid_length(&code[at..]), Some(3));
    }

    #[test]
    fn an_operand_is_not() {
        for operand in [
            &[0xb8, 0x0f, 0xa2, 0x00, 0x00][..],         // mov eax, 0xa20f
            &[0x48, 0x8d, 0x05, 0x11, 0x0f, 0xa2, 0x00], // lea rax, [rip + 0xa20f11]
            &[0xe8, 0x00, 0x0f, 0xa2, 0xff],             // call
            &[0xc7, 0x05, 0x01, 0x02, 0x03, 0x0f, 0xa2, 0x00, 0x00, 0x00], // displacement into immediate
        ] {
            let (code, _) = surrounded(operand);
            assert_eq!(
                cpuid_offsets(&code, |_| Known::Nothing),
                Vec::<usize>::new(),
                "{operand:02x?}"
            );
        }
    }

    #[test]
    fn what_is_followed_by_nonsense_is_not() {
        let (mut code, at) = surrounded(&[0x0f, 0xa2, 0x06, 0x06]);
        assert_eq!(
            cpuid_offsets(&code, |_| Known::Nothing),
            Vec::<usize>::new(),
            "0x06 is no instruction in 64-bit mode"
        );
        code[at + 2] = 0x90;
        code[at + 3] = 0x90;
        assert_eq!(cpuid_offsets(&code, |_| Known::Nothing), [at]);
    }

    #[test]
    fn what_is_known_decides() {
        // jbe over: the beginning of the CPUID is the operand's end for most starts before it.
        let code = [[0x80; 40].as_slice(), &[0x31, 0xc0, 0x0f, 0xa2, 0x06, 0x06]].concat();
        assert_eq!(cpuid_offsets(&code, |_| Known::Nothing), Vec::<usize>::new());
        assert_eq!(cpuid_offsets(&code, |_| Known::Function(40)), [42]);
        assert_eq!(cpuid_offsets(&code, |_| Known::Function(41)), Vec::<usize>::new());
        assert_eq!(
            cpuid_offsets(&code, |_| Known::Function(100)),
            Vec::<usize>::new()
        );
        let (code, _) = surrounded(&CPUID);
        assert_eq!(cpuid_offsets(&code, |_| Known::Data), Vec::<usize>::new());
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut random = fastrand::Rng::with_seed(7);
        for length in 0..400 {
            let mut code: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            if length > 1 {
                let at = random.usize(..length - 1);
                code[at..at + 2].copy_from_slice(&CPUID);
            }
            for at in cpuid_offsets(&code, |_| Known::Nothing) {
                assert_eq!(code[at..at + 2], CPUID);
            }
        }
    }
}
