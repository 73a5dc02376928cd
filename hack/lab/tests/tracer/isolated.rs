//! The second lock, with and without the first around it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use lab::vmx::isolation::{DROPPED, Isolation};
use lab::vmx::tracer::{Guest, Options};

use crate::{
    guest,
    needs::{Need, trial},
    role, run,
};
use libtest_mimic::Trial;

const ISOLATED: Options = Options {
    platform: lab::vmx::cpuid::Platform::Vmware,
    interception: lab::vmx::tracer::Interception::Auto,
    on_exec: lab::vmx::guard::OnExec::Succeed,
    isolated: true,
    pid_namespace: false,
    until: lab::vmx::tracer::Until::FirstEnds,
};

/// The sets of capabilities that the output tells, by name.
fn capabilities(output: &str) -> Vec<(&str, u64)> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("Cap")?.split_once(':'))
        .map(|(name, bits)| (name, u64::from_str_radix(bits, 16).unwrap()))
        .collect()
}

fn an_isolated_guest_lacks_what_does_harm() {
    let run = run(role("isolated"), ISOLATED);
    assert_eq!(run.code(), Some(0));
    let root = nix::unistd::geteuid().is_root();
    let sets = capabilities(&run.output);
    assert_eq!(sets.len(), 5);
    for (name, bits) in sets {
        // Without root the bounding set cannot be changed; no_new_privs makes up for it.
        if root || name != "Bnd" {
            assert!(
                DROPPED.iter().all(|capability| bits >> capability & 1 == 0),
                "{name} {bits:x}"
            );
        }
    }
    let says = |line: &str| run.output.lines().any(|found| found == line);
    assert!(
        says("mount -1") && says("interface -1"),
        "EPERM twice: {}",
        run.output
    );
    assert!(says("vmware true"));
    if root {
        assert!(
            says("pid 2") && says("parent-is-init true") && says("processes 2"),
            "{}",
            run.output
        );
        assert!(says("kill 0"), "its own pid 1");
        assert!(run.intercepted().is_empty());
        assert!(says("NoNewPrivs:0"), "set-uid programs work as for root");
    } else {
        assert!(says("NoNewPrivs:1"));
    }
    assert_eq!(
        run.measures.processes.len(),
        1,
        "process 1 of the namespace is not the guest's"
    );
    assert_eq!(run.measures.processes[0].parent, 0);
}

fn isolated_families_end_with_their_first_process() {
    let families = run(role("families"), ISOLATED);
    assert_eq!(families.code(), Some(0));
    let background = Options {
        until: lab::vmx::tracer::Until::AllEnd,
        ..ISOLATED
    };
    assert_eq!(run(role("background"), background).output, "6 after the parent\n");
    assert_eq!(
        run(Guest::new("/bin/sh").args(["-c", "exit 9"]), ISOLATED).code(),
        Some(9)
    );
}

fn root_gets_a_harmless_shutdown() {
    // What the first lock does not see: a comparison of files, no execution.
    let script = "for d in /sbin /usr/sbin /bin /usr/bin; do for p in shutdown reboot halt poweroff; do \
                  if [ -e $d/$p ]; then cmp $d/$p /bin/true && echo same; fi; done; done; echo done";
    let run = run(Guest::new("/bin/sh").args(["-c", script]), ISOLATED);
    let expected: usize = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"]
        .iter()
        .flat_map(|directory| {
            ["shutdown", "reboot", "halt", "poweroff"].map(|name| format!("{directory}/{name}"))
        })
        .filter(|path| std::path::Path::new(path).exists())
        .count();
    assert_eq!(run.output, "same\n".repeat(expected) + "done\n");
}

/// The second lock alone: a child that is not traced at all. What it tries is refused for want of the capability before
/// the kernel looks at the arguments, and would fail or do nothing if it were not.
fn the_second_lock_holds_without_the_first() {
    let isolation = Isolation::plan();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(guest::ROLE, "unguarded");
    // SAFETY: drop_capabilities is async-signal-safe.
    #[allow(unsafe_code, reason = "the lock belongs between fork and exec")]
    unsafe {
        command.pre_exec(move || isolation.drop_capabilities().map_err(Into::into));
    }
    let output = command.output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "reboot -1\nsettimeofday -1\nsethostname -1\nmount -1\n"
    );
    assert!(output.status.success());
}

/// The tests of this file.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "isolated::an_isolated_guest_lacks_what_does_harm",
            &[Need::Ptrace],
            an_isolated_guest_lacks_what_does_harm,
        ),
        trial(
            "isolated::isolated_families_end_with_their_first_process",
            &[Need::Ptrace],
            isolated_families_end_with_their_first_process,
        ),
        trial(
            "isolated::root_gets_a_harmless_shutdown",
            &[Need::Ptrace, Need::Root],
            root_gets_a_harmless_shutdown,
        ),
        trial(
            "isolated::the_second_lock_holds_without_the_first",
            &[Need::Ptrace],
            the_second_lock_holds_without_the_first,
        ),
    ]
}
