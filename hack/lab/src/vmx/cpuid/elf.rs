//! What an ELF file says about its code: which sections are code, and where its functions begin.
//!
//! ```text
//!  section headers      -> code sections; the rest of an executable segment is data
//!  PT_GNU_EH_FRAME      -> table of (function, frame description), sorted -> start and length of each function
//! ```
//!
//! Nearly every function of a C, C++ or Rust program has a frame description, stripped or not; Go's have none. Sources:
//! System V ABI, chapter 4; Linux Standard Base 5.0, "Exception Frames". What does not look as it should is unknown, never
//! an error: the file is the guest's.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Most headers and most functions that are read of a file.
const MAX_HEADERS: u16 = 4096;
const MAX_FUNCTIONS: u32 = 4 << 20;

const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// Section flag: contains instructions.
const SHF_EXECINSTR: u64 = 4;
/// `.eh_frame_hdr`: version 1; pointer `pcrel | sdata4`, count `udata4`, table `datarel | sdata4`.
const EH_FRAME_HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// What is at an offset of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A function that begins at this offset.
    Function(u64),
    /// Code, for all that is known.
    Code,
    /// No code.
    Data,
}

/// The code of one ELF file, by file offsets.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// Sections with code; none if the file does not tell.
    sections: Vec<Range<u64>>,
    /// Functions, ascending.
    functions: Vec<Range<u64>>,
}

/// A loadable segment: its addresses, and where its first byte is in the file.
struct Segment {
    addresses: Range<u64>,
    offset: u64,
}

impl Image {
    /// Reads what there is; an empty image for what is no 64-bit little-endian ELF file.
    pub(super) fn read(file: &File) -> Self {
        Self::try_read(file).unwrap_or_default()
    }

    /// What is at `offset`.
    pub(super) fn place(&self, offset: u64) -> Place {
        let after = self
            .functions
            .partition_point(|function| function.start <= offset);
        let function = after.checked_sub(1).and_then(|index| self.functions.get(index));
        if let Some(function) = function.filter(|function| function.contains(&offset)) {
            return Place::Function(function.start);
        }
        if self.sections.is_empty() || self.sections.iter().any(|section| section.contains(&offset)) {
            Place::Code
        } else {
            Place::Data
        }
    }

    fn try_read(file: &File) -> Option<Self> {
        let header = bytes(file, 0, 64)?;
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let (program, section) = (u64_at(&header, 32)?, u64_at(&header, 40)?);
        let counted = |size: usize, count: usize| -> Option<(u64, u16)> {
            let (size, count) = (u16_at(&header, size)?, u16_at(&header, count)?);
            Some((size.into(), count.min(MAX_HEADERS)))
        };
        let mut segments = Vec::new();
        let mut frames = None;
        let (size, count) = counted(54, 56)?;
        for index in 0..u64::from(count) {
            let entry = bytes(file, program.checked_add(index * size)?, 56)?;
            let (offset, address) = (u64_at(&entry, 8)?, u64_at(&entry, 16)?);
            match u32_at(&entry, 0)? {
                PT_LOAD => segments.push(Segment {
                    addresses: address..address.checked_add(u64_at(&entry, 32)?)?,
                    offset,
                }),
                PT_GNU_EH_FRAME => frames = Some((offset, address)),
                _ => {}
            }
        }
        let mut sections = Vec::new();
        let (size, count) = counted(58, 60)?;
        for index in 0..u64::from(count) {
            // Without the table, or with half of it, nothing is known about sections.
            let Some(entry) = bytes(file, section.checked_add(index * size)?, 64) else {
                sections.clear();
                break;
            };
            if u64_at(&entry, 8)? & SHF_EXECINSTR != 0 {
                let offset = u64_at(&entry, 24)?;
                sections.push(offset..offset.checked_add(u64_at(&entry, 32)?)?);
            }
        }
        let functions = frames
            .and_then(|(offset, address)| functions(file, &segments, offset, address))
            .unwrap_or_default();
        Some(Self { sections, functions })
    }
}

