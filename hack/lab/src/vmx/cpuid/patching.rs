//! CPUID patching: where the processor cannot fault CPUID, the instruction itself is replaced.
//!
//! `0F A2` becomes `0F 0B` (UD2), one byte changed, which raises SIGILL at the same address. The places are found in
//! the file behind each executable mapping ([`super::scan`]), once per file, so that scanning does not pull the guest's
//! pages into its memory; mappings without a readable file are read from the guest.
//!
//! The table of patched places belongs to one address space: exec empties it, fork copies it with the memory, threads
//! share it. It is also only a cache: a SIGILL at an `0F 0B` that is not in it is looked up in the file, so code moved
//! by `mremap`, or shared by `vfork`, is recognised as well.
//!
//! When something other than the CPUID trips over a changed byte (the place was none, or code overlaps itself), the
//! original byte is put back for good and the instruction runs again.
//!
//! Limits: code written by the guest after it was made executable (a JIT compiler) and executable shared mappings are
//! not patched; a wrongly patched operand that traps nowhere stays wrong.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::ops::Range;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::elf::{Image, Place};
use super::scan::{self, Known};
use crate::vmx::device::GuestMemory;
use crate::vmx::memory::Memory;
use crate::vmx::tracer::stop;

/// Second byte of UD2, `0F 0B`, which stands where CPUID's `A2` stood.
const UD2: u8 = 0x0b;
/// Largest executable mapping that is scanned, in bytes.
const MAX_SCAN: u64 = 1 << 30;

/// The patched places of one address space: addresses of their first byte.
pub(crate) type Places = BTreeSet<u64>;

/// What a trap at or near a patched place was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// A CPUID of this length in bytes.
    Cpuid(u64),
    /// A byte that should not have been patched; it is as it was, and the instruction can run again.
    Restored,
    /// Nothing of ours.
    Foreign,
}

/// A stretch of a file, as it was when it was scanned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stretch {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    offset: u64,
    length: u64,
}

/// Finds and patches; remembers what it found in which file.
#[derive(Debug, Default)]
pub(crate) struct Patcher {
    scanned: HashMap<Stretch, Rc<[u64]>>,
    /// What was found in the guest's memory before it was patched, where the file could not be read.
    unreadable: HashMap<(String, u64, u64), Rc<[u64]>>,
}

impl Patcher {
    /// Patches what is executable in `range` of the process that stopped thread `tid` belongs to.
    pub(crate) fn patch(&mut self, tid: Pid, places: &mut Places, range: Range<u64>) {
        places.retain(|place| !range.contains(place));
        for mapping in Mapping::of(tid) {
            if mapping.end <= range.start || mapping.start >= range.end {
                continue;
            }
            for offset in self.places_in(tid, &mapping).iter() {
                let place = mapping.start.wrapping_add(*offset);
                if range.contains(&place) && patch_place(tid, place).is_ok() {
                    places.insert(place);
                }
            }
        }
    }

    /// Tells what raised a signal with RIP at `rip` in stopped thread `tid`.
    pub(crate) fn trap(&mut self, tid: Pid, places: &mut Places, rip: u64) -> Trap {
        let mut code = Memory::new(tid).readable(rip, scan::LONGEST_INSTRUCTION);
        if code.starts_with(&[scan::CPUID[0], UD2]) && (places.contains(&rip) || self.is_place(tid, rip)) {
            places.insert(rip);
            return Trap::Cpuid(scan::CPUID.len() as u64);
        }
        // The changed byte of a place lies one after its address.
        let nearby = rip.wrapping_sub(1)..rip.wrapping_add(scan::LONGEST_INSTRUCTION as u64 - 1);
        if nearby.start > nearby.end {
            return Trap::Foreign;
        }
        for place in places.range(nearby).copied().collect::<Vec<_>>() {
            let changed = place.wrapping_add(1);
            let Some(byte) = usize::try_from(changed.wrapping_sub(rip))
                .ok()
                .and_then(|index| code.get_mut(index))
            else {
                continue;
            };
            if *byte != UD2 {
                continue;
            }
            *byte = scan::CPUID[1];
            if let Some(length) = scan::cpuid_length(&code) {
                return Trap::Cpuid(length as u64);
            }
            let covers = |length| rip.wrapping_add(length as u64) > changed;
            if scan::length(&code).is_some_and(covers) && stop::poke(tid, changed, scan::CPUID[1]).is_ok() {
                places.remove(&place);
                return Trap::Restored;
            }
        }
        Trap::Foreign
    }

    /// Whether the file mapped at `address` has a CPUID there.
    fn is_place(&mut self, tid: Pid, address: u64) -> bool {
        let Some(mapping) = Mapping::of(tid).find(|mapping| (mapping.start..mapping.end).contains(&address))
        else {
            return false;
        };
        let offset = address.wrapping_sub(mapping.start);
        match mapping.file(tid) {
            Some((file, stretch)) => self.places_in_file(&file, stretch).contains(&offset),
            None => self
                .unreadable
                .get(&mapping.identity())
                .is_some_and(|places| places.contains(&offset)),
        }
    }

    /// Offsets from the start of `mapping` that are CPUID instructions.
    fn places_in(&mut self, tid: Pid, mapping: &Mapping) -> Rc<[u64]> {
        if let Some((file, stretch)) = mapping.file(tid) {
            return self.places_in_file(&file, stretch);
        }
        let mut code = vec![0; size(mapping.end.wrapping_sub(mapping.start))];
        let places = match Memory::new(tid).read(mapping.start, &mut code) {
            Ok(()) => scan_memory(&code),
            Err(_) => Rc::default(),
        };
        if mapping.inode != 0 {
            self.unreadable.insert(mapping.identity(), Rc::clone(&places));
        }
        places
    }

