//! CPUID as the guest sees it.
//!
//! ```text
//!  faulting:  exec stop --inject arch_prctl(ARCH_SET_CPUID, 0)--> CPUID raises SIGSEGV  --+
//!                                                                                         +--> answer(leaf, subleaf)
//!  patching:  exec, mmap, mprotect stop --scan, patch 0F A2 to 0F 0B--> CPUID raises SIGILL --+
//! ```
//!
//! The answers are those of the processor, read by the tracer at that moment, except for the hypervisor's own:
//! leaf 1 ECX bit 31 and the leaves from 0x4000_0000 (Linux `arch/x86/include/asm/cpuid`, VMware KB 1009458).

use std::arch::x86_64::{__cpuid_count, CpuidResult};
use std::fs;

mod elf;
pub(super) mod faulting;
pub(super) mod patching;
pub(super) mod scan;

/// Leaf 1, ECX: the processor runs under a hypervisor.
const HYPERVISOR_PRESENT: u32 = 1 << 31;
/// First of the 256 leaves that are the hypervisor's.
const HYPERVISOR_LEAVES: u32 = 0x4000_0000;
/// VMware's timing leaf, and the highest one it has.
const TIMING_LEAF: u32 = 0x4000_0010;
/// Frequency in kHz of the virtual APIC timer that VMware products report in the timing leaf.
const BUS_KHZ: u32 = 66_000;
/// TSC frequency in kHz where this machine does not tell its own.
const FALLBACK_TSC_KHZ: u32 = 2_500_000;

/// The machine that the guest believes to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    /// CPUID says VMware and the two ports answer.
    #[default]
    Vmware,
    /// VMware with the hypervisor hidden from CPUID (`hypervisor.cpuid.v0 = FALSE`): only the ports answer.
    HiddenVmware,
    /// CPUID says KVM; port accesses fault.
    Kvm,
    /// CPUID knows no hypervisor; port accesses fault.
    BareMetal,
}

impl Platform {
    /// Whether the backdoor ports are there.
    #[must_use]
    pub fn has_backdoor(self) -> bool {
        matches!(self, Self::Vmware | Self::HiddenVmware)
    }
}

/// Answers CPUID for one platform.
#[derive(Clone, Copy, Debug)]
pub struct Cpuid {
    platform: Platform,
    tsc_khz: u32,
}

impl Cpuid {
    /// Reads what the answers need to know of this machine.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            platform,
            tsc_khz: tsc_khz(&cpuinfo).unwrap_or(FALLBACK_TSC_KHZ),
        }
    }

    /// What CPUID returns for `leaf` (EAX) and `subleaf` (ECX).
    #[must_use]
    pub fn answer(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        match leaf {
            0x0000_0001 => {
                let mut real = __cpuid_count(leaf, subleaf);
                match self.platform {
                    Platform::Vmware | Platform::Kvm => real.ecx |= HYPERVISOR_PRESENT,
                    Platform::HiddenVmware | Platform::BareMetal => real.ecx &= !HYPERVISOR_PRESENT,
                }
                real
            }
            0x4000_0000..=0x4000_00ff => self.hypervisor(leaf),
            _ => __cpuid_count(leaf, subleaf),
        }
    }

    fn hypervisor(&self, leaf: u32) -> CpuidResult {
        match (self.platform, leaf) {
            (Platform::Vmware, HYPERVISOR_LEAVES) => vendor(TIMING_LEAF, b"VMwareVMware"),
            // ECX would advertise the vmcall and vmmcall forms of the backdoor: this host has the ports only.
            (Platform::Vmware, TIMING_LEAF) => CpuidResult {
                eax: self.tsc_khz,
                ebx: BUS_KHZ,
                ecx: 0,
                edx: 0,
            },
            (Platform::Kvm, HYPERVISOR_LEAVES) => vendor(HYPERVISOR_LEAVES + 1, b"KVMKVMKVM\0\0\0"),
            _ => CpuidResult {
                eax: 0,
                ebx: 0,
                ecx: 0,
                edx: 0,
            },
        }
    }
}

/// The leaf that names the hypervisor: highest leaf in EAX, twelve letters in EBX, ECX, EDX.
fn vendor(highest: u32, name: &[u8; 12]) -> CpuidResult {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *name;
    CpuidResult {
        eax: highest,
        ebx: u32::from_le_bytes([a, b, c, d]),
        ecx: u32::from_le_bytes([e, f, g, h]),
        edx: u32::from_le_bytes([i, j, k, l]),
    }
}

/// The `cpu MHz` of the first processor in the text of `/proc/cpuinfo`, in kHz.
fn tsc_khz(cpuinfo: &str) -> Option<u32> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (mhz, fraction) = line.split_once(':')?.1.trim().split_once('.')?;
    let mhz: u32 = mhz.parse().ok()?;
    let khz: u32 = fraction.get(..3)?.parse().ok()?;
    mhz.checked_mul(1000)?.checked_add(khz)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(of: CpuidResult) -> Vec<u8> {
        [of.ebx, of.ecx, of.edx]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    #[test]
    fn each_platform_names_its_hypervisor() {
        let vmware = Cpuid::new(Platform::Vmware);
        assert_eq!(name(vmware.answer(0x4000_0000, 0)), b"VMwareVMware");
        assert_eq!(vmware.answer(0x4000_0000, 0).eax, 0x4000_0010);
        assert_eq!(vmware.answer(0x4000_0010, 0).ecx, 0, "no hypercall backdoor");
        assert!(vmware.answer(0x4000_0010, 0).eax > 100_000);
        assert_ne!(vmware.answer(1, 0).ecx >> 31, 0);

        let kvm = Cpuid::new(Platform::Kvm);
        assert_eq!(name(kvm.answer(0x4000_0000, 0)), b"KVMKVMKVM\0\0\0");
        assert_ne!(kvm.answer(1, 0).ecx >> 31, 0);

        for platform in [Platform::BareMetal, Platform::HiddenVmware] {
            let none = Cpuid::new(platform);
            assert_eq!(name(none.answer(0x4000_0000, 0)), [0; 12]);
            assert_eq!(none.answer(1, 0).ecx >> 31, 0);
        }
    }

    #[test]
    fn other_leaves_are_the_processors() {
        let vmware = Cpuid::new(Platform::Vmware);
        for leaf in [0, 7, 0x8000_0000, 0x8000_0002, 0x8000_0003, 0x8000_0004] {
            assert_eq!(vmware.answer(leaf, 0), __cpuid_count(leaf, 0), "leaf {leaf:#x}");
        }
    }

    #[test]
    fn the_tsc_frequency_is_read_from_cpuinfo() {
        assert_eq!(tsc_khz("model\t: 1\ncpu MHz\t\t: 2596.134\n"), Some(2_596_134));
        assert_eq!(tsc_khz("cpu MHz\t\t: 2596\n"), None);
        assert_eq!(tsc_khz("cpu MHz\t\t: 99999999.999\n"), None);
        assert_eq!(tsc_khz(""), None);
    }
}
