//! The supervisor as process 1 of a PID namespace, with the release binary's own daemon as its child. This machine is no
//! VMware guest, so the daemon is idle, which changes nothing for its processes.

use std::{
    fs,
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::run::{PATIENCE, daemon, ensure};

/// `unshare`, and the processes below it by their numbers out here.
struct Container {
    unshare: Child,
    supervisor: Pid,
    daemon: Pid,
}

impl Drop for Container {
    fn drop(&mut self) {
        // Process 1 takes its namespace with it.
        let _ = kill(self.supervisor, Signal::SIGKILL);
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

impl Container {
    fn start() -> Result<Self, Failed> {
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(daemon())
            .env("VMTOOLSD_LOG_FORMAT", "json")
            .stdout(Stdio::piped())
            .spawn()?;
        let supervisor = only_child(pid(unshare.id()))?;
        let mut container = Self {
            unshare,
            supervisor,
            daemon: supervisor,
        };
        container.daemon = only_child(supervisor)?;
        // It has become the daemon, and waits for signals.
        until("the daemon's role", || {
            let role = fs::read(format!("/proc/{}/cmdline", container.daemon)).unwrap_or_default();
            role.ends_with(b"daemon\0")
                && status(container.daemon, "SigBlk").is_some_and(|set| set != "0000000000000000")
        })?;
        Ok(container)
    }

    /// How it ended, and what it said.
    fn end(mut self) -> Result<(ExitStatus, String), Failed> {
        let mut ended = None;
        until("the end", || {
            ended = self.unshare.try_wait().ok().flatten();
            ended.is_some()
        })?;
        let mut said = String::new();
        if let Some(mut stdout) = self.unshare.stdout.take() {
            stdout.read_to_string(&mut said)?;
        }
        Ok((ended.ok_or("it did not end")?, said))
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap())
}

fn children(of: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|word| Pid::from_raw(word.parse().unwrap()))
        .collect()
}

fn only_child(of: Pid) -> Result<Pid, Failed> {
    let mut found = None;
    until("a child", || {
        found = children(of).first().copied();
        found.is_some()
    })?;
    found.ok_or_else(|| "no child".into())
}

/// A field of `/proc/PID/status`.
fn status(of: Pid, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{of}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Looks at the kernel's tables, which nobody can wait for.
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failed> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        ensure(Instant::now() < end, format!("no {what} within {PATIENCE:?}"))?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A daemon that does not heed SIGTERM, here because it is stopped, is killed, and that is a failure.
pub fn grace() -> Result<(), Failed> {
    let container = Container::start()?;
    kill(container.daemon, Signal::SIGSTOP)?;
    let begin = Instant::now();
    kill(container.supervisor, Signal::SIGTERM)?;
    let (status, said) = container.end()?;
    // machined kills the container after 10 s.
    let took = begin.elapsed();
    ensure(took >= Duration::from_secs(5), format!("no grace: {took:?}"))?;
    ensure(status.code() == Some(1), format!("{status}"))?;
    ensure(
        said.matches("did not stop in time and is killed").count() == 1,
        said,
    )
}

/// One that heeds it late, but within the grace, has ended well.
pub fn late_stop() -> Result<(), Failed> {
    let container = Container::start()?;
    kill(container.daemon, Signal::SIGSTOP)?;
    kill(container.supervisor, Signal::SIGTERM)?;
    until("SIGTERM on its way", || {
        status(container.daemon, "ShdPnd").is_some_and(|set| set.ends_with("4000"))
    })?;
    kill(container.daemon, Signal::SIGCONT)?;
    let (status, said) = container.end()?;
    ensure(status.success(), format!("{status}: {said}"))?;
    ensure(!said.contains("is killed"), said)
}

/// The runtime tells every process to stop, in no order: a daemon that hears it first has not failed.
pub fn straggler() -> Result<(), Failed> {
    // The second signal has 300 ms, which a busy machine can miss: then the supervisor was right to call it a failure.
    for _ in 0..5 {
        let container = Container::start()?;
        kill(container.daemon, Signal::SIGTERM)?;
        until("its end", || {
            !children(container.supervisor).contains(&container.daemon)
        })?;
        let reaped = Instant::now();
        let told = kill(container.supervisor, Signal::SIGTERM);
        let took = reaped.elapsed();
        let (status, said) = container.end()?;
        if told.is_ok() && status.success() {
            return Ok(());
        }
        ensure(
            said.contains("the daemon ended, so the service ends"),
            format!("{status} although told after {took:?}: {said}"),
        )?;
    }
    Err("five times told too late".into())
}

/// A daemon that stops while nobody asked for it is a failure, although its own status is 0.
pub fn unasked_stop() -> Result<(), Failed> {
    let container = Container::start()?;
    kill(container.daemon, Signal::SIGTERM)?;
    let (status, said) = container.end()?;
    ensure(status.code() == Some(1), format!("{status}"))?;
    ensure(
        said.contains(r#"so the service ends and Talos starts it again","status":0"#),
        said,
    )
}

/// Process 1 inherits what others leave behind, and buries it.
pub fn orphans() -> Result<(), Failed> {
    let container = Container::start()?;
    let target = container.supervisor.to_string();
    for _ in 0..20 {
        let entered = Command::new("nsenter")
            .args(["--target", &target, "--pid", "sh", "-c", "sleep 1000 & exit 0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        ensure(entered.success(), format!("nsenter: {entered}"))?;
    }
    let inherited = || -> Vec<Pid> {
        let mut all = children(container.supervisor);
        all.retain(|child| *child != container.daemon);
        all
    };
    until("orphans", || inherited().len() == 20)?;
    for orphan in inherited() {
        kill(orphan, Signal::SIGKILL)?;
    }
    until("burial", || inherited().is_empty())?;
    ensure(
        children(container.supervisor) == [container.daemon],
        "the daemon is gone with them",
    )?;
    kill(container.supervisor, Signal::SIGTERM)?;
    let (status, said) = container.end()?;
    ensure(status.success(), format!("{status}: {said}"))
}