    fn places_in_file(&mut self, file: &File, stretch: Stretch) -> Rc<[u64]> {
        let (offset, length) = (stretch.offset, stretch.length);
        let places = self
            .scanned
            .entry(stretch)
            .or_insert_with(|| scan_file(file, offset, size(length)));
        Rc::clone(places)
    }
}

/// How much of a mapping is scanned.
fn size(length: u64) -> usize {
    usize::try_from(length.min(MAX_SCAN)).unwrap_or(0)
}

/// The places in `length` bytes of a file from `start`, as offsets from there.
fn scan_file(file: &File, start: u64, length: usize) -> Rc<[u64]> {
    let code = read_file(file, start, length);
    let image = LazyCell::new(|| Image::read(file));
    let known = |at: usize| match image.place(start.wrapping_add(at as u64)) {
        Place::Function(begin) => begin
            .checked_sub(start)
            .and_then(|begin| usize::try_from(begin).ok())
            .map_or(Known::Nothing, Known::Function),
        Place::Code => Known::Nothing,
        Place::Data => Known::Data,
    };
    offsets(scan::cpuid_offsets(&code, known))
}

fn scan_memory(code: &[u8]) -> Rc<[u64]> {
    offsets(scan::cpuid_offsets(code, |_| Known::Nothing))
}

fn offsets(found: Vec<usize>) -> Rc<[u64]> {
    found.into_iter().map(|offset| offset as u64).collect()
}

/// As much as the file has of `size` bytes at `offset`.
fn read_file(file: &File, offset: u64, size: usize) -> Vec<u8> {
    let mut code = vec![0; size];
    let mut filled = 0;
    while let Some(rest) = code.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.wrapping_add(filled as u64)) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    code.truncate(filled);
    code
}

/// Patches `place` if a CPUID still stands there.
fn patch_place(tid: Pid, place: u64) -> Result<(), Errno> {
    let [first, second] = scan::CPUID;
    match (stop::peek(tid, place)?, stop::peek(tid, place.wrapping_add(1))?) {
        (byte, next) if byte == first && next == second => stop::poke(tid, place.wrapping_add(1), UD2),
        // Patched before: by the parent of a fork, or a process that shares the memory.
        (byte, UD2) if byte == first => Ok(()),
        _ => Err(Errno::ENOENT),
    }
}

/// One executable line of `/proc/<pid>/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    device: String,
    inode: u64,
    path: String,
}

impl Mapping {
    fn of(tid: Pid) -> impl Iterator<Item = Self> {
        let maps = fs::read(format!("/proc/{tid}/maps")).unwrap_or_default();
        let lines: Vec<Self> = String::from_utf8_lossy(&maps)
            .lines()
            .filter_map(Self::parse)
            .collect();
        lines.into_iter()
    }

    /// `start-end perms offset device inode path`. None for what is not executable, and for the kernel's own pages.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let offset = fields.next()?;
        let device = fields.next()?;
        let inode = fields.next()?;
        let path = fields.next().unwrap_or_default().trim_start();
        if !permissions.contains('x') || matches!(path, "[vdso]" | "[vsyscall]" | "[uprobes]") {
            return None;
        }
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            offset: u64::from_str_radix(offset, 16).ok()?,
            device: device.to_owned(),
            inode: inode.parse().ok()?,
            path: path.to_owned(),
        })
    }

    /// The file and the place in it, as far as they are known without opening it.
    fn identity(&self) -> (String, u64, u64) {
        (self.device.clone(), self.inode, self.offset)
    }

    /// The file behind the mapping, through the kernel's own link to it or, without the privilege for that, by its
    /// path if that still leads to the same file.
    fn file(&self, tid: Pid) -> Option<(File, Stretch)> {
        if self.inode == 0 {
            return None;
        }
        let link = format!("/proc/{tid}/map_files/{:x}-{:x}", self.start, self.end);
        let by_path = format!("/proc/{tid}/root{}", self.path);
        [link, by_path].into_iter().find_map(|path| {
            let metadata = fs::metadata(&path).ok()?;
            if !metadata.is_file() || metadata.st_ino() != self.inode {
                return None;
            }
            let stretch = Stretch {
                device: metadata.st_dev(),
                inode: self.inode,
                modified: (metadata.st_mtime(), metadata.st_mtime_nsec()),
                offset: self.offset,
                length: self.end.wrapping_sub(self.start),
            };
            Some((File::open(&path).ok()?, stretch))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_mappings_are_parsed() {
        let line = "7f0012345000-7f0012400000 r-xp 00022000 fe:01 1234    /usr/lib/a file.so";
        assert_eq!(
            Mapping::parse(line),
            Some(Mapping {
                start: 0x7f00_1234_5000,
                end: 0x7f00_1240_0000,
                offset: 0x22000,
                device: "fe:01".to_owned(),
                inode: 1234,
                path: "/usr/lib/a file.so".to_owned(),
            })
        );
        assert!(
            Mapping::parse("1000-2000 rwxp 00000000 00:00 0 ").is_some_and(|mapping| mapping.path.is_empty())
        );
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "nonsense",
            "1000-2000",
            "zz-2000 r-xp 0 00:00 0",
            "1000-2000 rw-p 00000000 00:00 0 [heap]",
            "7ffc0000-7ffc2000 r-xp 00000000 00:00 0                          [vdso]",
        ] {
            assert_eq!(Mapping::parse(line), None, "{line}");
        }
    }

    #[test]
    fn this_program_has_executable_mappings_with_files() {
        let with_file = Mapping::of(Pid::this()).filter(|mapping| mapping.file(Pid::this()).is_some());
        assert!(with_file.count() > 0);
    }
}
