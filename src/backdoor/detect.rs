//! Whether this is a VMware guest whose backdoor we may use (vmcheck.c).
//!
//! ```text
//!  x86-64: CPUID, hypervisor bit and "VMwareVMware" ── no ──> NotVMware   (unless the rule is skipped by a setting)
//!  64-bit Arm, which has no CPUID: DMI vendor "VMware…"
//!        | yes
//!  GETVERSION in a child process ── fault, no answer, wrong version ──> Refused
//!        | version 6
//!     VMware(Presence)
//! ```
//!
//! Both steps together exclude QEMU's emulated port, which answers the version like VMware does. What the firmware says
//! only decides whether the instruction is tried.

#![forbid(unsafe_code)]

use std::{fmt, fs::File, io::Read, time::Duration};

use thiserror::Error;

use super::{LOW_BANDWIDTH_PORT, MAGIC, Registers, machine};

/// Command GETVERSION (backdoor_def.h, `BDOOR_CMD_GETVERSION`).
const GET_VERSION: u32 = 0x0A;

/// In ECX.hi of GETVERSION: left unchanged by a host that does not name its product.
const PRODUCT_UNSET: u32 = 0xFFFF;

/// The one version of the tools protocol that a host may answer (backdoor_def.h).
const PROTOCOL_VERSION: u32 = 6;

/// EAX when no device answers the port.
const NO_DEVICE: u32 = 0xFFFF_FFFF;

/// Most of a DMI string that is worth a log line, bytes.
const FIRMWARE_MAX: u64 = 128;

/// What became of the version probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The registers came back; EAX, EBX and ECX are valid.
    Registers(Registers),
    /// The access raised this signal.
    Fault(&'static str),
    /// No answer in this time.
    Timeout(Duration),
    /// The probe could not be made.
    Impossible(String),
}

/// The outcome of [`detect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    /// The backdoor answers.
    VMware(Presence),
    /// Another hypervisor, or none.
    NotVMware(Absence),
    /// VMware by its own word, but the backdoor does not serve us.
    Refused(Refusal),
}

/// Proof that the host answered the backdoor; what [`super::Port`] is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    version: u32,
    product: Product,
}

impl Presence {
    /// The tools protocol's version, always 6.
    pub const fn version(self) -> u32 {
        self.version
    }

    /// Which product runs the guest.
    pub const fn product(self) -> Product {
        self.product
    }
}

/// VMware's products by number (vm_vmx_type.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// The host did not say.
    Unset,
    /// ESX and ESXi, number 2.
    Esx,
    /// Workstation and Fusion, number 4.
    Workstation,
    /// Any other number.
    Other(u32),
}

impl Product {
    const fn new(number: u32) -> Self {
        match number {
            0 => Self::Unset,
            2 => Self::Esx,
            4 => Self::Workstation,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("unnamed product"),
            Self::Esx => f.write_str("ESXi"),
            Self::Workstation => f.write_str("Workstation"),
            Self::Other(number) => write!(f, "product {number}"),
        }
    }
}

/// Why this is no VMware guest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Absence {
    /// No backdoor is known for this processor.
    #[error("this build knows no backdoor for {}", std::env::consts::ARCH)]
    Architecture,
    /// CPUID announces no hypervisor.
    #[error("CPUID announces no hypervisor")]
    NoHypervisor,
    /// CPUID names another hypervisor.
    #[error("CPUID names the hypervisor {0:?}")]
    Hypervisor(String),
    /// The firmware names another vendor.
    #[error("the firmware names the vendor {0:?}")]
    Vendor(String),
    /// The firmware names no vendor, or `/sys` is not there.
    #[error("the firmware names no vendor")]
    NoVendor,
    /// The machine was not asked, and the port does not answer as VMware's does.
    #[error("the backdoor does not answer: {0}")]
    Backdoor(Refusal),
}

