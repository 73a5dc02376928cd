//! Threads, families, other users.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use lab::vmx::tracer::Options;
use libc::c_int;

use super::ROLE;
use super::instructions::{get_version, high_in, high_out, is_vmware};

pub fn threads() -> i32 {
    let workers: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..100 {
                    assert_eq!(get_version(), (6, 0x564d_5868, 2));
                    assert!(is_vmware());
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    // Short-lived ones, many.
    for _ in 0..50 {
        std::thread::spawn(|| assert_eq!(get_version().0, 6))
            .join()
            .unwrap();
    }
    0
}

fn again(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(ROLE, role);
    command
}

pub fn thread_exec() -> i32 {
    let _bystander = std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    let worker = std::thread::spawn(|| {
        let error = again("version").exec();
        panic!("{error}");
    });
    worker.join().unwrap();
    1
}

pub fn families() -> i32 {
    // fork without exec: the child has its parent's patched memory.
    for _ in 0..20 {
        // SAFETY: this process has one thread.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let good = is_vmware() && get_version().0 == 6;
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!good)) };
        }
        assert_eq!(wait_for(child), 0);
    }
    // vfork and exec, which is what posix_spawn and Command do.
    for _ in 0..5 {
        assert!(
            again("version")
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    }
    // fork and exec.
    let mut forked = again("threads");
    // SAFETY: the closure does nothing; having one makes std fork instead of spawning.
    unsafe { forked.pre_exec(|| Ok(())) };
    assert!(forked.status().unwrap().success());
    // Several at once.
    let several: Vec<_> = (0..4).map(|_| again("threads").spawn().unwrap()).collect();
    for mut child in several {
        assert!(child.wait().unwrap().success());
    }
    0
}

pub fn wait_for(child: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: writes one int.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

pub fn setuid() -> i32 {
    // A user and group that own nothing here.
    // SAFETY: plain system calls; glibc's setuid signals all threads with its own real-time signal.
    unsafe {
        let _other = std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
        assert_eq!(libc::setgid(65534), 0);
        assert_eq!(libc::setuid(65534), 0);
        assert_eq!(libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    }
    assert_eq!(get_version(), (6, 0x564d_5868, 2));
    assert_eq!(high_out(b"as nobody").1, 0);
    assert!(is_vmware());
    // And a child of it, which it re-executes. It is dumpable again after that.
    let status = again("version")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    0
}

/// Sleeps 100 times and calls 400 times.
pub fn sleeper() -> i32 {
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        for _ in 0..4 {
            get_version();
        }
    }
    high_out(b"x");
    high_in([0_u8; 4].as_mut_ptr(), 4);
    0
}

pub fn family_of_sleepers() -> i32 {
    // SAFETY: plain system calls in a process with one thread.
    unsafe {
        for _ in 0..3 {
            if libc::fork() == 0 {
                // One of them in a session of its own, deaf to everything it can be deaf to.
                libc::setsid();
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::fork();
                loop {
                    libc::pause();
                }
            }
        }
        println!("ready");
        std::io::stdout().flush().unwrap();
        loop {
            libc::pause();
        }
    }
}

/// Leaves a child behind that outlives it and then writes.
pub fn background() -> i32 {
    let mut pipe = [0; 2];
    // SAFETY: plain system calls in a process with one thread.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        if libc::fork() == 0 {
            libc::setsid();
            libc::close(pipe[1]);
            // Returns when the parent is gone.
            let mut byte = 0_u8;
            libc::read(pipe[0], (&raw mut byte).cast(), 1);
            println!("{:x} after the parent", get_version().0);
            std::io::stdout().flush().unwrap();
            libc::_exit(0);
        }
    }
    5
}

/// A tracer of its own, which tells whom it traces and then waits to be killed.
pub fn tracer() -> i32 {
    let started = crate::start(crate::role("family-of-sleepers"), Options::default());
    let pids: Vec<String> = crate::processes::sleepers(&started)
        .iter()
        .map(ToString::to_string)
        .collect();
    println!("{}", pids.join(" "));
    loop {
        std::thread::park();
    }
}
