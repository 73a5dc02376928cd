//! Debian's open-vm-tools, unmodified, where it is installed: programs that we did not write find a VMware host and
//! exchange a message with it. Both locks are on.

use lab::vmx::cpuid::Platform;
use lab::vmx::device::{Access, Device, GuestMemory, Outcome, Registers};
use lab::vmx::tracer::{Guest, Options, Tracer};

use crate::{
    Run, interceptions,
    needs::{Need, trial},
    run,
};
use libtest_mimic::Trial;

const ISOLATED: Options = Options {
    platform: Platform::Vmware,
    interception: lab::vmx::tracer::Interception::Auto,
    on_exec: lab::vmx::guard::OnExec::Succeed,
    isolated: true,
    pid_namespace: false,
    until: lab::vmx::tracer::Until::FirstEnds,
};

fn vmware_checkvm_recognises_the_platform() {
    const PROGRAM: &str = "/usr/bin/vmware-checkvm";
    for interception in interceptions() {
        let on = |platform| -> Run {
            let options = Options {
                platform,
                interception,
                ..ISOLATED
            };
            run(Guest::new(PROGRAM), options)
        };
        let vmware = on(Platform::Vmware);
        assert_eq!(vmware.code(), Some(0), "{}", vmware.output);
        assert!(vmware.output.contains("version 6 (good)"), "{}", vmware.output);
        assert!(vmware.measures.total().calls.low > 0);
        // It says why on its standard error.
        let kvm = on(Platform::Kvm);
        assert_eq!(kvm.code(), Some(1));
        assert_eq!(kvm.output, "");
    }
}

/// One RPCI channel that answers each message with itself: `1 ` and what was sent.
#[derive(Default)]
struct Echo {
    message: Vec<u8>,
}

/// Status in ECX, bits 16 to 31: success, message waiting, high bandwidth (open-vm-tools `guest_msg_def.h`).
const SUCCESS: u64 = 0x0001_0000;
const WAITING: u64 = 0x0002_0000;
const HIGH: u64 = 0x0080_0000;

impl Device for Echo {
    fn access(
        &mut self,
        _: i32,
        access: Access,
        registers: &mut Registers,
        memory: &dyn GuestMemory,
    ) -> Outcome {
        match access {
            Access::Low if registers.rcx & 0xffff == 10 => {
                (registers.rax, registers.rbx, registers.rcx) = (6, 0x564d_5868, 2);
            }
            // The steps of a message: open, send size, receive size, receive status, close.
            Access::Low if registers.rcx & 0xffff == 30 => match registers.rcx >> 16 & 0xffff {
                0 => {
                    (registers.rcx, registers.rdx) = (SUCCESS, 0x0003_0000);
                    (registers.rsi, registers.rdi) = (0x1a2b_3c4d, 0x5e6f_7081);
                }
                1 => registers.rcx = SUCCESS | HIGH,
                3 => {
                    (registers.rcx, registers.rdx) = (SUCCESS | WAITING | HIGH, 0x0001_0000);
                    registers.rbx = self.message.len() as u64 + 2;
                }
                _ => registers.rcx = SUCCESS,
            },
            Access::Low => registers.rax = 0xffff_ffff,
            Access::HighOut => {
                self.message = vec![0; usize::try_from(registers.rcx).unwrap()];
                memory.read(registers.rsi, &mut self.message).unwrap();
                registers.rbx = SUCCESS;
            }
            Access::HighIn => {
                let reply = [b"1 ", self.message.as_slice()].concat();
                memory.write(registers.rdi, &reply).unwrap();
                registers.rbx = SUCCESS;
            }
        }
        Outcome::Done
    }
}

fn vmware_rpctool_exchanges_a_message() {
    const PROGRAM: &str = "/usr/bin/vmware-rpctool";
    for interception in interceptions() {
        let options = Options {
            interception,
            ..ISOLATED
        };
        let mut output = tempfile::tempfile().unwrap();
        let guest = Guest::new(PROGRAM)
            .args(["info-get guestinfo.x"])
            .stdout(output.try_clone().unwrap());
        let tracer = match Tracer::start(guest, options, Box::<Echo>::default(), None) {
            Ok(tracer) => tracer,
            Err(error) => panic!("{error}"),
        };
        let report = tracer.wait().unwrap();
        let mut text = String::new();
        std::io::Seek::rewind(&mut output).unwrap();
        std::io::Read::read_to_string(&mut output, &mut text).unwrap();
        assert_eq!(text, "info-get guestinfo.x\n");
        assert_eq!(report.status.code(), Some(0));
        let calls = report.measures.total().calls;
        assert!(calls.high_out >= 1 && calls.high_in >= 1, "{calls:?}");
    }
}

fn vmware_toolbox_cmd_tells_its_version() {
    const PROGRAM: &str = "/usr/bin/vmware-toolbox-cmd";
    let run = run(Guest::new(PROGRAM).args(["-v"]), ISOLATED);
    assert_eq!(run.code(), Some(0), "{}", run.output);
    assert!(run.output.contains("build-"), "{}", run.output);
}

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "third_party::vmware_checkvm_recognises_the_platform",
            &[Need::Ptrace, Need::OpenVmTools],
            vmware_checkvm_recognises_the_platform,
        ),
        trial(
            "third_party::vmware_rpctool_exchanges_a_message",
            &[Need::Ptrace, Need::OpenVmTools],
            vmware_rpctool_exchanges_a_message,
        ),
        trial(
            "third_party::vmware_toolbox_cmd_tells_its_version",
            &[Need::Ptrace, Need::OpenVmTools],
            vmware_toolbox_cmd_tells_its_version,
        ),
    ]
}