/// Why the backdoor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The access is not emulated: another hypervisor, or an encrypted guest (SEV-ES).
    #[error("port access raised {0}")]
    Fault(&'static str),
    /// The host keeps the processor, or the machine is overloaded.
    #[error("no answer to the version probe within {0:?}")]
    Timeout(Duration),
    /// The probe could not be made.
    #[error("the version probe failed: {0}")]
    Impossible(String),
    /// Nobody listens on the port.
    #[error("no device answers the port")]
    NoDevice,
    /// Something else answered the port.
    #[error("the version answer carries {0:#010x} instead of the magic number")]
    Magic(u32),
    /// A protocol that this program does not speak.
    #[error("the host speaks tools protocol {0}, not {PROTOCOL_VERSION}")]
    Version(u32),
}

/// Finds out whether the backdoor can be used. Takes milliseconds, at most some 3 s, and never ends the process.
///
/// `skip_detection` skips the rule of CPUID or vendor, for guests that hide their hypervisor; the probe is always made.
pub fn detect(skip_detection: bool) -> Detection {
    decide(machine::identity(), skip_detection, machine::probe)
}

/// `identity` is what the machine says of itself, before anything is touched.
pub(super) fn decide(
    identity: Result<(), Absence>,
    skip_detection: bool,
    probe: impl FnOnce() -> Answer,
) -> Detection {
    let named = identity.is_ok();
    match identity {
        Ok(()) => {}
        Err(absence) if skip_detection && absence != Absence::Architecture => {}
        Err(absence) => return Detection::NotVMware(absence),
    }
    match judge(probe()) {
        Ok(presence) => Detection::VMware(presence),
        Err(refusal) if named => Detection::Refused(refusal),
        // Nothing was learnt: the machine may be overloaded, and another look is worth it.
        Err(refusal @ (Refusal::Timeout(_) | Refusal::Impossible(_))) => Detection::Refused(refusal),
        Err(refusal) => Detection::NotVMware(Absence::Backdoor(refusal)),
    }
}

/// The registers of GETVERSION.
pub(super) const fn version_request() -> Registers {
    Registers {
        eax: MAGIC,
        ebx: !MAGIC,
        ecx: PRODUCT_UNSET << 16 | GET_VERSION,
        edx: LOW_BANDWIDTH_PORT as u32,
        esi: 0,
        edi: 0,
    }
}

fn judge(answer: Answer) -> Result<Presence, Refusal> {
    let registers = match answer {
        Answer::Registers(registers) => registers,
        Answer::Fault(signal) => return Err(Refusal::Fault(signal)),
        Answer::Timeout(deadline) => return Err(Refusal::Timeout(deadline)),
        Answer::Impossible(reason) => return Err(Refusal::Impossible(reason)),
    };
    if registers.eax == NO_DEVICE {
        return Err(Refusal::NoDevice);
    }
    if registers.ebx != MAGIC {
        return Err(Refusal::Magic(registers.ebx));
    }
    if registers.eax != PROTOCOL_VERSION {
        return Err(Refusal::Version(registers.eax));
    }
    let product = if registers.ecx >> 16 == PRODUCT_UNSET {
        Product::Unset
    } else {
        Product::new(registers.ecx)
    };
    Ok(Presence {
        version: registers.eax,
        product,
    })
}

/// What the firmware calls this machine (DMI vendor and product), where `/sys` is readable. Evidence for a log line, never
/// for a decision: vendors and versions vary.
pub fn firmware() -> Option<String> {
    let (vendor, product) = (firmware_string("sys_vendor")?, firmware_string("product_name")?);
    Some(format!("{vendor} {product}"))
}

