//! What the two locks stop, tried in ways that would do nothing if they failed.

use std::arch::asm;
use std::ffi::CStr;
use std::process::Command;
use std::ptr;

use libc::{c_int, c_long, c_void};

use super::instructions::{get_version, is_vmware};

/// Prints the result of a system call: its value, or the error's number, negative.
fn report(name: &str, result: c_long) {
    let result = if result < 0 {
        -c_long::from(errno())
    } else {
        result
    };
    println!("{name} {result}");
}

fn errno() -> c_int {
    // SAFETY: reads this thread's errno.
    unsafe { *libc::__errno_location() }
}

/// Tries what the first lock stops. Each call would do nothing, or fail, if it reached the kernel: wrong magic numbers,
/// an invalid clock, no time given, a freeze of a pipe, an empty name's bad address.
pub fn guarded() -> i32 {
    let mut pipe = [0; 2];
    let null = ptr::null::<c_void>();
    let bad: *const c_void = ptr::without_provenance(8);
    // SAFETY: system calls with invalid arguments.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        report("reboot", libc::syscall(libc::SYS_reboot, 1, 2, 3, null));
        report(
            "kexec_load",
            libc::syscall(libc::SYS_kexec_load, 0, 0, bad, u64::MAX),
        );
        report(
            "kexec_file_load",
            libc::syscall(libc::SYS_kexec_file_load, -1, -1, 0, null, u64::MAX),
        );
        report("clock_settime", libc::syscall(libc::SYS_clock_settime, 999, bad));
        report("settimeofday", libc::syscall(libc::SYS_settimeofday, null, null));
        let mut timex: libc::timex = std::mem::zeroed();
        report("adjtimex-read", i64::from(libc::adjtimex(&raw mut timex) >= 0));
        timex.modes = 0x8000_0000;
        report(
            "clock_adjtime",
            libc::syscall(libc::SYS_clock_adjtime, 999, &raw mut timex),
        );
        report("freeze", libc::ioctl(pipe[0], 0xc004_5877, 0).into());
        report("freeze-again", libc::ioctl(pipe[0], 0xc004_5877, 0).into());
        report("thaw", libc::ioctl(pipe[0], 0xc004_5878, 0).into());
        report("thaw-again", libc::ioctl(pipe[0], 0xc004_5878, 0).into());
        report("freeze-closed", libc::ioctl(999, 0xc004_5877, 0).into());
        report("rtc", libc::ioctl(pipe[0], 0x4024_700a, null).into());
        report("sethostname", libc::syscall(libc::SYS_sethostname, bad, 1));
        report("setdomainname", libc::syscall(libc::SYS_setdomainname, bad, 1));
        report("iopl", libc::syscall(libc::SYS_iopl, 77));
    }
    let opened = |path: &CStr, flags| {
        // SAFETY: opens a file; nothing is written to it.
        report(
            path.to_str().unwrap(),
            unsafe { libc::open(path.as_ptr(), flags) }.min(0).into(),
        );
    };
    opened(c"/proc/sysrq-trigger", libc::O_WRONLY);
    opened(c"/proc/self/../sysrq-trigger", libc::O_RDWR | libc::O_CLOEXEC);
    // A file whose opening changes nothing, by a link with an innocent name.
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("innocent");
    std::os::unix::fs::symlink("/sys/power/pm_freeze_timeout", &link).unwrap();
    let link = std::ffi::CString::new(link.to_str().unwrap()).unwrap();
    // SAFETY: opens a file; nothing is written to it.
    report(
        "sysfs",
        unsafe { libc::open(link.as_ptr(), libc::O_WRONLY) }.min(0).into(),
    );
    opened(c"/dev/null", libc::O_WRONLY);
    // Programs that are not there, and one that is, by an innocent name.
    for program in [
        "/nonexistent/shutdown",
        "/nonexistent/pm-suspend",
        "/nonexistent/ip",
    ] {
        println!(
            "{program} {:?}",
            Command::new(program)
                .arg("-h")
                .arg("now")
                .status()
                .map(|status| status.code())
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("reboot"), directory.path().join("innocent"));
    std::fs::write(&real, "#!/bin/sh\nexit 99\n").unwrap();
    std::fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    println!(
        "link {:?}",
        Command::new(&link).status().map(|status| status.code())
    );
    println!(
        "sh {:?}",
        Command::new("/bin/sh")
            .args(["-c", "exit 3"])
            .status()
            .map(|status| status.code())
    );
    0
}

/// `getpid` of the 32-bit interface.
pub fn compat_getpid() -> c_long {
    let result: i32;
    // SAFETY: the interrupt changes RAX, and R8 to R11 on some kernels.
    unsafe {
        asm!("int 0x80", inlateout("eax") 20 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result.into()
}

/// Asks whether pid 1 could be signalled, in every way there is. Signal 0 is never delivered.
pub fn guarded_signals() -> i32 {
    let none = ptr::null::<c_void>();
    // SAFETY: signal 0 is none.
    unsafe {
        report("kill", libc::syscall(libc::SYS_kill, 1, 0));
        report("kill-all", libc::syscall(libc::SYS_kill, -1, 0));
        report("tkill", libc::syscall(libc::SYS_tkill, 1, 0));
        report("tgkill", libc::syscall(libc::SYS_tgkill, 1, 1, 0));
        let pidfd = libc::syscall(libc::SYS_pidfd_open, 1, 0);
        report(
            "pidfd",
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd, 0, none, 0),
        );
        let own = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        report(
            "pidfd-own",
            libc::syscall(libc::SYS_pidfd_send_signal, own, 0, none, 0),
        );
        report("kill-own", libc::syscall(libc::SYS_kill, libc::getpid(), 0));
    }
    0
}

/// Tells what the second lock left: each attempt would fail otherwise as well, with another error.
pub fn isolated() -> i32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status
        .lines()
        .filter(|line| line.starts_with("Cap") || line.starts_with("NoNewPrivs"))
    {
        println!("{}", line.replace('\t', ""));
    }
    println!("pid {}", std::process::id());
    println!("parent-is-init {}", std::os::unix::process::parent_id() == 1);
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse::<u32>()
                .is_ok()
        })
        .count();
    println!("processes {processes}");
    // SAFETY: system calls on what does not exist.
    unsafe {
        let (root, kind) = (c"/".as_ptr(), c"no-such-filesystem".as_ptr());
        report("mount", libc::mount(kind, root, kind, 0, ptr::null()).into());
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'?'.cast_signed();
        report(
            "interface",
            libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request).into(),
        );
        // Signals within the namespace are the guest's own business.
        report("kill", libc::syscall(libc::SYS_kill, 1, 0));
    }
    println!("vmware {}", is_vmware() && get_version().0 == 6);
    0
}

/// What needs the dropped capabilities, asked for in a way that does nothing with them either: wrong magic numbers, no
/// time at all, a name's bad address, a filesystem that is none.
pub fn unguarded() -> i32 {
    let null = ptr::null::<c_void>();
    let bad: *const c_void = ptr::without_provenance(8);
    // SAFETY: system calls with invalid arguments.
    unsafe {
        report("reboot", libc::syscall(libc::SYS_reboot, 1, 2, 3, null));
        report("settimeofday", libc::syscall(libc::SYS_settimeofday, null, null));
        report("sethostname", libc::syscall(libc::SYS_sethostname, bad, 1));
        let (root, kind) = (c"/".as_ptr(), c"no-such-filesystem".as_ptr());
        report("mount", libc::mount(kind, root, kind, 0, ptr::null()).into());
    }
    0
}