/// The functions named by the frame table at file offset `offset`, loaded at `address`.
fn functions(file: &File, segments: &[Segment], offset: u64, address: u64) -> Option<Vec<Range<u64>>> {
    let header = bytes(file, offset, 12)?;
    if !header.starts_with(&EH_FRAME_HEADER) {
        return None;
    }
    let count = u32_at(&header, 8)?.min(MAX_FUNCTIONS);
    let table = bytes(
        file,
        offset.checked_add(12)?,
        usize::try_from(count).ok()?.checked_mul(8)?,
    )?;
    // Frame descriptions lie together; one read for all of them.
    let descriptions: Vec<(u64, u64)> = table
        .chunks_exact(8)
        .filter_map(|entry| {
            let start = address.wrapping_add_signed(i32_at(entry, 0)?.into());
            let description = address.wrapping_add_signed(i32_at(entry, 4)?.into());
            Some((start, description))
        })
        .collect();
    let first = descriptions.iter().map(|(_, description)| *description).min()?;
    let last = descriptions.iter().map(|(_, description)| *description).max()?;
    let length = usize::try_from(last.checked_sub(first)?).ok()?.checked_add(16)?;
    let frames = bytes(file, to_offset(segments, first)?, length)?;

    let mut functions: Vec<Range<u64>> = descriptions
        .into_iter()
        .filter_map(|(start, description)| {
            let at = usize::try_from(description.checked_sub(first)?).ok()?;
            // Length, pointer to the common part, start relative to this field, length of the function.
            let relative = i32_at(&frames, at.checked_add(8)?)?;
            if description.wrapping_add(8).wrapping_add_signed(relative.into()) != start {
                return None;
            }
            let begin = to_offset(segments, start)?;
            let length = u32_at(&frames, at.checked_add(12)?)?;
            Some(begin..begin.checked_add(length.into())?)
        })
        .collect();
    functions.sort_unstable_by_key(|function| function.start);
    Some(functions)
}

fn to_offset(segments: &[Segment], address: u64) -> Option<u64> {
    let segment = segments
        .iter()
        .find(|segment| segment.addresses.contains(&address))?;
    segment
        .offset
        .checked_add(address.checked_sub(segment.addresses.start)?)
}

/// `length` bytes at `offset`; none if the file is shorter.
fn bytes(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let end = offset.checked_add(u64::try_from(length).ok()?)?;
    if end > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(u32_at(bytes, at)?.cast_signed())
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    fn image(content: &[u8]) -> Image {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Image::read(&file)
    }

    #[test]
    fn this_program_has_functions_in_code_sections() {
        let image = Image::read(&File::open("/proc/self/exe").unwrap());
        assert!(image.functions.len() > 100);
        assert!(!image.sections.is_empty());
        for function in &image.functions {
            let inside = image
                .sections
                .iter()
                .any(|section| section.contains(&function.start));
            assert!(inside, "{function:x?}");
        }
        let some = image.functions[50].clone();
        assert_eq!(image.place(some.start), Place::Function(some.start));
        assert_eq!(image.place(some.end - 1), Place::Function(some.start));
        assert_eq!(image.place(0), Place::Data, "the header");
    }

    #[test]
    fn anything_else_is_unknown() {
        for content in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x01\x01", &[0x7f; 64]] {
            assert_eq!(image(content).place(5), Place::Code);
        }
    }

    #[test]
    fn damaged_files_are_survived() {
        let mut random = fastrand::Rng::with_seed(3);
        let own = own();
        for _ in 0..50 {
            let mut damaged = own[..own.len().min(4096)].to_vec();
            for _ in 0..20 {
                let at = random.usize(..128);
                damaged[at] = random.u8(..);
            }
            damaged[..6].copy_from_slice(b"\x7fELF\x02\x01");
            image(&damaged).place(random.u64(..));
        }
    }
}
