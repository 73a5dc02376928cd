//! What the binary must be: static, since the container has nothing else in it, and for the right processor.

use object::{
    Endianness, FileKind,
    elf::{self, FileHeader64},
    read::elf::{Dyn, ElfFile, FileHeader, ProgramHeader},
};
use thiserror::Error;

use crate::architecture::Architecture;

/// Why a binary cannot run in the container.
#[derive(Debug, Error)]
pub enum BinaryError {
    /// It is no 64-bit ELF file.
    #[error("the binary is no 64-bit ELF file: {0}")]
    Malformed(#[from] object::Error),
    /// It is for another processor.
    #[error("the binary is for machine {found} instead of {expected}")]
    Machine {
        /// `e_machine` of the file.
        found: u16,
        /// What it should be.
        expected: u16,
    },
    /// It is not to be executed.
    #[error("the file is no program")]
    NoProgram,
    /// It wants a program loader.
    #[error("the binary is not static: it names a loader")]
    Loader,
    /// It wants libraries.
    #[error("the binary is not static: it needs libraries")]
    Libraries,
}

/// Judges a binary by its headers.
///
/// # Errors
///
/// When it is something else than a static program for that processor.
pub fn judge(binary: &[u8], architecture: Architecture) -> Result<(), BinaryError> {
    if FileKind::parse(binary)? != FileKind::Elf64 {
        return Err(BinaryError::NoProgram);
    }
    let file = ElfFile::<FileHeader64<Endianness>>::parse(binary)?;
    let endian = file.endian();
    let header = file.elf_header();
    let expected = match architecture {
        Architecture::Amd64 => elf::EM_X86_64,
        Architecture::Arm64 => elf::EM_AARCH64,
    };
    let found = header.e_machine(endian);
    if found != expected {
        return Err(BinaryError::Machine {
            found: found.0,
            expected: expected.0,
        });
    }
    if ![elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(endian)) || header.e_entry(endian) == 0 {
        return Err(BinaryError::NoProgram);
    }
    for segment in file.elf_program_headers() {
        if segment.p_type(endian) == elf::PT_INTERP {
            return Err(BinaryError::Loader);
        }
        let dynamic = segment.dynamic(endian, binary)?.unwrap_or_default();
        if dynamic.iter().any(|entry| entry.tag(endian) == elf::DT_NEEDED) {
            return Err(BinaryError::Libraries);
        }
    }
    Ok(())
}