/// One string of DMI, without the spaces around it.
pub(super) fn firmware_string(name: &str) -> Option<String> {
    let mut text = String::new();
    let file = File::open(format!("/sys/class/dmi/id/{name}")).ok()?;
    file.take(FIRMWARE_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VMWARE: Result<(), Absence> = Ok(());

    fn kvm() -> Result<(), Absence> {
        Err(Absence::Hypervisor("KVMKVMKVM".into()))
    }

    fn answer(eax: u32, ebx: u32, ecx: u32) -> Answer {
        Answer::Registers(Registers {
            eax,
            ebx,
            ecx,
            ..Registers::default()
        })
    }

    #[test]
    fn example_9_1_the_request() {
        let expected = Registers {
            eax: 0x564D_5868,
            ebx: 0xA9B2_A797,
            ecx: 0xFFFF_000A,
            edx: 0x0000_5658,
            esi: 0,
            edi: 0,
        };
        assert_eq!(version_request(), expected);
    }

    #[test]
    fn example_9_1_the_answer_of_esxi() {
        let detection = decide(VMWARE, false, || answer(6, MAGIC, 2));
        let presence = Presence {
            version: 6,
            product: Product::Esx,
        };
        assert_eq!(detection, Detection::VMware(presence));
        let unnamed = judge(answer(6, MAGIC, 0xFFFF_000A)).map(Presence::product);
        assert_eq!(unnamed, Ok(Product::Unset));
    }

    #[test]
    fn row_01_wrong_answers_are_refused() {
        assert_eq!(
            judge(answer(0xFFFF_FFFF, 0xA9B2_A797, 0xFFFF_000A)),
            Err(Refusal::NoDevice)
        );
        assert_eq!(judge(answer(0xFFFF_FFFF, MAGIC, 2)), Err(Refusal::NoDevice));
        assert_eq!(judge(answer(6, 0, 2)), Err(Refusal::Magic(0)));
        assert_eq!(judge(answer(5, MAGIC, 2)), Err(Refusal::Version(5)));
        let detection = decide(VMWARE, false, || answer(7, MAGIC, 2));
        assert_eq!(detection, Detection::Refused(Refusal::Version(7)));
    }

    #[test]
    fn the_port_is_never_touched_where_the_machine_says_no() {
        for absence in [
            Absence::Hypervisor("KVMKVMKVM".into()),
            Absence::NoHypervisor,
            Absence::Vendor("QEMU".into()),
            Absence::NoVendor,
        ] {
            let mut probed = false;
            let detection = decide(Err(absence.clone()), false, || {
                probed = true;
                answer(6, MAGIC, 2)
            });
            assert_eq!(detection, Detection::NotVMware(absence));
            assert!(!probed);
        }
    }

    #[test]
    fn skipping_skips_the_rule_and_not_the_probe() {
        let found = decide(Err(Absence::NoHypervisor), true, || answer(6, MAGIC, 4));
        assert!(matches!(found, Detection::VMware(presence) if presence.product() == Product::Workstation));
        let fault = || Answer::Fault("SIGSEGV");
        assert_eq!(
            decide(kvm(), true, fault),
            Detection::NotVMware(Absence::Backdoor(Refusal::Fault("SIGSEGV")))
        );
        assert_eq!(
            decide(VMWARE, true, fault),
            Detection::Refused(Refusal::Fault("SIGSEGV"))
        );
        assert_eq!(
            decide(Err(Absence::Architecture), true, fault),
            Detection::NotVMware(Absence::Architecture)
        );
    }

    #[test]
    fn detection_survives_on_this_machine() {
        let untouched = |found: &Detection| matches!(found, Detection::NotVMware(absence) if !matches!(absence, Absence::Backdoor(_)));
        let identity = machine::identity();
        assert_eq!(untouched(&detect(false)), identity.is_err());
        // The instruction was executed, and whatever it did to the child, this process is alive.
        let probed = detect(true);
        assert_eq!(
            untouched(&probed),
            identity == Err(Absence::Architecture),
            "{probed:?}"
        );
    }

    #[test]
    fn a_firmware_string_is_short_and_trimmed() {
        for name in ["sys_vendor", "product_name", "no such file"] {
            if let Some(text) = firmware_string(name) {
                assert!(text.len() <= 128 && text.trim() == text, "{text:?}");
                assert_ne!(name, "no such file");
            }
        }
    }
}
